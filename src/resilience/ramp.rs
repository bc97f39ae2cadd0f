//! How many waiting callers a dialer gets that has just recovered: one, and twice as many with each second, until it has proven itself.
//!
//! Without this, everybody who waited through an outage would ask the dialer within the same few seconds, and bring it down again.

use std::time::{Duration, Instant};

use crate::routing::Intake;

/// Every second the allowance doubles.
const STEP: Duration = Duration::from_secs(1);
/// After so many steps there is no limit any more: the last one alone was a thousand callers.
const STEPS: u32 = 10;

/// The way of one dialer from its recovery to full use. The default is full use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ramp(Stage);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    Shut,
    Rising {
        since: Instant,
        admitted: u64,
        on_trial: bool,
    },
}

impl Ramp {
    /// Of a dialer of which nothing is known while callers wait for it.
    pub fn shut() -> Self {
        Self(Stage::Shut)
    }

    /// Learns what the dialer can take. The way up begins with the trial, and once more when the trial has succeeded.
    pub fn observe(&mut self, intake: Intake, now: Instant) {
        self.0 = match (self.0, intake) {
            (_, Intake::Nothing) => Stage::Shut,
            (rising @ Stage::Rising { on_trial: true, .. }, Intake::OneTrial) => rising,
            (_, Intake::OneTrial) => Stage::rising(now, true),
            (Stage::Shut | Stage::Rising { on_trial: true, .. }, Intake::Calls) => {
                Stage::rising(now, false)
            }
            (Stage::Rising { since, .. }, Intake::Calls) if steps(since, now) >= STEPS => {
                Stage::Open
            }
            (stage @ (Stage::Open | Stage::Rising { .. }), Intake::Calls) => stage,
        };
    }

    /// How long a caller waits until it is their turn, with `ahead` others before them; zero where it is. `None` where nobody can say.
    pub fn wait(&self, ahead: u64, now: Instant) -> Option<Duration> {
        match self.0 {
            Stage::Open => Some(Duration::ZERO),
            Stage::Shut => None,
            Stage::Rising {
                since, admitted, ..
            } => {
                let before = admitted.saturating_add(ahead);
                let step = (0..STEPS)
                    .find(|step| allowance(*step) > before)
                    .unwrap_or(STEPS);
                let turn = since + STEP * step;
                Some(turn.saturating_duration_since(now))
            }
        }
    }

    pub fn is_open(&self) -> bool {
        self.0 == Stage::Open
    }

    /// A caller has got their turn.
    pub fn admit(&mut self) {
        if let Stage::Rising { admitted, .. } = &mut self.0 {
            *admitted = admitted.saturating_add(1);
        }
    }
}

impl Stage {
    fn rising(since: Instant, on_trial: bool) -> Self {
        Self::Rising {
            since,
            admitted: 0,
            on_trial,
        }
    }
}

/// Whole steps since the recovery.
fn steps(since: Instant, now: Instant) -> u32 {
    let steps = now.saturating_duration_since(since).as_secs() / STEP.as_secs();
    u32::try_from(steps).unwrap_or(u32::MAX)
}

/// Callers in all, up to and including this step: 1, 3, 7, 15 …
fn allowance(step: u32) -> u64 {
    (2 << step) - 1
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    fn recovered(now: Instant) -> Ramp {
        let mut ramp = Ramp::shut();
        ramp.observe(Intake::Calls, now);
        ramp
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// How many callers get through at once.
    fn admits(ramp: &mut Ramp, most: u64, now: Instant) -> u64 {
        let mut n = 0;
        while n < most && ramp.wait(0, now) == Some(Duration::ZERO) {
            ramp.admit();
            n += 1;
        }
        n
    }

    #[test]
    fn a_dialer_that_never_failed_limits_nobody() {
        let (mut ramp, now) = (Ramp::default(), Instant::now());
        ramp.observe(Intake::Calls, now);
        assert_eq!(ramp.wait(1_000_000, now), Some(Duration::ZERO));
        assert!(ramp.is_open());
    }

    #[test]
    fn a_recovered_dialer_gets_one_caller_then_twice_as_many_with_each_second() {
        let start = Instant::now();
        let mut ramp = recovered(start);
        for (second, admitted) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (9, 512 + 480)] {
            let now = start + s(second);
            ramp.observe(Intake::Calls, now);
            assert_eq!(admits(&mut ramp, 2_000, now), admitted, "second {second}");
        }
        let now = start + s(10);
        ramp.observe(Intake::Calls, now);
        assert_eq!(admits(&mut ramp, 2_000, now), 2_000, "no limit any more");
    }

    #[test]
    fn each_caller_is_told_when_their_turn_comes() {
        let start = Instant::now();
        let mut ramp = recovered(start);
        let cases = [(0, 0), (1, 1), (2, 1), (3, 2), (6, 2), (7, 3), (1_022, 9)];
        for (ahead, seconds) in cases {
            assert_eq!(ramp.wait(ahead, start), Some(s(seconds)), "{ahead} ahead");
        }
        assert_eq!(ramp.wait(1_000_000, start), Some(s(10)));
        ramp.admit();
        assert_eq!(ramp.wait(0, start), Some(s(1)), "the first place is taken");
        let later = start + Duration::from_millis(400);
        assert_eq!(ramp.wait(0, later), Some(Duration::from_millis(600)));
    }

    #[test]
    fn a_trial_that_succeeds_begins_the_way_up_again() {
        let start = Instant::now();
        let mut ramp = Ramp::shut();
        assert_eq!(ramp.wait(0, start), None, "nobody knows when it recovers");
        ramp.observe(Intake::OneTrial, start);
        assert_eq!(ramp.wait(0, start), Some(Duration::ZERO));
        ramp.admit();
        // Nobody saw the circuit while the trial was under way.
        let later = start + s(5);
        ramp.observe(Intake::Calls, later);
        assert_eq!(admits(&mut ramp, 100, later), 1);
    }

    #[test]
    fn when_the_first_in_line_never_comes_others_may_try() {
        let start = Instant::now();
        let mut ramp = Ramp::shut();
        ramp.observe(Intake::OneTrial, start);
        assert_eq!(ramp.wait(1, start), Some(s(1)));
        let later = start + s(1);
        ramp.observe(Intake::OneTrial, later);
        assert_eq!(ramp.wait(1, later), Some(Duration::ZERO));
    }

    #[test]
    fn a_relapse_shuts_it_and_the_way_up_begins_anew() {
        let start = Instant::now();
        let mut ramp = recovered(start);
        assert!(!ramp.is_open());
        let later = start + s(20);
        ramp.observe(Intake::Calls, later);
        assert!(ramp.is_open());
        ramp.observe(Intake::Nothing, later);
        assert_eq!(ramp.wait(0, later), None);
        ramp.observe(Intake::Calls, later);
        assert_eq!(admits(&mut ramp, 100, later), 1);
    }
}

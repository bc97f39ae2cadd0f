//! Refused credentials: tried again after a while, less and less often, and never given up.
//!
//! Whatever makes a service refuse a credential once may be over a minute later: a permission that is being changed, a node of theirs with an old
//! list, a proxy in between. What a probe has proven may still be refused to a request; so the count outlives a recovery by a probe alone, and ends
//! with the first request that is accepted.

use std::time::{Duration, Instant};

/// Before the first further try; doubled before each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest time between two tries.
pub const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// A refusal so long after the last one has nothing to do with it.
const APART: Duration = Duration::from_mins(10);

/// What tries refused credentials again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriedBy {
    /// A probe that uses the same credential.
    Probe,
    /// The next request, since there is no such probe.
    Request,
}

/// How often in a row credentials were refused. The default: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusalCount {
    count: u32,
    last: Option<Instant>,
}

/// Credentials that a service refuses, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialRefusal {
    /// Which credential, and under which key of the configuration.
    pub credential: String,
    pub why: String,
    /// How often in a row, the first time included.
    pub count: u32,
    /// When it is tried again.
    pub next_try: Instant,
    pub tried_by: TriedBy,
}

impl CredentialRefusal {
    /// Whether a further try was refused as well: it is no hiccup, and somebody has to look.
    pub fn is_confirmed(&self) -> bool {
        self.count > 1
    }
}

impl RefusalCount {
    /// As an earlier run left it.
    pub fn restored(count: u32, last: Instant) -> Self {
        Self {
            count,
            last: Some(last),
        }
    }

    /// How often in a row.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Credentials in use are refused. Gives the time until the first further try.
    pub fn begin(&mut self, now: Instant) -> Duration {
        let is_apart = |last| now.saturating_duration_since(last) > APART;
        if self.last.is_none_or(is_apart) {
            self.count = 0;
        }
        self.again(now)
    }

    /// A try did not succeed. Gives the time until the next one.
    pub fn again(&mut self, now: Instant) -> Duration {
        self.count = self.count.saturating_add(1);
        self.last = Some(now);
        let doublings = (self.count - 1).min(10);
        FIRST_PAUSE
            .saturating_mul(1 << doublings)
            .min(LONGEST_PAUSE)
    }

    /// A request was accepted, or the credentials are others.
    pub fn end(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    #[test]
    fn tries_come_after_30_seconds_1_2_4_and_then_every_5_minutes() {
        let now = Instant::now();
        let mut refusals = RefusalCount::default();
        let mut pauses = vec![refusals.begin(now).as_secs()];
        pauses.extend((0..5).map(|_| refusals.again(now).as_secs()));
        assert_eq!(pauses, [30, 60, 120, 240, 300, 300]);
        for _ in 0..100 {
            refusals.again(now);
        }
        assert_eq!(refusals.again(now), LONGEST_PAUSE);
    }

    #[test]
    fn a_refusal_soon_after_a_recovery_goes_on_counting_and_one_much_later_begins_anew() {
        let now = Instant::now();
        let mut refusals = RefusalCount::default();
        refusals.begin(now);
        assert_eq!(refusals.begin(now + APART).as_secs(), 60);
        let later = now + APART * 2 + Duration::from_secs(1);
        assert_eq!(refusals.begin(later).as_secs(), 30);
        refusals.end();
        assert_eq!((refusals.count(), refusals.begin(later).as_secs()), (0, 30));
    }

    #[test]
    fn a_refusal_is_confirmed_by_the_first_further_try() {
        let is_confirmed = |count| {
            let refused = CredentialRefusal {
                credential: String::new(),
                why: String::new(),
                count,
                next_try: Instant::now(),
                tried_by: TriedBy::Probe,
            };
            refused.is_confirmed()
        };
        assert_eq!([1, 2, 3].map(is_confirmed), [false, true, true]);
    }
}

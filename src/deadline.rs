//! The budget of one call: a point in time, and the share of it that each step may spend.
//!
//! The shares are the promise that the caller hears something in time whatever hangs: the look-up leaves enough for a
//! handoff, each dialer leaves enough for those that follow it, and all of them leave enough to record and answer.

use std::time::{Duration, Instant};

/// Kept back for the record and the answer.
pub const ANSWER_RESERVE: Duration = Duration::from_millis(50);
/// The part of it that belongs to the answer alone: a record that is late does not make the answer late.
pub const SENDING_RESERVE: Duration = Duration::from_millis(20);
/// What a look-up always leaves to the handoff.
pub const HANDOFF_RESERVE: Duration = Duration::from_millis(450);
/// What an attempt leaves for each dialer that follows in the plan.
pub const NEXT_DIALER_RESERVE: Duration = Duration::from_millis(200);
/// A retry at the same dialer happens only with at least this much to spend.
pub const MIN_RETRY: Duration = Duration::from_millis(100);

/// When a call must have been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    ends_at: Instant,
}

impl Deadline {
    /// A budget that starts at `now`.
    pub fn starting(now: Instant, budget: Duration) -> Self {
        Self {
            ends_at: now + budget,
        }
    }

    /// What is left to work with, the reserve for record and answer already taken off.
    pub fn remaining(self, now: Instant) -> Duration {
        self.ends_at
            .saturating_duration_since(now)
            .saturating_sub(ANSWER_RESERVE)
    }

    /// What the record of the answer may spend: all that is left but the time to send the answer.
    pub fn record_share(self, now: Instant) -> Duration {
        self.ends_at
            .saturating_duration_since(now)
            .saturating_sub(SENDING_RESERVE)
    }

    /// What a look-up may spend: at most `timeout`, and never what the handoff needs.
    pub fn lookup_share(self, now: Instant, timeout: Duration) -> Duration {
        timeout.min(self.remaining(now).saturating_sub(HANDOFF_RESERVE))
    }
}

/// What one handoff attempt may spend of `remaining`, with `n_following` dialers after it in the plan.
pub fn attempt_share(remaining: Duration, timeout: Duration, n_following: u32) -> Duration {
    timeout.min(remaining.saturating_sub(NEXT_DIALER_RESERVE * n_following))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_attempt_leaves_time_for_every_dialer_that_follows() {
        let share = |n_following| attempt_share(ms(1_000), ms(700), n_following);
        assert_eq!(
            [share(0), share(1), share(2), share(3), share(5), share(6)],
            [ms(700), ms(700), ms(600), ms(400), ms(0), ms(0)]
        );
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn with_braze_and_the_first_dialer_hanging_the_second_is_still_asked() {
        let start = Instant::now();
        let deadline = Deadline::starting(start, ms(2_000));
        let lookup = deadline.lookup_share(start, ms(1_500));
        assert_eq!(lookup, ms(1_500));
        let after_lookup = start + lookup;
        let first = attempt_share(deadline.remaining(after_lookup), ms(700), 1);
        assert_eq!(first, ms(250));
        let second = attempt_share(deadline.remaining(after_lookup + first), ms(700), 0);
        assert_eq!(second, ms(200));
        assert_eq!(deadline.record_share(after_lookup + first + second), ms(30));
    }
}

//! A moment that outlives the process, by both clocks of the machine.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A moment by the wall clock and by the machine's monotonic clock. Lengths are taken from the monotonic side, which nobody sets and which
/// runs on while the process is started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The wall clock, for telling.
    pub at: Timestamp,
    /// Milliseconds since the machine was started, for lengths and order.
    #[serde(default)]
    pub uptime_ms: u64,
}

impl Stamp {
    /// How long after this moment `now` is. By the wall clock only where the machine was started anew in between; never negative.
    pub fn until(self, now: Self) -> Duration {
        match now.uptime_ms.checked_sub(self.uptime_ms) {
            Some(ms) => Duration::from_millis(ms),
            None => Duration::try_from(now.at.duration_since(self.at)).unwrap_or_default(),
        }
    }

    /// The moment that was `waited` before `at`, by the wall clock of another machine, as this machine would have stamped it.
    pub fn before(self, waited: Duration, at: Timestamp) -> Self {
        let since = Duration::try_from(self.at.duration_since(at)).unwrap_or_default();
        let waited = waited.saturating_add(since);
        let ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        Self {
            at: self.at.checked_sub(waited).unwrap_or(self.at),
            uptime_ms: self.uptime_ms.saturating_sub(ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(second: i64, uptime_ms: u64) -> Stamp {
        let at = Timestamp::from_second(1_790_000_000 + second).unwrap();
        Stamp { at, uptime_ms }
    }

    #[test]
    fn a_length_follows_the_monotonic_clock_whatever_the_wall_clock_does() {
        let began = stamp(0, 50_000);
        for wall in [-3_600, 0, 15, 3_600] {
            let length = began.until(stamp(wall, 65_000));
            assert_eq!(length, Duration::from_secs(15), "{wall}");
        }
    }

    #[test]
    fn after_the_machine_was_started_anew_the_wall_clock_tells_and_no_length_is_negative() {
        let began = stamp(0, 50_000);
        assert_eq!(began.until(stamp(40, 1_000)), Duration::from_secs(40));
        assert_eq!(began.until(stamp(-40, 1_000)), Duration::ZERO);
    }
}

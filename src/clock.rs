//! The only place that reads a clock.
//!
//! Two questions are answered: *what time is it* (wall clock, for records) and *how long did it take* (monotonic,
//! for deadlines and durations). The monotonic side is tokio's clock, so a test that pauses tokio's time pauses every
//! deadline with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Reads the wall clock and the monotonic clock. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    /// Milliseconds since the Unix epoch, moved by hand.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A wall clock that stands still until [`Clock::set`] moves it. The monotonic side stays tokio's.
    pub fn manual(at: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(
            at.as_millisecond(),
        ))))
    }

    /// Moves a manual clock; does nothing to the system clock.
    pub fn set(&self, at: Timestamp) {
        if let Source::Manual(ms) = &self.0 {
            ms.store(at.as_millisecond(), Ordering::SeqCst);
        }
    }

    /// The wall-clock time, to the millisecond, UTC.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    pub fn now(&self) -> Timestamp {
        let ms = match &self.0 {
            Source::System => Timestamp::now().as_millisecond(),
            Source::Manual(ms) => ms.load(Ordering::SeqCst),
        };
        Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Lets time pass inside a call; a test that pauses tokio's time skips it.
    pub async fn wait(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// What the wall clock shows, showed or will show at an instant of the monotonic clock, as far as can be told now.
    pub fn time_of(&self, instant: Instant) -> Timestamp {
        let (now, at) = (self.instant(), self.now());
        let moved = if instant >= now {
            at.checked_add(instant.saturating_duration_since(now))
        } else {
            at.checked_sub(now.saturating_duration_since(instant))
        };
        moved.unwrap_or(at)
    }

    /// The monotonic clock: for durations and deadlines, never for records.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    pub fn instant(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now().as_millisecond(), 0);
        clock.set(Timestamp::from_millisecond(1_500).unwrap());
        assert_eq!(clock.clone().now().as_millisecond(), 1_500);
    }
}

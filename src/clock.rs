//! The only place that reads a clock.
//!
//! Two questions are answered: *what time is it* (wall clock, for records) and *how long did it take* (monotonic,
//! for deadlines and durations). The monotonic side of the system clock is tokio's, so a test that pauses tokio's time
//! pauses every deadline with it; a stopped clock shows on both sides what a test lets pass.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::error::Elapsed;

/// The monotonic clock as the process first saw it, and what the machine says of it.
static UPTIME: LazyLock<(Instant, Duration)> = LazyLock::new(|| {
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let uptime = Duration::try_from(uptime).unwrap_or_default();
    (Clock::system().instant(), uptime)
});

/// Reads the wall clock and the monotonic clock. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    source: TimeSource,
    slowed: Option<Slowed>,
    /// By how many milliseconds the wall side is late; whoever holds it lets it catch up.
    late_ms: Option<Arc<AtomicI64>>,
    /// What `late_ms` was at first, where the monotonic side goes ahead with it.
    skips_from: Option<i64>,
}

/// A clock that runs slower than the machine's.
#[derive(Clone, Copy, Debug)]
struct Slowed {
    times: u32,
    since: Instant,
    since_ms: i64,
}

#[derive(Clone, Debug, Default)]
enum TimeSource {
    #[default]
    System,
    Manual(Arc<Hands>),
}

#[derive(Debug)]
struct Hands {
    /// Milliseconds since the Unix epoch.
    wall_ms: AtomicI64,
    /// Where the monotonic side stands, beside `passed_ms`; `None` where it runs with tokio's.
    stands_at: Option<Instant>,
    /// Milliseconds that were let pass.
    passed_ms: AtomicU64,
}

impl Clock {
    pub fn system() -> Self {
        Self::default()
    }

    /// The same clock, running so many times slower than the machine, timers on the call path included: to those who go by it, the
    /// machine is as many times faster. Tests that are not about time use it, so that a busy machine makes nobody late.
    #[must_use]
    pub fn slowed(self, times: u32) -> Self {
        let slowed = Slowed {
            times: times.max(1),
            since: Self::machine_instant(),
            since_ms: Self::machine_ms(),
        };
        Self {
            slowed: Some(slowed),
            ..self
        }
    }

    /// The same clock, its wall side late by so many milliseconds; with none left, it is on time.
    #[must_use]
    pub fn late(self, late_ms: Arc<AtomicI64>) -> Self {
        let late_ms = Some(late_ms);
        Self { late_ms, ..self }
    }

    /// The same clock, its wall side late by so many milliseconds, or ahead where they are fewer than none. What is taken from them passes at
    /// once, on both sides.
    #[must_use]
    pub fn skipping(self, late_ms: Arc<AtomicI64>) -> Self {
        Self {
            skips_from: Some(late_ms.load(Ordering::SeqCst)),
            late_ms: Some(late_ms),
            ..self
        }
    }

    /// The clock by which timers run: as this one, but not moved by hand.
    pub fn of_timers(&self) -> Self {
        Self {
            source: TimeSource::System,
            skips_from: None,
            ..self.clone()
        }
    }

    /// A wall clock that stands still until it is moved. The monotonic side runs with tokio's.
    pub fn manual(at: Timestamp) -> Self {
        Self::by_hand(at, None)
    }

    /// A clock that stands still on both sides until [`Clock::advance`] moves it. Timers run on all the same.
    pub fn stopped(at: Timestamp) -> Self {
        Self::by_hand(at, Some(Self::system().instant()))
    }

    fn by_hand(at: Timestamp, stands_at: Option<Instant>) -> Self {
        let hands = Hands {
            wall_ms: AtomicI64::new(at.as_millisecond()),
            stands_at,
            passed_ms: AtomicU64::new(0),
        };
        Self {
            source: TimeSource::Manual(Arc::new(hands)),
            ..Self::default()
        }
    }

    /// Sets the wall side of a manual clock, as when somebody corrects the time; does nothing to the system clock.
    pub fn set(&self, at: Timestamp) {
        if let TimeSource::Manual(hands) = &self.source {
            hands.wall_ms.store(at.as_millisecond(), Ordering::SeqCst);
        }
    }

    /// Lets time pass on both sides of a manual clock; does nothing to the system clock.
    pub fn advance(&self, duration: Duration) {
        if let TimeSource::Manual(hands) = &self.source {
            let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            hands.passed_ms.fetch_add(ms, Ordering::SeqCst);
            let ms = i64::try_from(ms).unwrap_or(i64::MAX);
            hands.wall_ms.fetch_add(ms, Ordering::SeqCst);
        }
    }

    /// The wall-clock time, to the millisecond, UTC.
    pub fn now(&self) -> Timestamp {
        let ms = match &self.source {
            TimeSource::System => self.running_ms(),
            TimeSource::Manual(hands) => hands.wall_ms.load(Ordering::SeqCst),
        };
        Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Lets time pass inside a call; a test that pauses tokio's time skips it.
    pub async fn wait(&self, duration: Duration) {
        tokio::time::sleep(self.timer(duration)).await;
    }

    /// Waits for something inside a call, as long as `within` at most.
    pub async fn timeout<F: Future>(
        &self,
        within: Duration,
        what: F,
    ) -> Result<F::Output, Elapsed> {
        tokio::time::timeout(self.timer(within), what).await
    }

    /// How long a timer of the machine runs while `duration` passes on this clock.
    pub fn timer(&self, duration: Duration) -> Duration {
        duration.saturating_mul(self.slowed.map_or(1, |slowed| slowed.times))
    }

    /// How long the machine has been up, by the clock that [`Clock::instant`] reads: comparable between one process and the next, until the
    /// machine is started anew.
    pub fn uptime(&self) -> Duration {
        let (instant, uptime) = *UPTIME;
        let now = self.instant();
        match now.checked_duration_since(instant) {
            Some(passed) => uptime + passed,
            None => uptime.saturating_sub(instant.saturating_duration_since(now)),
        }
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
    pub fn instant(&self) -> Instant {
        match &self.source {
            TimeSource::System => self.running() + self.skipped(),
            TimeSource::Manual(hands) => {
                let passed = Duration::from_millis(hands.passed_ms.load(Ordering::SeqCst));
                hands.stands_at.unwrap_or_else(|| self.running()) + passed
            }
        }
    }

    /// How much passed at once.
    fn skipped(&self) -> Duration {
        let (Some(from), Some(late_ms)) = (self.skips_from, &self.late_ms) else {
            return Duration::ZERO;
        };
        let ms = from.saturating_sub(late_ms.load(Ordering::SeqCst));
        Duration::from_millis(u64::try_from(ms).unwrap_or_default())
    }

    fn running(&self) -> Instant {
        let now = Self::machine_instant();
        self.slowed.map_or(now, |slowed| {
            slowed.since + now.saturating_duration_since(slowed.since) / slowed.times
        })
    }

    fn running_ms(&self) -> i64 {
        let late_ms = self.late_ms.as_ref();
        let late_ms = late_ms.map_or(0, |late_ms| late_ms.load(Ordering::SeqCst));
        let least = self.skips_from.map_or(0, |_| i64::MIN);
        let now = Self::machine_ms();
        let running = self.slowed.map_or(now, |slowed| {
            slowed.since_ms + (now - slowed.since_ms) / i64::from(slowed.times)
        });
        running - late_ms.max(least)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    fn machine_instant() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    fn machine_ms() -> i64 {
        Timestamp::now().as_millisecond()
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

    #[tokio::test(start_paused = true)]
    async fn on_a_slowed_clock_as_much_passes_as_its_timers_let_pass() {
        let clock = Clock::system().slowed(20);
        let before = clock.instant();
        let machine = Clock::system().instant();
        clock.wait(Duration::from_secs(3)).await;
        let late = clock
            .timeout(Duration::from_secs(2), std::future::pending::<()>())
            .await;
        assert!(late.is_err());
        assert_eq!(clock.instant() - before, Duration::from_secs(5));
        assert_eq!(
            Clock::system().instant() - machine,
            Duration::from_secs(100)
        );
    }

    #[test]
    fn a_late_clock_catches_up_and_never_runs_ahead() {
        let late_ms = Arc::new(AtomicI64::new(7_200_000));
        let clock = Clock::system().late(Arc::clone(&late_ms));
        let by = |seconds| Clock::system().now() - jiff::SignedDuration::from_secs(seconds);
        assert!(clock.now() <= by(7_200) && clock.now() > by(7_260));
        late_ms.store(60_000, Ordering::SeqCst);
        assert!(clock.now() <= by(60) && clock.now() > by(120));
        late_ms.store(-5_000, Ordering::SeqCst);
        assert!(clock.now() <= by(0) && clock.now() > by(60));
    }

    #[test]
    fn time_that_passes_by_hand_passes_on_both_sides() {
        let clock = Clock::stopped(Timestamp::UNIX_EPOCH);
        let before = clock.instant();
        clock.advance(Duration::from_mins(1));
        assert_eq!(clock.now().as_second(), 60);
        assert_eq!(clock.instant(), before + Duration::from_mins(1));
        clock.set(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.instant(), before + Duration::from_mins(1));
    }
}

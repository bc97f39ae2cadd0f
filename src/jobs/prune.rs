//! Keeps the log to what the policy says, and notices when the clock jumps: a record that looks older than it is must not go early.

use std::time::Duration;

use jiff::Timestamp;

use crate::audit::{Event, Record};
use crate::clock::Clock;
use crate::flow::Recorder;
use crate::lifecycle::Lifecycle;
use crate::store::{PruneError, Pruner, Store};

/// After the start: other things come first then.
const FIRST: Duration = Duration::from_mins(1);
/// How often the clock is looked at.
const LOOK: Duration = Duration::from_mins(1);
/// How often records are deleted.
const EVERY: Duration = Duration::from_hours(1);
/// What a clock may drift or be corrected by without a word.
const STEP: Duration = Duration::from_hours(1);
/// A time without any record, over a restart, that may as well be a clock that was set.
const SILENCE: Duration = Duration::from_hours(24);

/// The wall clock beside the monotonic one.
struct Steady {
    wall: Timestamp,
    instant: std::time::Instant,
}

impl Steady {
    fn now(clock: &Clock) -> Self {
        Self {
            wall: clock.now(),
            instant: clock.instant(),
        }
    }

    /// By how many milliseconds the wall clock went more than time did.
    fn stepped(&self, clock: &Clock) -> i64 {
        let wall = clock.now().as_millisecond() - self.wall.as_millisecond();
        let passed = clock.instant().duration_since(self.instant).as_millis();
        wall - i64::try_from(passed).unwrap_or(i64::MAX)
    }
}

/// For how many milliseconds nothing was recorded, where that is so long that a start notes it. To be asked before anything is recorded.
pub async fn silence(store: &Store, clock: &Clock) -> Option<i64> {
    let last = store.last_record_at().await.ok()??;
    let by_ms = clock.now().as_millisecond() - last.as_millisecond();
    (Duration::from_millis(by_ms.unsigned_abs()) >= SILENCE).then_some(by_ms)
}

/// Records how long nothing was recorded before this start, where that is long. To be called before anything is recorded.
pub async fn note_silence(store: &Store, clock: &Clock) {
    let Some(by_ms) = silence(store, clock).await else {
        return;
    };
    tracing::warn!(
        event = "clock.stepped",
        by_ms,
        "the clock is far from the time of the last record: nothing ran for so long, or it was set"
    );
    let record = Record::of_service(clock.now(), Event::ClockStepped { by_ms });
    if let Err(error) = store.append(vec![record]).await {
        tracing::error!(event = "store.late", error = %error, "that the clock may have jumped is not on disk yet");
    }
}

/// Prunes until the process is asked to stop.
pub async fn run(lifecycle: Lifecycle, pruner: Pruner, recorder: Recorder, clock: Clock) {
    let mut steady = Steady::now(&clock);
    let mut pruned_at = None;
    let mut pause = FIRST;
    while lifecycle.pause(pause).await {
        pause = LOOK;
        let by_ms = steady.stepped(&clock);
        if Duration::from_millis(by_ms.unsigned_abs()) >= STEP {
            steady = Steady::now(&clock);
            tracing::warn!(
                event = "clock.stepped",
                by_ms,
                "the clock jumped: no record goes earlier for it"
            );
            let event = Event::ClockStepped { by_ms };
            recorder
                .append_one(Record::of_service(clock.now(), event))
                .await;
        }
        let now = clock.instant();
        if pruned_at.is_none_or(|at| now.duration_since(at) >= EVERY) {
            pruned_at = Some(now);
            let draining = lifecycle.draining();
            // What a slice has begun, the writer ends.
            draining.run_until_cancelled(prune(&pruner)).await;
        }
    }
}

async fn prune(pruner: &Pruner) {
    let report = match pruner.age(None) {
        Ok(age) => pruner.run(age, |_| {}).await,
        Err(error) => Err(error),
    };
    match report {
        Ok(report) if report.deleted == 0 => {}
        Ok(report) => tracing::info!(
            event = "audit.pruned",
            deleted = report.deleted,
            kept = report.kept,
            oldest = report.oldest.map(|at| at.to_string()),
            "records past retention were deleted"
        ),
        Err(PruneError::NotSound) => tracing::warn!(
            event = "audit.not_pruned",
            "nothing is deleted from a log that is not sound"
        ),
        Err(error) => {
            tracing::warn!(event = "audit.not_pruned", error = %error, "records past retention are deleted later");
        }
    }
}

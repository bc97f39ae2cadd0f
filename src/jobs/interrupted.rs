//! Handoffs that the end of the process cut off: an intent on disk without an outcome. What the dialer made of it is unknown, and said so.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::audit::{Attempt, Event, HandoffIntended, Record};
use crate::call::CallId;
use crate::clock::Clock;
use crate::handoff::{Failure, FailureKind, Outcome};
use crate::lifecycle::Lifecycle;
use crate::store::{Store, StoreError};

/// Calls that are looked at in one go.
const PAGE: usize = 500;
/// How long the start may take for it.
const AT_START: Duration = Duration::from_millis(150);

/// Writes the outcome "unknown" behind every intent that has none. The calls themselves go on with their next webhook, so
/// where there are many of them, the start does not wait for all.
pub async fn start(lifecycle: &Lifecycle, store: &Store, clock: &Clock) {
    let through = match store.counts().await {
        Ok(counts) => counts.oldest_record.unwrap_or(1) - 1 + counts.records,
        Err(error) => return unread(&error),
    };
    let (store, clock) = (store.clone(), clock.clone());
    let (done, is_done) = oneshot::channel::<()>();
    lifecycle.spawn_transient("interrupted", async move {
        close(&store, &clock, through).await;
        drop(done);
    });
    drop(timeout(AT_START, is_done).await);
}

async fn close(store: &Store, clock: &Clock, through: i64) {
    let calls = match store.calls_in_progress().await {
        Ok(calls) => calls,
        Err(error) => return unread(&error),
    };
    for calls in calls.chunks(PAGE) {
        let calls = calls.iter().map(|(call, _)| call.clone()).collect();
        let open = match store.open_intents(calls, through).await {
            Ok(open) => open,
            Err(error) => return unread(&error),
        };
        if open.is_empty() {
            continue;
        }
        tracing::warn!(
            event = "handoff.interrupted",
            handoffs = open.len(),
            "handoffs were cut off by the end of the process"
        );
        let records = open
            .into_iter()
            .map(|(call_id, intended)| unknown(clock, &call_id, intended))
            .collect();
        if let Err(error) = store.append(records).await {
            tracing::error!(event = "store.late", error = %error, "interrupted handoffs are not on disk yet");
        }
    }
}

fn unread(error: &StoreError) {
    tracing::error!(event = "handoff.unread", error = %error, "interrupted handoffs cannot be read");
}

fn unknown(clock: &Clock, call_id: &CallId, intended: HandoffIntended) -> Record {
    let attempt = Attempt {
        dialer: intended.dialer,
        attempt: intended.attempt,
        outcome: Outcome::Unknown {
            failure: Failure::of(FailureKind::Interrupted),
        },
        exchanges: Vec::new(),
    };
    Record::of_call(
        clock.now(),
        call_id,
        Event::HandoffConcluded(Box::new(attempt)),
    )
}

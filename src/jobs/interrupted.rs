//! Handoffs that the end of the process cut off: an intent on disk without an outcome. What the dialer made of it is unknown, and said so.

use crate::audit::{Attempt, Event, HandoffIntended, Kind, Record};
use crate::call::CallId;
use crate::clock::Clock;
use crate::handoff::{Failure, FailureKind, Outcome};
use crate::store::{Store, StoreError};

/// Writes the outcome "unknown" behind every intent that has none. The calls themselves go on with their next webhook.
pub async fn close(store: &Store, clock: &Clock) {
    match open_intents(store).await {
        Ok(open) if open.is_empty() => {}
        Ok(open) => {
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
        Err(error) => {
            tracing::error!(event = "handoff.unread", error = %error, "interrupted handoffs cannot be read");
        }
    }
}

async fn open_intents(store: &Store) -> Result<Vec<(CallId, HandoffIntended)>, StoreError> {
    let mut open = Vec::new();
    // A call can be handed off at any time: when it arrives, while it waits, and when a dial has ended.
    for call in store.active_calls(u32::MAX).await?.into_iter().rev() {
        let mut last = None;
        for record in store.records_of_call(&call.id).await? {
            if record.kind == Kind::HandoffIntended {
                last = serde_json::from_str(&record.detail).ok();
            } else if record.kind == Kind::HandoffConcluded {
                last = None;
            }
        }
        open.extend(last.map(|intended| (call.id, intended)));
    }
    Ok(open)
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

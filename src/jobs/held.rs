//! What a restart in the middle of an outage finds: callers who wait, and incidents that are open.

use crate::alerts::Incidents;
use crate::clock::Clock;
use crate::flow::{Policies, Waiting};
use crate::store::{Store, StoreError};

/// Puts the callers who wait back in line, in order of arrival, and takes up the open incidents. What cannot be read is done without: whoever
/// waits asks again and is in line then.
pub async fn restore(
    store: &Store,
    policies: &Policies,
    waiting: &Waiting,
    incidents: &Incidents,
    clock: &Clock,
) {
    if let Err(error) = restore_line(store, policies, waiting, clock).await {
        tracing::error!(event = "call.unreadable", error = %error, "the callers who wait cannot be read");
    }
    if let Err(error) = incidents.restore(store).await {
        tracing::error!(event = "alert.unread", error = %error, "the open incidents cannot be read");
    }
}

async fn restore_line(
    store: &Store,
    policies: &Policies,
    waiting: &Waiting,
    clock: &Clock,
) -> Result<(), StoreError> {
    let policy = policies.current();
    let now = clock.instant();
    for call in store.calls_held().await? {
        if let Some((since, _)) = call.state.waiting() {
            let wanted = policy.ruleset.order(call.rule.as_deref());
            waiting.restore(&call.id, since, &wanted, now);
        }
    }
    if !waiting.is_empty() {
        tracing::info!(
            event = "call.waiting",
            callers = waiting.len(),
            "callers wait since before the start"
        );
    }
    Ok(())
}

//! Callers who reached nobody are announced for a call back, one after another.

use crate::flow::Calls;
use crate::lifecycle::Lifecycle;

/// Announces them until the process is asked to stop.
pub async fn run(lifecycle: Lifecycle, calls: Calls) {
    let draining = lifecycle.draining();
    while let Some(Some(call)) = draining.run_until_cancelled(calls.missed.next()).await {
        calls.announce_missed(&call).await;
    }
}

//! The canary beats as long as the process lives; the first good beat makes it ready.

use crate::flow::{BEAT_EVERY, Canary, SelfCheck};
use crate::lifecycle::Lifecycle;

/// Beats for the first time, and goes on beating.
pub async fn start(lifecycle: &Lifecycle, canary: Canary) {
    canary.beat().await;
    if canary.is_well() {
        lifecycle.ready();
    }
    lifecycle.spawn("canary", run(lifecycle.clone(), canary));
}

/// Beats until the process is asked to stop.
async fn run(lifecycle: Lifecycle, canary: Canary) {
    let mut was_well = canary.is_well();
    while lifecycle.pause(BEAT_EVERY).await {
        canary.beat().await;
        let is_well = canary.is_well();
        if is_well {
            lifecycle.ready();
        }
        if is_well != was_well {
            say(&canary.checks());
        }
        was_well = is_well;
    }
}

fn say(checks: &[SelfCheck]) {
    let faults = checks.iter().filter_map(|check| check.fault.as_deref());
    let faults = faults.collect::<Vec<_>>().join("; ");
    if faults.is_empty() {
        tracing::info!(
            event = "canary.well",
            "a call could be decided and recorded again"
        );
    } else {
        tracing::error!(
            event = "canary.ill",
            faults,
            "a call could not be decided and recorded now"
        );
    }
}

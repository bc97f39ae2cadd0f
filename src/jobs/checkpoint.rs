//! Signs the audit log while records come, and tells its head to the log every hour.

use std::time::Duration;

use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::store::{CheckpointSigner, Store};

/// A record is signed this long after it was written, or a little later.
const EVERY: Duration = Duration::from_secs(1);
/// How often the head goes to the log.
const TELL_EVERY: Duration = Duration::from_hours(1);

/// Signs until the process is asked to stop.
pub async fn run(lifecycle: Lifecycle, store: Store, signer: CheckpointSigner, clock: Clock) {
    let mut told = None;
    while lifecycle.pause(EVERY).await {
        signer.sign(false).await;
        let now = clock.instant();
        if told.is_none_or(|at| now.duration_since(at) >= TELL_EVERY) && report_failure(&store) {
            told = Some(now);
        }
    }
}

/// Tells the head of the log; whether there was one.
fn report_failure(store: &Store) -> bool {
    let Some(head) = store.signing_status().head else {
        return false;
    };
    tracing::info!(
        event = "audit.head",
        log_id = head.log_id,
        records = head.records,
        head = head.head,
        at = head.at.map(|at| at.to_string()),
        signature = head.signature,
        "the audit log was signed up to here"
    );
    true
}

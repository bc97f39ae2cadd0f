//! Calls that were missed, on their way to whoever announces them.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use crate::call::{CallId, Disposition, Status};
use crate::store::StoredCall;

/// Missed calls that may wait to be announced; what comes beyond is told in a log line.
const QUEUE: usize = 4_096;

/// Calls that may have been missed, on their way to whoever announces them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MissedCalls {
    queue: mpsc::Sender<CallId>,
    queued: Arc<Mutex<mpsc::Receiver<CallId>>>,
}

impl Default for MissedCalls {
    fn default() -> Self {
        let (queue, queued) = mpsc::channel(QUEUE);
        Self {
            queue,
            queued: Arc::new(Mutex::new(queued)),
        }
    }
}

impl MissedCalls {
    /// A call has come to this.
    pub(super) fn observe(&self, call: &StoredCall) {
        if is_missed(call) && self.queue.try_send(call.id.clone()).is_err() {
            tracing::error!(
                event = "call.missed_unannounced",
                call_sid = %call.id,
                "too many missed calls wait to be announced; this one is not"
            );
        }
    }

    /// The next call to look at; `None` where there is none left.
    pub async fn next(&self) -> Option<CallId> {
        self.queued.lock().await.recv().await
    }
}

/// Whether the caller reached nobody, and has a number to be called back at.
pub(super) fn is_missed(call: &StoredCall) -> bool {
    let is_missed = matches!(
        call.disposition,
        Some(
            Disposition::Closed
                | Disposition::Abandoned
                | Disposition::Goodbye
                | Disposition::Failed
                | Disposition::NoAnswer
                | Disposition::Busy
        )
    );
    call.status == Status::Ended
        && is_missed
        && call.answered_at.is_none()
        && !call.personal.is_erased()
        && call.personal.caller().number().is_some()
}

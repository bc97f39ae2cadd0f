//! Callers who reached nobody: a dialer is told once that they are to be called back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use super::answering::Calls;
use crate::audit::{Attempt, Event, Kind, MissedAnnounced, Record};
use crate::call::{CallId, Disposition, InboundCall, Status};
use crate::store::StoredCall;

/// Missed calls that may wait to be announced; what comes beyond is told in a log line.
const QUEUE: usize = 4_096;
/// A request that failed is sent again after these times.
const REPEATED_AFTER: [Duration; 3] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(5),
];

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
fn is_missed(call: &StoredCall) -> bool {
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

impl Calls {
    /// Tells the dialer of `missed_to` about a call that was missed, unless it was told or the caller is blocked.
    pub async fn announce_missed(&self, call_id: &CallId) {
        let policy = self.policies.current();
        let Some(to) = &policy.missed_to else {
            return;
        };
        let (Some(stored), Some(dialer)) =
            (self.locks.call(call_id).await, self.fleet.get(&to.dialer))
        else {
            return;
        };
        let caller = stored.personal.caller();
        if !is_missed(&stored)
            || self.lists.is_blocked(&caller, self.clock.now())
            || self.locks.has_record(call_id, Kind::MissedAnnounced).await
        {
            return;
        }
        let call = InboundCall::of_stored(&stored);
        let class = (stored.tier.as_ref(), stored.score);
        let mut payload = call.payload(class, &policy.ruleset, call_id.as_str());
        payload.task.clone_from(&to.task);
        let mut handed_off = dialer.hand_off(&payload, dialer.timeout()).await;
        for after in REPEATED_AFTER {
            if handed_off.outcome.failure().is_none() {
                break;
            }
            self.clock.wait(after).await;
            payload.attempt = 2;
            handed_off = dialer.hand_off(&payload, dialer.timeout()).await;
        }
        let failure = handed_off.outcome.failure();
        if let Some(failure) = failure {
            tracing::error!(event = "call.missed_unannounced", call_sid = %call_id, dialer = %to.dialer, reason = %failure, "nobody was told that this caller is to be called back");
        } else {
            tracing::info!(event = "call.missed_announced", call_sid = %call_id, dialer = %to.dialer, "the caller is to be called back");
        }
        let announced = Event::MissedAnnounced(Box::new(MissedAnnounced {
            task: to.task.clone(),
            attempt: Attempt {
                dialer: to.dialer.clone(),
                attempt: payload.attempt,
                outcome: handed_off.recorded_outcome(&caller),
                exchanges: handed_off.exchanges,
            },
        }));
        let record = Record::of_call(self.clock.now(), call_id, announced);
        self.recorder.append_one(record).await;
    }
}

//! Callers who reached nobody: a dialer is told once that they are to be called back.

use std::time::Duration;

use super::answering::Calls;
use super::missed_calls::is_missed;
use crate::audit::{Attempt, Event, Kind, MissedAnnounced, Record};
use crate::call::{CallId, InboundCall};
use crate::handoff::Outcome;

/// A request that failed is sent again after these times.
const REPEATED_AFTER: [Duration; 3] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(5),
];

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
            if !matches!(handed_off.outcome, Outcome::Retryable { .. }) {
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

//! A call whose end nobody reports: asked for at Twilio, and closed.

use std::time::Duration;

use jiff::Timestamp;

use super::answering::Calls;
use super::record::call_after;
use crate::audit::{CallAfter, Event, Record};
use crate::call::{CallId, CarrierAnswer, Disposition};
use crate::store::StoredCall;
use crate::twilio::{NoAnswer, Rest};

/// Nobody waits for this record.
const PATIENCE: Duration = Duration::from_secs(2);

/// Closes calls whose end was never reported. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reconciliation {
    pub calls: Calls,
    /// Knows what became of a call.
    pub rest: Rest,
}

/// What asking for a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// It was over, and is closed now.
    Closed(CarrierAnswer),
    /// Twilio says that it goes on.
    StillGoing,
    /// There was news of it meanwhile, or the store could not give it back; it stays as it is.
    Left,
    /// Twilio cannot be asked for this call, neither now nor later.
    CannotAsk,
    /// Twilio cannot answer now, whichever call is asked for.
    AskLater {
        /// How long it wants to be left alone, where it says so.
        retry_after: Option<Duration>,
    },
    /// Twilio's answer means nothing; that for another call may.
    Unclear,
}

impl Reconciliation {
    /// Asks for a call that was last heard of at `last_news`, and closes it where it is over. A call that Twilio does not know is over
    /// only if `absence_counts`: it hears of a call a little late.
    pub async fn reconcile(
        &self,
        call: &CallId,
        last_news: Timestamp,
        absence_counts: bool,
    ) -> Reconciled {
        // Not locked while Twilio is asked: a webhook of this call, should one come after all, does not wait for that.
        let answer = match self.rest.call(call).await {
            Ok(None) => return Reconciled::StillGoing,
            Ok(Some(CarrierAnswer::NotFound)) if !absence_counts => return Reconciled::Unclear,
            Ok(Some(answer)) => answer,
            Err(NoAnswer::CannotAsk(_)) => return Reconciled::CannotAsk,
            Err(NoAnswer::Later { retry_after, why }) => {
                tracing::warn!(
                    event = "reap.unanswered",
                    why,
                    "Twilio cannot be asked for calls whose end was not reported; asked again later"
                );
                return Reconciled::AskLater { retry_after };
            }
            Err(NoAnswer::Unclear { why }) => {
                tracing::warn!(event = "reap.unclear", call_sid = %call, why, "Twilio's answer does not tell what became of a call");
                return Reconciled::Unclear;
            }
        };
        self.close(call, last_news, answer).await
    }

    /// Closes a call of which nothing can be known any more.
    pub async fn give_up(&self, call: &CallId, last_news: Timestamp) -> Reconciled {
        self.close(call, last_news, CarrierAnswer::Unasked).await
    }

    async fn close(
        &self,
        call: &CallId,
        last_news: Timestamp,
        answer: CarrierAnswer,
    ) -> Reconciled {
        let calls = &self.calls;
        let _lock = calls.locks.lock(call).await;
        let Some(stored) = calls.locks.call(call).await else {
            return Reconciled::Left;
        };
        if stored.updated_at != last_news {
            return Reconciled::Left;
        }
        let Ok(state) = stored.state.clone().reconciled(&answer) else {
            return Reconciled::Left;
        };
        let now = calls.clock.now();
        let ended_at = ended_at(&stored, answer, now);
        let after = call_after(&stored, &state, stored.reason, ended_at, None);
        announce(call, answer, &after);
        let known = stored.moved_on(&after, now);
        let reaped = Event::CallReaped { found: answer };
        let record = Record::of_call(now, call, reaped).leaving(after);
        let recorded = calls.recorder.append(vec![record], PATIENCE).await;
        calls.update(recorded, known, None);
        Reconciled::Closed(answer)
    }
}

fn announce(call: &CallId, answer: CarrierAnswer, after: &CallAfter) {
    metrics::counter!("switchboard_calls_reaped_total", "found" => answer.as_str()).increment(1);
    tracing::info!(
        event = "call.reaped",
        call_sid = %call,
        found = answer.as_str(),
        disposition = after.disposition.map(Disposition::as_str),
        "a call whose end was not reported is closed"
    );
}

/// When it ended, as Twilio says; else the last that was heard of it, so that a call found hours later does not count as one that has
/// just ended.
fn ended_at(stored: &StoredCall, answer: CarrierAnswer, now: Timestamp) -> Timestamp {
    match answer {
        CarrierAnswer::Ended { at, .. } => at
            .unwrap_or(now)
            .min(now)
            .max(stored.answered_at.unwrap_or(stored.started_at)),
        CarrierAnswer::NotFound | CarrierAnswer::Unasked => stored.updated_at,
    }
}

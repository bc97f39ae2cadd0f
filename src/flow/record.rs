//! Writing down what happened, without ever making a caller wait for a broken disk.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::alerts::{CallObservation, CallObserver};
use crate::audit::{Attempt, CallAfter, Event, HandoffIntended, Record};
use crate::call::{CallId, CallState, Disposition, Status};
use crate::clock::Clock;
use crate::routing::Reason;
use crate::store::{FirstWrite, Past, Store, StoreError, StoredCall};
use crate::twiml::answer;

/// How long a record is waited for that no caller depends on.
const NOTE_PATIENCE: Duration = Duration::from_millis(100);
/// How long the store may take to give back what a call was answered before.
const ANSWER_PATIENCE: Duration = Duration::from_millis(400);

/// How long after the end of its call a webhook is answered as before: Twilio gives a webhook up after 15 s. What comes later is no repeat of
/// Twilio's.
const REPEATS: SignedDuration = SignedDuration::from_secs(60);

/// The step name of a call's first answer.
pub(super) const ARRIVAL: &str = "inbound";

/// Why a webhook is not answered anew.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repeated {
    /// It was answered before, with these bytes.
    Answered(String),
    /// Its call is past: nobody is on the line who could hear an answer, and nothing is done.
    Past,
}

impl Repeated {
    pub(super) fn into_twiml(self) -> String {
        match self {
            Self::Answered(body) => body,
            Self::Past => answer::nothing().to_xml(),
        }
    }
}

/// What is left of a call, and what that means for a webhook of it. A store that cannot say in time counts as "it is new".
pub(super) async fn past(
    clock: &Clock,
    store: &Store,
    call_id: &CallId,
    patience: Duration,
) -> Past {
    match clock.timeout(patience, store.past(call_id, REPEATS)).await {
        Ok(Ok(past)) => past,
        Ok(Err(_)) | Err(_) => Past::No,
    }
}

/// Refuses the first webhook of a call that is past. Whoever brought a call through the API is told the same for as long as it is known.
pub(super) fn refuse_replay(call_id: &CallId, past: Past) -> Result<(), Repeated> {
    match past {
        Past::No => Ok(()),
        Past::Over if call_id.is_of_calls_api() => Ok(()),
        Past::Over | Past::Erased | Past::Forgotten => Err(replayed(past)),
    }
}

pub(super) fn replayed(past: Past) -> Repeated {
    metrics::counter!("switchboard_webhooks_replayed_total").increment(1);
    tracing::warn!(
        event = "call.replayed",
        past = ?past,
        "a webhook of a call that is past: nothing is done"
    );
    Repeated::Past
}

/// The records of one webhook that are not written yet.
#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    pub(super) records: Vec<Record>,
    /// The last request to a dialer, and when it ended: part of the answer's record, unless another request follows.
    attempt: Option<(Timestamp, Attempt)>,
    /// The first write opens this call; `None`: the call is in the log.
    opens: Option<CallId>,
    /// The store failed or was late when the call was opened.
    pub(super) unclaimed: bool,
}

impl PendingWrites {
    /// The first write opens the call.
    pub(super) fn opening(call_id: &CallId) -> Self {
        Self {
            opens: Some(call_id.clone()),
            ..Self::default()
        }
    }

    /// A request to a dialer is about to leave. The first one of a call stands in the record of its decision.
    pub(super) fn intend(&mut self, at: Timestamp, call_id: &CallId, intended: HandoffIntended) {
        if let Some((at, attempt)) = self.attempt.take() {
            let concluded = Event::HandoffConcluded(Box::new(attempt));
            self.records.push(Record::of_call(at, call_id, concluded));
        }
        if let [
            Record {
                event: Event::CallDecided(decided),
                ..
            },
        ] = self.records.as_mut_slice()
        {
            decided.intended = Some(intended);
        } else {
            let intended = Event::HandoffIntended(intended);
            self.records.push(Record::of_call(at, call_id, intended));
        }
    }

    /// A request to a dialer has ended.
    pub(super) fn conclude(&mut self, at: Timestamp, attempt: Attempt) {
        self.attempt = Some((at, attempt));
    }

    pub(super) fn last_attempt(&mut self) -> Option<Attempt> {
        self.attempt.take().map(|(_, attempt)| attempt)
    }
}

/// Hands records to the store and bounds the wait. A record that is late stays with the store, which writes it when it can.
#[derive(Clone, Debug)]
pub struct Recorder {
    clock: Clock,
    store: Store,
    observer: Option<CallObserver>,
}

impl Recorder {
    pub fn new(clock: Clock, store: Store) -> Self {
        Self {
            clock,
            store,
            observer: None,
        }
    }

    /// Has `observer` count what is recorded from now on, on disk or not.
    pub fn observed_by(mut self, observer: CallObserver) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Writes what is pending. A call that is to be opened and is in the log already was answered before, unless the process ended too early:
    /// then it goes on as if it were new, under the same idempotency keys.
    pub(super) async fn flush(
        &self,
        pending: &mut PendingWrites,
        patience: Duration,
    ) -> Result<Recorded, Repeated> {
        let records = std::mem::take(&mut pending.records);
        let Some(call_id) = pending.opens.take() else {
            return Ok(self.append(records, patience).await);
        };
        let observed = CallObserver::read(&records);
        let opened = self.store.open_call(records.clone());
        let recorded = match self.clock.timeout(patience, opened).await {
            Ok(Ok(FirstWrite::First)) => Recorded::OnDisk,
            Ok(Ok(FirstWrite::Repeat)) => {
                let past = past(&self.clock, &self.store, &call_id, ANSWER_PATIENCE).await;
                refuse_replay(&call_id, past)?;
                let known = self.store.answer(&call_id, ARRIVAL);
                return match self.clock.timeout(ANSWER_PATIENCE, known).await {
                    Ok(Ok(Some(body))) => Err(Repeated::Answered(body)),
                    Ok(Ok(None) | Err(_)) | Err(_) => Ok(self.append(records, patience).await),
                };
            }
            Ok(Err(error)) => late(Some(&error)),
            Err(_) => late(None),
        };
        pending.unclaimed = recorded == Recorded::Late;
        self.count(observed);
        Ok(recorded)
    }

    /// Whether it is known of the caller of a call that they are not to be known: they were erased.
    pub(super) async fn is_erased(&self, call_id: &CallId) -> bool {
        let call = self.store.call(call_id).await;
        call.is_ok_and(|call| call.is_some_and(|call| call.personal.is_erased()))
    }

    /// Records something that no caller waits for.
    pub async fn append_one(&self, record: Record) {
        self.append(vec![record], NOTE_PATIENCE).await;
    }

    /// Records what happened to a call that is in the log.
    pub(crate) async fn append(&self, records: Vec<Record>, patience: Duration) -> Recorded {
        self.count(CallObserver::read(&records));
        match self
            .clock
            .timeout(patience, self.store.append(records))
            .await
        {
            Ok(Ok(_)) => Recorded::OnDisk,
            Ok(Err(error)) => late(Some(&error)),
            Err(_) => late(None),
        }
    }

    fn count(&self, observed: Vec<CallObservation>) {
        if let Some(observer) = &self.observer {
            observer.count(observed);
        }
    }
}

/// What became of a record within the time that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    OnDisk,
    /// It is not on disk yet: the store keeps it and writes it when it can.
    Late,
}

fn late(error: Option<&StoreError>) -> Recorded {
    metrics::counter!("switchboard_records_late_total").increment(1);
    if let Some(error) = error {
        tracing::error!(event = "store.late", error = %error, "a record is not on disk yet; the call goes on");
    } else {
        tracing::error!(
            event = "store.late",
            "the store takes too long; the call goes on"
        );
    }
    Recorded::Late
}

/// The call as its projection holds it once it has come to `state`; `talked_s` is for how long caller and agent talked, in seconds, where that
/// is over and was said.
pub(super) fn call_after(
    stored: &StoredCall,
    state: &CallState,
    reason: Reason,
    now: Timestamp,
    talked_s: Option<u32>,
) -> CallAfter {
    let answered =
        state.status() == Status::Bridged || state.disposition() == Some(Disposition::Answered);
    let ended_at = stored
        .ended_at
        .or((state.status() == Status::Ended).then_some(now));
    let talked = SignedDuration::from_secs(i64::from(talked_s.unwrap_or(0)));
    let picked_up = ended_at.unwrap_or(now).checked_sub(talked).unwrap_or(now);
    let picked_up = picked_up.max(stored.started_at);
    CallAfter {
        status: state.status(),
        disposition: state.disposition(),
        reason,
        dialer: match state.last_resort() {
            Some(_) => None,
            None => state.dialer().or(stored.dialer.as_ref()).cloned(),
        },
        failed_over: stored.failed_over || state.failed_over(),
        held: stored.held || state.waiting().is_some(),
        answered_at: match stored.answered_at {
            // Told late, the length of the talk says better when it began.
            Some(at) if stored.ended_at.is_some() => Some(at.min(picked_up)),
            None if answered => Some(picked_up),
            known => known,
        },
        ended_at,
        routing_ms: stored.routing_ms,
        state: state.clone(),
    }
}

/// The records of a report, and the call after them: what was said, and the correction where that changes how a call counts that is over.
pub(super) fn reported(
    stored: StoredCall,
    state: &CallState,
    now: Timestamp,
    talked_s: Option<u32>,
    event: Event,
) -> (Vec<Record>, StoredCall) {
    let after = call_after(&stored, state, stored.reason, now, talked_s);
    let record = |event, after| Record::of_call(now, &stored.id, event).leaving(after);
    let records = match (stored.disposition, after.disposition) {
        (Some(from), Some(to)) if from != to => {
            metrics::counter!("switchboard_calls_corrected_total").increment(1);
            tracing::info!(
                event = "call.corrected",
                call_sid = %stored.id,
                from = from.as_str(),
                to = to.as_str(),
                "what was reported late changes how the call counts"
            );
            let before = call_after(&stored, &stored.state, stored.reason, now, None);
            vec![
                record(event, before),
                record(Event::CallCorrected { from, to }, after.clone()),
            ]
        }
        _ => vec![record(event, after.clone())],
    };
    (records, stored.moved_on(&after, now))
}

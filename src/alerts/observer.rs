//! The call observer: reads from records what calls come to, and counts it. It reads records before they are on disk, so that
//! alerts do not depend on the database.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::counters::CallCounters;
use crate::audit::{Answer, Attempt, CallAfter, Event, Record};
use crate::call::{CallId, CallState};
use crate::clock::Clock;
use crate::handoff::FailureKind;
use crate::routing::{DialerId, Lookup, LookupUnavailable, Reason, Source};
use crate::store::StoredCall;

/// Counts what calls come to. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct CallObserver {
    clock: Clock,
    counters: Arc<Mutex<CallCounters>>,
}

/// What a record says of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallObservation {
    call_id: CallId,
    what: Observed,
}

#[derive(Clone, Debug, PartialEq)]
enum Observed {
    Arrived,
    LookedUp(Option<&'static str>),
    HandedOff(DialerId, Option<&'static str>),
    Answered {
        within_budget: bool,
    },
    Failed(&'static str),
    /// It counts as well after all.
    Well,
}

impl CallObserver {
    pub fn new(clock: Clock, window: Duration) -> Self {
        Self {
            clock,
            counters: Arc::new(Mutex::new(CallCounters::new(window))),
        }
    }

    /// What the records say that are about to be written.
    pub fn read(records: &[Record]) -> Vec<CallObservation> {
        let mut observations = Vec::new();
        for record in records {
            if let Some(call_id) = &record.call_id {
                let handed_off = record.event.attempt().and_then(handed_off);
                let what = read_event(&record.event, record.after.as_deref());
                let what = handed_off.into_iter().chain(what);
                observations.extend(what.map(|what| CallObservation {
                    call_id: call_id.clone(),
                    what,
                }));
            }
        }
        observations
    }

    pub fn count(&self, observations: Vec<CallObservation>) {
        if observations.is_empty() {
            return;
        }
        let now = self.clock.instant();
        let mut counters = self.counters();
        for CallObservation { call_id, what } in observations {
            match what {
                Observed::Arrived => counters.arrived(&call_id, now),
                Observed::LookedUp(failed) => counters.looked_up(Some(&call_id), failed, now),
                Observed::HandedOff(dialer, failed) => {
                    counters.handed_off(&dialer, &call_id, failed, now);
                }
                Observed::Answered { within_budget } => {
                    counters.answered(&call_id, within_budget, now);
                }
                Observed::Failed(reason) => counters.failed(&call_id, reason, now),
                Observed::Well => counters.well_after_all(&call_id, now),
            }
        }
    }

    /// Takes up the calls of the last minutes, after a restart: what was counted then is not counted again.
    pub(super) fn restore(&self, calls: &[StoredCall], window: Duration) {
        let (now, at) = (self.clock.instant(), self.clock.now());
        let age = |then: Timestamp| Duration::try_from(at.duration_since(then)).unwrap_or_default();
        let instant_of = |then: Timestamp| -> Option<Instant> {
            let age = age(then);
            (age < window).then(|| now.checked_sub(age)).flatten()
        };
        let mut counters = self.counters();
        let mut failures = Vec::new();
        for call in calls {
            if let Some(arrived) = instant_of(call.started_at) {
                counters.arrived(&call.id, arrived);
            }
            if let Some(reason) = failure(&call.state, call.reason) {
                failures.push((call, reason));
            }
        }
        failures.sort_by_key(|(call, _)| call.updated_at);
        for (call, reason) in failures {
            let failed = call.ended_at.unwrap_or(call.updated_at);
            match instant_of(failed) {
                Some(failed) => counters.failed(&call.id, reason, failed),
                None => counters.known_failed(&call.id),
            }
        }
    }

    pub(crate) fn counters(&self) -> MutexGuard<'_, CallCounters> {
        // Nothing under this lock leaves the figures half-changed.
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "most events say nothing of a call's success"
)]
fn read_event(event: &Event, after: Option<&CallAfter>) -> Vec<Observed> {
    match event {
        Event::CallDecided(decided) => {
            let looked_up = asked_braze(&decided.facts.lookup).map(Observed::LookedUp);
            [Observed::Arrived].into_iter().chain(looked_up).collect()
        }
        Event::CallAnswered(answered) => {
            let mut what = Vec::new();
            if answered.step == "inbound" || !answered.within_budget {
                what.push(Observed::Answered {
                    within_budget: answered.within_budget,
                });
            }
            let reason = after.map(|after| after.reason);
            let failed = match answered.answer {
                Answer::LastResort => reason.map(|reason| reason.of_failure("last_resort")),
                Answer::Goodbye => reason.map(|reason| reason.of_failure("goodbye")),
                Answer::Connect { .. }
                | Answer::Hold
                | Answer::Nothing
                | Answer::Number
                | Answer::Rejected { .. }
                | Answer::Message
                | Answer::Closed => ended(after),
            };
            what.extend(failed.map(Observed::Failed));
            what
        }
        Event::CallCorrected { .. } => {
            vec![ended(after).map_or(Observed::Well, Observed::Failed)]
        }
        _ => ended(after).map(Observed::Failed).into_iter().collect(),
    }
}

/// Whether the dialer that was asked took the call. Refused credentials are an incident of their own.
fn handed_off(attempt: &Attempt) -> Option<Observed> {
    let failed = attempt.outcome.failure().map(|failure| failure.kind);
    (failed != Some(FailureKind::Unauthorized))
        .then(|| Observed::HandedOff(attempt.dialer.clone(), failed.map(FailureKind::as_str)))
}

fn ended(after: Option<&CallAfter>) -> Option<&'static str> {
    let after = after?;
    failure(&after.state, after.reason)
}

/// Why a call failed that stands so; `None` where it did not, or not yet.
fn failure(state: &CallState, reason: Reason) -> Option<&'static str> {
    if let Some(disposition) = state.disposition() {
        return disposition
            .is_routing_failure()
            .then(|| reason.of_failure(disposition.as_str()));
    }
    state
        .is_at_last_resort()
        .then(|| reason.of_failure("last_resort"))
}

/// Whether Braze was asked, and why it did not answer, where it did not. A refused key is an incident of its own, and does not count.
#[expect(clippy::option_option, reason = "the outer one: nobody asked")]
fn asked_braze(lookup: &Lookup) -> Option<Option<&'static str>> {
    match lookup {
        Lookup::Known {
            because: Some(LookupUnavailable::Unauthorized),
            ..
        }
        | Lookup::Unavailable {
            reason: LookupUnavailable::Unauthorized,
        } => None,
        Lookup::Known {
            because: Some(reason),
            ..
        }
        | Lookup::Unavailable { reason } => Some(Some((*reason).into())),
        Lookup::Known {
            source: Source::Fetched,
            ..
        }
        | Lookup::Unknown {
            source: Source::Fetched,
            ..
        } => Some(None),
        Lookup::Known { .. } | Lookup::Unknown { .. } | Lookup::Skipped { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::call::Disposition;
    use crate::flow::stored_call;

    #[test]
    fn a_call_that_failed_before_the_restart_counts_once_and_after_the_window_not_at_all() {
        let clock = Clock::stopped("2026-11-26T12:00:00Z".parse().unwrap());
        let ended = |n: usize, minutes_ago: i64| {
            let call = stored_call(n);
            let at = clock.now() - SignedDuration::from_mins(minutes_ago);
            let state = call.state.clone().ended(Disposition::Goodbye);
            StoredCall {
                state,
                started_at: at,
                updated_at: at,
                ended_at: Some(at),
                ..call
            }
        };
        let observer = CallObserver::new(clock.clone(), Duration::from_mins(5));
        let calls = [ended(1, 1), ended(2, 20)];
        observer.restore(&calls, Duration::from_mins(5));
        let rate = || {
            let rate = observer.counters().calls_rate(clock.instant());
            (rate.failed, rate.total)
        };
        assert_eq!(rate(), (1, 1));
        // What is reported of them late is counted already.
        let reported_again = calls.map(|call| CallObservation {
            call_id: call.id,
            what: Observed::Failed("goodbye"),
        });
        observer.count(reported_again.into());
        assert_eq!(rate(), (1, 1));
    }
}

//! From what was decided to what the caller hears, and how the call stands afterwards.

use std::time::Duration;

use super::hand_off::{Handed, HandoffResult};
use super::policy::Policy;
use super::stopwatch::Stopwatch;
use crate::audit::{Answer, CallAfter, CallAnswered, Event, Personal, Record};
use crate::call::{CallId, CallState, Disposition, Stamp};
use crate::dialer::{self, Dialer};
use crate::handoff::Certainty;
use crate::phone::Caller;
use crate::routing::Reason;
use crate::twiml::VoiceResponse;
use crate::twiml::answer::{self, ConnectTo, LastResort};

/// The hold message is spoken in the first round and in every sixth after it: about every 30 s. Between, there is silence.
const ROUNDS_PER_MESSAGE: u32 = 6;

/// Who is calling whom, as far as the answer needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parties<'a> {
    pub(super) caller: &'a Caller,
    pub(super) called: Option<&'a str>,
}

/// What the caller hears, what is recorded of it, and how the call stands afterwards. The answer is TwiML until it is put into words.
#[derive(Debug)]
pub(super) struct LastWords<R = VoiceResponse> {
    pub(super) response: R,
    pub(super) answer: Answer,
    pub(super) state: CallState,
    pub(super) reason: Reason,
}

impl LastWords {
    /// The call is over; there is nothing to say.
    pub(super) fn nothing(state: CallState, reason: Reason) -> Self {
        Self {
            response: answer::nothing(),
            answer: Answer::Nothing,
            state,
            reason,
        }
    }

    /// The line of `dialer` rings.
    pub(super) fn connect(
        policy: &Policy,
        dialer: &Dialer,
        certainty: Certainty,
        reference: Option<String>,
        parties: Parties<'_>,
        state: CallState,
        reason: Reason,
    ) -> Self {
        let ring_timeout = policy.ringing.next(state.rung());
        let state = state.dialing(dialer.id(), reference);
        let response = answer::connect(&ConnectTo {
            connect: dialer.connect(),
            caller: parties.caller,
            called: parties.called,
            caller_id: &policy.caller_id,
            ring_timeout,
            action_url: &policy.urls.dial(state.step(), dialer.id()),
            status_url: &policy.urls.status(state.step(), dialer.id()),
            sip_headers: &dialer.sip_headers(state.reference()),
        });
        Self {
            response,
            answer: Answer::Connect {
                dialer: dialer.id().clone(),
                certainty,
            },
            state: recordable(state, parties.caller),
            reason,
        }
    }

    /// Nobody can take the call now: the caller waits, and the plan is tried again.
    pub(super) fn hold(policy: &Policy, state: CallState, reason: Reason, now: Stamp) -> Self {
        let state = state.held(now);
        Self {
            response: hold_response(policy, &state, answer::HOLD_PAUSE),
            answer: Answer::Hold,
            state,
            reason,
        }
    }

    /// The same, but a caller who is held asks again after `pause`.
    pub(super) fn asking_again_after(self, policy: &Policy, pause: Duration) -> Self {
        match self.answer {
            Answer::Hold => Self {
                response: hold_response(policy, &self.state, pause),
                ..self
            },
            Answer::Connect { .. } | Answer::LastResort | Answer::Goodbye | Answer::Nothing => self,
        }
    }

    /// Nobody of the plan is left: the last-resort number, or the goodbye message, which ends the call as `otherwise`.
    pub(super) fn nobody_left(
        policy: &Policy,
        parties: Parties<'_>,
        state: CallState,
        reason: Reason,
        otherwise: Disposition,
    ) -> Self {
        let (caller, called) = (Some(parties.caller), parties.called);
        let rings = answer::can_ring_phones(&policy.caller_id, caller, called);
        match policy.last_resort.as_ref().filter(|_| rings) {
            Some(number) => {
                let state = state.dialing_last_resort(number);
                let response = answer::last_resort(&LastResort {
                    number,
                    caller: parties.caller,
                    called: parties.called,
                    caller_id: &policy.caller_id,
                    ring_timeout: policy.ringing.each,
                    action_url: &policy.urls.last_resort_dial(state.step()),
                    status_url: &policy.urls.last_resort_status(state.step()),
                });
                Self {
                    response,
                    answer: Answer::LastResort,
                    state,
                    reason,
                }
            }
            None => Self {
                response: answer::goodbye(&policy.goodbye_message, &policy.language),
                answer: Answer::Goodbye,
                state: state.ended(otherwise),
                reason,
            },
        }
    }

    /// What a handoff result sounds like.
    pub(super) fn after_handoff(
        policy: &Policy,
        fleet: &dialer::Fleet,
        handed: &Handed,
        parties: Parties<'_>,
        state: CallState,
        reason: Reason,
        now: Stamp,
    ) -> Self {
        if let HandoffResult::Connect {
            dialer,
            certainty,
            reference,
        } = &handed.result
            && let Some(dialer) = fleet.get(dialer)
        {
            return Self::connect(
                policy,
                &dialer,
                *certainty,
                reference.clone(),
                parties,
                state,
                reason,
            );
        }
        Self::hold_or_end(policy, parties, state, handed.reason_or(reason), now)
    }

    /// The caller waits for as long as the policy has patience, then hears the last words.
    pub(super) fn hold_or_end(
        policy: &Policy,
        parties: Parties<'_>,
        state: CallState,
        reason: Reason,
        now: Stamp,
    ) -> Self {
        let waited = state
            .waiting()
            .map_or(Duration::ZERO, |(since, _)| since.until(now));
        if waited < policy.max_hold {
            Self::hold(policy, state, reason, now)
        } else {
            Self::nobody_left(policy, parties, state, reason, Disposition::Goodbye)
        }
    }
}

impl<R> LastWords<R> {
    /// The same with the answer as the text that goes out.
    pub(super) fn worded(self, text: impl FnOnce(R) -> String) -> LastWords<String> {
        LastWords {
            response: text(self.response),
            answer: self.answer,
            state: self.state,
            reason: self.reason,
        }
    }

    /// The record of this answer, with the bytes the caller gets, so that a repeat gets the same.
    pub(super) fn record(
        &self,
        stopwatch: &Stopwatch,
        (call_id, caller): (&CallId, &Caller),
        request_id: &str,
        step: String,
        body: &str,
        after: CallAfter,
    ) -> Record {
        let answered = CallAnswered {
            request_id: request_id.to_owned(),
            step,
            answer: self.answer.clone(),
            stages: stopwatch.stages(),
            within_budget: stopwatch.within_budget(),
            unclaimed: false,
            after,
        };
        let personal = Personal {
            caller: Some(caller.as_text().to_owned()),
            body: Some(body.to_owned()),
            ..Personal::default()
        };
        Record {
            personal: Some(personal),
            ..Record::of_call(
                stopwatch.time(),
                call_id,
                Event::CallAnswered(Box::new(answered)),
            )
        }
    }
}

/// The state goes into the record, as it stands. A line that rings for a second time rings without a reference that holds the caller's digits.
pub(super) fn recordable(state: CallState, caller: &Caller) -> CallState {
    let names = |reference| dialer::names_caller(reference, caller);
    if state.reference().is_some_and(names) {
        state.without_reference()
    } else {
        state
    }
}

fn hold_response(policy: &Policy, state: &CallState, pause: Duration) -> VoiceResponse {
    let round = state.waiting().map_or(1, |(_, round)| round);
    let speaks = round % ROUNDS_PER_MESSAGE == 1;
    let message = if speaks {
        policy.hold_message.as_str()
    } else {
        ""
    };
    answer::hold(message, &policy.language, pause, &policy.urls.hold(round))
}

//! From what was decided to what the caller hears, and how the call stands afterwards.

use std::time::Duration;

use super::handoff_result::HandoffResult;
use super::policy::Policy;
use super::stopwatch::stamp;
use crate::audit::Answer;
use crate::call::{CallState, Disposition, InboundCall};
use crate::clock::Clock;
use crate::dialer::{self, Dialer, Fleet};
use crate::handoff::Certainty;
use crate::phone::Caller;
use crate::routing::{DialerId, Reason};
use crate::twiml::Connect;
use crate::twiml::answer::{self, ConnectTo};

/// The hold message is spoken in the first round and in every sixth after it: about every 30 s. Between, there is silence.
const ROUNDS_PER_MESSAGE: u32 = 6;

/// What is answered, what is recorded of it, and how the call stands afterwards.
#[derive(Debug)]
pub(super) struct CallAnswer {
    /// The bytes that go out.
    pub(super) body: String,
    pub(super) answer: Answer,
    pub(super) state: CallState,
    pub(super) reason: Reason,
}

impl CallAnswer {
    /// The call is over; there is nothing to say.
    pub(super) fn nothing(state: CallState, reason: Reason) -> Self {
        Self {
            body: answer::nothing().to_xml(),
            answer: Answer::Nothing,
            state,
            reason,
        }
    }
}

/// Renders the answers to one call as TwiML.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice<'a> {
    pub(super) policy: &'a Policy,
    pub(super) fleet: &'a Fleet,
    pub(super) call: &'a InboundCall,
    /// After how long a caller who is held asks again.
    pub(super) pause: Duration,
    pub(super) clock: &'a Clock,
}

impl Voice<'_> {
    /// The line of `dialer` rings.
    pub(super) fn connect(
        &self,
        dialer: &Dialer,
        certainty: Certainty,
        reference: Option<String>,
        state: CallState,
        reason: Reason,
    ) -> CallAnswer {
        let ring_timeout = self.policy.ringing.next(state.rung());
        let state = state.dialing(dialer.id(), reference);
        let headers = dialer.sip_headers(state.reference());
        CallAnswer {
            body: self.ring(
                dialer.connect(),
                ring_timeout,
                state.step(),
                Some(dialer.id()),
                &headers,
            ),
            answer: Answer::Connect {
                dialer: dialer.id().clone(),
                certainty,
            },
            state: recordable(state, &self.call.caller),
            reason,
        }
    }

    /// What a handoff came to. Where no dialer takes the call, the caller waits for as long as the policy has patience.
    pub(super) fn after_handoff(
        &self,
        handed: &HandoffResult,
        state: CallState,
        reason: Reason,
    ) -> CallAnswer {
        if let Some((dialer, target)) = handed.dialer(self.fleet) {
            let (certainty, reference) = (target.certainty, target.reference.clone());
            return self.connect(&dialer, certainty, reference, state, reason);
        }
        let (reason, now) = (handed.reason_or(reason), stamp(self.clock));
        let waited = state
            .waiting()
            .map_or(Duration::ZERO, |(since, _)| since.until(now));
        if waited < self.policy.max_hold {
            self.hold(state.held(now), reason)
        } else {
            self.no_dialer_left(state, reason, Disposition::Goodbye)
        }
    }

    /// No dialer can take the call now: the caller waits, and the plan is tried again.
    fn hold(&self, state: CallState, reason: Reason) -> CallAnswer {
        let Policy {
            hold_message,
            language,
            urls,
            ..
        } = self.policy;
        let round = state.waiting().map_or(1, |(_, round)| round);
        let is_silent = round % ROUNDS_PER_MESSAGE != 1;
        let message = if is_silent { "" } else { hold_message };
        CallAnswer {
            body: answer::hold(message, language, self.pause, &urls.hold(round)).to_xml(),
            answer: Answer::Hold,
            state,
            reason,
        }
    }

    /// No dialer of the plan is left: the last-resort number, or the goodbye message, which ends the call as `otherwise`.
    pub(super) fn no_dialer_left(
        &self,
        state: CallState,
        reason: Reason,
        otherwise: Disposition,
    ) -> CallAnswer {
        let (policy, caller) = (self.policy, &self.call.caller);
        let called = self.call.called.as_deref();
        let rings = answer::can_ring_phones(&policy.caller_id, Some(caller), called);
        let Some(number) = policy.last_resort.as_ref().filter(|_| rings) else {
            return CallAnswer {
                body: answer::goodbye(&policy.goodbye_message, &policy.language).to_xml(),
                answer: Answer::Goodbye,
                state: state.ended(otherwise),
                reason,
            };
        };
        let state = state.dialing_last_resort(number);
        let line = Connect::Number(number.clone());
        CallAnswer {
            body: self.ring(&line, policy.ringing.each, state.step(), None, &[]),
            answer: Answer::LastResort,
            state,
            reason,
        }
    }

    fn ring(
        &self,
        connect: &Connect,
        ring_timeout: Duration,
        step: u32,
        dialer: Option<&DialerId>,
        sip_headers: &[(&str, String)],
    ) -> String {
        let response = answer::connect(&ConnectTo {
            connect,
            caller: &self.call.caller,
            called: self.call.called.as_deref(),
            caller_id: &self.policy.caller_id,
            ring_timeout,
            action_url: &self.policy.urls.dial(step, dialer),
            status_url: &self.policy.urls.status(step, dialer),
            sip_headers,
        });
        response.to_xml()
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

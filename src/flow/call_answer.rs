//! From what was decided to what the caller hears, and how the call stands afterwards.

use std::time::Duration;

use super::handoff_result::HandoffResult;
use super::policy::{Policy, Spoken};
use super::stopwatch::stamp;
use crate::audit::Answer;
use crate::call::{
    CallState, Disposition, InboundCall, Passport, PassportKeys, PassportUse, RULE_NUMBER,
};
use crate::clock::Clock;
use crate::dialer::{self, Dialer, Fleet};
use crate::handoff::Certainty;
use crate::phone::{Caller, E164};
use crate::routing::{Course, Reason, Rule, RuleAction};
use crate::store::StoredCall;
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
#[derive(Clone, Debug)]
pub(super) struct Voice<'a> {
    pub(super) policy: &'a Policy,
    pub(super) rule: Option<&'a Rule>,
    pub(super) spoken: Spoken<'a>,
    pub(super) fleet: &'a Fleet,
    pub(super) call: &'a InboundCall,
    /// How it stood before this answer.
    pub(super) stored: &'a StoredCall,
    pub(super) passport_keys: PassportKeys,
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
        let state = recordable(state, &self.call.caller);
        let line = Some(dialer.id().as_str());
        CallAnswer {
            body: self.ring(
                dialer.connect(),
                ring_timeout,
                (&state, reason),
                line,
                &headers,
            ),
            answer: Answer::Connect {
                dialer: dialer.id().clone(),
                certainty,
            },
            state,
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
        let Spoken { hold, language, .. } = self.spoken;
        let round = state.waiting().map_or(1, |(_, round)| round);
        let is_silent = round % ROUNDS_PER_MESSAGE != 1;
        let message = if is_silent { "" } else { hold };
        let again = self.policy.urls.hold(round, |room| {
            self.passport((&state, reason), ("hold", round), room)
        });
        CallAnswer {
            body: answer::hold(message, language, self.pause, &again).to_xml(),
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
        let last_resort = self.policy.last_resort.as_ref();
        let Some(number) = last_resort.filter(|_| self.can_ring_phones()) else {
            let goodbye = self.spoken.goodbye;
            return self.say(goodbye, Answer::Goodbye, state.ended(otherwise), reason);
        };
        let state = state.dialing_last_resort(number);
        CallAnswer {
            body: self.ring_number(number, (&state, reason), None),
            answer: Answer::LastResort,
            state,
            reason,
        }
    }

    /// What a call comes to for which no dialer is asked.
    pub(super) fn without_dialers(
        &self,
        course: Course,
        state: CallState,
        reason: Reason,
    ) -> CallAnswer {
        let can_ring = self.can_ring_phones();
        if course == Course::Number && !can_ring {
            return self.no_dialer_left(state, reason, Disposition::Failed);
        }
        let closed_number = self.policy.closed_number.as_ref().filter(|_| can_ring);
        let (number, answer, state) = without_dialers(course, self.rule, closed_number, state);
        let body = match (number, &answer, self.rule.map(|rule| &rule.action)) {
            (Some(number), ..) => self.ring_number(number, (&state, reason), Some(RULE_NUMBER)),
            (None, Answer::Rejected { with }, _) => answer::reject(*with).to_xml(),
            (None, Answer::Closed, _) => self.goodbye(self.spoken.closed),
            (None, Answer::Message, Some(RuleAction::Message(message))) => self.goodbye(message),
            (None, ..) => self.goodbye(self.spoken.goodbye),
        };
        CallAnswer {
            body,
            answer,
            state,
            reason,
        }
    }

    /// All dialers are outside their hours: the number for that rings, or the caller is told so.
    pub(super) fn closed(&self, state: CallState, reason: Reason) -> CallAnswer {
        self.without_dialers(Course::Closed, state, reason)
    }

    /// The caller hears that nobody is there at this hour.
    pub(super) fn closed_message(&self, state: CallState, reason: Reason) -> CallAnswer {
        let state = state.ended(Disposition::Closed);
        self.say(self.spoken.closed, Answer::Closed, state, reason)
    }

    fn goodbye(&self, message: &str) -> String {
        answer::goodbye(message, self.spoken.language).to_xml()
    }

    fn say(&self, message: &str, answer: Answer, state: CallState, reason: Reason) -> CallAnswer {
        CallAnswer {
            body: self.goodbye(message),
            answer,
            state,
            reason,
        }
    }

    fn can_ring_phones(&self) -> bool {
        let called = self.call.called.as_deref();
        answer::can_ring_phones(&self.policy.caller_id, Some(&self.call.caller), called)
    }

    fn ring_number(
        &self,
        number: &E164,
        after: (&CallState, Reason),
        line: Option<&str>,
    ) -> String {
        let connect = Connect::Number(number.clone());
        self.ring(&connect, self.policy.ringing.each, after, line, &[])
    }

    fn ring(
        &self,
        connect: &Connect,
        ring_timeout: Duration,
        (state, reason): (&CallState, Reason),
        line: Option<&str>,
        sip_headers: &[(&str, String)],
    ) -> String {
        let (urls, step) = (&self.policy.urls, state.step());
        let action_url = urls.dial(step, line, |room| {
            self.passport((state, reason), ("dial", step), room)
        });
        let response = answer::connect(&ConnectTo {
            connect,
            caller: &self.call.caller,
            called: self.call.called.as_deref(),
            caller_id: &self.policy.caller_id,
            ring_timeout,
            action_url: &action_url,
            status_url: &urls.status(step, line),
            sip_headers,
        });
        response.to_xml()
    }

    /// The call as this answer leaves it, sealed for the webhook that asks next.
    fn passport(
        &self,
        (state, reason): (&CallState, Reason),
        (webhook, step): (&str, u32),
        room: usize,
    ) -> Option<String> {
        let (stored, now) = (self.stored, stamp(self.clock));
        let passport = Passport {
            owner: self.policy.urls.node().to_owned(),
            issued_at: now.at,
            started_at: stored.started_at,
            routing_ms: stored.routing_ms,
            reason,
            tier: stored.tier.clone(),
            score: stored.score,
            rule: stored.rule.clone(),
            ruleset: stored.ruleset.clone(),
            failed_over: stored.failed_over || state.failed_over(),
            held: stored.held || state.waiting().is_some(),
            state: state.clone(),
        };
        let call = &self.call.call_id;
        let to = PassportUse {
            call,
            webhook,
            step,
        };
        passport.seal(&self.passport_keys, &to, now, room)
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

/// What a call comes to for which no dialer is asked: the number that rings, if one does, and how the call goes on.
pub(super) fn without_dialers<'a>(
    course: Course,
    rule: Option<&'a Rule>,
    closed_number: Option<&'a E164>,
    state: CallState,
) -> (Option<&'a E164>, Answer, CallState) {
    match (course, rule.map(|rule| &rule.action), closed_number) {
        (Course::Number, Some(RuleAction::Number(number)), _) => {
            (Some(number), Answer::Number, state.dialing_number(false))
        }
        (Course::Closed, _, Some(number)) => {
            (Some(number), Answer::Closed, state.dialing_number(true))
        }
        (Course::Closed, _, None) => (None, Answer::Closed, state.ended(Disposition::Closed)),
        (Course::Reject { with }, ..) => {
            let answer = Answer::Rejected { with };
            (None, answer, state.ended(Disposition::Rejected))
        }
        (Course::Message, ..) => {
            let is_closed = rule.is_some_and(Rule::is_for_closed_hours);
            let end = if is_closed {
                Disposition::Closed
            } else {
                Disposition::Rejected
            };
            (None, Answer::Message, state.ended(end))
        }
        (Course::Number | Course::Dialers, ..) => {
            (None, Answer::Nothing, state.ended(Disposition::Failed))
        }
    }
}

//! The answer of the Calls API: a JSON document that says where to connect the call.

use std::collections::BTreeMap;

use serde::Serialize;

use super::call_answer::{CallAnswer, recordable, without_dialers};
use super::handoff_result::HandoffResult;
use super::policy::Policy;
use crate::audit::Answer;
use crate::call::{CallId, CallState, Disposition, InboundCall};
use crate::dialer::Fleet;
use crate::handoff::Certainty;
use crate::lead::{LeadScore, TierName};
use crate::phone::E164;
use crate::routing::{Course, Decision, DialerId};
use crate::twiml::Connect;

/// The answer as it is stored and given.
#[derive(Serialize)]
struct AnswerDocument<'a> {
    call_id: &'a CallId,
    caller: String,
    called: Option<&'a str>,
    status: &'static str,
    tier: Option<&'a TierName>,
    score: Option<LeadScore>,
    rule: Option<&'a str>,
    reason: &'static str,
    dialer: Option<&'a DialerId>,
    certainty: Option<Certainty>,
    /// What becomes of a call for which no dialer is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    course: Option<Course>,
    connect: Option<ConnectDocument>,
    plan: &'a [DialerId],
    routing_ms: Option<u64>,
}

/// Where to connect the call, with the headers of a SIP leg.
#[derive(Serialize)]
struct ConnectDocument {
    #[serde(flatten)]
    connect: Connect,
    headers: BTreeMap<&'static str, String>,
}

/// The dialer that took the call, else the last resort, else nothing.
pub(super) fn render(
    call: &InboundCall,
    policy: &Policy,
    fleet: &Fleet,
    decision: &Decision,
    handed: &HandoffResult,
    state: CallState,
    routing_ms: Option<u64>,
) -> CallAnswer {
    let target = handed.dialer(fleet);
    let certainty = target.as_ref().map(|(_, target)| target.certainty);
    let reason = match target {
        Some(_) => decision.reason,
        None => handed.reason_or(decision.reason),
    };
    let to_number = |number: &E164| ConnectDocument {
        connect: Connect::Number(number.clone()),
        headers: BTreeMap::new(),
    };
    let rule = policy.ruleset.rule(decision.rule.as_deref());
    let course = decision.course;
    let (connect, answer, state) = match (target, &policy.last_resort) {
        _ if course != Course::Dialers => {
            let (number, answer, state) =
                without_dialers(course, rule, policy.closed_number.as_ref(), state);
            (number.map(to_number), answer, state)
        }
        (Some((dialer, target)), _) => {
            let state = state.dialing(dialer.id(), target.reference.clone());
            let connect = ConnectDocument {
                connect: dialer.connect().clone(),
                headers: dialer.sip_headers(state.reference()).into_iter().collect(),
            };
            let answer = Answer::Connect {
                dialer: dialer.id().clone(),
                certainty: target.certainty,
            };
            (Some(connect), answer, recordable(state, &call.caller))
        }
        (None, Some(number)) => {
            let state = state.dialing_last_resort(number);
            (Some(to_number(number)), Answer::LastResort, state)
        }
        (None, None) => (None, Answer::Nothing, state.ended(Disposition::Failed)),
    };
    let document = AnswerDocument {
        call_id: &call.call_id,
        caller: call.caller.masked(),
        called: call.called.as_deref(),
        status: state.status().as_str(),
        tier: decision.tier.as_ref(),
        score: decision.score,
        rule: decision.rule.as_deref(),
        reason: reason.as_str(),
        dialer: state.dialer(),
        certainty,
        course: Some(course).filter(|course| *course != Course::Dialers),
        connect,
        plan: &decision.plan.dialers,
        routing_ms,
    };
    CallAnswer {
        // Names, numbers and text: there is nothing in it that JSON cannot say.
        body: serde_json::to_string(&document).unwrap_or_default(),
        answer,
        state,
        reason,
    }
}

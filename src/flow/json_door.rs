//! The JSON door: a call that arrived elsewhere (a PBX, Zendesk) is routed by the same line, and the answer says where to connect it.
//!
//! Whoever asks holds the call: it is connected there, and all that is heard of it is what they report when it is over. So an answered call is
//! `dialing` until then, or until the reaper closes it as `unknown`; it never counts as on the line, and it is never held or failed over: where
//! no dialer takes it, the last-resort number is named, or nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hand_off::{Handed, HandoffResult};
use super::inbound::{Arrival, Inbound, Routed};
use super::last_words::{LastWords, recordable};
use super::policy::Policy;
use super::record::reported;
use crate::audit::{Answer, Event, Ingress};
use crate::call::{CallId, CallState, Disposition, ReportedOutcome};
use crate::dialer::{Dialer, Fleet};
use crate::handoff::Certainty;
use crate::lead::{LeadScore, TierName};
use crate::phone::Caller;
use crate::routing::{Decision, DialerId, Reason};
use crate::twiml::Connect;

/// How long reading and recording the report of an end may take each.
const PATIENCE: Duration = Duration::from_secs(2);
/// An id of this many characters still fits a call id with the prefix before it.
const MAX_PLAIN_ID: usize = 60;
/// How much of a hash names a call: 128 bits.
const HASH_BYTES: usize = 16;

/// Answers calls that arrived elsewhere. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JsonDoor {
    /// The line that all doors share.
    pub inbound: Inbound,
}

/// A call that arrived elsewhere.
#[derive(Clone, Debug)]
pub struct JsonCall {
    /// What the asker calls it; the same id is the same call.
    pub external_id: String,
    pub caller: Caller,
    /// What was called, as received.
    pub called: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonAnswer {
    /// Where to connect the call: a JSON document, the same bytes for the same call.
    Connect(String),
    /// Nobody can take the call, and there is no last resort. It is recorded, and answered so every time.
    Nobody(Nobody),
    /// The call was routed long ago, and its answer is not kept: its caller was erased, or its records have passed their time.
    Past,
    /// The call is known and its answer cannot be had now. Asking again is safe.
    NotNow,
}

/// What the report of an end came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndTaken {
    /// It is noted, now or before.
    Noted,
    /// Another outcome was reported before.
    Contradicts(ReportedOutcome),
    /// The carrier reports the end of this call.
    NotOurs,
    /// The call cannot be had now. Reporting again is safe.
    NotNow,
}

/// A call that nobody can take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Nobody {
    pub call_id: String,
    pub reason: String,
}

impl JsonCall {
    /// The id under which the call is kept: derived from the asker's, so that a repeat finds it, and never one of Twilio's, so that nobody
    /// can ask for the answer to somebody else's call.
    pub fn call_id(&self) -> Option<CallId> {
        let id = &self.external_id;
        let plain = CallId::parse(id).is_ok() && id.len() <= MAX_PLAIN_ID;
        let text = if plain {
            format!("api-{id}")
        } else {
            let hash = Sha256::digest(id);
            let digits = hash.get(..HASH_BYTES).map(hex::encode).unwrap_or_default();
            // Another prefix: no plain id can be written to look like a hash.
            format!("apih-{digits}")
        };
        CallId::parse(&text).ok()
    }
}

impl JsonDoor {
    /// Answers with where to connect the call. The same call again gets the same answer and no second handoff.
    pub async fn answer(&self, call: JsonCall, request_id: &str) -> JsonAnswer {
        let policy = self.inbound.policies.current();
        let Some(call_id) = call.call_id() else {
            return JsonAnswer::NotNow;
        };
        let arrival = Arrival {
            call_id,
            caller: call.caller,
            called: Some(call.called),
            door: Ingress::Api,
        };
        match self.inbound.route(&arrival, &policy, request_id).await {
            Routed::Answered(document) => JsonAnswer::of_document(document),
            Routed::Past => JsonAnswer::Past,
            Routed::Unknown => JsonAnswer::NotNow,
        }
    }

    /// Takes note of how a call ended, `talked_s` seconds after it was answered. The first outcome stands; it corrects a call that was closed
    /// because nobody had reported.
    pub async fn end(&self, call_id: &CallId, outcome: ReportedOutcome, talked_s: u32) -> EndTaken {
        if !call_id.is_of_json_door() {
            return EndTaken::NotOurs;
        }
        let Inbound {
            claims,
            clock,
            recorder,
            ..
        } = &self.inbound;
        let _in_hand = claims.take_in_hand(call_id).await;
        let Some(stored) = claims.call_within(call_id, PATIENCE).await else {
            return EndTaken::NotNow;
        };
        match stored.state.outcome() {
            Some(known) if known == outcome => return EndTaken::Noted,
            Some(known) => return EndTaken::Contradicts(known),
            None => {}
        }
        let state = stored.state.clone().outcome_reported(outcome);
        let talked = (outcome == ReportedOutcome::Answered).then_some(talked_s);
        let event = |after| Event::CallEnded {
            outcome,
            talked_s,
            after,
        };
        let (records, known) = reported(stored, &state, clock.now(), talked, event);
        let recorded = recorder.append(records, PATIENCE).await;
        claims.update(recorded, known, None);
        EndTaken::Noted
    }
}

impl JsonAnswer {
    /// A document says itself whether there is somebody to connect to.
    fn of_document(document: String) -> Self {
        #[derive(Deserialize)]
        struct Glance {
            connect: Option<IgnoredAny>,
            #[serde(flatten)]
            nobody: Nobody,
        }
        match serde_json::from_str::<Glance>(&document) {
            Ok(Glance {
                connect: Some(_), ..
            }) => Self::Connect(document),
            Ok(Glance {
                connect: None,
                nobody,
            }) => Self::Nobody(nobody),
            Err(error) => {
                tracing::error!(event = "call.unreadable", error = %error, "the stored answer of a call cannot be read");
                Self::NotNow
            }
        }
    }
}

/// The answer as it is stored and given.
#[derive(Serialize)]
struct Document<'a> {
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
    connect: Option<To>,
    plan: &'a [DialerId],
    routing_ms: Option<u64>,
}

/// Where to connect the call, with the headers of a SIP leg.
#[derive(Serialize)]
struct To {
    #[serde(flatten)]
    connect: Connect,
    headers: BTreeMap<&'static str, String>,
}

/// What the outcome of a handoff looks like through this door.
pub(super) fn answer(
    call: &Arrival,
    policy: &Policy,
    fleet: &Fleet,
    decision: &Decision,
    handed: &Handed,
    state: CallState,
    routing_ms: Option<u64>,
) -> LastWords<String> {
    let words = outcome(call, policy, fleet, decision, handed, state);
    let document = Document {
        call_id: &call.call_id,
        caller: call.caller.masked(),
        called: call.called.as_deref(),
        status: words.state.status().as_str(),
        tier: decision.tier.as_ref(),
        score: decision.score,
        rule: decision.rule.as_deref(),
        reason: words.reason.as_str(),
        dialer: words.state.dialer(),
        certainty: match words.answer {
            Answer::Connect { certainty, .. } => Some(certainty),
            Answer::Hold | Answer::LastResort | Answer::Goodbye | Answer::Nothing => None,
        },
        connect: words.response,
        plan: &decision.plan.dialers,
        routing_ms,
    };
    LastWords {
        // Names, numbers and text: there is nothing in it that JSON cannot say.
        response: serde_json::to_string(&document).unwrap_or_default(),
        answer: words.answer,
        state: words.state,
        reason: words.reason,
    }
}

/// The dialer that took the call, else the last resort, else nobody.
fn outcome(
    call: &Arrival,
    policy: &Policy,
    fleet: &Fleet,
    decision: &Decision,
    handed: &Handed,
    state: CallState,
) -> LastWords<Option<To>> {
    if let HandoffResult::Connect {
        dialer,
        certainty,
        reference,
    } = &handed.result
        && let Some(dialer) = fleet.get(dialer)
    {
        let words = connected(
            &dialer,
            *certainty,
            reference.clone(),
            state,
            decision.reason,
        );
        return LastWords {
            state: recordable(words.state, &call.caller),
            ..words
        };
    }
    let reason = handed.reason_or(decision.reason);
    match &policy.last_resort {
        Some(number) => LastWords {
            response: Some(To {
                connect: Connect::Number(number.clone()),
                headers: BTreeMap::new(),
            }),
            answer: Answer::LastResort,
            state: state.dialing_last_resort(number),
            reason,
        },
        None => LastWords {
            response: None,
            answer: Answer::Nothing,
            state: state.ended(Disposition::Failed),
            reason,
        },
    }
}

fn connected(
    dialer: &Dialer,
    certainty: Certainty,
    reference: Option<String>,
    state: CallState,
    reason: Reason,
) -> LastWords<Option<To>> {
    let state = state.dialing(dialer.id(), reference);
    let headers = dialer.sip_headers(state.reference()).into_iter().collect();
    LastWords {
        response: Some(To {
            connect: dialer.connect().clone(),
            headers,
        }),
        answer: Answer::Connect {
            dialer: dialer.id().clone(),
            certainty,
        },
        state,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call_id(external_id: &str) -> String {
        let call = JsonCall {
            external_id: external_id.to_owned(),
            caller: Caller::Withheld,
            called: String::new(),
        };
        call.call_id().unwrap().as_str().to_owned()
    }

    #[test]
    fn a_call_keeps_the_askers_id_where_that_is_an_id_and_a_hash_of_it_otherwise() {
        assert_eq!(call_id("pbx-4711"), "api-pbx-4711");
        assert_eq!(call_id(&"x".repeat(60)).len(), 64);
        assert_eq!(call_id("a/b"), "apih-c14cddc033f64b9dea80ea675cf280a0");
        assert_eq!(call_id(&"x".repeat(61)).len(), 37);
        assert_ne!(call_id("a/b"), call_id("a/c"));
    }

    #[test]
    fn no_id_of_an_asker_is_one_of_twilio_or_looks_like_the_hash_of_another() {
        let twilio = "CA00000000000000000000000000000001";
        assert_eq!(call_id(twilio), format!("api-{twilio}"));
        let hashed = call_id("a/b");
        let imitations = [
            hashed.clone(),
            hashed.replace("apih-", ""),
            format!("h{hashed}"),
        ];
        for imitation in imitations {
            assert_ne!(call_id(&imitation), hashed);
        }
    }

    #[test]
    fn a_document_says_whether_there_is_somebody_to_connect_to() {
        let connect = r#"{"call_id":"api-1","reason":"rule_matched","connect":{"kind":"number"}}"#;
        let answer = JsonAnswer::of_document(connect.to_owned());
        assert_eq!(answer, JsonAnswer::Connect(connect.to_owned()));
        let nobody = r#"{"call_id":"api-1","reason":"no_dialer_available","connect":null}"#;
        let expected = Nobody {
            call_id: "api-1".to_owned(),
            reason: "no_dialer_available".to_owned(),
        };
        let answer = JsonAnswer::of_document(nobody.to_owned());
        assert_eq!(answer, JsonAnswer::Nobody(expected));
        let answer = JsonAnswer::of_document("<Response/>".to_owned());
        assert_eq!(answer, JsonAnswer::NotNow);
    }
}

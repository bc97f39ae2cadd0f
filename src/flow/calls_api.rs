//! The Calls API: a call that arrived elsewhere (a PBX, Zendesk) is routed by the same walk, and the answer says where to connect it.
//!
//! The client holds the call: it is connected there, and all that is heard of it is what the client reports when it is over. So an answered
//! call is `dialing` until then, or until it is closed as `unknown`; it never counts as on the line, and it is never held or failed over:
//! where no dialer takes it, the last-resort number is named, or nothing.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use super::answering::Calls;
use super::inbound::Inbound;
use super::record::{Repeated, reported};
use crate::audit::Event;
use crate::call::{CallId, InboundCall, ReportedOutcome};
use crate::phone::Caller;

/// How long reading and recording the report of an end may take each.
const PATIENCE: Duration = Duration::from_secs(2);
/// An id of this many characters still fits a call id with the prefix before it.
const MAX_PLAIN_ID: usize = 60;
/// How much of a hash names a call: 128 bits.
const HASH_BYTES: usize = 16;

/// A call that arrived elsewhere.
#[derive(Clone, Debug)]
pub struct ApiCall {
    /// What the client calls it; the same id is the same call.
    pub external_id: String,
    pub caller: Caller,
    /// What was called, as received.
    pub called: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiAnswer {
    /// Where to connect the call, or what the rules want instead: a JSON document, the same bytes for the same call.
    Connect(String),
    /// No dialer can take the call, and there is no last resort. It is recorded, and answered so every time.
    NoDialer(Unroutable),
    /// The call was routed long ago, and its answer is not kept: its caller was erased, or its records have passed their time.
    Past,
    /// The call is known and its answer cannot be had now. Asking again is safe.
    NotNow,
}

/// What the report of an end came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReported {
    /// Now, or by a report before this one.
    Recorded,
    /// Another outcome was reported before.
    Contradicts(ReportedOutcome),
    /// The carrier reports the end of this call.
    NotOurs,
    /// The call cannot be had now. Reporting again is safe.
    NotNow,
}

/// A call that no dialer can take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Unroutable {
    pub call_id: String,
    pub reason: String,
}

impl ApiCall {
    /// The id under which the call is kept: derived from the client's, so that a repeat finds it, and never one of Twilio's, so that nobody
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

impl Inbound {
    /// Answers with where to connect the call. The same call again gets the same answer and no second handoff.
    pub async fn answer_api(&self, call: ApiCall, request_id: &str) -> ApiAnswer {
        let Some(call_id) = call.call_id() else {
            return ApiAnswer::NotNow;
        };
        let call = InboundCall {
            call_id,
            caller: call.caller,
            called: Some(call.called),
        };
        let policy = self.calls.policies.current();
        match self.route(&call, policy, request_id).await {
            Ok(document) | Err(Repeated::Answered(document)) => ApiAnswer::of_document(document),
            Err(Repeated::Past) => ApiAnswer::Past,
        }
    }
}

impl Calls {
    /// Records how a call of the Calls API ended, `talked_s` seconds after it was answered. The first outcome stands; it corrects a call that
    /// was closed because no end had been reported.
    pub async fn end_reported(
        &self,
        call_id: &CallId,
        outcome: ReportedOutcome,
        talked_s: u32,
        by: &str,
    ) -> EndReported {
        if !call_id.is_of_calls_api() {
            return EndReported::NotOurs;
        }
        let _lock = self.locks.lock(call_id).await;
        let Some(stored) = self.locks.call_within(call_id, PATIENCE).await else {
            return EndReported::NotNow;
        };
        match stored.state.outcome() {
            Some(known) if known == outcome => return EndReported::Recorded,
            Some(known) => return EndReported::Contradicts(known),
            None => {}
        }
        let state = stored.state.clone().outcome_reported(outcome);
        let talked = (outcome == ReportedOutcome::Answered).then_some(talked_s);
        let by = by.to_owned();
        let event = Event::CallEnded {
            outcome,
            talked_s,
            by,
        };
        let (records, known) = reported(stored, &state, self.clock.now(), talked, event);
        let recorded = self.recorder.append(records, PATIENCE).await;
        self.update(recorded, known, None);
        EndReported::Recorded
    }
}

impl ApiAnswer {
    /// A document says itself whether there is a line to connect to.
    fn of_document(document: String) -> Self {
        #[derive(Deserialize)]
        struct Glance {
            connect: Option<IgnoredAny>,
            /// The rules want it so: there is nothing to wait for.
            course: Option<IgnoredAny>,
            #[serde(flatten)]
            unroutable: Unroutable,
        }
        match serde_json::from_str::<Glance>(&document) {
            Ok(
                Glance {
                    connect: Some(_), ..
                }
                | Glance {
                    course: Some(_), ..
                },
            ) => Self::Connect(document),
            Ok(Glance {
                connect: None,
                course: None,
                unroutable,
            }) => Self::NoDialer(unroutable),
            Err(error) => {
                tracing::error!(event = "call.unreadable", error = %error, "the stored answer of a call cannot be read");
                Self::NotNow
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call_id(external_id: &str) -> String {
        let call = ApiCall {
            external_id: external_id.to_owned(),
            caller: Caller::Withheld,
            called: String::new(),
        };
        call.call_id().unwrap().as_str().to_owned()
    }

    #[test]
    fn a_call_keeps_the_clients_id_where_that_is_an_id_and_a_hash_of_it_otherwise() {
        assert_eq!(call_id("pbx-4711"), "api-pbx-4711");
        assert_eq!(call_id(&"x".repeat(60)).len(), 64);
        assert_eq!(call_id("a/b"), "apih-c14cddc033f64b9dea80ea675cf280a0");
        assert_eq!(call_id(&"x".repeat(61)).len(), 37);
        assert_ne!(call_id("a/b"), call_id("a/c"));
    }

    #[test]
    fn no_id_of_a_client_is_one_of_twilio_or_looks_like_the_hash_of_another() {
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
    fn a_document_says_where_to_connect() {
        let connect = r#"{"call_id":"api-1","reason":"rule_matched","connect":{"kind":"number"}}"#;
        let answer = ApiAnswer::of_document(connect.to_owned());
        assert_eq!(answer, ApiAnswer::Connect(connect.to_owned()));
        let closed =
            r#"{"call_id":"api-1","reason":"closed","course":{"is":"closed"},"connect":null}"#;
        let answer = ApiAnswer::of_document(closed.to_owned());
        assert_eq!(answer, ApiAnswer::Connect(closed.to_owned()));
        let none = r#"{"call_id":"api-1","reason":"no_dialer_available","connect":null}"#;
        let expected = Unroutable {
            call_id: "api-1".to_owned(),
            reason: "no_dialer_available".to_owned(),
        };
        let answer = ApiAnswer::of_document(none.to_owned());
        assert_eq!(answer, ApiAnswer::NoDialer(expected));
        let answer = ApiAnswer::of_document("<Response/>".to_owned());
        assert_eq!(answer, ApiAnswer::NotNow);
    }
}

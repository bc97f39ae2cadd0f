//! `/calls`: the door for calls that arrived elsewhere, and what became of every call.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;

use super::super::auth::{Admin, Viewer};
use super::super::error::{ApiError, Kind};
use super::super::overload::Overload;
use super::super::server::RequestId;
use super::body::JsonObject;
use super::page::Asked;
use super::{Reads, data, document};
use crate::call::{CallId, Disposition, EndReason, LegStatus, Status};
use crate::flow::{JsonAnswer, JsonCall, JsonDoor};
use crate::lead::{LeadScore, TierName};
use crate::phone::Caller;
use crate::routing::{DialerId, Reason, RulesetVersion};
use crate::store::{Direction, StoredCall, StoredLeg};

/// A number, a SIP address: real ones are far shorter.
const MAX_ADDRESS: usize = 256;
const MAX_EXTERNAL_ID: usize = 128;

/// Routes a call that arrived elsewhere: 201 with the decision and where to connect. The same `external_id` again gets the same answer.
pub(super) async fn route(
    _: Admin,
    State(door): State<JsonDoor>,
    State(overload): State<Overload>,
    Extension(request_id): Extension<RequestId>,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let call = read(&body)?;
    let Some(_in_hand) = overload.admit() else {
        return Err(unavailable(
            "More calls than this machine can take; connect the caller without it, or try again.",
        ));
    };
    if let Some(call_id) = call.call_id() {
        tracing::Span::current().record("call_sid", call_id.as_str());
    }
    match door.answer(call, &request_id.0).await {
        JsonAnswer::Connect(call) => {
            let text = format!("{{\"data\":{call}}}");
            Ok(document(StatusCode::CREATED, text))
        }
        JsonAnswer::Nobody(nobody) => Err(unavailable(
            "No dialer can take the call, and no last-resort number is configured.",
        )
        .with("call_id", nobody.call_id)
        .with("reason", nobody.reason)),
        JsonAnswer::NotNow => Err(unavailable(
            "The answer of this call cannot be had now; ask again with the same external_id.",
        )),
    }
}

fn unavailable(message: &'static str) -> ApiError {
    ApiError::new(Kind::Unavailable, message)
}

/// Every field is told what is wrong with it, all at once.
fn read(body: &JsonObject) -> Result<JsonCall, ApiError> {
    let external_id = body.text("external_id", MAX_EXTERNAL_ID);
    let caller = body.text("caller", MAX_ADDRESS).and_then(caller);
    let called = body.text("called", MAX_ADDRESS).and_then(called);
    match (external_id, caller, called) {
        (Ok(external_id), Ok(caller), Ok(called)) => Ok(JsonCall {
            external_id: external_id.to_owned(),
            caller,
            called: called.to_owned(),
        }),
        (external_id, caller, called) => {
            let wrong = [
                ("external_id", external_id.err()),
                ("caller", caller.err()),
                ("called", called.err()),
            ];
            let error = ApiError::new(
                Kind::Validation,
                "The call cannot be routed: see details for what is wrong with each field.",
            );
            let add = |error: ApiError, (name, wrong): (&str, Option<String>)| match wrong {
                Some(wrong) => error.with(name, wrong),
                None => error,
            };
            Err(wrong.into_iter().fold(error, add))
        }
    }
}

fn caller(text: &str) -> Result<Caller, String> {
    match Caller::classify(text) {
        caller @ (Caller::Number(_) | Caller::Withheld | Caller::Sip { .. }) => Ok(caller),
        Caller::National(_) => Err("must have its country code, as in +4930123456".to_owned()),
        Caller::Client(_) | Caller::Unreadable(_) => {
            Err("must be a number like +4930123456, a SIP address, or anonymous".to_owned())
        }
    }
}

fn called(text: &str) -> Result<&str, String> {
    match Caller::classify(text) {
        Caller::Number(_) | Caller::Sip { .. } => Ok(text),
        Caller::Withheld | Caller::National(_) | Caller::Client(_) | Caller::Unreadable(_) => {
            Err("must be a number like +4930123456 or a SIP address".to_owned())
        }
    }
}

/// A call as the API shows it; numbers are masked.
#[derive(Serialize)]
struct ShownCall {
    call_id: CallId,
    caller: Option<String>,
    called: Option<String>,
    status: Status,
    disposition: Option<Disposition>,
    reason: Reason,
    tier: Option<TierName>,
    score: Option<LeadScore>,
    rule: Option<String>,
    ruleset: RulesetVersion,
    dialer: Option<DialerId>,
    failed_over: bool,
    held: bool,
    started_at: Timestamp,
    answered_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    routing_ms: Option<u64>,
    legs: Vec<ShownLeg>,
}

#[derive(Serialize)]
struct ShownLeg {
    leg_id: CallId,
    parent: Option<CallId>,
    direction: Direction,
    dialer: Option<DialerId>,
    step: Option<u32>,
    status: &'static str,
    end_reason: Option<EndReason>,
    sip_code: Option<u16>,
    duration_s: Option<u32>,
    ringing_at: Option<Timestamp>,
    answered_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

impl ShownCall {
    fn new(stored: StoredCall, legs: Vec<StoredLeg>) -> Self {
        let masked = |text: Option<String>| text.map(|text| Caller::classify(&text).masked());
        Self {
            call_id: stored.id,
            caller: masked(stored.personal.caller),
            called: masked(stored.personal.called),
            status: stored.status,
            disposition: stored.disposition,
            reason: stored.reason,
            tier: stored.tier,
            score: stored.score,
            rule: stored.rule,
            ruleset: stored.ruleset,
            dialer: stored.dialer,
            failed_over: stored.failed_over,
            held: stored.held,
            started_at: stored.started_at,
            answered_at: stored.answered_at,
            ended_at: stored.ended_at,
            routing_ms: stored.routing_ms,
            legs: legs.into_iter().map(ShownLeg::new).collect(),
        }
    }
}

impl ShownLeg {
    fn new(stored: StoredLeg) -> Self {
        let (status, end_reason) = match stored.status {
            LegStatus::Initiated => ("initiated", None),
            LegStatus::Ringing => ("ringing", None),
            LegStatus::Answered => ("answered", None),
            LegStatus::Ended(reason) => ("ended", Some(reason)),
        };
        Self {
            leg_id: stored.leg,
            parent: stored.parent,
            direction: stored.direction,
            dialer: stored.dialer,
            step: stored.step,
            status,
            end_reason,
            sip_code: stored.sip_code,
            duration_s: stored.duration_s,
            ringing_at: stored.ringing_at,
            answered_at: stored.answered_at,
            ended_at: stored.ended_at,
        }
    }
}

/// Calls in progress, newest first.
pub(super) async fn active(
    _: Viewer,
    State(reads): State<Reads>,
    Query(asked): Query<Asked>,
) -> Result<Response, ApiError> {
    let page = asked.page()?;
    let (stored, total) = reads.active_calls(page.depth()).await?;
    let mut calls = Vec::new();
    for call in page.cut(stored) {
        let legs = reads.legs(&call.id).await?;
        calls.push(ShownCall::new(call, legs));
    }
    Ok(page.list(&calls, total))
}

/// One call with its legs.
pub(super) async fn one(
    _: Viewer,
    State(reads): State<Reads>,
    Path(call_id): Path<String>,
) -> Result<Response, ApiError> {
    let call = match CallId::parse(&call_id) {
        Ok(call_id) => reads.call(&call_id).await?,
        // What cannot be the id of a call is the id of none.
        Err(_) => None,
    };
    let (call, legs) = call.ok_or_else(|| ApiError::not_found("There is no such call."))?;
    Ok(data(ShownCall::new(call, legs)))
}

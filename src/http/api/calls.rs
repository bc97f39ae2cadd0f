//! `/calls`: the door for calls that arrived elsewhere, and what became of every call.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::super::auth::{Admin, Viewer};
use super::super::error::{ApiError, ErrorDocument, ErrorKind};
use super::super::keys::Holder;
use super::super::listener::RequestId;
use super::super::overload::Overload;
use super::call_filters::{self, FilterParams};
use super::fields::{self, CheckedFields, JsonObject, one_of};
use super::page::{Data, List, PageParams, PageRequest, data};
use super::reads::Reads;
use super::reveal::{Numbers, Reveal};
use crate::call::{CallId, Disposition, EndReason, LegStatus, ReportedOutcome, Status};
use crate::flow::{ApiAnswer, ApiCall, Calls, EndReported, Inbound};
use crate::lead::{LeadScore, TierName};
use crate::phone::Caller;
use crate::routing::{DialerId, Reason, RulesetVersion};
use crate::store::{CallSearch, CallsAsked, LegDirection, StoredCall, StoredLeg};

/// A number, a SIP address: real ones are far shorter.
const MAX_ADDRESS: usize = 256;
const MAX_EXTERNAL_ID: usize = 128;
const MAX_TALK_S: u32 = 86_400;

/// A call that arrived elsewhere.
#[derive(Serialize, ToSchema)]
#[schema(as = NewCall)]
pub(super) struct NewCallRequest {
    /// Who calls: a number with its country code, a SIP address, or `anonymous`.
    #[schema(
        min_length = 1,
        max_length = 256,
        pattern = "^(\\+[1-9][0-9]{6,14}|anonymous|sip:[A-Za-z0-9._-]+@[A-Za-z0-9.-]+)$",
        example = "+491700000090"
    )]
    caller: String,
    /// What was called: a number with its country code, or a SIP address.
    #[schema(
        min_length = 1,
        max_length = 256,
        pattern = "^(\\+[1-9][0-9]{6,14}|sip:[A-Za-z0-9._-]+@[A-Za-z0-9.-]+)$",
        example = "+493012345600"
    )]
    called: String,
    /// What the asker calls it: the same id is the same call.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = "^[A-Za-z0-9_-]+$",
        example = "pbx-4711"
    )]
    external_id: String,
}

/// Where to connect a call that arrived elsewhere.
#[derive(Serialize, ToSchema)]
pub(super) struct RoutedCall {
    call_id: String,
    caller: String,
    called: Option<String>,
    status: Status,
    tier: Option<String>,
    score: Option<f64>,
    rule: Option<String>,
    reason: Reason,
    dialer: Option<String>,
    /// `confirmed`; `unconfirmed` where the dialer did not answer in time; `unannounced` where it refused this request, or limits our requests,
    /// and is otherwise well; null for the last resort.
    certainty: Option<String>,
    /// Where the rules ask no dialer: `{is: number|reject|message|closed}`; absent elsewhere.
    #[schema(value_type = Option<Object>, required = false)]
    course: serde_json::Value,
    /// Where to connect the call: `{kind, value, headers}`; null where the rules want that it is not.
    #[schema(value_type = Option<Object>)]
    connect: serde_json::Value,
    /// The dialers that were to be asked, in order.
    plan: Vec<String>,
    routing_ms: Option<u64>,
}

/// Routes a call that arrived elsewhere: the decision, and where to connect.
///
/// The same `external_id` again gets the same answer and no second handoff.
#[utoipa::path(
    post,
    path = "/calls",
    request_body = NewCallRequest,
    responses(
        (status = 201, description = "Connect the call as `connect` says.", body = Data<RoutedCall>),
        (status = 409, description = "This call was routed before, and its answer is not kept any more.", body = ErrorDocument),
        (status = 503, description = "No dialer can take the call, or not now.", body = ErrorDocument),
    )
)]
pub(super) async fn route(
    _: Admin,
    State(inbound): State<Inbound>,
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
    match inbound.answer_api(call, &request_id.0).await {
        ApiAnswer::Connect(call) => {
            let json = [(header::CONTENT_TYPE, "application/json")];
            let text = format!("{{\"data\":{call}}}");
            Ok((StatusCode::CREATED, json, text).into_response())
        }
        ApiAnswer::NoDialer(call) => Err(unavailable(
            "No dialer can take the call, and no last-resort number is configured.",
        )
        .with("call_id", call.call_id)
        .with("reason", call.reason)),
        ApiAnswer::Past => Err(ApiError::new(
            ErrorKind::Conflict,
            "A call of this external_id was routed before, and its answer is not kept any more.",
        )),
        ApiAnswer::NotNow => Err(unavailable(
            "The answer of this call cannot be had now; ask again with the same external_id.",
        )),
    }
}

fn unavailable(message: &'static str) -> ApiError {
    ApiError::new(ErrorKind::Unavailable, message)
}

fn read(body: &JsonObject) -> Result<ApiCall, ApiError> {
    let mut fields = CheckedFields::default();
    let external_id = fields.check("external_id", body.text("external_id", MAX_EXTERNAL_ID));
    let from = body.text("caller", MAX_ADDRESS).and_then(caller);
    let to = body.text("called", MAX_ADDRESS).and_then(called);
    let (from, to) = (fields.check("caller", from), fields.check("called", to));
    match (external_id, from, to) {
        (Some(external_id), Some(caller), Some(called)) => Ok(ApiCall {
            external_id: external_id.to_owned(),
            caller,
            called: called.to_owned(),
        }),
        _ => Err(fields.failure("The call cannot be routed")),
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

/// How a call ended that was routed by `POST /calls`.
#[derive(Serialize, ToSchema)]
pub(super) struct CallEnd {
    /// How it ended.
    outcome: ReportedOutcome,
    /// How long caller and agent talked, in seconds; 0 where it is left out.
    #[schema(required = false, minimum = 0, maximum = 86_400, example = 190)]
    talked_s: u32,
}

/// Takes the end of a call that was routed by `POST /calls`. The same outcome again changes nothing; another one is refused.
///
/// A call whose end is not reported is closed as `unknown` after `[routing] api_calls_end_after`; a report after that corrects it.
#[utoipa::path(
    post,
    path = "/calls/{call_id}/ended",
    params(("call_id" = String, Path, description = "The id that `POST /calls` gave.", example = "api-pbx-4711")),
    request_body = CallEnd,
    responses(
        (status = 204, description = "It is noted."),
        (status = 404, description = "There is no such call.", body = ErrorDocument),
        (status = 409, description = "Another outcome was reported before, or Twilio reports the end of this call.", body = ErrorDocument),
    )
)]
pub(super) async fn ended(
    Admin(holder): Admin,
    State(calls): State<Calls>,
    State(reads): State<Reads>,
    Path(call_id): Path<String>,
    body: JsonObject,
) -> Result<StatusCode, ApiError> {
    let (outcome, talked_s) = read_end(&body)?;
    let (StoredCall { id, .. }, _) = reads.known_call(&call_id).await?;
    tracing::Span::current().record("call_sid", id.as_str());
    match calls
        .end_reported(&id, outcome, talked_s, &holder.name)
        .await
    {
        EndReported::Recorded => Ok(StatusCode::NO_CONTENT),
        EndReported::Contradicts(known) => Err(ApiError::new(
            ErrorKind::Conflict,
            "Another outcome of this call is known already, and stands.",
        )
        .with("outcome", known.as_str())),
        EndReported::NotOurs => Err(ApiError::new(
            ErrorKind::Conflict,
            "This call came by Twilio, which reports its end.",
        )),
        EndReported::NotNow => Err(unavailable("The end cannot be noted now; report it again.")),
    }
}

fn read_end(body: &JsonObject) -> Result<(ReportedOutcome, u32), ApiError> {
    let mut fields = CheckedFields::default();
    let outcome = body
        .text("outcome", MAX_EXTERNAL_ID)
        .and_then(|text| one_of(text, ReportedOutcome::ALL, ReportedOutcome::as_str));
    let outcome = fields.check("outcome", outcome);
    let talked_s = match body.0.get("talked_s") {
        None | Some(serde_json::Value::Null) => Some(0),
        Some(given) => fields.check("talked_s", seconds(given)),
    };
    outcome
        .zip(talked_s)
        .ok_or_else(|| fields.failure("The request cannot be read"))
}

/// JSON may write a whole number with a point: 60.0.
fn seconds(given: &serde_json::Value) -> Result<u32, String> {
    let is_good =
        |seconds: &f64| seconds.fract() == 0.0 && (0.0..=f64::from(MAX_TALK_S)).contains(seconds);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and within its bounds"
    )]
    let whole = given.as_f64().filter(is_good).map(|seconds| seconds as u32);
    whole.ok_or_else(|| format!("must be a whole number of seconds, 0 to {MAX_TALK_S}"))
}

/// What was called, as it was typed: a number or a SIP address.
pub(super) fn called(text: &str) -> Result<&str, String> {
    match Caller::classify(text) {
        Caller::Number(_) | Caller::Sip { .. } => Ok(text),
        Caller::Withheld | Caller::National(_) | Caller::Client(_) | Caller::Unreadable(_) => {
            Err("must be a number like +4930123456 or a SIP address".to_owned())
        }
    }
}

/// A call as the API shows it; numbers are masked unless they were asked for.
#[derive(Serialize, ToSchema)]
#[schema(as = Call)]
pub(in super::super) struct CallDocument {
    /// Twilio's CallSid, or an id of ours for a call of the JSON door.
    #[schema(value_type = String, example = "CA0123456789abcdef0123456789abcdef")]
    call_id: CallId,
    /// The caller: a masked number, or what kind of caller.
    #[schema(example = "+**********90")]
    caller: Option<String>,
    /// Names the caller, as in `/callers/{id}`; says nothing of the number. Null where the number is withheld or was erased.
    #[schema(example = "17")]
    caller_id: Option<String>,
    /// The number of ours that was called.
    called: Option<String>,
    /// Where it stands.
    status: Status,
    /// How it counts; set exactly when it has ended.
    #[schema(nullable)]
    disposition: Option<Disposition>,
    /// Why it went as it went.
    reason: Reason,
    /// The caller's lead-score class.
    #[schema(value_type = Option<String>, example = "hot")]
    tier: Option<TierName>,
    /// The caller's lead score.
    #[schema(value_type = Option<f64>, example = 90)]
    score: Option<LeadScore>,
    /// The rule that matched; null for the default.
    rule: Option<String>,
    /// The rule set that decided.
    #[schema(value_type = String, example = "1f0c9d7e2b3a")]
    ruleset: RulesetVersion,
    /// The dialer that was dialled last; null for the last resort.
    #[schema(value_type = Option<String>, example = "dialfire")]
    dialer: Option<DialerId>,
    /// The last-resort number, masked, where the call was put through to it.
    #[schema(example = "+*********79")]
    last_resort: Option<String>,
    /// It went to another dialer than the first of its plan.
    failed_over: bool,
    /// It was on hold.
    held: bool,
    /// When it arrived.
    started_at: Timestamp,
    /// When an agent answered.
    answered_at: Option<Timestamp>,
    /// When it ended.
    ended_at: Option<Timestamp>,
    /// Arrival to answer of the first webhook, in milliseconds.
    routing_ms: Option<u64>,
    /// The machine that decided it, where that was another one: there it counts. Empty where that one has no name.
    #[schema(example = "a")]
    adopted_from: Option<String>,
    /// Its connections, in the order in which they were heard of.
    legs: Vec<LegDocument>,
}

/// A connection to one party.
#[derive(Serialize, ToSchema)]
#[schema(as = Leg)]
pub(in super::super) struct LegDocument {
    /// Twilio's CallSid of the leg.
    #[schema(value_type = String)]
    leg_id: CallId,
    /// The leg it is a child of.
    #[schema(value_type = Option<String>)]
    parent: Option<CallId>,
    /// Which way it was set up.
    direction: LegDirection,
    /// The dialer that was dialled; null for the caller's own leg and that of the last resort.
    #[schema(value_type = Option<String>)]
    dialer: Option<DialerId>,
    /// The last-resort number, masked, where that was dialled.
    last_resort: Option<String>,
    /// Which dial of the call made it, from 1.
    step: Option<u32>,
    /// `initiated`, `ringing`, `answered` or `ended`.
    status: &'static str,
    /// How it ended, as the carrier says.
    #[schema(nullable)]
    end_reason: Option<EndReason>,
    /// The final SIP answer.
    sip_code: Option<u16>,
    /// Seconds.
    duration_s: Option<u32>,
    ringing_at: Option<Timestamp>,
    answered_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

impl CallDocument {
    pub(in super::super) fn new(stored: StoredCall, legs: Vec<StoredLeg>, shown: Numbers) -> Self {
        let number = |text: Option<String>| {
            text.map(|text| match shown {
                Numbers::Masked => Caller::classify(&text).masked(),
                Numbers::Full => text,
            })
        };
        let last_resort = stored.state.last_resort().map(str::to_owned);
        let is_somebody = !matches!(stored.personal.caller(), Caller::Withheld);
        let caller_row = stored.caller_row.filter(|_| is_somebody);
        let leg = |leg: StoredLeg| {
            let number = last_resort.clone().filter(|_| leg.is_last_resort);
            LegDocument::new(leg, number)
        };
        Self {
            legs: legs.into_iter().map(leg).collect(),
            call_id: stored.id,
            caller: number(stored.personal.caller),
            caller_id: caller_row.map(|row| row.to_string()),
            called: number(stored.personal.called),
            status: stored.status,
            disposition: stored.disposition,
            reason: stored.reason,
            tier: stored.tier,
            score: stored.score,
            rule: stored.rule,
            ruleset: stored.ruleset,
            dialer: stored.dialer,
            last_resort,
            failed_over: stored.failed_over,
            held: stored.held,
            started_at: stored.started_at,
            answered_at: stored.answered_at,
            ended_at: stored.ended_at,
            routing_ms: stored.routing_ms,
            adopted_from: stored.adopted_from,
        }
    }
}

impl LegDocument {
    fn new(stored: StoredLeg, last_resort: Option<String>) -> Self {
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
            last_resort,
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

/// Which calls. Without a field, calls are not filtered by it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct CallsParams {
    /// Where they stand.
    status: Option<Status>,
    /// How they ended.
    disposition: Option<Disposition>,
    /// The dialer that was dialled last, or `last_resort`.
    #[param(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9_-]+$",
        example = "dialfire"
    )]
    dialer: Option<String>,
    /// The caller's lead-score class; `none` for those without.
    #[param(
        min_length = 1,
        max_length = 64,
        pattern = "^[^\\s\\p{C}]+$",
        example = "hot"
    )]
    tier: Option<String>,
    /// Arrived at or after this time, ISO 8601.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Arrived before this time, ISO 8601.
    #[param(format = DateTime)]
    to: Option<String>,
    /// Affected by this incident; of one with many calls, the first 500.
    #[param(
        min_length = 1,
        max_length = 160,
        pattern = "^[A-Za-z0-9_-]+$",
        example = "routing_failure_rate-1795723764873"
    )]
    incident: Option<String>,
    /// Searches a caller's number (`+4930123456`, also `0049…` and with spaces or dashes), a call id, or the beginning of one.
    #[param(
        min_length = 1,
        max_length = 64,
        pattern = "^(\\+[1-9][0-9]{6,14}|[A-Za-z0-9_-]+)$",
        example = "CA0123456789abcdef0123456789abcdef"
    )]
    q: Option<String>,
}

fn calls_asked(fields: &mut CheckedFields) -> CallsAsked {
    CallsAsked {
        status: fields.one_of("status", Status::ALL, Status::as_str),
        disposition: fields.one_of("disposition", Disposition::ALL, Disposition::as_str),
        dialer: fields.read("dialer", |text| {
            CallId::parse(text)
                .map(|_| text.to_owned())
                .map_err(|_| "must be the name of a dialer".to_owned())
        }),
        tier: fields.text("tier", 64),
        from: fields.time("from"),
        to: fields.time("to"),
        incident: fields.read("incident", |text| {
            let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            let is_one = (1..=160).contains(&text.len()) && text.bytes().all(is_id);
            let wrong = || "must be the id of an incident".to_owned();
            is_one.then(|| text.to_owned()).ok_or_else(wrong)
        }),
        search: fields.read("q", search),
        ..CallsAsked::default()
    }
}

/// A number where it can be one, else a part of a call id.
pub(super) fn search(text: &str) -> Result<CallSearch, String> {
    if let Some(number) = fields::number(text) {
        return Ok(CallSearch::Caller(number.as_str().to_owned()));
    }
    let text = text.trim();
    CallId::parse(text)
        .map(|id| CallSearch::IdPrefix(id.as_str().to_owned()))
        .map_err(|_| "must be a number like +4930123456, or the beginning of a call id".to_owned())
}

/// Calls, newest first.
///
/// A filter that fits few calls is tried on 2,000 at a time: the page may then be short, and its `next_cursor` goes on.
///
/// More than the last two digits of a caller's number are asked for by operators, are written down, and are 30 different ones a minute at most. A
/// whole number with its `+` is found by an index, and whoever has it needs no other right.
#[utoipa::path(
    get,
    path = "/calls",
    params(CallsParams, FilterParams, PageParams, Reveal),
    responses(
        (status = 200, description = "A page of calls.", body = List<CallDocument>),
        (status = 429, description = "This key has searched for 30 ends of numbers within a minute.", body = ErrorDocument),
    )
)]
pub(super) async fn list(
    Viewer(holder): Viewer,
    State(reads): State<Reads>,
    Extension(request_id): Extension<RequestId>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let mut asked = calls_asked(&mut fields);
    call_filters::read(&mut fields, &mut asked);
    if fields.is_right() {
        reads
            .search_digits(&asked.filter, &holder, &request_id)
            .await?;
    }
    page(&reads, fields, asked, "/calls", &holder, &request_id).await
}

/// Calls in progress, newest first.
#[utoipa::path(
    get,
    path = "/calls/active",
    params(PageParams, Reveal),
    responses((status = 200, description = "A page of the calls in progress.", body = List<CallDocument>))
)]
pub(super) async fn active(
    Viewer(holder): Viewer,
    State(reads): State<Reads>,
    Extension(request_id): Extension<RequestId>,
    fields: CheckedFields,
) -> Result<Response, ApiError> {
    let asked = CallsAsked {
        in_progress: true,
        ..CallsAsked::default()
    };
    page(&reads, fields, asked, "/calls/active", &holder, &request_id).await
}

async fn page(
    reads: &Reads,
    mut fields: CheckedFields,
    asked: CallsAsked,
    route: &'static str,
    holder: &Holder,
    request_id: &RequestId,
) -> Result<Response, ApiError> {
    let (page, reveal) = (PageRequest::read(&mut fields), fields.flag("reveal"));
    fields.verdict()?;
    let rows = reads
        .ask(reads.store.calls_page(asked, page.part()))
        .await?;
    let numbers = reads
        .numbers(reveal, rows.rows.len(), route, holder, request_id)
        .await?;
    Ok(page.list(rows, |(call, legs)| CallDocument::new(call, legs, numbers)))
}

/// One call with its legs.
#[utoipa::path(
    get,
    path = "/calls/{call_id}",
    params(("call_id" = String, Path, description = "Twilio's CallSid, or the id that the JSON door gave.", example = "CA0123456789abcdef0123456789abcdef"), Reveal),
    responses((status = 200, description = "The call.", body = Data<CallDocument>))
)]
pub(super) async fn one(
    Viewer(holder): Viewer,
    State(reads): State<Reads>,
    Extension(request_id): Extension<RequestId>,
    Path(call_id): Path<String>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let reveal = fields.flag("reveal");
    fields.verdict()?;
    let (call, legs) = reads.known_call(&call_id).await?;
    let route = "/calls/{call_id}";
    let numbers = reads
        .numbers(reveal, 1, route, &holder, &request_id)
        .await?;
    Ok(data(CallDocument::new(call, legs, numbers)))
}

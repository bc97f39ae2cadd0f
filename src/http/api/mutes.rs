//! `/alerts/mutes`: for which incidents nobody is told for a while. Beside it, what else has an end: a dialer that is taken out.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::{Operator, Viewer};
use super::super::error::{ApiError, ErrorDocument, ErrorKind};
use super::dialers::Dialers;
use super::fields::{self, CheckedFields, JsonObject};
use super::page::{Data, List, data, whole};
use super::reads::Reads;
use crate::alerts::{IncidentKind, Mute, MuteError, NewMute};
use crate::routing::DialerId;

/// Characters of a reason.
const MAX_REASON: usize = 200;

impl MuteError {
    fn into_api(self) -> ApiError {
        let kind = match self {
            Self::TooMany => ErrorKind::Conflict,
            Self::Unknown => return ApiError::not_found("There is no such mute, or it is over."),
            Self::Integrity | Self::NoEnd | Self::Begin | Self::End => ErrorKind::Validation,
        };
        ApiError::new(kind, format!("Nothing is muted: {self}."))
    }
}

/// Mutes that are in force or planned, by when they begin.
#[utoipa::path(
    get,
    path = "/alerts/mutes",
    operation_id = "mutes",
    responses((status = 200, description = "All of them.", body = List<Mute>))
)]
pub(super) async fn list(_: Viewer, State(reads): State<Reads>) -> Response {
    whole(reads.incidents.mutes())
}

/// What is to be muted, and how long: exactly one of `for` and `until`.
#[derive(Serialize, ToSchema)]
#[schema(as = NewMute)]
pub(super) struct MuteRequest {
    /// Incidents of this kind only. Those about the audit log cannot be muted.
    #[schema(nullable = false, example = "dialer_down")]
    kind: Option<String>,
    /// Incidents about this dialer only.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9_-]+$",
        example = "dialfire"
    )]
    dialer: Option<String>,
    /// When it begins, now or within 30 days: a planned window. Without it, now.
    #[schema(nullable = false, format = DateTime, min_length = 20, max_length = 64)]
    from: Option<String>,
    /// How long: up to 24 hours.
    #[schema(
        nullable = false,
        pattern = "^([1-9]|1[0-9]|2[0-4])h$|^[1-9][0-9]{0,2}m$|^1d$",
        example = "1h"
    )]
    r#for: Option<String>,
    /// When it ends, at most 24 hours after it began.
    #[schema(nullable = false, format = DateTime, min_length = 20, max_length = 64)]
    until: Option<String>,
    /// Why. Everybody who may see incidents reads it.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[ -~]*[!-~][ -~]*$",
        example = "the carrier works on its lines"
    )]
    reason: String,
}

/// Mutes incidents of a kind, about a dialer, or all but those about the audit log: nobody is told that they open, stay open or are over. One
/// that is open when the mute ends is told then.
#[utoipa::path(
    post,
    path = "/alerts/mutes",
    operation_id = "mute",
    request_body = MuteRequest,
    responses(
        (status = 201, description = "It is in force, or planned.", body = Data<Mute>),
        (status = 409, description = "There are too many.", body = ErrorDocument),
    )
)]
pub(super) async fn add(
    Operator(holder): Operator,
    State(reads): State<Reads>,
    State(dialers): State<Dialers>,
    body: JsonObject,
) -> Result<Response, ApiError> {
    body.only(&["kind", "dialer", "from", "for", "until", "reason"])?;
    let mut fields = CheckedFields::default();
    let kind = body.has("kind").then(|| {
        let text = body.text("kind", 64)?;
        fields::one_of(text, IncidentKind::ALL, IncidentKind::as_str)
    });
    let kind = kind.and_then(|kind| fields.check("kind", kind));
    let dialer = body.has("dialer").then(|| body.text("dialer", 64));
    let dialer = dialer.and_then(|dialer| fields.check("dialer", dialer));
    let from = moment(&body, "from").and_then(|from| fields.check("from", from));
    let (length, until) = end(&body, &mut fields);
    let reason = body.text("reason", MAX_REASON);
    let reason = fields.check("reason", reason).map(ToOwned::to_owned);
    let (Some(reason), true) = (reason, fields.is_right()) else {
        return Err(fields.failure("Nothing is muted"));
    };
    if let Some(dialer) = dialer
        && dialers.drains.status(&DialerId::new(dialer)).is_none()
    {
        return Err(dialers.unknown(dialer));
    }
    let new = NewMute {
        kind,
        dialer: dialer.map(ToOwned::to_owned),
        from,
        length_ms: length.map(|length| i64::try_from(length.as_millis()).unwrap_or(i64::MAX)),
        until,
        reason,
    };
    let made = reads.incidents.mute(new, &holder.name).await;
    let made = made.map_err(MuteError::into_api)?;
    Ok((StatusCode::CREATED, data(made)).into_response())
}

/// Ends a mute before its time: what is open is told then.
#[utoipa::path(
    delete,
    path = "/alerts/mutes/{id}",
    operation_id = "unmute",
    params(("id" = String, Path, description = "The mute's id.", example = "mute-1790000000000")),
    responses((status = 204, description = "It is over."))
)]
pub(super) async fn remove(
    Operator(holder): Operator,
    State(reads): State<Reads>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let ended = reads.incidents.unmute(&id, &holder.name).await;
    ended.map_err(MuteError::into_api)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Why a dialer is taken out, and for how long: at most one of `for` and `until`.
#[derive(Serialize, ToSchema)]
#[schema(as = TakeOut)]
pub(super) struct TakeOutRequest {
    /// Why. Everybody who may see dialers reads it.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 200,
        pattern = "^[ -~]*[!-~][ -~]*$",
        example = "new firmware"
    )]
    reason: Option<String>,
    /// How long; then it comes back by itself.
    #[schema(nullable = false, pattern = "^[1-9][0-9]{0,2}[mhd]$", example = "2h")]
    r#for: Option<String>,
    /// When it comes back by itself, in the future.
    #[schema(nullable = false, format = DateTime, min_length = 20, max_length = 64)]
    until: Option<String>,
}

/// Reason and end of what a body asks for; an empty body asks for neither.
pub(super) fn take_out(
    body: &[u8],
    now: Timestamp,
) -> Result<(Option<String>, Option<Timestamp>), ApiError> {
    if body.is_empty() {
        return Ok((None, None));
    }
    let body = JsonObject::parse(body)?;
    body.only(&["reason", "for", "until"])?;
    let mut fields = CheckedFields::default();
    let reason = body
        .has("reason")
        .then(|| body.text("reason", MAX_REASON).map(ToOwned::to_owned));
    let reason = reason.and_then(|reason| fields.check("reason", reason));
    let (length, until) = end(&body, &mut fields);
    let after = length.and_then(|length| now.checked_add(length).ok());
    let until = after.or(until);
    if until.is_some_and(|until| until <= now) {
        fields.check::<()>("until", Err("must be in the future".to_owned()));
    }
    if fields.is_right() {
        Ok((reason, until))
    } else {
        Err(fields.failure("The dialer is not taken out"))
    }
}

/// For how long, or until when; not both.
fn end(
    body: &JsonObject,
    fields: &mut CheckedFields,
) -> (Option<SignedDuration>, Option<Timestamp>) {
    let length = body.0.get("for").map(|text| {
        let text = text.as_str().unwrap_or_default();
        length(text).ok_or_else(|| "must be a number and a unit, like 30m, 2h or 1d".to_owned())
    });
    let length = length.and_then(|length| fields.check("for", length));
    let until = moment(body, "until").and_then(|until| fields.check("until", until));
    if length.is_some() && until.is_some() {
        fields.check::<()>(
            "until",
            Err("stands beside `for`: send one of them".to_owned()),
        );
    }
    (length, until)
}

fn moment(body: &JsonObject, name: &str) -> Option<Result<Timestamp, String>> {
    let value = body.0.get(name)?;
    let read = value.as_str().and_then(|text| text.parse().ok());
    Some(read.ok_or_else(|| "must be a time like 2126-11-26T12:00:00Z".to_owned()))
}

/// `30m`, `2h`, `1d`.
fn length(text: &str) -> Option<SignedDuration> {
    let unit = text.strip_suffix(['m', 'h', 'd'])?;
    let is_plain = (1..=3).contains(&unit.len()) && unit.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = unit
        .parse()
        .ok()
        .filter(|_| is_plain && !unit.starts_with('0'))?;
    Some(match text.as_bytes().last() {
        Some(b'm') => SignedDuration::from_mins(number),
        Some(b'h') => SignedDuration::from_hours(number),
        _ => SignedDuration::from_hours(24 * number),
    })
}

/// What the schemas of this file cannot say by themselves.
pub(in super::super) fn constrain(schemas: &mut Value) {
    let muted = IncidentKind::ALL.iter().filter(|kind| kind.may_be_muted());
    let kinds: Vec<&str> = muted.map(|kind| kind.as_str()).collect();
    if let Some(kind) = schemas.pointer_mut("/NewMute/properties/kind") {
        kind["enum"] = kinds.into();
    }
    let ends = ["for", "until"].map(|end| serde_json::json!({ "required": [end] }));
    if let Some(new) = schemas.get_mut("NewMute") {
        new["oneOf"] = ends.to_vec().into();
        new["additionalProperties"] = false.into();
    }
    if let Some(out) = schemas.get_mut("TakeOut") {
        out["not"] = serde_json::json!({ "required": ["for", "until"] });
        out["additionalProperties"] = false.into();
    }
}

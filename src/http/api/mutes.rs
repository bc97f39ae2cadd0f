//! `/alerts/mutes`: for which incidents nobody is told for a while.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::super::auth::{Operator, Viewer};
use super::super::error::{ApiError, ErrorKind};
use super::fields::JsonObject;
use super::page::{Data, List, data, whole};
use super::reads::Reads;
use crate::alerts::{Mute, NewMute};

/// Mutes that are in force or planned, by when they begin.
#[utoipa::path(
    get,
    path = "/alerts/mutes",
    operation_id = "mutes",
    responses((status = 200, description = "All of them.", body = List<Mute>))
)]
pub(super) async fn all(_: Viewer, State(reads): State<Reads>) -> Response {
    whole(reads.incidents.mutes())
}

/// Mutes incidents of a kind, about a dialer, or all but those about the audit log: nobody is told that they open, stay open or are over. One
/// that is open when the mute ends is told then.
#[utoipa::path(
    post,
    path = "/alerts/mutes",
    operation_id = "mute",
    request_body = NewMute,
    responses((status = 201, description = "It is in force, or planned.", body = Data<Mute>))
)]
pub(super) async fn add(
    Operator(holder): Operator,
    State(reads): State<Reads>,
    body: JsonObject,
) -> Result<Response, ApiError> {
    let made = reads.incidents.mute(body.read()?, &holder.name).await;
    let made =
        made.map_err(|why| ApiError::new(ErrorKind::Validation, format!("Not muted: {why}.")))?;
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
) -> Result<StatusCode, ApiError> {
    let is_ended = reads.incidents.unmute(&id, &holder.name).await;
    let unknown = || ApiError::not_found("There is no such mute, or it is over.");
    is_ended
        .then_some(StatusCode::NO_CONTENT)
        .ok_or_else(unknown)
}

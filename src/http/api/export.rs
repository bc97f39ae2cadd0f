//! `/logs/export`: a slice of the log that verifies by itself.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use jiff::Timestamp;
use utoipa::IntoParams;

use super::super::auth::Viewer;
use super::super::error::{ApiError, ErrorDocument, ErrorKind};
use super::fields::CheckedFields;
use super::reads::Reads;

/// Which records. Without a field, all that are signed.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct SliceParams {
    /// Made at or after this time, ISO 8601.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Made before this time, ISO 8601.
    #[param(format = DateTime)]
    to: Option<String>,
}

/// Records as they are stored, a JSON object a line, with the signed head of the log and the proof that they are in it.
///
/// `switchboard audit verify --export FILE` verifies the file by itself. Numbers are masked. Records that were made since the head was signed, seconds
/// ago, are left out. The whole log is read for it, so one is made at a time.
#[utoipa::path(
    get,
    path = "/logs/export",
    tag = "logs",
    params(SliceParams),
    responses(
        (status = 200, description = "The slice.", body = String, content_type = "application/x-ndjson"),
        (status = 409, description = "Nothing in the log is signed yet.", body = ErrorDocument),
    )
)]
pub(super) async fn slice(
    _: Viewer,
    State(reads): State<Reads>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let (from, to) = (fields.time("from"), fields.time("to"));
    fields.verdict()?;
    let ms = Timestamp::as_millisecond;
    let made_at = from.map_or(i64::MIN, ms)..to.map_or(i64::MAX, ms);
    let permit = reads.walks.acquire().await.ok_or_else(ApiError::busy)?;
    let pieces = reads.store.slice(made_at, permit).await;
    let mut pieces = pieces.map_err(ApiError::store)?.ok_or_else(|| {
        let message = "Nothing in the log is signed yet; try again in a moment.";
        ApiError::new(ErrorKind::Conflict, message)
    })?;
    // It may be polled behind its end, by what compresses it.
    let body = stream::poll_fn(move |context| pieces.poll_recv(context));
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"audit.jsonl\"",
        ),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

//! `/reveals`: who saw numbers of callers in full.

use axum::extract::State;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use utoipa::IntoParams;

use super::super::auth::Viewer;
use super::super::error::ApiError;
use super::fields::CheckedFields;
use super::page::{List, whole};
use super::reads::Reads;
use crate::store::Reveals;

/// The period.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct RevealsParams {
    /// At or after this time, ISO 8601. Without it, 30 days before `to`.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Before this time, ISO 8601. Without it, until now.
    #[param(format = DateTime)]
    to: Option<String>,
}

/// Who saw numbers in full in a period, each with how often; who did last comes first, at most 1,000 of them. The records are those of
/// `/logs?kind=accessed` and `kind=exported`.
#[utoipa::path(
    get,
    path = "/reveals",
    operation_id = "reveals",
    params(RevealsParams),
    responses((status = 200, description = "A person each.", body = List<Reveals>))
)]
pub(super) async fn all(
    _: Viewer,
    State(reads): State<Reads>,
    mut fields: CheckedFields,
) -> Result<Response, ApiError> {
    let (from, to) = (fields.time("from"), fields.time("to"));
    fields.verdict()?;
    let end = to.unwrap_or_else(|| reads.clock.now());
    let month = end.saturating_sub(SignedDuration::from_hours(30 * 24));
    let from = from
        .or(month.ok())
        .map_or(i64::MIN, Timestamp::as_millisecond);
    let to = to.map_or(i64::MAX, Timestamp::as_millisecond);
    Ok(whole(reads.ask(reads.store.reveals(from, to)).await?))
}

//! `/lookup`: how it stands with Braze, and trying its key again.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::{Admin, Viewer};
use super::dialers::RefusedCredentials;
use super::page::{Data, data};
use crate::braze::LookupStatus;
use crate::clock::Clock;
use crate::flow::Retries;
use crate::routing::BreakerView;

/// How it stands with Braze.
#[derive(Serialize, ToSchema)]
#[schema(as = Lookup)]
pub(super) struct LookupDocument {
    /// `braze`.
    name: &'static str,
    /// `closed` (well), or `open`: it is not asked for callers, but for a trial.
    state: &'static str,
    breaker: BreakerView,
    /// Why it is open; null where it is not.
    reason: Option<String>,
    /// Since when, where that is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// The key, where it refuses it; null where it does not.
    refused: Option<RefusedCredentials>,
}

impl LookupDocument {
    fn new(status: LookupStatus, clock: &Clock) -> Self {
        let refused = status.refused.as_ref();
        Self {
            name: "braze",
            state: if status.is_open { "open" } else { "closed" },
            breaker: status.breaker,
            since: status.since.map(|since| clock.time_of(since)),
            refused: refused
                .map(|refused| RefusedCredentials::new(refused, clock.time_of(refused.next_try))),
            reason: status.why,
        }
    }
}

/// How it stands with Braze.
#[utoipa::path(
    get,
    path = "/lookup",
    tag = "lookup",
    responses((status = 200, description = "How it stands.", body = Data<LookupDocument>))
)]
pub(super) async fn current(_: Viewer, State(retries): State<Retries>) -> Response {
    data(LookupDocument::new(retries.braze.status(), &retries.clock))
}

/// Tries a key that Braze refuses at once, by one request. Where it is not refused, nothing is sent.
#[utoipa::path(
    post,
    path = "/lookup/retry",
    tag = "lookup",
    responses((status = 200, description = "How it stands afterwards.", body = Data<LookupDocument>))
)]
pub(super) async fn retry(Admin(holder): Admin, State(retries): State<Retries>) -> Response {
    let status = retries.braze(&holder.name).await;
    data(LookupDocument::new(status, &retries.clock))
}

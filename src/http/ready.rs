//! `GET /ready`: whether a call that came now would be decided and recorded.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::flow::{Canary, SelfCheck};
use crate::lifecycle::Lifecycle;

#[derive(Serialize)]
struct ReadyDocument {
    ready: bool,
    status: &'static str,
    checks: Vec<SelfCheck>,
}

/// 200 while calls can be decided and recorded; 503 otherwise, and while the process finishes what is in hand.
pub(super) async fn ready(
    State(canary): State<Canary>,
    State(lifecycle): State<Lifecycle>,
) -> Response {
    let checks = canary.checks();
    let status = if lifecycle.is_draining() {
        "draining"
    } else if checks.iter().all(|check| check.ok) {
        "ready"
    } else {
        "failing"
    };
    let ready = status == "ready";
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = ReadyDocument {
        ready,
        status,
        checks,
    };
    (code, Json(body)).into_response()
}

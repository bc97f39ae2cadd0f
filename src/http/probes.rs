//! What monitoring asks: `/health`, `/ready` and `/metrics`.

use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

use super::keys::Keys;
use super::limit::{ConcurrencyLimit, limited};
use super::parts::SharedParts;
use super::refusals::RefusedRequest;
use crate::audit::Fingerprint;
use crate::flow::{Canary, SelfCheck};
use crate::lifecycle::Lifecycle;
use crate::store::KeyRing;
use crate::twilio::SourceAddress;

/// Requests of monitoring at the same time.
const PROBES: usize = 8;

pub(super) fn router(metrics: Option<PrometheusHandle>) -> Router<SharedParts> {
    let limit = ConcurrencyLimit::new(PROBES);
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route(
            "/metrics",
            get(move |State(keys): State<Keys>, request: Request| {
                std::future::ready(render_metrics(metrics.as_ref(), &keys, &request))
            }),
        )
        .route_layer(middleware::from_fn_with_state(limit, limited))
}

#[derive(Serialize)]
struct ReadyDocument {
    ready: bool,
    status: &'static str,
    checks: Vec<SelfCheck>,
}

/// 200 while calls can be decided and recorded; 503 otherwise, and while the process finishes what is in hand.
async fn ready(State(canary): State<Canary>, State(lifecycle): State<Lifecycle>) -> Response {
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

/// The process is up. Nothing else is asked, but by `doctor` whether the secret is the same; the answer is of no use to anybody else.
async fn health(
    State(key_ring): State<KeyRing>,
    RawQuery(query): RawQuery,
) -> Json<serde_json::Value> {
    let version = env!("CARGO_PKG_VERSION");
    let asked = query.filter(|query| query.starts_with("asked="));
    let Some(asked) = asked else {
        return Json(serde_json::json!({ "status": "ok", "version": version }));
    };
    let random = asked.get(6..22).unwrap_or_default();
    let is_same = same_secret_question(&key_ring, random) == asked;
    Json(serde_json::json!({ "status": "ok", "version": version, "same_secret": is_same }))
}

/// The query that asks `/health` whether it has the secret of this key ring: 16 random characters and their keyed hash.
pub fn same_secret_question(key_ring: &KeyRing, random: &str) -> String {
    let hash = Fingerprint::of(&key_ring.secret(), ["same secret", random]);
    format!("asked={random}{}", hash.as_str())
}

/// Prometheus' text format, for this machine and for who has a key.
fn render_metrics(handle: Option<&PrometheusHandle>, keys: &Keys, request: &Request) -> Response {
    let Some(handle) = handle else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let source = request.extensions().get::<SourceAddress>();
    let is_here = source.is_some_and(|SourceAddress(source)| source.to_canonical().is_loopback());
    if is_here || keys.known(request.headers()).is_some() {
        return handle.render().into_response();
    }
    metrics::counter!("switchboard_auth_failures_total", "reason" => "metrics").increment(1);
    RefusedRequest::because("metrics").mark(StatusCode::FORBIDDEN.into_response())
}

//! All routes, and what lies around them.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRef, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ipnet::IpNet;
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::catch_panic::CatchPanicLayer;

use super::client_address::client_address;
use super::profile_push::{self, ProfilePush};
use super::server::PeerAddr;
use super::voice::{self, Safety};
use crate::clock::Clock;
use crate::flow::{DialEnds, Holds, Inbound, Policies, Recorder, StatusReports};
use crate::lifecycle::Lifecycle;
use crate::twilio::{Edge, SourceAddress};

/// Everything the routes are made of. Handlers take the parts that they use, never the whole.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Reads time.
    pub clock: Clock,
    /// Verifies Twilio's webhooks.
    pub edge: Edge,
    /// What is in force.
    pub policies: Policies,
    /// Writes things down.
    pub recorder: Recorder,
    /// Answers calls that arrive.
    pub inbound: Inbound,
    /// Answers the end of a dial.
    pub dial_ends: DialEnds,
    /// Answers callers who wait.
    pub holds: Holds,
    /// Takes note of status callbacks.
    pub status_reports: StatusReports,
    /// Takes profile pushes.
    pub profile_push: ProfilePush,
    /// Starts work that has to end.
    pub lifecycle: Lifecycle,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Renders the metrics; `None` where another part of the process owns them.
    pub metrics: Option<PrometheusHandle>,
}

/// What the handlers are given: each takes the part that it uses, and a part is one pointer.
#[derive(Clone)]
struct Doors {
    edge: Edge,
    inbound: Arc<Inbound>,
    dial_ends: Arc<DialEnds>,
    holds: Arc<Holds>,
    status_reports: Arc<StatusReports>,
    profile_push: Arc<ProfilePush>,
    safety: Arc<Safety>,
}

/// All doors behind one pointer, so that a request costs one reference count.
#[derive(Clone)]
struct AllDoors(Arc<Doors>);

macro_rules! door {
    ($part:ident: $of:ty) => {
        impl FromRef<AllDoors> for $of {
            fn from_ref(doors: &AllDoors) -> Self {
                doors.0.$part.clone()
            }
        }
    };
}

door!(edge: Edge);
door!(inbound: Arc<Inbound>);
door!(dial_ends: Arc<DialEnds>);
door!(holds: Arc<Holds>);
door!(status_reports: Arc<StatusReports>);
door!(profile_push: Arc<ProfilePush>);
door!(safety: Arc<Safety>);

/// The router of the appliance.
pub fn router(parts: Parts) -> Router {
    let safety = Arc::new(Safety {
        clock: parts.clock,
        policies: parts.policies,
        recorder: parts.recorder,
        lifecycle: parts.lifecycle,
    });
    let blind = Arc::clone(&safety);
    let doors = Doors {
        edge: parts.edge,
        inbound: Arc::new(parts.inbound),
        dial_ends: Arc::new(parts.dial_ends),
        holds: Arc::new(parts.holds),
        status_reports: Arc::new(parts.status_reports),
        profile_push: Arc::new(parts.profile_push),
        safety,
    };
    let proxies = parts.trusted_proxies;
    let twilio = Router::new()
        .route("/webhooks/twilio", post(voice::inbound).get(voice::inbound))
        .route("/webhooks/twilio/dial", post(voice::dial).get(voice::dial))
        .route("/webhooks/twilio/hold", post(voice::hold).get(voice::hold))
        .route(
            "/webhooks/twilio/status",
            post(voice::status).get(voice::status),
        )
        .route(
            "/webhooks/twilio/fallback",
            post(voice::fallback).get(voice::fallback),
        )
        // The wildcard takes at least one character.
        .route(
            "/webhooks/twilio/",
            get(voice::unknown_path).post(voice::unknown_path),
        )
        .route(
            "/webhooks/twilio/{*rest}",
            get(voice::unknown_path).post(voice::unknown_path),
        )
        .layer(CatchPanicLayer::custom(
            move |panic: Box<dyn Any + Send>| safe_after_panic(&blind, &*panic),
        ));
    let metrics = parts.metrics;
    Router::new()
        .merge(twilio)
        .route("/webhooks/braze", post(profile_push::push))
        .route("/health", get(health))
        .route(
            "/metrics",
            get(move |request: Request| {
                std::future::ready(render_metrics(metrics.as_ref(), &request))
            }),
        )
        .layer(middleware::from_fn_with_state(proxies, note_source_address))
        .with_state(AllDoors(Arc::new(doors)))
}

/// A panic is a defect, but the caller hears something useful all the same.
fn safe_after_panic(safety: &Safety, panic: &(dyn Any + Send)) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    metrics::counter!("switchboard_panics_total").increment(1);
    tracing::error!(
        event = "http.panic",
        error = message,
        "a handler panicked; the caller gets the safe answer"
    );
    safety.blind_answer().into_response()
}

/// Works out where a request comes from, before anything else looks at it.
async fn note_source_address(
    State(proxies): State<Arc<[IpNet]>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(PeerAddr(peer)) = request.extensions().get().copied() {
        let source = client_address(peer.ip(), request.headers(), &proxies);
        request.extensions_mut().insert(SourceAddress(source));
    }
    next.run(request).await
}

/// The process is up. Nothing else is asked.
async fn health() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// Prometheus' text format, for this machine only.
fn render_metrics(handle: Option<&PrometheusHandle>, request: &Request) -> Response {
    let source = request
        .extensions()
        .get::<SourceAddress>()
        .map(|SourceAddress(address)| *address);
    match (handle, source) {
        (Some(handle), Some(source)) if is_loopback(source) => handle.render().into_response(),
        (Some(_), _) => StatusCode::FORBIDDEN.into_response(),
        (None, _) => StatusCode::NOT_FOUND.into_response(),
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

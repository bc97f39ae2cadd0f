//! All routes, and what lies around them.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{FromRef, FromRequest, Request, State};
use axum::http::header::STRICT_TRANSPORT_SECURITY;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use ipnet::IpNet;
use metrics_exporter_prometheus::PrometheusHandle;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;

use super::api::{self, Customers, Reads, ShownSettings};
use super::auth::{Admin, Keys};
use super::client_address::client_address;
use super::cors;
use super::docs;
use super::events::Events;
use super::limit::{ConcurrencyLimit, limited};
use super::openapi;
use super::overload::Overload;
use super::pages::{self, DemoDoor, OptionalDemo};
use super::profile_push::{self, ProfilePush};
use super::ready;
use super::refusals::{Refusals, RefusedRequest};
use super::server::PeerAddr;
use super::sessions::Sessions;
use super::voice::{self, Genuine, Safety};
use crate::alerts::Incidents;
use crate::clock::Clock;
use crate::dialer::Fleet;
use crate::flow::{
    Canary, DialEnds, Drains, Holds, Inbound, JsonDoor, Policies, Recorder, Reloads, Retries,
    StatusReports,
};
use crate::lifecycle::Lifecycle;
use crate::twilio::{Edge, SIGNATURE, SourceAddress};

/// Requests of monitoring at the same time.
const PROBES: usize = 8;

/// Everything the routes are made of. Handlers take the parts that they use, never the whole.
#[derive(Clone, Debug)]
pub struct Parts {
    pub clock: Clock,
    pub edge: Edge,
    pub policies: Policies,
    pub recorder: Recorder,
    pub inbound: Inbound,
    /// Answers the end of a dial.
    pub dial_ends: DialEnds,
    pub holds: Holds,
    /// Takes note of status callbacks.
    pub status_reports: StatusReports,
    pub profile_push: ProfilePush,
    /// Who may use the API.
    pub keys: Keys,
    pub sessions: Sessions,
    pub refusals: Refusals,
    /// Tells of changes as they happen.
    pub events: Events,
    /// Turns fresh calls away when there are too many.
    pub overload: Overload,
    /// Takes dialers out and puts them back.
    pub drains: Drains,
    pub retries: Retries,
    /// Knows whether calls can be decided and recorded.
    pub canary: Canary,
    pub reloads: Reloads,
    pub reads: Reads,
    /// Looks numbers up for people.
    pub customers: Customers,
    /// What the configuration in force says.
    pub settings: ShownSettings,
    /// Starts work that has to end.
    pub lifecycle: Lifecycle,
    /// Serves the description of the API.
    pub docs: bool,
    /// Origins whose pages may use the API with a key.
    pub cors_origins: Arc<[String]>,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Renders the metrics; `None` where another part of the process owns them.
    pub metrics: Option<PrometheusHandle>,
    /// What the demo adds; `None` outside of it.
    pub demo: Option<DemoDoor>,
}

/// All parts behind one pointer, so that a request costs one reference count.
pub(super) type SharedParts = Arc<Parts>;

/// Lets handlers extract parts with `State`.
macro_rules! extract {
    ($($part:ty: $($field:ident).+;)*) => {
        $(impl FromRef<SharedParts> for $part {
            fn from_ref(parts: &SharedParts) -> Self {
                parts.$($field).+.clone()
            }
        })*
    };
}

extract! {
    Inbound: inbound;
    DialEnds: dial_ends;
    Holds: holds;
    StatusReports: status_reports;
    ProfilePush: profile_push;
    Keys: keys;
    Overload: overload;
    Reads: reads;
    Sessions: sessions;
    Events: events;
    Lifecycle: lifecycle;
    Customers: customers;
    ShownSettings: settings;
    Policies: policies;
    Fleet: drains.fleet;
    Incidents: holds.incidents;
    Drains: drains;
    Retries: retries;
    Reloads: reloads;
    Canary: canary;
}

impl FromRef<SharedParts> for JsonDoor {
    fn from_ref(parts: &SharedParts) -> Self {
        Self {
            inbound: parts.inbound.clone(),
        }
    }
}

impl FromRef<SharedParts> for OptionalDemo {
    fn from_ref(parts: &SharedParts) -> Self {
        Self(parts.demo.clone())
    }
}

impl FromRef<SharedParts> for Safety {
    fn from_ref(parts: &SharedParts) -> Self {
        Self {
            clock: parts.clock.clone(),
            edge: parts.edge.clone(),
            policies: parts.policies.clone(),
            recorder: parts.recorder.clone(),
            incidents: parts.holds.incidents.clone(),
            lifecycle: parts.lifecycle.clone(),
        }
    }
}

/// The description of the API, as `OpenAPI` 3.1.
pub fn document() -> serde_json::Value {
    let (_, description) = api::router(Lifecycle::default());
    openapi::complete(description, "/")
}

/// The router of the appliance.
pub fn router(parts: Parts) -> Router {
    let parts = Arc::new(parts);
    let safety = Safety::from_ref(&parts);
    let outer = OuterLayer {
        proxies: Arc::clone(&parts.trusted_proxies),
        refusals: parts.refusals.clone(),
        sessions: parts.sessions.clone(),
    };
    let demo = demo_routes(&parts);
    let twilio = Router::new()
        .route("/webhooks/twilio", post(voice::inbound).get(voice::inbound))
        .route(
            "/webhooks/twilio/",
            post(voice::inbound).get(voice::inbound),
        )
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
        .route(
            "/webhooks/twilio/{*rest}",
            get(voice::unknown_path).post(voice::unknown_path),
        )
        .layer(CatchPanicLayer::custom(
            move |panic: Box<dyn Any + Send>| safe_after_panic(&safety, &*panic),
        ));
    let (api, description) = api::router(parts.lifecycle.clone());
    let origins = Arc::clone(&parts.cors_origins);
    let api = api
        .layer(Extension(parts.sessions.clone()))
        .layer(middleware::from_fn_with_state(origins, cors::allow));
    let base = parts.sessions.site().base.clone();
    let docs = if parts.docs {
        docs::router(&openapi::complete(description, &format!("{base}/")))
    } else {
        Router::new()
    };
    let for_browsers = Router::new()
        .nest("/api/v1", api)
        .merge(pages::router(docs))
        .merge(demo);
    let mut router = Router::new()
        .merge(twilio)
        .route("/webhooks/braze", post(profile_push::push))
        .merge(probes(parts.metrics.clone()))
        .merge(for_browsers.clone());
    router = if base.is_empty() {
        router.fallback(pages::nowhere)
    } else {
        let home = for_browsers
            .fallback(pages::nowhere)
            .with_state(Arc::clone(&parts));
        router.fallback(move |request| below(base.clone(), home.clone(), request))
    };
    router
        .layer(middleware::from_fn_with_state(
            Arc::clone(&parts),
            answer_stray_webhook,
        ))
        .layer(middleware::from_fn_with_state(outer, outer_layer))
        .with_state(parts)
}

/// The links of our pages begin with the path of the public address, which a proxy takes away. Who comes to the listener itself can follow
/// them too.
async fn below(base: String, home: Router, mut request: Request) -> Response {
    let asked = request
        .uri()
        .path_and_query()
        .map_or("", |path| path.as_str());
    let path = match asked.strip_prefix(&base) {
        Some("") => Ok(Uri::from_static("/")),
        Some(path) if path.starts_with(['/', '?']) => path.parse(),
        // No address of ours, which the page for that says.
        Some(_) | None => Ok(request.uri().clone()),
    };
    let Ok(path) = path else {
        return StatusCode::NOT_FOUND.into_response();
    };
    *request.uri_mut() = path;
    match home.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// What the demo adds, behind the same door as everything that changes things.
fn demo_routes(parts: &SharedParts) -> Router<SharedParts> {
    let admins_only = middleware::from_fn_with_state(Arc::clone(parts), admins_only);
    let door = parts.demo.clone();
    door.map_or_else(Router::new, |door| {
        door.routes.route_layer(admins_only).with_state(())
    })
}

async fn admins_only(_: Admin, request: Request, next: Next) -> Response {
    next.run(request).await
}

fn probes(metrics: Option<PrometheusHandle>) -> Router<SharedParts> {
    let limit = ConcurrencyLimit::new(PROBES);
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready::ready))
        .route(
            "/metrics",
            get(move |State(keys): State<Keys>, request: Request| {
                std::future::ready(render_metrics(metrics.as_ref(), &keys, &request))
            }),
        )
        .route_layer(middleware::from_fn_with_state(limit, limited))
}

/// A panic is a defect, but the caller hears something useful all the same. The panic hook counts it.
fn safe_after_panic(safety: &Safety, panic: &(dyn Any + Send)) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(
        event = "http.panic",
        error = message,
        "a handler panicked; the caller gets the safe answer"
    );
    safety.blind_answer().into_response()
}

/// A webhook at a path that is none of a webhook's: the console holds another path of ours, such as the public URL alone. Whoever claims to be
/// Twilio is asked for the signature there as well.
async fn answer_stray_webhook(
    State(parts): State<SharedParts>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let below = path.strip_prefix("/webhooks/twilio");
    let is_at_home = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if is_at_home || !request.headers().contains_key(SIGNATURE) {
        return next.run(request).await;
    }
    match Genuine::from_request(request, &parts).await {
        Ok(genuine) => {
            let safety = Safety::from_ref(&parts);
            voice::unknown_path(State(safety), genuine)
                .await
                .into_response()
        }
        Err(refused) => refused,
    }
}

/// What every request passes first and every answer last.
#[derive(Clone, Debug)]
struct OuterLayer {
    proxies: Arc<[IpNet]>,
    refusals: Refusals,
    sessions: Sessions,
}

/// Works out where a request comes from, before anything else looks at it; counts refusals by that, and tells browsers to come back encrypted
/// where that is how they come.
async fn outer_layer(
    State(outer): State<OuterLayer>,
    mut request: Request,
    next: Next,
) -> Response {
    // Whoever listens to no peer address is on this machine; a source that nobody knows is none.
    let mut source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Some(PeerAddr(peer)) = request.extensions().get().copied() {
        let known = client_address(peer.ip(), request.headers(), &outer.proxies);
        source = known.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        if let Some(source) = known {
            request.extensions_mut().insert(SourceAddress(source));
        }
    }
    let mut response = next.run(request).await;
    if let Some(refused) = response.extensions_mut().remove::<RefusedRequest>() {
        outer.refusals.count(source, &refused).await;
    }
    if outer.sessions.site().is_secure {
        let year = HeaderValue::from_static("max-age=31536000");
        let headers = response.headers_mut();
        headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(year);
    }
    response
}

/// The process is up. Nothing else is asked.
async fn health() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// Prometheus' text format, for this machine and for who has a key.
fn render_metrics(handle: Option<&PrometheusHandle>, keys: &Keys, request: &Request) -> Response {
    let source = request
        .extensions()
        .get::<SourceAddress>()
        .map(|SourceAddress(address)| *address);
    match (handle, source) {
        (Some(handle), Some(source)) if is_loopback(source) => handle.render().into_response(),
        (Some(handle), _) if keys.known(request.headers()).is_some() => {
            handle.render().into_response()
        }
        (Some(_), _) => {
            metrics::counter!("switchboard_auth_failures_total", "reason" => "metrics")
                .increment(1);
            RefusedRequest::because("metrics").mark(StatusCode::FORBIDDEN.into_response())
        }
        (None, _) => StatusCode::NOT_FOUND.into_response(),
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

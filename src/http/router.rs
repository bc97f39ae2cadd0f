//! All routes, and what lies around them.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{FromRef, FromRequest, Request, State};
use axum::handler::Handler;
use axum::http::header::STRICT_TRANSPORT_SECURITY;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use axum::{Extension, Router};
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;

use super::api;
use super::auth::Admin;
use super::client_address::client_address;
use super::cors;
use super::docs;
use super::listener::PeerAddr;
use super::pages;
use super::parts::{RouterParts, SharedParts};
use super::probes;
use super::profile_push;
use super::refusals::RefusedRequest;
use super::sign_in;
use super::voice::{self, Genuine, Safety};
use crate::lifecycle::{Lifecycle, panic_text};
use crate::twilio::{SIGNATURE, SourceAddress};

/// The description of the API, as `OpenAPI` 3.1.
pub fn document() -> serde_json::Value {
    let (_, description) = api::router(Lifecycle::default());
    docs::complete(description, "/")
}

/// The router of the appliance.
pub fn router(parts: RouterParts) -> Router {
    let parts = Arc::new(parts);
    let safety = Safety::from_ref(&parts);
    let admins_only = middleware::from_fn_with_state(Arc::clone(&parts), admins_only);
    // What the demo adds, behind the same door as everything that changes things.
    let demo = parts.demo.clone().map_or_else(Router::new, |demo| {
        demo.routes.route_layer(admins_only).with_state(())
    });
    let twilio = Router::new()
        .route("/webhooks/twilio", both(voice::inbound))
        .route("/webhooks/twilio/", both(voice::inbound))
        .route("/webhooks/twilio/dial", both(voice::dial))
        .route("/webhooks/twilio/hold", both(voice::hold))
        .route("/webhooks/twilio/status", both(voice::status))
        .route("/webhooks/twilio/fallback", both(voice::fallback))
        .route("/webhooks/twilio/{*rest}", both(voice::unknown_path))
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
        docs::router(&docs::complete(description, &format!("{base}/")))
    } else {
        Router::new()
    };
    let for_browsers = Router::new()
        .nest("/api/v1", api)
        .merge(pages::router(docs))
        .merge(sign_in::router())
        .merge(demo);
    let mut router = Router::new()
        .merge(twilio)
        .route("/webhooks/braze", post(profile_push::push))
        .merge(probes::router(parts.metrics.clone()))
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
        .layer(middleware::from_fn_with_state(
            Arc::clone(&parts),
            outer_layer,
        ))
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
    let Ok(response) = home.oneshot(request).await;
    response
}

/// Twilio asks by POST, or by GET where its console says so.
fn both<H: Handler<T, SharedParts>, T: 'static>(webhook: H) -> MethodRouter<SharedParts> {
    post(webhook.clone()).get(webhook)
}

async fn admins_only(_: Admin, request: Request, next: Next) -> Response {
    next.run(request).await
}

/// A panic is a defect, but the caller hears something useful all the same. The panic hook counts it.
fn safe_after_panic(safety: &Safety, panic: &(dyn Any + Send)) -> Response {
    tracing::error!(
        event = "http.panic",
        error = panic_text(panic),
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

/// Works out where a request comes from, before anything else looks at it; counts refusals by that, and tells browsers to come back encrypted
/// where that is how they come.
async fn outer_layer(
    State(parts): State<SharedParts>,
    mut request: Request,
    next: Next,
) -> Response {
    // Whoever listens to no peer address is on this machine; a source that nobody knows is none.
    let mut source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Some(PeerAddr(peer)) = request.extensions().get().copied() {
        let known = client_address(peer.ip(), request.headers(), &parts.trusted_proxies);
        source = known.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        if let Some(source) = known {
            request.extensions_mut().insert(SourceAddress(source));
        }
    }
    let mut response = next.run(request).await;
    if let Some(refused) = response.extensions_mut().remove::<RefusedRequest>() {
        parts.refusals.count(source, &refused).await;
    }
    if parts.sessions.site().is_secure {
        let year = HeaderValue::from_static("max-age=31536000");
        let headers = response.headers_mut();
        headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(year);
    }
    response
}

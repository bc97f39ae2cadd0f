//! `/api/v1`: the API for dashboards, scripts and other front doors. JSON in, JSON out, one shape for every failure.
#![expect(
    unused_qualifications,
    reason = "the description of parameters expands to qualified names"
)]

mod alerts;
mod call_filters;
mod callers;
mod calls;
mod completeness;
mod customers;
mod dialers;
mod drafts;
mod events;
mod export;
mod fields;
mod keys;
mod lists;
mod logs;
mod metrics;
mod mutes;
mod page;
mod quality;
mod reads;
mod record;
mod reveal;
mod reveals;
mod routing;
mod rulesets;
mod session;
mod settings;
mod trace;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use tokio::sync::oneshot;
use tower_http::compression::CompressionLayer;
use tracing::{Instrument, Span};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ApiError, ErrorKind};
use super::limit::ConcurrencyLimit;
use super::listener::RequestId;
use super::parts::SharedParts;
use super::sessions::Sessions;
use crate::clock::Clock;
use crate::lifecycle::Lifecycle;

pub use customers::Customers;
pub(super) use dialers::Dialers;
pub(super) use metrics::Window;
pub use reads::Reads;
pub(super) use session::{address, log_in, record_log_in};
pub use settings::{Setting, SettingsDocument, SettingsKey, ShownSettings};

/// Requests at the same time; a dashboard with its pages open makes a handful.
const PERMITS: usize = 16;

/// The routes below `/api/v1`, and what they say of themselves.
pub(super) fn router(lifecycle: Lifecycle) -> (Router<SharedParts>, OpenApi) {
    let bounds = Bounds {
        requests: ConcurrencyLimit::new(PERMITS),
        body: fields::LIMIT,
    };
    // What holds the text of rules is larger than what else is sent.
    let texts = OpenApiRouter::new()
        .routes(routes!(drafts::text, drafts::save, drafts::remove))
        .routes(routes!(drafts::publish))
        .route_layer(middleware::from_fn_with_state(
            Bounds {
                body: drafts::LARGEST,
                ..bounds.clone()
            },
            authorized_and_limited,
        ));
    let desk = OpenApiRouter::new()
        .routes(routes!(calls::list))
        .routes(routes!(calls::active))
        .routes(routes!(metrics::metrics))
        .routes(routes!(quality::quality))
        .routes(routes!(calls::one))
        .routes(routes!(callers::one, callers::erase))
        .routes(routes!(customers::one, customers::forget))
        .routes(routes!(dialers::all))
        .routes(routes!(dialers::status))
        .routes(routes!(dialers::one))
        .routes(routes!(dialers::drain))
        .routes(routes!(dialers::resume))
        .routes(routes!(dialers::test))
        .routes(routes!(dialers::retry))
        .routes(routes!(dialers::lookup))
        .routes(routes!(dialers::retry_lookup))
        .routes(routes!(logs::list))
        .routes(routes!(logs::of_call))
        .routes(routes!(export::slice))
        .routes(routes!(completeness::findings))
        .routes(routes!(settings::current))
        .routes(routes!(settings::changes))
        .routes(routes!(settings::reload))
        .routes(routes!(routing::rules))
        .routes(routes!(routing::explain))
        .routes(routes!(rulesets::list))
        .routes(routes!(rulesets::one))
        .routes(routes!(rulesets::diff))
        .routes(routes!(lists::all))
        .routes(routes!(lists::entries, lists::add))
        .routes(routes!(lists::remove))
        .routes(routes!(keys::all, keys::make))
        .routes(routes!(keys::revoke))
        .routes(routes!(reveals::all))
        .routes(routes!(alerts::active))
        .routes(routes!(alerts::history))
        .routes(routes!(alerts::test))
        .routes(routes!(alerts::one))
        .routes(routes!(alerts::acknowledge))
        .routes(routes!(mutes::all, mutes::add))
        .routes(routes!(mutes::remove))
        .routes(routes!(events::stream))
        .routes(routes!(drafts::differences))
        .route_layer(CompressionLayer::new())
        .route_layer(middleware::from_fn_with_state(
            bounds,
            authorized_and_limited,
        ));
    // A call does not wait behind pages: it has the limit of calls. Who logs in has no key yet, and log-ins have a limit of their own.
    let doors = OpenApiRouter::new()
        .routes(routes!(calls::route))
        .routes(routes!(calls::ended))
        .routes(routes!(session::begin, session::end));
    let (routes, description) = desk.merge(texts).merge(doors).split_for_parts();
    let routes = routes
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(lifecycle, answer));
    (routes, description)
}

/// How much is answered at the same time, and how large a request may be.
#[derive(Clone, Debug)]
struct Bounds {
    requests: ConcurrencyLimit,
    /// Bytes of its body.
    body: usize,
}

/// Lets so many requests at a time pass: what pages and exports ask must never be felt by a caller. A permit is acquired only with a right to
/// ask and once the whole body is here, so that a slow client keeps nobody out.
async fn authorized_and_limited(
    State(bounds): State<Bounds>,
    Extension(sessions): Extension<Sessions>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(refused) = sessions.asks(&parts) {
        return refused.into_response();
    }
    let body = match fields::whole_body(body, bounds.body).await {
        Ok(body) => body,
        Err(refused) => return refused.into_response(),
    };
    match bounds.requests.acquire().await {
        Some(_permit) => next.run(Request::from_parts(parts, body.into())).await,
        None => ApiError::busy().into_response(),
    }
}

/// Does the work of a request to its end, even where nobody waits for it any more: a call that is being routed is recorded, and a permit
/// is given back only when the database has done its part. Every answer gets the headers of the API, every failure its shape.
async fn answer(
    State(lifecycle): State<Lifecycle>,
    Extension(request_id): Extension<RequestId>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    // The machine's own time, as for everything that is measured of it.
    let clock = Clock::system();
    let (started, method) = (clock.instant(), request.method().clone());
    let (done, answer) = oneshot::channel();
    let work = async move {
        // Whoever asked may be gone.
        drop(done.send(next.run(request).await));
    };
    lifecycle.spawn_transient("api", work.instrument(Span::current()));
    let mut response = match answer.await {
        Ok(response) => shaped(response, &request_id.0),
        // It panicked, which was told and counted, or the process is being aborted.
        Err(_) => ApiError::internal().respond(&request_id.0),
    };
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let took = clock.instant().saturating_duration_since(started);
    ::metrics::histogram!(
        "switchboard_api_request_seconds",
        "route" => route.to_owned(),
        "method" => word_of(&method),
        "status" => response.status().as_str().to_owned(),
    )
    .record(took.as_secs_f64());
    let headers = response.headers_mut();
    let no_store = HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, no_store);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// Methods that somebody makes up share a word, so that nobody makes up figures.
fn word_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// A failure in its shape: ours by its own words, a rejection of the framework by its status. `Allow` stays.
fn shaped(response: Response, request_id: &str) -> Response {
    let error = match response.extensions().get::<ApiError>().cloned() {
        Some(error) => error,
        None if response.status().is_client_error() => ApiError::unreadable(),
        None if response.status().is_server_error() => ApiError::internal(),
        None => return response,
    };
    let mut shaped = error.respond(request_id);
    if let Some(allow) = response.headers().get(header::ALLOW) {
        shaped.headers_mut().insert(header::ALLOW, allow.clone());
    }
    shaped
}

async fn unknown_route(uri: Uri) -> ApiError {
    ApiError::not_found(format!("There is no {} in the API.", uri.path()))
}

async fn wrong_method(method: Method) -> ApiError {
    ApiError::new(
        ErrorKind::MethodNotAllowed,
        format!("{method} is not allowed here; the header Allow says what is."),
    )
}

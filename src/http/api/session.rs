//! `/session`: exchanging a key for a cookie, and giving it back.

use std::net::{IpAddr, Ipv4Addr};

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::error::{ApiError, ErrorDocument, ErrorKind};
use super::super::refusals::RefusedRequest;
use super::super::sessions::{self, NoSession, Sessions};
use super::body::JsonObject;
use super::reads::Reads;
use crate::audit::Access;
use crate::twilio::SourceAddress;

/// A key to exchange.
#[derive(Serialize, ToSchema)]
pub(super) struct LogIn {
    /// The key.
    #[schema(
        min_length = 1,
        max_length = 256,
        pattern = "^[A-Za-z0-9_-]+$",
        example = "swb_…"
    )]
    key: String,
}

/// Exchanges a key for the cookie of a session.
///
/// The session may what the key may, and ends when the key is taken away, after 8 hours without use, or after 7 days. Wrong keys are written
/// down; many from one network are told to wait. A right key always passes.
#[utoipa::path(
    post,
    path = "/session",
    tag = "session",
    security(()),
    request_body = LogIn,
    responses(
        (status = 204, description = "The cookie is set.", headers(("Set-Cookie" = String, description = "The session: HttpOnly, SameSite=Strict, and Secure where the public address is https."))),
        (status = 429, description = "A wrong key, after too many others from this network.", body = ErrorDocument),
    )
)]
pub(super) async fn begin(
    State(sessions): State<Sessions>,
    State(reads): State<Reads>,
    source: Option<Extension<SourceAddress>>,
    headers: HeaderMap,
    body: JsonObject,
) -> Result<Response, ApiError> {
    if sessions.site().is_own(&headers) == Some(false) {
        return Err(sessions::other_site(None));
    }
    let key = body.text("key", 256).map_err(|what| {
        ApiError::new(ErrorKind::Validation, "The key cannot be read.").with("key", what)
    })?;
    let cookie = log_in(&sessions, &reads, key, source).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Begins a session and writes it down; gives the cookie.
pub(in super::super) async fn log_in(
    sessions: &Sessions,
    reads: &Reads,
    key: &str,
    source: Option<Extension<SourceAddress>>,
) -> Result<HeaderValue, ApiError> {
    let source = address(source);
    match sessions.begin(key, source).await {
        Ok(begun) => {
            let access = Access::LoggedIn {
                by: begun.holder.name.to_string(),
                source: source.to_string(),
            };
            reads.record(access).await?;
            tracing::info!(
                event = "auth.logged_in",
                key = &*begun.holder.name,
                "a session begins"
            );
            Ok(begun.cookie)
        }
        Err(NoSession::Unknown) => Err(ApiError::refused(
            ErrorKind::Authentication,
            "The key is not known.",
            RefusedRequest::because("log_in"),
        )),
        Err(NoSession::TooMany) => Err(ApiError::refused(
            ErrorKind::RateLimit,
            "The key is not known, and there were too many wrong ones from this network; wait a few seconds.",
            RefusedRequest::because("too_many"),
        )),
        Err(NoSession::Busy) => Err(ApiError::busy()),
        Err(NoSession::Store(error)) => Err(ApiError::store(error)),
        Err(NoSession::NoRandom) => Err(ApiError::internal()),
    }
}

/// Ends the session of the cookie. Without one there is nothing to end, which is no failure.
#[utoipa::path(
    delete,
    path = "/session",
    tag = "session",
    security((), ("session" = [])),
    responses((status = 204, description = "The cookie is taken away."))
)]
pub(super) async fn end(
    State(sessions): State<Sessions>,
    State(reads): State<Reads>,
    source: Option<Extension<SourceAddress>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if sessions.site().is_own(&headers) != Some(true) && sessions.has_cookie(&headers) {
        return Err(sessions::other_site(None));
    }
    if let Some(holder) = sessions.end(&headers).await {
        let access = Access::LoggedOut {
            by: holder.name.to_string(),
            source: address(source).to_string(),
        };
        reads.record(access).await?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::SET_COOKIE, sessions.cookie("", None));
    headers.insert(
        "clear-site-data",
        HeaderValue::from_static("\"cache\", \"storage\""),
    );
    Ok(response)
}

/// Those of whom nobody knows where they are share an address.
fn address(source: Option<Extension<SourceAddress>>) -> IpAddr {
    source.map_or(
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        |Extension(SourceAddress(address))| address,
    )
}

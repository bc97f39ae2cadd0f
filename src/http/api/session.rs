//! `/session`: exchanging a key for a cookie, and giving it back.

use std::net::{IpAddr, Ipv4Addr};

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::error::{ApiError, ErrorDocument, ErrorKind};
use super::super::sessions::{self, Begun, Sessions};
use super::fields::JsonObject;
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
    let cookie = log_in(&sessions, &reads, key, address(source)).await?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Begins a session and writes it down; gives the cookie.
pub(in super::super) async fn log_in(
    sessions: &Sessions,
    reads: &Reads,
    key: &str,
    source: IpAddr,
) -> Result<HeaderValue, ApiError> {
    let begun = sessions.begin(key, source).await?;
    record_log_in(reads, begun, source).await
}

/// Writes down that a session begins; gives its cookie.
pub(in super::super) async fn record_log_in(
    reads: &Reads,
    begun: Begun,
    source: IpAddr,
) -> Result<HeaderValue, ApiError> {
    let Begun { cookie, holder } = begun;
    let access = Access::LoggedIn {
        by: holder.name.to_string(),
        source: source.to_string(),
    };
    reads.record(access).await?;
    tracing::info!(
        event = "auth.logged_in",
        key = &*holder.name,
        "a session begins"
    );
    Ok(cookie)
}

/// Ends the session of the cookie. Without one there is nothing to end, which is no failure.
#[utoipa::path(
    delete,
    path = "/session",
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
    let taken_away = [(header::SET_COOKIE, sessions.cookie("", None))];
    let cleared = [("clear-site-data", "\"cache\", \"storage\"")];
    Ok((StatusCode::NO_CONTENT, taken_away, cleared).into_response())
}

/// Those of whom nobody knows where they are share an address.
pub(in super::super) fn address(source: Option<Extension<SourceAddress>>) -> IpAddr {
    source.map_or(
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        |Extension(SourceAddress(address))| address,
    )
}

//! `POST /webhooks/braze`: Braze says that a profile has changed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::refusals::RefusedRequest;
use crate::audit::{Event, Record};
use crate::braze::{self, Braze, Push};
use crate::clock::Clock;
use crate::flow::Recorder;
use crate::twilio::{self, BodyError};

/// The largest push; real ones have about 200 bytes.
const BODY_LIMIT: usize = 16 * 1024;
/// A push is read within this time, or not at all.
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// What the endpoint needs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProfilePush {
    pub clock: Clock,
    pub braze: Braze,
    pub recorder: Recorder,
    /// The secret that Braze sends; `None` switches the endpoint off. Replaced by a reload.
    pub secret: Arc<ArcSwapOption<String>>,
}

/// 204 at once; the cached profile is replaced or dropped, unless what is cached is newer.
pub(super) async fn push(
    State(push): State<ProfilePush>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(secret) = push.secret.load_full() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if !braze::authorized(authorization, &secret) {
        metrics::counter!("switchboard_webhooks_rejected_total", "reason" => "braze_secret")
            .increment(1);
        let refused = (StatusCode::UNAUTHORIZED, "unauthorized\n").into_response();
        return RefusedRequest::because("braze_secret").mark(refused);
    }
    let body = match twilio::collect(body, BODY_LIMIT, BODY_TIMEOUT).await {
        Ok(body) => body,
        Err(error) => {
            let refused = match error {
                BodyError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"),
                BodyError::TimedOut => (StatusCode::REQUEST_TIMEOUT, "the body came too late\n"),
                BodyError::Broken => (StatusCode::BAD_REQUEST, "the body broke off\n"),
            };
            return refused.into_response();
        }
    };
    match Push::parse(&body) {
        Ok(profile) => {
            let action = push.braze.apply_push(profile).await;
            let record = Record::of_service(push.clock.now(), Event::ProfilePushed { action });
            push.recorder.append_one(record).await;
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => {
            metrics::counter!("switchboard_webhooks_unusable_total", "reason" => "braze_push")
                .increment(1);
            tracing::warn!(event = "lookup.push_refused", error = %error, "a profile push cannot be used");
            (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
        }
    }
}

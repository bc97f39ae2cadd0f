//! What every request gets and every answer carries, whatever the handler does.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
    TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use axum::response::IntoResponse;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::Instant;
use tower::ServiceExt;
use tracing::Instrument;

use super::admission::Admitted;
use super::progress::ConnectionProgress;
use super::request::{BoundedBody, REQUEST_ID, RequestId};
use crate::clock::Clock;
use crate::lifecycle::caught;

/// The address of the other end of the connection, as request extension. Behind a proxy it is the proxy's: see
/// [`client_address`](crate::http::client_address::client_address).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

const CLOSE: HeaderValue = HeaderValue::from_static("close");
/// What the last fifth of the connections is kept for.
const WEBHOOKS: &str = "/webhooks/";
/// An answer is handed to its connection in pieces of this size, and others have their turn between two of them.
const PIECE: usize = 64 * 1024;

/// One connection, as its requests see it.
pub(super) struct ConnectionService<'c> {
    pub(super) peer: PeerAddr,
    pub(super) body_limit: Duration,
    pub(super) admitted: &'c Admitted,
    pub(super) progress: Arc<ConnectionProgress>,
}

impl ConnectionService<'_> {
    /// Lets `app` answer a request; a panic of its own becomes a 500.
    pub(super) fn answer(
        &self,
        app: Router,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> + use<> {
        let in_hand = RequestInFlight::begin(&self.progress);
        let id =
            RequestId::given(request.headers().get(REQUEST_ID)).unwrap_or_else(RequestId::drawn);
        // Where a chunked body ends only hyper knows, so the next head could not be checked: it gets a new connection.
        let is_last = request.headers().contains_key(TRANSFER_ENCODING);
        let flaw = if is_last && self.progress.has_length_and_encoding() {
            Some("The request has both Content-Length and Transfer-Encoding.")
        } else if names_its_host(&request) {
            None
        } else {
            Some("The request needs one Host header.")
        };
        let is_crowded_out =
            !request.uri().path().starts_with(WEBHOOKS) && self.admitted.is_for_webhooks();
        let progress = Arc::clone(&self.progress);
        let request = self.prepare(request, id.clone());
        let span = tracing::info_span!(
            "request",
            request_id = %id,
            call_sid = tracing::field::Empty,
        );
        async move {
            let mut response = match flaw {
                _ if is_crowded_out => {
                    metrics::counter!("switchboard_connections_refused_total", "reason" => "crowded")
                        .increment(1);
                    refusal(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "Unavailable",
                        "Too many connections are open; the last of them are kept for calls.",
                        &id,
                    )
                }
                Some(flaw) => refusal(StatusCode::BAD_REQUEST, "ValidationError", flaw, &id),
                None => respond(app, request, &id).await,
            };
            harden(response.headers_mut());
            if let Some(value) = id.header_value() {
                response.headers_mut().insert(REQUEST_ID, value);
            }
            if is_last || is_crowded_out || flaw.is_some() || in_hand.0.is_closing() {
                response.headers_mut().insert(CONNECTION, CLOSE);
            }
            progress.answer_begun();
            Ok(response.map(|body| ResponseBody {
                body,
                rest: Bytes::new(),
                has_paused: true,
                in_hand,
            }))
        }
        .instrument(span)
    }

    fn prepare(&self, request: Request<Incoming>, id: RequestId) -> Request<Body> {
        let arrived = Instant::from_std(Clock::system().instant());
        let mut request = request.map(|body| {
            if body.is_end_stream() {
                Body::empty()
            } else {
                Body::new(BoundedBody::new(body, arrived + self.body_limit))
            }
        });
        let extensions = request.extensions_mut();
        extensions.insert(self.peer);
        extensions.insert(id);
        request
    }
}

/// Whether a request says which host it is for as RFC 9112 (3.2) wants it: by one header line, which HTTP/1.0 may leave out.
fn names_its_host<B>(request: &Request<B>) -> bool {
    let n = request.headers().get_all(HOST).iter().count();
    n == 1 || (n == 0 && request.version() < Version::HTTP_11)
}

/// What every answer tells browsers, unless it says otherwise: it is no page, and belongs to nobody else's.
fn harden(headers: &mut HeaderMap) {
    const EVERY: [(HeaderName, HeaderValue); 5] = [
        (
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
        ),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    for (name, value) in EVERY {
        headers.entry(name).or_insert(value);
    }
}

async fn respond(app: Router, request: Request<Body>, id: &RequestId) -> Response<Body> {
    match caught(async { app.oneshot(request).await }).await {
        Ok(Ok(response)) => response,
        // The panic hook has told where and why, within the span of this request.
        Err(_) => {
            metrics::counter!("switchboard_task_panics_total", "task" => "request").increment(1);
            let mut response = refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerError",
                "The request could not be answered.",
                id,
            );
            response.headers_mut().insert(CONNECTION, CLOSE);
            response
        }
    }
}

/// An answer of the listener itself, in the API's envelope.
fn refusal(status: StatusCode, kind: &str, message: &str, id: &RequestId) -> Response<Body> {
    let body = serde_json::json!({
        "error": { "type": kind, "message": message, "details": {}, "request_id": &*id.0 }
    });
    let json = [(CONTENT_TYPE, "application/json")];
    (status, json, body.to_string()).into_response()
}

/// Keeps a request in hand until its answer is sent or dropped.
struct RequestInFlight(Arc<ConnectionProgress>);

impl RequestInFlight {
    fn begin(progress: &Arc<ConnectionProgress>) -> Self {
        progress.request_taken();
        Self(progress.clone())
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.0.request_answered();
    }
}

/// The body of an answer; when hyper has sent it, it drops it, and the request is done.
pub(super) struct ResponseBody {
    body: Body,
    /// What is left of a large piece.
    rest: Bytes,
    has_paused: bool,
    in_hand: RequestInFlight,
}

impl ResponseBody {
    fn hand_over(&mut self, mut bytes: Bytes) -> Frame<Bytes> {
        if bytes.len() > PIECE {
            self.rest = bytes.split_off(PIECE);
            self.has_paused = false;
        }
        let handed = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.in_hand.0.handed_over(handed);
        Frame::data(bytes)
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if !self.rest.is_empty() {
            if !self.has_paused {
                self.has_paused = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(self.hand_over(rest))));
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(bytes) => self.hand_over(bytes),
                Err(trailers) => trailers,
            }))),
            Poll::Pending => {
                self.in_hand.0.has_told_all();
                Poll::Pending
            }
            Poll::Ready(end) => Poll::Ready(end),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn others_have_their_turn_between_two_pieces_of_a_large_answer() {
        let mut answer = ResponseBody {
            body: Body::from(vec![b'x'; 2 * PIECE + 1]),
            rest: Bytes::new(),
            has_paused: true,
            in_hand: RequestInFlight::begin(&Arc::default()),
        };
        let mut turns = Vec::new();
        loop {
            let polled = Pin::new(&mut answer).poll_frame(&mut Context::from_waker(Waker::noop()));
            turns.push(match polled {
                Poll::Pending => None,
                Poll::Ready(Some(frame)) => Some(frame.unwrap().into_data().unwrap().len()),
                Poll::Ready(None) => break,
            });
        }
        assert_eq!(turns, [Some(PIECE), None, Some(PIECE), None, Some(1)]);
    }
}

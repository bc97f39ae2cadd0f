//! One request to a dialer's API, and what its transport and status alone say of the outcome.
//!
//! | what came back | outcome |
//! |---|---|
//! | no connection, or no time left before the request left | retryable, `connect`: nothing was sent |
//! | no answer in time / a broken connection / no HTTP, after it left | unknown, `timeout` / `reset` / `malformed` |
//! | 408, 425, 5xx | retryable, `server_error` |
//! | 429 | retryable, `rate_limited` |
//! | 401, 403 | refused, `unauthorized` |
//! | any other 3xx or 4xx | refused, `rejected`: redirects are not followed |
//! | 2xx | read by the adapter |

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap};
use reqwest::{Method, Response, Url};
use serde_json::Value;

use super::sent_flag::SentFlag;
use super::settings::redacted_url;
use crate::audit::Exchange;
use crate::clock::Clock;
use crate::handoff::{Failure, FailureKind, Outcome};
use crate::outbound::{self, Again, Connections, Content, Unreadable};
use crate::phone::{self, Caller};

/// No answer needs more; what is longer is not read to its end.
const MAX_ANSWER: usize = 256 * 1024;
/// A refusal is clear from its status. Its body is read for the record only, and must not cost the caller time.
const REFUSAL_BODY_GRACE: Duration = Duration::from_millis(100);
const MAX_MESSAGE: usize = 200;
/// Fewer digits tell nobody from another.
const SHORTEST_IDENTITY: usize = 5;

/// Sends requests in the name of one dialer.
pub(super) struct Link {
    connections: Connections,
    clock: Clock,
    service: String,
}

/// A request, and what of it may be recorded.
pub(super) struct DialerRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    pub(super) shown: Option<Value>,
    /// Its receiver knows a repeat, or nothing comes of it.
    is_repeatable: bool,
}

impl DialerRequest {
    pub(super) fn get(url: Url, headers: HeaderMap) -> Self {
        Self {
            method: Method::GET,
            url,
            headers,
            body: None,
            shown: None,
            is_repeatable: true,
        }
    }

    /// A POST of `body`; `shown` is the same without secrets and personal data.
    pub(super) fn post(url: Url, headers: HeaderMap, body: &Value, shown: Value) -> Self {
        Self {
            method: Method::POST,
            url,
            headers,
            body: Some(body.to_string().into()),
            shown: Some(shown),
            is_repeatable: false,
        }
    }

    /// The same, to a receiver that knows a repeat.
    pub(super) fn repeatable(self) -> Self {
        Self {
            is_repeatable: true,
            ..self
        }
    }
}

pub(super) struct DialerReply {
    pub(super) answer: Result<DialerAnswer, TransportError>,
    pub(super) elapsed: Duration,
    exchange: Exchange,
    at: Timestamp,
}

pub(super) struct DialerAnswer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    body: Result<Bytes, TransportError>,
}

/// Why there is no answer, or not the whole of it.
pub(super) struct TransportError {
    kind: FailureKind,
    message: String,
}

impl TransportError {
    fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    fn outcome(&self, status: Option<u16>) -> Outcome {
        let failure = Failure {
            kind: self.kind,
            status,
        };
        match self.kind {
            FailureKind::Connect => Outcome::Retryable {
                failure,
                retry_after_ms: None,
            },
            // An answer came and cannot be read; without one, nothing is known of the request.
            FailureKind::Malformed if status.is_some() => Outcome::Refused { failure },
            FailureKind::Timeout
            | FailureKind::Reset
            | FailureKind::Malformed
            | FailureKind::Unauthorized
            | FailureKind::RateLimited
            | FailureKind::ServerError
            | FailureKind::Rejected
            | FailureKind::BreakerOpen
            | FailureKind::NoTime
            | FailureKind::Interrupted => Outcome::Unknown { failure },
        }
    }
}

impl Link {
    pub(super) fn new(connections: Connections, clock: Clock, service: &str) -> Self {
        Self {
            connections,
            clock,
            service: service.to_owned(),
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.instant()
    }

    /// Sends a request and reads its answer, head and body, until `deadline` at the latest.
    pub(super) async fn ask(&self, request: DialerRequest, deadline: Instant) -> DialerReply {
        let started = self.now();
        let mut exchange = Exchange {
            service: self.service.clone(),
            method: request.method.to_string(),
            url: redacted_url(&request.url),
            status: None,
            error: None,
            elapsed_ms: 0.0,
            request: request.shown.clone(),
            response: None,
        };
        let answer = match self.head(request, deadline).await {
            Ok(response) => Ok(self.read(response, deadline).await),
            Err(error) => Err(error),
        };
        let elapsed = self.now().duration_since(started);
        exchange.elapsed_ms = elapsed.as_secs_f64() * 1_000.0;
        match &answer {
            Ok(answer) => {
                exchange.status = Some(answer.status);
                exchange.error = answer.text();
            }
            Err(error) => exchange.error = Some(error.message.clone()),
        }
        DialerReply {
            answer,
            elapsed,
            exchange,
            at: self.clock.now(),
        }
    }

    async fn head(
        &self,
        request: DialerRequest,
        deadline: Instant,
    ) -> Result<Response, TransportError> {
        let remaining = deadline.saturating_duration_since(self.now());
        if remaining.is_zero() {
            return Err(TransportError::new(
                FailureKind::Connect,
                "no time was left to send it",
            ));
        }
        let sent_flag = SentFlag::default();
        let builder = |client: &reqwest::Client| {
            let builder = client
                .request(request.method.clone(), request.url.clone())
                .header(ACCEPT_ENCODING, outbound::ACCEPTED_CODINGS)
                .headers(request.headers.clone());
            match &request.body {
                None => builder,
                Some(bytes) => builder.body(reqwest::Body::wrap(sent_flag.wrap(bytes.clone()))),
            }
        };
        let is_sent = || sent_flag.is_sent();
        let again = if request.is_repeatable {
            Again::Always
        } else {
            Again::Unless(&is_sent)
        };
        let sent = self.connections.send(builder, again);
        let result = self.clock.timeout(remaining, sent).await;
        // A request without a body asks for nothing that could take effect; it counts as sent unless the connection failed.
        let is_sent = sent_flag.close() || request.body.is_none();
        let error = match result {
            Ok(Ok(response)) => {
                self.connections.answered(response.status().as_u16());
                return Ok(response);
            }
            Ok(Err(error)) => transport_error(error, is_sent),
            Err(_) if is_sent => TransportError::new(FailureKind::Timeout, "no answer in time"),
            Err(_) => TransportError::new(
                FailureKind::Connect,
                "no connection in time; nothing was sent",
            ),
        };
        self.connections.failed();
        Err(error)
    }

    async fn read(&self, response: Response, deadline: Instant) -> DialerAnswer {
        let status = response.status();
        let headers = response.headers().clone();
        let mut remaining = deadline.saturating_duration_since(self.now());
        if !status.is_success() {
            remaining = remaining.min(REFUSAL_BODY_GRACE);
        }
        let whole = Content::of(response, MAX_ANSWER).whole();
        let body = match self.clock.timeout(remaining, whole).await {
            Ok(Ok(body)) => Ok(body.into()),
            Ok(Err(Unreadable::Transport(error))) => Err(transport_error(error, true)),
            Ok(Err(unreadable @ (Unreadable::TooLong(_) | Unreadable::Packed))) => Err(
                TransportError::new(FailureKind::Malformed, unreadable.to_string()),
            ),
            Err(_) => Err(TransportError::new(
                FailureKind::Timeout,
                "the answer did not end in time",
            )),
        };
        if matches!(&body, Err(error) if error.kind != FailureKind::Malformed) {
            self.connections.failed();
        }
        DialerAnswer {
            status: status.as_u16(),
            headers,
            body,
        }
    }
}

fn transport_error(error: reqwest::Error, is_sent: bool) -> TransportError {
    let error = error.without_url();
    if error.is_connect() || !is_sent {
        return TransportError::new(
            FailureKind::Connect,
            format!("no connection: {}", innermost(&error)),
        );
    }
    if error.is_timeout() {
        return TransportError::new(FailureKind::Timeout, "no answer in time");
    }
    if is_no_http(&error) {
        return TransportError::new(
            FailureKind::Malformed,
            format!("the answer is no HTTP: {}", innermost(&error)),
        );
    }
    TransportError::new(
        FailureKind::Reset,
        format!("the connection broke: {}", innermost(&error)),
    )
}

fn is_no_http(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(e) = cause {
        if e.downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_parse)
        {
            return true;
        }
        cause = e.source();
    }
    false
}

/// What the system or TLS said: it names no URL and no header.
fn innermost(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string().chars().take(MAX_MESSAGE).collect()
}

impl DialerAnswer {
    /// The body of a 2xx answer.
    pub(super) fn content(&self) -> Result<&[u8], Outcome> {
        match &self.body {
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(error.outcome(Some(self.status))),
        }
    }

    /// The body as JSON, where it came whole and is JSON.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.body.as_deref().ok()?).ok()
    }

    fn text(&self) -> Option<String> {
        if (300..400).contains(&self.status) {
            return Some("a redirect, which is not followed".to_owned());
        }
        let is_success = (200..300).contains(&self.status);
        self.body
            .as_ref()
            .err()
            .filter(|_| is_success)
            .map(|error| error.message.clone())
    }
}

impl DialerReply {
    /// A 2xx answer; anything else as the outcome it means.
    pub(super) fn success(&self) -> Result<&DialerAnswer, Outcome> {
        let answer = self.answer.as_ref().map_err(|error| error.outcome(None))?;
        let fails = |kind| Failure::with_status(kind, answer.status);
        let retry_after = || outbound::retry_after(&answer.headers, self.at);
        Err(match answer.status {
            200..=299 => return Ok(answer),
            401 | 403 => Outcome::Refused {
                failure: fails(FailureKind::Unauthorized),
            },
            429 => retryable(fails(FailureKind::RateLimited), retry_after()),
            408 | 425 | 500..=599 => retryable(fails(FailureKind::ServerError), retry_after()),
            _ => Outcome::Refused {
                failure: fails(FailureKind::Rejected),
            },
        })
    }

    /// The HTTP status, where there was an answer.
    pub(super) fn status(&self) -> Option<u16> {
        self.answer.as_ref().ok().map(|answer| answer.status)
    }

    /// Why no answer came.
    pub(super) fn text(&self) -> Option<&str> {
        self.exchange.error.as_deref()
    }

    /// The record of the exchange. `response` is what of the answer may be shown; `error` says why it could not be used, where the
    /// transport has no complaint of its own.
    pub(super) fn exchange(self, response: Option<Value>, error: Option<&str>) -> Exchange {
        Exchange {
            response,
            error: self.exchange.error.or_else(|| error.map(str::to_owned)),
            ..self.exchange
        }
    }
}

/// An outcome of an answer that asks for patience.
pub(super) fn retryable(failure: Failure, after: Option<Duration>) -> Outcome {
    let ms = |after: Duration| u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    Outcome::Retryable {
        failure,
        retry_after_ms: after.map(ms),
    }
}

/// A 2xx answer that cannot be read.
pub(super) fn malformed(status: u16) -> Outcome {
    Outcome::Refused {
        failure: Failure::with_status(FailureKind::Malformed, status),
    }
}

/// An id as given by a dialer, if it looks like one.
pub(super) fn reference(id: &Value) -> Option<String> {
    let id = match id {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_u64() => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            return None;
        }
    };
    let plain = id
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    (plain && (1..=64).contains(&id.len())).then_some(id)
}

/// A reference as it may be recorded: one that holds the caller's digits, by chance or because the dialer repeats what it was sent, is
/// masked.
pub(super) fn masked_reference(id: &str, caller: &Caller) -> String {
    if names_caller(id, caller) {
        phone::mask(id)
    } else {
        id.to_owned()
    }
}

/// Whether a reference holds the caller's digits, so that it must not be recorded.
pub fn names_caller(id: &str, caller: &Caller) -> bool {
    let text = match caller.number() {
        Some(number) => number.as_str(),
        None => caller.as_text(),
    };
    let all: String = text.chars().filter(char::is_ascii_digit).collect();
    let runs = text.split(|c: char| !c.is_ascii_digit());
    runs.chain([all.as_str()])
        .any(|digits| digits.len() >= SHORTEST_IDENTITY && id.contains(digits))
}

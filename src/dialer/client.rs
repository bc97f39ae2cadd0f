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
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, Url};
use serde_json::Value;

use super::departure::Departure;
use super::settings::shown_url;
use crate::audit::Exchange;
use crate::clock::Clock;
use crate::handoff::{Failure, FailureKind, Outcome};

/// No answer needs more; what is longer is not read to its end.
const MAX_ANSWER: usize = 256 * 1024;
/// A refusal is clear from its status. Its body is read for the record only, and must not cost the caller time.
const REFUSAL_BODY_GRACE: Duration = Duration::from_millis(100);
const MAX_WORDS: usize = 200;

/// Sends requests in the name of one dialer.
pub(super) struct Link {
    client: reqwest::Client,
    clock: Clock,
    service: String,
}

/// A request, and what of it may be recorded.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    pub(super) shown: Option<Value>,
}

impl Request {
    pub(super) fn get(url: Url, headers: HeaderMap) -> Self {
        Self {
            method: Method::GET,
            url,
            headers,
            body: None,
            shown: None,
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
        }
    }
}

/// How a request ended.
pub(super) struct Reply {
    pub(super) answer: Result<Answer, Trouble>,
    pub(super) elapsed: Duration,
    exchange: Exchange,
}

/// An HTTP answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    body: Result<Bytes, Trouble>,
}

/// Why there is no answer, or not the whole of it.
pub(super) struct Trouble {
    kind: FailureKind,
    words: String,
}

impl Trouble {
    fn new(kind: FailureKind, words: impl Into<String>) -> Self {
        Self {
            kind,
            words: words.into(),
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
    pub(super) fn new(client: reqwest::Client, clock: Clock, service: &str) -> Self {
        Self {
            client,
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
    pub(super) async fn ask(&self, request: Request, deadline: Instant) -> Reply {
        let started = self.now();
        let mut exchange = Exchange {
            service: self.service.clone(),
            method: request.method.to_string(),
            url: shown_url(&request.url),
            status: None,
            error: None,
            elapsed_ms: 0.0,
            request: request.shown.clone(),
            response: None,
        };
        let answer = match self.head(request, deadline).await {
            Ok(response) => Ok(self.read(response, deadline).await),
            Err(trouble) => Err(trouble),
        };
        let elapsed = self.now().duration_since(started);
        exchange.elapsed_ms = elapsed.as_secs_f64() * 1_000.0;
        match &answer {
            Ok(answer) => {
                exchange.status = Some(answer.status);
                exchange.error = answer.words();
            }
            Err(trouble) => exchange.error = Some(trouble.words.clone()),
        }
        Reply {
            answer,
            elapsed,
            exchange,
        }
    }

    async fn head(&self, request: Request, deadline: Instant) -> Result<Response, Trouble> {
        let remaining = deadline.saturating_duration_since(self.now());
        if remaining.is_zero() {
            return Err(Trouble::new(
                FailureKind::Connect,
                "no time was left to send it",
            ));
        }
        let departure = Departure::default();
        let has_body = request.body.is_some();
        let mut builder = self
            .client
            .request(request.method, request.url)
            .headers(request.headers);
        if let Some(bytes) = request.body {
            builder = builder.body(reqwest::Body::wrap(departure.watch(bytes)));
        }
        let result = self.clock.timeout(remaining, builder.send()).await;
        // A request without a body asks for nothing that could take effect; it counts as sent unless the connection failed.
        let has_left = departure.close() || !has_body;
        match result {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(trouble_of(error, has_left)),
            Err(_) if has_left => Err(Trouble::new(FailureKind::Timeout, "no answer in time")),
            Err(_) => Err(Trouble::new(
                FailureKind::Connect,
                "no connection in time; nothing was sent",
            )),
        }
    }

    async fn read(&self, response: Response, deadline: Instant) -> Answer {
        let status = response.status();
        let headers = response.headers().clone();
        let mut remaining = deadline.saturating_duration_since(self.now());
        if !status.is_success() {
            remaining = remaining.min(REFUSAL_BODY_GRACE);
        }
        let body = self
            .clock
            .timeout(remaining, body_of(response))
            .await
            .unwrap_or_else(|_| {
                Err(Trouble::new(
                    FailureKind::Timeout,
                    "the answer did not end in time",
                ))
            });
        Answer {
            status: status.as_u16(),
            headers,
            body,
        }
    }
}

async fn body_of(mut response: Response) -> Result<Bytes, Trouble> {
    let too_large = || {
        Trouble::new(
            FailureKind::Malformed,
            format!("the answer is longer than {} KiB", MAX_ANSWER / 1024),
        )
    };
    if response
        .content_length()
        .is_some_and(|n| n > MAX_ANSWER as u64)
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| trouble_of(error, true))?
    {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

fn trouble_of(error: reqwest::Error, has_left: bool) -> Trouble {
    let error = error.without_url();
    if error.is_connect() || !has_left {
        return Trouble::new(
            FailureKind::Connect,
            format!("no connection: {}", innermost(&error)),
        );
    }
    if error.is_timeout() {
        return Trouble::new(FailureKind::Timeout, "no answer in time");
    }
    if is_no_http(&error) {
        return Trouble::new(
            FailureKind::Malformed,
            format!("the answer is no HTTP: {}", innermost(&error)),
        );
    }
    Trouble::new(
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
    innermost.to_string().chars().take(MAX_WORDS).collect()
}

impl Answer {
    /// The body of a 2xx answer.
    pub(super) fn content(&self) -> Result<&[u8], Outcome> {
        match &self.body {
            Ok(bytes) => Ok(bytes),
            Err(trouble) => Err(trouble.outcome(Some(self.status))),
        }
    }

    /// The body as JSON, where it came whole and is JSON.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.body.as_deref().ok()?).ok()
    }

    /// How long the dialer wants to be left alone, where it says so in seconds.
    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?;
        seconds.trim().parse().ok().map(Duration::from_secs)
    }

    fn words(&self) -> Option<String> {
        if (300..400).contains(&self.status) {
            return Some("a redirect, which is not followed".to_owned());
        }
        let is_success = (200..300).contains(&self.status);
        self.body
            .as_ref()
            .err()
            .filter(|_| is_success)
            .map(|trouble| trouble.words.clone())
    }
}

impl Reply {
    /// A 2xx answer; anything else as the outcome it means.
    pub(super) fn success(&self) -> Result<&Answer, Outcome> {
        let answer = self
            .answer
            .as_ref()
            .map_err(|trouble| trouble.outcome(None))?;
        let fails = |kind| Failure::with_status(kind, answer.status);
        Err(match answer.status {
            200..=299 => return Ok(answer),
            401 | 403 => Outcome::Refused {
                failure: fails(FailureKind::Unauthorized),
            },
            429 => retryable(fails(FailureKind::RateLimited), answer.retry_after()),
            408 | 425 | 500..=599 => {
                retryable(fails(FailureKind::ServerError), answer.retry_after())
            }
            _ => Outcome::Refused {
                failure: fails(FailureKind::Rejected),
            },
        })
    }

    /// The HTTP status, where there was an answer.
    pub(super) fn status(&self) -> Option<u16> {
        self.answer.as_ref().ok().map(|answer| answer.status)
    }

    /// Why no answer came, in words.
    pub(super) fn words(&self) -> Option<&str> {
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

/// An id as given by a dialer, if it looks like one. Whatever repeats the caller's digits is no id that may be recorded.
pub(super) fn reference(id: &Value, caller: &str) -> Option<String> {
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
    let digits: String = caller.chars().filter(char::is_ascii_digit).collect();
    let names_caller = digits.len() >= 5 && id.contains(&digits);
    (plain && (1..=64).contains(&id.len()) && !names_caller).then_some(id)
}

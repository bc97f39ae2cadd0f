//! One request to Braze, from connect to the last byte under one deadline, and what its answer means.
//!
//! The body of an error is neither read nor kept: Braze repeats the key in it. A request is never repeated here but where a kept
//! connection turns out dead before any of the answer has come, which is no second request to anybody.

use std::error::Error;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::field_filter::FieldFilter;
use super::settings::Active;
use super::wire::{self, Attributes, ProfileExport, Question};
use crate::audit::Exchange;
use crate::clock::Clock;
use crate::outbound::{self, Again, Connections, Content, Unreadable};
use crate::phone::E164;
use crate::routing::LookupUnavailable;

/// No answer is read beyond this. A profile has a few kilobytes, or as many hundreds where its attributes are objects, and several profiles
/// may share a number.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// A longer Retry-After is cut to this.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// A longer error is cut.
const MAX_MESSAGE: usize = 300;

/// What became of one request.
#[derive(Clone, Debug)]
pub(super) struct BrazeReply<T> {
    pub(super) outcome: Result<T, LookupUnavailable>,
    pub(super) rate: RateLimit,
    /// Its Retry-After.
    pub(super) pause: Option<Duration>,
    pub(super) exchange: Exchange,
}

/// What Braze says of its own limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RateLimit {
    pub(super) limit: Option<u32>,
    pub(super) remaining: Option<u32>,
    pub(super) reset: Option<i64>,
}

/// Whether Braze can be asked, for `doctor` and the test button.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeReport {
    /// Braze answered, and the key may export profiles.
    pub ok: bool,
    /// What was found, in words, without secrets.
    pub message: String,
    /// Why not; `None` where it is well.
    pub failure: Option<LookupUnavailable>,
    /// How long it took, in milliseconds.
    pub latency_ms: f64,
    /// The request and its answer.
    pub exchange: Exchange,
}

/// Why an answer is no answer.
struct Failed {
    reason: LookupUnavailable,
    message: String,
}

struct ReceivedBody {
    head: Option<(StatusCode, HeaderMap)>,
    body: Result<Vec<u8>, Failed>,
}

/// Asks for the profile of a number.
pub(super) async fn export(
    http: &Connections,
    active: &Active,
    clock: &Clock,
    phone: &E164,
    timeout: Duration,
) -> BrazeReply<ProfileExport> {
    let started = clock.instant();
    let question = Question::by_phone(phone.as_str());
    let received = send(http, active, clock, &question, timeout).await;
    let wanted = wanted(active);
    let read = |body: &[u8]| {
        wire::read_export(body, wanted).map_err(|wire::UnreadableProfile| {
            Failed::new(LookupUnavailable::Malformed, "no JSON with users in it")
        })
    };
    let shown = |exported: &ProfileExport| {
        let profile = exported.best.as_ref().map(|user| &user.profile);
        json!({
            "users": exported.n_users,
            "score": profile.and_then(|profile| profile.score),
            "tier": profile.and_then(|profile| profile.tier.as_deref()),
        })
    };
    let request = Question::by_phone(&phone.masked()).to_value();
    let form = ExchangeForm {
        active,
        request,
        elapsed: since(clock, started),
        now: clock.now(),
    };
    form.reply(received, read, shown)
}

/// Asks for nobody, to learn whether Braze can be asked.
pub(super) async fn probe(http: &Connections, active: &Active, clock: &Clock) -> BrazeReply<()> {
    let started = clock.instant();
    let question = Question::for_probe();
    let received = send(http, active, clock, &question, active.settings.timeout).await;
    let read = |body: &[u8]| {
        if wire::is_success(body) {
            Ok(())
        } else {
            let message = "an answer, but not one of Braze's";
            Err(Failed::new(LookupUnavailable::Malformed, message))
        }
    };
    let form = ExchangeForm {
        active,
        request: question.to_value(),
        elapsed: since(clock, started),
        now: clock.now(),
    };
    form.reply(received, read, |()| json!({ "message": "success" }))
}

impl ProbeReport {
    pub(super) fn of(reply: BrazeReply<()>) -> Self {
        let BrazeReply {
            outcome, exchange, ..
        } = reply;
        Self {
            ok: outcome.is_ok(),
            message: exchange
                .error
                .clone()
                .unwrap_or_else(|| "Braze answers and accepts the key".to_owned()),
            failure: outcome.err(),
            latency_ms: exchange.elapsed_ms,
            exchange,
        }
    }
}

/// The record of a request whose end the caller could not wait for.
pub(super) fn unanswered(active: &Active, phone: &E164, waited: Duration) -> Exchange {
    Exchange {
        service: "braze".to_owned(),
        method: "POST".to_owned(),
        url: active.recorded_url.clone(),
        status: None,
        error: Some(within(waited)),
        elapsed_ms: waited.as_secs_f64() * 1_000.0,
        request: Some(Question::by_phone(&phone.masked()).to_value()),
        response: None,
    }
}

fn wanted(active: &Active) -> Attributes<'_> {
    Attributes {
        score: &active.settings.score_attribute,
        tier: active.settings.tier_attribute.as_deref(),
        others: &active.settings.attributes,
    }
}

async fn send(
    http: &Connections,
    active: &Active,
    clock: &Clock,
    question: &Question,
    timeout: Duration,
) -> ReceivedBody {
    let mut head = None;
    let whole = async {
        let request = |client: &reqwest::Client| {
            client
                .post(active.endpoint.clone())
                .header(AUTHORIZATION, active.authorization.clone())
                .header(CONTENT_TYPE, "application/json")
                .header(ACCEPT, "application/json")
                .header(ACCEPT_ENCODING, outbound::ACCEPTED_CODINGS)
                .body(question.to_body())
        };
        let response = http.send(request, Again::Always).await;
        let response = response.map_err(Failed::transport)?;
        head = Some((response.status(), response.headers().clone()));
        classify(response.status())?;
        read_body(response, wanted(active)).await
    };
    let body = clock.timeout(timeout, whole).await.unwrap_or_else(|_| {
        Err(Failed {
            reason: LookupUnavailable::Timeout,
            message: within(timeout),
        })
    });
    let is_transport = |failed: &Failed| {
        matches!(
            failed.reason,
            LookupUnavailable::Timeout | LookupUnavailable::Connect
        )
    };
    match &head {
        _ if body.as_ref().is_err_and(is_transport) => http.failed(),
        Some((status, _)) => http.answered(status.as_u16()),
        None => {}
    }
    ReceivedBody { head, body }
}

fn classify(status: StatusCode) -> Result<(), Failed> {
    let (reason, message) = match status.as_u16() {
        202 => (
            LookupUnavailable::ServerError,
            "Braze is in maintenance (202)",
        ),
        200..=299 => return Ok(()),
        401 => (
            LookupUnavailable::Unauthorized,
            "Braze refuses the key (401): check braze.api_key and that base_url is the workspace's own host",
        ),
        403 => (
            LookupUnavailable::Unauthorized,
            "Braze refuses the key (403): it lacks users.export.ids, or this machine's address is not on its list",
        ),
        404 => (
            LookupUnavailable::Unauthorized,
            "Braze does not know the key or the address (404): check braze.api_key and braze.base_url",
        ),
        408 | 425 | 500..=599 => (LookupUnavailable::ServerError, "Braze failed"),
        429 => (
            LookupUnavailable::RateLimited,
            "Braze limits our requests (429)",
        ),
        400..=499 => (LookupUnavailable::Rejected, "Braze refuses the request"),
        _ => (LookupUnavailable::Malformed, "an answer that is no answer"),
    };
    Err(Failed::new(reason, message))
}

async fn read_body(response: Response, wanted: Attributes<'_>) -> Result<Vec<u8>, Failed> {
    let mut content = Content::of(response, MAX_BODY);
    let mut filter = FieldFilter::new(wanted);
    while let Some(piece) = content.next().await.map_err(Failed::of_content)? {
        filter.feed(&piece);
    }
    Ok(filter.finish())
}

impl Failed {
    fn new(reason: LookupUnavailable, message: &str) -> Self {
        Self {
            reason,
            message: message.to_owned(),
        }
    }

    fn of_content(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Transport(error) => Self::transport(error),
            Unreadable::TooLong(_) | Unreadable::Packed => {
                Self::new(LookupUnavailable::Malformed, &unreadable.to_string())
            }
        }
    }

    fn transport(error: reqwest::Error) -> Self {
        let timed_out = error.is_timeout() && !error.is_connect();
        Self {
            reason: if timed_out {
                LookupUnavailable::Timeout
            } else {
                LookupUnavailable::Connect
            },
            message: chain(&error.without_url()),
        }
    }
}

/// An error and its sources. Transport errors hold no header and, without the URL, nothing of ours.
fn chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message.push_str(": ");
        message.push_str(&error.to_string());
        source = error.source();
    }
    message.chars().take(MAX_MESSAGE).collect()
}

/// What is the same for every exchange.
struct ExchangeForm<'a> {
    active: &'a Active,
    /// As it may be shown.
    request: Value,
    elapsed: Duration,
    now: Timestamp,
}

impl ExchangeForm<'_> {
    fn reply<T>(
        self,
        received: ReceivedBody,
        read: impl FnOnce(&[u8]) -> Result<T, Failed>,
        shown: impl FnOnce(&T) -> Value,
    ) -> BrazeReply<T> {
        let outcome = received.body.and_then(|body| read(&body));
        let (status, rate, pause) = match &received.head {
            Some((status, headers)) => {
                let rate = RateLimit::read(headers);
                (Some(*status), rate, pause(*status, headers, rate, self.now))
            }
            None => (None, RateLimit::default(), None),
        };
        let response = status.map(|_| {
            let mut response = outcome.as_ref().map_or_else(|_| json!({}), shown);
            if let Some(object) = response.as_object_mut()
                && rate != RateLimit::default()
            {
                object.insert("ratelimit".to_owned(), rate.shown());
            }
            response
        });
        let response = response.filter(|response| *response != json!({}));
        let exchange = Exchange {
            service: "braze".to_owned(),
            method: "POST".to_owned(),
            url: self.active.recorded_url.clone(),
            status: status.map(|status| status.as_u16()),
            error: outcome.as_ref().err().map(|failed| failed.message.clone()),
            elapsed_ms: self.elapsed.as_secs_f64() * 1_000.0,
            request: Some(self.request),
            response,
        };
        BrazeReply {
            outcome: outcome.map_err(|failed| failed.reason),
            rate,
            pause,
            exchange,
        }
    }
}

impl RateLimit {
    /// The headers are there but empty on a 401, and may be missing altogether.
    fn read(headers: &HeaderMap) -> Self {
        Self {
            limit: number(headers, "x-ratelimit-limit"),
            remaining: number(headers, "x-ratelimit-remaining"),
            reset: number(headers, "x-ratelimit-reset"),
        }
    }

    /// Less than 5 % of Braze's own limit is left: other tools share it.
    pub(super) fn is_nearly_used_up(self) -> Option<u32> {
        let (limit, remaining) = (self.limit?, self.remaining?);
        (u64::from(remaining) * 20 < u64::from(limit)).then_some(remaining)
    }

    fn shown(self) -> Value {
        json!({ "limit": self.limit, "remaining": self.remaining, "reset": self.reset })
    }
}

fn number<N: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<N> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// How long to back off: what Braze says itself, else until its limit is reset.
fn pause(
    status: StatusCode,
    headers: &HeaderMap,
    rate: RateLimit,
    now: Timestamp,
) -> Option<Duration> {
    let until = |unix: i64| Duration::from_secs(u64::try_from(unix - now.as_second()).unwrap_or(0));
    let retry_after = || {
        let of_braze = || number(headers, "x-ratelimit-retry-after").map(Duration::from_secs);
        outbound::retry_after(headers, now).or_else(of_braze)
    };
    let pause = match status {
        StatusCode::TOO_MANY_REQUESTS => retry_after().or_else(|| rate.reset.map(until)),
        StatusCode::SERVICE_UNAVAILABLE => retry_after(),
        _ => None,
    };
    pause.map(|pause| pause.min(MAX_PAUSE))
}

fn within(timeout: Duration) -> String {
    format!("no answer within {} ms", timeout.as_millis())
}

fn since(clock: &Clock, start: Instant) -> Duration {
    clock.instant().saturating_duration_since(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| {
                (
                    reqwest::header::HeaderName::from_static(name),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    /// Status, headers, and how long Braze is left alone.
    type Case = (
        u16,
        &'static [(&'static str, &'static str)],
        Option<Duration>,
    );

    #[test]
    fn every_status_has_its_class() {
        use LookupUnavailable::{Malformed, RateLimited, Rejected, ServerError, Unauthorized};
        for (status, reason) in [
            (200, None),
            (201, None),
            (202, Some(ServerError)),
            (204, None),
            (302, Some(Malformed)),
            (400, Some(Rejected)),
            (401, Some(Unauthorized)),
            (403, Some(Unauthorized)),
            (404, Some(Unauthorized)),
            (408, Some(ServerError)),
            (422, Some(Rejected)),
            (425, Some(ServerError)),
            (429, Some(RateLimited)),
            (500, Some(ServerError)),
            (529, Some(ServerError)),
        ] {
            let got = classify(StatusCode::from_u16(status).unwrap());
            assert_eq!(got.err().map(|failed| failed.reason), reason, "{status}");
        }
    }

    #[test]
    fn braze_is_left_alone_as_long_as_it_says_but_no_longer_than_a_minute() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let secs = |secs| Some(Duration::from_secs(secs));
        let cases: [Case; 9] = [
            (429, &[("retry-after", "7")], secs(7)),
            (429, &[("retry-after", "3600")], secs(60)),
            (
                429,
                &[("retry-after", "Fri, 15 Jan 2027 08:00:09 GMT")],
                secs(9),
            ),
            (
                429,
                &[
                    ("x-ratelimit-retry-after", "3"),
                    ("x-ratelimit-reset", "1800000020"),
                ],
                secs(3),
            ),
            (429, &[("x-ratelimit-reset", "1800000020")], secs(20)),
            (429, &[("x-ratelimit-reset", "1700000000")], secs(0)),
            (429, &[("x-ratelimit-reset", "")], None),
            (503, &[("retry-after", "5")], secs(5)),
            (
                200,
                &[("retry-after", "5"), ("x-ratelimit-reset", "1800000020")],
                None,
            ),
        ];
        for (status, pairs, expected) in cases {
            let headers = headers(pairs);
            let status = StatusCode::from_u16(status).unwrap();
            let got = pause(status, &headers, RateLimit::read(&headers), now);
            assert_eq!(got, expected, "{status} {pairs:?}");
        }
    }

    #[test]
    fn little_left_is_less_than_a_twentieth() {
        let of = |limit: &str, remaining: &str| {
            let headers = headers(&[
                ("x-ratelimit-limit", limit),
                ("x-ratelimit-remaining", remaining),
            ]);
            RateLimit::read(&headers).is_nearly_used_up()
        };
        assert_eq!(of("250", "12"), Some(12));
        assert_eq!(of("250", "13"), None);
        assert_eq!(of("", ""), None);
    }
}

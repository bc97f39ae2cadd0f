//! Sends one webhook the way Twilio does: signed, within its limits, repeated where the overrides in the URL say so.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use tokio::time::Instant;

use super::call::WebhookExchange;
use super::fields::Fields;
use super::signature;
use super::twiml::Refused;
use super::{Settings, Twilio};
use crate::client::{CONNECT_LIMIT, HARD_LIMIT};
use crate::form::{self, Spaces};

pub(super) struct Webhook {
    /// Under the public URL; may carry overrides behind `#`.
    pub(super) url: String,
    pub(super) fields: Fields,
    pub(super) spaces: Spaces,
    /// The same for every attempt and for a duplicate.
    pub(super) token: String,
}

pub(super) struct Reply {
    pub(super) exchange: WebhookExchange,
    pub(super) answer: Result<Answered, Refused>,
}

pub(super) struct Answered {
    pub(super) content_type: Option<String>,
    pub(super) body: Vec<u8>,
}

/// One attempt that got an answer of any status.
pub(super) struct Attempt {
    pub(super) status: u16,
    pub(super) headers: reqwest::header::HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Twilio {
    /// Sends it, as often as the overrides allow.
    pub(super) async fn send(&self, settings: &Settings, webhook: &Webhook) -> Reply {
        let (started, at) = (Instant::now(), Timestamp::now());
        let overrides = Overrides::of(&webhook.url);
        let mut attempts = 0;
        let mut failed = Vec::new();
        let outcome = loop {
            attempts += 1;
            let left = overrides
                .total
                .saturating_sub(started.elapsed() / settings.machine_is_faster);
            let limit = overrides.read.min(left);
            let outcome = self
                .attempt(settings, webhook, overrides.connect, limit)
                .await;
            match &outcome {
                Ok(attempt) if !(200..300).contains(&attempt.status) => {
                    failed.push(format!("11200: status {}", attempt.status));
                }
                Ok(_) => {}
                Err(failure) => failed.push(failure.to_string()),
            }
            if attempts > overrides.retries || left.is_zero() || !overrides.repeats(&outcome) {
                break outcome;
            }
        };
        let mut exchange = WebhookExchange {
            path: settings.path_of(&webhook.url),
            at,
            fields: webhook.fields.clone(),
            status: None,
            body: String::new(),
            elapsed: started.elapsed(),
            attempts,
            failed,
            error: None,
        };
        let answer = outcome.and_then(|attempt| {
            exchange.status = Some(attempt.status);
            exchange.body = String::from_utf8_lossy(&attempt.body).into_owned();
            let content_type = attempt
                .headers
                .get(CONTENT_TYPE)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            match attempt.status {
                200..=299 => Ok(Answered {
                    content_type,
                    body: attempt.body,
                }),
                300..=399 => Err(Failure::Refused(Refused::new(
                    11216,
                    "a redirect, which loses the fields of the webhook",
                ))),
                status => Err(Failure::Refused(Refused::new(
                    11200,
                    format!("answered with status {status}"),
                ))),
            }
        });
        let answer = answer.map_err(Failure::into_refused);
        exchange.error = answer
            .as_ref()
            .err()
            .map(|refused| format!("{}: {}", refused.code, refused.message));
        Reply { exchange, answer }
    }

    pub(super) async fn attempt(
        &self,
        settings: &Settings,
        webhook: &Webhook,
        connect: Duration,
        limit: Duration,
    ) -> Result<Attempt, Failure> {
        let Some(address) = settings.address_of(&webhook.url) else {
            return Err(Failure::Refused(Refused::new(
                11210,
                format!("{} is not under the public URL", webhook.url),
            )));
        };
        let signature = signature::sign(&settings.auth_token, &webhook.url, &webhook.fields);
        let client = self
            .client(connect * settings.machine_is_faster)
            .map_err(|error| Failure::of(&error))?;
        let request = client
            .post(address)
            .header(
                CONTENT_TYPE,
                "application/x-www-form-urlencoded; charset=UTF-8",
            )
            .header("X-Twilio-Signature", signature)
            .header("I-Twilio-Idempotency-Token", &webhook.token)
            .header("User-Agent", "TwilioProxy/1.1")
            .header("Accept", "*/*")
            .body(form::encode(&webhook.fields, webhook.spaces))
            .timeout(limit * settings.machine_is_faster);
        let answer = request.send().await.map_err(|error| Failure::of(&error))?;
        Ok(Attempt {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer
                .bytes()
                .await
                .map_err(|error| Failure::of(&error))?
                .to_vec(),
        })
    }
}

/// Why an attempt got no answer.
#[derive(Debug)]
pub(super) enum Failure {
    Connect,
    TimedOut,
    Broken,
    Refused(Refused),
}

impl Failure {
    fn of(error: &reqwest::Error) -> Self {
        // A connection that takes too long is both.
        if error.is_connect() {
            Self::Connect
        } else if error.is_timeout() {
            Self::TimedOut
        } else {
            Self::Broken
        }
    }

    pub(super) fn into_refused(self) -> Refused {
        match self {
            Self::Connect => Refused::new(11205, "no connection"),
            Self::TimedOut => Refused::new(11205, "no answer in time"),
            Self::Broken => Refused::new(11206, "the connection broke"),
            Self::Refused(refused) => refused,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "11205: no connection",
            Self::TimedOut => "11205: no answer in time",
            Self::Broken => "11206: the connection broke",
            Self::Refused(refused) => return write!(f, "{}: {}", refused.code, refused.message),
        })
    }
}

/// The connection overrides behind `#`, with Twilio's defaults.
struct Overrides {
    retries: u32,
    on: String,
    connect: Duration,
    read: Duration,
    total: Duration,
}

impl Overrides {
    fn of(url: &str) -> Self {
        let mut overrides = Self {
            retries: 1,
            on: "ct".to_owned(),
            connect: CONNECT_LIMIT,
            read: HARD_LIMIT,
            total: HARD_LIMIT,
        };
        let fragment = url.split_once('#').map_or("", |(_, fragment)| fragment);
        for pair in fragment.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = value.parse::<u32>().ok();
            match (key, number) {
                ("rc", Some(count)) => overrides.retries = count.min(5),
                ("ct", Some(ms)) => overrides.connect = limited(ms),
                ("rt", Some(ms)) => overrides.read = limited(ms),
                ("tt", Some(ms)) => overrides.total = limited(ms),
                ("rp", _) => value.clone_into(&mut overrides.on),
                _ => {}
            }
        }
        overrides
    }

    fn repeats(&self, outcome: &Result<Attempt, Failure>) -> bool {
        let on = |name: &str| self.on.split(',').any(|on| on == name || on == "all");
        match outcome {
            Ok(attempt) => match attempt.status {
                400..=499 => on("4xx"),
                500..=599 => on("5xx"),
                _ => false,
            },
            Err(Failure::Connect) => on("ct"),
            Err(Failure::TimedOut) => on("rt"),
            Err(Failure::Broken) => on("all"),
            Err(Failure::Refused(_)) => false,
        }
    }
}

fn limited(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms)).min(HARD_LIMIT)
}

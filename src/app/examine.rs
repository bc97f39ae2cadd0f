//! What `doctor` asks of the world outside, and of what would be served. The clients and their limits are the appliance's own.

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::Response;
use reqwest::header::DATE;
use reqwest::tls::TlsInfo;

use super::settings;
use crate::alerts::{Email, EventType, MessageContext, RenderedMessage, TestNotification};
use crate::config::{Acme, Config, PublicUrl, Tls};
use crate::http::listener::tls::{
    CertificateError, CertificateState, Certificates, kept, read_leaf,
};
use crate::twilio::Verifier;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is behind the public address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The name has no address.
    NoAddress {
        why: String,
    },
    /// There is no connection, or no answer, or TLS fails.
    NoAnswer {
        why: String,
    },
    Other {
        status: u16,
    },
    Ours {
        version: String,
        /// What it shows over TLS.
        certificate: Option<CertificateState>,
    },
}

/// What the server at that address says the time is, where it says so.
pub async fn date_of(url: &str) -> anyhow::Result<Option<Timestamp>> {
    let asked = settings::examining_client()?.get(url).send();
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let header = answer
        .ok()
        .and_then(Result::ok)
        .and_then(|answer| Some(answer.headers().get(DATE)?.to_str().ok()?.to_owned()));
    Ok(header.and_then(|text| rfc2822::DateTimeParser::new().parse_timestamp(&text).ok()))
}

/// Asks for `/health` behind the public address, as anybody outside would.
pub async fn reach(url: &PublicUrl) -> anyhow::Result<Reached> {
    if let Err(error) = tokio::net::lookup_host((url.host().trim_matches(['[', ']']), 443)).await {
        return Ok(Reached::NoAddress {
            why: error.to_string(),
        });
    }
    let address = format!("{}/health", url.as_str().trim_end_matches('/'));
    let asked = async {
        let answer = settings::examining_client()?.get(address).send().await;
        anyhow::Ok(match answer {
            Ok(answer) => read(answer).await,
            Err(error) => Reached::NoAnswer {
                why: describe(&error),
            },
        })
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(reached) => reached,
        Err(_) => Ok(Reached::NoAnswer {
            why: format!("nothing within {} s", PATIENCE.as_secs()),
        }),
    }
}

async fn read(answer: Response) -> Reached {
    let status = answer.status().as_u16();
    let certificate = answer
        .extensions()
        .get::<TlsInfo>()
        .and_then(|info| read_leaf(info.peer_certificate()?));
    let health: Option<serde_json::Value> = answer.json().await.ok();
    let version = health.as_ref().and_then(|health| {
        let is_ours = health.get("status")? == "ok";
        health.get("version")?.as_str().filter(|_| is_ours)
    });
    match version {
        Some(version) => Reached::Ours {
            version: version.to_owned(),
            certificate,
        },
        None => Reached::Other { status },
    }
}

fn describe(error: &reqwest::Error) -> String {
    let mut source = std::error::Error::source(error);
    let mut words = Vec::new();
    while let Some(cause) = source {
        words.push(cause.to_string());
        source = cause.source();
    }
    let words = words.join(": ");
    words.chars().take(300).collect()
}

/// Connects to the mail server and logs in; nothing is sent.
pub async fn ask_mail_server(email: &Email) -> anyhow::Result<Result<(), String>> {
    let answer = settings::mailer(email)?.probe().await;
    Ok(answer.map_err(|error| error.to_string()))
}

/// Sends a test mail to all recipients, now and once; the outbox has no part in it.
pub async fn send_test_mail(
    config: &Config,
    email: &Email,
    now: Timestamp,
) -> anyhow::Result<Result<(), String>> {
    let tested = TestNotification {
        id: format!("doctor-{}", now.as_millisecond()),
        by: "switchboard doctor".to_owned(),
        tell: Vec::new(),
    };
    let detail = serde_json::to_string(&tested)?;
    let context = MessageContext {
        public_url: config.server.public_url.as_str().to_owned(),
        ..MessageContext::default()
    };
    let message = RenderedMessage::compose(EventType::Tested, &detail, now, &context)
        .context("the test mail cannot be composed")?;
    let mailer = settings::mailer(email)?;
    let sent = mailer.send(&message, &email.to, "doctor", now).await;
    Ok(sent.map_err(|error| error.to_string()))
}

pub fn certificate_of_files(tls: &Tls) -> Result<CertificateState, CertificateError> {
    Certificates::load(&tls.certificate, &tls.private_key).map(|of_tls| of_tls.state())
}

/// The certificate that an authority gave and that is kept, where there is one.
pub fn kept_certificate(acme: &Acme) -> Option<CertificateState> {
    kept(&super::certificates::settings(acme))
}

pub fn verifier(config: &Config) -> anyhow::Result<Verifier> {
    Ok(settings::edge(config)?.verifier)
}

//! What is asked of others: Twilio and its numbers, Braze, the dialers, the public address.

use std::time::Duration;

use anyhow::Context;
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use reqwest::Response;
use reqwest::header::DATE;
use reqwest::tls::TlsInfo;

use super::finding::Finding;
use crate::alerts::{
    Email, EventType, MessageContext, NotTaken, PostSettings, RenderedMessage, TestNotification,
};
use crate::app;
use crate::clock::Clock;
use crate::config::{Config, PublicUrl};
use crate::http::listener::tls::{CertificateState, read_leaf};
use crate::http::same_secret_question;
use crate::twilio::{NoAnswer, NumberSettings};
use crate::twiml::{CallbackUrls, OVERRIDES};

/// A clock further off than this makes records hard to compare with Twilio's.
const OFF: SignedDuration = SignedDuration::from_secs(5);
/// One further off than this makes certificates and sessions fail.
const FAR_OFF: SignedDuration = SignedDuration::from_secs(60);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn findings(config: &Config, is_running: bool) -> anyhow::Result<Vec<Finding>> {
    let clock = Clock::system();
    let mut findings = vec![time(config, &clock).await?];
    findings.extend(public_url(config, &config.server.public_url, is_running).await?);
    for url in &config.server.also_public {
        findings.extend(public_url(config, url, true).await?);
    }
    findings.extend(numbers(config, &clock, is_running).await?);
    findings.push(mail(config).await?);
    findings.extend(channels(config).await?);
    let probe = app::braze(config, &clock)?.probe().await;
    findings.push(if probe.ok {
        Finding::well("braze", probe.message)
    } else {
        let hint = "check `base_url`, and that `api_key` has the permission users.export.ids";
        Finding::error("braze", probe.message, hint)
    });
    for dialer in app::dialers(config, &clock, &[], &[])? {
        let report = dialer.test().await;
        for check in report.checks {
            let name = format!("{} {}", report.dialer, check.name);
            findings.push(if check.ok {
                Finding::well(&name, check.message)
            } else {
                let hint = "`test-dialer` asks this dialer alone";
                Finding::error(&name, check.message, hint)
            });
        }
    }
    Ok(findings)
}

/// Whether the mail server lets us in.
async fn mail(config: &Config) -> anyhow::Result<Finding> {
    let check = "mail server";
    let Some(email) = &config.alerts.email else {
        return Ok(Finding::warning(
            check,
            "there is none: nobody is told of incidents by mail",
            "fill in [alerts.email]",
        ));
    };
    let server = format!("{}:{}", email.smtp.host, email.smtp.port);
    Ok(match app::mailer(email)?.probe().await {
        Ok(()) => Finding::well(check, format!("{server} lets us in")),
        Err(why) => Finding::error(
            check,
            format!("{server}: {why}"),
            "check host, port, TLS and login under [alerts.email]",
        )
        .for_now(),
    })
}

/// Whether the hosts of the channels answer. Whatever is sent to their addresses arrives, so that nothing is.
async fn channels(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let client = app::examining_client()?;
    let mut findings = Vec::new();
    for PostSettings { name, host, .. } in &config.alerts.channels {
        let check = format!("channel {name}");
        let asked = tokio::time::timeout(PATIENCE, client.head(host).send()).await;
        findings.push(if matches!(asked, Ok(Ok(_))) {
            let untried =
                "whether it takes messages was not tried: the button on /alerts sends one";
            Finding::well(&check, format!("{host} answers; {untried}"))
        } else {
            let hint = "let the connection through, or look at its url under [alerts.channels]";
            Finding::error(&check, format!("{host} gives no answer"), hint).for_now()
        });
    }
    Ok(findings)
}

/// Whether the mail server takes a mail to those who are told of incidents.
pub(super) async fn test_mail(config: &Config) -> anyhow::Result<Finding> {
    let check = "test mail";
    let Some(email) = &config.alerts.email else {
        return Ok(Finding::error(
            check,
            "there is nobody to send it to",
            "fill in [alerts.email]",
        ));
    };
    let to = email.to.join(", ");
    Ok(match send_test_mail(config, email).await? {
        Ok(()) => Finding::well(check, format!("the mail server has taken one to {to}")),
        Err(why) => Finding::error(
            check,
            format!("none was taken to {to}: {why}"),
            "check addresses, host, port, TLS and login under [alerts.email]",
        )
        .for_now(),
    })
}

/// Sends it to all recipients, now and once; the outbox has no part in it.
async fn send_test_mail(config: &Config, email: &Email) -> anyhow::Result<Result<(), NotTaken>> {
    let now = Clock::system().now();
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
    let mailer = app::mailer(email)?;
    Ok(mailer.send(&message, &email.to, "doctor", now).await)
}

/// Compares this machine's clock with those of Twilio and Braze.
async fn time(config: &Config, clock: &Clock) -> anyhow::Result<Finding> {
    let check = "clock";
    for (name, url) in [
        ("Twilio", &config.twilio.api_base),
        ("Braze", &config.braze.base_url),
    ] {
        let before = clock.now();
        let Some(theirs) = date_of(url).await? else {
            continue;
        };
        let after = clock.now();
        // Their second may have begun before the question and ended after the answer.
        let ahead = before.duration_since(theirs) - SignedDuration::from_secs(1);
        let behind = theirs.duration_since(after);
        let off = ahead.max(behind).max(SignedDuration::ZERO);
        let message = format!("within {} s of {name}'s", off.as_secs().max(1));
        let hint = "let the system keep its clock: timedatectl set-ntp true";
        let wrong = format!("{} s away from {name}'s", off.as_secs());
        return Ok(if off > FAR_OFF {
            Finding::error(check, wrong, hint)
        } else if off > OFF {
            Finding::warning(check, wrong, hint)
        } else {
            Finding::well(check, message)
        });
    }
    Ok(Finding::warning(
        check,
        "nobody outside told the time",
        "let the connections to Twilio and Braze through, and look again",
    ))
}

/// What the server at that address says the time is, where it says so.
async fn date_of(url: &str) -> anyhow::Result<Option<Timestamp>> {
    let asked = app::examining_client()?.get(url).send();
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let header = answer
        .ok()
        .and_then(Result::ok)
        .and_then(|answer| Some(answer.headers().get(DATE)?.to_str().ok()?.to_owned()));
    Ok(header.and_then(|text| rfc2822::DateTimeParser::new().parse_timestamp(&text).ok()))
}

/// Whether a public address leads here, or to a server with the same secret, over TLS that Twilio accepts.
async fn public_url(
    config: &Config,
    url: &PublicUrl,
    is_running: bool,
) -> anyhow::Result<Vec<Finding>> {
    let further = format!("public URL {}", url.host());
    let is_own = *url == config.server.public_url;
    let check = if is_own { "public URL" } else { &further };
    let wrong = |message: String, hint: &str| {
        if is_running {
            Finding::error(check, message, hint)
        } else {
            let message = format!("{message}; no server runs here now");
            Finding::warning(check, message, hint)
        }
    };
    if let Err(why) = tokio::net::lookup_host((url.host().trim_matches(['[', ']']), 443)).await {
        return Ok(vec![wrong(
            format!("{} has no address: {why}", url.host()),
            "point its A or AAAA record to this machine",
        )]);
    }
    let key_ring = app::key_ring_of_existing(config).ok();
    let key_ring = key_ring.filter(|key_ring| !key_ring.secret().is_empty());
    let random = format!("{:016x}", getrandom::u64()?);
    let question = key_ring.map(|key_ring| same_secret_question(&key_ring, &random));
    let address = format!("{}/health?{}", url.as_str(), question.unwrap_or_default());
    let client = app::examining_client()?;
    let asked = async {
        let answer = client.get(address).send().await;
        Ok(health(answer.map_err(|error| describe(&error))?).await)
    };
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("nothing within {} s", PATIENCE.as_secs())));
    let (version, is_same, certificate) = match answer {
        Err(why) => {
            let finding = wrong(
                format!("{} gives no answer: {why}", url.as_str()),
                "let port 443 through to the listener; the certificate must be of a public authority and for this name",
            );
            return Ok(vec![finding.for_now()]);
        }
        Ok(Err(status)) => {
            return Ok(vec![wrong(
                format!("{} answers {status}, but not as Switchboard", url.as_str()),
                "the name or the proxy leads to another machine or path",
            )]);
        }
        Ok(Ok(ours)) => ours,
    };
    let leads = format!("{} leads to Switchboard {version}", url.as_str());
    let mut findings = vec![if is_same == Some(false) {
        wrong(
            format!("{leads} with another secret: neither can go on with the other's calls"),
            "give both the same `secret` under [storage] before the first start of the second; after `secret rotate`, on both",
        )
    } else {
        let how = is_same.map_or("not asked for its secret", |_| "with the same secret");
        Finding::well(check, format!("{leads}, {how}"))
    }];
    let shown = certificate.map(|shown| shown_certificate(config, &shown, url.host()));
    findings.extend(shown);
    Ok(findings)
}

/// The version of a Switchboard that answered, whether it has our secret, and the certificate shown over TLS; the status of anybody else.
async fn health(answer: Response) -> Result<(String, Option<bool>, Option<CertificateState>), u16> {
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
    let version = version.ok_or(status)?.to_owned();
    let is_same = health
        .as_ref()
        .and_then(|health| health.get("same_secret")?.as_bool());
    Ok((version, is_same, certificate))
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

fn shown_certificate(config: &Config, shown: &CertificateState, host: &str) -> Finding {
    let check = "public certificate";
    let until = shown.expires_at.map(|at| at.to_string());
    let until = until.unwrap_or_default();
    let tls = config.server.tls.as_ref();
    let ours = tls.and_then(|tls| app::certificate_of_files(tls).ok());
    match ours {
        Some(ours) if (ours.expires_at, &ours.names) != (shown.expires_at, &shown.names) => {
            Finding::warning(
                check,
                format!("{host} shows another certificate than the one under [server.tls]"),
                "a proxy in between ends TLS, or the server has not taken the new files: send it SIGHUP",
            )
        }
        Some(_) | None => Finding::well(check, format!("for {host}, until {until}")),
    }
}

/// Whether the numbers of the account lead here, with everything that a call needs.
async fn numbers(config: &Config, clock: &Clock, is_running: bool) -> anyhow::Result<Vec<Finding>> {
    let check = "Twilio numbers";
    let rest = app::rest(config, clock)?;
    if rest.can_ask().is_err() {
        return Ok(Vec::new());
    }
    let numbers = match rest.numbers().await {
        Ok(numbers) => numbers,
        Err(NoAnswer::CannotAsk(why)) => {
            return Ok(vec![Finding::error(
                "Twilio credentials",
                why.to_string(),
                "copy Account SID and Auth Token from the start page of the Twilio console",
            )]);
        }
        Err(error) => {
            return Ok(vec![Finding::warning(
                check,
                format!("the settings cannot be read: {error}"),
                "calls need no REST API; look at the numbers in the Twilio console, or again later",
            )]);
        }
    };
    let names = [&config.server.public_url]
        .into_iter()
        .chain(&config.server.also_public);
    let names = names.map(|url| CallbackUrls::new(url.as_str()));
    let names: Vec<CallbackUrls> = names.collect();
    let mut findings = vec![Finding::well(
        "Twilio credentials",
        format!("the account has {} numbers", numbers.len()),
    )];
    let ours: Vec<&NumberSettings> = numbers.iter().filter(|n| n.leads_to(&names)).collect();
    if ours.is_empty() {
        let message = format!("none of {} numbers leads here", numbers.len());
        let hint = paste(&names);
        findings.push(if is_running {
            Finding::error(check, message, hint)
        } else {
            Finding::warning(check, message, hint)
        });
    }
    for number in ours {
        let name = format!("Twilio number {}", number.phone_number);
        let faults = number.faults(&names, config.routing.budget);
        if faults.is_empty() {
            findings.push(Finding::well(&name, "its settings are as they should be"));
        }
        for fault in faults {
            findings.push(if fault.is_grave {
                Finding::error(&name, fault.message, fault.hint)
            } else {
                Finding::warning(&name, fault.message, fault.hint)
            });
        }
    }
    for url in names.iter().map(CallbackUrls::inbound) {
        // An account without rules, or a key that may not read them, is no reason to worry anybody.
        for rule in rest.webhook_rules(&url).await.unwrap_or_default() {
            let message = format!(
                "{rule} decides how {url} is asked: what stands behind its # does not count"
            );
            let hint = format!("give the setting of that rule the same: {OVERRIDES}");
            findings.push(Finding::warning("Twilio webhook rules", message, hint));
        }
    }
    Ok(findings)
}

/// The values for a number's settings in the console.
fn paste(names: &[CallbackUrls]) -> String {
    let url = |idx: usize, of: fn(&CallbackUrls) -> String| names.get(idx).map(of);
    let voice = url(0, CallbackUrls::inbound).unwrap_or_default();
    let status = url(0, CallbackUrls::number_status).unwrap_or_default();
    let fallback = url(1, CallbackUrls::inbound).or_else(|| url(0, CallbackUrls::fallback));
    format!(
        "in the number's Voice configuration set \"A call comes in\": Webhook, {voice}{OVERRIDES}, HTTP POST; \"Primary handler fails\": {}{OVERRIDES}, HTTP POST; \"Call status changes\": {status}{OVERRIDES}, HTTP POST",
        fallback.unwrap_or_default()
    )
}

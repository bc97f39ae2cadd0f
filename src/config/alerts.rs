//! `[alerts]`: when an incident opens, and who is told.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::dialers::is_name;
use super::pem;
use super::problem::Fault;
use super::section::{Section, TomlValue};
use super::url;
use crate::alerts::{
    AlertRules, Channel, Email, HeartbeatSettings, PLACEHOLDERS, PostSettings, Smtp, SmtpSecurity,
    WebhookSettings,
};
use crate::secret::Secret;

/// When an incident opens, and who is told. Without the section incidents are only shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerts {
    pub rules: AlertRules,
    /// Whether an incident opens where a number gets no call at an hour at which it always does. Default: true.
    pub silent_numbers: bool,
    /// When the summary of a day is sent, as a time of day in `time_zone`. Default: none is sent.
    pub daily_summary: Option<Time>,
    /// The time zone of `daily_summary` and of the times in that message, and the default of `[routing] time_zone`. Default: UTC.
    pub time_zone: TimeZone,
    pub email: Option<Email>,
    /// A signed JSON message. Default: none.
    pub webhook: Option<WebhookSettings>,
    /// Chat and paging services. Default: none.
    pub channels: Vec<PostSettings>,
    /// Default: none.
    pub heartbeat: Option<HeartbeatSettings>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            rules: AlertRules::default(),
            silent_numbers: true,
            daily_summary: None,
            time_zone: TimeZone::UTC,
            email: None,
            webhook: None,
            channels: Vec::new(),
            heartbeat: None,
        }
    }
}

const TEN_SECONDS: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const WEEK: Duration = Duration::from_hours(24 * 7);

impl Alerts {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let rules = default.rules;
        let count = |value: &TomlValue<'_>| value.integer(1..=1_000_000);
        let rules = AlertRules {
            failure_percent: section.or("failure_rate_percent", rules.failure_percent, percent),
            window: section.duration("window", rules.window, TEN_SECONDS..=DAY),
            min_calls: section.or("min_calls", rules.min_calls, count),
            repeat_every: section.duration("repeat_every", rules.repeat_every, MINUTE..=WEEK),
            braze_failure_percent: section.or(
                "braze_failure_percent",
                rules.braze_failure_percent,
                percent,
            ),
            braze_min_failures: section.or("braze_min_failures", rules.braze_min_failures, count),
            dialer_failure_percent: section.or(
                "dialer_failure_percent",
                rules.dialer_failure_percent,
                percent,
            ),
            min_requests: section.or("min_requests", rules.min_requests, count),
            waiting_longer_than: section.optional("waiting_longer_than", |value| {
                value.duration(Duration::from_secs(1)..=Duration::from_hours(1))
            }),
        };
        let alerts = Self {
            rules,
            silent_numbers: section.or("silent_numbers", true, TomlValue::boolean),
            daily_summary: section.optional("daily_summary", time_of_day),
            time_zone: section.or("time_zone", default.time_zone, TomlValue::time_zone),
            email: section.optional_section("email", email),
            webhook: section.optional_section("webhook", webhook),
            channels: section
                .optional_section("channels", channels)
                .unwrap_or_default(),
            heartbeat: heartbeat(section),
        };
        if !["email", "webhook", "channels"]
            .iter()
            .any(|name| section.has(name))
        {
            section.warn(
                "",
                Fault::new("names nobody to tell")
                    .hint("add [alerts.email], [alerts.webhook] or a channel"),
            );
        }
        let reader = section.reader();
        let has_hours = reader.holds("routing.hours") || alerts.silent_numbers;
        let is_default = has_hours && !reader.holds("routing.time_zone");
        if section.has("time_zone") && !section.has("daily_summary") && !is_default {
            section.warn(
                "time_zone",
                Fault::new("has no effect without daily_summary")
                    .hint("add daily_summary = \"07:00\", or leave time_zone out"),
            );
        }
        alerts
    }
}

fn email(section: &mut Section<'_>) -> Option<Email> {
    let to = section.required("to", |value| {
        let hint = "name at least one mail address";
        value.non_empty("is an empty list", hint, |value| {
            value.one_or_list(TomlValue::mail_address)
        })
    });
    let from = section.required("from", TomlValue::mail_address);
    let smtp = section.required("smtp", smtp);
    let username = section.optional("username", TomlValue::text);
    let password = section.optional("password", TomlValue::token);
    section.refuse_half_a_pair("username", "password");
    let ca = pem::authorities(section, "ca");
    Some(Email {
        to: to?,
        from: from?,
        smtp: smtp?,
        username,
        password,
        ca,
    })
}

fn webhook(section: &mut Section<'_>) -> Option<WebhookSettings> {
    let url = section.required("url", TomlValue::request_url);
    let secret = section.required("secret", TomlValue::token);
    Some(WebhookSettings {
        url: url?,
        secret: secret?,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that reads a section")]
fn channels(section: &mut Section<'_>) -> Option<Vec<PostSettings>> {
    let mut channels = Vec::new();
    for (name, value) in section.entries() {
        if !is_name(name) {
            let fault = Fault::new("is not a name for a channel");
            value.fail_at_name(fault.hint("use 1 to 32 letters, digits, _ and -"));
        }
        channels.extend(value.section(|section| channel(section, name)));
    }
    Some(channels)
}

fn channel(section: &mut Section<'_>, name: &str) -> Option<PostSettings> {
    let Some(kind) = section.required("kind", |value| value.one_of(&Channel::NAMED)) else {
        section.leave_unjudged();
        return None;
    };
    let mut url = Some(Secret::new("https://events.pagerduty.com/v2/enqueue"));
    let (mut routing_key, mut headers, mut body) = (None, Vec::new(), Vec::new());
    if kind == Channel::Pagerduty {
        url = section.optional("url", TomlValue::secret_url).or(url);
        routing_key = Some(section.required("routing_key", TomlValue::token)?);
    } else {
        url = section.required("url", TomlValue::secret_url);
    }
    if matches!(kind, Channel::Ntfy | Channel::Http) {
        headers = section.or("headers", headers, |value| {
            value.map(|name, value| value.header(name))
        });
    }
    if kind == Channel::Http {
        let all = PLACEHOLDERS.map(|name| (name.to_owned(), format!("{{{name}}}")));
        body = section.or("body", all.to_vec(), |value| {
            value.map(|_, value| value.template(&PLACEHOLDERS))
        });
    }
    section.note_origin_as("url", &section.key("host"));
    let url = url?;
    let host = url::Parts::origin(url.expose()).to_owned();
    if kind == Channel::Ntfy && url.expose().trim_end_matches('/') == host {
        let fault = Fault::new("names no topic");
        section.error(
            "url",
            fault.hint("it ends in the topic, like https://ntfy.example/topic"),
        );
    }
    Some(PostSettings {
        name: name.to_owned(),
        kind,
        host,
        url,
        routing_key,
        headers,
        body,
    })
}

fn heartbeat(section: &mut Section<'_>) -> Option<HeartbeatSettings> {
    let url = section.optional("heartbeat", TomlValue::secret_url);
    let every = section.duration("heartbeat_every", MINUTE, TEN_SECONDS..=DAY);
    if section.has("heartbeat_every") && !section.has("heartbeat") {
        let fault = Fault::new("has no effect without heartbeat");
        section.warn("heartbeat_every", fault);
    }
    Some(HeartbeatSettings { url: url?, every })
}

fn percent(value: &TomlValue<'_>) -> Result<f64, Fault> {
    let percent = value.number()?;
    if (0.0..=100.0).contains(&percent) {
        Ok(percent)
    } else {
        Err(Fault::new("must lie between 0 and 100").hint("the value is in percent: 5 means 5 %"))
    }
}

fn time_of_day(value: &TomlValue<'_>) -> Result<Time, Fault> {
    let text = value.text()?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = text.split_once(':');
    parts
        .filter(|(hour, minute)| digits(hour) && digits(minute))
        .and_then(|(hour, minute)| Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok())
        .ok_or_else(|| {
            Fault::new("must be a time of day").hint("write \"07:00\", from 00:00 to 23:59")
        })
}

fn smtp(value: &TomlValue<'_>) -> Result<Smtp, Fault> {
    let text = value.text()?;
    let parts = url::Parts::split_scheme(&text, &["smtps", "smtp"])?;
    if !matches!(parts.path, "" | "/") {
        return Err(Fault::new("must not hold a path").hint("write smtps://host:port"));
    }
    parts.refuse_query()?;
    let security = match parts.scheme {
        "smtps" => SmtpSecurity::Tls,
        _ if url::is_loopback(parts.host) => SmtpSecurity::Loopback,
        _ => SmtpSecurity::StartTls,
    };
    let is_tls = security == SmtpSecurity::Tls;
    let default_port = if is_tls { 465 } else { 587 };
    Ok(Smtp {
        security,
        host: parts.host.to_owned(),
        port: parts.port.unwrap_or(default_port),
    })
}

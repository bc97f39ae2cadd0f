//! `[alerts]`: when an incident opens, and who is told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::pem;
use super::twilio::refuse_half_a_pair;
use super::url;
use super::{Fault, Secret, Section, Value};

/// When an incident opens, and who is told. Without the section incidents are only shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerts {
    /// The share of routing failures, in percent of the calls of the window, above which an incident opens; 0 to 100.
    /// Default: 5.
    pub failure_rate_percent: f64,
    /// The time that is looked back on; 10 s to 1 d. Default: 5 m.
    pub window: Duration,
    /// Fewer calls in the window open no incident. Default: 1.
    pub min_calls: u32,
    /// How often a reminder is sent while an incident stays open; 1 m to 7 d. Default: 1 h.
    pub repeat_every: Duration,
    /// The share of look-ups at Braze that fail, in percent, above which an incident opens; 0 to 100. Default: 5.
    pub braze_failure_percent: f64,
    /// Fewer look-ups that fail in the window open no incident. Default: 3.
    pub braze_min_failures: u32,
    /// The share of handoffs to one dialer that fail, in percent, above which an incident opens; 0 to 100. Default: 20.
    pub dialer_failure_percent: f64,
    /// Fewer requests to a dialer in the window open no incident. Default: 10.
    pub min_requests: u32,
    /// When the summary of a day is sent, as a time of day in `time_zone`. Default: none is sent.
    pub daily_summary: Option<Time>,
    /// The time zone of `daily_summary`, and of the times in that message. Default: UTC.
    pub time_zone: TimeZone,
    pub email: Option<Email>,
    /// A signed JSON message. Default: none.
    pub webhook: Option<AlertWebhook>,
}

/// Where mail goes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// The recipients; at least one.
    pub to: Vec<String>,
    pub from: String,
    pub smtp: Smtp,
    /// The login name. Default: none; no login.
    pub username: Option<String>,
    /// The password; set exactly where `username` is.
    pub password: Option<Secret>,
    /// A file with certificate authorities that are trusted beside the system's, as PEM. Default: none.
    pub ca: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// How the connection is protected.
    pub security: SmtpSecurity,
    /// The host name or address, without brackets.
    pub host: String,
    /// The port. Default: 465 for `smtps://`, 587 for `smtp://`.
    pub port: u16,
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// `smtps://`: TLS from the first byte.
    Tls,
    StartTls,
    /// `smtp://` on a loopback host: STARTTLS where it is offered, otherwise plain.
    Loopback,
}

impl fmt::Display for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.security {
            SmtpSecurity::Tls => "smtps",
            SmtpSecurity::StartTls | SmtpSecurity::Loopback => "smtp",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Where a signed JSON message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertWebhook {
    pub url: String,
    /// What the message is signed with.
    pub secret: Secret,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            failure_rate_percent: 5.0,
            window: Duration::from_mins(5),
            min_calls: 1,
            repeat_every: Duration::from_hours(1),
            braze_failure_percent: 5.0,
            braze_min_failures: 3,
            dialer_failure_percent: 20.0,
            min_requests: 10,
            daily_summary: None,
            time_zone: TimeZone::UTC,
            email: None,
            webhook: None,
        }
    }
}

impl Alerts {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the shape that sections are read in"
    )]
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let default = Self::default();
        let alerts = Self {
            failure_rate_percent: section.or(
                "failure_rate_percent",
                default.failure_rate_percent,
                percent,
            ),
            window: section.or("window", default.window, |value| {
                value.duration(Duration::from_secs(10)..=Duration::from_hours(24))
            }),
            min_calls: section.or("min_calls", default.min_calls, |value| {
                value.integer(1..=1_000_000)
            }),
            repeat_every: section.or("repeat_every", default.repeat_every, |value| {
                value.duration(Duration::from_mins(1)..=Duration::from_hours(24 * 7))
            }),
            braze_failure_percent: section.or(
                "braze_failure_percent",
                default.braze_failure_percent,
                percent,
            ),
            braze_min_failures: section.or(
                "braze_min_failures",
                default.braze_min_failures,
                |value| value.integer(1..=1_000_000),
            ),
            dialer_failure_percent: section.or(
                "dialer_failure_percent",
                default.dialer_failure_percent,
                percent,
            ),
            min_requests: section.or("min_requests", default.min_requests, |value| {
                value.integer(1..=1_000_000)
            }),
            daily_summary: section.optional("daily_summary", time_of_day),
            time_zone: section.or("time_zone", default.time_zone, time_zone),
            email: section.optional_section("email", Email::read),
            webhook: section.optional_section("webhook", AlertWebhook::read),
        };
        if !section.has("email") && !section.has("webhook") {
            section.warn(
                "",
                Fault::new("names nobody to tell").hint("add [alerts.email] or [alerts.webhook]"),
            );
        }
        if section.has("time_zone") && !section.has("daily_summary") {
            section.warn(
                "time_zone",
                Fault::new("has no effect without daily_summary")
                    .hint("add daily_summary = \"07:00\", or leave time_zone out"),
            );
        }
        Some(alerts)
    }
}

impl Email {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let to = section.required("to", |value| {
            if value.as_array().is_some_and(|list| list.is_empty()) {
                return Err(Fault::new("is an empty list").hint("name at least one mail address"));
            }
            value.one_or_list(Value::mail_address)
        });
        let from = section.required("from", Value::mail_address);
        let smtp = section.required("smtp", smtp);
        let username = section.optional("username", Value::text);
        let password = section.optional("password", Value::token);
        refuse_half_a_pair(section, "username", "password");
        let ca = section.optional("ca", Value::path);
        if let Some(ca) = &ca {
            pem::check_authorities(section, "ca", ca);
        }
        Some(Self {
            ca,
            to: to?,
            from: from?,
            smtp: smtp?,
            username,
            password,
        })
    }
}

impl AlertWebhook {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let url = section.required("url", Value::request_url);
        let secret = section.required("secret", Value::token);
        Some(Self {
            url: url?,
            secret: secret?,
        })
    }
}

fn percent(value: &Value<'_>) -> Result<f64, Fault> {
    let percent = value.number()?;
    if (0.0..=100.0).contains(&percent) {
        Ok(percent)
    } else {
        Err(Fault::new("must lie between 0 and 100").hint("the value is in percent: 5 means 5 %"))
    }
}

fn time_of_day(value: &Value<'_>) -> Result<Time, Fault> {
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

fn time_zone(value: &Value<'_>) -> Result<TimeZone, Fault> {
    let text = value.text()?;
    TimeZone::get(&text).map_err(|_| {
        Fault::new("is no time zone of the IANA database")
            .hint("write \"UTC\", \"Europe/Berlin\" or another name of it")
    })
}

fn smtp(value: &Value<'_>) -> Result<Smtp, Fault> {
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
    let default_port = if security == SmtpSecurity::Tls {
        465
    } else {
        587
    };
    Ok(Smtp {
        security,
        host: parts.host.to_owned(),
        port: parts.port.unwrap_or(default_port),
    })
}

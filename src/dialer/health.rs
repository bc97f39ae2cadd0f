//! Whether a dialer is well: a probe that runs all the time, and a test for people.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::client::DialerReply;
use crate::handoff::{Failure, FailureKind, Outcome};
use crate::routing::{Availability, DialerId};

/// A person waits for a test: it may take longer than a call may.
pub(super) const TEST_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whether the dialer's API works.
    pub health: ProbeHealth,
    /// Whether the dialer says it can take calls.
    pub availability: Availability,
    /// How long the answer took, where one came.
    pub latency: Option<Duration>,
}

/// Whether a dialer's API works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeHealth {
    /// It answers as it should.
    Healthy,
    /// There is nothing to ask.
    Unknown {
        why: String,
    },
    Failing {
        failure: Failure,
        why: String,
    },
}

impl TestReport {
    /// Adds to `checks` what the probe says of availability, and of the time that it took of the `allowed`.
    pub(super) fn new(
        dialer: DialerId,
        allowed: Duration,
        mut checks: Vec<DialerCheck>,
        probe: &Probe,
    ) -> Self {
        checks.push(availability_check(probe));
        checks.extend(probe.latency.map(|latency| latency_check(latency, allowed)));
        Self {
            dialer,
            ok: checks.iter().all(|check| check.ok),
            latency_ms: probe.latency.map(ms),
            availability: word_of(&probe.availability),
            checks,
        }
    }

    /// Whether the dialer was asked with its credentials and took them.
    pub fn accepts_credentials(&self) -> bool {
        self.checks
            .iter()
            .any(|check| check.name == "credentials" && check.ok)
    }
}

/// The result of a connectivity test.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = DialerTest)]
pub struct TestReport {
    #[schema(value_type = String)]
    pub dialer: DialerId,
    /// Whether every check passed.
    pub ok: bool,
    pub latency_ms: Option<u64>,
    /// `available`, `unavailable` or `unknown`.
    pub availability: &'static str,
    /// What was looked at, in order.
    pub checks: Vec<DialerCheck>,
}

/// One thing that was tested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = DialerCheck)]
pub struct DialerCheck {
    pub name: &'static str,
    pub ok: bool,
    pub message: String,
}

impl DialerCheck {
    pub(super) fn passed(name: &'static str, message: impl Into<String>) -> Self {
        Self {
            name,
            ok: true,
            message: message.into(),
        }
    }

    pub(super) fn failed(name: &'static str, message: impl Into<String>) -> Self {
        Self {
            name,
            ok: false,
            message: message.into(),
        }
    }
}

impl Probe {
    pub(super) fn healthy(latency: Duration) -> Self {
        Self {
            health: ProbeHealth::Healthy,
            availability: Availability::Unknown,
            latency: Some(latency),
        }
    }
}

/// The probe of a request that did not succeed.
pub(super) fn failing(reply: &DialerReply, what: &str) -> Probe {
    let failure = reply
        .success()
        .err()
        .and_then(|outcome| outcome.failure())
        .unwrap_or_else(|| Failure::of(FailureKind::Malformed));
    Probe {
        health: ProbeHealth::Failing {
            failure,
            why: format!("{what}: {}", described(reply)),
        },
        availability: Availability::Unknown,
        latency: reply.status().map(|_| reply.elapsed),
    }
}

/// The probe of an answer that succeeded and cannot be read.
pub(super) fn unreadable(reply: &DialerReply, what: &str) -> Probe {
    let kind = FailureKind::Malformed;
    Probe {
        health: ProbeHealth::Failing {
            failure: reply.status().map_or(Failure::of(kind), |status| {
                Failure::with_status(kind, status)
            }),
            why: format!("{what}: the answer cannot be read"),
        },
        ..failing(reply, what)
    }
}

/// What came back, in a few words.
pub(super) fn described(reply: &DialerReply) -> String {
    match (reply.status(), reply.text()) {
        (Some(status), None) => format!("answer {status}"),
        (Some(status), Some(words)) => format!("answer {status}, {words}"),
        (None, words) => words.unwrap_or("no answer").to_owned(),
    }
}

/// The first two things to look at, from one answer. `advice` says what to do about refused credentials.
pub(super) fn reachability_and_credentials(reply: &DialerReply, advice: &str) -> Vec<DialerCheck> {
    let Some(status) = reply.status() else {
        return vec![
            DialerCheck::failed(
                "reachability",
                format!(
                    "{}: check the address, DNS, the firewall and the certificate",
                    described(reply)
                ),
            ),
            DialerCheck::failed("credentials", "not tested, because there was no answer"),
        ];
    };
    let reachability = match reply.success() {
        Err(Outcome::Retryable { .. }) => DialerCheck::failed(
            "reachability",
            format!("it answers, but with {status}: try again later, or ask its operator"),
        ),
        Err(Outcome::Refused { failure }) if failure.kind == FailureKind::Rejected => {
            DialerCheck::failed(
                "reachability",
                format!("{}: check the address", described(reply)),
            )
        }
        Ok(_) | Err(_) => DialerCheck::passed(
            "reachability",
            format!("answered in {} ms", ms(reply.elapsed)),
        ),
    };
    let credentials = match status {
        401 | 403 => DialerCheck::failed("credentials", format!("refused with {status}: {advice}")),
        200..=299 => DialerCheck::passed("credentials", "accepted"),
        _ => DialerCheck::failed("credentials", format!("not tested: {}", described(reply))),
    };
    vec![reachability, credentials]
}

/// A dialer without agents is in order: calls go elsewhere until one comes. Only a question that failed is a fault.
fn availability_check(probe: &Probe) -> DialerCheck {
    match (&probe.health, &probe.availability) {
        (ProbeHealth::Failing { why, .. }, _) => {
            DialerCheck::failed("availability", format!("cannot be read: {why}"))
        }
        (_, Availability::Available) => DialerCheck::passed("availability", "it can take calls"),
        (_, Availability::Unavailable { why }) => DialerCheck::passed(
            "availability",
            format!("it takes no calls now: {why}; calls go elsewhere until then"),
        ),
        (_, Availability::Unknown) => {
            DialerCheck::passed("availability", "it does not say; counted as available")
        }
    }
}

fn latency_check(latency: Duration, timeout: Duration) -> DialerCheck {
    let (took, allowed) = (ms(latency), ms(timeout));
    if latency <= timeout {
        DialerCheck::passed("latency", format!("{took} ms, {allowed} ms allowed"))
    } else {
        DialerCheck::failed(
            "latency",
            format!(
                "{took} ms, {allowed} ms allowed: handoffs will time out. Raise `timeout`, or find out what is slow"
            ),
        )
    }
}

fn word_of(availability: &Availability) -> &'static str {
    match availability {
        Availability::Available => "available",
        Availability::Unavailable { .. } => "unavailable",
        Availability::Unknown => "unknown",
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! What became of one request to a dialer.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What became of one request to a dialer. "Sent, outcome unknown" is a state of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// The dialer has taken note of the call.
    Accepted {
        /// What the dialer calls it (a ticket or contact id), where it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
    /// The dialer will not take it; asking again changes nothing.
    Refused {
        #[serde(flatten)]
        failure: Failure,
    },
    /// The request did not take effect; asking again may help.
    Retryable {
        #[serde(flatten)]
        failure: Failure,
        /// How long the dialer wants to be left alone, where it says so, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// The request was sent and nothing is known of its effect.
    Unknown {
        #[serde(flatten)]
        failure: Failure,
    },
}

impl Outcome {
    /// Why the request did not succeed; `None` where it did.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Accepted { .. } => None,
            Self::Refused { failure }
            | Self::Retryable { failure, .. }
            | Self::Unknown { failure } => Some(*failure),
        }
    }

    /// How long the dialer wants to be left alone before the next request.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Retryable { retry_after_ms, .. } => retry_after_ms.map(Duration::from_millis),
            Self::Accepted { .. } | Self::Refused { .. } | Self::Unknown { .. } => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// The HTTP status, where there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// Kinds of failure of a request, for reasons and breakers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum FailureKind {
    Timeout,
    /// No connection: DNS, TCP or TLS failed. Nothing was sent.
    Connect,
    /// The connection broke after the request was sent.
    Reset,
    /// 401 or 403: credentials refused.
    Unauthorized,
    RateLimited,
    ServerError,
    /// Any other 3xx or 4xx.
    Rejected,
    /// The answer could not be read.
    Malformed,
    /// The process ended between intent and outcome.
    Interrupted,
    /// Not sent: the dialer's circuit breaker admits one call at a time.
    BreakerOpen,
    /// Not sent: recording the intent had used up the attempt's time.
    NoTime,
}

impl FailureKind {
    /// The stable name, as in exports.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

impl Failure {
    /// A failure without an HTTP answer.
    pub fn of(kind: FailureKind) -> Self {
        Self { kind, status: None }
    }

    /// Reads what [`fmt::Display`] has written; `None` where it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let (word, status) = match text.split_once(" (") {
            Some((word, rest)) => (word, Some(rest.strip_suffix(')')?.parse().ok()?)),
            None => (text, None),
        };
        let word = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(word);
        let kind = FailureKind::deserialize(word).ok()?;
        Some(Self { kind, status })
    }

    /// Whether the dialer refused this one request and is otherwise well: a 4xx that is about neither credentials (401, 403) nor time (408),
    /// or a limit on our requests. Whoever answers an error with a good status refuses this request too.
    pub fn is_of_one_request(&self) -> bool {
        match (self.kind, self.status) {
            (FailureKind::RateLimited, _) => true,
            (_, Some(401 | 403 | 408)) => false,
            (FailureKind::Rejected, Some(200..=299)) | (_, Some(400..=499)) => true,
            (_, _) => false,
        }
    }

    /// A failure that came as an HTTP answer.
    pub fn with_status(kind: FailureKind, status: u16) -> Self {
        Self {
            kind,
            status: Some(status),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if let Some(status) = self.status {
            write!(f, " ({status})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_read_as_it_was_written() {
        for failure in [
            Failure::with_status(FailureKind::ServerError, 503),
            Failure::of(FailureKind::Timeout),
        ] {
            assert_eq!(Failure::parse(&failure.to_string()), Some(failure));
        }
        for other in [
            "",
            "the probe failed",
            "server_error (503",
            "server_error (x)",
        ] {
            assert_eq!(Failure::parse(other), None, "{other}");
        }
    }
}

//! What a caller heard, in order: one moment for each URL that was asked.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::WebhookExchange;

/// One URL that was asked for the caller, and what the caller heard of its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// When it was asked first.
    pub at: Timestamp,
    /// Path and query; the whole URL where it does not lie under the public URL.
    pub url: String,
    /// The status of the last attempt; none where no answer came.
    pub status: Option<u16>,
    /// Why its answer could not be used, with Twilio's error code. The caller heard nothing of it.
    pub error: Option<String>,
    pub heard: Vec<Heard>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// This line rings.
    Ring(String),
    /// Somebody at this line.
    Talk(String),
    /// A text that is spoken, or a sound.
    Said(String),
    Silence(Duration),
    /// The call ends by an answer that says so.
    Goodbye,
    /// Refused, unanswered.
    Rejected,
    /// "An application error has occurred", and the call ends.
    Lost,
}

impl Moment {
    pub(super) fn of(exchange: &WebhookExchange) -> Self {
        Self {
            at: exchange.at,
            url: exchange.path.clone(),
            status: exchange.status,
            error: exchange.error.clone(),
            heard: Vec::new(),
        }
    }

    pub(super) fn json(&self) -> Value {
        let heard: Vec<String> = self.heard.iter().map(ToString::to_string).collect();
        json!({
            "at_ms": self.at.as_millisecond(),
            "url": self.url,
            "status": self.status,
            "error": self.error,
            "heard": heard,
        })
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(address) => write!(f, "ring {address}"),
            Self::Talk(address) => write!(f, "talk {address}"),
            Self::Said(text) => write!(f, "say {text}"),
            Self::Silence(time) => write!(f, "silence {}", time.as_secs()),
            Self::Goodbye => f.write_str("goodbye"),
            Self::Rejected => f.write_str("rejected"),
            Self::Lost => f.write_str("lost"),
        }
    }
}

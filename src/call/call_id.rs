//! Ids of calls and legs.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Identifies a call: Twilio's CallSid of the caller's leg, or an id of ours for the Calls API. Also names a leg.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(Arc<str>);

/// The text cannot name a call: 1 to 64 characters of `[A-Za-z0-9_-]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a call id: 1 to 64 characters of A-Z a-z 0-9 _ -")]
pub struct NotCallId;

impl CallId {
    /// Takes any id that fits a URL; Twilio's are `CA` and 32 hexadecimal digits, but only their safety matters here.
    pub fn parse(text: &str) -> Result<Self, NotCallId> {
        let safe = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if safe && (1..=64).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(NotCallId)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the call came through the Calls API: its client has it on a line of theirs.
    pub fn is_of_calls_api(&self) -> bool {
        self.0.starts_with("api-") || self.0.starts_with("apih-")
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

//! What the channels have in common: why a message was not taken.

use std::time::Duration;

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotTaken {
    /// What went wrong, in words, without secrets.
    pub message: String,
    pub for_good: bool,
    /// The receiver answered: it was not the connection that failed.
    pub answered: bool,
    /// How long the receiver wants to be left alone, where it says so.
    pub retry_after: Option<Duration>,
}

impl NotTaken {
    pub(super) fn for_now(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            for_good: false,
            answered: false,
            retry_after: None,
        }
    }

    pub(super) fn for_good(message: impl Into<String>) -> Self {
        Self {
            for_good: true,
            ..Self::for_now(message)
        }
    }
}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

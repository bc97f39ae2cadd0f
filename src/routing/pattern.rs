//! Numbers, or beginnings of numbers, as rules and lists name them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A number or SIP address, or its beginning followed by `*`: `+4930111111*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NumberPattern(Arc<str>);

impl NumberPattern {
    /// Reads a pattern; `None` where it is neither a number with its country code nor a SIP address, nor the beginning of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        let is_number = text.strip_prefix('+').is_some_and(|digits| {
            let least = if is_prefix { 1 } else { 7 };
            (least..=15).contains(&digits.len())
                && !digits.starts_with('0')
                && digits.bytes().all(|b| b.is_ascii_digit())
        });
        let is_sip = text.strip_prefix("sip:").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && b != b'*')
        });
        let pattern = if is_prefix {
            format!("{text}*")
        } else {
            text.to_owned()
        };
        (is_number || is_sip).then(|| Self(pattern.into()))
    }

    /// How many digits it has.
    pub fn n_digits(&self) -> usize {
        self.0.bytes().filter(u8::is_ascii_digit).count()
    }

    pub fn is_prefix(&self) -> bool {
        self.0.ends_with('*')
    }

    pub fn matches(&self, text: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => text.starts_with(prefix),
            None => text == &*self.0,
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NumberPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_number_or_address_or_its_beginning() {
        let matches = |pattern: &str, text: &str| {
            NumberPattern::parse(pattern).map(|pattern| pattern.matches(text))
        };
        assert_eq!(matches("+493011111", "+493011111"), Some(true));
        assert_eq!(matches("+493011111", "+4930111112"), Some(false));
        assert_eq!(matches("+4930*", "+4930111112"), Some(true));
        assert_eq!(matches("+4930*", "+4940111112"), Some(false));
        assert_eq!(matches("sip:sales@*", "sip:sales@acme.example"), Some(true));
        for refused in [
            "",
            "*",
            "+*",
            "+49",
            "+0*",
            "4930*",
            "+49 30*",
            "+49*30",
            "sip:",
            "sip:*",
            "+1234567890123456",
        ] {
            assert_eq!(matches(refused, ""), None, "{refused}");
        }
    }
}

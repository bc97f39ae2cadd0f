//! What is told of an incident, to whom, and on which occasion.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{IncidentKind, Topic};
use crate::call::CallId;
use crate::routing::DialerId;

/// Ids of affected calls that are kept of one incident, so that they can be listed; the count goes on.
pub const CALLS_NAMED: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Occasion {
    Opened,
    Reminded,
    Resolved,
    /// Somebody wants to know whether messages arrive.
    Tested,
    Summary,
}

impl Occasion {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// Who is told: one mail address, or the receiver of the webhook.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Recipient {
    Email(String),
    Webhook,
}

impl Recipient {
    /// The way on which it is told.
    pub fn channel(&self) -> Channel {
        match self {
            Self::Email(_) => Channel::Email,
            Self::Webhook => Channel::Webhook,
        }
    }

    /// Reads what [`fmt::Display`] has written.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("email", address)) if !address.is_empty() => Some(Self::Email(address.into())),
            None if text == "webhook" => Some(Self::Webhook),
            Some(_) | None => None,
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Email(address) => write!(f, "email:{address}"),
            Self::Webhook => f.write_str("webhook"),
        }
    }
}

impl Serialize for Recipient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Recipient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a recipient"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Channel {
    Email,
    Webhook,
}

impl Channel {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// What is told of an incident: the payload of its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Names the notice: the same however often it is sent.
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub incident: String,
    pub kind: IncidentKind,
    /// Which dialer or rule it is about; empty where it is about none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    #[serde(default)]
    pub cause: String,
    /// The dialers whose recovery resolves it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dialers: Vec<DialerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// How long it has been open, in milliseconds; `None` in the first notice of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasted_ms: Option<u64>,
    /// How many calls it has affected.
    #[serde(default)]
    pub calls: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub call_ids: Vec<CallId>,
    /// Why these calls were affected, each with their number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, u64>,
    /// Nobody is told of it, at least not yet: it may be over before anybody has to be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tell: Vec<Recipient>,
}

impl Notice {
    /// The reasons, most frequent first.
    pub fn ranked(&self) -> Vec<(&str, u64)> {
        let mut ranked: Vec<_> = self.reasons.iter().map(|(r, n)| (r.as_str(), *n)).collect();
        ranked.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        ranked
    }

    /// What it is about, in a few words.
    pub fn title(&self) -> String {
        let topic = Topic {
            kind: self.kind,
            subject: self.subject.clone(),
        };
        topic.title()
    }
}

/// A message by which an admin finds out whether messages arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    pub id: String,
    pub by: String,
    #[serde(default)]
    pub tell: Vec<Recipient>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_read_as_it_was_written() {
        for recipient in [
            Recipient::Email("ops@example.com".into()),
            Recipient::Webhook,
        ] {
            assert_eq!(Recipient::parse(&recipient.to_string()), Some(recipient));
        }
        for wrong in ["", "email:", "fax:1", "webhook:", "ops@example.com"] {
            assert_eq!(Recipient::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_older_records_do_not_hold_is_empty() {
        let old = r#"{"kind":"all_dialers_down","cause":"both hang","dialers":["a"]}"#;
        let notice: Notice = serde_json::from_str(old).unwrap();
        assert_eq!((notice.calls, notice.lasted_ms), (0, None));
        assert!(notice.tell.is_empty() && notice.id.is_empty());
    }
}

//! Notifications: of an incident, of a day, for a test. They are payloads of records.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::kinds::{IncidentKind, Topic};
use super::mutes::Drained;
use super::policy::Recipient;
use crate::call::CallId;
use crate::routing::DialerId;

/// Ids of affected calls that are kept of one incident, so that they can be listed; the count goes on.
pub const CALLS_NAMED: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum EventType {
    Opened,
    Reminded,
    Resolved,
    /// Somebody works on it; told to services that keep an alert open until then.
    Acknowledged,
    /// Somebody wants to know whether messages arrive.
    Tested,
    Summary,
}

impl EventType {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// What is said of an incident on one occasion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// Names it: the same however often it is sent.
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
    /// How long it has been open, in milliseconds; `None` in the first notification of it.
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
    /// Nobody is notified of it, at least not yet: it may be over before anybody has to be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
    /// Why nobody is notified now, though somebody would be otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<Drained>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tell: Vec<Recipient>,
}

impl Notification {
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
pub struct TestNotification {
    pub id: String,
    pub by: String,
    #[serde(default)]
    pub tell: Vec<Recipient>,
}

/// Incidents and changes that are listed; the rest is counted.
pub const LINES: usize = 50;

/// What a day came to. Nothing in it names a caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DailySummary {
    /// Names it: `summary-` and the date on which the day ends, so that there is one of each day.
    pub id: String,
    /// The beginning of the day.
    pub from: Timestamp,
    pub to: Timestamp,
    /// In whose time it is written: a name of the IANA database.
    pub zone: String,
    pub calls: u64,
    /// Those that an agent answered.
    pub answered: u64,
    pub failed: u64,
    /// Those whose caller left first: no success and no failure.
    #[serde(default)]
    pub abandoned: u64,
    /// Those that count as a success: answered, and within the budget.
    #[serde(default)]
    pub succeeded: u64,
    /// Routing failures by why; they add up to `failed`.
    #[serde(default)]
    pub by_reason: BTreeMap<String, u64>,
    /// Those that went to another dialer than the first of their plan.
    pub failed_over: u64,
    /// Those that were on hold.
    pub held: u64,
    /// Calls by tier; the empty name is none.
    pub by_tier: BTreeMap<String, DayShare>,
    /// Calls that have ended, by how.
    pub by_outcome: BTreeMap<String, u64>,
    /// Calls by the dialer that was dialled last.
    pub by_dialer: BTreeMap<String, DayShare>,
    /// How long the stages of an answer took, in milliseconds: `routing`, `lookup`, `handoff`, `commit`.
    pub times: BTreeMap<String, Percentiles>,
    /// Incidents that were open on this day, the newest first.
    pub incidents: Vec<IncidentLine>,
    pub n_incidents: u64,
    /// Changes of the configuration, the newest first.
    pub changes: Vec<ChangeLine>,
    pub n_changes: u64,
    /// Which day was compared with Twilio's list of calls on this one, and what came of it, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completeness: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tell: Vec<Recipient>,
}

/// Calls of one tier or dialer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayShare {
    pub calls: u64,
    /// Those that an agent answered.
    pub answered: u64,
    pub failed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of it was faster, in milliseconds.
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
}

/// An incident of the day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentLine {
    pub incident: String,
    pub kind: IncidentKind,
    /// The dialer it is about; empty where it is about none.
    pub subject: String,
    pub cause: String,
    pub opened_at: Timestamp,
    /// How long it was open, in milliseconds; `None` where it still was when this was made.
    pub lasted_ms: Option<u64>,
    /// How many calls it affected.
    pub calls: u64,
}

/// A change of the configuration. Values are left to the dashboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLine {
    /// When it came into force.
    pub at: Timestamp,
    pub by: String,
    /// The keys that are different.
    pub keys: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_older_records_do_not_hold_is_empty() {
        let old = r#"{"kind":"all_dialers_down","cause":"both hang","dialers":["a"]}"#;
        let notification: Notification = serde_json::from_str(old).unwrap();
        assert_eq!((notification.calls, notification.lasted_ms), (0, None));
        assert!(notification.tell.is_empty() && notification.id.is_empty());
    }
}

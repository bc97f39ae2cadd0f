//! What a day came to: the payload of the record by which it is told.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{IncidentKind, Recipient};

/// Incidents and changes that are told one by one; the rest is counted.
pub const LINES: usize = 50;

/// What a day came to. Nothing in it names a caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Names the notice: `summary-` and the date on which the day ends, so that there is one of each day.
    pub id: String,
    /// The beginning of the day.
    pub from: Timestamp,
    pub to: Timestamp,
    /// In whose time it is told: a name of the IANA database.
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

//! The result of a decision.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Reason, RulesetVersion, Trace};
use crate::lead::{LeadScore, TierName};

/// The name of a dialer: its key under `[dialers]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DialerId(Arc<str>);

impl DialerId {
    /// Takes a name as it stands. The configuration admits `[A-Za-z0-9_-]` only, so that it fits a callback URL.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DialerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DialerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for DialerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What was decided, and how it came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The caller's class; `None` where nothing is known of the caller.
    pub tier: Option<TierName>,
    /// The caller's lead score, where there is one.
    pub score: Option<LeadScore>,
    /// The rule that matched; `None` for the default.
    pub rule: Option<String>,
    /// Why the call goes where it goes.
    pub reason: Reason,
    pub plan: RoutePlan,
    pub trace: Trace,
    pub ruleset: RulesetVersion,
}

/// The dialers to ask, in order, and those that were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePlan {
    /// In the order in which they are asked. Empty where none can take the call.
    pub dialers: Vec<DialerId>,
    /// Every other configured dialer, and what would have to change.
    pub skipped: Vec<Skipped>,
}

/// A dialer that does not take this call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub dialer: DialerId,
    pub reason: SkipReason,
    /// The smallest change that would have put it into the plan, in words: `score 72; hot starts at 80`.
    pub change: String,
}

/// Why a dialer does not take a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum SkipReason {
    /// The rule that matched does not name it.
    NotInRule,
    Drained,
    /// Its circuit breaker is open.
    BreakerOpen,
    /// It says it cannot take calls.
    Unavailable,
    /// It has just recovered, and others who wait for it come first.
    CallersFirst,
}

impl SkipReason {
    /// The stable name, as in exports.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

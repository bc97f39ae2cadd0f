//! The result of a decision.

use serde::{Deserialize, Serialize};

use super::class::CallerClass;
use super::{CallFacts, Course, DialerId, Reason, RulesetVersion, SkipReason, Trace};
use crate::lead::{LeadScore, TierName};

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
    #[serde(default, skip_serializing_if = "Course::is_to_dialers")]
    pub course: Course,
    pub plan: RoutePlan,
    pub trace: Trace,
    pub ruleset: RulesetVersion,
}

impl Decision {
    /// The decision chain as sentences, one a step; `facts` are those that it was made of.
    pub fn sentences(&self, facts: &CallFacts) -> Vec<String> {
        let class = CallerClass {
            score: self.score,
            tier: self.tier.clone(),
            named: None,
        };
        let steps = self.trace.0.iter();
        steps.map(|step| step.sentence(facts, &class)).collect()
    }
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

//! Which dialer takes a call, and why: a pure function of a rule set and recorded facts.

mod change;
mod class;
mod decide;
mod dialer_id;
mod eligibility;
mod facts;
mod lists;
mod plan;
mod recorded;
mod replay;
mod ruleset;
mod trace;

pub use decide::decide;
pub use dialer_id::DialerId;
pub use eligibility::{Inadmissible, Intake, SkipReason, admissible, intake, why_not};
pub use facts::{
    Availability, BreakerView, CallFacts, DialerView, Lookup, LookupSkipped, LookupUnavailable,
    Profile, Source,
};
pub use lists::{
    ListDefinition, ListEntry, ListFile, ListKey, ListSummary, ListedNumber, Lists, NotListed,
    NumberHash, NumberSet,
};
pub use plan::{Decision, RoutePlan, Skipped};
pub use recorded::RecordedDecision;
pub use replay::{Difference, replay};
pub use ruleset::{Rule, RulesInForce, Ruleset, RulesetVersion};
pub use trace::{Reason, RuleVerdict, Step, Trace};

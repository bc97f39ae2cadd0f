//! Which dialer takes a call, and why: a pure function of a rule set and recorded facts.

mod change;
mod decide;
mod eligibility;
mod facts;
mod plan;
mod replay;
mod ruleset;
mod trace;

pub use decide::decide;
pub use eligibility::{Intake, eligible, intake, why_not};
pub use facts::{
    Availability, BreakerView, CallFacts, DialerView, Lookup, LookupSkipped, LookupUnavailable,
    Profile, Source,
};
pub use plan::{Decision, DialerId, RoutePlan, SkipReason, Skipped};
pub use replay::{Difference, replay};
pub use ruleset::{Rule, Ruleset, RulesetVersion};
pub use trace::{Reason, Step, Trace, Verdict};

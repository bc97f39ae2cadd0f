//! Which dialer takes a call, and why: a pure function of a rule set and recorded facts.

mod asked;
mod asked_facts;
mod calendar;
mod change;
mod class;
mod condition;
mod decide;
mod dialer_id;
mod difference;
mod eligibility;
mod facts;
mod hours;
mod limits;
mod lint;
mod lists;
mod pattern;
mod plan;
#[cfg(test)]
mod property;
mod recorded;
mod replay;
mod rule;
mod rule_test;
mod ruleset;
mod trace;

pub use asked::{Asked, CallSource};
pub use asked_facts::{AskedFacts, CallerKind, History, LastAnswered};
pub use calendar::{Holidays, holidays};
pub use condition::{CalledBefore, Condition, Conditions, NO_TIER, ScoreRange};
pub use decide::decide;
pub use dialer_id::DialerId;
pub use difference::{RulesetChange, RulesetChangeKind};
pub use eligibility::{
    Inadmissible, Intake, SkipReason, admissible, all_closed, intake, why_nobody, why_not,
};
pub use facts::{
    Availability, BreakerView, CallFacts, DialerView, Lookup, LookupOutcome, LookupSkipped,
    LookupUnavailable, Profile, Source,
};
pub use hours::{
    ClosedDays, Hours, HoursInForce, HoursState, NotHours, OpenHours, SpecialHours, time_zone,
};
pub use limits::{DialerLimits, DialerLoad, LimitPeriod, LimitUse};
pub use lint::{Reachability, WitnessCall, reachability};
pub use lists::{
    ListDefinition, ListEntry, ListFile, ListKey, ListSummary, ListedNumber, Lists, NotListed,
    NumberHash, NumberSet,
};
pub use pattern::NumberPattern;
pub use plan::{Decision, RoutePlan, Skipped};
pub use recorded::RecordedDecision;
pub use replay::{Difference, replay};
pub use rule::{Course, MissedTo, OrderStep, Rejection, Rule, RuleAction, Speech};
pub use rule_test::{ExpectedCourse, GivenCall, GivenDialer, RuleTest};
pub use ruleset::{RulesInForce, Ruleset, RulesetVersion};
pub use trace::{Reason, RuleVerdict, Step, Trace};

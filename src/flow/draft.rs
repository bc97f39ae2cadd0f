//! A draft of the rules: a rule set that decides beside the one in force, without effect, and what came of it so far.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::dialer_loads::DialerLoads;
use crate::routing::{CallFacts, HoursState, RulesInForce, Ruleset};

/// The state of each named hours of a draft.
pub(super) type DraftHours = BTreeMap<Arc<str>, HoursState>;

/// A draft, and what came of it so far.
#[derive(Debug)]
pub struct Draft {
    pub rules: RulesInForce,
    /// Since when it decides beside the rules in force.
    pub since: Timestamp,
    calls: AtomicU64,
    different: AtomicU64,
}

/// How many calls a draft decided, and how many of them would have gone elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftCounts {
    pub calls: u64,
    pub different: u64,
}

impl Draft {
    pub(super) fn new(ruleset: Ruleset, since: Timestamp) -> Self {
        Self {
            rules: ruleset.into(),
            since,
            calls: AtomicU64::new(0),
            different: AtomicU64::new(0),
        }
    }

    pub fn counts(&self) -> DraftCounts {
        DraftCounts {
            calls: self.calls.load(Ordering::Relaxed),
            different: self.different.load(Ordering::Relaxed),
        }
    }

    /// The facts of a call with the hours and limits of this draft.
    pub(super) fn facts(
        &self,
        of_call: &CallFacts,
        hours: DraftHours,
        loads: &DialerLoads,
    ) -> CallFacts {
        let mut facts = of_call.with_hours(hours);
        for view in &mut facts.dialers {
            view.hours = None;
            view.limits.clear();
        }
        facts.dialers = loads.seen_with_limits(facts.dialers, &self.rules, facts.at);
        facts
    }

    /// It has decided one more call.
    pub(super) fn count(&self, is_different: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if is_different {
            self.different.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("switchboard_draft_differences_total").increment(1);
        }
    }
}

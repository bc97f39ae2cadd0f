//! What a decision would know of a call that nobody makes, for those who ask what would become of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::answering::Calls;
use super::fact_source::FactSource;
use crate::call::{CallId, InboundCall};
use crate::phone::Caller;
use crate::routing::{AskedFacts, CallFacts, CallSource, DialerView, Lists, Lookup, RulesInForce};

/// How long the store may take to say whether the caller has called before.
const PATIENCE: Duration = Duration::from_secs(1);

/// A call that is supposed to come.
#[derive(Clone, Debug)]
pub struct SupposedCall {
    /// `None` where it is of no interest who calls.
    pub caller: Option<Caller>,
    /// What is called, as the carrier writes it.
    pub called: Option<String>,
    pub at: Timestamp,
}

/// What is known of it, but for the look-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupposedFacts {
    pub dialers: Vec<DialerView>,
    pub asked: AskedFacts,
}

impl SupposedFacts {
    /// With nobody to ask: all dialers are well and have no calls, and nobody has called before.
    pub fn alone(rules: &RulesInForce, lists: &Lists, call: &SupposedCall) -> Self {
        let view = |dialer: &crate::routing::DialerId| DialerView {
            hours: rules.hours_of(dialer, call.at),
            ..DialerView::well(dialer.clone())
        };
        let nobody = NobodyAsked { call, lists };
        Self {
            dialers: rules.dialers.iter().map(view).collect(),
            asked: call.seen(rules.facts(&nobody, call.at)),
        }
    }

    pub fn with_lookup(self, at: Timestamp, lookup: Lookup) -> CallFacts {
        CallFacts {
            asked: self.asked,
            ..CallFacts::new(at, lookup, self.dialers)
        }
    }
}

impl SupposedCall {
    /// Nothing is known of a caller who is not named. No lot is drawn: of those that share a place, the heaviest comes first.
    fn seen(&self, asked: AskedFacts) -> AskedFacts {
        let asked = AskedFacts {
            draws: BTreeMap::default(),
            ..asked
        };
        if self.caller.is_some() {
            return asked;
        }
        AskedFacts {
            caller_kind: None,
            buckets: BTreeMap::default(),
            history: None,
            ..asked
        }
    }
}

impl Calls {
    /// What a decision would know of such a call now.
    pub async fn suppose(&self, call: &SupposedCall) -> SupposedFacts {
        let policy = self.policies.current();
        let rules = &policy.ruleset;
        let views = self.fleet.views(self.clock.instant());
        let dialers = self.loads.seen_with_limits(views, rules, call.at);
        let caller = call.caller.clone().unwrap_or(Caller::Withheld);
        // An id that no carrier gives: the caller's own calls all come before it.
        let Ok(call_id) = CallId::parse("supposed") else {
            return SupposedFacts::alone(rules, &self.lists, call);
        };
        let inbound = InboundCall {
            call_id,
            caller,
            called: call.called.clone(),
        };
        let source = FactSource {
            call: &inbound,
            locks: &self.locks,
            lists: &self.lists,
            at: call.at,
        };
        let mut asked = rules.facts(&source, call.at);
        if rules.asked().wants_history() {
            asked.history = self.locks.history(&inbound, PATIENCE).await;
        }
        SupposedFacts {
            dialers,
            asked: call.seen(asked),
        }
    }
}

/// Answers by the call alone.
struct NobodyAsked<'a> {
    call: &'a SupposedCall,
    lists: &'a Lists,
}

impl CallSource for NobodyAsked<'_> {
    fn caller(&self) -> &Caller {
        self.call.caller.as_ref().unwrap_or(&Caller::Withheld)
    }

    fn called(&self) -> Option<&str> {
        self.call.called.as_deref()
    }

    fn lists(&self) -> Vec<Arc<str>> {
        self.lists.of(self.caller(), self.call.at)
    }

    fn bucket(&self, _: &str) -> u8 {
        0
    }

    fn draw(&self) -> u32 {
        0
    }
}

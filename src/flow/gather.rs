//! All reads for one decision.

use super::waiting::Waiting;
use crate::audit::Exchange;
use crate::braze::Braze;
use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::dialer::Fleet;
use crate::phone::Caller;
use crate::routing::CallFacts;

/// Asks Braze, the fleet and the waiting line. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gather {
    clock: Clock,
    braze: Braze,
    fleet: Fleet,
    waiting: Waiting,
}

/// The facts, and what asking for them looked like.
#[derive(Clone, Debug)]
pub(super) struct Gathered {
    pub(super) facts: CallFacts,
    pub(super) exchange: Option<Exchange>,
}

impl Gather {
    pub fn new(clock: Clock, braze: Braze, fleet: Fleet, waiting: Waiting) -> Self {
        Self {
            clock,
            braze,
            fleet,
            waiting,
        }
    }

    /// Never fails: a look-up without an answer is a fact with a reason.
    pub(super) async fn facts(&self, caller: &Caller, deadline: Deadline) -> Gathered {
        let looked_up = self.braze.look_up(caller, deadline).await;
        let now = self.clock.instant();
        let facts = CallFacts {
            at: self.clock.now(),
            lookup: looked_up.lookup,
            dialers: self.waiting.seen_by_arrival(self.fleet.views(now), now),
        };
        Gathered {
            facts,
            exchange: looked_up.exchange,
        }
    }
}

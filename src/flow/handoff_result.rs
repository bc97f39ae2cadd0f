//! What handing a call off came to.

use crate::dialer::{Dialer, Fleet};
use crate::handoff::{Certainty, Failure};
use crate::routing::{DialerId, Reason};

#[derive(Debug, Default)]
pub(crate) struct HandoffResult {
    /// Whose line rings; `None` where no dialer takes the call.
    pub(crate) target: Option<HandoffTarget>,
    /// How many requests were sent.
    pub(super) n_requests: usize,
    /// The dialers that did not take the call, with the last failure of each.
    pub(crate) refusals: Vec<(DialerId, Failure)>,
}

#[derive(Debug)]
pub(crate) struct HandoffTarget {
    pub(crate) dialer: DialerId,
    pub(crate) certainty: Certainty,
    /// What the dialer calls the handoff.
    pub(super) reference: Option<String>,
}

impl HandoffResult {
    /// The dialer whose line rings, where it is still configured.
    pub(super) fn dialer(&self, fleet: &Fleet) -> Option<(Dialer, &HandoffTarget)> {
        let target = self.target.as_ref()?;
        Some((fleet.get(&target.dialer)?, target))
    }

    /// Why the call goes where it goes when no dialer takes it: those that were asked refused, or else what was decided.
    pub(super) fn reason_or(&self, decided: Reason) -> Reason {
        if self.n_requests > 0 {
            Reason::AllDialersRefused
        } else {
            decided
        }
    }
}

//! One attempt to hand a call off: what the dialer is told, and what became of it.

use super::client::masked_reference;
use crate::audit::Exchange;
use crate::call::CallId;
use crate::handoff::Outcome;
use crate::lead::{LeadScore, TierName};
use crate::phone::Caller;

/// What a dialer is told about a call.
#[derive(Clone, Debug)]
pub struct HandoffPayload {
    pub call_id: CallId,
    /// The request that brought the call; the same for every attempt.
    pub request_id: String,
    pub caller: Caller,
    /// The number of ours that was called.
    pub called: Option<String>,
    pub tier: Option<TierName>,
    pub score: Option<LeadScore>,
    /// Whether the caller is of the highest tier.
    pub urgent: bool,
    /// 1, or 2 for the retry. Never part of a request: a repeat has to be the same bytes.
    pub attempt: u8,
    /// Not the call itself, but that the caller is to be called back: the task that this is for, where the dialer has tasks.
    pub task: Option<String>,
}

/// What became of one attempt to hand a call off.
#[derive(Clone, Debug)]
pub struct HandedOff {
    /// What the dialer made of it.
    pub outcome: Outcome,
    /// Every request of the attempt, redacted.
    pub exchanges: Vec<Exchange>,
}

impl HandedOff {
    /// The outcome as it may be recorded.
    pub fn recorded_outcome(&self, caller: &Caller) -> Outcome {
        match &self.outcome {
            Outcome::Accepted {
                reference: Some(id),
            } => Outcome::Accepted {
                reference: Some(masked_reference(id, caller)),
            },
            other @ (Outcome::Accepted { .. }
            | Outcome::Refused { .. }
            | Outcome::Retryable { .. }
            | Outcome::Unknown { .. }) => other.clone(),
        }
    }

    /// An attempt that sent nothing.
    pub fn not_sent(outcome: Outcome) -> Self {
        Self {
            outcome,
            exchanges: Vec::new(),
        }
    }
}

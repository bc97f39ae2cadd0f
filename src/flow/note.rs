//! What a dialer is told about a call.

use super::inbound::Arrival;
use crate::call::CallId;
use crate::dialer::HandoffPayload;
use crate::lead::{LeadScore, TierName};
use crate::phone::Caller;
use crate::routing::{Decision, Ruleset};
use crate::store::StoredCall;

/// The note of a call that was just decided.
pub(super) fn of_decision(
    call: &Arrival,
    decision: &Decision,
    ruleset: &Ruleset,
    request_id: &str,
) -> HandoffPayload {
    let standing = (decision.tier.as_ref(), decision.score);
    payload(
        &call.call_id,
        &call.caller,
        call.called.as_deref(),
        standing,
        ruleset,
        request_id,
    )
}

/// The note of a call that was decided earlier.
pub(super) fn of_stored(
    stored: &StoredCall,
    caller: &Caller,
    ruleset: &Ruleset,
    request_id: &str,
) -> HandoffPayload {
    let standing = (stored.tier.as_ref(), stored.score);
    payload(
        &stored.id,
        caller,
        stored.personal.called.as_deref(),
        standing,
        ruleset,
        request_id,
    )
}

fn payload(
    call_id: &CallId,
    caller: &Caller,
    called: Option<&str>,
    (tier, score): (Option<&TierName>, Option<LeadScore>),
    ruleset: &Ruleset,
    request_id: &str,
) -> HandoffPayload {
    let highest = ruleset.tiers.iter().next().map(|tier| &tier.name);
    HandoffPayload {
        call_id: call_id.clone(),
        request_id: request_id.to_owned(),
        caller: caller.clone(),
        called: called.map(str::to_owned),
        tier: tier.cloned(),
        score,
        urgent: tier.is_some() && tier == highest,
        attempt: 1,
    }
}

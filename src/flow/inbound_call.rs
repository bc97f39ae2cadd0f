//! What a dialer is told of a call, and what of it identifies somebody.

use crate::audit::{Ingress, Personal};
use crate::call::InboundCall;
use crate::dialer::HandoffPayload;
use crate::lead::{LeadScore, TierName};
use crate::routing::Ruleset;
use crate::store::StoredCall;

impl InboundCall {
    /// The call as it arrived, of one that the store holds.
    pub(super) fn of_stored(stored: &StoredCall) -> Self {
        Self {
            call_id: stored.id.clone(),
            caller: stored.personal.caller(),
            called: stored.personal.called.clone(),
        }
    }

    pub(super) fn ingress(&self) -> Ingress {
        if self.call_id.is_of_calls_api() {
            Ingress::Api
        } else {
            Ingress::Twilio
        }
    }

    /// What of the call identifies somebody.
    pub(super) fn personal(&self) -> Personal {
        Personal {
            caller: Some(self.caller.as_text().to_owned()),
            called: self.called.clone(),
            ..Personal::default()
        }
    }

    /// What a dialer is told of the call and of its caller's class.
    pub(super) fn payload(
        &self,
        (tier, score): (Option<&TierName>, Option<LeadScore>),
        ruleset: &Ruleset,
        request_id: &str,
    ) -> HandoffPayload {
        let highest = ruleset.tiers.iter().next().map(|tier| &tier.name);
        HandoffPayload {
            call_id: self.call_id.clone(),
            request_id: request_id.to_owned(),
            caller: self.caller.clone(),
            called: self.called.clone(),
            tier: tier.cloned(),
            score,
            urgent: tier.is_some() && tier == highest,
            attempt: 1,
            task: None,
        }
    }
}

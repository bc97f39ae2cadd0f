//! Who calls whom: what every answer to a webhook of a call, and every dialer that is asked, has to know.

use crate::audit::{Door, Personal};
use crate::call::CallId;
use crate::dialer::Note;
use crate::lead::{LeadScore, TierName};
use crate::phone::Caller;
use crate::routing::Ruleset;
use crate::store::StoredCall;

/// A call, from either ingress, as it arrived.
#[derive(Clone, Debug)]
pub(super) struct InboundCall {
    pub(super) call_id: CallId,
    pub(super) caller: Caller,
    /// The number of ours that was called, as received.
    pub(super) called: Option<String>,
}

impl InboundCall {
    /// The call as it arrived, of one that the store holds.
    pub(super) fn of_stored(stored: &StoredCall) -> Self {
        Self {
            call_id: stored.id.clone(),
            caller: stored.personal.caller(),
            called: stored.personal.called.clone(),
        }
    }

    pub(super) fn ingress(&self) -> Door {
        if self.call_id.is_of_json_door() {
            Door::Api
        } else {
            Door::Twilio
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
    ) -> Note {
        let highest = ruleset.tiers.iter().next().map(|tier| &tier.name);
        Note {
            call_id: self.call_id.clone(),
            request_id: request_id.to_owned(),
            caller: self.caller.clone(),
            called: self.called.clone(),
            tier: tier.cloned(),
            score,
            urgent: tier.is_some() && tier == highest,
            attempt: 1,
        }
    }
}

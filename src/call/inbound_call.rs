//! Who calls whom.

use super::CallId;
use crate::phone::Caller;

/// A call as it arrived, from either ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundCall {
    pub call_id: CallId,
    pub caller: Caller,
    /// What was called, as received: a number of ours, or a SIP address.
    pub called: Option<String>,
}

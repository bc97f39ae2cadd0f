//! The life of a call after its first webhook: legs, states, dispositions. Values in, values out.

mod call_id;
mod carrier_answer;
mod disposition;
mod inbound_call;
mod leg;
mod passport;
mod reports;
mod stamp;
mod state;

pub use call_id::{CallId, NotCallId};
pub use carrier_answer::CarrierAnswer;
pub use disposition::{Disposition, Status};
pub use inbound_call::InboundCall;
pub use leg::{DialReport, EndReason, LAST_RESORT, LegReport, LegStatus, RULE_NUMBER};
pub use passport::{Passport, PassportKey, PassportKeys, PassportRefusal, PassportUse};
pub use reports::ReportedOutcome;
pub use stamp::Stamp;
pub use state::{AfterDial, CallState, InvalidTransition, Ringing, Target};

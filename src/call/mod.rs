//! The life of a call after its first webhook: legs, states, dispositions. Values in, values out.

mod disposition;
mod found;
mod leg;
mod reports;
mod stamp;
mod state;

pub use disposition::{Disposition, Status};
pub use found::Found;
pub use leg::{DialReport, EndReason, LAST_RESORT, LegReport, LegStatus};
pub use reports::ReportedOutcome;
pub use stamp::Stamp;
pub use state::{AfterDial, CallId, CallState, InvalidTransition, Ringing, Target};

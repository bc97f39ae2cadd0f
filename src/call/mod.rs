//! The life of a call after its first webhook: legs, states, dispositions. Values in, values out.

mod disposition;
mod leg;
mod state;

pub use disposition::{Disposition, Status};
pub use leg::{DialReport, EndReason, LegReport, LegStatus};
pub use state::{AfterDial, CallId, CallState, InvalidTransition, Target};

//! The life of a call after its first webhook: legs, states, dispositions. Values in, values out.

mod disposition;
mod found;
mod leg;
mod stamp;
mod state;

pub use disposition::{Disposition, Status};
pub use found::Found;
pub use leg::{DialReport, EndReason, LegReport, LegStatus};
pub use stamp::Stamp;
pub use state::{AfterDial, CallId, CallState, InvalidTransition, Target};

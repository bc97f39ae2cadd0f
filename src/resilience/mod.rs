//! Whether to ask a service now, and when again: values that take `now` and hold no clock, no lock and no task.

mod backoff;
mod breaker;
mod bucket;
mod ramp;
mod refusals;
mod window;

pub use backoff::{Backoff, NotBackoff};
pub use breaker::{
    Admission, Breaker, BreakerState, Cause, FailureClass, Policy, Transition, TripReason,
    state_name,
};
pub use bucket::TokenBucket;
pub use ramp::Ramp;
pub use refusals::{LONGEST_PAUSE, Refusals, Refused, TriedBy};
pub use window::{SuccessWindow, Tally};

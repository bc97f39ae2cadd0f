//! Whether to ask a service now, and when again: values that take `now` and hold no clock, no lock and no task.

mod backoff;
mod breaker;
mod bucket;
mod ramp;
mod refusals;
mod window;

pub use backoff::{Backoff, NotBackoff};
pub use breaker::{
    Admission, Breaker, BreakerPolicy, BreakerState, Cause, FailureClass, Transition, TripReason,
    state_name,
};
pub use bucket::TokenBucket;
pub use ramp::Ramp;
pub use refusals::{LONGEST_PAUSE, Refusals, Refused, TriedBy};
pub use window::{SuccessWindow, WindowCounts};

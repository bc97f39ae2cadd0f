//! Whether to ask a service now, and when again: values that take `now` and hold no clock, no lock and no task.

mod backoff;
mod breaker;
mod bucket;
mod ramp;
mod refusals;
mod window;

pub use backoff::{Backoff, NotBackoff};
pub use breaker::{
    Breaker, BreakerPolicy, FAILURES_TO_OPEN, HealthSignal, MAX_BACK_OFF, OpenCause, OpenState,
};
pub use bucket::TokenBucket;
pub use ramp::Ramp;
pub use refusals::{CredentialRefusal, LONGEST_PAUSE, RefusalCount, TriedBy};

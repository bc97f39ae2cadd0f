//! Giving a call to a dialer: which request to send next, and what its outcome means. Values in, values out.

mod outcome;
mod run;

pub use outcome::{Failure, FailureKind, Outcome};
pub use run::{Candidate, Certainty, Next, Repeat, Run};

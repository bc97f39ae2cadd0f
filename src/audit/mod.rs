//! The audit log: what is recorded, and the hash chain that ties the records together. Values in, values out.

mod chain;
mod detail;
mod event;
mod exchange;
mod standing;

pub use chain::{Hash, Link, RecordContent};
pub use event::{
    Answer, Attempt, CallAfter, CallAnswered, CallDecided, ConfigChange, ConfigChanged, Door,
    Event, HandoffIntended, Kind, Personal, ProfileAction, Record, Stages,
};
pub use exchange::Exchange;
pub use standing::{Drained, Fingerprint, OpenCause, OpenCircuit, ServiceState, Standing};

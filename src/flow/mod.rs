//! The straight lines of a call, and the only place where two clients meet.
//!
//! A telephony webhook is these steps in this order: claim → gather → decide → hand off → record → answer. Later webhooks skip some. Each
//! step gets only what the one before returned, and nothing goes back.

mod canary;
mod claim;
mod dial_ended;
mod drains;
mod gather;
mod hand_off;
mod hold;
mod inbound;
mod json_door;
mod last_words;
mod live_calls;
mod note;
mod policy;
mod reap;
mod record;
mod reloads;
mod retries;
mod status;
mod stopwatch;
mod waiting;
mod why_not;

pub use canary::{BEAT_EVERY, Canary, Check};
pub use claim::Claims;
pub use dial_ended::DialEnds;
pub use drains::Drains;
pub use gather::Gather;
pub use hand_off::HandOff;
pub(crate) use hand_off::{Handed, HandoffResult};
pub use hold::Holds;
pub use inbound::Inbound;
pub use json_door::{EndTaken, JsonAnswer, JsonCall, JsonDoor, Nobody};
pub use policy::{Policies, Policy};
pub use reap::{Looked, Reaps};
pub(crate) use record::Recorded;
pub use record::Recorder;
pub use reloads::{Applied, NoReload, Refused, ReloadProblem, ReloadRequest, Reloads};
pub use retries::{Retries, record_health};
pub use status::StatusReports;
pub use waiting::Waiting;
pub(crate) use why_not::{Ails, ails};

#[cfg(test)]
pub(crate) use live_calls::tests::call as stored_call;

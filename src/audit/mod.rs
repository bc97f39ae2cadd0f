//! The audit log: what is recorded, and the hash chain that ties the records together. Values in, values out.

mod access;
mod chain;
mod detail;
mod event;
mod examiner;
mod exchange;
mod finding;
mod found;
mod head;
mod note;
mod severity;
mod standing;
mod tree;
mod upkeep;

pub use crate::resilience::OpenCause;
pub use access::Access;
pub use chain::{ChainLink, Hash, RecordContent, RowContent};
pub use event::{
    Answer, Attempt, CallAfter, CallAnswered, CallDecided, ConfigChange, ConfigChanged, Door,
    Event, HandoffIntended, Kind, Personal, ProfileAction, Record, Stages,
};
pub use examiner::{Examiner, Start, Told, Walked};
pub use exchange::Exchange;
pub use finding::{Finding, FindingKind, Findings};
pub use found::FoundRow;
pub use head::{Head, Proof, ProofState};
pub use note::{BadNote, NoKey, PublicKey, SigningKey, Statement, Subject, signature_of};
pub use severity::{Severity, severity};
pub use standing::{Drained, Fingerprint, OpenCircuit, PersistedState, ServiceState};
pub use tree::Frontier;
pub use upkeep::{CallerErased, Exported, Pruned, Restored, RollbackAccepted, SigningKeyNamed};

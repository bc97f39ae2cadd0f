//! The audit log: what is recorded, and the hash chain that ties the records together. Values in, values out.

mod access;
mod chain;
mod compact_range;
mod completeness;
mod detail;
mod event;
mod exchange;
mod export;
mod finding;
mod found;
mod head;
mod note;
mod persisted_state;
mod severity;
mod upkeep;
mod verifier;

pub use crate::alerts::Drained;
pub use crate::resilience::OpenCause;
pub use access::{Access, Role};
pub use chain::{ChainLink, Hash, RowContent};
pub use compact_range::CompactRange;
pub use completeness::{
    CompletenessChecked, CompletenessFinding, Discrepancy, FINDINGS_NAMED, ListedCall, list_hash,
};
pub use event::{
    Adoption, Answer, Attempt, CallAdopted, CallAfter, CallAnswered, CallDecided, ConfigChange,
    ConfigChanged, DraftChanged, DraftDiffers, Event, HandoffIntended, Ingress, KeyAction,
    KeyChanged, Kind, ListAction, ListChanged, MissedAnnounced, Personal, ProfileAction, Record,
    RulesetLoaded, ScoreRefreshed, Stages,
};
pub use exchange::Exchange;
pub use export::{
    ExportEntry, ExportHead, ExportVerifier, ExportedRecord, OmittedRecords, ShownPersonal,
};
pub use finding::{FindingKind, Findings, LogFinding, VerifyReport};
pub use found::{FoundRow, RowBuffer};
pub use head::{SignedTreeHead, SigningState, SigningStatus};
pub use note::{BadNote, LogSigningKey, NoKey, NoteSubject, PublicKey, Statement, signature_of};
pub use persisted_state::{Fingerprint, OpenCircuit, PersistedState, ServiceState};
pub use severity::{RecordSeverity, severity};
pub use upkeep::{
    CallerErased, Exported, Pruned, Restored, RollbackAccepted, SecretRotated, SigningKeyNamed,
};
pub use verifier::{ChainVerifier, KeyRecord, Start, Walked};

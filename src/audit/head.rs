//! The end of the log as it was signed: what leaves the machine, so that a later rewrite contradicts it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Hash, PublicKey, Statement, note};

/// The end of the log as it was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedTreeHead {
    pub log_id: String,
    /// How many records were signed, from the first on; those that were deleted since count.
    pub records: u64,
    /// The hash of the last of them, in hexadecimal; zeros where there is none.
    pub head: String,
    /// When the last of them happened; `None` where there is none.
    pub at: Option<Timestamp>,
    /// Key id and signature of the note, in base64.
    pub signature: String,
    /// What was signed, with the signature.
    #[serde(default)]
    pub note: String,
    #[serde(default)]
    pub public_key: String,
}

impl SignedTreeHead {
    /// The head that a note signed over a log that ends with a record of that hash and time.
    pub fn new(
        key: &PublicKey,
        note: &str,
        records: u64,
        last: &Hash,
        at: Option<Timestamp>,
    ) -> Self {
        Self {
            log_id: key.log_id().to_owned(),
            records,
            head: hex::encode(last),
            at,
            signature: note::signature_of(note).unwrap_or_default().to_owned(),
            note: note.to_owned(),
            public_key: key.to_line(),
        }
    }

    /// The hash of the last record.
    pub fn hash(&self) -> Option<Hash> {
        hex::decode(&self.head).ok()?.try_into().ok()
    }

    /// What was signed, if `key` signed it and it is about this head.
    pub fn statement(&self, key: &PublicKey) -> Option<Statement> {
        let statement = key.open(&self.note).ok()?;
        (statement.size == self.records && key.log_id() == self.log_id).then_some(statement)
    }
}

/// Where the log was signed last, and whether it can be signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningStatus {
    /// Whether it can be signed.
    pub state: SigningState,
    /// Where it was signed last; `None` before that happened in this run.
    pub head: Option<SignedTreeHead>,
}

/// Whether the log can be signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SigningState {
    #[default]
    Unknown,
    /// What was read back is what was written.
    Sound,
    /// The database is older than, or another than, what the head beside it says. Nothing is signed until somebody accepts that.
    RolledBack {
        /// What the head beside the database says.
        known: SignedTreeHead,
        /// How many records the database has.
        found: u64,
    },
    /// The log is signed, and the head beside it is gone or cannot be read: nobody can tell whether the database is an older one. Nothing is signed
    /// until somebody accepts what is there.
    HeadMissing {
        /// How many records the newest checkpoint covers.
        records: u64,
    },
    /// What was read back is not what was written. Nothing is signed.
    Broken {
        /// The record where it shows, if it shows at one.
        record: Option<i64>,
        /// What is wrong, in words.
        what: String,
    },
}

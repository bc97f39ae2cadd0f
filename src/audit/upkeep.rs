//! What the log records of itself: whose signatures count, what was deleted, and when its clock cannot be trusted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A key signs the log from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKeyNamed {
    /// The key, as [`PublicKey::to_line`](super::PublicKey::to_line) writes it.
    pub key: String,
    /// The key that signed before; `None` at the beginning of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// What the previous key said of this one; `None` where that key was not at hand, which is for a person to explain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endorsement: Option<String>,
}

/// Records are about to be deleted, in one piece from the oldest on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// The last of them.
    pub through: i64,
    /// Its hash, in hexadecimal.
    pub hash: String,
    /// All of them happened before this.
    pub older_than: Timestamp,
    /// The policy in force: records are kept for so many milliseconds.
    pub retention_ms: u64,
    /// How many there are of each kind.
    pub kinds: BTreeMap<String, u64>,
}

/// The head that is kept beside the database was given up for what the database says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackAccepted {
    /// How many records that head told of.
    pub records: u64,
    /// The hash of the last of them, in hexadecimal.
    pub head: String,
}

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
    /// That the installation's secret vouches for the key, in hexadecimal: whoever has the file alone cannot say so. `None` where it was not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouch: Option<String>,
}

/// Records are about to be deleted, in one piece from the oldest on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    pub through: i64,
    pub hash: String,
    /// All of them happened before this.
    pub older_than: Timestamp,
    /// The policy in force: records are kept for so many milliseconds.
    pub retention_ms: u64,
    /// How many there are of each kind.
    pub kinds: BTreeMap<String, u64>,
}

/// A person was forgotten: what was sealed for them can be read by nobody any more. Who it was is not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerErased {
    /// How many calls of theirs were known.
    pub calls: u64,
    /// How many answers to webhooks of those calls were deleted.
    pub answers: u64,
    /// Whether a profile was kept of them.
    pub profile: bool,
    /// How many entries of lists were deleted.
    #[serde(default, skip_serializing_if = "is_none")]
    pub list_entries: u64,
    /// How many blocks stay, each as a keyed hash without number and reason.
    #[serde(default, skip_serializing_if = "is_none")]
    pub blocks: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// The installation's secret is another one from here on: what is written is sealed and signed under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRotated {
    /// Who asked for it.
    pub by: String,
    /// That the new secret vouches for the record before this one, by its hash, and so for all before that, in hexadecimal.
    pub vouch: String,
}

/// Audit records left this machine with callers' numbers in the clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// The user of the operating system who asked for it, by number.
    pub user: u32,
    pub format: String,
    /// Records that happened at or after this; `None`: from the oldest on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Records that happened before this; `None`: to the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The call that was asked for; `None`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The person that was asked for, masked; `None`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
}

/// A backup was put in place of the database; written as the first record after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// How many records the backup has, from the first on.
    pub records: u64,
    /// The hash of the last of them, in hexadecimal.
    pub head: String,
    /// Whether the head beside the database was written anew, because there was none.
    pub head_written: bool,
}

/// The head that is kept beside the database was given up for what the database says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackAccepted {
    /// How many records that head told of.
    pub records: u64,
    /// The hash of the last of them, in hexadecimal.
    pub head: String,
}

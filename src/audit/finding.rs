//! What a verification finds, by name.

use serde::{Deserialize, Serialize};

/// The kinds of findings: a closed list, stable in what the command prints.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::Display,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FindingKind {
    /// A record is not what was written.
    Altered,
    /// A record is gone from the middle or the beginning.
    Missing,
    /// A record is there that was never written.
    Inserted,
    /// Records at the end are gone that a checkpoint in the same file covers.
    Truncated,
    /// The file is an older one than the head or anchor tells of.
    RolledBack,
    /// The file is not the one that the anchor was taken of.
    AnchorMismatch,
    /// A checkpoint, of pruning too, or a key does not hold.
    CheckpointInvalid,
    /// Tables, indexes, triggers or views are not those that this program makes.
    SchemaChanged,
    /// A row that steers calls or grants rights is not the one that was written.
    ProjectionAltered,
    /// An index of the log does not lead to all its records, so that some are shown nowhere.
    IndexDamaged,
    /// There is no head beside a database whose log is signed.
    HeadMissing,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFinding {
    pub kind: FindingKind,
    /// The record where it shows, if it shows at one.
    pub record: Option<i64>,
    pub message: String,
}

/// The outcome of a verification: the document that the command prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    pub ok: bool,
    pub records: u64,
    pub findings: Vec<LogFinding>,
    /// Findings beyond those that are listed.
    pub not_listed: u64,
    pub log_id: String,
    /// The number of the oldest record that is there, in an export as well.
    pub oldest: Option<i64>,
    /// How many records there were, from the first on; in an export, the number of its last one.
    pub last: i64,
    /// The hash of the last one, in hexadecimal.
    pub head: Option<String>,
    /// How many of them the newest checkpoint covers.
    pub signed: i64,
    /// The key that signed it.
    pub key: Option<String>,
    /// Whether that key is known from elsewhere than the file. Where it is not, whoever can rewrite the file could sign it too.
    pub key_is_trusted: bool,
    /// What is worth knowing and not wrong.
    pub remarks: Vec<String>,
}

/// Findings that are told one by one; of more, only the number is told.
const TOLD: usize = 1_000;

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    list: Vec<LogFinding>,
    more: u64,
}

impl Findings {
    pub fn add(
        &mut self,
        kind: FindingKind,
        record: impl Into<Option<i64>>,
        message: impl Into<String>,
    ) {
        if self.list.len() >= TOLD {
            self.more += 1;
            return;
        }
        self.list.push(LogFinding {
            kind,
            record: record.into(),
            message: message.into(),
        });
    }

    /// Adds what was found elsewhere.
    pub fn append(&mut self, other: Self) {
        self.more += other.more;
        for finding in other.list {
            self.add(finding.kind, finding.record, finding.message);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many were left out of the list.
    pub fn more(&self) -> u64 {
        self.more
    }

    /// The list, in the order in which they were found.
    pub fn into_list(self) -> Vec<LogFinding> {
        self.list
    }

    /// Whether one of this kind is among them.
    pub fn has(&self, kind: FindingKind) -> bool {
        self.list.iter().any(|finding| finding.kind == kind)
    }

    /// Whether one is about this record.
    pub fn about(&self, record: i64) -> bool {
        self.list
            .iter()
            .any(|finding| finding.record == Some(record))
    }
}

//! What a log is verified against, and what was found beside its chain.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::audit::{FindingKind, Findings, PublicKey, SignedTreeHead};
use crate::store::key_ring::KeyRing;

/// What is verified, and against what.
#[derive(Clone, Debug)]
pub struct Against {
    pub database: PathBuf,
    /// The key whose signatures count; without one, any that the log itself names.
    pub key: Option<PublicKey>,
    /// The key that lies beside the file. A log that contradicts it is wrong; one that agrees is none the better for it, since whoever can write
    /// the one can write the other.
    pub key_beside: Option<PublicKey>,
    /// A head that was kept elsewhere.
    pub anchor: Option<SignedTreeHead>,
    /// What is known of the installation that the file belongs to; `None` for a copy of which nothing is known.
    pub installation: Option<Installation>,
}

impl Against {
    pub fn nothing(database: &Path) -> Self {
        Self {
            database: database.to_owned(),
            key: None,
            key_beside: None,
            anchor: None,
            installation: None,
        }
    }

    pub(super) fn is_in_place(&self) -> bool {
        let installation = self.installation.as_ref();
        installation.is_some_and(|installation| installation.is_in_place)
    }

    /// The key that the log must agree with.
    pub(super) fn known_key(&self) -> Option<&PublicKey> {
        self.key.as_ref().or(self.key_beside.as_ref())
    }
}

/// An installation, to its own database or a copy of it.
#[derive(Clone, Debug)]
pub struct Installation {
    /// Its secret: rows that steer calls or grant rights must carry its MAC, and it must vouch for every key that the log names.
    pub key_ring: KeyRing,
    /// No session begins after this.
    pub now: Timestamp,
    /// The file is the one that the installation works with, so that there must be a head beside it.
    pub is_in_place: bool,
    /// The secret lies elsewhere than the file, so that its word counts.
    pub is_secret_elsewhere: bool,
}

#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) log_id: String,
    pub(super) findings: Findings,
    /// Checkpoints that hold by themselves: row, size, and the key that signed.
    pub(super) signed: Vec<(i64, i64, PublicKey)>,
    pub(super) checkpoints: usize,
    pub(super) pruning: i64,
    /// Where the prune gate stood at first.
    pub(super) gate: i64,
    pub(super) kept: Option<SignedTreeHead>,
    /// What stands in the way of a head beside the file.
    pub(super) kept_unreadable: Option<String>,
    pub(super) remarks: Vec<String>,
}

impl Evidence {
    pub(super) fn wrong(&mut self, kind: FindingKind, what: impl Into<String>) {
        self.findings.add(kind, None, what);
    }
}

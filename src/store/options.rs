//! What the store is opened with.

use std::path::PathBuf;
use std::time::Duration;

use super::file;
use super::key_ring::KeyRing;
use crate::clock::Clock;

pub const MIB: u64 = 1024 * 1024;

/// What the store is opened with.
#[derive(Clone)]
pub struct Options {
    /// The database file; `.lock`, `-wal`, `-shm` and backups lie beside it.
    pub path: PathBuf,
    /// Tells the time of commits and failures.
    pub clock: Clock,
    /// How many submissions may wait in memory while neither the database nor the spool takes them.
    pub backlog: usize,
    /// Where records wait while the database does not take them.
    pub spool: PathBuf,
    /// How large the spool is, in bytes; 0 for none. Never more than an eighth of its file system.
    pub spool_bytes: u64,
    /// How much room is kept on the disk for the day on which it is full, in bytes; 0 for none. Never more than an eighth of it.
    pub reserve_bytes: u64,
    /// How long a commit may keep submitters waiting; after that, their records go to the spool.
    pub patience: Duration,
    /// How long a question waits for a free reader, and a reader for a lock.
    pub reader_patience: Duration,
    /// Makes personal data unreadable to whoever has the file alone.
    pub key_ring: KeyRing,
}

impl Options {
    pub fn new(path: impl Into<PathBuf>, clock: Clock, key_ring: KeyRing) -> Self {
        let path = path.into();
        Self {
            spool: file::beside(&path, ".spool"),
            path,
            clock,
            backlog: 10_000,
            spool_bytes: 64 * MIB,
            reserve_bytes: 64 * MIB,
            patience: Duration::from_millis(250),
            reader_patience: Duration::from_millis(200),
            key_ring,
        }
    }

    /// For a command, which has nobody on the line: it waits for a slow disk where a server goes on without it.
    pub fn unhurried(self) -> Self {
        let minute = Duration::from_mins(1);
        Self {
            patience: minute,
            reader_patience: minute,
            ..self
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("path", &self.path)
            .field("spool", &self.spool)
            .finish_non_exhaustive()
    }
}

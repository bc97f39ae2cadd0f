//! What can go wrong, by what the caller does about it.

use std::path::PathBuf;

/// A source of any kind.
pub(super) type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not take records now. What was submitted waits in the spool, or in memory where the spool has no room, and is written
    /// in order as soon as the database takes it: go on.
    #[error("not in the database yet: it takes nothing now, and the records wait their turn")]
    Deferred,
    /// The disk has failed for so long that the memory for waiting records is full. The records went to the log only.
    #[error("not written: too many records wait for the disk")]
    Full,
    /// The submission itself cannot be stored; trying again changes nothing. Its records went to the log only.
    #[error("not written: the submission cannot be stored")]
    Rejected(#[source] Source),
    #[error("the store is closed")]
    Closed,
    /// A question could not be answered now; it may be asked again.
    #[error("the database cannot be read")]
    Unavailable(#[source] Source),
    /// A row cannot be true: a defect of ours or of the file, for somebody to look at.
    #[error("row {row} of {table} cannot be true")]
    Inconsistent { table: &'static str, row: i64 },
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

/// Why the database was not opened or migrated. Nothing was changed, unless the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes to it.
    #[error("{path} is in use by another process (its lock file is held)")]
    InUse { path: PathBuf },
    /// A newer version of this program made it.
    #[error("the database has schema version {found}; this program knows versions up to {known}")]
    Newer {
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A version of this program made it that was never released.
    #[error(
        "{path} was made by a development version of this program (its schema version is {found}), which no release can read: \
         move it away, with its -wal file, and start with a new one"
    )]
    Development { path: PathBuf, found: u32 },
    /// Its tables, indexes, triggers or views are not those that this program makes.
    #[error(
        "schema_changed: the schema of {path} is not what this program makes: {what}. Somebody changed it, or a development version made it: \
         restore a backup, or move it away with its -wal file"
    )]
    SchemaChanged { path: PathBuf, what: String },
    /// It belongs to another program.
    #[error("{path} is the database of another program (application_id {found})")]
    Foreign { path: PathBuf, found: i32 },
    /// There is something at that path, but no database.
    #[error("{path} is no database: {what}")]
    NotADatabase { path: PathBuf, what: &'static str },
    /// The database is gone, but its write-ahead log is still there; a new database must not be mixed with it.
    #[error(
        "{path} is absent, but its -wal file is there: restore the database, or move the -wal file away"
    )]
    StrayLog {
        /// Where the database should be.
        path: PathBuf,
    },
    /// Callers' data in it is sealed under another secret.
    #[error(
        "callers' data in {path} is sealed under another installation secret: put back the secret that it was made with \
         (`[storage] secret`, by default {path}.secret); without it no caller's data can be read"
    )]
    WrongSecret { path: PathBuf },
    /// Callers' data in it is sealed under the secret of before the last rotation.
    #[error(
        "callers' data in {path} is sealed under the installation secret of before the last rotation, which lies beside the present one \
         under a name that ends in .old: put the present one aside, and that one in its place"
    )]
    FormerSecret { path: PathBuf },
    /// There is no such schema version to go to.
    #[error("there is no schema version {asked}; known are 0 to {known}")]
    NoSuchVersion {
        asked: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The `SQLite` library has a defect that can corrupt databases.
    #[error("SQLite {found} has the WAL-reset defect; 3.51.3 or later is needed")]
    OldSqlite { found: &'static str },
    /// `SQLite` did not take a setting on which durability depends.
    #[error("SQLite answers {found:?} instead of {wanted:?} to PRAGMA {pragma}")]
    Setting {
        pragma: &'static str,
        wanted: String,
        found: String,
    },
    /// The copy made before a migration failed its integrity check; the migration did not begin.
    #[error("the backup before the migration is damaged: {finding}")]
    BackupDamaged {
        /// What the integrity check says.
        finding: String,
    },
    /// A file cannot be made, opened or locked.
    #[error("cannot use {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the database cannot be opened or migrated")]
    Sqlite(#[from] rusqlite::Error),
    /// The readers or the writer could not be started.
    #[error("the store cannot be started")]
    Start(#[source] Source),
}

/// Whether a write failed through the submission's own fault, so that the others of its batch can go on without it.
pub(super) fn is_own_fault(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    matches!(
        error.sqlite_error_code(),
        Some(ConstraintViolation | TooBig | TypeMismatch)
    )
}

/// An error and what caused it, as one line.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

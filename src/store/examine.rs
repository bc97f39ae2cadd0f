//! A look at a database from outside, beside a server that may be writing to it: schema, integrity, the end of the chain. Changes nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::error::OpenError;
use super::found::{self, Walk};
use super::key_ring::KeyRing;
use super::migrations::STEPS;
use super::{
    audit_records, checkpoints, connection, file, head_file, key_check, migrate, rows, schema,
};
use crate::audit::ChainLink;
use crate::clock::Clock;

/// Records at the end of the chain that are checked.
const TAIL: u32 = 1_000;
/// Altered rows that are told.
const ALTERED: usize = 10;
/// Steps of the database engine between two looks at the clock.
const STEPS_BETWEEN: i32 = 100_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    pub schema: migrate::MigrationStatus,
    /// How it differs from what this program makes, in words.
    pub schema_changes: Vec<String>,
    /// Whether the file is sound.
    pub integrity: Integrity,
    /// Whether the last records hang together.
    pub chain: Chain,
    /// Rows that steer calls or grant rights and are not what was written, in words; those that were looked at.
    pub altered: Vec<String>,
    /// The log is signed, and there is no head beside it.
    pub is_head_missing: bool,
    /// Size of the database, in bytes.
    pub bytes: u64,
    /// Size of its write-ahead log, in bytes.
    pub wal_bytes: u64,
}

/// Whether a database is sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    Sound,
    Damaged {
        /// The first thing that is wrong.
        finding: String,
    },
    /// Nothing was found in the time that was given; there is more to look at.
    Unfinished,
}

/// Whether the end of the audit chain holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// It does, over so many records.
    Holds { records: u32 },
    Broken {
        /// The first record that does not fit.
        record: i64,
    },
}

/// Looks at the database at `path`; `None` where there is none. The integrity check ends after `patience`.
pub fn examine(
    path: &Path,
    key_ring: Option<&KeyRing>,
    patience: Duration,
    clock: &Clock,
) -> Result<Option<Examination>, OpenError> {
    if !file::exists(path)? {
        return Ok(None);
    }
    let status = migrate::status(path)?;
    let reader = connection::open_reader(path)?;
    let schema_changes = schema::differences(&reader, status.current, STEPS)?;
    let chain = if status.pending.is_empty() {
        chain(&reader)?
    } else {
        // The columns of an older schema are not known here.
        Chain::Holds { records: 0 }
    };
    let altered = match key_ring {
        Some(key_ring) if status.pending.is_empty() => altered(&reader, key_ring, patience, clock)?,
        Some(_) | None => Vec::new(),
    };
    let is_signed = status.pending.is_empty() && checkpoints::newest(&reader)?.is_some();
    let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    Ok(Some(Examination {
        schema: status,
        schema_changes,
        integrity: integrity(&reader, patience, clock)?,
        chain,
        altered,
        is_head_missing: is_signed && !head_file::head_path(path).exists(),
        bytes: size(path),
        wal_bytes: size(&file::beside(path, "-wal")),
    }))
}

/// What comes of a question that is interrupted after `patience`.
fn within<T>(
    reader: &Connection,
    patience: Duration,
    clock: &Clock,
    ask: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<rusqlite::Result<T>> {
    let (until, clock) = (clock.instant() + patience, clock.clone());
    reader.progress_handler(STEPS_BETWEEN, Some(move || clock.instant() > until))?;
    let found = ask();
    reader.progress_handler(0, None::<fn() -> bool>)?;
    Ok(found)
}

/// What is not looked at in the time that is given is not told.
fn altered(
    reader: &Connection,
    key_ring: &KeyRing,
    patience: Duration,
    clock: &Clock,
) -> Result<Vec<String>, OpenError> {
    if key_check::is_of_other(reader, key_ring)? {
        return Ok(vec![
            "the database is sealed under another secret than the configuration names".to_owned(),
        ]);
    }
    let found = within(reader, patience, clock, || {
        rows::altered(reader, key_ring, ALTERED)
    })?;
    match found {
        Ok(found) => Ok(found
            .into_iter()
            .map(|(table, row)| format!("row {row} of {table} is not the one that was written"))
            .collect()),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

fn integrity(
    reader: &Connection,
    patience: Duration,
    clock: &Clock,
) -> Result<Integrity, OpenError> {
    let checked = within(reader, patience, clock, || {
        reader.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
    })?;
    match checked {
        Ok(finding) if finding == "ok" => Ok(Integrity::Sound),
        Ok(finding) => Ok(Integrity::Damaged { finding }),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Ok(Integrity::Unfinished),
            Some(ErrorCode::DatabaseCorrupt) => Ok(Integrity::Damaged {
                finding: error.to_string(),
            }),
            _ => Err(error.into()),
        },
    }
}

fn chain(reader: &Connection) -> Result<Chain, OpenError> {
    let head = audit_records::head(reader)?;
    let first = head.id.saturating_sub(i64::from(TAIL)) + 1;
    let mut walk = Walk::new();
    let before = found::first(reader, first, |row| ChainLink {
        id: row.content.id - 1,
        hash: row.previous_hash.try_into().unwrap_or_default(),
    })?;
    walk.link = before.unwrap_or(head);
    Ok(match walk.page(reader, TAIL, |_| true)? {
        Ok(records) => Chain::Holds { records },
        Err(record) => Chain::Broken { record },
    })
}

//! A look at a database from outside, beside a server that may be writing to it: schema, integrity, the end of the chain. Changes nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::error::OpenError;
use super::key_ring::KeyRing;
use super::migrations::STEPS;
use super::{
    audit_records, checkpoints, connection, file, found, head_file, key_check, migrate, pages,
    rows, schema,
};
use crate::audit::{FindingKind, Findings, LogFinding, Start, Walked};
use crate::clock::Clock;

/// Records at the end of the chain that are checked.
const TAIL: u32 = 1_000;
/// Altered rows that are told.
const ALTERED: usize = 10;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 86_400_000;
const WEEK_MS: i64 = 7 * 86_400_000;
/// Steps of the database engine between two looks at the clock.
const STEPS_BETWEEN: i32 = 100_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    pub schema: migrate::MigrationStatus,
    /// Whether the file is sound.
    pub integrity: Integrity,
    /// What is wrong with the schema, rows that steer calls or grant rights, the head and the end of the log. What is not looked at in time is not told.
    pub findings: Vec<LogFinding>,
    /// Records at the end of the log that were looked at.
    pub records: u64,
    /// Size of the database, in bytes.
    pub bytes: u64,
    /// Size of its write-ahead log, in bytes.
    pub wal_bytes: u64,
    /// What was recorded lately; `None` where there is less than an hour of it.
    pub growth: Option<Growth>,
}

/// What is recorded in a day, by the last seven days, or by the whole log where it is younger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    pub records_a_day: u64,
    /// What these take in the file, with all that is kept beside them, by what the present ones take.
    pub bytes_a_day: u64,
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
    let mut findings = Findings::default();
    for difference in schema::differences(&reader, status.current, STEPS)? {
        findings.add(FindingKind::SchemaChanged, None, difference);
    }
    let mut records = 0;
    // The columns of an older schema are not known here.
    if status.pending.is_empty() {
        if let Some(key_ring) = key_ring {
            altered(&reader, key_ring, patience, clock, &mut findings)?;
        }
        if checkpoints::newest(&reader)?.is_some() && !head_file::head_path(path).exists() {
            let what = "the log is signed, and there is no head beside the database";
            findings.add(FindingKind::HeadMissing, None, what);
        }
        let tail = tail(&reader)?;
        records = tail.rows;
        findings.append(tail.findings);
    }
    let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let growth = if status.pending.is_empty() {
        growth(&reader, size(path), clock.now().as_millisecond())?
    } else {
        None
    };
    Ok(Some(Examination {
        schema: status,
        integrity: integrity(&reader, patience, clock)?,
        findings: findings.into_list(),
        records,
        bytes: size(path),
        wal_bytes: size(&file::beside(path, "-wal")),
        growth,
    }))
}

fn growth(reader: &Connection, bytes: u64, now: i64) -> rusqlite::Result<Option<Growth>> {
    let (oldest, count) = audit_records::extent(reader)?;
    let oldest = oldest.and_then(|id| audit_records::at(reader, id).transpose());
    let Some(oldest) = oldest.transpose()? else {
        return Ok(None);
    };
    let since = oldest.created_at.max(now - WEEK_MS);
    let span = u64::try_from(now - since).unwrap_or_default();
    if span < HOUR_MS {
        return Ok(None);
    }
    let end = oldest.id + count;
    let lately = (end - pages::first_id_at(reader, since)?).clamp(0, count);
    let [lately, count] = [lately, count].map(|n| u128::from(n.unsigned_abs()));
    let a_day =
        |n: u128| u64::try_from(n * u128::from(DAY_MS) / u128::from(span)).unwrap_or(u64::MAX);
    Ok(Some(Growth {
        records_a_day: a_day(lately),
        bytes_a_day: a_day(lately * u128::from(bytes) / count.max(1)),
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

fn altered(
    reader: &Connection,
    key_ring: &KeyRing,
    patience: Duration,
    clock: &Clock,
    findings: &mut Findings,
) -> Result<(), OpenError> {
    if key_check::is_of_other(reader, key_ring)? {
        let what = "the database is sealed under another secret than the configuration names";
        findings.add(FindingKind::ProjectionAltered, None, what);
        return Ok(());
    }
    let found = within(reader, patience, clock, || {
        rows::altered(reader, key_ring, ALTERED)
    })?;
    match found {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {}
        found => {
            for what in found? {
                findings.add(FindingKind::ProjectionAltered, None, what);
            }
        }
    }
    Ok(())
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

/// Walks over the last records.
fn tail(reader: &Connection) -> Result<Walked, OpenError> {
    let head = audit_records::head(reader)?;
    let first = head.id.saturating_sub(i64::from(TAIL)) + 1;
    let before = found::first(reader, first, |row| row.content.id.saturating_sub(1))?;
    let start = Start {
        place: before.unwrap_or(head.id),
        hash: None,
        tree: None,
    };
    Ok(found::walk(reader, start, TAIL, |_| true)?)
}

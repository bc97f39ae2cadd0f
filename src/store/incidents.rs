//! Table `incidents`: those that are open, and those that were. A projection of the audit log; the calls of an open one are counted here
//! between its records.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::column::{self, Columns};
use super::error::StoreError;
use super::readers::RowReader;
use crate::alerts::{Acknowledgement, IncidentStatus, Notification, Topic};

/// Incidents that are kept, open ones not counted; the oldest go first.
const KEPT: i64 = 10_000;

/// An incident as the database knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredIncident {
    pub row: i64,
    /// What it is about, since when, and whom it affects.
    pub status: IncidentStatus,
    /// When it was resolved; `None` while it is open.
    pub resolved_at: Option<Timestamp>,
    /// How long it was open, in milliseconds.
    pub lasted_ms: Option<u64>,
}

/// Writes an incident that opens; where it opened without a word, that somebody is told of it now. Does nothing where it is there.
pub(super) fn open(
    connection: &Connection,
    notice: &Notification,
    at: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO incidents (name, kind, subject, cause, dialers, calls, call_sids, reasons, reminders,
                 opened_at, told_at, muted, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11, ?9, ?9)
             ON CONFLICT (name) DO UPDATE SET
                 cause = excluded.cause, told_at = excluded.told_at, muted = excluded.muted, updated_at = excluded.updated_at
             WHERE incidents.told_at IS NULL",
        )?
        .execute(params![
            notice.incident,
            notice.kind.as_str(),
            notice.subject,
            notice.cause,
            json(&notice.dialers)?,
            count(notice.calls),
            json(&notice.call_ids)?,
            json(&notice.reasons)?,
            at,
            (!notice.quiet).then_some(at),
            notice.muted.as_ref().map(json).transpose()?,
        ])?;
    connection
        .prepare_cached(
            "DELETE FROM incidents WHERE resolved_at IS NOT NULL AND id <= (SELECT max(id) FROM incidents) - ?1",
        )?
        .execute([KEPT])?;
    Ok(())
}

/// Somebody was reminded of it.
pub(super) fn remind(
    connection: &Connection,
    notice: &Notification,
    at: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE incidents SET reminders = reminders + 1, told_at = ?2, updated_at = ?2 WHERE name = ?1",
        )?
        .execute(params![notice.incident, at])?;
    Ok(())
}

pub(super) fn resolve(
    connection: &Connection,
    notice: &Notification,
    at: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE incidents SET resolved_at = ?2, lasted_ms = ?3, calls = ?4, call_sids = ?5, reasons = ?6,
                 muted = coalesce(?7, muted), updated_at = ?2
             WHERE name = ?1",
        )?
        .execute(params![
            notice.incident,
            at,
            notice.lasted_ms.map(count),
            count(notice.calls),
            json(&notice.call_ids)?,
            json(&notice.reasons)?,
            notice.muted.as_ref().map(json).transpose()?,
        ])?;
    Ok(())
}

/// Somebody works on it; who did so first is kept.
pub(super) fn acknowledge(
    connection: &Connection,
    name: &str,
    by: &str,
    at: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE incidents SET acknowledged_by = ?2, acknowledged_at = ?3, updated_at = ?3
             WHERE name = ?1 AND acknowledged_at IS NULL",
        )?
        .execute(params![name, by, at])?;
    Ok(())
}

/// The calls of an open incident, as they are counted now.
pub(super) fn count_calls(
    connection: &Connection,
    status: &IncidentStatus,
    at: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE incidents SET calls = ?2, call_sids = ?3, reasons = ?4, updated_at = ?5
             WHERE name = ?1 AND resolved_at IS NULL",
        )?
        .execute(params![
            status.id,
            count(status.calls),
            json(&status.call_ids)?,
            json(&status.reasons)?,
            at,
        ])?;
    Ok(())
}

/// The row of an incident.
pub(super) fn row_of(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM incidents WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// The incident of this name.
pub(super) fn named(
    reader: &RowReader<'_>,
    name: &str,
) -> Result<Option<StoredIncident>, StoreError> {
    let mut found = reader.rows("incidents", "WHERE name = ?1", [name], read)?;
    Ok(found.pop())
}

/// The ids of the calls of an incident, as JSON; none where it is not known.
pub(super) fn calls_of(connection: &Connection, name: &str) -> rusqlite::Result<String> {
    let found = connection
        .prepare_cached("SELECT call_sids FROM incidents WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or_else(|| "[]".to_owned()))
}

/// Incidents, newest first; with `open`, only those that are open.
pub(super) fn list(
    reader: &RowReader<'_>,
    open: bool,
    before: Option<i64>,
    limit: u32,
    offset: u32,
) -> Result<Vec<StoredIncident>, StoreError> {
    let which = if open {
        "INDEXED BY idx_incidents_resolved_at WHERE resolved_at IS NULL AND id < ?3"
    } else {
        "WHERE id < ?3"
    };
    let which = format!("{which} ORDER BY id DESC LIMIT ?1 OFFSET ?2");
    let wanted = params![limit, offset, before.unwrap_or(i64::MAX)];
    reader.rows("incidents", &which, wanted, read)
}

/// How many incidents there are; with `open`, how many of them are open.
pub(super) fn count_all(connection: &Connection, open: bool) -> rusqlite::Result<i64> {
    let sql = if open {
        "SELECT count(*) FROM incidents WHERE resolved_at IS NULL"
    } else {
        "SELECT count(*) FROM incidents"
    };
    connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn read(row: &Columns<'_, '_>) -> Result<StoredIncident, StoreError> {
    let unsigned = |number: i64| u64::try_from(number).ok();
    let by: Option<String> = row.get("acknowledged_by")?;
    let at = row.optional("acknowledged_at", column::time)?;
    Ok(StoredIncident {
        row: row.id(),
        status: IncidentStatus {
            id: row.get("name")?,
            topic: Topic {
                kind: row.word("kind")?,
                subject: row.get("subject")?,
            },
            cause: row.get("cause")?,
            dialers: row.json("dialers")?,
            since: row.time("opened_at")?,
            calls: row.valid(unsigned(row.get("calls")?))?,
            call_ids: row.json("call_sids")?,
            reasons: row.json("reasons")?,
            reminders: row.get("reminders")?,
            notified_at: row.optional("told_at", column::time)?,
            acknowledged: by.zip(at).map(|(by, at)| Acknowledgement { by, at }),
            muted: row.optional("muted", |text: String| serde_json::from_str(&text).ok())?,
        },
        resolved_at: row.optional("resolved_at", column::time)?,
        lasted_ms: row.optional("lasted_ms", unsigned)?,
    })
}

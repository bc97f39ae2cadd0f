//! The audit records of a person's calls.
//!
//! No index leads from a person to their records, but one to their calls, and one from a call to its records. So the newest calls are found first,
//! and then the records of each. Both are bounded, whoever it is and however often they call.

use rusqlite::{Connection, OptionalExtension, params};

use super::audit_records::{self, RawRecord};
use super::callers;
use super::readers::RowReader;
use crate::phone::Caller;

/// The newest calls of a person whose records are found; older ones are reached by asking for what was before some time.
const CALLS: usize = 100;

/// The records of a person's newest calls, newest first; and whether these are all calls of that person, before the time `to` where one is given.
///
/// `caller` is a number as a carrier or a person writes it, `to` in milliseconds since the Unix epoch.
pub(super) fn newest(
    reader: &RowReader<'_>,
    caller: &str,
    to: Option<i64>,
) -> rusqlite::Result<(Vec<RawRecord>, bool)> {
    let Some(caller_row) = callers::find_by_number(reader, caller)? else {
        return Ok((Vec::new(), true));
    };
    let last_row = match to {
        Some(to) => last_before(reader, to)?,
        None => i64::MAX,
    };
    let mut calls = calls_of(reader, caller_row, last_row)?;
    let is_whole = calls.len() <= CALLS;
    calls.truncate(CALLS);
    let mut records = Vec::new();
    for call in calls {
        records.extend(audit_records::of_row(reader, call)?);
    }
    records.sort_unstable_by_key(|record| std::cmp::Reverse(record.id));
    Ok((records, is_whole))
}

/// The rows of all calls of a person, in the order in which they came.
pub(super) fn calls(reader: &RowReader<'_>, caller: &Caller) -> rusqlite::Result<Vec<i64>> {
    let Some(caller_row) = callers::find_by_number(reader, caller.as_text())? else {
        return Ok(Vec::new());
    };
    reader
        .prepare_cached(
            "SELECT id FROM calls INDEXED BY idx_calls_caller_id WHERE caller_id = ?1 ORDER BY id",
        )?
        .query_map([caller_row], |row| row.get(0))?
        .collect()
}

/// The row of the last call that arrived before `to`; rows are in the order in which calls arrive.
fn last_before(connection: &Connection, to: i64) -> rusqlite::Result<i64> {
    let row = connection
        .prepare_cached(
            "SELECT id FROM calls INDEXED BY idx_calls_started_at
             WHERE started_at < ?1 ORDER BY started_at DESC, id DESC LIMIT 1",
        )?
        .query_row([to], |row| row.get(0))
        .optional()?;
    Ok(row.unwrap_or(0))
}

/// The rows of a person's newest calls up to a row, one more than are wanted.
fn calls_of(connection: &Connection, caller_row: i64, last_row: i64) -> rusqlite::Result<Vec<i64>> {
    let limit = i64::try_from(CALLS).unwrap_or(i64::MAX) + 1;
    connection
        .prepare_cached(
            "SELECT id FROM calls INDEXED BY idx_calls_caller_id
             WHERE caller_id = ?1 AND id <= ?2 ORDER BY id DESC LIMIT ?3",
        )?
        .query_map(params![caller_row, last_row, limit], |row| row.get(0))?
        .collect()
}

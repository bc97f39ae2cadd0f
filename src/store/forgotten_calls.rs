//! Table `forgotten_calls`: the calls of which nothing else is left, so that nobody is handed off again who called long ago.
//!
//! A signed webhook can be sent again for as long as the token is in force that signed it: the signature covers no time. Tokens are to be
//! replaced once a year; a hash is kept for a little longer than that.

use jiff::SignedDuration;
use rusqlite::{Connection, OptionalExtension, params};

use super::key_ring::KeyRing;
use super::readers::RowReader;
use crate::call::CallId;

/// How long the hash of a call is kept after the call was forgotten.
const KEPT: SignedDuration = SignedDuration::from_hours(400 * 24);
/// More hashes than these are not kept, about a quarter of a gigabyte; the oldest go first.
const MOST: i64 = 4_000_000;
/// So many hashes go for each that comes, until none is due.
const PACE: usize = 4;

/// What is left of a call, and what that means for a webhook of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// Nothing is in the way: the call is new, goes on, or has ended a moment ago.
    No,
    /// It ended longer ago than its carrier repeats webhooks.
    Over,
    Erased,
    /// Its records have passed their time.
    Forgotten,
}

/// Deletes calls with their legs, and keeps a hash of each. One of which a record was written since it was found due stays: its number is that of
/// the record, and must not become another call's.
pub(super) fn forget(
    connection: &Connection,
    key_ring: &KeyRing,
    rows: &[i64],
    now: i64,
) -> rusqlite::Result<()> {
    let mut find = connection.prepare_cached(
        "SELECT sid FROM calls WHERE id = ?1
             AND NOT EXISTS (SELECT 1 FROM audit_records WHERE call_id = calls.id)",
    )?;
    let mut keep = connection.prepare_cached(
        "INSERT INTO forgotten_calls (call_hash, created_at) VALUES (?1, ?2) ON CONFLICT (call_hash) DO NOTHING",
    )?;
    let mut delete = connection.prepare_cached("DELETE FROM calls WHERE id = ?1")?;
    for row in rows {
        let sid: Option<String> = find.query_row([row], |row| row.get(0)).optional()?;
        if let Some(sid) = sid {
            keep.execute(params![key_ring.call_hash(&sid), now])?;
            delete.execute([row])?;
        }
    }
    thin_out(connection, rows.len().saturating_mul(PACE), now)
}

fn thin_out(connection: &Connection, n: usize, now: i64) -> rusqlite::Result<()> {
    let kept = i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "DELETE FROM forgotten_calls
             WHERE id IN (SELECT id FROM forgotten_calls ORDER BY id LIMIT ?1)
                 AND (created_at < ?2 OR id <= (SELECT max(id) FROM forgotten_calls) - ?3)",
        )?
        .execute(params![
            i64::try_from(n).unwrap_or(i64::MAX),
            now.saturating_sub(kept),
            MOST
        ])?;
    Ok(())
}

pub(super) fn is_forgotten(
    connection: &Connection,
    key_ring: &KeyRing,
    call: &CallId,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM forgotten_calls WHERE call_hash = ?1")?
        .exists([key_ring.call_hash(call.as_str())])
}

/// What is left of a call that ended before `ended_before`, or of any other.
pub(super) fn past(
    reader: &RowReader<'_>,
    call: &CallId,
    ended_before: i64,
) -> rusqlite::Result<Past> {
    let known: Option<(bool, bool)> = reader
        .prepare_cached(
            "SELECT personal IS NULL, status = 'ended' AND coalesce(ended_at, updated_at) < ?2 FROM calls WHERE sid = ?1",
        )?
        .query_row(params![call.as_str(), ended_before], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    Ok(match known {
        Some((true, _)) => Past::Erased,
        Some((false, true)) => Past::Over,
        Some((false, false)) => Past::No,
        None => {
            if is_forgotten(reader, reader.key_ring(), call)? {
                Past::Forgotten
            } else {
                Past::No
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let schema = include_str!("../../schema.sql");
        let from = schema.find("CREATE TABLE forgotten_calls").unwrap();
        let table = schema.get(from..).unwrap().split(';').next().unwrap();
        connection.execute_batch(table).unwrap();
        connection
    }

    fn put(connection: &Connection, id: i64, created_at: i64) {
        let hash = format!("{id:016}");
        connection
            .execute(
                "INSERT INTO forgotten_calls (id, call_hash, created_at) VALUES (?1, ?2, ?3)",
                params![id, hash.as_bytes(), created_at],
            )
            .unwrap();
    }

    fn ids(connection: &Connection) -> Vec<i64> {
        let mut statement = connection
            .prepare("SELECT id FROM forgotten_calls ORDER BY id")
            .unwrap();
        let ids = statement.query_map([], |row| row.get(0)).unwrap();
        ids.map(Result::unwrap).collect()
    }

    #[test]
    fn a_hash_goes_after_400_days_and_the_oldest_go_where_there_are_too_many() {
        const DAY: i64 = 86_400_000;
        let connection = table();
        put(&connection, 1, 0);
        put(&connection, 2, DAY);
        thin_out(&connection, PACE, 400 * DAY).unwrap();
        assert_eq!(ids(&connection), [1, 2]);
        thin_out(&connection, PACE, 400 * DAY + 1).unwrap();
        assert_eq!(ids(&connection), [2]);
        put(&connection, MOST + 2, DAY);
        thin_out(&connection, PACE, 2 * DAY).unwrap();
        assert_eq!(ids(&connection), [MOST + 2]);
    }

    #[test]
    fn so_many_go_at_a_time_and_no_more() {
        let connection = table();
        for id in 1..=10 {
            put(&connection, id, 0);
        }
        thin_out(&connection, 4, i64::MAX).unwrap();
        assert_eq!(ids(&connection), [5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn the_hash_of_a_call_takes_the_secret_and_names_no_other_call() {
        let (ours, others) = (KeyRing::new(&[1; 32]), KeyRing::new(&[2; 32]));
        let call = "CA00000000000000000000000000000001";
        assert_eq!(ours.call_hash(call), KeyRing::new(&[1; 32]).call_hash(call));
        assert_ne!(ours.call_hash(call), others.call_hash(call));
        let other = "CA00000000000000000000000000000002";
        assert_ne!(ours.call_hash(call), ours.call_hash(other));
    }
}

//! What a comparison with the carrier's list asks of the log: which calls it holds, and when it took none.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::audit_records::{self, RARE};
use super::column;
use super::error::StoreError;
use super::forgotten_calls;
use super::handle::Store;
use super::readers::RowReader;
use crate::audit::{CompletenessChecked, Event, Kind};
use crate::call::CallId;

/// Checks among which the last one is looked for.
const CHECKS: usize = 40;
/// Calls that the carrier does not list; more are not looked at.
const MOST_UNLISTED: usize = 500;

/// How the log knows a call of the carrier's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallPresence {
    Absent,
    /// Its records have passed their time; its keyed hash is known.
    Forgotten,
    /// It has its row and no record.
    WithoutRecords,
    /// It is there, erased or not; with its end, unless it goes on.
    Recorded(Option<Timestamp>),
}

impl Store {
    /// How the log knows these calls, in their order.
    pub async fn presence_of(&self, calls: Vec<CallId>) -> Result<Vec<CallPresence>, StoreError> {
        self.ask(move |reader| {
            let found = calls.iter().map(|call| presence(reader, call));
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The carrier's calls of a period that are not in its list, which comes in order: the first 500, each with when it began.
    pub async fn calls_not_in(
        &self,
        [from, to]: [Timestamp; 2],
        list: Vec<CallId>,
    ) -> Result<Vec<(CallId, Timestamp)>, StoreError> {
        self.ask(move |reader| {
            let mut statement = reader.prepare_cached(
                "SELECT sid, started_at, id FROM calls WHERE started_at >= ?1 AND started_at < ?2 AND sid GLOB 'CA*'",
            )?;
            let mut rows = statement.query([from, to].map(Timestamp::as_millisecond))?;
            let mut found = Vec::new();
            while found.len() < MOST_UNLISTED
                && let Some(row) = rows.next()?
            {
                let call = CallId::parse(&row.get::<_, String>(0)?).ok();
                let call = call.zip(column::time(row.get(1)?));
                let call = column::or_inconsistent(call, "calls", row.get(2)?)?;
                if list.binary_search(&call.0).is_err() {
                    found.push(call);
                }
            }
            Ok(found)
        })
        .await
    }

    /// The calls that incidents of a time name as answered at the fallback URL.
    pub async fn fallbacks(
        &self,
        [from, to]: [Timestamp; 2],
    ) -> Result<BTreeSet<CallId>, StoreError> {
        self.ask(move |reader| {
            let which =
                "WHERE kind = 'on_fallback' AND opened_at < ?2 AND coalesce(resolved_at, ?1) >= ?1";
            let time = [from, to].map(Timestamp::as_millisecond);
            let read = reader.rows("incidents", which, time, |row| {
                row.json::<Vec<CallId>>("call_sids")
            });
            Ok(read?.into_iter().flatten().collect())
        })
        .await
    }

    /// The times before each start of the service in which nothing was recorded, of the last 1,000 starts.
    pub async fn outages(&self) -> Result<Vec<[Timestamp; 2]>, StoreError> {
        self.ask(|reader| {
            // A start writes some records before it says that it is one.
            let mut statement = reader.prepare_cached(&format!(
                "SELECT (SELECT max(created_at) FROM audit_records AS before
                         WHERE before.id BETWEEN starts.id - 20 AND starts.id - 1 AND before.created_at < starts.created_at - 1000),
                     created_at
                 FROM audit_records AS starts INDEXED BY idx_audit_records_kind_id_created_at
                 WHERE {RARE} AND kind = 'service_started' ORDER BY id DESC LIMIT 1000",
            ))?;
            let rows = statement.query_map([], |row| {
                let (since, until): (Option<i64>, i64) = (row.get(0)?, row.get(1)?);
                Ok(since.and_then(column::time).zip(column::time(until)))
            })?;
            let outages = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(outages.into_iter().flatten().map(Into::into).collect())
        })
        .await
    }

    /// The newest check of the latest day that was checked, and when it was made; `None` where none is in the log.
    pub async fn last_completeness(
        &self,
    ) -> Result<Option<(Timestamp, CompletenessChecked)>, StoreError> {
        self.ask(|reader| {
            let records = audit_records::of_kind(reader, Kind::CompletenessChecked)?;
            let newest = records.into_iter().rev().take(CHECKS).rev();
            let checks = newest.filter_map(|record| {
                let record = record.read(reader).ok()?;
                match record.event() {
                    Ok(Event::CompletenessChecked(checked)) => Some((record.at, *checked)),
                    _ => None,
                }
            });
            // Of several that are as late, the last one is given.
            Ok(checks.max_by_key(|(_, checked)| checked.to))
        })
        .await
    }
}

fn presence(reader: &RowReader<'_>, call: &CallId) -> rusqlite::Result<CallPresence> {
    let row: Option<(bool, Option<i64>)> = reader
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM audit_records WHERE call_id = calls.id),
                 iif(status = 'ended', coalesce(ended_at, updated_at), NULL)
             FROM calls WHERE sid = ?1",
        )?
        .query_row(params![call.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(match row {
        Some((true, ended_at)) => CallPresence::Recorded(ended_at.and_then(column::time)),
        Some((false, _)) => CallPresence::WithoutRecords,
        None if forgotten_calls::is_forgotten(reader, reader.key_ring(), call)? => {
            CallPresence::Forgotten
        }
        None => CallPresence::Absent,
    })
}

//! Pages of calls and of audit records, newest first, for people.
//!
//! A page goes on where the one before ended (keyset), so it neither repeats nor leaves out a row while others arrive. Filters that no index
//! serves are tried on a bounded number of rows, so that no question takes long however much there is: a page may then come back short, and its
//! cursor says where the search goes on.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::audit_records::{self, RARE, RawRecord, StoredRecord, read_all};
use super::call_filter::{CallFilter, Digits, FAILURE};
use super::calls::{self, StoredCall};
use super::error::StoreError;
use super::legs::{self, StoredLeg};
use super::readers::RowReader;
use super::{caller_records, callers, incidents};
use crate::audit::{Kind, RecordSeverity, severity};
use crate::call::{CallId, Disposition, Status};

/// Rows that one question looks at where no index serves its filters: few enough that it is quick even where all of them have to come from the
/// disk.
const SCAN: u32 = 2_000;
/// Up to so many, rows are counted where an index gives them.
const COUNTED: u32 = 10_000;
/// From so many characters on, a part of a call id is looked for by its index: shorter ones fit too many calls.
const INDEXED_PREFIX: usize = 8;
/// Few calls are in progress, and they have an index of their own.
const BY_STATUS: &str = "INDEXED BY idx_calls_status";
/// [`calls::ON_THE_LINE`], with the value that every condition has.
const IN_PROGRESS: &str = "status <> 'ended' AND sid NOT GLOB 'api*-*' AND ?";
/// A caller's calls are few, too.
const BY_CALLER: &str = "INDEXED BY idx_calls_caller_id";
/// No caller has this row.
const NO_ROW: i64 = 0;
/// Records of different calls are written a little out of order; the disk may have failed in between.
pub(super) const DISORDER_MS: i64 = 3_600_000;

/// Which calls are asked for. Empty fields do not filter.
#[derive(Clone, Debug, Default)]
pub struct CallsAsked {
    pub status: Option<Status>,
    /// On the line only: in progress, and not of the JSON door.
    pub in_progress: bool,
    pub disposition: Option<Disposition>,
    /// The dialer that was dialled last, or [`LAST_RESORT`](crate::call::LAST_RESORT).
    pub dialer: Option<String>,
    pub tier: Option<String>,
    /// Arrived at or after this time.
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Those that this incident affected, as far as their ids were kept.
    pub incident: Option<String>,
    /// A number or a part of a call id.
    pub search: Option<CallSearch>,
    pub filter: CallFilter,
}

impl CallsAsked {
    /// Looks for a caller's whole number by the index of callers, unless something else is searched for.
    pub fn search_whole(&mut self) {
        let whole = self.filter.caller.as_ref().and_then(Digits::whole);
        if let Some(number) = whole.filter(|_| self.search.is_none()) {
            self.search = Some(CallSearch::Caller(number));
            self.filter.caller = None;
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallSearch {
    Caller(String),
    /// Calls whose id begins so.
    IdPrefix(String),
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<P> {
    /// After this row; from the start where `None`.
    pub after: Option<P>,
    /// Rows that are passed over.
    pub skip: u32,
    pub size: u32,
}

/// The place of a call in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallPlace {
    /// When it arrived, in milliseconds since the Unix epoch.
    pub started_at: i64,
    pub row: i64,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Rows<T, P> {
    pub rows: Vec<T>,
    /// Where the next page begins; `None` at the end of the list.
    pub next: Option<P>,
    /// How many there are in all.
    pub total: i64,
    /// False where `total` is a lower bound or an estimate, because counting would take too long.
    pub total_is_exact: bool,
}

/// A page of calls, each with its legs.
pub(super) fn calls(
    reader: &RowReader<'_>,
    asked: &CallsAsked,
    part: Part<CallPlace>,
) -> Result<Rows<(StoredCall, Vec<StoredLeg>), CallPlace>, StoreError> {
    let caller_row = match &asked.search {
        Some(CallSearch::Caller(caller)) => callers::find_by_number(reader, caller)?,
        Some(CallSearch::IdPrefix(_)) | None => None,
    };
    let mut candidates = Candidates::of(asked, caller_row);
    if let Some(incident) = &asked.incident {
        candidates.only(&incidents::calls_of(reader, incident)?);
    }
    let mut found = candidates.find(reader, part, &asked.filter)?;
    let size = as_size(part.size);
    let next = if found.len() > size {
        found.truncate(size);
        found.last().copied()
    } else {
        candidates.end_of_search(reader, part.after)?
    };
    let mut rows = Vec::with_capacity(found.len());
    for place in found {
        let call = calls::at_row(reader, place.row)?;
        if let Some(call) = call {
            let legs = legs::of_row(reader, place.row)?;
            rows.push((call, legs));
        }
    }
    let (total, total_is_exact) = if candidates.is_sealed {
        let is_all = next.is_none() && part.after.is_none() && part.skip == 0;
        (i64::try_from(rows.len()).unwrap_or(i64::MAX), is_all)
    } else {
        candidates.count(reader)?
    };
    Ok(Rows {
        rows,
        next,
        total,
        total_is_exact,
    })
}

/// The rows that a filter is tried on, in order, and the filter.
struct Candidates {
    /// What narrows the rows by an index.
    range: Vec<(&'static str, Value)>,
    /// What is tried on each.
    filter: Vec<(&'static str, Value)>,
    /// Which index gives the rows, where the planner should not choose.
    index: &'static str,
    /// Rows have to be opened as well to be tried.
    is_sealed: bool,
}

impl Candidates {
    /// `caller_row` is the row of the caller who is searched for; `None` where nobody of that number has called.
    fn of(asked: &CallsAsked, caller_row: Option<i64>) -> Self {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut range = Vec::new();
        let mut filter = Vec::new();
        let mut index = "INDEXED BY idx_calls_started_at";
        if let Some(from) = asked.from {
            range.push(("started_at >= ?", Value::Integer(from.as_millisecond())));
        }
        if let Some(to) = asked.to {
            range.push(("started_at < ?", Value::Integer(to.as_millisecond())));
        }
        match asked.status {
            None if asked.in_progress => {
                index = BY_STATUS;
                range.push((IN_PROGRESS, Value::Integer(1)));
            }
            None => {}
            Some(Status::Ended) => filter.push(("status = ?", text("ended"))),
            Some(status) => {
                index = BY_STATUS;
                range.push(("status <> 'ended' AND status = ?", text(status.as_str())));
            }
        }
        if let Some(disposition) = asked.disposition {
            filter.push(("disposition = ?", text(disposition.as_str())));
        }
        if let Some(dialer) = &asked.dialer {
            filter.push(("dialer = ?", text(dialer)));
        }
        if let Some(tier) = &asked.tier {
            filter.push(("coalesce(tier, 'none') = ?", text(tier)));
        }
        match &asked.search {
            None => {}
            Some(CallSearch::Caller(_)) => {
                index = BY_CALLER;
                range.push((
                    "caller_id = ?",
                    Value::Integer(caller_row.unwrap_or(NO_ROW)),
                ));
            }
            Some(CallSearch::IdPrefix(prefix)) => {
                let place = if prefix.len() >= INDEXED_PREFIX {
                    index = "";
                    &mut range
                } else {
                    &mut filter
                };
                place.push(("sid >= ?", text(prefix)));
                place.push(("sid < ?", text(&after_prefix(prefix))));
            }
        }
        if let Some(row) = asked.filter.caller_row {
            index = BY_CALLER;
            range.push(("caller_id = ?", Value::Integer(row)));
        }
        filter.extend(asked.filter.conditions.iter().cloned());
        Self {
            range,
            filter,
            index,
            is_sealed: asked.filter.is_sealed(),
        }
    }

    /// Only calls with these ids, a list as JSON.
    fn only(&mut self, ids: &str) {
        if self.index != BY_CALLER {
            self.index = "";
        }
        let condition = "sid IN (SELECT value FROM json_each(?))";
        self.range.push((condition, Value::Text(ids.to_owned())));
    }

    /// The rows to look at, newest first, as SQL and its values.
    fn rows(&self, columns: &str, after: Option<CallPlace>) -> (String, Vec<Value>) {
        let mut conditions = vec!["true"];
        let mut values = Vec::new();
        for (condition, value) in &self.range {
            conditions.push(condition);
            values.push(value.clone());
        }
        let order = if self.is_by_row() {
            "id DESC"
        } else {
            "started_at DESC, id DESC"
        };
        if let Some(place) = after {
            if self.is_by_row() {
                conditions.push("id < ?");
            } else {
                conditions.push("(started_at, id) < (?, ?)");
                values.push(Value::Integer(place.started_at));
            }
            values.push(Value::Integer(place.row));
        }
        let bound = if self.is_scan() {
            format!(" LIMIT {SCAN}")
        } else {
            String::new()
        };
        let sql = format!(
            "SELECT {columns} FROM calls {} WHERE {} ORDER BY {order}{bound}",
            self.index,
            conditions.join(" AND ")
        );
        (sql, values)
    }

    /// Few calls are in progress; of all others only some are tried.
    fn is_scan(&self) -> bool {
        self.index != BY_STATUS && (self.is_sealed || !self.filter.is_empty())
    }

    /// The index gives rows in the order of their numbers, which is that of arrival as well.
    fn is_by_row(&self) -> bool {
        self.index == BY_CALLER
    }

    fn filtered(&self, mut values: Vec<Value>) -> (String, Vec<Value>) {
        let mut conditions = vec!["true"];
        for (condition, value) in &self.filter {
            conditions.push(condition);
            values.push(value.clone());
        }
        (conditions.join(" AND "), values)
    }

    /// The places of one page, and one more where there is one.
    fn find(
        &self,
        reader: &RowReader<'_>,
        part: Part<CallPlace>,
        asked: &CallFilter,
    ) -> Result<Vec<CallPlace>, StoreError> {
        let (rows, values) = self.rows(&columns(), part.after);
        let (conditions, mut values) = self.filtered(values);
        if self.is_sealed {
            let sql = format!(
                "SELECT started_at, id, sid, created_at, (SELECT personal FROM calls WHERE id = tried.id),
                     (SELECT adopted_from IS NOT NULL FROM calls WHERE id = tried.id)
                 FROM ({rows}) AS tried WHERE {conditions}"
            );
            let (skip, most) = (as_size(part.skip), as_size(part.size) + 1);
            let found = asked.opened(reader, &sql, values, skip, most)?.into_iter();
            let place = |(started_at, row)| CallPlace { started_at, row };
            return Ok(found.map(place).collect());
        }
        values.push(Value::Integer(i64::from(part.size) + 1));
        values.push(Value::Integer(i64::from(part.skip)));
        let sql = format!(
            "SELECT started_at, id FROM ({rows}) AS tried WHERE {conditions} LIMIT ? OFFSET ?"
        );
        let mut statement = reader.prepare_cached(&sql)?;
        let found = statement.query_map(params_from_iter(values), |row| {
            Ok(CallPlace {
                started_at: row.get(0)?,
                row: row.get(1)?,
            })
        })?;
        Ok(found.collect::<rusqlite::Result<_>>()?)
    }

    /// Where a search goes on that its bound has ended.
    fn end_of_search(
        &self,
        connection: &Connection,
        after: Option<CallPlace>,
    ) -> Result<Option<CallPlace>, StoreError> {
        if !self.is_scan() {
            return Ok(None);
        }
        let (rows, values) = self.rows("started_at, id", after);
        let sql = format!(
            "SELECT started_at, id FROM ({rows}) LIMIT 1 OFFSET {}",
            SCAN - 1
        );
        Ok(connection
            .prepare_cached(&sql)?
            .query_row(params_from_iter(values), |row| {
                Ok(CallPlace {
                    started_at: row.get(0)?,
                    row: row.get(1)?,
                })
            })
            .optional()?)
    }

    /// How many there are in all, and whether that is exact.
    fn count(&self, connection: &Connection) -> Result<(i64, bool), StoreError> {
        if self.range.is_empty() && self.filter.is_empty() {
            return count_all(connection);
        }
        let (rows, values) = self.rows(&columns(), None);
        let (conditions, values) = self.filtered(values);
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM ({rows}) AS tried WHERE {conditions} LIMIT {COUNTED})"
        );
        let count: i64 = connection
            .prepare_cached(&sql)?
            .query_row(params_from_iter(values), |row| row.get(0))?;
        let is_exact = if self.is_scan() {
            self.end_of_search(connection, None)?.is_none()
        } else {
            count < i64::from(COUNTED)
        };
        Ok((count, is_exact))
    }
}

/// What a filter looks at.
fn columns() -> String {
    format!(
        "id, started_at, created_at, sid, status, disposition, dialer, tier, rule, reason, failed_over, held, routing_ms, answered_at, caller_id, called_id,
         {FAILURE} AS failure"
    )
}

/// Rows are numbered without gaps but for what was pruned: where there are many, their numbers tell how many.
fn count_all(connection: &Connection) -> Result<(i64, bool), StoreError> {
    let span: i64 = connection
        .prepare_cached(
            "SELECT coalesce((SELECT max(id) FROM calls) - (SELECT min(id) FROM calls) + 1, 0)",
        )?
        .query_row([], |row| row.get(0))?;
    if span > i64::from(COUNTED) {
        return Ok((span, false));
    }
    let count = connection
        .prepare_cached("SELECT count(*) FROM calls")?
        .query_row([], |row| row.get(0))?;
    Ok((count, true))
}

/// The first text that sorts behind everything that begins with `prefix`: ids are ASCII.
fn after_prefix(prefix: &str) -> String {
    format!("{prefix}\u{7f}")
}

/// Which audit records are asked for. Empty fields do not filter.
#[derive(Clone, Debug, Default)]
pub struct RecordsAsked {
    pub call: Option<CallId>,
    /// Of the newest calls of this caller.
    pub caller: Option<String>,
    pub kind: Option<Kind>,
    pub severity: Option<RecordSeverity>,
    /// Made at or after this time.
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Of calls whose id begins so.
    pub id_prefix: Option<String>,
    pub id: Option<i64>,
}

impl RecordsAsked {
    /// `detail` is read only where a severity is asked for.
    fn wants(&self, created_at: i64, kind: &str, call: Option<&str>, detail: &str) -> bool {
        let kind = Kind::from_name(kind);
        self.kind.is_none_or(|wanted| kind == Some(wanted))
            && self
                .call
                .as_ref()
                .is_none_or(|wanted| call == Some(wanted.as_str()))
            && self
                .from
                .is_none_or(|from| created_at >= from.as_millisecond())
            && self.to.is_none_or(|to| created_at < to.as_millisecond())
            && self
                .id_prefix
                .as_deref()
                .is_none_or(|prefix| call.is_some_and(|id| id.starts_with(prefix)))
            && self
                .severity
                .is_none_or(|wanted| kind.is_some_and(|kind| severity(kind, detail) == wanted))
    }

    fn is_everything(&self) -> bool {
        self.kind.is_none()
            && self.severity.is_none()
            && self.from.is_none()
            && self.to.is_none()
            && self.id_prefix.is_none()
    }
}

/// A page of audit records; the place of one is its id.
pub(super) fn records(
    reader: &RowReader<'_>,
    asked: &RecordsAsked,
    part: Part<i64>,
) -> Result<Rows<StoredRecord, i64>, StoreError> {
    let before = part.after.unwrap_or(i64::MAX);
    let (mut records, total_is_exact) = match (&asked.caller, &asked.call) {
        _ if asked.id.is_some() => {
            let id = asked.id.unwrap_or_default();
            (audit_records::at(reader, id)?.into_iter().collect(), true)
        }
        (Some(caller), _) => {
            let to = asked.to.map(Timestamp::as_millisecond);
            caller_records::newest(reader, caller, to)?
        }
        (None, Some(call)) => {
            let mut records = audit_records::of_call(reader, call)?;
            records.reverse();
            (records, true)
        }
        (None, None) => return records_of_all(reader, asked, part, before),
    };
    records.retain(|record| {
        asked.wants(
            record.created_at,
            &record.kind,
            record.call_sid.as_deref(),
            &record.detail,
        )
    });
    let total = count(&records);
    let older = records.into_iter().filter(|record| record.id < before);
    let mut rows = older.skip(as_size(part.skip)).collect();
    let next = cut(&mut rows, part.size);
    Ok(Rows {
        rows: read_all(reader, rows)?,
        next,
        total,
        total_is_exact,
    })
}

fn records_of_all(
    reader: &RowReader<'_>,
    asked: &RecordsAsked,
    part: Part<i64>,
    before: i64,
) -> Result<Rows<StoredRecord, i64>, StoreError> {
    let wanted = as_size(part.skip)
        .saturating_add(as_size(part.size))
        .saturating_add(1);
    let (mut found, (total, total_is_exact)) = if asked.is_everything() {
        let found = search(reader, asked, before, wanted)?;
        (found, (audit_records::extent(reader)?.1, true))
    } else {
        let all = search(reader, asked, i64::MAX, usize::MAX)?;
        let total = (count(&all.ids), all.end.is_none());
        let found = if part.after.is_none() {
            all
        } else {
            search(reader, asked, before, wanted)?
        };
        (found, total)
    };
    let end = if found.ids.len() < wanted {
        found.end
    } else {
        None
    };
    let size = as_size(part.size);
    let ids = found.ids.split_off(as_size(part.skip).min(found.ids.len()));
    let mut rows = Vec::with_capacity(size.min(ids.len()));
    for id in ids.iter().take(size) {
        // What the pruner took in between is gone.
        rows.extend(audit_records::at(reader, *id)?);
    }
    let next = if ids.len() > size {
        ids.get(size.saturating_sub(1)).copied()
    } else {
        end
    };
    Ok(Rows {
        rows: read_all(reader, rows)?,
        next,
        total,
        total_is_exact,
    })
}

/// What a search has found.
struct Matches {
    ids: Vec<i64>,
    /// Where the search goes on, if its bound has ended it.
    end: Option<i64>,
}

/// Up to `wanted` records, newest first. Looks at nothing but what the filters ask for: records are large.
fn search(
    connection: &Connection,
    asked: &RecordsAsked,
    before: i64,
    wanted: usize,
) -> rusqlite::Result<Matches> {
    let before = match asked.to {
        Some(to) => {
            let latest = to.as_millisecond().saturating_add(DISORDER_MS);
            before.min(first_id_at(connection, latest)?)
        }
        None => before,
    };
    let oldest = asked.from.map_or(i64::MIN, |from| {
        from.as_millisecond().saturating_sub(DISORDER_MS)
    });
    // What calls make in numbers is found soon; everything else has an index by kind.
    let rare = asked.kind.filter(|kind| !audit_records::is_frequent(*kind));
    let of_kind = match rare {
        Some(_) => format!(
            "INDEXED BY idx_audit_records_kind_id_created_at WHERE {RARE} AND kind = ?3 AND"
        ),
        None => "WHERE ?3 IS NULL AND".to_owned(),
    };
    let detail = if asked.severity.is_some() {
        "detail"
    } else {
        "''"
    };
    let sql = format!(
        "SELECT id, created_at, kind, call_sid, {detail}
         FROM audit_records {of_kind} id < ?1 ORDER BY id DESC LIMIT ?2"
    );
    let mut found = Matches {
        ids: Vec::new(),
        end: None,
    };
    let mut last = None;
    let mut looked_at = 0;
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![before, SCAN, rare.map(Kind::as_str)])?;
    while let Some(row) = rows.next()? {
        let created_at: i64 = row.get(1)?;
        if created_at < oldest {
            return Ok(found);
        }
        let id = row.get(0)?;
        looked_at += 1;
        last = Some(id);
        let kind = row.get_ref(2)?.as_str()?;
        let call = row.get_ref(3)?.as_str_or_null()?;
        let detail = row.get_ref(4)?.as_str()?;
        if asked.wants(created_at, kind, call, detail) {
            found.ids.push(id);
            if found.ids.len() >= wanted {
                return Ok(found);
            }
        }
    }
    if looked_at == SCAN {
        found.end = last;
    }
    Ok(found)
}

/// The first record that was made at or after a time, but for a little disorder; behind the last where there is none.
pub(super) fn first_id_at(connection: &Connection, ms: i64) -> rusqlite::Result<i64> {
    let bounds: (Option<i64>, Option<i64>) = connection
        .prepare_cached(
            "SELECT (SELECT min(id) FROM audit_records), (SELECT max(id) FROM audit_records)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(mut low), Some(high)) = bounds else {
        return Ok(i64::MAX);
    };
    let mut high = high + 1;
    let mut statement =
        connection.prepare_cached("SELECT created_at FROM audit_records WHERE id = ?1")?;
    while low < high {
        let middle = low + (high - low) / 2;
        let made_at: Option<i64> = statement.query_row([middle], |row| row.get(0)).optional()?;
        if made_at.is_some_and(|made_at| made_at >= ms) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}

/// Takes what is more than a page off, and says where the next one begins.
fn cut(rows: &mut Vec<RawRecord>, size: u32) -> Option<i64> {
    let size = as_size(size);
    if rows.len() <= size {
        return None;
    }
    rows.truncate(size);
    rows.last().map(|record| record.id)
}

fn as_size(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn count<T>(rows: &[T]) -> i64 {
    i64::try_from(rows.len()).unwrap_or(i64::MAX)
}

//! The audit log of a database file, read by a command: no lock, no writer, also beside a running server.

use std::ops::{Range, RangeInclusive};
use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::audit_records::{self, StoredRecord};
use super::calls::StoredCall;
use super::error::{OpenError, StoreError};
use super::key_ring::{KeyRing, Purpose};
use super::legs::StoredLeg;
use super::migrations::STEPS;
use super::pages::{self, CallPlace, CallsAsked, DISORDER_MS, Part, Rows};
use super::readers::RowReader;
use super::rulesets::{self, RulesetPeriod};
use super::{caller_records, calls, connection, file, key_check};
use crate::audit::{Kind, Personal, RowContent};
use crate::call::CallId;
use crate::phone::Caller;
use crate::routing::{Ruleset, RulesetVersion};

/// Records that are read at a time: no question keeps its read transaction for longer.
const PAGE: u32 = 1_000;

/// Some records of the log.
#[derive(Debug)]
pub struct RecordPage {
    pub records: Vec<Result<StoredRecord, StoreError>>,
    /// The last of them; `None` where there are none: the log ends here.
    pub last_id: Option<i64>,
}

/// The audit log of a database file. Blocks; meant for commands.
#[derive(Debug)]
pub struct LogReader {
    connection: Connection,
    key_ring: KeyRing,
}

impl LogReader {
    /// Opens the log for reading. Refuses what is not there, not ours, newer than this program, or sealed under another secret.
    pub fn open(path: &Path, key_ring: KeyRing) -> Result<Self, OpenError> {
        file::must_exist(path)?;
        file::readable_version_at(path, STEPS)?;
        let connection = connection::open_reader(path)?;
        key_check::refuse_other(&connection, path, &key_ring)?;
        Ok(Self {
            connection,
            key_ring,
        })
    }

    fn reader(&self) -> RowReader<'_> {
        RowReader::new(&self.connection, &self.key_ring)
    }

    /// The records of a call, in order.
    pub fn of_call(&self, call: &CallId) -> Result<Vec<StoredRecord>, StoreError> {
        audit_records::read_all(
            &self.reader(),
            audit_records::of_call(&self.connection, call)?,
        )
    }

    /// The row of a call, if it is known.
    pub fn row_of(&self, call: &CallId) -> Result<Option<i64>, StoreError> {
        Ok(calls::row_of(&self.connection, call.as_str())?)
    }

    /// A page of calls, newest first, each with its legs.
    pub fn calls_page(
        &self,
        asked: &CallsAsked,
        part: Part<CallPlace>,
    ) -> Result<Rows<(StoredCall, Vec<StoredLeg>), CallPlace>, StoreError> {
        pages::calls(&self.reader(), asked, part)
    }

    /// The rows of all calls of a person, in the order in which they came.
    pub fn calls_of(&self, caller: &Caller) -> Result<Vec<i64>, StoreError> {
        Ok(caller_records::calls(&self.reader(), caller)?)
    }

    /// The records of a person's being put on lists and taken off them, in order.
    pub fn list_changes_of(&self, caller: &Caller) -> Result<Vec<StoredRecord>, StoreError> {
        let changes = audit_records::of_kind(&self.connection, Kind::ListChanged)?;
        let mut changes = audit_records::read_all(&self.reader(), changes)?;
        changes.retain(|record| {
            let personal = record.personal.as_ref();
            personal.is_some_and(|personal| personal.caller.as_deref() == Some(caller.as_text()))
        });
        Ok(changes)
    }

    /// The records of the call in a row, in order.
    pub fn of_row(&self, call_row: i64) -> Result<Vec<StoredRecord>, StoreError> {
        audit_records::read_all(
            &self.reader(),
            audit_records::of_row(&self.connection, call_row)?,
        )
    }

    /// The id of the newest record; 0 where there is none.
    pub fn last_id(&self) -> Result<i64, StoreError> {
        Ok(audit_records::head(&self.connection)?.id)
    }

    /// An id before everything that happened at or after `since`: not more than an hour's records before.
    pub fn before(&self, since: Timestamp) -> Result<i64, StoreError> {
        let first = pages::first_id_at(&self.connection, since.as_millisecond() - DISORDER_MS)?;
        Ok(first - 1)
    }

    /// The first record that was made in a span of milliseconds, and the last. What stands between them may be a little out of time.
    pub fn span(&self, made_at: &Range<i64>) -> Result<RangeInclusive<i64>, StoreError> {
        let first =
            pages::first_id_at(&self.connection, made_at.start.saturating_sub(DISORDER_MS))?;
        let end = pages::first_id_at(&self.connection, made_at.end.saturating_add(DISORDER_MS))?;
        Ok(self.connection.query_row(
            "SELECT coalesce((SELECT id FROM audit_records WHERE id >= ?1 AND created_at >= ?2 ORDER BY id LIMIT 1), ?5),
                    coalesce((SELECT id FROM audit_records WHERE id < ?3 AND created_at < ?4 ORDER BY id DESC LIMIT 1), 0)",
            params![first, made_at.start, end, made_at.end, i64::MAX],
            |row| Ok(row.get(0)?..=row.get(1)?),
        )?)
    }

    /// What is sealed in a record as it is stored; `None` where there is nothing, or it cannot be opened.
    pub fn personal(&self, content: &RowContent<'_>) -> Option<Personal> {
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let purpose = Purpose {
            kind: text(content.kind)?,
            call: content.call_sid.and_then(text),
            created_at: content.created_at,
        };
        self.reader().personal(content.personal?, purpose)
    }

    /// The next records after `after_id`, in order. Each is read by itself: one that cannot be true hides no other.
    pub fn page_after(&self, after_id: i64) -> Result<RecordPage, StoreError> {
        let records = audit_records::after(&self.connection, after_id, PAGE)?;
        Ok(RecordPage {
            last_id: records.last().map(|record| record.id),
            records: records
                .into_iter()
                .map(|record| record.read(&self.reader()))
                .collect(),
        })
    }

    /// The rule set of that version, from the last record at or before `id` that holds it. A running server records the rule set in
    /// force every day, so it is not far.
    pub fn ruleset_before(
        &self,
        id: i64,
        version: &RulesetVersion,
    ) -> Result<Option<Ruleset>, StoreError> {
        rulesets::find(&self.connection, id, version)
    }

    /// Every time during which a rule set was in force, newest first, as far as the log reaches back.
    pub fn ruleset_periods(&self) -> Result<Vec<RulesetPeriod>, StoreError> {
        Ok(rulesets::periods(&self.connection)?.0)
    }
}

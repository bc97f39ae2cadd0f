//! Table `audit_records`: the append-only log. Triggers stop mistakes; the hash chain proves tampering.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::callers::EncryptedPersonal;
use super::error::StoreError;
use super::key_ring::Purpose;
use super::readers::RowReader;
use super::work::PreparedRecord;
use super::{calls, column};
use crate::audit::{ChainLink, Event, HandoffIntended, Hash, Kind, Personal, RowContent};
use crate::call::CallId;

/// Records that calls do not make in numbers, as in the index `idx_audit_records_kind_id_created_at`, word for word. A list of names would make
/// `SQLite` build a table of them for every record that is written.
pub(super) const RARE: &str = "kind <> 'call_decided' AND kind <> 'handoff_intended' AND kind <> 'handoff_concluded' AND kind <> 'call_answered' AND kind <> 'dial_ended' AND kind <> 'leg_reported'";
/// No log names more keys.
const KEYS: u32 = 10_000;
const COLUMNS: &str =
    "id, created_at, kind, call_sid, personal, detail, previous_hash, hash, call_id";

/// Whether calls make records of this kind in numbers, so that they are in no index by kind.
pub(super) fn is_frequent(kind: Kind) -> bool {
    RARE.contains(&format!("'{}'", kind.as_str()))
}

/// A record as it lies in the table, byte for byte: what a verifier reads.
#[derive(Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// Its place in the log.
    pub id: i64,
    /// When it happened, in milliseconds since the Unix epoch.
    pub created_at: i64,
    /// The name of its kind.
    pub kind: String,
    /// The row of its call.
    pub call_row: Option<i64>,
    /// The call it belongs to.
    pub call_sid: Option<String>,
    /// What identifies a person, sealed, as the bytes that are hashed.
    pub personal: Option<Vec<u8>>,
    /// Everything else, as the bytes that are hashed.
    pub detail: String,
    /// The hash of the record before it.
    pub previous_hash: Hash,
    /// Its own hash, as stored.
    pub hash: Hash,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its place in the log, from 1.
    pub id: i64,
    pub at: Timestamp,
    pub kind: Kind,
    /// The call it belongs to.
    pub call_id: Option<CallId>,
    /// What identifies a person; [`Personal::erased`] where that person was erased.
    pub personal: Option<Personal>,
    pub detail: String,
    pub hash: Hash,
}

impl RawRecord {
    /// The content that is hashed.
    pub fn content(&self) -> RowContent<'_> {
        RowContent {
            id: self.id,
            created_at: self.created_at,
            kind: self.kind.as_bytes(),
            call_id: self.call_row,
            call_sid: self.call_sid.as_ref().map(String::as_bytes),
            personal: self.personal.as_deref(),
            detail: self.detail.as_bytes(),
        }
    }

    /// Reads the record; fails where it cannot be one of ours.
    pub(super) fn read(self, reader: &RowReader<'_>) -> Result<StoredRecord, StoreError> {
        let id = self.id;
        column::or_inconsistent(self.try_read(reader), "audit_records", id)
    }

    fn try_read(self, reader: &RowReader<'_>) -> Option<StoredRecord> {
        let purpose = Purpose {
            kind: &self.kind,
            call: self.call_sid.as_deref(),
            created_at: self.created_at,
        };
        let personal = match &self.personal {
            Some(bytes) => Some(reader.personal(bytes, purpose)?),
            None => None,
        };
        let call_id = match &self.call_sid {
            Some(sid) => Some(CallId::parse(sid).ok()?),
            None => None,
        };
        Some(StoredRecord {
            id: self.id,
            at: column::time(self.created_at)?,
            kind: Kind::from_name(&self.kind)?,
            call_id,
            personal,
            detail: self.detail,
            hash: self.hash,
        })
    }
}

impl std::fmt::Debug for RawRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawRecord")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("call_sid", &self.call_sid)
            .finish_non_exhaustive()
    }
}

impl StoredRecord {
    /// What happened, with its typed payload.
    pub fn event(&self) -> Result<Event, StoreError> {
        column::or_inconsistent(
            Event::from_detail(self.kind, &self.detail).ok(),
            "audit_records",
            self.id,
        )
    }
}

/// Writes a record after `head` and gives the new head.
///
/// `call_row` is the row of its call in `calls`, by which it is found.
pub(super) fn append(
    connection: &Connection,
    head: ChainLink,
    record: &PreparedRecord,
    sealed: Option<&EncryptedPersonal>,
    call_row: Option<i64>,
) -> rusqlite::Result<ChainLink> {
    let content = RowContent {
        id: head.id + 1,
        created_at: record.created_at,
        kind: record.kind.as_str().as_bytes(),
        call_id: call_row,
        call_sid: record.call.as_ref().map(|call| call.as_str().as_bytes()),
        personal: sealed.map(|sealed| sealed.bytes.as_slice()),
        detail: record.detail.as_bytes(),
    };
    let link = head.append(&content);
    connection
        .prepare_cached(
            "INSERT INTO audit_records
             (id, created_at, kind, call_sid, personal, detail, previous_hash, hash, call_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            content.id,
            content.created_at,
            record.kind.as_str(),
            record.call.as_ref().map(CallId::as_str),
            content.personal,
            record.detail,
            head.hash,
            link.hash,
            call_row,
        ])?;
    Ok(link)
}

/// The last record; where all are pruned, the last one that was; before the first, [`ChainLink::GENESIS`].
pub(super) fn head(connection: &Connection) -> rusqlite::Result<ChainLink> {
    let link = |row: &Row<'_>| {
        Ok(ChainLink {
            id: row.get(0)?,
            hash: row.get(1)?,
        })
    };
    let last = connection
        .prepare_cached("SELECT id, hash FROM audit_records ORDER BY id DESC LIMIT 1")?
        .query_row([], link)
        .optional()?;
    match last {
        Some(last) => Ok(last),
        None => connection
            .prepare_cached("SELECT through_id, through_hash FROM prune_gate")?
            .query_row([], link),
    }
}

/// The records after `after_id`, in order.
pub(super) fn after(
    connection: &Connection,
    after_id: i64,
    limit: u32,
) -> rusqlite::Result<Vec<RawRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM audit_records WHERE id > ?1 ORDER BY id LIMIT ?2"
        ))?
        .query_map(params![after_id, limit], raw)?
        .collect()
}

/// The record at a place of the log.
pub(super) fn at(connection: &Connection, id: i64) -> rusqlite::Result<Option<RawRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM audit_records WHERE id = ?1"
        ))?
        .query_row([id], raw)
        .optional()
}

/// The records of a call, in order.
pub(super) fn of_call(connection: &Connection, call: &CallId) -> rusqlite::Result<Vec<RawRecord>> {
    match calls::row_of(connection, call.as_str())? {
        Some(row) => of_row(connection, row),
        None => Ok(Vec::new()),
    }
}

/// The records of the call in a row of `calls`, in order.
pub(super) fn of_row(connection: &Connection, call_row: i64) -> rusqlite::Result<Vec<RawRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM audit_records WHERE call_id = ?1 AND id > 0 ORDER BY id"
        ))?
        .query_map([call_row], raw)?
        .collect()
}

/// What a step of a call was answered: the first answer stands. None where that is not what was written.
pub(super) fn answer(
    reader: &RowReader<'_>,
    call: &CallId,
    step: &str,
) -> Result<Option<String>, StoreError> {
    #[derive(serde::Deserialize)]
    struct Answered {
        step: String,
    }
    for record in of_call(reader, call)? {
        if record.kind != Kind::CallAnswered.as_str()
            || record.call_sid.as_deref() != Some(call.as_str())
        {
            continue;
        }
        let answered: Option<Answered> = serde_json::from_str(&record.detail).ok();
        if answered.is_none_or(|answered| answered.step != step) {
            continue;
        }
        let sealed_step = Some(step.to_owned());
        let personal = record.read(reader)?.personal;
        return Ok(personal
            .filter(|personal| personal.step == sealed_step)
            .and_then(|personal| personal.body));
    }
    Ok(None)
}

/// A call's last intent to hand off, among the records up to `through`, where nothing concludes it.
pub(super) fn open_intent(
    connection: &Connection,
    call: &CallId,
    through: i64,
) -> rusqlite::Result<Option<HandoffIntended>> {
    let intent = |record: RawRecord| {
        let kind = Kind::from_name(&record.kind)?;
        let event = Event::from_detail(kind, &record.detail).ok()?;
        event.intended().cloned()
    };
    let says = [
        Kind::CallDecided,
        Kind::HandoffIntended,
        Kind::HandoffConcluded,
        Kind::CallAnswered,
    ]
    .map(Kind::as_str);
    let records = of_call(connection, call)?.into_iter().rev();
    let last = records
        .filter(|record| record.id <= through)
        .find(|record| says.contains(&&*record.kind));
    Ok(last.and_then(intent))
}

/// The newest record of a kind that calls do not make in numbers.
pub(super) fn last_of_kind(
    connection: &Connection,
    kind: Kind,
) -> rusqlite::Result<Option<RawRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM audit_records INDEXED BY idx_audit_records_kind_id_created_at
             WHERE {RARE} AND kind = ?1 ORDER BY id DESC LIMIT 1"
        ))?
        .query_row([kind.as_str()], raw)
        .optional()
}

/// All records of a kind that calls do not make in numbers, in order.
pub(super) fn of_kind(connection: &Connection, kind: Kind) -> rusqlite::Result<Vec<RawRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM audit_records INDEXED BY idx_audit_records_kind_id_created_at
             WHERE {RARE} AND kind = ?1 ORDER BY id"
        ))?
        .query_map([kind.as_str()], raw)?
        .collect()
}

/// By how many milliseconds the clock jumped, each time that the log still tells of.
pub(super) fn clock_steps(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(&format!(
            "SELECT coalesce(json_extract(detail, '$.by_ms'), 0) FROM audit_records
             WHERE {RARE} AND kind = 'clock_stepped'"
        ))?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// The payloads of the records that name a key, as they lie in the file.
pub(super) fn signing_keys(connection: &Connection) -> rusqlite::Result<Vec<Vec<u8>>> {
    connection
        .prepare_cached(&format!(
            "SELECT CAST(detail AS BLOB) FROM audit_records
             WHERE {RARE} AND kind = 'signing_key_named' AND length(detail) < 4096 ORDER BY id LIMIT ?1"
        ))?
        .query_map([KEYS], |row| row.get(0))?
        .collect()
}

/// The id of the oldest record that is still there, and how many there are.
pub(super) fn extent(connection: &Connection) -> rusqlite::Result<(Option<i64>, i64)> {
    connection
        .prepare_cached(
            "SELECT (SELECT min(id) FROM audit_records), (SELECT max(id) FROM audit_records)",
        )?
        .query_row([], |row| {
            let (first, last): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
            Ok((
                first,
                first.zip(last).map_or(0, |(first, last)| {
                    last.saturating_sub(first).saturating_add(1)
                }),
            ))
        })
}

/// The name of this log, made with the database.
pub(super) fn log_id(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("SELECT log_id FROM log_identity", [], |row| row.get(0))
}

pub(super) fn raw(row: &Row<'_>) -> rusqlite::Result<RawRecord> {
    Ok(RawRecord {
        id: row.get(0)?,
        created_at: row.get(1)?,
        kind: row.get(2)?,
        call_sid: row.get(3)?,
        personal: row.get(4)?,
        detail: row.get(5)?,
        previous_hash: row.get(6)?,
        hash: row.get(7)?,
        call_row: row.get(8)?,
    })
}

pub(super) fn read_all(
    reader: &RowReader<'_>,
    records: Vec<RawRecord>,
) -> Result<Vec<StoredRecord>, StoreError> {
    records
        .into_iter()
        .map(|record| record.read(reader))
        .collect()
}

//! Table `list_entries`: numbers that were put on lists of callers while the program ran. A projection of the audit log.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::column::{self, Columns};
use super::error::StoreError;
use super::key_ring::{self, KeyRing, Purpose};
use super::readers::RowReader;
use super::rows::Written;
use crate::audit::{CallerErased, Kind, ListAction, ListChanged, Personal};
use crate::phone::{Caller, E164};
use crate::routing::{ListEntry, NumberHash};

const TABLE: &str = "list_entries";

/// An entry of a list, as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredListEntry {
    /// Names it; says nothing of the number.
    pub id: String,
    pub list: String,
    /// `None` where the person was erased, and the entry is a block that stays.
    pub number: Option<E164>,
    pub why: Option<String>,
    pub by: String,
    /// From then on it does not count any more.
    pub until: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// A number that is put on a list.
pub(super) struct SealedNumber<'s> {
    pub(super) hash: NumberHash,
    /// For whom it is sealed.
    pub(super) caller_row: i64,
    /// Number and reason.
    pub(super) personal: &'s [u8],
}

/// Every entry, as lists are asked for callers.
pub(super) fn all(reader: &RowReader<'_>) -> Result<Vec<ListEntry>, StoreError> {
    reader.rows(TABLE, "ORDER BY id", [], |row| {
        let (list, id): (String, String) = (row.get("list")?, row.get("name")?);
        Ok(ListEntry {
            hash: row.get("identity_hash")?,
            list: list.into(),
            id: id.into(),
            until: row.optional("until_at", column::time)?,
        })
    })
}

/// The entry of this name on a list.
pub(super) fn find(
    reader: &RowReader<'_>,
    list: &str,
    id: &str,
) -> Result<Option<StoredListEntry>, StoreError> {
    let which = "WHERE list = ?1 AND name = ?2";
    let found = reader.rows(TABLE, which, [list, id], |row| read(reader, row));
    Ok(found?.pop().map(|(_, entry)| entry))
}

/// The entries of a list before a row, the newest first, each with its row, at most `limit` behind the first `skip`.
pub(super) fn before(
    reader: &RowReader<'_>,
    list: &str,
    row: i64,
    skip: u32,
    limit: i64,
) -> Result<Vec<(i64, StoredListEntry)>, StoreError> {
    let which = "WHERE list = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3 OFFSET ?4";
    let wanted = params![list, row, limit, skip];
    reader.rows(TABLE, which, wanted, |row| read(reader, row))
}

pub(super) fn count(connection: &Connection, list: &str) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT count(*) FROM list_entries WHERE list = ?1")?
        .query_row([list], |row| row.get(0))
}

/// Adds or deletes an entry; what is added needs a number.
pub(super) fn change(
    connection: &Connection,
    written: &Written,
    change: &ListChanged,
    of_number: Option<SealedNumber<'_>>,
    at: i64,
) -> rusqlite::Result<()> {
    match (change.change, of_number) {
        (ListAction::Removed, _) => {
            connection
                .prepare_cached("DELETE FROM list_entries WHERE list = ?1 AND name = ?2")?
                .execute([&change.list, &change.entry])?;
        }
        (ListAction::Added, Some(number)) => {
            add(connection, written, change, &number, at)?;
        }
        (ListAction::Added, None) => {}
    }
    Ok(())
}

fn add(
    connection: &Connection,
    written: &Written,
    change: &ListChanged,
    number: &SealedNumber<'_>,
    at: i64,
) -> rusqlite::Result<()> {
    let believed = connection
        .prepare_cached("SELECT * FROM list_entries WHERE identity_hash = ?1 AND list = ?2")?
        .query_row(params![number.hash, change.list], |row| {
            written.believes(TABLE, row)
        })
        .optional()?;
    if believed == Some(false) {
        // What was planted has no say in what comes after.
        connection.execute(
            "DELETE FROM list_entries WHERE identity_hash = ?1 AND list = ?2",
            params![number.hash, change.list],
        )?;
    }
    connection
        .prepare_cached(
            "INSERT INTO list_entries (name, list, identity_hash, caller_id, personal, added_by, until_at, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
             ON CONFLICT (identity_hash, list) DO UPDATE SET
                 name = excluded.name, caller_id = excluded.caller_id, personal = excluded.personal,
                 added_by = excluded.added_by, until_at = excluded.until_at, updated_at = excluded.updated_at",
        )?
        .execute(params![
            change.entry,
            change.list,
            number.hash,
            number.caller_row,
            number.personal,
            change.by,
            change.until.map(Timestamp::as_millisecond),
            at,
        ])?;
    Ok(())
}

pub(super) fn expire(connection: &Connection, now: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM list_entries WHERE until_at <= ?1")?
        .execute([now])?;
    Ok(())
}

/// Deletes the entries of a person. On the lists that block, a keyed hash stays.
pub(super) fn erase(
    connection: &Connection,
    written: &Written,
    key_ring: &KeyRing,
    who: &[u8],
    blocks: &[String],
) -> rusqlite::Result<CallerErased> {
    let mut erased = CallerErased::default();
    for entry in of_person(connection, key_ring, who)? {
        if !blocks.contains(&entry.list) {
            connection.execute("DELETE FROM list_entries WHERE id = ?1", [entry.row])?;
            erased.list_entries += 1;
        } else if entry.is_sealed {
            // A row that was planted loses what it holds of the person, and is not the better for it.
            connection
                .prepare_cached("SELECT * FROM list_entries WHERE id = ?1")?
                .query_row([entry.row], |row| written.believes(TABLE, row))?;
            connection.execute(
                "UPDATE list_entries SET caller_id = NULL, personal = NULL WHERE id = ?1",
                [entry.row],
            )?;
            erased.blocks += 1;
        }
    }
    if erased.list_entries > 0 {
        // No unused part of a page holds the hash of an entry that is gone.
        connection.execute_batch("REINDEX idx_list_entries_identity_hash_list")?;
    }
    Ok(erased)
}

/// What [`erase`] would find.
pub(super) fn known_of(
    reader: &RowReader<'_>,
    who: &[u8],
    blocks: &[String],
) -> rusqlite::Result<CallerErased> {
    let entries = of_person(reader, reader.key_ring(), who)?;
    let (kept, deleted): (Vec<_>, Vec<_>) = entries
        .iter()
        .partition(|entry| blocks.contains(&entry.list));
    Ok(CallerErased {
        list_entries: deleted.len() as u64,
        blocks: kept.iter().filter(|entry| entry.is_sealed).count() as u64,
        ..CallerErased::default()
    })
}

struct EntryOfPerson {
    row: i64,
    list: String,
    /// Number and reason are there.
    is_sealed: bool,
}

fn of_person(
    connection: &Connection,
    key_ring: &KeyRing,
    who: &[u8],
) -> rusqlite::Result<Vec<EntryOfPerson>> {
    let Some(number) = key_ring::number_of(who) else {
        return Ok(Vec::new());
    };
    connection
        .prepare_cached(
            "SELECT id, list, personal IS NOT NULL FROM list_entries WHERE identity_hash = ?1",
        )?
        .query_map([key_ring.list_key().hash(&number)], |row| {
            Ok(EntryOfPerson {
                row: row.get(0)?,
                list: row.get(1)?,
                is_sealed: row.get(2)?,
            })
        })?
        .collect()
}

fn read(
    reader: &RowReader<'_>,
    row: &Columns<'_, '_>,
) -> Result<(i64, StoredListEntry), StoreError> {
    let sealed: Option<Vec<u8>> = row.get("personal")?;
    let purpose = Purpose {
        kind: Kind::ListChanged.as_str(),
        call: None,
        created_at: row.get("updated_at")?,
    };
    let opened = sealed.and_then(|bytes| reader.personal(&bytes, purpose));
    let personal = opened.unwrap_or_else(Personal::erased);
    let caller: Caller = personal.caller();
    let entry = StoredListEntry {
        id: row.get("name")?,
        list: row.get("list")?,
        number: caller.number().cloned(),
        why: personal.why,
        by: row.get("added_by")?,
        until: row.optional("until_at", column::time)?,
        created_at: row.time("created_at")?,
    };
    Ok((row.id(), entry))
}

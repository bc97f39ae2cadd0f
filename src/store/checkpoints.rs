//! Tables `audit_checkpoints` and `audit_cuts`: what was signed.

use rusqlite::{Connection, OptionalExtension, params};

use crate::audit::ChainLink;

/// A checkpoint to write down.
#[derive(Clone, Debug)]
pub(super) struct NewCheckpoint {
    pub(super) size: i64,
    pub(super) note: String,
    pub(super) range: Vec<u8>,
    /// It stays beside the one before it, instead of taking its place.
    pub(super) is_kept: bool,
}

/// A checkpoint as it lies in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredCheckpoint {
    pub(super) id: i64,
    pub(super) size: i64,
    pub(super) note: String,
    pub(super) range: Option<Vec<u8>>,
}

/// Records that are deleted together: all up to `through`, with a signed note over them.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) through: ChainLink,
    pub(super) note: String,
    pub(super) range: Vec<u8>,
}

/// What was pruned, as it lies in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PruningCheckpoint {
    pub(super) through_id: i64,
    pub(super) through_hash: Vec<u8>,
    pub(super) signed: Option<(String, Vec<u8>)>,
}

pub(super) fn newest(connection: &Connection) -> rusqlite::Result<Option<StoredCheckpoint>> {
    connection
        .prepare_cached(
            "SELECT id, size, note, frontier FROM audit_checkpoints ORDER BY id DESC LIMIT 1",
        )?
        .query_row([], stored)
        .optional()
}

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<StoredCheckpoint>> {
    connection
        .prepare_cached("SELECT id, size, note, frontier FROM audit_checkpoints ORDER BY id")?
        .query_map([], stored)?
        .collect()
}

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<StoredCheckpoint> {
    Ok(StoredCheckpoint {
        id: row.get(0)?,
        size: row.get(1)?,
        note: lossy(row, 2)?,
        range: row
            .get_ref(3)?
            .as_bytes_or_null()
            .ok()
            .flatten()
            .map(|bytes| bytes.get(..LONGEST).unwrap_or(bytes).to_vec()),
    })
}

/// What was pruned so far.
pub(super) fn pruning(connection: &Connection) -> rusqlite::Result<PruningCheckpoint> {
    let signed = connection
        .prepare_cached("SELECT note, frontier FROM audit_cuts")?
        .query_row([], |row| Ok((lossy(row, 0)?, bytes(row, 1)?)))
        .optional()?;
    connection
        .prepare_cached("SELECT through_id, through_hash FROM prune_gate")?
        .query_row([], |row| {
            Ok(PruningCheckpoint {
                through_id: row.get(0)?,
                through_hash: bytes(row, 1)?,
                signed,
            })
        })
}

/// Bytes of whatever type; what is none is empty, which no signed thing is.
fn bytes(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    let bytes = row.get_ref(column)?.as_bytes().unwrap_or_default();
    Ok(bytes.get(..LONGEST).unwrap_or(bytes).to_vec())
}

/// Text that anybody may have written: what is not UTF-8 is replaced, and then no signature holds.
fn lossy(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(String::from_utf8_lossy(&bytes(row, column)?).into_owned())
}

/// No signed thing is longer, in bytes.
const LONGEST: usize = 4_096;

/// Writes a checkpoint. Only the newest one carries the compact range (column `frontier`).
pub(super) fn write(connection: &Connection, new: &NewCheckpoint) -> rusqlite::Result<()> {
    let newest: Option<i64> = connection
        .prepare_cached("SELECT max(id) FROM audit_checkpoints")?
        .query_row([], |row| row.get(0))?;
    match newest {
        Some(id) if !new.is_kept => {
            connection
                .prepare_cached(
                    "UPDATE audit_checkpoints SET size = ?2, note = ?3, frontier = ?4 WHERE id = ?1",
                )?
                .execute(params![id, new.size, new.note, new.range])?;
        }
        Some(_) | None => {
            let id = newest.unwrap_or(0);
            connection
                .prepare_cached("UPDATE audit_checkpoints SET frontier = NULL WHERE id = ?1")?
                .execute([id])?;
            connection
                .prepare_cached(
                    "INSERT INTO audit_checkpoints (id, size, note, frontier) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![id + 1, new.size, new.note, new.range])?;
        }
    }
    Ok(())
}

/// Moves the gate and deletes everything up to it.
pub(super) fn prune(connection: &Connection, slice: &Slice) -> rusqlite::Result<()> {
    let Slice {
        through,
        note,
        range,
    } = slice;
    connection
        .prepare_cached("UPDATE prune_gate SET through_id = ?1, through_hash = ?2")?
        .execute(params![through.id, through.hash])?;
    connection
        .prepare_cached(
            "INSERT INTO audit_cuts (id, note, frontier) VALUES (1, ?1, ?2)
             ON CONFLICT (id) DO UPDATE SET note = excluded.note, frontier = excluded.frontier",
        )?
        .execute(params![note, range])?;
    connection
        .prepare_cached("DELETE FROM audit_records WHERE id <= ?1")?
        .execute([through.id])?;
    connection
        .prepare_cached(
            "DELETE FROM audit_checkpoints
             WHERE size < ?1 AND id < (SELECT max(id) FROM audit_checkpoints)",
        )?
        .execute([through.id])?;
    Ok(())
}

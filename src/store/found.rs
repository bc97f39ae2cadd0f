//! The rows of `audit_records` as they lie in the file, whatever they hold.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use crate::audit::{FoundRow, RowContent};

/// Shows every row from number `first` on, in order, at most `limit`; gives how many there were.
pub(super) fn each(
    connection: &Connection,
    first: i64,
    limit: u32,
    mut show: impl FnMut(&FoundRow<'_>),
) -> rusqlite::Result<u32> {
    each_while(connection, first, limit, |row| {
        show(row);
        true
    })
}

/// The same, as long as `show` wants more.
pub(super) fn each_while(
    connection: &Connection,
    first: i64,
    limit: u32,
    mut show: impl FnMut(&FoundRow<'_>) -> bool,
) -> rusqlite::Result<u32> {
    let mut statement = connection.prepare_cached(
        "SELECT id, created_at, kind, call_sid, personal, detail, previous_hash, hash
         FROM audit_records WHERE id >= ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = statement.query(params![first, limit])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        if !show(&found(row)?) {
            break;
        }
    }
    Ok(count)
}

fn found<'r>(row: &'r Row<'_>) -> rusqlite::Result<FoundRow<'r>> {
    let mut is_typed = true;
    let mut bytes = |column: usize, is_text: bool| -> rusqlite::Result<Option<&'r [u8]>> {
        Ok(match (row.get_ref(column)?, is_text) {
            (ValueRef::Text(bytes), true) | (ValueRef::Blob(bytes), false) => Some(bytes),
            (ValueRef::Null, _) => None,
            (ValueRef::Text(bytes), false) | (ValueRef::Blob(bytes), true) => {
                is_typed = false;
                Some(bytes)
            }
            (ValueRef::Integer(_) | ValueRef::Real(_), _) => {
                is_typed = false;
                None
            }
        })
    };
    let kind = bytes(2, true)?;
    let call_sid = bytes(3, true)?;
    let personal = bytes(4, false)?;
    let detail = bytes(5, true)?;
    let previous_hash = bytes(6, false)?;
    let hash = bytes(7, false)?;
    let created_at = row.get_ref(1)?.as_i64().ok();
    let content = RowContent {
        id: row.get(0)?,
        created_at: created_at.unwrap_or_default(),
        kind: kind.unwrap_or_default(),
        call_sid,
        personal,
        detail: detail.unwrap_or_default(),
    };
    is_typed &= created_at.is_some() && kind.is_some() && detail.is_some();
    Ok(FoundRow {
        content,
        previous_hash: previous_hash.unwrap_or_default(),
        hash: hash.unwrap_or_default(),
        is_typed,
    })
}

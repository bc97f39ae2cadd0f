//! Rows that steer calls or grant rights: each carries a MAC under the installation's secret, so that a row is not believed because it is there.
//!
//! Whatever a batch inserts or changes in these tables is signed before it is committed; nobody has to think of it. A row is checked
//! where it is read, and before it is changed. A row that does not hold is not used, and is told. What the MAC covers: the name of the table,
//! and every column that is not NULL, by name, type and bytes; so a step of the schema that adds a column without a value leaves it as it is.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use ring::hmac;
use rusqlite::hooks::Action;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};
use subtle::ConstantTimeEq;

use super::key_ring::KeyRing;

/// The tables whose rows carry a MAC.
pub(super) const TABLES: [&str; 6] = [
    "api_keys",
    "calls",
    "dialer_states",
    "list_entries",
    "outbox_messages",
    "sessions",
];
/// The column that holds it.
const MAC: &str = "mac";
/// Rows checked in one read transaction.
const PAGE: u32 = 1_000;

/// The rows that a batch has written so far; they are signed in the end.
pub(super) struct Written {
    key_ring: KeyRing,
    rows: Arc<Mutex<Noted>>,
}

#[derive(Default)]
struct Noted {
    written: BTreeSet<(&'static str, i64)>,
    /// Found not to hold: what else is written to them, they are not signed.
    refused: BTreeSet<(&'static str, i64)>,
}

impl Written {
    /// Notes from now on what is written over this connection.
    pub(super) fn watch(connection: &Connection, key_ring: &KeyRing) -> rusqlite::Result<Self> {
        let rows = Arc::<Mutex<Noted>>::default();
        let noted = Arc::clone(&rows);
        connection.update_hook(Some(move |action, _: &str, table: &str, row| {
            let Some(table) = TABLES.into_iter().find(|known| *known == table) else {
                return;
            };
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            match action {
                Action::SQLITE_INSERT | Action::SQLITE_UPDATE => {
                    noted.written.insert((table, row));
                }
                // Another row may get its number.
                Action::SQLITE_DELETE | _ => {
                    noted.written.remove(&(table, row));
                    noted.refused.remove(&(table, row));
                }
            }
        }))?;
        Ok(Self {
            key_ring: key_ring.clone(),
            rows,
        })
    }

    /// Whether a row may be believed: this batch has written it, or its MAC holds. Where not, that is told.
    pub(super) fn believes(&self, table: &'static str, row: &Row<'_>) -> rusqlite::Result<bool> {
        let id: i64 = row.get("id")?;
        let mut noted = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.refused.contains(&(table, id)) {
            return Ok(false);
        }
        if noted.written.contains(&(table, id)) || believes(&self.key_ring, table, row)? {
            return Ok(true);
        }
        noted.refused.insert((table, id));
        Ok(false)
    }

    /// Signs what was written, and notes nothing more.
    pub(super) fn sign(self, connection: &Connection) -> rusqlite::Result<()> {
        connection.update_hook(None::<fn(Action, &str, &str, i64)>)?;
        let noted = std::mem::take(&mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner));
        for (table, id) in noted.written.difference(&noted.refused) {
            let mac = connection
                .prepare_cached(&format!("SELECT * FROM {table} WHERE id = ?1"))?
                .query_row([*id], |row| current_mac(&self.key_ring, table, row))?;
            connection
                .prepare_cached(&format!("UPDATE {table} SET {MAC} = ?2 WHERE id = ?1"))?
                .execute(params![id, mac])?;
        }
        Ok(())
    }
}

/// Whether a row is the one that was written; all its columns must have been asked for (`SELECT *`). Where it is not, that is told.
pub(super) fn believes(
    key_ring: &KeyRing,
    table: &'static str,
    row: &Row<'_>,
) -> rusqlite::Result<bool> {
    let holds = holds(key_ring, table, row)?;
    if !holds {
        key_ring.tell_altered(table, row.get("id")?);
    }
    Ok(holds)
}

/// Under any secret that is valid.
fn holds(key_ring: &KeyRing, table: &str, row: &Row<'_>) -> rusqlite::Result<bool> {
    let kept = row.get_ref(MAC)?.as_bytes().unwrap_or_default();
    for context in key_ring.row_contexts() {
        if mac(context, table, row)?.ct_eq(kept).into() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a row is the one that was written, under the secret before the current one.
pub(super) fn is_under_former(
    key_ring: &KeyRing,
    table: &str,
    row: &Row<'_>,
) -> rusqlite::Result<bool> {
    Ok(holds(key_ring, table, row)? && {
        let kept = row.get_ref(MAC)?.as_bytes().unwrap_or_default();
        current_mac(key_ring, table, row)?.ct_ne(kept).into()
    })
}

fn current_mac(key_ring: &KeyRing, table: &str, row: &Row<'_>) -> rusqlite::Result<[u8; 32]> {
    mac(key_ring.row_context(), table, row)
}

fn mac(mut context: hmac::Context, table: &str, row: &Row<'_>) -> rusqlite::Result<[u8; 32]> {
    context.update(table.as_bytes());
    let columns = row.as_ref();
    for n in 0..columns.column_count() {
        let name = columns.column_name(n)?;
        let (kind, bytes): (u8, &[u8]) = match row.get_ref(n)? {
            _ if name == MAC => continue,
            ValueRef::Null => continue,
            ValueRef::Integer(number) => (1, &number.to_be_bytes()),
            ValueRef::Real(number) => (2, &number.to_be_bytes()),
            ValueRef::Text(bytes) => (3, bytes),
            ValueRef::Blob(bytes) => (4, bytes),
        };
        context.update(&[0, kind]);
        context.update(name.as_bytes());
        context.update(&[0]);
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    }
    Ok(KeyRing::row_mac(context))
}

/// Every row whose MAC does not hold, in words, at most `limit` of them.
pub(super) fn altered(
    connection: &Connection,
    key_ring: &KeyRing,
    limit: usize,
) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    for table in TABLES {
        let sql = format!("SELECT * FROM {table} WHERE id >= ?1 ORDER BY id LIMIT ?2");
        let mut next = Some(i64::MIN);
        while let Some(first) = next.take() {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params![first, PAGE])?;
            let mut count = 0;
            while let Some(row) = rows.next()? {
                let id: i64 = row.get("id")?;
                if !holds(key_ring, table, row)? {
                    found.push(format!(
                        "row {id} of {table} is not the one that was written"
                    ));
                    if found.len() >= limit {
                        return Ok(found);
                    }
                }
                count += 1;
                next = id.checked_add(1).filter(|_| count == PAGE);
            }
        }
    }
    Ok(found)
}

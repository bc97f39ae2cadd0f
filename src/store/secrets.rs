//! Rows that are under the installation's secret, and what it takes to put them under another one.

use rusqlite::{Connection, Row};

use super::callers;
use super::key_ring::KeyRing;
use super::rows::{self, Written};

const CALLERS: &str = "callers";
const PROFILES: &str = "profiles";
/// The tables that hold them.
pub(super) const TABLES: [&str; 8] = [
    CALLERS,
    PROFILES,
    "api_keys",
    "calls",
    "dialer_states",
    "list_entries",
    "outbox_messages",
    "sessions",
];
/// What the secret vouches for as, at the beginning of a rotation.
const ROTATED: &str = "secret rotated";

/// That the new secret takes over the log as it is: `head` is the hash of the last record before the one that says so.
pub(super) fn vouch(key_ring: &KeyRing, head: &[u8; 32]) -> String {
    key_ring.vouch(ROTATED, head)
}

/// Whether a secret that is valid took over the log at `head`.
pub(super) fn has_vouched(key_ring: &KeyRing, head: &[u8], said: &str) -> bool {
    key_ring.has_vouched(ROTATED, head, said)
}

/// Puts rows of a table under the current secret.
pub(super) fn rotate_rows(
    connection: &Connection,
    written: &Written,
    key_ring: &KeyRing,
    table: &'static str,
    ids: &[i64],
) -> rusqlite::Result<()> {
    for id in ids {
        match table {
            CALLERS => {
                if !callers::rotate(connection, key_ring, *id)? {
                    tracing::error!(
                        event = "store.caller_unreadable",
                        row = id,
                        "the row of a caller is not the one that was written: it stays as it is"
                    );
                }
            }
            PROFILES => {
                let mut delete = connection.prepare_cached("DELETE FROM profiles WHERE id = ?1")?;
                delete.execute([id])?;
            }
            _ => sign_anew(connection, written, table, *id)?,
        }
    }
    Ok(())
}

fn sign_anew(
    connection: &Connection,
    written: &Written,
    table: &'static str,
    id: i64,
) -> rusqlite::Result<()> {
    let mut find = connection.prepare_cached(&format!("SELECT * FROM {table} WHERE id = ?1"))?;
    let mut found = find.query([id])?;
    let Some(row) = found.next()? else {
        return Ok(());
    };
    if written.believes(table, row)? {
        // Whatever a batch writes, it signs.
        connection
            .prepare_cached(&format!("UPDATE {table} SET mac = mac WHERE id = ?1"))?
            .execute([id])?;
    }
    Ok(())
}

/// Whether a row is under the former secret.
pub(super) fn is_due(
    key_ring: &KeyRing,
    table: &'static str,
    row: &Row<'_>,
) -> rusqlite::Result<bool> {
    match table {
        CALLERS => Ok(row.get_ref("wrapped_by")?.as_bytes()? != key_ring.name()),
        PROFILES => {
            let identity = row.get_ref("identity_hash")?.as_bytes()?;
            let sealed = row.get_ref("personal")?.as_bytes()?;
            Ok(!key_ring.opens_profile_now(identity, sealed))
        }
        _ => rows::is_under_former(key_ring, table, row),
    }
}

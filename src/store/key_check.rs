//! Table `key_checks`: whether a secret is the one under which the database is sealed.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::error::OpenError;
use super::key_ring::KeyRing;
use super::migrations::STEPS;
use super::{audit_records, connection, file};

/// Whether the database at `path` is there and holds data sealed under some secret, which a new one could not read.
pub fn is_sealed(path: &Path) -> Result<bool, OpenError> {
    if !file::exists(path)? {
        return Ok(false);
    }
    // Refuses what is no database of ours, in its own words.
    file::readable_version_at(path, STEPS)?;
    let reader = connection::open_reader(path)?;
    Ok(kept(&reader)?.is_some())
}

/// Refuses a database that is sealed under another secret. Changes nothing.
pub(super) fn refuse_other(
    connection: &Connection,
    path: &Path,
    key_ring: &KeyRing,
) -> Result<(), OpenError> {
    if is_of_other(connection, key_ring)? {
        return Err(OpenError::WrongSecret {
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// Whether a database is sealed under another secret.
pub(super) fn is_of_other(connection: &Connection, key_ring: &KeyRing) -> rusqlite::Result<bool> {
    Ok(match kept(connection)? {
        Some(kept) => kept != key_ring.check_value(&audit_records::log_id(connection)?),
        None => false,
    })
}

/// Notes the secret in a database where none is noted.
pub(super) fn write(connection: &Connection, key_ring: &KeyRing) -> rusqlite::Result<()> {
    if kept(connection)?.is_some() {
        return Ok(());
    }
    let value = key_ring.check_value(&audit_records::log_id(connection)?);
    connection.execute("INSERT INTO key_checks (id, value) VALUES (1, ?1)", [value])?;
    Ok(())
}

/// `None` also in a database that has no tables.
fn kept(connection: &Connection) -> rusqlite::Result<Option<[u8; 32]>> {
    if !connection.table_exists(None, "key_checks")? {
        return Ok(None);
    }
    connection
        .query_row("SELECT value FROM key_checks", [], |row| row.get(0))
        .optional()
}

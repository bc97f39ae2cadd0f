//! Table `key_checks`: whether a secret is the one under which the database is sealed. While the secret is changed there are two.

use std::path::Path;

use rusqlite::Connection;

use super::error::OpenError;
use super::key_ring::KeyRing;
use super::migrations::STEPS;
use super::{audit_records, connection, file, lasting_keys};

/// Whether the database at `path` is there and holds data sealed under some secret, which a new one could not read.
pub fn is_sealed(path: &Path) -> Result<bool, OpenError> {
    if !file::exists(path)? {
        return Ok(false);
    }
    // Refuses what is no database of ours, in its own words.
    file::readable_version_at(path, STEPS)?;
    let reader = connection::open_reader(path)?;
    Ok(!kept(&reader)?.is_empty())
}

/// Refuses a database that is sealed under another secret. Changes nothing.
pub(super) fn refuse_other(
    connection: &Connection,
    path: &Path,
    key_ring: &KeyRing,
) -> Result<(), OpenError> {
    if !is_of_other(connection, key_ring)? {
        return Ok(());
    }
    let path = path.to_owned();
    let log_id = audit_records::log_id(connection)?;
    Err(if key_ring.is_former(&kept(connection)?, &log_id) {
        OpenError::FormerSecret { path }
    } else {
        OpenError::WrongSecret { path }
    })
}

/// Whether a database is sealed under another secret. Where it is under the current one alone, no other is valid from here on.
pub(super) fn is_of_other(connection: &Connection, key_ring: &KeyRing) -> rusqlite::Result<bool> {
    let kept = kept(connection)?;
    Ok(!kept.is_empty() && !key_ring.settle(&kept, &audit_records::log_id(connection)?))
}

/// Notes the secret in a database where none is noted, and the keys that outlive it.
pub(super) fn write(connection: &Connection, key_ring: &KeyRing) -> rusqlite::Result<()> {
    if kept(connection)?.is_empty() {
        add(connection, key_ring)?;
        lasting_keys::write(connection, key_ring)?;
        // What is new knows no secret but this one.
        key_ring.end_rotation();
    }
    Ok(())
}

/// Notes the current secret; `false` where it is noted.
pub(super) fn add(connection: &Connection, key_ring: &KeyRing) -> rusqlite::Result<bool> {
    let value = key_ring.check_value(&audit_records::log_id(connection)?);
    let added = connection.execute(
        "INSERT INTO key_checks (value) VALUES (?1) ON CONFLICT (value) DO NOTHING",
        [value],
    )?;
    Ok(added > 0)
}

/// Strikes out every other secret.
pub(super) fn keep_current(connection: &Connection, key_ring: &KeyRing) -> rusqlite::Result<()> {
    let value = key_ring.check_value(&audit_records::log_id(connection)?);
    connection.execute("DELETE FROM key_checks WHERE value <> ?1", [value])?;
    Ok(())
}

/// Two at most are of use. None also in a database that has no tables.
fn kept(connection: &Connection) -> rusqlite::Result<Vec<[u8; 32]>> {
    if !connection.table_exists(None, "key_checks")? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT value FROM key_checks LIMIT 3")?;
    let values = statement.query_map([], |row| row.get(0))?;
    values.collect()
}

//! Table `lasting_keys`: the keys that stay when the installation's secret changes, each wrapped under the secret.
//!
//! At first they follow from the secret of that time, so that two machines with one secret know a caller by the same reference.

use rusqlite::{Connection, OptionalExtension, params};

use super::key_ring::{CipherError, KeyBytes, KeyRing, LastingKeys};

const FORGOTTEN_CALLS: &str = "forgotten_calls";
const REFERENCES: &str = "references";
const LISTS: &str = "lists";

/// Notes them in a database, under the current secret.
pub(super) fn write(connection: &Connection, key_ring: &KeyRing) -> rusqlite::Result<()> {
    let LastingKeys {
        forgotten_calls,
        references,
        lists,
    } = key_ring.lasting();
    for (name, key) in [
        (FORGOTTEN_CALLS, forgotten_calls),
        (REFERENCES, references),
        (LISTS, lists),
    ] {
        let (by, wrapped) = key_ring
            .wrap(key, &purpose(name))
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        connection.execute(
            "INSERT INTO lasting_keys (name, wrapped_key, wrapped_by) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET wrapped_key = excluded.wrapped_key, wrapped_by = excluded.wrapped_by",
            params![name, wrapped, by],
        )?;
    }
    Ok(())
}

/// The keys of an installation with those that its database keeps. One that cannot be read is told: calls are answered without it.
pub(super) fn read(connection: &Connection, key_ring: &KeyRing) -> rusqlite::Result<KeyRing> {
    let mut lasting = *key_ring.lasting();
    for (name, key) in [
        (FORGOTTEN_CALLS, &mut lasting.forgotten_calls),
        (REFERENCES, &mut lasting.references),
        (LISTS, &mut lasting.lists),
    ] {
        match unwrapped(connection, key_ring, name)? {
            Ok(kept) => *key = kept,
            Err(error) => tracing::error!(
                event = "store.lasting_key_unreadable",
                name,
                error = %error,
                "a key in the database is not the one that was written: what was made with it is not known again"
            ),
        }
    }
    Ok(key_ring.with_lasting(lasting))
}

fn unwrapped(
    connection: &Connection,
    key_ring: &KeyRing,
    name: &str,
) -> rusqlite::Result<Result<KeyBytes, CipherError>> {
    let found: Option<(Vec<u8>, Vec<u8>)> = connection
        .query_row(
            "SELECT wrapped_by, wrapped_key FROM lasting_keys WHERE name = ?1",
            [name],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    Ok(found
        .ok_or(CipherError)
        .and_then(|(by, wrapped)| key_ring.unwrap(&by, &wrapped, &purpose(name))))
}

fn purpose(name: &str) -> Vec<u8> {
    [b"lasting\0", name.as_bytes()].concat()
}

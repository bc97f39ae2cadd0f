//! The keys of callers, as the table `callers` keeps them: each wrapped under the installation's secret, for its row alone.

use rusqlite::{Connection, OptionalExtension};

use super::key_ring::{CipherError, KeyBytes, KeyRing};

/// The key of a caller, if it can be unwrapped; `None` where the caller was erased.
pub(super) fn find(
    connection: &Connection,
    key_ring: &KeyRing,
    row: i64,
) -> rusqlite::Result<Option<Result<KeyBytes, CipherError>>> {
    let found: Option<(Vec<u8>, Vec<u8>)> = connection
        .prepare_cached("SELECT wrapped_by, wrapped_key FROM callers WHERE id = ?1")?
        .query_row([row], |found| Ok((found.get(0)?, found.get(1)?)))
        .optional()?;
    // Whatever somebody has written there, it keeps nobody from writing.
    Ok(found.map(|(by, wrapped)| key_ring.unwrap(&by, &wrapped, &purpose(row))))
}

/// For what the key of a caller is wrapped.
pub(super) fn purpose(row: i64) -> Vec<u8> {
    [b"caller\0".as_slice(), &row.to_be_bytes()].concat()
}

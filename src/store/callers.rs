//! Table `callers`: one row for each person who called, with the salt of their key. The row is found by a keyed hash and
//! holds nothing readable; when it is deleted, everything sealed for that person is noise.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::value::RawValue;

use super::key_ring::{CipherError, Identity, KeyBytes, KeyRing, Purpose, SaltBytes};
use super::packed;
use super::readers::RowReader;
use super::rows::Written;
use crate::audit::{CallerErased, Personal};
use crate::phone::Caller;

/// The index of so many callers is made anew with each erasure, so that no unused part of a page keeps the hash. Above, that would hold calls up.
const FEW: i64 = 20_000;
const DAY_MS: i64 = 86_400_000;
/// So many callers' keys are kept at hand, twice.
const GENERATION: usize = 16_384;

/// Personal data of a record, as it is stored.
pub(super) struct EncryptedPersonal {
    pub(super) caller_row: i64,
    /// What is written, and hashed.
    pub(super) bytes: Vec<u8>,
}

/// Personal data on its way to the writer.
pub(super) struct PlainPersonal {
    pub(super) identity: Identity,
    /// What is to be sealed: JSON, packed.
    pub(super) packed: Vec<u8>,
}

impl PlainPersonal {
    pub(super) fn new(personal: &Personal, key_ring: &KeyRing) -> serde_json::Result<Self> {
        let identity = key_ring.identity(&personal.caller());
        Ok(Self {
            identity: identity.unwrap_or_else(|| key_ring.nobody()),
            packed: packed::pack(&serde_json::to_vec(personal)?),
        })
    }

    /// What is to be sealed, as it was before it was packed.
    pub(super) fn json(&self) -> serde_json::Result<Box<RawValue>> {
        serde_json::from_slice(&packed::unpack(&self.packed).unwrap_or_default())
    }
}

/// Seals on the writer's thread. Remembers the keys of those who called lately; everything it remembers stands in the
/// database, so it must [`Encryptor::forget`] when a transaction is rolled back or a caller is erased.
pub(super) struct Encryptor {
    key_ring: KeyRing,
    young: HashMap<Identity, KnownCaller>,
    old: HashMap<Identity, KnownCaller>,
}

#[derive(Clone, Copy)]
struct KnownCaller {
    row: i64,
    key: KeyBytes,
    /// The last day on which the row says that the caller was seen.
    day: i64,
}

impl Encryptor {
    pub(super) fn new(key_ring: KeyRing) -> Self {
        Self {
            key_ring,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    pub(super) fn key_ring(&self) -> &KeyRing {
        &self.key_ring
    }

    pub(super) fn forget(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// Seals personal data for its record; makes the caller's row where there is none.
    pub(super) fn seal(
        &mut self,
        connection: &Connection,
        unsealed: &PlainPersonal,
        purpose: Purpose<'_>,
    ) -> rusqlite::Result<EncryptedPersonal> {
        let caller = self.caller(connection, unsealed.identity, purpose.created_at)?;
        let bytes = self
            .key_ring
            .seal(&caller.key, caller.row, purpose, &unsealed.packed)
            .map_err(no_random)?;
        Ok(EncryptedPersonal {
            caller_row: caller.row,
            bytes,
        })
    }

    fn caller(
        &mut self,
        connection: &Connection,
        identity: Identity,
        at: i64,
    ) -> rusqlite::Result<KnownCaller> {
        let day = at.div_euclid(DAY_MS);
        if let Some(known) = self.young.get(&identity)
            && known.day >= day
        {
            return Ok(*known);
        }
        let mut known = match self.old.get(&identity) {
            Some(known) => *known,
            None => self.find_or_make(connection, identity, at)?,
        };
        if known.day < day {
            touch(connection, known.row, at)?;
            known.day = day;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(identity, known);
        Ok(known)
    }

    fn find_or_make(
        &self,
        connection: &Connection,
        identity: Identity,
        at: i64,
    ) -> rusqlite::Result<KnownCaller> {
        let found = connection
            .prepare_cached("SELECT id, salt, updated_at FROM callers WHERE identity_hash = ?1")?
            .query_row([identity.0], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?))
            })
            .optional()?;
        let (row, salt, seen): (i64, SaltBytes, i64) = match found {
            Some(found) => found,
            None => self.make(connection, identity, at)?,
        };
        Ok(KnownCaller {
            row,
            key: self.key_ring.caller_key(&salt),
            day: seen.div_euclid(DAY_MS),
        })
    }

    fn make(
        &self,
        connection: &Connection,
        identity: Identity,
        at: i64,
    ) -> rusqlite::Result<(i64, SaltBytes, i64)> {
        let salt: SaltBytes = self.key_ring.random().map_err(no_random)?;
        connection
            .prepare_cached(
                "INSERT INTO callers (identity_hash, salt, created_at, updated_at) VALUES (?1, ?2, ?3, ?3)",
            )?
            .execute(params![identity.0, salt, at])?;
        Ok((connection.last_insert_rowid(), salt, at))
    }
}

fn no_random(error: CipherError) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}

/// The row says on which day the caller was last seen, so that it can go when all records of that day have gone.
fn touch(connection: &Connection, row: i64, at: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE callers SET updated_at = ?2 WHERE id = ?1")?
        .execute([row, at])?;
    Ok(())
}

/// The row of a person who called.
pub(super) fn find(connection: &Connection, identity: Identity) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM callers WHERE identity_hash = ?1")?
        .query_row([identity.0], |row| row.get(0))
        .optional()
}

/// Rows of callers who were not seen since `before` and of whom no call is left, longest ago first.
pub(super) fn due(connection: &Connection, before: i64, limit: u32) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT id FROM callers WHERE updated_at < ?1
             AND NOT EXISTS (SELECT 1 FROM calls WHERE caller_id = callers.id)
             ORDER BY updated_at LIMIT ?2",
        )?
        .query_map(params![before, limit], |row| row.get(0))?
        .collect()
}

/// Deletes callers, but for those who were seen since they were found due.
pub(super) fn forget(connection: &Connection, rows: &[i64], before: i64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM callers WHERE id = ?1 AND updated_at < ?2
         AND NOT EXISTS (SELECT 1 FROM calls WHERE caller_id = callers.id)",
    )?;
    for row in rows {
        statement.execute([*row, before])?;
    }
    Ok(())
}

/// Destroys the salt of a person and whatever the projections hold of them; gives what there was. What is deleted is overwritten.
pub(super) fn erase(
    connection: &Connection,
    written: &Written,
    identity: Identity,
) -> rusqlite::Result<Option<CallerErased>> {
    connection.pragma_update(None, "secure_delete", "ON")?;
    let forgotten = erase_securely(connection, written, identity);
    connection.pragma_update(None, "secure_delete", "FAST")?;
    forgotten
}

fn erase_securely(
    connection: &Connection,
    written: &Written,
    identity: Identity,
) -> rusqlite::Result<Option<CallerErased>> {
    let row: Option<i64> = find(connection, identity)?;
    let profiles = connection.execute(
        "DELETE FROM profiles WHERE identity_hash = ?1",
        [identity.0],
    )?;
    let Some(row) = row else {
        return Ok((profiles > 0).then_some(CallerErased {
            calls: 0,
            answers: 0,
            profile: true,
        }));
    };
    let answers: i64 = connection.query_row(
        "SELECT count(*) FROM audit_records
         WHERE call_id IN (SELECT id FROM calls WHERE caller_id = ?1) AND kind = 'call_answered'",
        [row],
        |row| row.get(0),
    )?;
    // A row that was planted loses what it holds of the person, and is not the better for it.
    let mut statement = connection.prepare("SELECT * FROM calls WHERE caller_id = ?1")?;
    let mut rows = statement.query([row])?;
    while let Some(row) = rows.next()? {
        written.believes("calls", row)?;
    }
    let calls = connection.execute(
        "UPDATE calls SET personal = NULL, caller_id = NULL WHERE caller_id = ?1",
        [row],
    )?;
    // In place and of the same length: wherever the rest of the page goes, it takes nothing of this row along.
    connection.execute(
        "UPDATE callers SET salt = zeroblob(32), identity_hash = randomblob(32) WHERE id = ?1",
        [row],
    )?;
    connection.execute("DELETE FROM callers WHERE id = ?1", [row])?;
    let more: Option<i64> = connection
        .query_row(
            "SELECT id FROM callers LIMIT 1 OFFSET ?1",
            params![FEW],
            |row| row.get(0),
        )
        .optional()?;
    if more.is_none() {
        connection.execute_batch("REINDEX idx_callers_identity_hash")?;
    }
    Ok(Some(CallerErased {
        calls: calls as u64,
        answers: answers.unsigned_abs(),
        profile: profiles > 0,
    }))
}

/// The row of the person behind a caller as a carrier or a person writes it; `None` where nobody of that number has called.
pub(super) fn find_by_number(
    reader: &RowReader<'_>,
    caller: &str,
) -> rusqlite::Result<Option<i64>> {
    match reader.key_ring().identity(&Caller::classify(caller)) {
        Some(identity) => find(reader, identity),
        None => Ok(None),
    }
}

//! Table `callers`: one row for each person who called, with their key, wrapped under the installation's secret. The row is found by a
//! keyed hash and holds nothing readable; when it is deleted, everything sealed for that person is noise.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::value::RawValue;

use super::key_ring::{self, CipherError, Identity, KeyBytes, KeyRing, Purpose};
use super::readers::RowReader;
use super::rows::Written;
use super::{caller_keys, list_entries, packed, profiles};
use crate::audit::{CallerErased, Personal};
use crate::phone::{Caller, E164};

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
    /// What is hashed of the person: the hash is made by the writer, under the secret of that moment.
    pub(super) who: Vec<u8>,
    /// What is to be sealed: JSON, packed.
    pub(super) packed: Vec<u8>,
    /// The number that was called, as received.
    pub(super) called: Option<String>,
}

impl PlainPersonal {
    pub(super) fn new(personal: &Personal) -> serde_json::Result<Self> {
        Ok(Self {
            who: key_ring::who_or_nobody(&personal.caller()),
            packed: packed::pack(&serde_json::to_vec(personal)?),
            called: personal.called.clone(),
        })
    }

    /// The number of the person, where that is known.
    pub(super) fn number(&self) -> Option<E164> {
        key_ring::number_of(&self.who)
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
        let caller = self.caller(connection, &unsealed.who, purpose.created_at)?;
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
        who: &[u8],
        at: i64,
    ) -> rusqlite::Result<KnownCaller> {
        let identity = self.key_ring.identity_of(who);
        let day = at.div_euclid(DAY_MS);
        if let Some(known) = self.young.get(&identity)
            && known.day >= day
        {
            return Ok(*known);
        }
        let mut known = match self.old.get(&identity) {
            Some(known) => *known,
            None => self.find_or_make(connection, who, at)?,
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
        who: &[u8],
        at: i64,
    ) -> rusqlite::Result<KnownCaller> {
        for identity in self.key_ring.identities_of(who) {
            let found: Option<(i64, i64)> = connection
                .prepare_cached("SELECT id, updated_at FROM callers WHERE identity_hash = ?1")?
                .query_row([identity.0], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((row, seen)) = found else { continue };
            let key = caller_keys::find(connection, &self.key_ring, row)?;
            if let Some(key) = key.and_then(Result::ok) {
                return Ok(KnownCaller {
                    row,
                    key,
                    day: seen.div_euclid(DAY_MS),
                });
            }
            // Nothing is read with it any more. It stays in the way of nobody, and what was sealed for it stays as it is.
            tracing::error!(
                event = "store.caller_unreadable",
                row,
                "the key of a caller is not the one that was written: it is not used"
            );
            connection
                .prepare_cached("UPDATE callers SET identity_hash = randomblob(32) WHERE id = ?1")?
                .execute([row])?;
        }
        self.make(connection, who, at)
    }

    fn make(&self, connection: &Connection, who: &[u8], at: i64) -> rusqlite::Result<KnownCaller> {
        connection
            .prepare_cached(
                "INSERT INTO callers (identity_hash, wrapped_key, wrapped_by, who, created_at, updated_at)
                 VALUES (?1, zeroblob(60), zeroblob(8), x'', ?2, ?2)",
            )?
            .execute(params![self.key_ring.identity_of(who).0, at])?;
        let row = connection.last_insert_rowid();
        let key: KeyBytes = self.key_ring.random().map_err(no_random)?;
        let sealed = self.key_ring.seal_who(&key, row, who).map_err(no_random)?;
        let (by, wrapped) = self
            .key_ring
            .wrap(&key, &caller_keys::purpose(row))
            .map_err(no_random)?;
        connection
            .prepare_cached(
                "UPDATE callers SET wrapped_key = ?2, wrapped_by = ?3, who = ?4 WHERE id = ?1",
            )?
            .execute(params![row, wrapped, by, sealed])?;
        Ok(KnownCaller {
            row,
            key,
            day: at.div_euclid(DAY_MS),
        })
    }
}

/// Wraps the key of a caller under the current secret, and hashes them under it. `false` where that cannot be, because the row is not
/// what was written.
pub(super) fn rotate(
    connection: &Connection,
    key_ring: &KeyRing,
    row: i64,
) -> rusqlite::Result<bool> {
    let Some(Ok(key)) = caller_keys::find(connection, key_ring, row)? else {
        return Ok(false);
    };
    let sealed: Vec<u8> = connection
        .prepare_cached("SELECT who FROM callers WHERE id = ?1")?
        .query_row([row], |found| found.get(0))?;
    let Ok(who) = KeyRing::open_who(&key, row, &sealed) else {
        return Ok(false);
    };
    let (by, wrapped) = key_ring
        .wrap(&key, &caller_keys::purpose(row))
        .map_err(no_random)?;
    connection
        .prepare_cached(
            "UPDATE callers SET identity_hash = ?2, wrapped_key = ?3, wrapped_by = ?4 WHERE id = ?1",
        )?
        .execute(params![row, key_ring.identity_of(&who).0, wrapped, by])?;
    Ok(true)
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
pub(super) fn find(
    connection: &Connection,
    key_ring: &KeyRing,
    who: &[u8],
) -> rusqlite::Result<Option<i64>> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM callers WHERE identity_hash = ?1")?;
    for identity in key_ring.identities_of(who) {
        let found = statement.query_row([identity.0], |row| row.get(0));
        if let Some(row) = found.optional()? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// Who is in a row; `None` where nobody is, or nobody in particular, or the row is not what was written.
pub(super) fn at_row(reader: &RowReader<'_>, row: i64) -> rusqlite::Result<Option<Caller>> {
    let Some(Ok(key)) = caller_keys::find(reader, reader.key_ring(), row)? else {
        return Ok(None);
    };
    let sealed: Vec<u8> = reader
        .prepare_cached("SELECT who FROM callers WHERE id = ?1")?
        .query_row([row], |found| found.get(0))?;
    let who = KeyRing::open_who(&key, row, &sealed).ok();
    Ok(who.and_then(|who| key_ring::caller_of(&who)))
}

/// Rows of callers who were not seen since `before`, of whom no call is left and who are on no list, longest ago first.
pub(super) fn due(connection: &Connection, before: i64, limit: u32) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT id FROM callers WHERE updated_at < ?1
             AND NOT EXISTS (SELECT 1 FROM calls WHERE caller_id = callers.id)
             AND NOT EXISTS (SELECT 1 FROM list_entries WHERE caller_id = callers.id)
             ORDER BY updated_at LIMIT ?2",
        )?
        .query_map(params![before, limit], |row| row.get(0))?
        .collect()
}

/// Deletes callers, but for those who were seen since they were found due.
pub(super) fn forget(connection: &Connection, rows: &[i64], before: i64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM callers WHERE id = ?1 AND updated_at < ?2
         AND NOT EXISTS (SELECT 1 FROM calls WHERE caller_id = callers.id)
         AND NOT EXISTS (SELECT 1 FROM list_entries WHERE caller_id = callers.id)",
    )?;
    for row in rows {
        statement.execute([*row, before])?;
    }
    Ok(())
}

/// Destroys the key of a person and whatever the projections hold of them, but for a keyed hash on the lists that block; gives what there was.
/// What is deleted is overwritten.
pub(super) fn erase(
    connection: &Connection,
    written: &Written,
    key_ring: &KeyRing,
    who: &[u8],
    blocks: &[String],
) -> rusqlite::Result<Option<CallerErased>> {
    connection.pragma_update(None, "secure_delete", "ON")?;
    let forgotten = erase_securely(connection, written, key_ring, who, blocks);
    connection.pragma_update(None, "secure_delete", "FAST")?;
    forgotten
}

fn erase_securely(
    connection: &Connection,
    written: &Written,
    key_ring: &KeyRing,
    who: &[u8],
    blocks: &[String],
) -> rusqlite::Result<Option<CallerErased>> {
    let row: Option<i64> = find(connection, key_ring, who)?;
    let erased = CallerErased {
        profile: profiles::delete(connection, key_ring, who)? > 0,
        ..list_entries::erase(connection, written, key_ring, who, blocks)?
    };
    let Some(row) = row else {
        return Ok((erased != CallerErased::default()).then_some(erased));
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
        "UPDATE callers SET identity_hash = randomblob(32), wrapped_key = zeroblob(60), who = zeroblob(length(who)) WHERE id = ?1",
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
        ..erased
    }))
}

/// The row of the person behind a caller as a carrier or a person writes it; `None` where nobody of that number has called.
pub(super) fn find_by_number(
    reader: &RowReader<'_>,
    caller: &str,
) -> rusqlite::Result<Option<i64>> {
    match key_ring::who(&Caller::classify(caller)) {
        Some(who) => find(reader, reader.key_ring(), &who),
        None => Ok(None),
    }
}

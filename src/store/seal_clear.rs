//! The data's part of schema version 2: what stood in the clear is sealed.
//!
//! The audit log is left as it is: its hashes cover the very bytes, so that personal data of records written before stays readable until
//! retention takes it.

use rusqlite::{Connection, Row, params};

use super::callers::{Sealed, Sealer, Unsealed};
use super::vault::{Purpose, Vault};
use super::{answers, calls, key_check, profiles};
use crate::audit::Personal;
use crate::phone::E164;

/// Seals calls, answers and profiles, and drops the columns and tables that held them.
pub(super) fn carry(connection: &Connection, vault: &Vault) -> rusqlite::Result<()> {
    let mut sealer = Sealer::new(vault.clone());
    seal_calls(connection, &mut sealer)?;
    seal_profiles(connection, vault)?;
    key_check::keep(connection, vault)?;
    connection.execute_batch(
        "ALTER TABLE calls DROP COLUMN caller;
         ALTER TABLE calls DROP COLUMN called;
         DROP TABLE clear_answers;
         DROP TABLE clear_profiles;",
    )
}

struct Call {
    row: i64,
    sid: String,
    personal: Personal,
    created_at: i64,
}

fn seal_calls(connection: &Connection, sealer: &mut Sealer) -> rusqlite::Result<()> {
    let mut after = 0;
    loop {
        let page: Vec<Call> = connection
            .prepare_cached(
                "SELECT id, sid, caller, called, created_at FROM calls WHERE id > ?1 ORDER BY id LIMIT 1000",
            )?
            .query_map([after], call)?
            .collect::<rusqlite::Result<_>>()?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.row;
        for call in &page {
            seal_call(connection, sealer, call)?;
        }
    }
}

fn call(row: &Row<'_>) -> rusqlite::Result<Call> {
    Ok(Call {
        row: row.get(0)?,
        sid: row.get(1)?,
        personal: Personal {
            caller: row.get(2)?,
            called: row.get(3)?,
            body: None,
        },
        created_at: row.get(4)?,
    })
}

fn seal_call(connection: &Connection, sealer: &mut Sealer, call: &Call) -> rusqlite::Result<()> {
    let purpose = calls::purpose(&call.sid, call.created_at);
    let sealed = seal(connection, sealer, &call.personal, purpose)?;
    connection
        .prepare_cached("UPDATE calls SET caller_id = ?2, personal = ?3 WHERE id = ?1")?
        .execute(params![call.row, sealed.caller_row, sealed.bytes])?;
    let given: Vec<(i64, String, String, i64)> = connection
        .prepare_cached("SELECT id, step, body, created_at FROM clear_answers WHERE call_id = ?1")?
        .query_map([call.row], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (row, step, body, created_at) in given {
        let personal = Personal {
            caller: call.personal.caller.clone(),
            called: None,
            body: Some(body),
        };
        let purpose = answers::purpose(&call.sid, created_at);
        let sealed = seal(connection, sealer, &personal, purpose)?;
        connection
            .prepare_cached(
                "INSERT INTO answers (id, call_id, step, personal, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![row, call.row, step, sealed.bytes, created_at])?;
    }
    Ok(())
}

fn seal(
    connection: &Connection,
    sealer: &mut Sealer,
    personal: &Personal,
    purpose: Purpose<'_>,
) -> rusqlite::Result<Sealed> {
    let unsealed = Unsealed::new(personal, sealer.vault())
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    sealer.seal(connection, &unsealed, purpose)
}

fn seal_profiles(connection: &Connection, vault: &Vault) -> rusqlite::Result<()> {
    let clear: Vec<(i64, String, Option<String>)> = connection
        .prepare("SELECT id, phone, external_id FROM clear_profiles")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (row, phone, external_id) in clear {
        // What is no number is nobody's profile.
        let Ok(phone) = E164::parse(&phone) else {
            continue;
        };
        let (identity, sealed) = profiles::Sealed::new(phone, external_id)
            .seal(vault)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        connection
            .prepare_cached(
                "INSERT INTO profiles (id, identity_hash, personal, score, tier, known, fetched_at, changed_at, created_at, updated_at)
                 SELECT id, ?2, ?3, score, tier, known, fetched_at, changed_at, created_at, updated_at
                 FROM clear_profiles WHERE id = ?1",
            )?
            .execute(params![row, identity.0, sealed])?;
    }
    Ok(())
}

//! Table `answers`: what each webhook of a call was answered.

use rusqlite::{Connection, params};

use super::callers::EncryptedPersonal;
use super::error::StoreError;
use super::key_ring::Purpose;
use super::readers::RowReader;
use crate::audit::Kind;
use crate::call::CallId;

/// Keeps an answer as its record has it sealed. The first one to a step stands.
pub(super) fn insert(
    connection: &Connection,
    call_row: i64,
    step: &str,
    sealed: &EncryptedPersonal,
    at: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO answers (call_id, step, personal, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (call_id, step) DO NOTHING",
        )?
        .execute(params![call_row, step, sealed.bytes, at])?;
    Ok(())
}

/// The answer given to a step of a call; none where its row is not the one that was written.
pub(super) fn find(
    reader: &RowReader<'_>,
    call: &CallId,
    step: &str,
) -> Result<Option<String>, StoreError> {
    let which = "WHERE call_id = (SELECT id FROM calls WHERE sid = ?1) AND step = ?2";
    let mut found = reader.rows("answers", which, [call.as_str(), step], |row| {
        let (sealed, created_at): (Vec<u8>, i64) = (row.get("personal")?, row.get("created_at")?);
        row.valid(reader.personal(&sealed, purpose(call.as_str(), created_at)))
    })?;
    Ok(found.pop().and_then(|personal| personal.body))
}

/// For what an answer is sealed.
pub(super) fn purpose(call: &str, created_at: i64) -> Purpose<'_> {
    Purpose {
        kind: Kind::CallAnswered.as_str(),
        call: Some(call),
        created_at,
    }
}

//! Table `answers`: what each webhook of a call was answered.

use rusqlite::{Connection, OptionalExtension, params};

use super::callers::Sealed;
use super::readers::Reader;
use super::vault::Purpose;
use super::{StoreError, column};
use crate::audit::Kind;
use crate::call::CallId;

/// That a step was answered. The answer itself is in the record's personal data: it may name the caller.
pub(super) struct NewAnswer {
    step: String,
}

pub(super) fn given(step: &str) -> NewAnswer {
    NewAnswer {
        step: step.to_owned(),
    }
}

/// Keeps an answer as its record has it sealed. The first one to a step stands.
pub(super) fn insert(
    connection: &Connection,
    call_row: i64,
    answer: &NewAnswer,
    sealed: &Sealed,
    at: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO answers (call_id, step, personal, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (call_id, step) DO NOTHING",
        )?
        .execute(params![call_row, answer.step, sealed.bytes, at])?;
    Ok(())
}

/// The answer given to a step of a call; none where its row is not the one that was written.
pub(super) fn find(
    reader: &Reader<'_>,
    call: &CallId,
    step: &str,
) -> Result<Option<String>, StoreError> {
    let found: Option<(i64, Vec<u8>, i64)> = reader
        .prepare_cached(
            "SELECT * FROM answers WHERE call_id = (SELECT id FROM calls WHERE sid = ?1) AND step = ?2",
        )?
        .query_row(params![call.as_str(), step], |row| {
            if !reader.believes("answers", row)? {
                return Ok(None);
            }
            let (id, created_at) = (row.get("id")?, row.get("created_at")?);
            Ok(Some((id, row.get("personal")?, created_at)))
        })
        .optional()?
        .flatten();
    let Some((row, sealed, created_at)) = found else {
        return Ok(None);
    };
    let opened = reader.personal(&sealed, purpose(call.as_str(), created_at));
    Ok(column::or_inconsistent(opened, "answers", row)?.body)
}

/// For what an answer is sealed.
pub(super) fn purpose(call: &str, created_at: i64) -> Purpose<'_> {
    Purpose {
        kind: Kind::CallAnswered.as_str(),
        call: Some(call),
        created_at,
    }
}

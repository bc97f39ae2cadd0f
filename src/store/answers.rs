//! Table `answers`: what each webhook of a call was answered.

use rusqlite::{Connection, OptionalExtension, params};

use crate::call::CallId;

/// An answer as given.
pub(super) struct NewAnswer {
    step: String,
    body: String,
}

pub(super) fn given(step: &str, body: &str) -> NewAnswer {
    NewAnswer {
        step: step.to_owned(),
        body: body.to_owned(),
    }
}

/// Keeps an answer. The first one to a step stands.
pub(super) fn keep(
    connection: &Connection,
    call_row: i64,
    answer: &NewAnswer,
    at: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO answers (call_id, step, body, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (call_id, step) DO NOTHING",
        )?
        .execute(params![call_row, answer.step, answer.body, at])?;
    Ok(())
}

/// The answer given to a step of a call.
pub(super) fn find(
    connection: &Connection,
    call: &CallId,
    step: &str,
) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached(
            "SELECT body FROM answers
             WHERE call_id = (SELECT id FROM calls WHERE sid = ?1) AND step = ?2",
        )?
        .query_row(params![call.as_str(), step], |row| row.get(0))
        .optional()
}

//! Table `sessions`: who is logged in to the dashboard. Of a session's secret there is a hash only.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::error::StoreError;
use super::readers::RowReader;
use super::rows::Written;

/// A session as the database knows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StoredSession {
    pub token_hash: [u8; 32],
    /// SHA-256 of the key that it stands for.
    pub key_hash: [u8; 32],
    pub created_at: Timestamp,
    /// When it was last used.
    pub used_at: Timestamp,
}

impl std::fmt::Debug for StoredSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredSession(…)")
    }
}

/// What happened to a session.
#[derive(Clone, Copy, Debug)]
pub(super) enum SessionChange {
    /// It began or was used.
    Kept(StoredSession),
    Ended([u8; 32]),
}

pub(super) fn change(
    connection: &Connection,
    written: &Written,
    change: &SessionChange,
) -> rusqlite::Result<()> {
    if let SessionChange::Kept(session) = change
        && is_planted(connection, written, &session.token_hash)?
    {
        return Ok(());
    }
    match change {
        SessionChange::Kept(session) => connection
            .prepare_cached(
                "INSERT INTO sessions (token_hash, key_hash, created_at, updated_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (token_hash) DO UPDATE SET updated_at = max(updated_at, excluded.updated_at)",
            )?
            .execute(params![
                session.token_hash,
                session.key_hash,
                session.created_at.as_millisecond(),
                session.used_at.as_millisecond(),
            ])?,
        SessionChange::Ended(token_hash) => connection
            .prepare_cached("DELETE FROM sessions WHERE token_hash = ?1")?
            .execute([token_hash])?,
    };
    Ok(())
}

/// Whether there is a row of this secret that was not written by us: it stays as it is, and grants nothing.
fn is_planted(
    connection: &Connection,
    written: &Written,
    token_hash: &[u8; 32],
) -> rusqlite::Result<bool> {
    let believed = connection
        .prepare_cached("SELECT * FROM sessions WHERE token_hash = ?1")?
        .query_row([token_hash], |row| written.believes("sessions", row))
        .optional()?;
    Ok(believed == Some(false))
}

/// Every session, the latest used first. One that was planted, or that begins in the future, is none.
pub(super) fn all(
    reader: &RowReader<'_>,
    now: Timestamp,
) -> Result<Vec<StoredSession>, StoreError> {
    let which = "ORDER BY updated_at DESC, id";
    let mut sessions = reader.rows("sessions", which, [], |row| {
        Ok(StoredSession {
            token_hash: row.get("token_hash")?,
            key_hash: row.get("key_hash")?,
            created_at: row.time("created_at")?,
            used_at: row.time("updated_at")?,
        })
    })?;
    sessions.retain(|session| session.created_at <= now && session.used_at <= now);
    Ok(sessions)
}

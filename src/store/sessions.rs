//! Table `sessions`: who is logged in to the dashboard. Of a session's secret there is a hash only.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::{StoreError, column};

/// A session as the database knows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StoredSession {
    /// SHA-256 of its secret.
    pub token_hash: [u8; 32],
    /// SHA-256 of the key that it stands for.
    pub key_hash: [u8; 32],
    /// When it began.
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
    /// It ended.
    Ended([u8; 32]),
}

pub(super) fn change(connection: &Connection, change: &SessionChange) -> rusqlite::Result<()> {
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

/// Every session, the latest used first.
pub(super) fn all(connection: &Connection) -> Result<Vec<StoredSession>, StoreError> {
    connection
        .prepare_cached("SELECT id, token_hash, key_hash, created_at, updated_at FROM sessions ORDER BY updated_at DESC")?
        .query_map([], |row| {
            let times: (i64, i64) = (row.get(3)?, row.get(4)?);
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, times))
        })?
        .map(|found| {
            let (row, token_hash, key_hash, (created_at, used_at)): (i64, _, _, _) = found?;
            let times = column::time(created_at).zip(column::time(used_at));
            let session = times.map(|(created_at, used_at)| StoredSession {
                token_hash,
                key_hash,
                created_at,
                used_at,
            });
            column::or_inconsistent(session, "sessions", row)
        })
        .collect()
}

//! Table `api_keys`: keys that were made while the program ran. Of a key there is a hash only. A projection of the audit log.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::error::StoreError;
use super::readers::RowReader;
use crate::audit::{KeyAction, KeyChanged, Role};

/// A key that was made while the program ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredApiKey {
    pub name: Arc<str>,
    pub role: Role,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// Who made it.
    pub by: String,
    pub created_at: Timestamp,
}

impl StoredApiKey {
    /// Names it: the first digits of its hash.
    pub fn id(&self) -> String {
        hex::encode(self.hash.first_chunk::<8>().unwrap_or(&[0; 8]))
    }
}

/// Every key, the oldest first. One that was planted is none.
pub(super) fn all(reader: &RowReader<'_>) -> Result<Vec<StoredApiKey>, StoreError> {
    reader.rows("api_keys", "ORDER BY id", [], |row| {
        let (name, role): (String, String) = (row.get("name")?, row.get("role")?);
        Ok(StoredApiKey {
            name: name.into(),
            role: row.valid(Role::from_name(&role))?,
            hash: row.get("key_hash")?,
            by: row.get("made_by")?,
            created_at: row.time("created_at")?,
        })
    })
}

pub(super) fn change(
    connection: &Connection,
    change: &KeyChanged,
    at: i64,
) -> rusqlite::Result<()> {
    let hash = hex::decode(&change.hash).unwrap_or_default();
    // A key that is made has a name of its own: what is there under it was planted.
    connection
        .prepare_cached("DELETE FROM api_keys WHERE key_hash = ?1 OR name = ?2")?
        .execute(params![hash, change.name])?;
    if change.change == KeyAction::Made {
        let sql = "INSERT INTO api_keys (name, role, key_hash, made_by, created_at, updated_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?5)";
        let role = change.role.as_str();
        let mut statement = connection.prepare_cached(sql)?;
        statement.execute(params![change.name, role, hash, change.by, at])?;
    }
    Ok(())
}

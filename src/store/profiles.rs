//! Table `profiles`: what Braze last said of a caller. Not part of the audit log; it only warms the cache after a restart.

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::{StoreError, column};
use crate::lead::LeadScore;
use crate::phone::E164;
use crate::routing::Profile;

/// What Braze last said of a caller.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredProfile {
    /// The caller.
    pub phone: E164,
    /// What Braze calls the profile.
    pub external_id: Option<String>,
    /// Its routing fields; `None` where Braze has no profile for this number.
    pub profile: Option<Profile>,
    /// When Braze said so.
    pub fetched_at: Timestamp,
    /// When the profile changed, as the push says that brought it.
    pub changed_at: Option<Timestamp>,
}

/// Keeps a profile, unless a later answer is kept already.
pub(super) fn save(
    connection: &Connection,
    stored: &StoredProfile,
    now: i64,
) -> rusqlite::Result<()> {
    let profile = stored.profile.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO profiles (phone, external_id, score, tier, known, fetched_at, changed_at, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
             ON CONFLICT (phone) DO UPDATE SET
                 external_id = excluded.external_id, score = excluded.score, tier = excluded.tier,
                 known = excluded.known, fetched_at = excluded.fetched_at, changed_at = excluded.changed_at,
                 updated_at = excluded.updated_at
             WHERE excluded.fetched_at >= profiles.fetched_at",
        )?
        .execute(params![
            stored.phone.as_str(),
            stored.external_id,
            profile.and_then(|profile| profile.score).map(LeadScore::value),
            profile.and_then(|profile| profile.tier.as_deref()),
            profile.is_some(),
            stored.fetched_at.as_millisecond(),
            stored.changed_at.map(Timestamp::as_millisecond),
            now,
        ])?;
    Ok(())
}

/// Forgets a profile.
pub(super) fn delete(connection: &Connection, phone: &E164) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM profiles WHERE phone = ?1")?
        .execute([phone.as_str()])?;
    Ok(())
}

/// The profiles, newest answer first.
pub(super) fn newest(
    connection: &Connection,
    limit: u32,
) -> Result<Vec<StoredProfile>, StoreError> {
    connection
        .prepare_cached("SELECT * FROM profiles ORDER BY fetched_at DESC, id DESC LIMIT ?1")?
        .query_map([limit], raw)?
        .map(|raw| raw?.read())
        .collect()
}

/// How many there are.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM profiles", [], |row| row.get(0))
}

/// The columns as `SQLite` gives them.
struct RawProfile {
    row: i64,
    phone: String,
    external_id: Option<String>,
    score: Option<f64>,
    tier: Option<String>,
    known: bool,
    fetched_at: i64,
    changed_at: Option<i64>,
}

fn raw(row: &Row<'_>) -> rusqlite::Result<RawProfile> {
    Ok(RawProfile {
        row: row.get("id")?,
        phone: row.get("phone")?,
        external_id: row.get("external_id")?,
        score: row.get("score")?,
        tier: row.get("tier")?,
        known: row.get("known")?,
        fetched_at: row.get("fetched_at")?,
        changed_at: row.get("changed_at")?,
    })
}

impl RawProfile {
    fn read(self) -> Result<StoredProfile, StoreError> {
        let row = self.row;
        column::or_inconsistent(self.try_read(), "profiles", row)
    }

    fn try_read(self) -> Option<StoredProfile> {
        let score = column::optional(self.score, LeadScore::new)?;
        let profile = match (self.known, score, self.tier) {
            (true, score, tier) => Some(Profile { score, tier }),
            (false, None, None) => None,
            (false, _, _) => return None,
        };
        Some(StoredProfile {
            phone: E164::parse(&self.phone).ok()?,
            external_id: self.external_id,
            profile,
            fetched_at: column::time(self.fetched_at)?,
            changed_at: column::optional(self.changed_at, column::time)?,
        })
    }
}

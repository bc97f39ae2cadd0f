//! Table `profiles`: what Braze last said of a caller. Not part of the audit log; it only warms the cache after a restart.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::column::{self, Columns};
use super::error::StoreError;
use super::key_ring::{self, CipherError, Identity, KeyRing};
use super::readers::RowReader;
use crate::lead::LeadScore;
use crate::phone::{Caller, E164};
use crate::routing::Profile;

/// What Braze last said of a caller.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredProfile {
    pub phone: E164,
    /// What Braze calls the profile.
    pub external_id: Option<String>,
    /// Its routing fields; `None` where Braze has no profile for this number.
    pub profile: Option<Profile>,
    pub fetched_at: Timestamp,
    /// When the profile changed, as the push says that brought it.
    pub changed_at: Option<Timestamp>,
}

/// What of a profile identifies a person, as it is sealed.
#[derive(Serialize, Deserialize)]
pub(super) struct ProfileIdentity {
    phone: E164,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
}

impl ProfileIdentity {
    pub(super) fn of(stored: &StoredProfile) -> Self {
        let profile = stored.profile.as_ref();
        Self {
            phone: stored.phone.clone(),
            external_id: stored.external_id.clone(),
            attributes: profile
                .map(|profile| profile.attributes.clone())
                .unwrap_or_default(),
        }
    }

    /// As it is stored, and the person whose it is.
    pub(super) fn seal(&self, key_ring: &KeyRing) -> Result<(Identity, Vec<u8>), CipherError> {
        let identity = key_ring.identity_of(&who(&self.phone));
        let json = serde_json::to_vec(self).map_err(|_| CipherError)?;
        Ok((identity, key_ring.seal_profile(identity, &json)?))
    }
}

pub(super) fn who(phone: &E164) -> Vec<u8> {
    key_ring::who_or_nobody(&Caller::Number(phone.clone()))
}

/// Keeps a profile, unless a later answer is kept already.
pub(super) fn save(
    connection: &Connection,
    key_ring: &KeyRing,
    stored: &StoredProfile,
    now: i64,
) -> rusqlite::Result<()> {
    let (identity, sealed) = ProfileIdentity::of(stored)
        .seal(key_ring)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let profile = stored.profile.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO profiles (identity_hash, personal, score, tier, known, fetched_at, changed_at, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
             ON CONFLICT (identity_hash) DO UPDATE SET
                 personal = excluded.personal, score = excluded.score, tier = excluded.tier,
                 known = excluded.known, fetched_at = excluded.fetched_at, changed_at = excluded.changed_at,
                 updated_at = excluded.updated_at
             WHERE excluded.fetched_at >= profiles.fetched_at",
        )?
        .execute(params![
            identity.0,
            sealed,
            profile.and_then(|profile| profile.score).map(LeadScore::value),
            profile.and_then(|profile| profile.tier.as_deref()),
            profile.is_some(),
            stored.fetched_at.as_millisecond(),
            stored.changed_at.map(Timestamp::as_millisecond),
            now,
        ])?;
    Ok(())
}

/// Deletes what is kept of a person; gives how many profiles there were.
pub(super) fn delete(
    connection: &Connection,
    key_ring: &KeyRing,
    who: &[u8],
) -> rusqlite::Result<usize> {
    let mut delete = connection.prepare_cached("DELETE FROM profiles WHERE identity_hash = ?1")?;
    let mut count = 0;
    for identity in key_ring.identities_of(who) {
        count += delete.execute([identity.0])?;
    }
    Ok(count)
}

/// Whether a profile is kept of a person.
pub(super) fn has(
    connection: &Connection,
    key_ring: &KeyRing,
    who: &[u8],
) -> rusqlite::Result<bool> {
    let mut find = connection.prepare_cached("SELECT 1 FROM profiles WHERE identity_hash = ?1")?;
    for identity in key_ring.identities_of(who) {
        if find.exists([identity.0])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The profiles, newest answer first.
pub(super) fn newest(reader: &RowReader<'_>, limit: u32) -> Result<Vec<StoredProfile>, StoreError> {
    let which = "ORDER BY fetched_at DESC, id DESC LIMIT ?1";
    reader.rows("profiles", which, [limit], |row| {
        read(reader.key_ring(), row)
    })
}

pub(super) fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM profiles", [], |row| row.get(0))
}

fn read(key_ring: &KeyRing, row: &Columns<'_, '_>) -> Result<StoredProfile, StoreError> {
    let identity = Identity(row.get("identity_hash")?);
    let sealed: Vec<u8> = row.get("personal")?;
    let opened = key_ring.open_profile(identity, &sealed).ok();
    let opened = opened.and_then(|json| serde_json::from_slice(&json).ok());
    let ProfileIdentity {
        phone,
        external_id,
        attributes,
    } = row.valid(opened)?;
    let score = row.optional("score", LeadScore::new)?;
    let profile = match (row.get("known")?, score, row.get("tier")?) {
        (true, score, tier) => Some(Some(Profile {
            score,
            tier,
            attributes,
        })),
        (false, None, None) => Some(None),
        (false, _, _) => None,
    };
    Ok(StoredProfile {
        phone,
        external_id,
        profile: row.valid(profile)?,
        fetched_at: row.time("fetched_at")?,
        changed_at: row.optional("changed_at", column::time)?,
    })
}

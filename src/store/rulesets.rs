//! The rule sets that came into force, as their records in the log say.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::Serialize;
use utoipa::ToSchema;

use super::audit_records::RARE;
use super::error::StoreError;
use super::pages::{Part, Rows};
use crate::audit::{Event, Kind};
use crate::routing::{Ruleset, RulesetVersion};

/// Records that are looked at: there is one for each start, each day and each rule set that came into force.
const SCAN: i64 = 2_000;

/// A time during which one rule set was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RulesetPeriod)]
pub struct RulesetPeriod {
    /// Names the content of the rule set.
    #[schema(example = "3f6c0a91b2de")]
    pub version: String,
    /// When it came into force, or the oldest record of it that is kept.
    pub first_at: Timestamp,
    /// When another one took its place; null where none did.
    pub last_at: Option<Timestamp>,
    /// Who brought it into force: `start`, `SIGHUP`, `key ` and the name of an API key, `user ` and the name of a user; null where the record of
    /// that is pruned.
    pub by: Option<String>,
    /// How many rules it has.
    pub rules: u32,
    /// The place of its first record in the log.
    #[serde(skip)]
    pub record: i64,
}

/// All of them, newest first, and whether these are all that the log tells of.
pub(super) fn periods(connection: &Connection) -> rusqlite::Result<(Vec<RulesetPeriod>, bool)> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, created_at, coalesce(json_extract(detail, '$.version'), ''), json_extract(detail, '$.by'),
             coalesce(json_array_length(detail, '$.rules'), 0)
         FROM audit_records INDEXED BY idx_audit_records_kind_id_created_at
         WHERE {RARE} AND kind = ?1 ORDER BY id DESC LIMIT ?2"
    ))?;
    let kind = Kind::RulesetLoaded.as_str();
    let mut rows = statement.query(params![kind, SCAN])?;
    let mut periods: Vec<RulesetPeriod> = Vec::new();
    let mut n_records = 0;
    while let Some(row) = rows.next()? {
        n_records += 1;
        let made_at = Timestamp::from_millisecond(row.get(1)?).unwrap_or_default();
        let mut period = RulesetPeriod {
            record: row.get(0)?,
            version: row.get(2)?,
            first_at: made_at,
            last_at: None,
            by: row.get(3)?,
            rules: row.get(4)?,
        };
        if let Some(later) = periods.last_mut() {
            if later.version == period.version {
                period.last_at = later.last_at;
                *later = period;
                continue;
            }
            period.last_at = Some(later.first_at);
        }
        periods.push(period);
    }
    Ok((periods, n_records < SCAN))
}

/// A page of them; the place of one is that of its first record.
pub(super) fn page(
    connection: &Connection,
    part: Part<i64>,
) -> rusqlite::Result<Rows<RulesetPeriod, i64>> {
    let (periods, total_is_exact) = periods(connection)?;
    let total = i64::try_from(periods.len()).unwrap_or(i64::MAX);
    let as_size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    let older = periods
        .into_iter()
        .filter(|period| part.after.is_none_or(|after| period.record < after));
    let mut rows: Vec<_> = older.skip(as_size(part.skip)).collect();
    let has_more = rows.len() > as_size(part.size);
    rows.truncate(as_size(part.size));
    Ok(Rows {
        next: rows.last().map(|last| last.record).filter(|_| has_more),
        rows,
        total,
        total_is_exact,
    })
}

/// The rule set of a version, from the last record at or before `id` that holds it.
pub(super) fn find(
    connection: &Connection,
    id: i64,
    version: &RulesetVersion,
) -> Result<Option<Ruleset>, StoreError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT detail FROM audit_records INDEXED BY idx_audit_records_kind_id_created_at
         WHERE {RARE} AND kind = ?1 AND id <= ?2 ORDER BY id DESC"
    ))?;
    let kind = Kind::RulesetLoaded;
    let mut rows = statement.query(params![kind.as_str(), id])?;
    while let Some(row) = rows.next()? {
        let detail = row.get_ref(0)?.as_str().unwrap_or_default();
        // Looked at as text first: the records of other versions need not be read.
        if detail.contains(version.as_str())
            && let Ok(Event::RulesetLoaded(loaded)) = Event::from_detail(kind, detail)
            && loaded.ruleset.version() == *version
        {
            return Ok(Some(loaded.ruleset));
        }
    }
    Ok(None)
}

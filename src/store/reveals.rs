//! Who saw numbers of callers in full: summed up from the audit log, by person.

use jiff::Timestamp;
use rusqlite::params;
use serde::Serialize;
use utoipa::ToSchema;

use super::audit_records::RARE;
use super::column;
use super::error::StoreError;
use super::readers::RowReader;

/// How often somebody saw numbers in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reveals {
    /// A key, a person with their subject at the provider, or a user of the machine.
    #[schema(example = "ops")]
    pub by: String,
    pub times: u32,
    /// Calls, entries of lists and customers whose numbers were shown; those that were exported are not counted.
    pub numbers: u32,
    /// How many of the times were exports.
    pub exports: u32,
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
}

/// Of at most 1,000 people; who looked last comes first. Times are in milliseconds since the Unix epoch.
pub(super) fn between(
    reader: &RowReader<'_>,
    from: i64,
    to: i64,
) -> Result<Vec<Reveals>, StoreError> {
    let sql = format!(
        "SELECT coalesce(detail ->> '$.by', 'user ' || (detail ->> '$.user')) AS person, count(*),
             sum(CASE kind WHEN 'accessed' THEN coalesce(detail ->> '$.calls', 1) ELSE 0 END),
             sum(kind = 'exported'), min(created_at), max(created_at)
         FROM audit_records
         WHERE {RARE} AND kind IN ('accessed', 'exported') AND created_at >= ?1 AND created_at < ?2
             AND (kind = 'exported' OR detail ->> '$.is' = 'numbers_revealed' OR detail ->> '$.revealed')
         GROUP BY person ORDER BY max(id) DESC LIMIT 1000"
    );
    let mut statement = reader.prepare_cached(&sql)?;
    let people = statement.query_map(params![from, to], |row| {
        Ok(Reveals {
            by: row.get(0)?,
            times: row.get(1)?,
            numbers: row.get(2)?,
            exports: row.get(3)?,
            first_at: column::time(row.get(4)?),
            last_at: column::time(row.get(5)?),
        })
    })?;
    Ok(people.collect::<rusqlite::Result<_>>()?)
}

//! What the walk does not see: rows that it did not come by, indexes that do not lead to all of them, and the rows beside the log.

use rusqlite::Connection;

use super::evidence::{Against, Evidence};
use super::open;
use crate::audit::FindingKind;
use crate::store::{key_check, rows};

/// Rows beside the log that are told one by one.
const ALTERED: usize = 100;

/// Looks at the file once more, after a walk over all rows up to `end` that came by so many; `None` where it could not read all.
pub(super) fn examine(
    against: &mut Against,
    walked: Option<u64>,
    end: i64,
    evidence: &mut Evidence,
) {
    let looked = open::open_file(&against.database)
        .map_err(|error| error.to_string())
        .and_then(|connection| {
            count(&connection, walked, end, evidence)
                .and_then(|()| check_indexes(&connection, evidence))
                .and_then(|()| check_rows(&connection, against, evidence))
                .map_err(|error| error.to_string())
        });
    // Where the walk could not read all, that is known already.
    if let (Err(why), Some(_)) = (looked, walked) {
        let what = format!("what surrounds the records cannot be read: {why}");
        evidence.wrong(FindingKind::IndexDamaged, what);
    }
}

/// Whether the walk came by every row.
fn count(
    connection: &Connection,
    walked: Option<u64>,
    end: i64,
    evidence: &mut Evidence,
) -> rusqlite::Result<()> {
    let (count, behind, pruning): (i64, i64, i64) = connection.query_row(
        "SELECT (SELECT coalesce(sum(1), 0) FROM audit_records NOT INDEXED),
                (SELECT count(*) FROM audit_records NOT INDEXED WHERE id > ?1),
                (SELECT through_id FROM prune_gate)",
        [end],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    // Where records were pruned meanwhile, there is nothing to compare.
    let Some(walked) = walked.filter(|_| pruning == evidence.gate) else {
        return Ok(());
    };
    let counted = (count - behind).unsigned_abs();
    if counted != walked {
        let kind = if counted > walked {
            FindingKind::Inserted
        } else {
            FindingKind::Missing
        };
        let what = format!("{walked} records were found in their order, and there are {counted}");
        evidence.wrong(kind, what);
    }
    Ok(())
}

fn check_indexes(connection: &Connection, evidence: &mut Evidence) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA integrity_check(audit_records)")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line.contains(" index ") {
            let what = format!(
                "an index does not lead to all records, so that some are shown nowhere: {line}"
            );
            evidence.wrong(FindingKind::IndexDamaged, what);
            return Ok(());
        }
    }
    Ok(())
}

fn check_rows(
    connection: &Connection,
    against: &mut Against,
    evidence: &mut Evidence,
) -> rusqlite::Result<()> {
    let Some(installation) = &against.installation else {
        let what = "rows beside the log were not checked: the installation's secret is not at hand";
        evidence.remarks.push(what.to_owned());
        return Ok(());
    };
    let key_ring = &installation.key_ring;
    if key_check::is_of_other(connection, key_ring)? {
        let what = "the database is sealed under another secret than the one at hand: its rows beside the log were not checked";
        if installation.is_in_place {
            evidence.wrong(FindingKind::ProjectionAltered, what);
        } else {
            evidence.remarks.push(what.to_owned());
        }
        against.installation = None;
        return Ok(());
    }
    for what in rows::altered(connection, key_ring, ALTERED)? {
        evidence.wrong(FindingKind::ProjectionAltered, what);
    }
    let now = installation.now.as_millisecond();
    let ahead: i64 = connection.query_row(
        "SELECT count(*) FROM sessions WHERE created_at > ?1 OR updated_at > ?1",
        [now],
        |row| row.get(0),
    )?;
    if ahead > 0 {
        let what = format!("{ahead} sessions begin in the future");
        evidence.wrong(FindingKind::ProjectionAltered, what);
    }
    Ok(())
}

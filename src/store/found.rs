//! The rows of `audit_records` as they lie in the file, whatever they hold, and the walk along them.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use crate::audit::{
    ChainLink, ChainVerifier, CompactRange, FoundRow, LogFinding, RowContent, Start, Walked,
};

/// How far the log was read back and holds: the last record, and the tree over all up to there.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) link: ChainLink,
    pub(super) range: CompactRange,
}

impl Walk {
    /// Before the first record.
    pub(super) fn new() -> Self {
        Self {
            link: ChainLink::GENESIS,
            range: CompactRange::default(),
        }
    }

    /// Goes on over the next records, at most `limit` and as long as `wants` says so. Gives how many there were, or what is wrong with them.
    pub(super) fn page(
        &mut self,
        connection: &Connection,
        limit: u32,
        wants: impl FnMut(&FoundRow<'_>) -> bool,
    ) -> rusqlite::Result<Result<u32, LogFinding>> {
        let start = Start {
            place: self.link.id,
            hash: Some(self.link.hash),
            tree: Some(self.range.clone()),
        };
        let walked = walk(connection, start, limit, wants)?;
        let count = u32::try_from(walked.rows).unwrap_or(limit);
        Ok(walked.end().map(|(link, range)| {
            *self = Self { link, range };
            count
        }))
    }
}

/// Walks over the records behind `start`, at most `limit`, as long as `wants` says so and nothing is wrong.
pub(super) fn walk(
    connection: &Connection,
    start: Start,
    limit: u32,
    mut wants: impl FnMut(&FoundRow<'_>) -> bool,
) -> rusqlite::Result<Walked> {
    let first = start.place.saturating_add(1);
    let mut verifier = ChainVerifier::new(start, Vec::new(), &[]);
    each_while(connection, first, limit, |row| {
        let is_wanted = wants(row);
        if is_wanted {
            verifier.next_row(row);
        }
        is_wanted && verifier.is_sound()
    })?;
    Ok(verifier.finish())
}

/// The first row from number `first` on, as `read` sees it.
pub(super) fn first<T>(
    connection: &Connection,
    first: i64,
    mut read: impl FnMut(&FoundRow<'_>) -> T,
) -> rusqlite::Result<Option<T>> {
    let mut found = None;
    each_while(connection, first, 1, |row| {
        found = Some(read(row));
        false
    })?;
    Ok(found)
}

/// Shows the rows from number `first` on, in order, at most `limit` and as long as `show` wants more.
pub(super) fn each_while(
    connection: &Connection,
    first: i64,
    limit: u32,
    mut show: impl FnMut(&FoundRow<'_>) -> bool,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT id, created_at, kind, call_sid, personal, detail, previous_hash, hash, call_id
         FROM audit_records WHERE id >= ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut rows = statement.query(params![first, limit])?;
    while let Some(row) = rows.next()?
        && show(&found(row)?)
    {}
    Ok(())
}

fn found<'r>(row: &'r Row<'_>) -> rusqlite::Result<FoundRow<'r>> {
    let mut is_typed = true;
    let mut bytes = |column: usize, is_text: bool| -> rusqlite::Result<Option<&'r [u8]>> {
        Ok(match (row.get_ref(column)?, is_text) {
            (ValueRef::Text(bytes), true) | (ValueRef::Blob(bytes), false) => Some(bytes),
            (ValueRef::Null, _) => None,
            (ValueRef::Text(bytes), false) | (ValueRef::Blob(bytes), true) => {
                is_typed = false;
                Some(bytes)
            }
            (ValueRef::Integer(_) | ValueRef::Real(_), _) => {
                is_typed = false;
                None
            }
        })
    };
    let kind = bytes(2, true)?;
    let call_sid = bytes(3, true)?;
    let personal = bytes(4, false)?;
    let detail = bytes(5, true)?;
    let previous_hash = bytes(6, false)?;
    let hash = bytes(7, false)?;
    let created_at = row.get_ref(1)?.as_i64().ok();
    let call_id = row.get_ref(8)?.as_i64_or_null();
    let content = RowContent {
        id: row.get(0)?,
        created_at: created_at.unwrap_or_default(),
        kind: kind.unwrap_or_default(),
        call_id: call_id.as_ref().ok().copied().flatten(),
        call_sid,
        personal,
        detail: detail.unwrap_or_default(),
    };
    is_typed &= created_at.is_some() && call_id.is_ok() && kind.is_some() && detail.is_some();
    Ok(FoundRow {
        content,
        previous_hash: previous_hash.unwrap_or_default(),
        hash: hash.unwrap_or_default(),
        is_typed,
    })
}

//! Rows in pages: read in one place, looked at in another.

use rusqlite::Connection;

use crate::audit::OwnedRow;
use crate::store::checkpoints::{self, PruningCheckpoint};
use crate::store::found;

const PAGE: u32 = 4_096;
/// Bytes of a page, and one row more.
const PAGE_BYTES: usize = 16 * 1024 * 1024;
/// Attempts to find rows behind some that cannot be read.
const LEAPS: u32 = 62;

#[derive(Debug)]
pub(super) struct Pages {
    connection: Connection,
    /// The number from which on rows are to be read; `None` where all were.
    next: Option<i64>,
    /// The last row to read.
    end: i64,
}

#[derive(Debug, Default)]
pub(super) struct RowBatch {
    pub(super) rows: Vec<OwnedRow>,
    /// What was pruned when the page was read.
    pub(super) pruning: Option<PruningCheckpoint>,
    pub(super) unreadable: Option<UnreadableRows>,
}

/// Rows that cannot be read.
#[derive(Debug)]
pub(super) struct UnreadableRows {
    /// The next row that can be.
    pub(super) before: Option<i64>,
    pub(super) why: String,
}

impl Pages {
    /// Reads from the lowest number that there can be, so that nothing stands before it.
    pub(super) fn new(connection: Connection, end: i64) -> Self {
        Self {
            connection,
            next: Some(i64::MIN),
            end,
        }
    }

    /// The last row to read.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// Whether there may be another page.
    pub(super) fn has_more(&self) -> bool {
        self.next.is_some()
    }

    /// Reads the next page.
    pub(super) fn read(&mut self) -> RowBatch {
        let mut batch = RowBatch::default();
        let Some(first) = self.next.take() else {
            return batch;
        };
        let end = self.end;
        let last = match read(&self.connection, first, end, &mut batch) {
            Ok(last) => last,
            Err(error) => {
                let last = batch.rows.last().map(OwnedRow::id);
                let next = self.next_readable(last.unwrap_or(first));
                batch.unreadable = Some(UnreadableRows {
                    before: next,
                    why: error.to_string(),
                });
                next.map(|next| next.saturating_sub(1))
            }
        };
        self.next = last
            .and_then(|last| last.checked_add(1))
            .filter(|next| *next <= end);
        batch
    }

    /// The first row after `last` that can be read, found in leaps of growing width.
    fn next_readable(&self, last: i64) -> Option<i64> {
        let from = last.max(0);
        for leap in 1..LEAPS {
            let first = from.checked_add(1_i64.checked_shl(leap)?)?.checked_add(1)?;
            if first > self.end {
                return None;
            }
            let next = found::first(&self.connection, first, |row| row.content.id);
            if let Ok(Some(next)) = next {
                return Some(next);
            }
        }
        None
    }
}

/// One page in a transaction of its own; the number of the last row, `None` where there was none.
fn read(
    connection: &Connection,
    first: i64,
    end: i64,
    batch: &mut RowBatch,
) -> rusqlite::Result<Option<i64>> {
    let transaction = connection.unchecked_transaction()?;
    batch.pruning = Some(checkpoints::pruning(&transaction)?);
    let mut bytes = 0;
    found::each_while(&transaction, first, PAGE, |row| {
        let is_wanted = row.content.id <= end;
        if is_wanted {
            let row = OwnedRow::of(row);
            bytes += row.size();
            batch.rows.push(row);
        }
        is_wanted && bytes < PAGE_BYTES
    })?;
    Ok(batch.rows.last().map(OwnedRow::id))
}

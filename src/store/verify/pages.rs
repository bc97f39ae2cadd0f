//! Rows in pages: read in one place, looked at in another.

use rusqlite::Connection;

use crate::audit::RowBuffer;
use crate::store::checkpoints::{self, PruningCheckpoint};
use crate::store::found;

const PAGE: u32 = 4_096;
/// Bytes of a page, and one row more.
const PAGE_BYTES: usize = 16 * 1024 * 1024;
const SHORTEST_LEAP: i64 = 2;

/// All rows up to the last one, page by page.
#[derive(Debug)]
pub(super) struct Pages {
    connection: Connection,
    /// The number from which on rows are to be read; `None` where all were.
    next: Option<i64>,
    /// The last row to read.
    end: i64,
    /// How many numbers are passed over where rows cannot be read: twice as many each time.
    leap: i64,
}

#[derive(Debug, Default)]
pub(super) struct RowBatch {
    pub(super) rows: RowBuffer,
    /// What was pruned when the page was read.
    pub(super) pruning: Option<PruningCheckpoint>,
    /// Why there are rows behind these that cannot be read.
    pub(super) unreadable: Option<String>,
}

impl Pages {
    /// Reads from the lowest number that there can be, so that nothing stands before it.
    pub(super) fn new(connection: Connection, end: i64) -> Self {
        Self {
            connection,
            next: Some(i64::MIN),
            end,
            leap: SHORTEST_LEAP,
        }
    }

    /// The last row to read.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// One page in a transaction of its own.
    fn read(&self, first: i64, batch: &mut RowBatch) -> rusqlite::Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        batch.pruning = Some(checkpoints::pruning(&transaction)?);
        found::each_while(&transaction, first, PAGE, |row| {
            let is_wanted = row.content.id <= self.end;
            if is_wanted {
                batch.rows.push(row);
            }
            is_wanted && batch.rows.size() < PAGE_BYTES
        })
    }
}

impl Iterator for Pages {
    type Item = RowBatch;

    fn next(&mut self) -> Option<RowBatch> {
        let first = self.next.take()?;
        let mut batch = RowBatch::default();
        let read = self.read(first, &mut batch);
        let last = batch.rows.last_id();
        if let Err(error) = read {
            self.next = last.unwrap_or(first).max(0).checked_add(self.leap);
            self.leap = self.leap.saturating_mul(2);
            batch.unreadable = Some(error.to_string());
        } else {
            self.next = last.and_then(|last| last.checked_add(1));
            self.leap = SHORTEST_LEAP;
        }
        self.next = self.next.filter(|next| *next <= self.end);
        Some(batch)
    }
}

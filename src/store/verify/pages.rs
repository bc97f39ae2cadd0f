//! Rows in pages: read in one place, looked at in another, without an allocation per row.

use rusqlite::Connection;

use crate::audit::{FoundRow, RowContent};
use crate::store::checkpoints::{self, StoredCut};
use crate::store::found;

/// Rows of a page.
const PAGE: u32 = 4_096;
/// Attempts to find rows behind some that cannot be read.
const LEAPS: u32 = 62;

/// Reads page after page.
#[derive(Debug)]
pub(super) struct Pages {
    connection: Connection,
    /// The number of the last row that was read.
    last: i64,
    /// The last row to read.
    end: i64,
}

/// A page.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    rows: Vec<Row>,
    /// What was pruned when the page was read.
    pub(super) cut: Option<StoredCut>,
    /// What stopped the page.
    pub(super) trouble: Option<Trouble>,
}

/// Rows that cannot be read.
#[derive(Debug)]
pub(super) struct Trouble {
    /// The next row that can be.
    pub(super) before: Option<i64>,
    pub(super) why: String,
}

#[derive(Debug)]
struct Row {
    id: i64,
    created_at: i64,
    is_typed: bool,
    /// Where its bytes begin.
    start: usize,
    kind: usize,
    call_sid: Option<usize>,
    personal: Option<usize>,
    detail: usize,
    previous_hash: usize,
    hash: usize,
}

impl Pages {
    pub(super) fn new(connection: Connection, after: i64, end: i64) -> Self {
        Self {
            connection,
            last: after,
            end,
        }
    }

    /// Reads the next page; whether there may be another.
    pub(super) fn fill(&mut self, batch: &mut Batch) -> bool {
        batch.clear();
        let end = self.end;
        let after = self.last;
        match read(&self.connection, after, end, batch) {
            Ok(last) => {
                self.last = last.unwrap_or(end);
                self.last < end && last.is_some()
            }
            Err(error) => {
                let last = batch.rows.last().map_or(after, |row| row.id);
                let next = self.next_readable(last);
                batch.trouble = Some(Trouble {
                    before: next,
                    why: error.to_string(),
                });
                match next {
                    Some(next) => {
                        self.last = next - 1;
                        true
                    }
                    None => false,
                }
            }
        }
    }

    /// The first row after `last` that can be read, found in leaps of growing width.
    fn next_readable(&self, last: i64) -> Option<i64> {
        let from = last.max(0);
        for leap in 1..LEAPS {
            let after = from.checked_add(1_i64.checked_shl(leap)?)?;
            if after >= self.end {
                return None;
            }
            let mut next = None;
            let found = found::each(&self.connection, after, 1, |row| {
                next = Some(row.content.id);
            });
            if found.is_ok()
                && let Some(next) = next
            {
                return Some(next);
            }
        }
        None
    }
}

/// One page in a transaction of its own; the number of the last row, `None` where there was none.
fn read(
    connection: &Connection,
    after: i64,
    end: i64,
    batch: &mut Batch,
) -> rusqlite::Result<Option<i64>> {
    let transaction = connection.unchecked_transaction()?;
    batch.cut = Some(checkpoints::cut(&transaction)?);
    found::each(&transaction, after, PAGE, |row| {
        if row.content.id <= end {
            batch.push(row);
        }
    })?;
    Ok(batch.rows.last().map(|row| row.id))
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
        self.cut = None;
        self.trouble = None;
    }

    fn push(&mut self, row: &FoundRow<'_>) {
        let start = self.bytes.len();
        let content = &row.content;
        let mut take = |bytes: &[u8]| {
            self.bytes.extend_from_slice(bytes);
            bytes.len()
        };
        let kind = take(content.kind);
        let call_sid = content.call_sid.map(&mut take);
        let personal = content.personal.map(&mut take);
        let detail = take(content.detail);
        let previous_hash = take(row.previous_hash);
        let hash = take(row.hash);
        self.rows.push(Row {
            id: content.id,
            created_at: content.created_at,
            is_typed: row.is_typed,
            start,
            kind,
            call_sid,
            personal,
            detail,
            previous_hash,
            hash,
        });
    }

    /// The rows, as they were found.
    pub(super) fn rows(&self) -> impl Iterator<Item = FoundRow<'_>> {
        self.rows.iter().map(|row| {
            let mut rest = self.bytes.get(row.start..).unwrap_or_default();
            let mut take = |length: usize| {
                let (bytes, after) = rest.split_at_checked(length).unwrap_or_default();
                rest = after;
                bytes
            };
            let kind = take(row.kind);
            let call_sid = row.call_sid.map(&mut take);
            let personal = row.personal.map(&mut take);
            let detail = take(row.detail);
            FoundRow {
                content: RowContent {
                    id: row.id,
                    created_at: row.created_at,
                    kind,
                    call_sid,
                    personal,
                    detail,
                },
                previous_hash: take(row.previous_hash),
                hash: take(row.hash),
                is_typed: row.is_typed,
            }
        })
    }
}

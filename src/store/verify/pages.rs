//! Rows in pages: read in one place, looked at in another, without an allocation per row.

use rusqlite::Connection;

use crate::audit::{FoundRow, RowContent};
use crate::store::checkpoints::{self, StoredCut};
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
pub(super) struct Batch {
    bytes: Vec<u8>,
    rows: Vec<Row>,
    /// What was pruned when the page was read.
    pub(super) cut: Option<StoredCut>,
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
    start: usize,
    kind: usize,
    call_sid: Option<usize>,
    personal: Option<usize>,
    detail: usize,
    previous_hash: usize,
    hash: usize,
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

    /// Reads the next page; whether there may be another.
    pub(super) fn fill(&mut self, batch: &mut Batch) -> bool {
        batch.clear();
        let Some(first) = self.next.take() else {
            return false;
        };
        let end = self.end;
        let last = match read(&self.connection, first, end, batch) {
            Ok(last) => last,
            Err(error) => {
                let last = batch.rows.last().map(|row| row.id);
                let next = self.next_readable(last.unwrap_or(first));
                batch.trouble = Some(Trouble {
                    before: next,
                    why: error.to_string(),
                });
                next.map(|next| next.saturating_sub(1))
            }
        };
        self.next = last
            .and_then(|last| last.checked_add(1))
            .filter(|next| *next <= end);
        self.next.is_some()
    }

    /// The first row after `last` that can be read, found in leaps of growing width.
    fn next_readable(&self, last: i64) -> Option<i64> {
        let from = last.max(0);
        for leap in 1..LEAPS {
            let first = from.checked_add(1_i64.checked_shl(leap)?)?.checked_add(1)?;
            if first > self.end {
                return None;
            }
            let mut next = None;
            let found = found::each(&self.connection, first, 1, |row| {
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
    first: i64,
    end: i64,
    batch: &mut Batch,
) -> rusqlite::Result<Option<i64>> {
    let transaction = connection.unchecked_transaction()?;
    batch.cut = Some(checkpoints::cut(&transaction)?);
    found::each_while(&transaction, first, PAGE, |row| {
        let is_wanted = row.content.id <= end;
        if is_wanted {
            batch.push(row);
        }
        is_wanted && batch.bytes.len() < PAGE_BYTES
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

//! A row as it lies in a file that anybody may have written to.

use super::{Hash, RowContent};

/// A row of the log before anything of it is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRow<'a> {
    pub content: RowContent<'a>,
    /// The hash of the record before it, as stored.
    pub previous_hash: &'a [u8],
    /// Its own hash, as stored.
    pub hash: &'a [u8],
    /// False where a column holds another type than the log writes: then it cannot be what was written.
    pub is_typed: bool,
}

impl FoundRow<'_> {
    /// The hash of the record before it and its own, if its own is that of its content after the other.
    pub fn holds(&self) -> Option<(Hash, Hash)> {
        let previous: Hash = self.previous_hash.try_into().ok()?;
        let hash = self.content.hash(&previous);
        (self.is_typed && self.hash == hash).then_some((previous, hash))
    }
}

/// Rows that are kept for later, in one piece of memory.
#[derive(Debug, Default)]
pub struct RowBuffer {
    rows: Vec<BufferedRow>,
    /// What they hold, one after another.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct BufferedRow {
    id: i64,
    created_at: i64,
    call_id: Option<i64>,
    is_typed: bool,
    lengths: [Option<usize>; 6],
}

impl RowBuffer {
    pub fn push(&mut self, row: &FoundRow<'_>) {
        let content = &row.content;
        let parts = [
            Some(content.kind),
            content.call_sid,
            content.personal,
            Some(content.detail),
            Some(row.previous_hash),
            Some(row.hash),
        ];
        for part in parts.into_iter().flatten() {
            self.bytes.extend_from_slice(part);
        }
        self.rows.push(BufferedRow {
            id: content.id,
            created_at: content.created_at,
            call_id: content.call_id,
            is_typed: row.is_typed,
            lengths: parts.map(|part| part.map(<[u8]>::len)),
        });
    }

    /// The number of the last row.
    pub fn last_id(&self) -> Option<i64> {
        self.rows.last().map(|row| row.id)
    }

    /// How many bytes the rows hold.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The rows, as they were found.
    pub fn rows(&self) -> impl Iterator<Item = FoundRow<'_>> {
        let mut rest = self.bytes.as_slice();
        self.rows.iter().map(move |row| {
            let [kind, call_sid, personal, detail, previous_hash, hash] =
                row.lengths.map(|length| {
                    let (part, after) = rest.split_at_checked(length?)?;
                    rest = after;
                    Some(part)
                });
            FoundRow {
                content: RowContent {
                    id: row.id,
                    created_at: row.created_at,
                    kind: kind.unwrap_or_default(),
                    call_id: row.call_id,
                    call_sid,
                    personal,
                    detail: detail.unwrap_or_default(),
                },
                previous_hash: previous_hash.unwrap_or_default(),
                hash: hash.unwrap_or_default(),
                is_typed: row.is_typed,
            }
        })
    }
}

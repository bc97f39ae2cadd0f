//! A row as it lies in a file that anybody may have written to.

use super::{ChainLink, Hash, RowContent};

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
    /// The link that it makes, if it is the record after `link`.
    pub fn follows(&self, link: &ChainLink) -> Option<ChainLink> {
        self.follows_as(link, self.content.id)
    }

    /// The same, as if it stood in place `id`.
    pub fn follows_as(&self, link: &ChainLink, id: i64) -> Option<ChainLink> {
        let fits = self.is_typed && id == link.id + 1 && self.previous_hash == link.hash;
        let hash = fits.then(|| RowContent { id, ..self.content }.hash(&link.hash))?;
        (self.hash == hash).then_some(ChainLink { id, hash })
    }

    /// The hash of the record before it, if its own hash is that of its content after that one.
    pub fn agrees_with_itself(&self) -> Option<(Hash, Hash)> {
        self.agrees_as(self.content.id)
    }

    /// The same, as if it stood in place `id`.
    pub fn agrees_as(&self, id: i64) -> Option<(Hash, Hash)> {
        let previous: Hash = self.previous_hash.try_into().ok()?;
        let hash = RowContent { id, ..self.content }.hash(&previous);
        (self.is_typed && self.hash == hash).then_some((previous, hash))
    }

    /// Whether only the hash of the record before it, as stored, keeps it from being the record after `link`.
    pub fn would_follow(&self, link: &ChainLink, id: i64) -> bool {
        let content = RowContent { id, ..self.content };
        self.is_typed && id == link.id + 1 && self.hash == content.hash(&link.hash)
    }
}

/// A row that is kept for later.
#[derive(Debug)]
pub struct OwnedRow {
    id: i64,
    created_at: i64,
    is_typed: bool,
    /// What it holds, one after another.
    bytes: Vec<u8>,
    lengths: [Option<usize>; 6],
}

impl OwnedRow {
    pub fn of(row: &FoundRow<'_>) -> Self {
        let content = &row.content;
        let parts = [
            Some(content.kind),
            content.call_sid,
            content.personal,
            Some(content.detail),
            Some(row.previous_hash),
            Some(row.hash),
        ];
        Self {
            id: content.id,
            created_at: content.created_at,
            is_typed: row.is_typed,
            bytes: parts.map(Option::unwrap_or_default).concat(),
            lengths: parts.map(|part| part.map(<[u8]>::len)),
        }
    }

    pub fn id(&self) -> i64 {
        self.id
    }

    /// How many bytes it holds.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The row, as it was found.
    pub fn row(&self) -> FoundRow<'_> {
        let mut rest = self.bytes.as_slice();
        let [kind, call_sid, personal, detail, previous_hash, hash] = self.lengths.map(|length| {
            let (part, after) = rest.split_at_checked(length?)?;
            rest = after;
            Some(part)
        });
        FoundRow {
            content: RowContent {
                id: self.id,
                created_at: self.created_at,
                kind: kind.unwrap_or_default(),
                call_sid,
                personal,
                detail: detail.unwrap_or_default(),
            },
            previous_hash: previous_hash.unwrap_or_default(),
            hash: hash.unwrap_or_default(),
            is_typed: self.is_typed,
        }
    }
}

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

//! The hash chain over the records.
//!
//! A record's hash is the SHA-256 over a canonical serialisation of its content and the hash of the record before it.
//! The serialisation is a domain tag with a version, then each field as type byte, big-endian `u32` length and bytes;
//! a missing field has a type byte of its own, so that NULL is not the empty text.

use sha2::{Digest, Sha256};

pub type Hash = [u8; 32];

/// Names what is hashed, and the version of the serialisation.
const DOMAIN: &[u8] = b"switchboard/audit-record/v2\n";

const TYPE_NULL: u8 = 0;
const TYPE_INTEGER: u8 = 1;
const TYPE_TEXT: u8 = 2;
const TYPE_BYTES: u8 = 3;

/// The content of one record, as the exact bytes stored: in a file that anybody may have written to, they may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowContent<'a> {
    /// The record's place in the log, from 1, without gaps.
    pub id: i64,
    /// Milliseconds since the Unix epoch, UTC.
    pub created_at: i64,
    /// The stable name of its kind.
    pub kind: &'a [u8],
    /// The number of the call it belongs to, in the order in which calls arrived.
    pub call_id: Option<i64>,
    /// The call it belongs to.
    pub call_sid: Option<&'a [u8]>,
    /// What identifies a person.
    pub personal: Option<&'a [u8]>,
    /// Everything else: JSON.
    pub detail: &'a [u8],
}

impl RowContent<'_> {
    /// The hash of a record with this content after one of hash `previous`.
    pub fn hash(&self, previous: &Hash) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(DOMAIN);
        field(&mut hasher, TYPE_BYTES, previous);
        field(&mut hasher, TYPE_INTEGER, &self.id.to_be_bytes());
        field(&mut hasher, TYPE_INTEGER, &self.created_at.to_be_bytes());
        field(&mut hasher, TYPE_TEXT, self.kind);
        let call_id = self.call_id.map(i64::to_be_bytes);
        let call_id = call_id.as_ref().map(<[u8; 8]>::as_slice);
        optional(&mut hasher, TYPE_INTEGER, call_id);
        optional(&mut hasher, TYPE_TEXT, self.call_sid);
        optional(&mut hasher, TYPE_BYTES, self.personal);
        field(&mut hasher, TYPE_TEXT, self.detail);
        hasher.finalize().into()
    }
}

/// What ties a record to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainLink {
    /// The place of the record.
    pub id: i64,
    pub hash: Hash,
}

impl ChainLink {
    /// Before the first record: place 0, a hash of zeros.
    pub const GENESIS: Self = Self {
        id: 0,
        hash: [0; 32],
    };

    /// The link that `content` makes after this one. The caller sets `content.id` to `self.id + 1`.
    pub fn append(&self, content: &RowContent<'_>) -> Self {
        Self {
            id: content.id,
            hash: content.hash(&self.hash),
        }
    }
}

fn field(hasher: &mut Sha256, kind: u8, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    hasher.update([kind]);
    hasher.update(length.to_be_bytes());
    hasher.update(bytes);
}

fn optional(hasher: &mut Sha256, kind: u8, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => field(hasher, kind, bytes),
        None => field(hasher, TYPE_NULL, b""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: RowContent<'_> = RowContent {
        id: 1,
        created_at: 1_790_000_000_000,
        kind: b"call_decided",
        call_id: Some(7),
        call_sid: Some(b"CA1"),
        personal: None,
        detail: b"{}",
    };

    /// The hash that `docs/audit-format.md` gives for its example.
    #[test]
    fn the_serialisation_is_the_documented_one() {
        assert_eq!(
            hex::encode(ChainLink::GENESIS.append(&CONTENT).hash),
            "b9ce83f4930dee3ca24564f64d3d70e932a0dddecdbbbd25e9aa20bd4a99be94"
        );
    }

    #[test]
    fn every_field_and_the_record_before_change_the_hash() {
        let base = ChainLink::GENESIS.append(&CONTENT).hash;
        let variants = [
            RowContent { id: 2, ..CONTENT },
            RowContent {
                created_at: 1_790_000_000_001,
                ..CONTENT
            },
            RowContent {
                kind: b"call_answered",
                ..CONTENT
            },
            RowContent {
                call_id: None,
                ..CONTENT
            },
            RowContent {
                call_id: Some(8),
                ..CONTENT
            },
            RowContent {
                call_sid: None,
                ..CONTENT
            },
            RowContent {
                call_sid: Some(b""),
                ..CONTENT
            },
            RowContent {
                personal: Some(b""),
                ..CONTENT
            },
            RowContent {
                detail: b"{ }",
                ..CONTENT
            },
        ];
        for variant in variants {
            assert_ne!(
                ChainLink::GENESIS.append(&variant).hash,
                base,
                "{variant:?}"
            );
        }
        let other_past = ChainLink {
            id: 0,
            hash: [1; 32],
        };
        assert_ne!(other_past.append(&CONTENT).hash, base);
    }
}

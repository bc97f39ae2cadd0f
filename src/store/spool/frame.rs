//! One submission as it lies in the spool file.
//!
//! `magic · length of the sealed bytes · CRC-32 of the rest · records · number · sealed bytes`, integers big-endian, padded with zeros to
//! a multiple of 16 bytes. Whatever was cut short or changed does not read as a frame, and the next one is found behind it.

use super::seal::SpoolCipher;
use crate::store::key_ring::CipherError;

const MAGIC: &[u8; 4] = b"SPFR";
const HEAD: usize = 24;
/// Frames begin at multiples of this.
pub(super) const ALIGNMENT: usize = 16;

/// A frame of the file, still sealed.
pub(super) struct Frame<'f> {
    /// The number of the submission: rising from frame to frame.
    pub(super) number: i64,
    /// How many records it holds.
    pub(super) records: u32,
    sealed: &'f [u8],
    /// Bytes up to the next frame.
    pub(super) length: usize,
}

/// Appends a frame to `bytes`.
pub(super) fn write(
    bytes: &mut Vec<u8>,
    number: i64,
    records: u32,
    text: &[u8],
    seal: &SpoolCipher,
) -> Result<(), CipherError> {
    let sealed = seal.seal(&place(records, number), text)?;
    let length = u32::try_from(sealed.len()).map_err(|_| CipherError)?;
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&crc(records, number, &sealed).to_be_bytes());
    bytes.extend_from_slice(&place(records, number));
    bytes.extend_from_slice(&sealed);
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    Ok(())
}

/// The frame at the beginning of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Option<Frame<'_>> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let (records, rest) = rest.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let sealed = rest.get(..length)?;
    let (records, number) = (u32::from_be_bytes(*records), i64::from_be_bytes(*number));
    let is_whole = magic == MAGIC && u32::from_be_bytes(*sum) == crc(records, number, sealed);
    is_whole.then_some(Frame {
        number,
        records,
        sealed,
        length: (HEAD + length).next_multiple_of(ALIGNMENT),
    })
}

/// Whether a frame may begin with these bytes.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// How long the frame is that begins here, if one does.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.strip_prefix(MAGIC)?.first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    length
        .checked_add(HEAD)?
        .checked_next_multiple_of(ALIGNMENT)
}

impl Frame<'_> {
    pub(super) fn text(&self, seal: &SpoolCipher) -> Result<Vec<u8>, CipherError> {
        seal.unseal(&place(self.records, self.number), self.sealed)
    }
}

/// What a frame is bound to, besides its content.
fn place(records: u32, number: i64) -> [u8; 12] {
    let mut place = [0; 12];
    let (left, right) = place.split_at_mut(4);
    left.copy_from_slice(&records.to_be_bytes());
    right.copy_from_slice(&number.to_be_bytes());
    place
}

fn crc(records: u32, number: i64, sealed: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&place(records, number));
    hasher.update(sealed);
    hasher.finalize()
}

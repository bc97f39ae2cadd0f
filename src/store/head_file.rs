//! The second place for the head of the log: a small file beside the database, so that an older database put back is noticed.

use std::io;
use std::path::{Path, PathBuf};

use super::file;
use crate::audit::SignedTreeHead;
use crate::files;

/// More than any head is long.
const MAX_BYTES: u64 = 64 * 1024;

/// Where the head of the database at `database` is kept.
pub fn head_path(database: &Path) -> PathBuf {
    file::beside(database, ".head")
}

/// Reads a head: what this module wrote, or what `audit head --json` printed. `None` where there is no file.
pub fn read_head(path: &Path) -> io::Result<Option<SignedTreeHead>> {
    let Some(text) = files::read(path, MAX_BYTES)? else {
        return Ok(None);
    };
    let head = serde_json::from_slice(&text);
    head.map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes a head so that the file is whole at any time, also after a power cut.
pub(super) fn write_head(path: &Path, head: &SignedTreeHead) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(head)?;
    text.push(b'\n');
    files::replace(path, files::PRIVATE, &text)
}

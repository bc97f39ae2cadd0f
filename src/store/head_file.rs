//! The second place for the head of the log: a small file beside the database, so that an older database put back is noticed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::open;
use crate::audit::Head;

/// More than any head is long.
const MAX_BYTES: u64 = 64 * 1024;

/// Where the head of the database at `database` is kept.
pub fn head_path(database: &Path) -> PathBuf {
    open::beside(database, ".head")
}

/// Reads a head: what this module wrote, or what `audit head --json` printed. `None` where there is no file.
pub fn read_head(path: &Path) -> io::Result<Option<Head>> {
    match fs::metadata(path) {
        Ok(found) if found.len() > MAX_BYTES => return Err(io::ErrorKind::InvalidData.into()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let text = fs::read(path)?;
    let head = serde_json::from_slice(&text);
    head.map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes a head so that the file is whole at any time, also after a power cut.
pub(super) fn write_head(path: &Path, head: &Head) -> io::Result<()> {
    let unfinished = open::beside(path, ".new");
    let mut text = serde_json::to_vec_pretty(head)?;
    text.push(b'\n');
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(&text)?;
    file.sync_data()?;
    fs::rename(&unfinished, path)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

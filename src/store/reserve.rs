//! Room kept for the day on which the disk is full: a preallocated file that is given up then, and made again when there is room.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::files;

/// A disk with less room than this counts as full: a commit and a checkpoint hardly fit.
const FULL: u64 = 1024 * 1024;
/// No reserve takes more than this part of its file system.
const LARGEST_SHARE: u64 = 8;

/// The reserve file. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Reserve(Arc<ReserveState>);

#[derive(Debug)]
struct ReserveState {
    path: PathBuf,
    /// What was asked for, in bytes; 0 for none.
    wanted: u64,
    is_held: AtomicBool,
}

impl Reserve {
    /// The reserve file at `path`, as it lies there.
    pub(super) fn new(path: PathBuf, wanted: u64) -> Self {
        let is_held = fs::metadata(&path).is_ok_and(|file| file.len() > 0);
        Self(Arc::new(ReserveState {
            path,
            wanted,
            is_held: AtomicBool::new(is_held),
        }))
    }

    /// Whether the room is kept.
    pub(super) fn is_held(&self) -> bool {
        self.0.is_held.load(Ordering::Relaxed)
    }

    /// Whether there should be one and is none: the disk was full, or is too full to make it.
    pub(super) fn is_missing(&self) -> bool {
        self.0.wanted > 0 && !self.is_held()
    }

    /// Gives the room up if the disk is full; true where there was some to give.
    pub(super) fn release_if_full(&self) -> bool {
        available(&self.0.path).is_ok_and(|bytes| bytes < FULL) && self.release()
    }

    /// Gives the room up; true where there was some to give.
    pub(super) fn release(&self) -> bool {
        if !self.0.is_held.swap(false, Ordering::Relaxed) {
            return false;
        }
        match fs::remove_file(&self.0.path) {
            Ok(()) => {
                tracing::error!(
                    event = "store.disk_full",
                    path = %self.0.path.display(),
                    "the disk is full: the reserve kept for this is released, so that records can still be written"
                );
                true
            }
            Err(error) => {
                tracing::error!(event = "store.ballast_stuck", error = %error, "the reserve of the disk cannot be released");
                false
            }
        }
    }

    /// Makes it where it is missing and twice its size is free, so that the next record does not give it up again.
    pub(super) fn restore(&self) {
        if !self.is_missing() {
            return;
        }
        let Ok(bytes) = share(&self.0.path, self.0.wanted) else {
            return;
        };
        if !available(&self.0.path).is_ok_and(|free| free / 2 >= bytes) {
            return;
        }
        match self.make(bytes) {
            Ok(()) => {
                self.0.is_held.store(true, Ordering::Relaxed);
                tracing::info!(
                    event = "store.ballast_made",
                    bytes,
                    "a reserve is kept on the disk for the day on which it is full"
                );
            }
            Err(error) => {
                drop(fs::remove_file(&self.0.path));
                tracing::warn!(event = "store.ballast_missing", error = %error, "no reserve could be made on the disk");
            }
        }
    }

    fn make(&self, bytes: u64) -> io::Result<()> {
        files::remove(&self.0.path)?;
        let file = files::create(&self.0.path, files::PRIVATE)?;
        allocate(&file, bytes)?;
        file.sync_all()
    }
}

/// As much of `wanted` as one reserve may take of the file system that holds `path`.
pub(super) fn share(path: &Path, wanted: u64) -> io::Result<u64> {
    let system = statvfs(files::folder(path))?;
    let total = system.f_blocks.saturating_mul(system.f_frsize);
    Ok(wanted.min(total / LARGEST_SHARE))
}

/// Takes `bytes` of the disk for a file that is empty.
pub(super) fn allocate(mut file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP) => {
            let zeros = vec![0; 64 * 1024];
            let mut left = bytes;
            while left > 0 {
                let n = usize::try_from(left).map_or(zeros.len(), |left| left.min(zeros.len()));
                file.write_all(zeros.get(..n).unwrap_or_default())?;
                left -= n as u64;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Free bytes on the file system that holds `path`.
fn available(path: &Path) -> io::Result<u64> {
    let system = statvfs(files::folder(path))?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

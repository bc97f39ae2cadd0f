//! The spool: records that the database does not take now, in a file that was preallocated for this and is synchronized with every
//! write. It is a queue: written at its end, drained from its beginning into the database, emptied when all is there.
//!
//! Submissions are numbered for good, and every commit notes its last number in the database. So what is in the spool and in
//! the database as well, because a commit happened after all or the process ended before the spool was emptied, is recognized.

mod frame;
mod seal;
mod text;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags, fallocate};

pub(super) use seal::SpoolCipher;

use super::error::StoreError;
use super::file;
use super::key_ring::CipherError;
use super::reserve::{allocate, share};
use super::work::PreparedRecord;
use crate::files;

const MAGIC: &[u8; 8] = b"SWBSPOL1";
/// Where the first frame begins; before it stand the magic and the mark of the key.
const DATA: u64 = 4_096;
/// Read at once: most frames fit.
const CHUNK: usize = 8 * 1024;
/// How far behind a damaged place the next frame is looked for.
const LOOKAHEAD: u64 = 1024 * 1024;
/// Smaller than this is no help.
const SMALLEST: u64 = 64 * 1024;

pub(super) struct Spool {
    path: PathBuf,
    file: File,
    seal: SpoolCipher,
    capacity: u64,
    /// Where the first frame stands that was not drawn.
    cursor: u64,
    /// Where the next frame will be written.
    end: u64,
}

pub(super) struct Drawn {
    pub(super) number: i64,
    /// How many records it was written with.
    pub(super) n: u32,
    pub(super) records: Result<Vec<PreparedRecord>, StoreError>,
}

struct SpoolContents {
    at: u64,
    after: u64,
    number: i64,
    n: u32,
    text: Result<Vec<u8>, CipherError>,
}

impl Spool {
    /// Opens the spool at `path`, under whichever of the secrets it was written, or makes one of at most `wanted` bytes. Gives the number of
    /// the last submission in it, if any.
    pub(super) fn open(
        path: &Path,
        wanted: u64,
        seals: Vec<SpoolCipher>,
    ) -> io::Result<(Self, Option<i64>)> {
        let capacity = share(path, wanted)?;
        if capacity < SMALLEST {
            return Err(io::Error::other(
                "it may take too little of its file system",
            ));
        }
        let seal = put_aside_if_foreign(path, seals)?;
        let file = files::open_or_create(path, files::PRIVATE, OFlags::DSYNC)?;
        let mut spool = Self {
            path: path.to_owned(),
            file,
            seal,
            capacity: 0,
            cursor: DATA,
            end: DATA,
        };
        spool.capacity = spool.file.metadata()?.len();
        let is_whole = spool.bytes(0, spool.header().len() as u64)? == spool.header();
        let last = if is_whole { spool.find_end()? } else { None };
        if last.is_none() && !(is_whole && spool.capacity == capacity) {
            spool.lay_out(capacity)?;
        }
        Ok((spool, last))
    }

    /// Takes the room it may need, and writes the header.
    fn lay_out(&mut self, capacity: u64) -> io::Result<()> {
        self.file.set_len(0)?;
        let laid_out = allocate(&self.file, capacity).and_then(|()| {
            self.file.write_all_at(&self.header(), 0)?;
            self.file.sync_all()
        });
        if laid_out.is_err() {
            drop(fs::remove_file(&self.path));
        }
        self.capacity = capacity;
        laid_out.and_then(|()| file::sync_folder(&self.path))
    }

    fn header(&self) -> Vec<u8> {
        header(&self.seal)
    }

    /// Where the last whole frame ends. What was cut short behind it was never acknowledged.
    fn find_end(&mut self) -> io::Result<Option<i64>> {
        let mut last = None;
        while let Some(found) = self.find(self.end, self.capacity)? {
            if last.is_some_and(|last| found.number <= last) {
                break;
            }
            last = Some(found.number);
            self.end = found.after;
        }
        Ok(last)
    }

    /// Whether nothing is left to draw.
    pub(super) fn is_drawn(&self) -> bool {
        self.cursor >= self.end
    }

    /// Appends submissions with one synchronized write, in order, as many as fit; gives how many. Nothing counts as written
    /// after an error.
    pub(super) fn append<'r>(
        &mut self,
        submissions: impl Iterator<Item = (i64, &'r [PreparedRecord])>,
    ) -> io::Result<usize> {
        self.follow_secret()?;
        let mut bytes = Vec::new();
        let mut n = 0;
        for (number, records) in submissions {
            let whole = bytes.len();
            let count = u32::try_from(records.len()).map_err(io::Error::other)?;
            let text = text::write(records)?;
            frame::write(&mut bytes, number, count, &text, &self.seal).map_err(io::Error::other)?;
            if self.end + bytes.len() as u64 > self.capacity {
                bytes.truncate(whole);
                break;
            }
            n += 1;
        }
        if n > 0 {
            self.file.write_all_at(&bytes, self.end)?;
            self.end += bytes.len() as u64;
        }
        Ok(n)
    }

    /// An empty spool goes on under the secret that is current now.
    fn follow_secret(&mut self) -> io::Result<()> {
        if self.end > DATA {
            return Ok(());
        }
        if let Some(seal) = self.seal.successor().map_err(io::Error::other)? {
            self.file.write_all_at(&header(&seal), 0)?;
            self.seal = seal;
        }
        Ok(())
    }

    /// Reads up to `limit` submissions back, in order, without those up to number `through`.
    pub(super) fn draw(&mut self, limit: usize, through: i64) -> io::Result<Vec<Drawn>> {
        let mut drawn = Vec::new();
        while drawn.len() < limit && self.cursor < self.end {
            let Some(found) = self.find(self.cursor, self.end)? else {
                self.cursor = self.end;
                tracing::error!(event = "store.spool_damaged", path = %self.path.display(), "the end of the spool cannot be read");
                break;
            };
            if found.at > self.cursor {
                tracing::error!(event = "store.spool_damaged", path = %self.path.display(), from = self.cursor, to = found.at, "a part of the spool cannot be read; what was in it is lost");
            }
            self.cursor = found.after;
            if found.number <= through {
                continue;
            }
            let text = found
                .text
                .map_err(|error| StoreError::Rejected(error.into()));
            drawn.push(Drawn {
                number: found.number,
                n: found.n,
                records: text.and_then(|text| text::read(&text)),
            });
        }
        Ok(drawn)
    }

    /// How many records are in it, without the submissions up to number `through`.
    pub(super) fn count(&self, through: i64) -> io::Result<u64> {
        let (mut records, mut at) = (0, self.cursor);
        while let Some(found) = self.find(at, self.end)? {
            if found.number > through {
                records += u64::from(found.n);
            }
            at = found.after;
        }
        Ok(records)
    }

    /// Forgets everything: it is in the database. The room stays taken.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        if self.end == DATA {
            return Ok(());
        }
        let used = self.end - DATA;
        let zeroed = fallocate(
            &self.file,
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            DATA,
            used,
        );
        if zeroed.is_err() {
            self.overwrite(used)?;
        }
        self.file.sync_data()?;
        (self.cursor, self.end) = (DATA, DATA);
        Ok(())
    }

    fn overwrite(&self, bytes: u64) -> io::Result<()> {
        let zeros = vec![0; 1024 * 1024];
        let (mut at, end) = (DATA, DATA + bytes);
        while at < end {
            let n = usize::try_from(end - at).map_or(zeros.len(), |left| left.min(zeros.len()));
            self.file
                .write_all_at(zeros.get(..n).unwrap_or_default(), at)?;
            at += n as u64;
        }
        Ok(())
    }

    /// The first frame from `from` on.
    fn find(&self, from: u64, until: u64) -> io::Result<Option<SpoolContents>> {
        if let Some(found) = self.frame_at(from, until)? {
            return Ok(Some(found));
        }
        let bytes = self.bytes(from, until.min(from + LOOKAHEAD))?;
        for (n, place) in bytes.chunks(frame::ALIGNMENT).enumerate().skip(1) {
            if frame::may_begin(place)
                && let Some(found) = self.frame_at(from + (n * frame::ALIGNMENT) as u64, until)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn frame_at(&self, at: u64, until: u64) -> io::Result<Option<SpoolContents>> {
        let mut bytes = self.bytes(at, until.min(at + CHUNK as u64))?;
        if let Some(length) = frame::length(&bytes)
            && length > bytes.len()
        {
            bytes = self.bytes(at, until.min(at.saturating_add(length as u64)))?;
        }
        Ok(frame::read(&bytes).map(|frame| SpoolContents {
            at,
            after: at + frame.length as u64,
            number: frame.number,
            n: frame.records,
            text: frame.text(&self.seal),
        }))
    }

    fn bytes(&self, from: u64, until: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(until.saturating_sub(from)).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, from + filled as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

fn header(seal: &SpoolCipher) -> Vec<u8> {
    [MAGIC.as_slice(), seal.mark()].concat()
}

fn holds_frames(file: &File) -> io::Result<bool> {
    let mut bytes = vec![0; usize::try_from(LOOKAHEAD).unwrap_or_default()];
    let n = file.read_at(&mut bytes, DATA)?;
    bytes.truncate(n);
    Ok(bytes.chunks(frame::ALIGNMENT).any(frame::may_begin))
}

/// A spool of another database or another secret is nothing we can read, and nothing we may destroy.
/// Gives the cipher of the one that is there, or else the first.
fn put_aside_if_foreign(path: &Path, seals: Vec<SpoolCipher>) -> io::Result<SpoolCipher> {
    let mut seals = seals.into_iter();
    let current = seals.next().ok_or(io::ErrorKind::InvalidInput)?;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(current),
        Err(error) => return Err(error),
    };
    let mut header = [0; MAGIC.len() + 32];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) => {}
        // It was cut short while it was made.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(current),
        Err(error) => return Err(error),
    }
    let (magic, mark) = header.split_at(MAGIC.len());
    if magic == MAGIC && mark == current.mark() || !holds_frames(&file)? {
        return Ok(current);
    }
    if let Some(former) = seals.find(|seal| magic == MAGIC && mark == seal.mark()) {
        return Ok(former);
    }
    let aside = file::beside(path, &format!(".{}", hex::encode(mark)));
    tracing::error!(
        event = "store.spool_foreign",
        moved_to = %aside.display(),
        "the spool belongs to another database, or was written under another secret; it is put aside"
    );
    fs::rename(path, aside)?;
    Ok(current)
}

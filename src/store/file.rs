//! The file of a database: what lies there, its lock, its schema version, and the files beside it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::{Connection, ErrorCode};
use rustix::fs::OFlags;

use super::error::OpenError;
use super::migrations::{self, MigrationStep};
use super::{connection, schema};
use crate::files;
pub(super) use crate::files::beside;

/// `application_id` of our databases: "SWBD".
pub(super) const APPLICATION_ID: i32 = 0x5357_4244;
/// Schema versions that were used before version 1 was made anew. None of them was released.
const DEVELOPMENT: RangeInclusive<u32> = 2..=8;

/// What the lock file holds while commits may lie in the write-ahead log only.
const IN_USE: &[u8] = b"in use\n";

/// Nobody else writes to the database while this is held.
pub(super) struct WriteLock {
    file: File,
    /// The last run was cut off, and its write-ahead log is gone.
    pub(super) is_log_missing: bool,
}

impl WriteLock {
    /// Notes that there is a write-ahead log, and that it must still be there if the process is cut off.
    pub(super) fn note_in_use(&self) -> io::Result<()> {
        self.file.write_all_at(IN_USE, 0)
    }

    /// Notes that all is in the database file.
    pub(super) fn note_closed(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    fn lock(path: &Path, file: File) -> io::Result<Self> {
        let is_cut_off = file.metadata()?.len() > 0;
        let is_log_missing = is_cut_off && path.exists() && !beside(path, "-wal").exists();
        if is_log_missing {
            tracing::error!(
                event = "store.wal_missing",
                path = %path.display(),
                "the last run was cut off and its -wal file is gone: what it held is lost, unless another program has put it into the database"
            );
        }
        let lock = Self {
            file,
            is_log_missing,
        };
        lock.note_closed()?;
        Ok(lock)
    }
}

/// Takes the right to write to the database at `path`.
pub(super) fn lock(path: &Path) -> Result<WriteLock, OpenError> {
    let lock = beside(path, ".lock");
    let file =
        files::open_or_create(&lock, files::PRIVATE, OFlags::empty()).map_err(file_error(&lock))?;
    match file.try_lock() {
        Ok(()) => WriteLock::lock(path, file).map_err(file_error(&lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(file_error(&lock)(error)),
    }
}

/// Whether there is something at `path` that may be a database of ours. Refuses what cannot be one.
pub(super) fn exists(path: &Path) -> Result<bool, OpenError> {
    let not_a_database = |what| OpenError::NotADatabase {
        path: path.to_owned(),
        what,
    };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(not_a_database("it is a directory")),
        Ok(found) if !found.is_file() => Err(not_a_database("it is no file")),
        Ok(found) if found.len() == 0 => Err(not_a_database("it is empty")),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let stray = fs::metadata(beside(path, "-wal")).is_ok_and(|found| found.len() > 0);
            if stray {
                return Err(OpenError::StrayLog {
                    path: path.to_owned(),
                });
            }
            Ok(false)
        }
        Err(error) => Err(file_error(path)(error)),
    }
}

/// Refuses a path at which there is no database.
pub(super) fn must_exist(path: &Path) -> Result<(), OpenError> {
    if exists(path)? {
        return Ok(());
    }
    Err(file_error(path)(io::ErrorKind::NotFound.into()))
}

/// As [`version_of`], on a connection of its own that changes nothing.
pub(super) fn version_at(path: &Path, steps: &[MigrationStep]) -> Result<u32, OpenError> {
    let reader = connection::open_reader(path).map_err(|error| unreadable(error, path))?;
    version_of(&reader, path, steps)
}

/// As [`version_of`], for whoever only reads the tables: what else is there does not matter, as long as they are what this program makes.
pub(super) fn readable_version_at(path: &Path, steps: &[MigrationStep]) -> Result<u32, OpenError> {
    let reader = connection::open_reader(path).map_err(|error| unreadable(error, path))?;
    let version = claimed_version(&reader, path, steps)?;
    if schema::is_readable(&reader, version, steps)? {
        return Ok(version);
    }
    version_of(&reader, path, steps)
}

/// The schema version of a database of ours; refuses another program's, a newer one, and one whose schema is not what this program makes. Nothing
/// else of a file is read before.
pub(super) fn version_of(
    connection: &Connection,
    path: &Path,
    steps: &[MigrationStep],
) -> Result<u32, OpenError> {
    let version = claimed_version(connection, path, steps)?;
    let mut differences = schema::differences(connection, version, steps)?;
    if differences.is_empty() {
        return Ok(version);
    }
    Err(OpenError::SchemaChanged {
        path: path.to_owned(),
        what: differences.swap_remove(0),
    })
}

/// The schema version that a database says it has; refuses another program's and a newer one.
pub(super) fn claimed_version(
    connection: &Connection,
    path: &Path,
    steps: &[MigrationStep],
) -> Result<u32, OpenError> {
    let read = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let application_id = read("application_id").map_err(|error| unreadable(error, path))?;
    if application_id != APPLICATION_ID {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
            found: application_id,
        });
    }
    let found = read("user_version")?;
    let known = migrations::latest(steps);
    match u32::try_from(found) {
        Ok(version) if version <= known => Ok(version),
        Ok(found) if DEVELOPMENT.contains(&found) && !has_macs(connection)? => {
            Err(OpenError::Development {
                path: path.to_owned(),
                found,
            })
        }
        Ok(_) | Err(_) => Err(OpenError::Newer {
            found: found.unsigned_abs(),
            known,
        }),
    }
}

/// Every released version has them.
fn has_macs(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT count(*) FROM pragma_table_info('calls') WHERE name = 'mac'",
        [],
        |row| row.get(0),
    )
}

fn unreadable(error: rusqlite::Error, path: &Path) -> OpenError {
    if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) {
        return OpenError::NotADatabase {
            path: path.to_owned(),
            what: "it is a file of another kind",
        };
    }
    error.into()
}

/// Gives a finished file its name, so that it survives a power cut.
pub(super) fn appear(unfinished: &Path, path: &Path) -> Result<(), OpenError> {
    files::rename(unfinished, path).map_err(file_error(path))
}

/// Makes sure that the name of the file at `path` survives a power cut.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(files::folder(path))?.sync_all()
}

/// An empty file that only its owner may read.
pub(super) fn new_file(path: &Path) -> Result<(), OpenError> {
    files::create(path, files::PRIVATE)
        .map(drop)
        .map_err(file_error(path))
}

pub(super) fn remove(path: &Path) -> Result<(), OpenError> {
    files::remove(path).map_err(file_error(path))
}

/// What goes wrong with the file at `path`.
pub(super) fn file_error(path: &Path) -> impl Fn(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::File {
        path: path.clone(),
        source,
    }
}

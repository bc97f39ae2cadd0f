//! Copies of a database: a backup while it is in use, and putting one back.
//!
//! A backup is taken over a read-only connection of its own, inside one read transaction: it is the database as it was at one moment, whatever
//! is written meanwhile, and it keeps the write-ahead log from being emptied for as long as it takes. The copy is checked before it gets its name.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::migrations::STEPS;
use super::vault::Vault;
use super::verify::{Against, Report, Verification, VerifyError};
use super::{OpenError, audit_records, connection, key_check, open};
use crate::audit::FindingKind;

/// Pages copied at a time.
const PAGES: i32 = 100;
/// After each step, so that callers' work on the same disk comes first.
const PAUSE: Duration = Duration::from_micros(200);
/// How often a locked page is tried again, a millisecond apart.
const LOCKED: u32 = 1_000;
/// Bytes hashed at a time.
const CHUNK: usize = 1024 * 1024;

/// What a backup is: kept beside it, and beside the database that it was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Where the backup was put.
    pub file: PathBuf,
    /// When it was complete.
    pub created_at: Timestamp,
    /// Its size.
    pub bytes: u64,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// The schema version.
    pub schema: u32,
    /// Which audit log.
    pub log_id: String,
    /// How many records there were, from the first on.
    pub records: i64,
    /// The hash of the last one, in hexadecimal.
    pub head: String,
    /// The version of the program that made it.
    pub version: String,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The database cannot be opened, or the file is none.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something that is found in it is wrong.
    #[error("{path} is damaged: {finding}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first thing that is wrong.
        finding: String,
    },
    /// The target is the database itself, or one of its files.
    #[error("{path} belongs to the database itself: name another file", path = .path.display())]
    Itself {
        /// The file.
        path: PathBuf,
    },
    /// There is something in the way, which is overwritten only if that is asked for.
    #[error("{path} is there already: with --force it is kept aside and replaced", path = .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot use {path}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The audit log of the copy could not be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Open(error.into())
    }
}

/// How far it has come: what is done, and all of it.
pub type Tell<'t> = &'t mut dyn FnMut(Phase, u64, u64);

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Pages are copied.
    Copying,
    /// Records are verified.
    Verifying,
}

/// Copies the database at `database` to `to`, also while a server works with it; what is there is replaced when the copy has been verified.
pub fn back_up(
    database: &Path,
    to: &Path,
    now: impl Fn() -> Timestamp,
    wait: impl Fn(Duration),
    tell: Tell<'_>,
) -> Result<Manifest, CopyError> {
    refuse_own_files(database, to)?;
    if !open::exists(database)? {
        return Err(OpenError::File {
            path: database.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        }
        .into());
    }
    let schema = open::version_at(database, STEPS)?;
    let unfinished = open::beside(to, ".part");
    remove(&unfinished)?;
    open::new_file(&unfinished)?;
    let made = copy(database, &unfinished, &wait, tell)
        .and_then(|()| examine(&unfinished, tell))
        .and_then(|report| manifest(&unfinished, to, schema, &report, now()));
    let manifest = match made {
        Ok(manifest) => manifest,
        Err(error) => {
            // What is wrong has been said; the rest of it is of no use.
            drop(fs::remove_file(&unfinished));
            return Err(error);
        }
    };
    open::appear(&unfinished, to)?;
    write_manifest(&open::beside(to, ".json"), &manifest)?;
    Ok(manifest)
}

/// Notes the backup beside the database, where the server finds it.
pub fn note(database: &Path, manifest: &Manifest) -> Result<(), CopyError> {
    write_manifest(&noted_at(database), manifest)
}

/// The last backup of the database at `database`; `None` where none is known of.
pub fn last_backup(database: &Path) -> Option<Manifest> {
    serde_json::from_slice(&fs::read(noted_at(database)).ok()?).ok()
}

fn noted_at(database: &Path) -> PathBuf {
    open::beside(database, ".backup.json")
}

/// What came of putting a backup back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Always true.
    pub restored: bool,
    /// How many records its log has, from the first on.
    pub records: i64,
    /// The hash of the last one, in hexadecimal.
    pub head: Option<String>,
    /// Its schema version.
    pub schema: u32,
    /// Where the database of before was put; `None` where there was none.
    pub kept: Option<PathBuf>,
}

/// Puts the backup `from` in place of the database at `database`, which no process may have open. Nothing is touched before the backup and its copy
/// have been checked.
pub fn restore(
    from: &Path,
    database: &Path,
    vault: &Vault,
    force: bool,
    now: Timestamp,
    tell: Tell<'_>,
) -> Result<Restored, CopyError> {
    refuse_own_files(database, from)?;
    let _lock = open::lock(database)?;
    if !open::exists(from)? {
        return Err(OpenError::File {
            path: from.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        }
        .into());
    }
    let is_there = fs::symlink_metadata(database).is_ok();
    if is_there && !force {
        return Err(CopyError::Exists {
            path: database.to_owned(),
        });
    }
    let unfinished = open::beside(database, ".restored");
    for leftover in ["", "-wal", "-shm", "-journal"] {
        remove(&open::beside(&unfinished, leftover))?;
    }
    let checked = check(from, &unfinished, vault, tell);
    let (schema, report) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            for leftover in ["", "-wal", "-shm", "-journal"] {
                drop(fs::remove_file(open::beside(&unfinished, leftover)));
            }
            return Err(error);
        }
    };
    let kept = if is_there {
        Some(put_aside(database, now)?)
    } else {
        None
    };
    for leftover in ["-wal", "-shm"] {
        remove(&open::beside(&unfinished, leftover))?;
    }
    open::appear(&unfinished, database)?;
    Ok(Restored {
        restored: true,
        records: report.last,
        head: report.head,
        schema,
        kept,
    })
}

fn check(
    from: &Path,
    unfinished: &Path,
    vault: &Vault,
    tell: Tell<'_>,
) -> Result<(u32, Report), CopyError> {
    // As a file, so that nothing is written beside the backup, which may lie on a read-only medium.
    let file_error = |source| CopyError::File {
        path: from.to_owned(),
        source,
    };
    open::new_file(unfinished)?;
    fs::copy(from, unfinished).map_err(file_error)?;
    let schema = open::version_at(unfinished, STEPS).map_err(|error| named(error, from))?;
    if let Ok(text) = fs::read(open::beside(from, ".json"))
        && let Ok(manifest) = serde_json::from_slice::<Manifest>(&text)
        && manifest.sha256 != sha256(unfinished)?
    {
        return Err(CopyError::Damaged {
            path: from.to_owned(),
            finding: "it is not the file that its manifest describes".to_owned(),
        });
    }
    let reader = connection::open_reader(unfinished)?;
    key_check::refuse_other(&reader, from, vault)?;
    drop(reader);
    let report = examine(unfinished, tell).map_err(|error| {
        if let CopyError::Damaged { finding, .. } = error {
            let path = from.to_owned();
            return CopyError::Damaged { path, finding };
        }
        error
    })?;
    own_as_the_folder(unfinished);
    Ok((schema, report))
}

/// The error of the copy, told of what was copied.
fn named(error: OpenError, from: &Path) -> OpenError {
    let path = from.to_owned();
    if let OpenError::Foreign { found, .. } = error {
        return OpenError::Foreign { path, found };
    }
    if let OpenError::NotADatabase { what, .. } = error {
        return OpenError::NotADatabase { path, what };
    }
    error
}

/// A restore by root leaves the file to whoever owns the folder, who is the user of the server.
fn own_as_the_folder(file: &Path) {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    if let Ok(folder) = fs::metadata(folder) {
        // Only root may, and only for root it matters.
        drop(std::os::unix::fs::chown(
            file,
            Some(folder.uid()),
            Some(folder.gid()),
        ));
    }
}

/// Renames the database with its write-ahead log, so that both are a database again under the new name.
fn put_aside(database: &Path, now: Timestamp) -> Result<PathBuf, CopyError> {
    let aside = open::beside(database, &format!(".replaced.{}.bak", now.as_millisecond()));
    for part in ["-wal", ""] {
        let (from, to) = (open::beside(database, part), open::beside(&aside, part));
        match fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if part == "-wal" && error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(CopyError::File { path: from, source }),
        }
    }
    remove(&open::beside(database, "-shm"))?;
    Ok(aside)
}

fn refuse_own_files(database: &Path, other: &Path) -> Result<(), CopyError> {
    let whole = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let other_whole = whole(other);
    let own = [
        "", "-wal", "-shm", ".lock", ".secret", ".signing", ".spool", ".head", ".ballast",
    ];
    if own
        .iter()
        .any(|suffix| whole(&open::beside(database, suffix)) == other_whole)
    {
        return Err(CopyError::Itself {
            path: other.to_owned(),
        });
    }
    Ok(())
}

/// Copies all pages as they are at one moment.
fn copy(
    database: &Path,
    to: &Path,
    wait: &impl Fn(Duration),
    tell: Tell<'_>,
) -> Result<(), CopyError> {
    let source = connection::open_reader(database)?;
    source.execute_batch("BEGIN")?;
    // The transaction begins with the first look.
    audit_records::log_id(&source)?;
    let mut copy = Connection::open(to)?;
    copy_pages(&source, &mut copy, wait, tell)?;
    source.execute_batch("COMMIT")?;
    // One file, readable without a write-ahead log beside it.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    copy.close().map_err(|(_, error)| error)?;
    Ok(())
}

fn copy_pages(
    source: &Connection,
    copy: &mut Connection,
    wait: &impl Fn(Duration),
    tell: Tell<'_>,
) -> Result<(), CopyError> {
    let backup = Backup::new(source, copy)?;
    let mut locked = 0;
    loop {
        match backup.step(PAGES)? {
            StepResult::Done => return Ok(()),
            StepResult::More => wait(PAUSE),
            busy @ (StepResult::Busy | StepResult::Locked | _) => {
                locked += 1;
                if locked > LOCKED {
                    return Err(OpenError::Start(
                        format!("the database stays locked: {busy:?}").into(),
                    )
                    .into());
                }
                wait(Duration::from_millis(1));
            }
        }
        let progress = backup.progress();
        let all = u64::try_from(progress.pagecount).unwrap_or_default();
        let left = u64::try_from(progress.remaining).unwrap_or_default();
        tell(Phase::Copying, all.saturating_sub(left), all);
    }
}

/// Checks a copy as a file and as an audit log.
fn examine(path: &Path, tell: Tell<'_>) -> Result<Report, CopyError> {
    let damaged = |finding| CopyError::Damaged {
        path: path.to_owned(),
        finding,
    };
    let finding: String =
        connection::open_reader(path)?
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if finding != "ok" {
        return Err(damaged(finding));
    }
    let against = Against {
        database: path.to_owned(),
        key: None,
        anchor: None,
    };
    let report = Verification::open(against)?
        .run(|verified| tell(Phase::Verifying, verified.records, verified.of))?;
    // A log that nobody has signed yet is none the worse for it.
    let is_wrong = |kind| report.signed > 0 || kind != FindingKind::CheckpointInvalid;
    match report
        .findings
        .iter()
        .find(|finding| is_wrong(finding.kind))
    {
        Some(finding) => Err(damaged(finding.message.clone())),
        None => Ok(report),
    }
}

fn manifest(
    copy: &Path,
    to: &Path,
    schema: u32,
    report: &Report,
    created_at: Timestamp,
) -> Result<Manifest, CopyError> {
    Ok(Manifest {
        file: std::path::absolute(to).unwrap_or_else(|_| to.to_owned()),
        created_at,
        bytes: fs::metadata(copy)
            .map_err(|source| CopyError::File {
                path: copy.to_owned(),
                source,
            })?
            .len(),
        sha256: sha256(copy)?,
        schema,
        log_id: report.log_id.clone(),
        records: report.last,
        head: report.head.clone().unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn write_manifest(path: &Path, manifest: &Manifest) -> Result<(), CopyError> {
    let file_error = |source| CopyError::File {
        path: path.to_owned(),
        source,
    };
    let unfinished = open::beside(path, ".part");
    let text = serde_json::to_vec_pretty(manifest).map_err(|error| file_error(error.into()))?;
    fs::write(&unfinished, text).map_err(file_error)?;
    own_as_the_folder(&unfinished);
    open::appear(&unfinished, path)?;
    Ok(())
}

fn sha256(path: &Path) -> Result<String, CopyError> {
    let hash = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = file.read(&mut chunk)?;
            if n == 0 {
                return Ok(hex::encode(hasher.finalize()));
            }
            hasher.update(chunk.get(..n).unwrap_or_default());
        }
    };
    hash().map_err(|source| CopyError::File {
        path: path.to_owned(),
        source,
    })
}

fn remove(path: &Path) -> Result<(), CopyError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CopyError::File {
            path: path.to_owned(),
            source: error,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

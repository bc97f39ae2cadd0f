//! Copies of a database: a backup while it is in use, and putting one back.
//!
//! A backup is taken over a read-only connection of its own, inside one read transaction: it is the database as it was at one moment, whatever
//! is written meanwhile, and it keeps the write-ahead log from being emptied for as long as it takes. The copy is checked before it gets its name.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::OpenError;
use super::key_ring::KeyRing;
use super::migrations::STEPS;
use super::verify::{Against, Installation, Verification, VerifyError};
use super::{audit_records, connection, file, key_check};
use crate::audit::{FindingKind, VerifyReport};
use crate::files::{self, Acting};

/// Pages copied at a time.
const PAGES: i32 = 100;
/// After each step, so that callers' work on the same disk comes first.
const PAUSE: Duration = Duration::from_micros(200);
/// How often a locked page is tried again, a millisecond apart.
const LOCKED: u32 = 1_000;
/// More than any manifest is long.
const MANIFEST_BYTES: u64 = 64 * 1024;
/// What a manifest is vouched for as.
const BACKUP: &str = "backup";
/// Bytes hashed at a time.
const CHUNK: usize = 1024 * 1024;

/// What a backup is: kept beside it, and beside the database that it was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Where the backup was put.
    pub file: PathBuf,
    pub created_at: Timestamp,
    pub bytes: u64,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    pub schema: u32,
    pub log_id: String,
    /// How many records there were, from the first on.
    pub records: i64,
    /// The hash of the last one, in hexadecimal.
    pub head: String,
    /// The version of the program that made it.
    pub version: String,
    /// That the installation's secret vouches for all of this, in hexadecimal.
    #[serde(default)]
    pub mac: String,
}

impl Manifest {
    /// What the secret says of it.
    fn vouch(&self, key_ring: &KeyRing) -> String {
        key_ring.vouch(BACKUP, &self.text())
    }

    fn is_vouched(&self, key_ring: &KeyRing) -> bool {
        key_ring.has_vouched(BACKUP, &self.text(), &self.mac)
    }

    fn text(&self) -> Vec<u8> {
        let said = Self {
            mac: String::new(),
            ..self.clone()
        };
        // Nothing in it cannot be written.
        serde_json::to_vec(&said).unwrap_or_default()
    }
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
        path: PathBuf,
        /// The first thing that is wrong.
        finding: String,
    },
    /// The target is the database itself, or one of its files.
    #[error("{path} belongs to the database itself: name another file", path = .path.display())]
    Itself { path: PathBuf },
    /// There is something in the way, which is overwritten only if that is asked for.
    #[error("{path} is there already: with --force it is kept aside and replaced", path = .path.display())]
    Exists { path: PathBuf },
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
pub type Tell<'t> = &'t mut dyn FnMut(CopyPhase, u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyPhase {
    Copying,
    Verifying,
}

/// Copies the database at `database` to `to`, also while a server works with it; what is there is replaced when the copy has been verified.
pub fn back_up(
    database: &Path,
    to: &Path,
    key_ring: &KeyRing,
    now: impl Fn() -> Timestamp,
    wait: impl Fn(Duration),
    tell: Tell<'_>,
) -> Result<Manifest, CopyError> {
    refuse_own_files(database, to)?;
    let acting = as_owner(database)?;
    file::must_exist(database)?;
    let schema = file::version_at(database, STEPS)?;
    key_check::refuse_other(&connection::open_reader(database)?, database, key_ring)?;
    drop(acting);
    let unfinished = file::beside(to, ".part");
    let acting = as_owner(to)?;
    file::remove(&unfinished)?;
    file::new_file(&unfinished)?;
    let mut copy = Connection::open(&unfinished)?;
    drop(acting);
    let filled = fill(database, &mut copy, &wait, tell);
    let _acting = as_owner(to)?;
    let made = filled
        .and_then(|()| seal_off(copy))
        .and_then(|()| examine(&unfinished, None, tell))
        .and_then(|report| manifest(&unfinished, to, schema, key_ring, &report, now()));
    let manifest = match made {
        Ok(manifest) => manifest,
        Err(error) => {
            // What is wrong has been said; the rest of it is of no use.
            drop(files::remove(&unfinished));
            return Err(error);
        }
    };
    file::appear(&unfinished, to)?;
    write_manifest(&file::beside(to, ".json"), &manifest)?;
    Ok(manifest)
}

/// Root works as the owner of the folder that it reads or writes in.
fn as_owner(path: &Path) -> Result<Option<Acting>, CopyError> {
    Ok(Acting::as_owner_of_folder(path).map_err(file::file_error(path))?)
}

/// Notes the backup beside the database, where the server finds it.
pub fn record(database: &Path, manifest: &Manifest) -> Result<(), CopyError> {
    let _acting = as_owner(database)?;
    write_manifest(&noted_at(database), manifest)
}

/// The last backup of the database at `database`; `None` where none is known of that this installation made.
pub fn last_backup(database: &Path, key_ring: &KeyRing) -> Option<Manifest> {
    read_manifest(&noted_at(database))
        .ok()
        .flatten()
        .filter(|manifest| manifest.is_vouched(key_ring))
}

/// Vouches for what is known of the last backup under the secret that is current now.
pub(super) fn vouch_again(database: &Path, key_ring: &KeyRing) -> Result<(), CopyError> {
    let Some(mut manifest) = last_backup(database, key_ring) else {
        return Ok(());
    };
    manifest.mac = manifest.vouch(key_ring);
    write_manifest(&noted_at(database), &manifest)
}

/// A manifest as it lies there, before anything of it is believed.
fn read_manifest(path: &Path) -> io::Result<Option<Manifest>> {
    let Some(text) = files::read(path, MANIFEST_BYTES)? else {
        return Ok(None);
    };
    let manifest = serde_json::from_slice(&text)?;
    Ok(Some(manifest))
}

fn noted_at(database: &Path) -> PathBuf {
    file::beside(database, ".backup.json")
}

/// What came of putting a backup back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    pub restored: bool,
    /// How many records its log has, from the first on.
    pub records: i64,
    /// The hash of the last one, in hexadecimal.
    pub head: Option<String>,
    pub schema: u32,
    /// Where the database of before was put; `None` where there was none.
    pub kept: Option<PathBuf>,
    /// Rows beside the log that are not what was written, in words. They are not used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub altered: Vec<String>,
}

/// Puts the backup `from` in place of the database at `database`, which no process may have open. Nothing is touched before the backup and its copy
/// have been checked.
pub fn restore(
    from: &Path,
    database: &Path,
    key_ring: &KeyRing,
    force: bool,
    now: Timestamp,
    tell: Tell<'_>,
) -> Result<RestoreReport, CopyError> {
    refuse_own_files(database, from)?;
    let acting = as_owner(from)?;
    let source = OpenedBackup::open(from)?;
    drop(acting);
    let _acting = as_owner(database)?;
    let _lock = file::lock(database)?;
    let is_there = fs::symlink_metadata(database).is_ok();
    if is_there && !force {
        return Err(CopyError::Exists {
            path: database.to_owned(),
        });
    }
    let unfinished = file::beside(database, ".restored");
    for leftover in ["", "-wal", "-shm", "-journal"] {
        file::remove(&file::beside(&unfinished, leftover))?;
    }
    let checked = check(from, source, &unfinished, key_ring, now, tell);
    let (schema, report) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            for leftover in ["", "-wal", "-shm", "-journal"] {
                drop(files::remove(&file::beside(&unfinished, leftover)));
            }
            return Err(error);
        }
    };
    let kept = is_there.then(|| put_aside(database, now)).transpose()?;
    for leftover in ["-wal", "-shm"] {
        file::remove(&file::beside(&unfinished, leftover))?;
    }
    file::appear(&unfinished, database)?;
    Ok(RestoreReport {
        restored: true,
        records: report.last,
        head: report.head,
        schema,
        kept,
        altered: report
            .findings
            .into_iter()
            .filter(|finding| finding.kind == FindingKind::ProjectionAltered)
            .map(|finding| finding.message)
            .collect(),
    })
}

/// A backup, opened by whoever owns its folder.
struct OpenedBackup {
    file: File,
    manifest: Option<Manifest>,
}

impl OpenedBackup {
    fn open(from: &Path) -> Result<Self, CopyError> {
        file::must_exist(from)?;
        let described = file::beside(from, ".json");
        Ok(Self {
            file: File::open(from).map_err(file::file_error(from))?,
            manifest: read_manifest(&described).map_err(file::file_error(&described))?,
        })
    }
}

fn check(
    from: &Path,
    mut source: OpenedBackup,
    unfinished: &Path,
    key_ring: &KeyRing,
    now: Timestamp,
    tell: Tell<'_>,
) -> Result<(u32, VerifyReport), CopyError> {
    let damaged = |finding: &str| CopyError::Damaged {
        path: from.to_owned(),
        finding: finding.to_owned(),
    };
    // As a file, so that nothing is written beside the backup, which may lie on a read-only medium.
    let mut copy =
        files::create(unfinished, files::PRIVATE).map_err(file::file_error(unfinished))?;
    io::copy(&mut source.file, &mut copy).map_err(file::file_error(from))?;
    let schema = file::version_at(unfinished, STEPS).map_err(|error| named(error, from))?;
    let reader = connection::open_reader(unfinished)?;
    key_check::refuse_other(&reader, from, key_ring)?;
    drop(reader);
    if let Some(manifest) = &source.manifest {
        if !manifest.is_vouched(key_ring) {
            return Err(damaged(
                "the manifest beside it is not one that this installation made",
            ));
        }
        if manifest.sha256 != sha256(unfinished)? {
            return Err(damaged("it is not the file that its manifest describes"));
        }
    }
    let installation = Installation {
        key_ring: key_ring.clone(),
        now,
        is_in_place: false,
        is_secret_elsewhere: false,
    };
    let report = examine(unfinished, Some(installation), tell).map_err(|error| {
        if let CopyError::Damaged { finding, .. } = error {
            return damaged(&finding);
        }
        error
    })?;
    seal_off(Connection::open(unfinished)?)?;
    Ok((schema, report))
}

/// The error of the copy, told of what was copied.
fn named(error: OpenError, from: &Path) -> OpenError {
    let mut error = error;
    if let OpenError::Foreign { path, .. }
    | OpenError::NotADatabase { path, .. }
    | OpenError::SchemaChanged { path, .. }
    | OpenError::Development { path, .. } = &mut error
    {
        from.clone_into(path);
    }
    error
}

/// Renames the database with its write-ahead log, so that both are a database again under the new name.
fn put_aside(database: &Path, now: Timestamp) -> Result<PathBuf, CopyError> {
    let aside = file::beside(database, &format!(".replaced.{}.bak", now.as_millisecond()));
    for part in ["-wal", ""] {
        let (from, to) = (file::beside(database, part), file::beside(&aside, part));
        match fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if part == "-wal" && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file::file_error(&from)(error).into()),
        }
    }
    file::remove(&file::beside(database, "-shm"))?;
    Ok(aside)
}

fn refuse_own_files(database: &Path, other: &Path) -> Result<(), CopyError> {
    let whole = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let other_whole = whole(other);
    let own = [
        "",
        "-wal",
        "-shm",
        ".lock",
        ".secret",
        ".secret.next",
        ".secret.old",
        ".signing",
        ".spool",
        ".head",
        ".ballast",
    ];
    if own
        .iter()
        .any(|suffix| whole(&file::beside(database, suffix)) == other_whole)
    {
        return Err(CopyError::Itself {
            path: other.to_owned(),
        });
    }
    Ok(())
}

/// Copies all pages as they are at one moment.
fn fill(
    database: &Path,
    copy: &mut Connection,
    wait: &impl Fn(Duration),
    tell: Tell<'_>,
) -> Result<(), CopyError> {
    let _acting = as_owner(database)?;
    let source = connection::open_reader(database)?;
    source.execute_batch("BEGIN")?;
    // The transaction begins with the first look.
    audit_records::log_id(&source)?;
    copy_pages(&source, copy, wait, tell)?;
    source.execute_batch("COMMIT")?;
    Ok(())
}

/// Ends the copy: one file, readable without a write-ahead log beside it, and without anybody's session.
fn seal_off(copy: Connection) -> Result<(), CopyError> {
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    copy.pragma_update(None, "secure_delete", "ON")?;
    if copy.table_exists(None, "sessions")? {
        copy.execute("DELETE FROM sessions", [])?;
    }
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
        tell(CopyPhase::Copying, all.saturating_sub(left), all);
    }
}

/// Checks a copy as a file and as an audit log.
fn examine(
    path: &Path,
    installation: Option<Installation>,
    tell: Tell<'_>,
) -> Result<VerifyReport, CopyError> {
    let damaged = |finding| CopyError::Damaged {
        path: path.to_owned(),
        finding,
    };
    let reader = connection::open_reader(path)?;
    connection::bound(&reader, path)?;
    let finding: String = reader.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    drop(reader);
    if finding != "ok" {
        return Err(damaged(finding));
    }
    let against = Against {
        installation,
        ..Against::nothing(path)
    };
    let report = Verification::open(against)?
        .run(|verified| tell(CopyPhase::Verifying, verified.records, verified.of))?;
    // A log that nobody has signed yet is none the worse for it, and a row that is not what was written is not used.
    let is_wrong = |kind| match kind {
        FindingKind::CheckpointInvalid => report.signed > 0,
        FindingKind::ProjectionAltered => false,
        FindingKind::Altered
        | FindingKind::Missing
        | FindingKind::Inserted
        | FindingKind::Truncated
        | FindingKind::RolledBack
        | FindingKind::AnchorMismatch
        | FindingKind::SchemaChanged
        | FindingKind::IndexDamaged
        | FindingKind::HeadMissing => true,
    };
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
    key_ring: &KeyRing,
    report: &VerifyReport,
    created_at: Timestamp,
) -> Result<Manifest, CopyError> {
    let mut manifest = Manifest {
        file: std::path::absolute(to).unwrap_or_else(|_| to.to_owned()),
        created_at,
        bytes: fs::metadata(copy).map_err(file::file_error(copy))?.len(),
        sha256: sha256(copy)?,
        schema,
        log_id: report.log_id.clone(),
        records: report.last,
        head: report.head.clone().unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mac: String::new(),
    };
    manifest.mac = manifest.vouch(key_ring);
    Ok(manifest)
}

fn write_manifest(path: &Path, manifest: &Manifest) -> Result<(), CopyError> {
    let text = serde_json::to_vec_pretty(manifest).map_err(io::Error::from);
    let written = text.and_then(|text| files::replace(path, files::PRIVATE, &text));
    Ok(written.map_err(file::file_error(path))?)
}

fn sha256(path: &Path) -> Result<String, CopyError> {
    let mut hasher = Sha256::new();
    let mut hash = || -> io::Result<()> {
        let mut file = BufReader::with_capacity(CHUNK, File::open(path)?);
        loop {
            let chunk = file.fill_buf()?;
            let n = chunk.len();
            if n == 0 {
                return Ok(());
            }
            hasher.update(chunk);
            file.consume(n);
        }
    };
    hash().map_err(file::file_error(path))?;
    Ok(hex::encode(hasher.finalize()))
}

//! Schema versions: where a database stands, and how it is moved. Nothing else may write meanwhile, and whatever was there
//! is copied beside the database first.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, MAIN_DB, TransactionBehavior};

use super::error::OpenError;
use super::key_ring::KeyRing;
use super::migrations::{FIRST, MigrationStep, STEPS, latest};
use super::{connection, file, key_check};
use crate::clock::Clock;

/// How long a migration waits for other programs that read.
const BUSY: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MigrationStatus {
    /// Its schema version; 0 where there is no database yet.
    pub current: u32,
    pub latest: u32,
    /// The steps that are still to be taken, in words.
    pub pending: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; 0 where there was no database.
    pub from: u32,
    pub to: u32,
    /// The copy that was made before; `None` where nothing had to be done or nothing was there.
    pub backup: Option<PathBuf>,
}

impl Migrated {
    fn without_copy(from: u32, to: u32) -> Self {
        let backup = None;
        Self { from, to, backup }
    }
}

/// Where the database at `path` stands. Changes nothing.
pub fn status(path: &Path) -> Result<MigrationStatus, OpenError> {
    status_with(path, STEPS)
}

/// Brings the database at `path` to the newest version; makes one where there is none.
pub fn up(path: &Path, clock: &Clock, key_ring: &KeyRing) -> Result<Migrated, OpenError> {
    let _lock = file::lock(path)?;
    up_with(path, clock, key_ring, STEPS)
}

/// Takes the database at `path` back to version `to`. What later steps added is lost, but for the backup beside it.
pub fn down(path: &Path, to: u32, clock: &Clock) -> Result<Migrated, OpenError> {
    let _lock = file::lock(path)?;
    down_with(path, to, clock, STEPS)
}

/// The newest schema version that this program knows.
pub fn newest() -> u32 {
    latest(STEPS)
}

/// Every step from nothing on.
fn from_nothing(steps: &[MigrationStep]) -> impl DoubleEndedIterator<Item = &MigrationStep> {
    std::iter::once(&FIRST).chain(steps)
}

pub(super) fn status_with(
    path: &Path,
    steps: &[MigrationStep],
) -> Result<MigrationStatus, OpenError> {
    let current = if file::exists(path)? {
        file::readable_version_at(path, steps)?
    } else {
        0
    };
    let pending = from_nothing(steps).filter(|step| step.version > current);
    Ok(MigrationStatus {
        current,
        latest: latest(steps),
        pending: pending
            .map(|step| format!("{}: {}", step.version, step.name))
            .collect(),
    })
}

/// As [`up`], by whoever holds the lock.
pub(super) fn up_with(
    path: &Path,
    clock: &Clock,
    key_ring: &KeyRing,
    steps: &[MigrationStep],
) -> Result<Migrated, OpenError> {
    if file::exists(path)? {
        return move_to(path, clock, steps, latest(steps), Some(key_ring));
    }
    create(path, steps, key_ring)?;
    Ok(Migrated::without_copy(0, latest(steps)))
}

pub(super) fn down_with(
    path: &Path,
    to: u32,
    clock: &Clock,
    steps: &[MigrationStep],
) -> Result<Migrated, OpenError> {
    let from = status_with(path, steps)?.current;
    if to > from {
        return Err(OpenError::NoSuchVersion {
            asked: to,
            known: from,
        });
    }
    if from == 0 {
        return Ok(Migrated::without_copy(from, to));
    }
    move_to(path, clock, steps, to, None)
}

/// Makes a new database with the whole schema. It appears under its name only when it is complete.
fn create(path: &Path, steps: &[MigrationStep], key_ring: &KeyRing) -> Result<(), OpenError> {
    let unfinished = file::beside(path, ".new");
    for leftover in ["", "-wal", "-shm", "-journal"] {
        file::remove(&file::beside(&unfinished, leftover))?;
    }
    file::new_file(&unfinished)?;
    let mut fresh = Connection::open(&unfinished)?;
    connection::set(&fresh, "auto_vacuum", "INCREMENTAL", "2")?;
    fresh.pragma_update(None, "application_id", file::APPLICATION_ID)?;
    run(&mut fresh, steps, 0, latest(steps), Some(key_ring))?;
    fresh.close().map_err(|(_, error)| error)?;
    file::appear(&unfinished, path)
}

/// Moves a database to version `to`; where that is newer, with the keys of the installation.
fn move_to(
    path: &Path,
    clock: &Clock,
    steps: &[MigrationStep],
    to: u32,
    key_ring: Option<&KeyRing>,
) -> Result<Migrated, OpenError> {
    // Look before anything is touched: a foreign or newer file stays as it is.
    let from = file::version_at(path, steps)?;
    if let Some(key_ring) = key_ring {
        key_check::refuse_other(&connection::open_reader(path)?, path, key_ring)?;
    }
    if from == to {
        return Ok(Migrated::without_copy(from, to));
    }
    let mut database = connection::open_writer(path, BUSY)?;
    // What a step takes away is to be gone.
    connection::set(&database, "secure_delete", "ON", "1")?;
    let copy = file::beside(
        path,
        &format!(".v{from}.{}.bak", clock.now().as_millisecond()),
    );
    back_up(&database, &copy)?;
    run(&mut database, steps, from, to, key_ring)?;
    database.close().map_err(|(_, error)| error)?;
    Ok(Migrated {
        from,
        to,
        backup: Some(copy),
    })
}

/// Takes every step from one version to the other in one transaction, and notes the secret of the installation in what is new.
pub(super) fn run(
    database: &mut Connection,
    steps: &[MigrationStep],
    from: u32,
    to: u32,
    key_ring: Option<&KeyRing>,
) -> Result<(), OpenError> {
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let up = from_nothing(steps).filter(|step| step.version > from && step.version <= to);
    for step in up {
        transaction.execute_batch(step.up)?;
    }
    let down = from_nothing(steps)
        .rev()
        .filter(|step| step.version > to && step.version <= from);
    for step in down {
        transaction.execute_batch(step.down)?;
    }
    if to == 0 {
        drop_all(&transaction)?;
    }
    if let Some(key_ring) = key_ring {
        key_check::write(&transaction, key_ring)?;
    }
    transaction.pragma_update(None, "user_version", to)?;
    transaction.commit()?;
    Ok(())
}

/// Drops all that there is, the newest first; triggers and indexes go with their tables.
fn drop_all(connection: &Connection) -> rusqlite::Result<()> {
    let there: Vec<(String, String)> = connection
        .prepare(
            "SELECT type, name FROM sqlite_schema
             WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid DESC",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (kind, name) in there {
        connection.execute_batch(&format!("DROP {kind} \"{}\"", name.replace('"', "\"\"")))?;
    }
    Ok(())
}

/// Copies the database while it is open, checks the copy, and only then gives it its name.
fn back_up(database: &Connection, to: &Path) -> Result<(), OpenError> {
    let unfinished = file::beside(to, ".part");
    file::new_file(&unfinished)?;
    database.backup(MAIN_DB, &unfinished, None)?;
    let copy = Connection::open(&unfinished)?;
    let finding: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    copy.close().map_err(|(_, error)| error)?;
    if finding != "ok" {
        return Err(OpenError::BackupDamaged { finding });
    }
    file::appear(&unfinished, to)
}

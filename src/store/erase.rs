//! Forgetting one person: their salt is destroyed, and with it the key to everything that was sealed for them. The audit log keeps the
//! sealed bytes, which are noise from then on, so that it still verifies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::connection;
use super::error::StoreError;
use super::handle::Store;
use super::submission::SubmissionOutcome;
use super::work::Work;
use crate::audit::{Event, Exported, Record};
use crate::files;
use crate::phone::Caller;

/// How long one attempt to empty the write-ahead log may hold the writer up.
const CHECKPOINT_BUSY: Duration = Duration::from_millis(100);
/// How often it is tried: readers may be in the way for a moment.
const CHECKPOINTS: u32 = 40;

/// What became of an erasure: the document that `erase --json` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a document of independent facts"
)]
pub struct Erased {
    /// False where nothing was known of this person, and where nothing was to be erased.
    pub erased: bool,
    /// Whether something is known of them, and was not to be erased.
    #[serde(default)]
    pub known: bool,
    /// How many calls of theirs were known.
    pub calls: u64,
    /// How many answers to webhooks of those calls were deleted.
    pub answers: u64,
    /// Whether a profile was kept of them.
    pub profile: bool,
    /// False where somebody who reads the database for long kept its write-ahead log from being emptied: its old pages go when that ends.
    pub wal_emptied: bool,
    /// Copies of the database beside it, from before migrations. They still know the person.
    pub copies: Vec<PathBuf>,
}

impl Store {
    /// Forgets a caller, then empties the write-ahead log. `None` for a caller whose number is withheld: that is nobody in particular.
    pub async fn erase(&self, caller: &Caller) -> Result<Option<Erased>, StoreError> {
        let Some(identity) = self.key_ring().identity(caller) else {
            return Ok(None);
        };
        let now = self.clock().now().as_millisecond();
        let SubmissionOutcome::Erased(found) = self.submit(Work::Erase { identity, now }).await?
        else {
            return Err(StoreError::Closed);
        };
        let path = self.path().to_owned();
        let clock = self.clock().clone();
        let unavailable = |error: tokio::task::JoinError| StoreError::Unavailable(error.into());
        let mut is_wal_empty = false;
        for _ in 0..CHECKPOINTS {
            let path = path.clone();
            let emptied = tokio::task::spawn_blocking(move || empty_wal(&path)).await;
            is_wal_empty = emptied.map_err(unavailable)?;
            if is_wal_empty {
                break;
            }
            clock.wait(CHECKPOINT_BUSY).await;
        }
        Ok(Some(Erased {
            erased: found.is_some(),
            known: false,
            calls: found.map_or(0, |found| found.calls),
            answers: found.map_or(0, |found| found.answers),
            profile: found.is_some_and(|found| found.profile),
            wal_emptied: is_wal_empty,
            copies: copies(&path),
        }))
    }

    /// What [`Store::erase`] would erase. Changes nothing.
    pub async fn known_of(&self, caller: &Caller) -> Result<Option<Erased>, StoreError> {
        let Some(identity) = self.key_ring().identity(caller) else {
            return Ok(None);
        };
        let path = self.path().to_owned();
        self.ask(move |reader| {
            let (profile, is_caller, calls, answers): (bool, bool, i64, i64) = reader.query_row(
                "SELECT EXISTS (SELECT 1 FROM profiles WHERE identity_hash = ?1),
                        EXISTS (SELECT 1 FROM callers WHERE identity_hash = ?1),
                        (SELECT count(*) FROM calls
                         WHERE caller_id = (SELECT id FROM callers WHERE identity_hash = ?1)),
                        (SELECT count(*) FROM audit_records WHERE kind = 'call_answered' AND call_id IN (
                             SELECT id FROM calls
                             WHERE caller_id = (SELECT id FROM callers WHERE identity_hash = ?1)))",
                [identity.0],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )?;
            Ok(Some(Erased {
                erased: false,
                known: profile || is_caller,
                calls: calls.unsigned_abs(),
                answers: answers.unsigned_abs(),
                profile,
                wal_emptied: true,
                copies: copies(&path),
            }))
        })
        .await
    }

    /// Writes into the log that records left this machine with numbers in the clear.
    pub async fn record_export(&self, exported: Exported) -> Result<(), StoreError> {
        let record = Record::of_service(self.clock().now(), Event::Exported(exported));
        self.append(vec![record]).await.map(drop)
    }
}

fn empty_wal(path: &Path) -> bool {
    connection::open_writer(path, CHECKPOINT_BUSY)
        .and_then(|connection| Ok(connection::checkpoint(&connection, CHECKPOINT_BUSY)?))
        .unwrap_or(false)
}

/// The copies that migrations have left beside the database.
fn copies(database: &Path) -> Vec<PathBuf> {
    let Some(name) = database.file_name() else {
        return Vec::new();
    };
    let begin = format!("{}.v", name.to_string_lossy());
    let Ok(entries) = std::fs::read_dir(files::folder(database)) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(&begin) && name.ends_with(".bak")
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

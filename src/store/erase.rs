//! Forgetting one person: their key is destroyed, and with it the way to everything that was sealed for them. The audit log keeps the
//! sealed bytes, which are noise from then on, so that it still verifies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::handle::Store;
use super::submission::SubmissionOutcome;
use super::work::Work;
use super::{callers, connection, key_ring, list_entries, profiles};
use crate::audit::{CallerErased, Event, Exported, Record};
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
    /// How many entries of lists were deleted.
    #[serde(default)]
    pub list_entries: u64,
    /// How many blocks stay, each as a keyed hash without number and reason.
    #[serde(default)]
    pub blocks: u64,
    /// Where the configuration, or a file of one of its lists, still names the number. That is for a person to change.
    #[serde(default)]
    pub named_in: Vec<String>,
    /// False where somebody who reads the database for long kept its write-ahead log from being emptied: its old pages go when that ends.
    pub wal_emptied: bool,
    /// Copies of the database beside it, from before migrations. They still know the person.
    pub copies: Vec<PathBuf>,
}

impl Erased {
    fn of(found: CallerErased) -> Self {
        Self {
            calls: found.calls,
            answers: found.answers,
            profile: found.profile,
            list_entries: found.list_entries,
            blocks: found.blocks,
            ..Self::default()
        }
    }
}

impl Store {
    /// Forgets a caller, then empties the write-ahead log. `None` for a caller whose number is withheld: that is nobody in particular.
    /// `blocks`: the lists that turn callers away, of whose entries a keyed hash stays.
    pub async fn erase(
        &self,
        caller: &Caller,
        blocks: &[String],
    ) -> Result<Option<Erased>, StoreError> {
        let Some(who) = key_ring::who(caller) else {
            return Ok(None);
        };
        let now = self.clock().now().as_millisecond();
        let blocks = blocks.to_vec();
        let work = Work::Erase { who, blocks, now };
        let SubmissionOutcome::Erased(found) = self.submit(work).await? else {
            return Err(StoreError::Closed);
        };
        let is_wal_empty = self.empty_wal().await?;
        Ok(Some(Erased {
            erased: found.is_some(),
            wal_emptied: is_wal_empty,
            copies: copies(self.path()),
            ..Erased::of(found.unwrap_or_default())
        }))
    }

    /// Empties the write-ahead log, so that nothing is left in it of what was overwritten. `false` where readers were in the way for too long.
    pub(super) async fn empty_wal(&self) -> Result<bool, StoreError> {
        for _ in 0..CHECKPOINTS {
            let path = self.path().to_owned();
            let emptied = tokio::task::spawn_blocking(move || empty_wal(&path)).await;
            if emptied.map_err(|error| StoreError::Unavailable(error.into()))? {
                return Ok(true);
            }
            self.clock().wait(CHECKPOINT_BUSY).await;
        }
        Ok(false)
    }

    /// What [`Store::erase`] would erase. Changes nothing.
    pub async fn known_of(
        &self,
        caller: &Caller,
        blocks: &[String],
    ) -> Result<Option<Erased>, StoreError> {
        let Some(who) = key_ring::who(caller) else {
            return Ok(None);
        };
        let (path, blocks) = (self.path().to_owned(), blocks.to_vec());
        self.ask(move |reader| {
            let lists = list_entries::known_of(reader, &who, &blocks)?;
            let caller = callers::find(reader, reader.key_ring(), &who)?;
            let profile = profiles::has(reader, reader.key_ring(), &who)?;
            let (calls, answers): (i64, i64) = reader.query_row(
                "SELECT (SELECT count(*) FROM calls WHERE caller_id = ?1),
                        (SELECT count(*) FROM audit_records WHERE kind = 'call_answered' AND call_id IN (
                             SELECT id FROM calls WHERE caller_id = ?1))",
                [caller],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            let known = CallerErased {
                calls: calls.unsigned_abs(),
                answers: answers.unsigned_abs(),
                profile,
                ..lists
            };
            Ok(Some(Erased {
                known: caller.is_some() || known != CallerErased::default(),
                wal_emptied: true,
                copies: copies(&path),
                ..Erased::of(known)
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

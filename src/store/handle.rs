//! The store as the rest of the product holds it: opened, written to, asked, closed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::callers::Encryptor;
use super::committed::Committed;
use super::error::{OpenError, StoreError};
use super::flush_watchdog::FlushWatchdog;
use super::key_ring::KeyRing;
use super::ledger::RecordLedger;
use super::migrations::{MigrationStep, STEPS};
use super::options::Options;
use super::profiles::StoredProfile;
use super::readers::{Readers, RowReader};
use super::reserve::Reserve;
use super::sessions::{SessionChange, StoredSession};
use super::submission::{Submission, SubmissionOutcome};
use super::work::{self, Effect, PreparedRecord, Work};
use super::write_queue::{Message, SpoolPlace, StoreHealth, WriteQueue};
use super::writer::{self, Writer};
use super::{audit_records, connection, copy, file, key_check, lasting_keys, migrate, spool_mark};
use crate::audit::{Record, SigningStatus};
use crate::call::PassportKeys;
use crate::clock::Clock;
use crate::phone::E164;
use crate::routing::ListKey;

/// Where records came to stand in the log. Without records, `last_id` is the one before `first_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The id of the first.
    pub first_id: i64,
    /// The id of the last.
    pub last_id: i64,
}

/// Whether a call was seen for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstWrite {
    /// It was; its records are written.
    First,
    /// It was not; nothing was written. [`Store::answer`] knows what the call was answered.
    Repeat,
}

/// Commits that a listener may lie behind.
const COMMITS_BEHIND: usize = 1_024;

/// The store. Cheap to clone; all clones share one writer.
#[derive(Clone)]
pub struct Store(pub(super) Arc<StoreState>);

pub(super) struct StoreState {
    queue: mpsc::Sender<Message>,
    #[cfg(test)]
    pub(super) faults: mpsc::Sender<writer::Commit>,
    health: watch::Receiver<StoreHealth>,
    ledger: Arc<RecordLedger>,
    reserve: Reserve,
    pub(super) wal: PathBuf,
    is_wal_missing: bool,
    commits: broadcast::Sender<Arc<[Committed]>>,
    readers: Readers,
    clock: Clock,
    path: PathBuf,
    pub(super) signing_status: watch::Sender<SigningStatus>,
    key_ring: KeyRing,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the database: makes an absent one, migrates an older one after a backup beside it, refuses what is newer, not
    /// ours, in use, or sealed under another secret. Blocks; meant for the start of the process.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        Self::open_with(options, STEPS)
    }

    pub(super) fn open_with(options: &Options, steps: &[MigrationStep]) -> Result<Self, OpenError> {
        connection::check_sqlite()?;
        let reserve = Reserve::new(
            file::beside(&options.path, ".ballast"),
            options.reserve_bytes,
        );
        // On a full disk, not even an open database can be read for the first time.
        reserve.release_if_full();
        let lock = file::lock(&options.path)?;
        let is_wal_missing = lock.is_log_missing;
        migrate::up_with(&options.path, &options.clock, &options.key_ring, steps)?;
        let connection = connection::open_writer(&options.path, connection::WRITER_BUSY)?;
        key_check::write(&connection, &options.key_ring)?;
        let key_ring = lasting_keys::read(&connection, &options.key_ring)?;
        let readers = Readers::open(&options.path, key_ring.clone(), options.reader_patience)?;
        reserve.restore();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| OpenError::Start(error.into()))?;
        let (queue, arrivals) = mpsc::channel(writer::QUEUE);
        #[cfg(test)]
        let (faults, faults_due) = mpsc::channel(8);
        let (health, health_seen) = watch::channel(StoreHealth::default());
        let (commits, _) = broadcast::channel(COMMITS_BEHIND);
        let ledger = Arc::<RecordLedger>::default();
        let place = SpoolPlace {
            path: options.spool.clone(),
            wanted: options.spool_bytes,
            key_ring: key_ring.clone(),
            log_id: audit_records::log_id(&connection)?,
        };
        let write_queue = Arc::new(Mutex::new(WriteQueue::new(
            options.clock.clone(),
            arrivals,
            health,
            Arc::clone(&ledger),
            options.backlog,
            place,
            spool_mark::get(&connection)?,
        )));
        let mut writer = Writer {
            path: options.path.clone(),
            clock: options.clock.clone(),
            runtime,
            write_queue: Arc::clone(&write_queue),
            reserve: reserve.clone(),
            commits: commits.clone(),
            connection: Some(connection),
            encryptor: Encryptor::new(key_ring.clone()),
            #[cfg(test)]
            faults: faults_due,
            lock,
            state: writer::State::default(),
        };
        writer.drain();
        let (writes, writer_ended) = std::sync::mpsc::channel();
        let flush_watchdog = FlushWatchdog {
            write_queue,
            reserve: reserve.clone(),
            clock: options.clock.clone(),
            patience: options.patience,
            writer: writer_ended,
        };
        let start = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let flush_watchdog = start("store-watchdog")
            .spawn(move || flush_watchdog.run())
            .map_err(|error| OpenError::Start(error.into()))?;
        let thread = start("store-writer")
            .spawn(move || writer.run(flush_watchdog, writes))
            .map_err(|error| OpenError::Start(error.into()))?;
        Ok(Self(Arc::new(StoreState {
            queue,
            #[cfg(test)]
            faults,
            health: health_seen,
            ledger,
            reserve,
            is_wal_missing,
            wal: file::beside(&options.path, "-wal"),
            commits,
            readers,
            clock: options.clock.clone(),
            path: options.path.clone(),
            signing_status: watch::Sender::default(),
            key_ring,
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Writes records, all or none; returns when they are on the disk. Once queued they are written even if the caller
    /// stops waiting.
    pub async fn append(&self, records: Vec<Record>) -> Result<Appended, StoreError> {
        match self.submit(Work::Append(Self::prepare(records)?)).await? {
            SubmissionOutcome::Written { first_id, last_id } => Ok(Appended { first_id, last_id }),
            SubmissionOutcome::Repeat | SubmissionOutcome::Erased(_) => Err(StoreError::Closed),
        }
    }

    /// Writes the records of a call that begins, the first of them its `CallDecided`, unless the call is known already.
    ///
    /// After [`StoreError::Deferred`] the records are written in any case: whoever was told to go on has answered a caller.
    pub async fn open_call(&self, records: Vec<Record>) -> Result<FirstWrite, StoreError> {
        let records = Self::prepare(records)?;
        let begins = records
            .first()
            .is_some_and(|record| matches!(record.effect, Effect::Begin(_)));
        let work = Work::Open(records);
        if !begins {
            let reason = "the first record of a call must be its decision, with its call id";
            // Dropping the submission puts its records into the log.
            drop(Submission::new(work, Arc::clone(&self.0.ledger)));
            return Err(StoreError::Rejected(reason.into()));
        }
        match self.submit(work).await? {
            SubmissionOutcome::Written { .. } => Ok(FirstWrite::First),
            SubmissionOutcome::Repeat => Ok(FirstWrite::Repeat),
            SubmissionOutcome::Erased(_) => Err(StoreError::Closed),
        }
    }

    /// Keeps profiles for the next start.
    pub async fn save_profiles(&self, profiles: Vec<StoredProfile>) -> Result<(), StoreError> {
        let now = self.0.clock.now().as_millisecond();
        self.submit(Work::SaveProfiles { profiles, now })
            .await
            .map(drop)
    }

    /// Keeps a session for the next start.
    pub async fn keep_session(&self, session: StoredSession) -> Result<(), StoreError> {
        let change = SessionChange::Kept(session);
        self.submit(Work::Session(change)).await.map(drop)
    }

    /// Notes that a session was used, if the writer has room for it now; nobody waits for it.
    pub fn note_session(&self, session: StoredSession) {
        let work = Work::Session(SessionChange::Kept(session));
        let (submission, _) = Submission::new(work, Arc::clone(&self.0.ledger));
        drop(self.0.queue.try_send(Message::Submit(submission)));
    }

    pub async fn end_session(&self, token_hash: [u8; 32]) -> Result<(), StoreError> {
        self.submit(Work::Session(SessionChange::Ended(token_hash)))
            .await
            .map(drop)
    }

    /// Hears of every commit from now on. Who does not listen fast enough misses some, and is told how many; the writer waits for nobody.
    pub fn watch_commits(&self) -> broadcast::Receiver<Arc<[Committed]>> {
        self.0.commits.subscribe()
    }

    pub async fn delete_profile(&self, phone: E164) -> Result<(), StoreError> {
        self.submit(Work::DeleteProfile(phone)).await.map(drop)
    }

    /// Deletes entries of lists that ended by now.
    pub async fn expire_list_entries(&self) -> Result<(), StoreError> {
        let now = self.0.clock.now().as_millisecond();
        self.submit(Work::ExpireListEntries(now)).await.map(drop)
    }

    /// Makes one commit that changes nothing, as proof that the disk takes records.
    pub async fn beat(&self) -> Result<(), StoreError> {
        self.submit(Work::Beat).await.map(drop)
    }

    /// Returns when somebody has looked at the writer's queue, whether or not the disk works.
    pub async fn writer_answers(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let asked = self.0.queue.send(Message::Ask(answer)).await;
        asked.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)
    }

    /// Serialises on the submitting side: the writer's thread only seals, hashes and writes.
    fn prepare(records: Vec<Record>) -> Result<Vec<PreparedRecord>, StoreError> {
        records.into_iter().map(work::prepare).collect()
    }

    pub(super) async fn submit(&self, work: Work) -> Result<SubmissionOutcome, StoreError> {
        let (submission, verdict) = Submission::new(work, Arc::clone(&self.0.ledger));
        self.0
            .queue
            .send(Message::Submit(submission))
            .await
            .map_err(|_| StoreError::Closed)?;
        verdict.await.map_err(|_| StoreError::Closed)?
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.0.queue.capacity() == self.0.queue.max_capacity()
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub fn key_ring(&self) -> &KeyRing {
        &self.0.key_ring
    }

    /// Under which callers are known to dialers: the same after the installation's secret was changed.
    pub fn reference_key(&self) -> [u8; 32] {
        self.0.key_ring.lasting().references
    }

    /// Under which the state of calls is sealed for callback URLs.
    pub fn passport_keys(&self) -> PassportKeys {
        self.0.key_ring.passport_keys()
    }

    /// Under which numbers of entries of lists are hashed: the same after the installation's secret was changed.
    pub fn list_key(&self) -> ListKey {
        self.0.key_ring.list_key()
    }

    /// What is wrong with rows that steer calls or grant rights: how many were found that are not what was written, and the first of them; `None`
    /// where every one that was read is.
    pub fn altered_rows(&self) -> Option<String> {
        let (count, table, row) = self.0.key_ring.altered()?;
        let more = if count > 1 {
            format!(", and {} more", count - 1)
        } else {
            String::new()
        };
        Some(format!(
            "row {row} of {table} is not the one that was written{more}; it is not used"
        ))
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&RowReader<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.0.readers.ask(question).await
    }

    /// What the database and its write-ahead log take on the disk, in bytes; 0 for a file that cannot be looked at.
    pub fn size_bytes(&self) -> u64 {
        let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |data| data.len());
        size(&self.0.path).saturating_add(size(&self.0.wal))
    }

    /// The last backup that was made of it; `None` where none is known of. Asks the file system, which may hang.
    pub async fn last_backup(&self) -> Option<copy::Manifest> {
        let path = self.0.path.clone();
        let key_ring = self.0.key_ring.clone();
        let asked = tokio::task::spawn_blocking(move || copy::last_backup(&path, &key_ring));
        asked.await.ok().flatten()
    }

    /// How the writer is doing.
    pub fn health(&self) -> StoreHealth {
        self.current(self.0.health.borrow().clone())
    }

    fn current(&self, health: StoreHealth) -> StoreHealth {
        let counts = self.0.ledger.counts();
        StoreHealth {
            running: !self.0.queue.is_closed(),
            lost: counts.lost,
            counts,
            reserve_missing: self.0.reserve.is_missing(),
            wal_missing: self.0.is_wal_missing,
            wal_bytes: std::fs::metadata(&self.0.wal).map_or(0, |file| file.len()),
            ..health
        }
    }

    /// Waits until `is_so` of the writer's health; gives the health then. Ends at once when the writer has.
    pub async fn health_when(&self, mut is_so: impl FnMut(&StoreHealth) -> bool) -> StoreHealth {
        let mut seen = self.0.health.clone();
        match seen
            .wait_for(|health| is_so(&self.current(health.clone())))
            .await
        {
            Ok(health) => self.current(health.clone()),
            Err(_) => self.health(),
        }
    }

    /// Writes what is waiting, empties the write-ahead log and ends the writer. What cannot be written goes to the log.
    /// Submissions that come later are refused.
    pub async fn close(&self) {
        // The queue is closed already where somebody else was faster.
        drop(self.0.queue.send(Message::Close).await);
        let thread = self
            .0
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else { return };
        let ended = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!(
                event = "store.writer_died",
                "the writer of the database ended by a panic"
            );
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.health()).finish()
    }
}

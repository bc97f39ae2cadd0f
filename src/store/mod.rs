//! The store: one `SQLite` file, one thread that writes, a few readers.
//!
//! The audit log is the truth; the other tables of calls are projections that change in the same transaction. What is
//! acknowledged is on the disk (`synchronous=FULL`). SQL lives here and nowhere else, a file per table.

mod alerting;
mod answers;
mod audit_records;
mod batch;
mod caller_records;
mod callers;
mod calls;
mod checkpoints;
mod column;
mod connection;
pub mod copy;
mod dialer_states;
mod erase;
mod error;
mod examine;
mod file;
mod flush_watchdog;
mod forgotten_calls;
mod found;
mod head_file;
mod histogram;
mod incidents;
mod key_check;
mod key_ring;
mod ledger;
mod legs;
mod log_reader;
pub mod migrate;
mod migrations;
mod outbox;
mod pages;
mod profiles;
mod prune;
mod readers;
mod reserve;
mod rollups;
mod rows;
mod schema;
mod sessions;
mod signer;
mod spool;
mod spool_mark;
mod submission;
#[cfg(test)]
mod tests;
pub mod verify;
mod work;
mod write_queue;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub use alerting::IncidentWithMessages;
pub use audit_records::{RawRecord, StoredRecord};
pub use calls::{InProgress, StoredCall};
pub use erase::Erased;
pub use error::{OpenError, StoreError};
pub use examine::{Chain, Examination, Integrity, examine};
pub use forgotten_calls::Past;
pub use head_file::{head_path, read_head};
pub use histogram::Histogram;
pub use incidents::StoredIncident;
pub use key_ring::KeyRing;
pub use ledger::RecordCounts;
pub use legs::{LegDirection, StoredLeg};
pub use log_reader::LogReader;
pub use outbox::{Attempted, MessageState, StoredMessage};
pub use pages::{CallPlace, CallSearch, CallsAsked, Part, RecordsAsked, Rows};
pub use profiles::StoredProfile;
pub use prune::{KeptLonger, PruneError, PruneReport, Pruner};
pub use rollups::{Figures, GroupFigures, Handoffs};
pub use sessions::StoredSession;
pub use signer::CheckpointSigner;
pub use write_queue::StoreHealth;

use crate::audit::{
    ChainLink, Event, HandoffIntended, Kind, Record, Restored, RollbackAccepted, ServiceState,
    SignedTreeHead, SigningKeyNamed, SigningStatus,
};
use crate::call::CallId;
use crate::clock::Clock;
use crate::files;
use crate::phone::E164;
use callers::Encryptor;
use flush_watchdog::FlushWatchdog;
use ledger::RecordLedger;
use migrations::{MigrationStep, STEPS};
use readers::{Readers, RowReader};
use reserve::Reserve;
use sessions::SessionChange;
use submission::{Submission, SubmissionOutcome};
use work::{Effect, PreparedRecord, Work};
use write_queue::{Message, SpoolPlace, WriteQueue};
use writer::Writer;

pub const MIB: u64 = 1024 * 1024;

/// What the store is opened with.
#[derive(Clone)]
pub struct Options {
    /// The database file; `.lock`, `-wal`, `-shm` and backups lie beside it.
    pub path: PathBuf,
    /// Tells the time of commits and failures.
    pub clock: Clock,
    /// How many submissions may wait in memory while neither the database nor the spool takes them.
    pub backlog: usize,
    /// Where records wait while the database does not take them.
    pub spool: PathBuf,
    /// How large the spool is, in bytes; 0 for none. Never more than an eighth of its file system.
    pub spool_bytes: u64,
    /// How much room is kept on the disk for the day on which it is full, in bytes; 0 for none. Never more than an eighth of it.
    pub reserve_bytes: u64,
    /// How long a commit may keep submitters waiting; after that, their records go to the spool.
    pub patience: Duration,
    /// How long a question waits for a free reader, and a reader for a lock.
    pub reader_patience: Duration,
    /// Makes personal data unreadable to whoever has the file alone.
    pub key_ring: KeyRing,
}

impl Options {
    pub fn new(path: impl Into<PathBuf>, clock: Clock, key_ring: KeyRing) -> Self {
        let path = path.into();
        Self {
            spool: file::beside(&path, ".spool"),
            path,
            clock,
            backlog: 10_000,
            spool_bytes: 64 * MIB,
            reserve_bytes: 64 * MIB,
            patience: Duration::from_millis(250),
            reader_patience: Duration::from_millis(200),
            key_ring,
        }
    }

    /// For a command, which has nobody on the line: it waits for a slow disk where a server goes on without it.
    pub fn unhurried(self) -> Self {
        let minute = Duration::from_mins(1);
        Self {
            patience: minute,
            reader_patience: minute,
            ..self
        }
    }
}

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

/// A record that has reached the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log.
    pub id: i64,
    /// What kind of record it is.
    pub kind: Kind,
    /// The call it belongs to.
    pub call: Option<CallId>,
    /// With this record the call ended.
    pub ended: Option<EndedCall>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedCall {
    pub disposition: String,
    /// The dialer that was dialled last.
    pub dialer: Option<String>,
}

/// Commits that a listener may lie behind.
const COMMITS_BEHIND: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub records: i64,
    pub oldest_record: Option<i64>,
    /// Calls since the database was made: their highest row.
    pub calls: i64,
    pub active_calls: i64,
    pub profiles: i64,
}

/// The store. Cheap to clone; all clones share one writer.
#[derive(Clone)]
pub struct Store(Arc<StoreState>);

struct StoreState {
    queue: mpsc::Sender<Message>,
    #[cfg(test)]
    faults: mpsc::Sender<writer::Commit>,
    health: watch::Receiver<StoreHealth>,
    ledger: Arc<RecordLedger>,
    reserve: Reserve,
    wal: PathBuf,
    is_wal_missing: bool,
    commits: broadcast::Sender<Arc<[Committed]>>,
    readers: Readers,
    clock: Clock,
    path: PathBuf,
    signing_status: watch::Sender<SigningStatus>,
    key_ring: KeyRing,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("path", &self.path)
            .field("spool", &self.spool)
            .finish_non_exhaustive()
    }
}

/// Whether the database at `path` is there and holds data sealed under some secret: a new secret could not read it.
pub fn is_sealed(path: &Path) -> Result<bool, OpenError> {
    key_check::is_sealed(path)
}

impl Store {
    /// Opens the database: makes an absent one, migrates an older one after a backup beside it, refuses what is newer, not
    /// ours, in use, or sealed under another secret. Blocks; meant for the start of the process.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        Self::open_with(options, STEPS)
    }

    fn open_with(options: &Options, steps: &[MigrationStep]) -> Result<Self, OpenError> {
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
        let readers = Readers::open(
            &options.path,
            options.key_ring.clone(),
            options.reader_patience,
        )?;
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
            key_ring: options.key_ring.clone(),
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
            encryptor: Encryptor::new(options.key_ring.clone()),
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
            key_ring: options.key_ring.clone(),
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Writes records, all or none; returns when they are on the disk. Once queued they are written even if the caller
    /// stops waiting.
    pub async fn append(&self, records: Vec<Record>) -> Result<Appended, StoreError> {
        match self.submit(Work::Append(self.prepare(records)?)).await? {
            SubmissionOutcome::Written { first_id, last_id } => Ok(Appended { first_id, last_id }),
            SubmissionOutcome::Repeat | SubmissionOutcome::Erased(_) => Err(StoreError::Closed),
        }
    }

    /// Writes the records of a call that begins, the first of them its `CallDecided`, unless the call is known already.
    ///
    /// After [`StoreError::Deferred`] the records are written in any case: whoever was told to go on has answered a caller.
    pub async fn open_call(&self, records: Vec<Record>) -> Result<FirstWrite, StoreError> {
        let records = self.prepare(records)?;
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

    /// Every session, the latest used first.
    pub async fn sessions(&self) -> Result<Vec<StoredSession>, StoreError> {
        let now = self.0.clock.now();
        self.ask(move |reader| sessions::all(reader, now)).await
    }

    /// The figures from one time to another, in milliseconds since the Unix epoch and whole minutes, in steps of `step_ms`, by where they begin.
    pub async fn figures(
        &self,
        from: i64,
        to: i64,
        step_ms: i64,
    ) -> Result<BTreeMap<i64, Figures>, StoreError> {
        self.ask(move |reader| rollups::between(reader, from, to, step_ms))
            .await
    }

    /// Hears of every commit from now on. Who does not listen fast enough misses some, and is told how many; the writer waits for nobody.
    pub fn watch_commits(&self) -> broadcast::Receiver<Arc<[Committed]>> {
        self.0.commits.subscribe()
    }

    pub async fn delete_profile(&self, phone: E164) -> Result<(), StoreError> {
        self.submit(Work::DeleteProfile(phone)).await.map(drop)
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
    fn prepare(&self, records: Vec<Record>) -> Result<Vec<PreparedRecord>, StoreError> {
        records
            .into_iter()
            .map(|record| work::prepare(record, &self.0.key_ring))
            .collect()
    }

    async fn submit(&self, work: Work) -> Result<SubmissionOutcome, StoreError> {
        let (submission, verdict) = Submission::new(work, Arc::clone(&self.0.ledger));
        self.0
            .queue
            .send(Message::Submit(submission))
            .await
            .map_err(|_| StoreError::Closed)?;
        verdict.await.map_err(|_| StoreError::Closed)?
    }

    /// What a step of a call was answered.
    pub async fn answer(&self, call: &CallId, step: &str) -> Result<Option<String>, StoreError> {
        let (call, step) = (call.clone(), step.to_owned());
        self.ask(move |reader| answers::find(reader, &call, &step))
            .await
    }

    /// What is left of a call, and what that means for a webhook of it. Its carrier repeats webhooks for `repeats` after its end.
    pub async fn past(&self, call: &CallId, repeats: SignedDuration) -> Result<Past, StoreError> {
        let call = call.clone();
        let before = self.0.clock.now().as_millisecond();
        let before = before.saturating_sub(i64::try_from(repeats.as_millis()).unwrap_or(i64::MAX));
        self.ask(move |reader| Ok(forgotten_calls::past(reader, &call, before)?))
            .await
    }

    pub async fn call(&self, call: &CallId) -> Result<Option<StoredCall>, StoreError> {
        let call = call.clone();
        self.ask(move |reader| calls::find(reader, &call)).await
    }

    /// The calls on hold, oldest first. At start: those who wait since before.
    pub async fn calls_held(&self) -> Result<Vec<StoredCall>, StoreError> {
        self.ask(calls::held).await
    }

    /// Calls in progress of which nothing was heard since `before`, longest silence first: each with the time of its last news.
    pub async fn silent_calls(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(CallId, Timestamp)>, StoreError> {
        self.ask(move |reader| calls::silent(reader, before, limit))
            .await
    }

    /// Calls in progress, in the order of their arrival, each with its time.
    pub async fn calls_in_progress(&self) -> Result<Vec<(CallId, Timestamp)>, StoreError> {
        self.ask(calls::in_progress).await
    }

    /// The last intents to hand off that nothing concludes, of calls that arrived at these times. Records after `through` do
    /// not count.
    pub async fn open_intents(
        &self,
        calls: Vec<(CallId, Timestamp)>,
        through: i64,
    ) -> Result<Vec<(CallId, HandoffIntended)>, StoreError> {
        self.ask(move |reader| {
            let mut open = Vec::new();
            for (call, since) in calls {
                let detail = audit_records::open_intent(reader, &call, since, through)?;
                let intended = detail.and_then(|detail| serde_json::from_str(&detail).ok());
                open.extend(intended.map(|intended| (call, intended)));
            }
            Ok(open)
        })
        .await
    }

    /// How many calls are in progress.
    pub async fn count_active_calls(&self) -> Result<i64, StoreError> {
        self.ask(|reader| Ok(calls::count_active(reader)?)).await
    }

    /// Calls in progress, by where they stand.
    pub async fn calls_in_progress_now(&self) -> Result<InProgress, StoreError> {
        self.ask(|reader| Ok(calls::in_progress_now(reader)?)).await
    }

    pub async fn recent_calls(&self, limit: u32) -> Result<Vec<StoredCall>, StoreError> {
        self.ask(move |reader| calls::recent(reader, limit)).await
    }

    /// The legs of a call, in the order in which they were heard of.
    pub async fn legs(&self, call: &CallId) -> Result<Vec<StoredLeg>, StoreError> {
        let call = call.clone();
        self.ask(move |reader| legs::of_call(reader, &call)).await
    }

    /// The records of a call, in order.
    pub async fn records_of_call(&self, call: &CallId) -> Result<Vec<StoredRecord>, StoreError> {
        let call = call.clone();
        self.ask(move |reader| read_all(reader, audit_records::of_call(reader, &call)?))
            .await
    }

    /// The records after `after_id`, in order: a page.
    pub async fn records(
        &self,
        after_id: i64,
        limit: u32,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        self.ask(move |reader| read_all(reader, audit_records::after(reader, after_id, limit)?))
            .await
    }

    /// As [`Store::records`], byte for byte, for a verifier.
    pub async fn raw_records(
        &self,
        after_id: i64,
        limit: u32,
    ) -> Result<Vec<RawRecord>, StoreError> {
        self.ask(move |reader| Ok(audit_records::after(reader, after_id, limit)?))
            .await
    }

    /// A page of calls, newest first, each with its legs.
    pub async fn calls_page(
        &self,
        asked: CallsAsked,
        part: Part<CallPlace>,
    ) -> Result<Rows<(StoredCall, Vec<StoredLeg>), CallPlace>, StoreError> {
        self.ask(move |reader| pages::calls(reader, &asked, part))
            .await
    }

    /// A page of audit records, newest first.
    pub async fn records_page(
        &self,
        asked: RecordsAsked,
        part: Part<i64>,
    ) -> Result<Rows<StoredRecord, i64>, StoreError> {
        self.ask(move |reader| pages::records(reader, &asked, part))
            .await
    }

    /// The end of the audit chain.
    pub async fn head(&self) -> Result<ChainLink, StoreError> {
        self.ask(|reader| Ok(audit_records::head(reader)?)).await
    }

    /// Where the audit log was signed last, and whether it can be signed.
    pub fn signing_status(&self) -> SigningStatus {
        self.0.signing_status.borrow().clone()
    }

    fn publish_signing_status(&self, signing_status: SigningStatus) {
        self.0.signing_status.send_replace(signing_status);
    }

    /// Gives up the head that is kept beside the database, or that is gone, for what the database holds: writes one anew, and records that. Gives
    /// the head that was given up; `None` where there was none to give up and nothing is signed.
    pub async fn accept_rollback(&self) -> Result<Option<SignedTreeHead>, StoreError> {
        let path = head_path(self.path());
        let unreadable = |error: std::io::Error| StoreError::Unavailable(error.into());
        let signed = self.signed_head().await?;
        let given_up = read_head(&path).ok().flatten().or(signed.clone());
        let Some(given_up) = given_up else {
            return Ok(None);
        };
        let accepted = RollbackAccepted {
            records: given_up.records,
            head: given_up.head.clone(),
        };
        let event = Event::RollbackAccepted(accepted);
        let record = Record::of_service(self.clock().now(), event);
        self.append(vec![record]).await?;
        match signed {
            Some(head) => head_file::write_head(&path, &head),
            None => files::remove(&path),
        }
        .map_err(unreadable)?;
        Ok(Some(given_up))
    }

    /// Records that a backup was put in place of the database, and writes the head beside it anew where there is none.
    pub async fn record_restored(&self, records: u64, head: String) -> Result<(), StoreError> {
        let path = head_path(self.path());
        let unreadable = |error: std::io::Error| StoreError::Unavailable(error.into());
        let is_missing = read_head(&path).map_err(unreadable)?.is_none();
        let signed = self.signed_head().await?.filter(|_| is_missing);
        let restored = Restored {
            records,
            head,
            head_written: signed.is_some(),
        };
        let record = Record::of_service(self.clock().now(), Event::Restored(restored));
        self.append(vec![record]).await?;
        match signed {
            Some(head) => head_file::write_head(&path, &head).map_err(unreadable),
            None => Ok(()),
        }
    }

    /// The head that the newest checkpoint in the file signs; `None` where there is none that holds.
    async fn signed_head(&self) -> Result<Option<SignedTreeHead>, StoreError> {
        let path = self.path().to_owned();
        let asked = tokio::task::spawn_blocking(move || verify::signed_head(&path)).await;
        let unavailable = |error: error::Source| StoreError::Unavailable(error);
        let signed = asked
            .map_err(|error| unavailable(error.into()))?
            .map_err(|error| unavailable(error.into()))?;
        Ok(signed.map(|signed| signed.head))
    }

    /// When the last record happened.
    pub async fn last_record_at(&self) -> Result<Option<Timestamp>, StoreError> {
        self.ask(|reader| {
            let last = audit_records::head(reader)?;
            let at = found::first(reader, last.id, |row| column::time(row.content.created_at))?;
            Ok(at.flatten())
        })
        .await
    }

    /// The newest record of a kind in which the log tells of itself.
    async fn newest_of(&self, kind: Kind) -> Result<Option<i64>, StoreError> {
        self.ask(move |reader| {
            let newest = audit_records::last_of_kind(reader, kind)?;
            Ok(newest.map(|record| record.id))
        })
        .await
    }

    /// Whether nothing waits to be written.
    fn is_idle(&self) -> bool {
        self.0.queue.capacity() == self.0.queue.max_capacity()
    }

    /// The key that the log names last.
    async fn last_signing_key(&self) -> Result<Option<SigningKeyNamed>, StoreError> {
        self.ask(|reader| {
            let named = audit_records::last_of_kind(reader, Kind::SigningKeyNamed)?;
            let read = |named: RawRecord| serde_json::from_str(&named.detail).ok();
            Ok(named.and_then(read))
        })
        .await
    }

    fn path(&self) -> &Path {
        &self.0.path
    }

    fn clock(&self) -> &Clock {
        &self.0.clock
    }

    fn key_ring(&self) -> &KeyRing {
        &self.0.key_ring
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

    /// The random name of this audit log, made with the database.
    pub async fn log_id(&self) -> Result<String, StoreError> {
        self.ask(|reader| Ok(audit_records::log_id(reader)?)).await
    }

    /// The last recorded state of every dialer and of Braze.
    pub async fn dialer_states(&self) -> Result<Vec<ServiceState>, StoreError> {
        self.ask(dialer_states::all).await
    }

    /// The profiles, newest answer first.
    pub async fn profiles(&self, limit: u32) -> Result<Vec<StoredProfile>, StoreError> {
        self.ask(move |reader| profiles::newest(reader, limit))
            .await
    }

    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.ask(|reader| {
            let (oldest_record, records) = audit_records::extent(reader)?;
            let (calls, active_calls) = calls::count(reader)?;
            Ok(Counts {
                records,
                oldest_record,
                calls,
                active_calls,
                profiles: profiles::count(reader)?,
            })
        })
        .await
    }

    async fn ask<T: Send + 'static>(
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

fn read_all(
    reader: &RowReader<'_>,
    records: Vec<RawRecord>,
) -> Result<Vec<StoredRecord>, StoreError> {
    records
        .into_iter()
        .map(|record| record.read(reader))
        .collect()
}

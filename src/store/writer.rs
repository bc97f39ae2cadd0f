//! The one thread that writes.
//!
//! It takes what is waiting, commits it in one transaction, tells the submitters, and looks again: no timer and no delay, so
//! a lone submission waits for nobody and many share one commit.
//!
//! When the disk fails, what waits is spilled ([`WriteQueue::spill`]), submitters are told to go on ([`StoreError::Deferred`]), and the
//! database is tried again every 100 ms. A failed COMMIT may have happened: the connection is closed and the number of the last submission
//! read back from a new one before anything is tried again.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Transaction};
use tokio::runtime::Runtime;
use tokio::sync::broadcast;
#[cfg(test)]
use tokio::sync::mpsc;

use super::batch::{self, BatchError, Done, Item};
use super::callers::Encryptor;
use super::committed::Committed;
use super::error::{OpenError, StoreError, with_sources};
use super::file::WriteLock;
use super::reserve::Reserve;
use super::rollups::Added;
use super::write_queue::{self, QueuePoll, WriteQueue};
use super::{connection, spool_mark};
use crate::clock::Clock;

/// Submissions that may wait for the writer to look.
pub(super) const QUEUE: usize = 4_096;
/// Between two attempts while the disk fails.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// How long an attempt waits for a lock while the disk fails: submitters wait for it to end.
const RETRY_BUSY: Duration = Duration::from_millis(25);
/// Quiet time after which the write-ahead log is emptied.
const IDLE: Duration = Duration::from_secs(2);
/// How long that may take when a reader is in the way: a submission may arrive meanwhile.
const CHECKPOINT_BUSY: Duration = Duration::from_millis(20);

/// How a transaction is committed.
pub(super) type Commit = fn(Transaction<'_>) -> rusqlite::Result<()>;

/// A batch whose COMMIT reported an error.
struct DoubtfulCommit {
    items: Vec<Item>,
    done: Box<Done>,
    /// The disk failed while it was written: what the file says now may be in the system's memory only.
    is_unsafe: bool,
}

pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) clock: Clock,
    pub(super) runtime: Runtime,
    pub(super) write_queue: Arc<Mutex<WriteQueue>>,
    pub(super) reserve: Reserve,
    /// Who wants to hear of commits.
    pub(super) commits: broadcast::Sender<Arc<[Committed]>>,
    pub(super) connection: Option<Connection>,
    pub(super) encryptor: Encryptor,
    /// The next commits fail as tests want them to.
    #[cfg(test)]
    pub(super) faults: mpsc::Receiver<Commit>,
    pub(super) lock: WriteLock,
    pub(super) state: State,
}

/// What the writer knows of its own last steps.
#[derive(Default)]
pub(super) struct State {
    doubt: Option<DoubtfulCommit>,
    /// Set while the disk fails: when to try again.
    retry_at: Option<Instant>,
    /// How long the last commit took; it is counted with the next one.
    commit_took: Option<Duration>,
    /// Nothing was committed since the write-ahead log was last emptied.
    is_wal_empty: bool,
    /// The lock file says that there is a write-ahead log.
    is_noted: bool,
}

impl Writer {
    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        reason = "in tests, the writer holds the faults to come"
    )]
    fn commit(&mut self) -> Commit {
        commit
    }

    #[cfg(test)]
    fn commit(&mut self) -> Commit {
        self.faults.try_recv().unwrap_or(commit)
    }

    /// Writes until it is told to end, or nobody is left to submit; then ends the flush watchdog.
    pub(super) fn run(mut self, flush_watchdog: JoinHandle<()>, writes: Sender<()>) {
        while self.turn() {}
        drop(writes);
        // It has nothing left to do; that it ended by a panic has been said.
        drop(flush_watchdog.join());
        self.finish();
    }

    /// Writes what the last run left in the spool, as far as the disk takes it.
    pub(super) fn drain(&mut self) {
        while self.state.retry_at.is_none() && write_queue::lock(&self.write_queue).is_draining() {
            self.attempt();
        }
    }

    /// Takes what waits and writes it; `false` when nothing will come any more.
    fn turn(&mut self) -> bool {
        let mut write_queue = write_queue::lock(&self.write_queue);
        let pause = self.pause(write_queue.has_work());
        match write_queue.receive(&self.runtime, pause) {
            QueuePoll::End => return false,
            QueuePoll::Nothing if !write_queue.wants_commit() => {
                drop(write_queue);
                self.checkpoint(CHECKPOINT_BUSY);
                return true;
            }
            QueuePoll::Some | QueuePoll::Nothing => {}
        }
        if write_queue.is_failing() {
            write_queue.spill();
            write_queue.publish();
        }
        let is_due = write_queue.wants_commit() && self.is_due();
        drop(write_queue);
        if is_due {
            self.attempt();
        }
        true
    }

    /// How long to wait for arrivals; `None`: for as long as it takes.
    fn pause(&self, has_work: bool) -> Option<Duration> {
        match self.state.retry_at {
            Some(at) => Some(at.saturating_duration_since(self.clock.instant())),
            None if has_work => Some(Duration::ZERO),
            None => (!self.state.is_wal_empty).then_some(IDLE),
        }
    }

    fn is_due(&self) -> bool {
        self.state
            .retry_at
            .is_none_or(|at| self.clock.instant() >= at)
    }

    /// Writes one batch; notes whether the disk works.
    fn attempt(&mut self) {
        write_queue::lock(&self.write_queue).busy_since = Some(self.clock.instant());
        let written = self.write_batch();
        write_queue::lock(&self.write_queue).busy_since = None;
        match written {
            Ok(()) => self.recovered(),
            Err(error) => self.failed(&error),
        }
    }

    /// Writes one batch in one commit, without those that cannot be stored.
    fn write_batch(&mut self) -> Result<(), OpenError> {
        loop {
            self.connect()?;
            let items = write_queue::lock(&self.write_queue)
                .items()
                .map_err(|error| OpenError::Start(error.into()))?;
            let commit = self.commit();
            let Some(connection) = self.connection.as_mut().filter(|_| !items.is_empty()) else {
                return Ok(());
            };
            let mut added = Added::default();
            if let Some(took) = self.state.commit_took.take() {
                let now = self.clock.now().as_millisecond();
                added.at(now).time("commit", took.as_secs_f64() * 1_000.0);
            }
            let started = self.clock.instant();
            match batch::write(connection, &mut self.encryptor, &items, added, commit) {
                Ok(done) => {
                    let ended = self.clock.instant();
                    let took = ended.saturating_duration_since(started);
                    metrics::histogram!("switchboard_commit_seconds").record(took.as_secs_f64());
                    self.state.commit_took = Some(took);
                    self.conclude(&items, done);
                    return Ok(());
                }
                Err(BatchError::Refused { index, source }) => {
                    if let Some(item) = items.get(index) {
                        let error = StoreError::Rejected(source.into());
                        write_queue::lock(&self.write_queue).refused(item, error);
                    }
                }
                Err(BatchError::Failed(source)) => {
                    self.connection = None;
                    return Err(source.into());
                }
                Err(BatchError::InDoubt { done, source }) => {
                    self.connection = None;
                    self.state.doubt = Some(DoubtfulCommit {
                        items,
                        done,
                        is_unsafe: source.sqlite_error_code() == Some(ErrorCode::SystemIoFailure),
                    });
                    return if self.connect()? {
                        Ok(())
                    } else {
                        Err(source.into())
                    };
                }
            }
        }
    }

    /// Opens the database where it is not open, and settles a doubt by what the file says: true where a commit that had reported an error
    /// has happened.
    fn connect(&mut self) -> Result<bool, OpenError> {
        if self.connection.is_none() {
            let busy = match self.state.retry_at {
                None => connection::WRITER_BUSY,
                Some(_) => RETRY_BUSY,
            };
            self.connection = Some(connection::open_writer(&self.path, busy)?);
        }
        let (Some(connection), Some(doubt)) = (&self.connection, &self.state.doubt) else {
            return Ok(false);
        };
        let through = spool_mark::get(connection)?;
        let happened = doubt
            .items
            .last()
            .is_some_and(|last| last.number == through);
        // A failed sync may leave pages that never reach the disk and count as written. The checkpoint writes their content once more,
        // to another place.
        if happened && doubt.is_unsafe && !connection::checkpoint(connection, RETRY_BUSY)? {
            return Err(OpenError::Start(
                "a reader is in the way of a checkpoint".into(),
            ));
        }
        if let Some(DoubtfulCommit { items, done, .. }) = self.state.doubt.take()
            && happened
        {
            self.conclude(&items, *done);
        }
        Ok(happened)
    }

    /// Tells everybody of a committed batch.
    fn conclude(&mut self, items: &[Item], mut done: Done) {
        let committed = std::mem::take(&mut done.committed);
        for ended in committed.iter().filter_map(|one| one.ended.as_ref()) {
            let dialer = ended.dialer.clone().unwrap_or_else(|| "none".to_owned());
            metrics::counter!("switchboard_calls_total", "disposition" => ended.disposition.clone(), "dialer" => dialer)
                .increment(1);
        }
        if !committed.is_empty() {
            // Nobody may be listening.
            drop(self.commits.send(committed.into()));
        }
        self.state.is_wal_empty = false;
        if !std::mem::replace(&mut self.state.is_noted, true)
            && let Err(error) = self.lock.note_in_use()
        {
            tracing::warn!(event = "store.lock_unwritten", error = %error, "the lock file cannot be written; a lost -wal file would not be noticed");
        }
        write_queue::lock(&self.write_queue).committed(items, done);
    }

    fn recovered(&mut self) {
        let mut write_queue = write_queue::lock(&self.write_queue);
        write_queue.recovered();
        write_queue.publish();
        drop(write_queue);
        // The short wait for locks was for the time of failure only; a connection that cannot be told is opened anew.
        if self.state.retry_at.take().is_some()
            && let Some(connection) = &self.connection
            && connection.busy_timeout(connection::WRITER_BUSY).is_err()
        {
            self.connection = None;
        }
    }

    fn failed(&mut self, error: &OpenError) {
        write_queue::lock(&self.write_queue).failed(with_sources(error));
        let is_full = matches!(error, OpenError::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull));
        let has_made_room = if is_full {
            self.reserve.release()
        } else {
            self.reserve.release_if_full()
        };
        let pause = if has_made_room {
            Duration::ZERO
        } else {
            RETRY_EVERY
        };
        self.state.retry_at = Some(self.clock.instant() + pause);
    }

    /// Empties the write-ahead log, unless a reader is in the way; then it is tried at the next quiet time.
    fn checkpoint(&mut self, busy: Duration) {
        let Some(connection) = &self.connection else {
            return;
        };
        match connection::checkpoint(connection, busy) {
            Ok(emptied) => self.state.is_wal_empty = emptied,
            Err(error) => {
                tracing::warn!(
                    event = "store.checkpoint_failed",
                    error = %error,
                    "the write-ahead log could not be emptied"
                );
                self.connection = None;
            }
        }
    }

    /// One last attempt at everything, then the files are left tidy. What the database does not take stays in the spool.
    fn finish(mut self) {
        self.state.retry_at = None;
        while self.state.retry_at.is_none() && write_queue::lock(&self.write_queue).has_work() {
            self.attempt();
        }
        write_queue::lock(&self.write_queue).abandon();
        self.checkpoint(connection::WRITER_BUSY);
        let closed = self.connection.take().map(Connection::close);
        if matches!(closed, Some(Ok(()))) {
            // Where it cannot be written, the next start says so without need.
            drop(self.lock.note_closed());
        }
        drop(self.lock);
    }
}

fn commit(transaction: Transaction<'_>) -> rusqlite::Result<()> {
    transaction.commit()
}

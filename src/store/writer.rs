//! The one thread that writes.
//!
//! It takes what is waiting, commits it in one transaction, tells the submitters, and looks again: no timer and no delay, so
//! a lone submission waits for nobody and many share one commit.
//!
//! When the disk fails, submitters are told to go on ([`StoreError::Deferred`]) and their work stays in `pending`, in
//! order, until it can be written. A failed COMMIT may have happened: the connection is closed and the head of the log read
//! back from a new one before anything is tried again.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, Transaction};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::batch::{self, Done, Trouble};
use super::open::WriteLock;
use super::submission::Submission;
use super::{OpenError, StoreError, audit_records, connection};
use crate::clock::Clock;

/// Submissions that may wait for the writer to look.
pub(super) const QUEUE: usize = 4_096;
/// The most submissions of one transaction.
const BATCH: usize = 512;
/// Between two attempts while the disk fails.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// How long an attempt waits for a lock while the disk fails: submitters wait for it to end.
const RETRY_BUSY: Duration = Duration::from_millis(25);
/// Quiet time after which the write-ahead log is emptied.
const IDLE: Duration = Duration::from_secs(2);
/// How long that may take when a reader is in the way: a submission may arrive meanwhile.
const CHECKPOINT_BUSY: Duration = Duration::from_millis(20);

/// How the writer is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// False when the writer has ended: nothing is written any more.
    pub running: bool,
    /// Submissions in memory that the disk did not take yet.
    pub backlog: usize,
    /// Since when the disk has failed; `None` while it works.
    pub failing_since: Option<Timestamp>,
    /// What it said last, also after it has recovered.
    pub last_error: Option<String>,
    /// When something was last committed.
    pub last_commit: Option<Timestamp>,
    /// Records that told of a call which is not in the database; they are in the log all the same.
    pub unmatched: u64,
    /// Records that never reached the database and are in the log lines only.
    pub lost: u64,
}

/// What arrives at the writer.
pub(super) enum Message {
    /// Work.
    Submit(Submission),
    /// Whether it is at work at all.
    Ask(oneshot::Sender<()>),
    /// Finish what is there, then end.
    Close,
}

/// How a transaction is committed.
pub(super) type Commit = fn(Transaction<'_>) -> rusqlite::Result<()>;

/// A batch whose COMMIT reported an error.
struct Doubt {
    done: Box<Done>,
}

pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) clock: Clock,
    pub(super) runtime: Runtime,
    pub(super) arrivals: mpsc::Receiver<Message>,
    pub(super) health: watch::Sender<Health>,
    /// The most submissions that wait for a failing disk.
    pub(super) backlog: usize,
    pub(super) connection: Option<Connection>,
    /// The next commits fail as tests want them to.
    #[cfg(test)]
    pub(super) faults: mpsc::Receiver<Commit>,
    pub(super) lock: WriteLock,
}

struct Work {
    writer: Writer,
    /// What was taken and not yet committed, in order.
    pending: VecDeque<Submission>,
    doubt: Option<Doubt>,
    /// Set while the disk fails: when to try again.
    retry_at: Option<Instant>,
    /// Something was committed since the write-ahead log was last emptied.
    is_wal_used: bool,
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

    /// Writes until it is told to end, or nobody is left to submit.
    pub(super) fn run(self) {
        let mut work = Work {
            writer: self,
            pending: VecDeque::new(),
            doubt: None,
            retry_at: None,
            is_wal_used: true,
        };
        while work.turn() {}
        work.finish();
    }
}

impl Work {
    /// Takes what waits and writes it; `false` when nothing will come any more.
    fn turn(&mut self) -> bool {
        let pause = self.pause();
        let mut arrived = Vec::new();
        let count = self.receive(pause, &mut arrived);
        for message in arrived {
            match message {
                Message::Submit(submission) => self.admit(submission),
                // Whoever asked may have stopped waiting.
                Message::Ask(answer) => answer.send(()).unwrap_or_default(),
                Message::Close => self.writer.arrivals.close(),
            }
        }
        match count {
            Some(0) => return false,
            None if self.pending.is_empty() => self.checkpoint(CHECKPOINT_BUSY),
            Some(_) | None => {}
        }
        if self.is_due() {
            self.attempt();
        }
        self.publish();
        true
    }

    /// How long to wait for arrivals; `None`: for as long as it takes.
    fn pause(&self) -> Option<Duration> {
        match self.retry_at {
            Some(at) => Some(at.saturating_duration_since(self.writer.clock.instant())),
            None if !self.pending.is_empty() => Some(Duration::ZERO),
            None => self.is_wal_used.then_some(IDLE),
        }
    }

    /// Waits for arrivals. `None` where the pause ended first, `Some(0)` where nothing will come any more.
    fn receive(&mut self, pause: Option<Duration>, arrived: &mut Vec<Message>) -> Option<usize> {
        let arrivals = &mut self.writer.arrivals;
        self.writer.runtime.block_on(async {
            let some = arrivals.recv_many(arrived, BATCH);
            match pause {
                None => Some(some.await),
                Some(pause) => timeout(pause, some).await.ok(),
            }
        })
    }

    fn admit(&mut self, mut submission: Submission) {
        if self.pending.len() >= self.writer.backlog {
            submission.conclude(Err(StoreError::Full));
            return;
        }
        if self.retry_at.is_some() {
            submission.defer();
        }
        self.pending.push_back(submission);
    }

    fn is_due(&self) -> bool {
        !self.pending.is_empty()
            && self
                .retry_at
                .is_none_or(|at| self.writer.clock.instant() >= at)
    }

    /// Writes one batch; notes whether the disk works.
    fn attempt(&mut self) {
        match self.write_batch() {
            Ok(()) => self.recovered(),
            Err(error) => self.failed(&error),
        }
    }

    /// Writes up to [`BATCH`] submissions in one commit, without those that cannot be stored.
    fn write_batch(&mut self) -> Result<(), OpenError> {
        loop {
            self.connect()?;
            if self.pending.is_empty() {
                return Ok(());
            }
            let commit = self.writer.commit();
            let Some(connection) = &mut self.writer.connection else {
                return Ok(());
            };
            match batch::write(connection, self.pending.iter().take(BATCH), commit) {
                Ok(done) => {
                    self.conclude(done);
                    return Ok(());
                }
                Err(Trouble::Refused { index, source }) => {
                    if let Some(submission) = self.pending.remove(index) {
                        submission.conclude(Err(StoreError::Rejected(source.into())));
                    }
                }
                Err(Trouble::Failed(source)) => {
                    self.writer.connection = None;
                    return Err(source.into());
                }
                Err(Trouble::InDoubt { done, source }) => {
                    self.writer.connection = None;
                    self.doubt = Some(Doubt { done });
                    self.connect()?;
                    // What is still waiting was not committed.
                    return if self.pending.is_empty() {
                        Ok(())
                    } else {
                        Err(source.into())
                    };
                }
            }
        }
    }

    /// Opens the database where it is not open, and settles a doubt by what the file says.
    fn connect(&mut self) -> Result<(), OpenError> {
        if self.writer.connection.is_none() {
            let busy = match self.retry_at {
                None => connection::WRITER_BUSY,
                Some(_) => RETRY_BUSY,
            };
            self.writer.connection = Some(connection::open_writer(&self.writer.path, busy)?);
        }
        let Some(connection) = &self.writer.connection else {
            return Ok(());
        };
        if let Some(doubt) = &self.doubt {
            let found = audit_records::head(connection)?;
            let (before, after) = doubt.done.head;
            let happened = after != before && found == after;
            if let Some(Doubt { done }) = self.doubt.take()
                && happened
            {
                self.conclude(*done);
            }
        }
        Ok(())
    }

    /// Tells everybody of a committed batch.
    fn conclude(&mut self, done: Done) {
        self.is_wal_used = true;
        let now = self.writer.clock.now();
        self.writer.health.send_modify(|health| {
            health.last_commit = Some(now);
            health.unmatched += done.unmatched;
        });
        let count = done.outcomes.len();
        for (submission, outcome) in self.pending.drain(..count).zip(done.outcomes) {
            submission.conclude(Ok(outcome));
        }
    }

    fn recovered(&mut self) {
        if self.retry_at.take().is_none() {
            return;
        }
        tracing::info!(
            event = "store.recovered",
            backlog = self.pending.len(),
            "the database takes records again"
        );
        self.writer
            .health
            .send_modify(|health| health.failing_since = None);
        // The short wait for locks was for the time of failure only; a connection that cannot be told is opened anew.
        if let Some(connection) = &self.writer.connection
            && connection.busy_timeout(connection::WRITER_BUSY).is_err()
        {
            self.writer.connection = None;
        }
    }

    fn failed(&mut self, error: &OpenError) {
        let text = with_sources(error);
        if self.retry_at.is_none() {
            tracing::error!(
                event = "store.failing",
                error = text,
                backlog = self.pending.len(),
                "the database takes no records; they wait in memory"
            );
        }
        self.retry_at = Some(self.writer.clock.instant() + RETRY_EVERY);
        let now = self.writer.clock.now();
        self.writer.health.send_modify(|health| {
            health.failing_since.get_or_insert(now);
            health.last_error = Some(text);
        });
        self.publish();
        // Told last, so that whoever asks for the health afterwards sees why.
        for submission in &mut self.pending {
            submission.defer();
        }
    }

    fn publish(&self) {
        let waiting = match self.retry_at {
            Some(_) => self.pending.len(),
            None => 0,
        };
        self.writer.health.send_if_modified(|health| {
            let is_news = health.backlog != waiting;
            health.backlog = waiting;
            is_news
        });
    }

    /// Empties the write-ahead log, unless a reader is in the way; then it is tried at the next quiet time.
    fn checkpoint(&mut self, busy: Duration) {
        let Some(connection) = &self.writer.connection else {
            return;
        };
        match connection::checkpoint(connection, busy) {
            Ok(emptied) => self.is_wal_used = !emptied,
            Err(error) => {
                tracing::warn!(
                    event = "store.checkpoint_failed",
                    error = %error,
                    "the write-ahead log could not be emptied"
                );
                self.writer.connection = None;
            }
        }
    }

    /// One last attempt at everything, then the files are left tidy.
    fn finish(mut self) {
        while !self.pending.is_empty() {
            let left = self.pending.len();
            self.attempt();
            if self.retry_at.is_some() || self.pending.len() >= left {
                break;
            }
        }
        self.pending.clear();
        self.checkpoint(connection::WRITER_BUSY);
        if let Some(connection) = self.writer.connection.take() {
            drop(connection.close());
        }
        drop(self.writer.lock);
    }
}

fn commit(transaction: Transaction<'_>) -> rusqlite::Result<()> {
    transaction.commit()
}

/// An error and what caused it, as one line.
fn with_sources(error: &OpenError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

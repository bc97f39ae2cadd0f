//! What waits to be written, and where: the state that the writer and the flush watchdog share.
//!
//! A submission takes the first of these that has room: the database; the spool; memory, with a copy in the log lines; the log lines only.
//! Order is kept: what is in the spool comes before what is in memory.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::batch::{Done, Item};
use super::error::StoreError;
use super::file;
use super::key_ring::KeyRing;
use super::ledger::{RecordCounts, RecordLedger};
use super::spool::{Spool, SpoolCipher};
use super::submission::{self, Submission, SubmissionOutcome};
use super::work::Work;
use crate::clock::Clock;

/// The most submissions of one transaction.
pub(super) const BATCH: usize = 512;
/// How often in a row the spool may fail to be read before it is put aside, at one attempt every 100 ms.
const UNREADABLE: u32 = 50;
/// How long a spool that cannot be written is left alone.
const SPOOL_REST: Duration = Duration::from_secs(2);

/// How the writer is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// False when the writer has ended: nothing is written any more.
    pub running: bool,
    /// Records that wait for the database to take them, in the spool and in memory; 0 while it takes them as they come.
    pub backlog: u64,
    /// Since when the database has not taken records, up to the moment when all that waited is in it; `None` while it takes them as they come.
    pub failing_since: Option<Timestamp>,
    /// What it said last, also after it has recovered.
    pub last_error: Option<String>,
    /// When something was last committed.
    pub last_commit: Option<Timestamp>,
    /// Records that told of a call which is not in the database; they are in the log all the same.
    pub unmatched: u64,
    /// Records that never reached the database and are in the log lines only.
    pub lost: u64,
    /// Every accepted record, by where it is.
    pub counts: RecordCounts,
    /// Why there is no spool; `None` while there is one.
    pub spool_problem: Option<String>,
    /// Whether the disk's reserve was given up because the disk was full, and is not made again yet.
    pub reserve_missing: bool,
    /// Whether the last run was cut off and its write-ahead log was gone at the start of this one: what it held is lost.
    pub wal_missing: bool,
    /// Size of the write-ahead log in bytes. It grows while a reader holds on to an old state.
    pub wal_bytes: u64,
}

impl StoreHealth {
    /// Why somebody must look after the store; `None` while all is well.
    pub fn problem(&self) -> Option<String> {
        if !self.running {
            return Some("the writer of the database has ended".to_owned());
        }
        let unaccounted = self.counts.unaccounted();
        if unaccounted != 0 {
            return Some(format!(
                "{unaccounted} records are neither in the database nor in the spool, in memory or in the log"
            ));
        }
        self.failing_since?;
        let why = self.last_error.as_deref().unwrap_or("it does not say why");
        Some(format!("{why}; {} records wait", self.backlog))
    }
}

/// What arrives at the writer.
pub(super) enum Message {
    Submit(Submission),
    /// Whether anybody is at work.
    Ask(oneshot::Sender<()>),
    /// Finish what is there, then end.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueuePoll {
    Some,
    /// Nothing, in the time given.
    Nothing,
    End,
}

/// Where the spool is, or should be.
pub(super) struct SpoolPlace {
    pub(super) path: PathBuf,
    /// In bytes; 0 for none.
    pub(super) wanted: u64,
    pub(super) key_ring: KeyRing,
    pub(super) log_id: String,
}

pub(super) struct WriteQueue {
    pub(super) clock: Clock,
    arrivals: mpsc::Receiver<Message>,
    health: watch::Sender<StoreHealth>,
    ledger: Arc<RecordLedger>,
    place: SpoolPlace,
    spool: Option<Spool>,
    /// It could not be written: until when it is not tried again.
    spool_rests_until: Option<Instant>,
    /// Attempts in a row that could not read the spool.
    unreadable: u32,
    /// Read back from the spool and not committed yet.
    window: VecDeque<Item>,
    /// In memory, in order; what is in the spool comes before.
    pending: VecDeque<QueueEntry>,
    /// The most submissions that wait in memory for a failing disk.
    backlog: usize,
    /// The number of the last submission that was admitted.
    last_number: i64,
    /// The number of the last submission that is in the database.
    through: i64,
    /// Since when the writer has been busy with the database.
    pub(super) busy_since: Option<Instant>,
    /// Whether the database takes nothing now.
    is_failing: bool,
    /// Whether it took nothing for a while, and not all that waited is in it yet.
    is_behind: bool,
}

struct QueueEntry {
    number: i64,
    submission: Submission,
    /// A copy is in the log lines.
    is_logged: bool,
}

/// The queue, for one thread at a time.
pub(super) fn lock(write_queue: &Mutex<WriteQueue>) -> MutexGuard<'_, WriteQueue> {
    write_queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WriteQueue {
    /// An empty queue, with whatever the spool holds. `through` is the number of the last submission in the database.
    pub(super) fn new(
        clock: Clock,
        arrivals: mpsc::Receiver<Message>,
        health: watch::Sender<StoreHealth>,
        ledger: Arc<RecordLedger>,
        backlog: usize,
        place: SpoolPlace,
        through: i64,
    ) -> Self {
        let mut write_queue = Self {
            clock,
            arrivals,
            health,
            ledger,
            place,
            spool: None,
            spool_rests_until: None,
            unreadable: 0,
            window: VecDeque::new(),
            pending: VecDeque::new(),
            backlog,
            last_number: through,
            through,
            busy_since: None,
            is_failing: false,
            is_behind: false,
        };
        write_queue.open_spool();
        write_queue
    }

    /// Opens or makes the spool where there is none.
    pub(super) fn open_spool(&mut self) {
        if self.spool.is_some() || self.place.wanted == 0 {
            return;
        }
        let SpoolPlace {
            path,
            wanted,
            key_ring,
            log_id,
        } = &self.place;
        let opened = SpoolCipher::all(key_ring, log_id)
            .map_err(std::io::Error::other)
            .and_then(|seals| Spool::open(path, *wanted, seals))
            .and_then(|(spool, last)| Ok((spool.count(self.through)?, spool, last)));
        let problem = match opened {
            Ok((n, spool, last)) => {
                self.last_number = self.last_number.max(last.unwrap_or(0));
                self.ledger.change(|counts| {
                    counts.accepted += n;
                    counts.spooled += n;
                });
                if n > 0 {
                    tracing::warn!(
                        event = "store.spool_found",
                        records = n,
                        "the last run left records in the spool; they are written now"
                    );
                }
                self.spool = Some(spool);
                None
            }
            Err(error) => Some(format!("{}: {error}", path.display())),
        };
        self.health.send_if_modified(|health| {
            let is_news = health.spool_problem != problem;
            if is_news && let Some(problem) = &problem {
                tracing::error!(
                    event = "store.no_spool",
                    error = problem,
                    "there is no spool: records that the disk does not take wait in memory"
                );
            }
            health.spool_problem = problem;
            is_news
        });
    }

    /// Waits for arrivals and admits them; without `pause`, for as long as it takes.
    pub(super) fn receive(&mut self, runtime: &Runtime, pause: Option<Duration>) -> QueuePoll {
        let mut arrived = Vec::new();
        let arrivals = &mut self.arrivals;
        let count = runtime.block_on(async {
            let some = arrivals.recv_many(&mut arrived, BATCH);
            match pause {
                None => Some(some.await),
                Some(pause) => timeout(pause, some).await.ok(),
            }
        });
        for message in arrived {
            self.take_in(message);
        }
        match count {
            Some(0) => QueuePoll::End,
            Some(_) => QueuePoll::Some,
            None => QueuePoll::Nothing,
        }
    }

    /// Admits what has arrived, without waiting.
    pub(super) fn poll(&mut self) {
        while let Ok(message) = self.arrivals.try_recv() {
            self.take_in(message);
        }
    }

    fn take_in(&mut self, message: Message) {
        match message {
            Message::Submit(submission) if self.pending.len() >= self.backlog => {
                submission.refused(StoreError::Full);
            }
            Message::Submit(submission) => {
                self.last_number += 1;
                self.pending.push_back(QueueEntry {
                    number: self.last_number,
                    submission,
                    is_logged: false,
                });
            }
            // Whoever asked may have stopped waiting.
            Message::Ask(answer) => answer.send(()).unwrap_or_default(),
            Message::Close => self.arrivals.close(),
        }
    }

    /// Whether the database is to be written to: something waits, or it is to be seen whether it takes records again.
    pub(super) fn wants_commit(&self) -> bool {
        self.has_work() || self.is_failing
    }

    /// Whether something waits to be written.
    pub(super) fn has_work(&self) -> bool {
        !self.pending.is_empty() || self.is_draining()
    }

    /// Whether something waits in memory.
    pub(super) fn has_memory(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether the spool holds something that is not known to be in the database.
    pub(super) fn is_draining(&self) -> bool {
        !self.window.is_empty() || self.spool.as_ref().is_some_and(|spool| !spool.is_drawn())
    }

    /// Puts what is in memory into the spool, in order, as far as there is room, and tells everybody to go on.
    pub(super) fn spill(&mut self) {
        self.refuse_what_cannot_be_spooled();
        let n = self.append();
        for entry in self.pending.drain(..n) {
            entry.submission.spooled();
        }
        for entry in &mut self.pending {
            if !std::mem::replace(&mut entry.is_logged, true) {
                submission::log_unkept(entry.submission.work.records());
            }
            entry.submission.defer();
        }
    }

    /// Appends what is in memory to the spool; gives how many submissions it took.
    fn append(&mut self) -> usize {
        let now = self.clock.instant();
        let rests = self.spool_rests_until.is_some_and(|until| now < until);
        let Some(spool) = self.spool.as_mut().filter(|_| !rests) else {
            return 0;
        };
        let entries = self.pending.iter();
        let submissions = entries.map(|entry| (entry.number, entry.submission.work.records()));
        spool.append(submissions).unwrap_or_else(|error| {
            tracing::error!(event = "store.spool_failing", error = %error, "the spool cannot be written");
            self.spool_rests_until = Some(now + SPOOL_REST);
            0
        })
    }

    /// Only records may wait: everything else can be asked for again, and is worth nothing after a restart.
    fn refuse_what_cannot_be_spooled(&mut self) {
        let (stays, goes): (VecDeque<_>, VecDeque<_>) = self
            .pending
            .drain(..)
            .partition(|entry| entry.submission.work.may_wait());
        self.pending = stays;
        for entry in goes {
            let reason = "the database takes nothing now";
            entry
                .submission
                .refused(StoreError::Unavailable(reason.into()));
        }
    }

    /// What to write next, in order: at most [`BATCH`]. While the database takes nothing and nothing waits, a heartbeat finds out whether it
    /// does again.
    pub(super) fn items(&mut self) -> std::io::Result<Vec<Item>> {
        self.draw()?;
        let mut items: Vec<_> = self.window.iter().map(Item::clone).collect();
        if self.spool.as_ref().is_none_or(Spool::is_drawn) {
            let room = BATCH.saturating_sub(items.len());
            items.extend(self.pending.iter().take(room).map(|entry| Item {
                number: entry.number,
                work: Arc::clone(&entry.submission.work),
                deferred: entry.submission.deferred,
            }));
        } else {
            // Their turn is far off.
            self.spill();
        }
        if items.is_empty() {
            self.tidy();
            if self.is_failing {
                self.last_number += 1;
                items.push(Item {
                    number: self.last_number,
                    work: Arc::new(Work::Beat),
                    deferred: true,
                });
            }
        }
        Ok(items)
    }

    /// Reads the next part of the spool.
    fn draw(&mut self) -> std::io::Result<()> {
        let Some(spool) = &mut self.spool else {
            return Ok(());
        };
        let room = BATCH.saturating_sub(self.window.len());
        let drawn = match spool.draw(room, self.through) {
            Ok(drawn) => drawn,
            Err(error) => {
                self.unreadable();
                return Err(error);
            }
        };
        self.unreadable = 0;
        for one in drawn {
            match one.records {
                Ok(records) => self.window.push_back(Item {
                    number: one.number,
                    work: Arc::new(Work::Append(records)),
                    deferred: true,
                }),
                Err(error) => {
                    tracing::error!(event = "store.spool_damaged", number = one.number, records = one.n, error = %error, "a submission in the spool cannot be read; its records are lost");
                    self.lose(u64::from(one.n));
                }
            }
        }
        Ok(())
    }

    fn unreadable(&mut self) {
        self.unreadable += 1;
        if self.unreadable < UNREADABLE {
            return;
        }
        let aside = file::beside(&self.place.path, ".unreadable");
        let moved = std::fs::rename(&self.place.path, &aside);
        tracing::error!(event = "store.spool_given_up", path = %aside.display(), moved = moved.is_ok(), "the spool is put aside; what was in it is not in the database");
        self.spool = None;
        self.lose_the_rest();
    }

    fn lose(&self, n: u64) {
        self.ledger.change(|counts| {
            counts.spooled = counts.spooled.saturating_sub(n);
            counts.lost += n;
        });
    }

    /// What the spool should still hold, and does not, was in a damaged place.
    fn lose_the_rest(&self) {
        let n_window: usize = self.window.iter().map(Item::n).sum();
        let left = self.ledger.counts().spooled;
        self.lose(left.saturating_sub(n_window as u64));
    }

    /// These items are in the database.
    pub(super) fn committed(&mut self, items: &[Item], done: Done) {
        let now = self.clock.now();
        self.health.send_modify(|health| {
            health.last_commit = Some(now);
            health.unmatched += done.unmatched;
        });
        let (before, after) = done.head;
        let stored = u64::try_from(after.id - before.id).unwrap_or_default();
        let (mut waited, mut spooled, mut repeated, mut acts) = (0, 0, 0, 0);
        let (mut told, mut again) = (Vec::new(), Vec::new());
        for (item, outcome) in items.iter().zip(done.outcomes) {
            self.through = self.through.max(item.number);
            let n = item.n() as u64;
            let is_repeat = match outcome {
                SubmissionOutcome::Written { first_id, last_id } => {
                    // What the writer itself had to record of the work.
                    let written = u64::try_from(last_id + 1 - first_id).unwrap_or_default();
                    acts += written.saturating_sub(n);
                    false
                }
                SubmissionOutcome::Repeat => true,
                SubmissionOutcome::Erased(erased) => {
                    // The act is recorded by the writer: only it knows what there was.
                    acts += u64::from(erased.is_some());
                    false
                }
            };
            if is_repeat {
                repeated += n;
            }
            if let Some(entry) = self
                .pending
                .pop_front_if(|entry| entry.number == item.number)
            {
                waited += n;
                told.push((entry.submission, outcome));
            } else {
                self.window
                    .pop_front_if(|drawn| drawn.number == item.number);
                spooled += n;
                if is_repeat {
                    again.push(item);
                }
            }
        }
        // In one step, so that no record is ever seen twice or nowhere.
        self.ledger.change(|counts| {
            counts.accepted += acts;
            counts.stored += stored;
            counts.repeated += repeated;
            counts.waiting -= waited;
            counts.spooled = counts.spooled.saturating_sub(spooled);
        });
        for (submission, outcome) in told {
            submission.committed(outcome);
        }
        for item in again {
            // Spilled while the commit took its time: whoever submitted it has answered the caller since, and that is recorded.
            self.admit_again(item);
        }
        self.tidy();
    }

    fn admit_again(&mut self, item: &Item) {
        let again = Submission::of_nobody(Arc::clone(&item.work), Arc::clone(&self.ledger));
        self.take_in(Message::Submit(again));
    }

    /// This item cannot be stored.
    pub(super) fn refused(&mut self, item: &Item, error: StoreError) {
        if let Some(at) = self
            .pending
            .iter()
            .position(|entry| entry.number == item.number)
        {
            if let Some(entry) = self.pending.remove(at) {
                entry.submission.refused(error);
            }
            return;
        }
        if let Some(at) = self
            .window
            .iter()
            .position(|drawn| drawn.number == item.number)
        {
            self.window.remove(at);
            submission::log_lost(item.work.records());
            self.lose(item.n() as u64);
        }
        // Else it was spilled meanwhile: its turn comes again out of the spool.
    }

    /// Empties a spool that is in the database.
    fn tidy(&mut self) {
        if self.is_draining() {
            return;
        }
        if let Some(spool) = &mut self.spool
            && let Err(error) = spool.clear()
        {
            tracing::error!(event = "store.spool_failing", error = %error, "the spool cannot be emptied; it is opened anew later");
            self.spool = None;
        }
        self.lose_the_rest();
    }

    /// The database takes records again.
    pub(super) fn recovered(&mut self) {
        self.busy_since = None;
        if std::mem::replace(&mut self.is_failing, false) {
            let RecordCounts {
                spooled, waiting, ..
            } = self.ledger.counts();
            tracing::info!(
                event = "store.recovered",
                spooled,
                waiting,
                "the database takes records again"
            );
        }
        if self.is_behind && !self.has_work() {
            self.is_behind = false;
            self.health.send_modify(|health| {
                health.backlog = 0;
                health.failing_since = None;
            });
        }
    }

    /// The database does not take records: all that waits is spilled.
    pub(super) fn failed(&mut self, text: String) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(
                event = "store.failing",
                error = text,
                waiting = self.pending.len(),
                "the database takes no records; they go to the spool"
            );
        }
        self.is_behind = true;
        let now = self.clock.now();
        self.health.send_modify(|health| {
            health.failing_since.get_or_insert(now);
            health.last_error = Some(text);
        });
        // Told after, so that whoever asks for the health then sees why.
        self.spill();
        self.publish();
    }

    /// Whether the database takes nothing now.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing
    }

    pub(super) fn publish(&self) {
        let RecordCounts {
            spooled, waiting, ..
        } = self.ledger.counts();
        let waiting = if self.is_behind { spooled + waiting } else { 0 };
        self.health.send_if_modified(|health| {
            let is_news = health.backlog != waiting;
            health.backlog = waiting;
            is_news
        });
    }

    /// What is left in memory goes to the log.
    pub(super) fn abandon(&mut self) {
        self.spill();
        self.pending.clear();
    }
}

//! What is handed to the writer, and the answer to it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::error::StoreError;
use super::ledger::RecordLedger;
use super::work::{PreparedRecord, Work};
use crate::audit::CallerErased;
use crate::call::CallId;

/// What became of a submission that was committed.
#[derive(Clone, Copy, Debug)]
pub(super) enum SubmissionOutcome {
    /// It is in the database; the ids of its first and last record.
    Written { first_id: i64, last_id: i64 },
    /// Its call was there already, and nothing was written.
    Repeat,
    /// The person is forgotten; `None` where nothing was known of them, and nothing was written.
    Erased(Option<CallerErased>),
}

/// The answer to a submission.
pub(super) type Verdict = Result<SubmissionOutcome, StoreError>;

/// Work, and who waits for it. Dropped without a place, it puts its records into the log, so that none vanishes silently.
pub(super) struct Submission {
    pub(super) work: Arc<Work>,
    waiting: Option<oneshot::Sender<Verdict>>,
    /// Whoever submitted it was told to go on: its records are written in any case.
    pub(super) deferred: bool,
    is_counted: bool,
    ledger: Arc<RecordLedger>,
}

impl Submission {
    /// Work, and the end on which its verdict arrives.
    pub(super) fn new(work: Work, ledger: Arc<RecordLedger>) -> (Self, oneshot::Receiver<Verdict>) {
        let (waiting, verdict) = oneshot::channel();
        let mut submission = Self::of_nobody(Arc::new(work), ledger);
        (submission.waiting, submission.deferred) = (Some(waiting), false);
        (submission, verdict)
    }

    /// Work that nobody waits for any more, and that is to be done in any case.
    pub(super) fn of_nobody(work: Arc<Work>, ledger: Arc<RecordLedger>) -> Self {
        let n = work.records().len() as u64;
        ledger.change(|counts| {
            counts.accepted += n;
            counts.waiting += n;
        });
        Self {
            work,
            waiting: None,
            deferred: true,
            is_counted: false,
            ledger,
        }
    }

    /// Tells whoever waits to go on; the work stays to be done.
    pub(super) fn defer(&mut self) {
        self.deferred = true;
        acknowledge(self.waiting.take(), Err(StoreError::Deferred));
    }

    /// It is in the spool: whoever waits is told to go on.
    pub(super) fn spooled(mut self) {
        let n = self.n();
        self.ledger.change(|counts| {
            counts.waiting -= n;
            counts.spooled += n;
        });
        self.is_counted = true;
        self.defer();
    }

    /// It was committed, and its records are counted.
    pub(super) fn committed(mut self, outcome: SubmissionOutcome) {
        self.is_counted = true;
        acknowledge(self.waiting.take(), Ok(outcome));
    }

    /// It cannot be stored, or there is no place for it to wait. Told last, when all is counted.
    pub(super) fn refused(mut self, error: StoreError) {
        let waiting = self.waiting.take();
        drop(self);
        acknowledge(waiting, Err(error));
    }

    fn n(&self) -> u64 {
        self.work.records().len() as u64
    }
}

fn acknowledge(waiting: Option<oneshot::Sender<Verdict>>, verdict: Verdict) {
    if let Some(waiting) = waiting {
        // Whoever asked may have stopped waiting; the commit stands all the same.
        drop(waiting.send(verdict));
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        if self.is_counted {
            return;
        }
        let n = self.n();
        self.ledger.change(|counts| {
            counts.waiting -= n;
            counts.lost += n;
        });
        log_lost(self.work.records());
    }
}

/// The last place of records that are written nowhere else.
pub(super) fn log_lost(records: &[PreparedRecord]) {
    for record in records {
        log(
            record,
            "store.record_lost",
            "an audit record was not written to the database; this line is what remains of it",
        );
    }
}

/// A copy of records that are in memory only, while neither the database nor the spool takes them.
pub(super) fn log_unkept(records: &[PreparedRecord]) {
    for record in records {
        log(
            record,
            "store.record_unkept",
            "an audit record is in memory only; this line remains of it if the process ends now",
        );
    }
}

fn log(record: &PreparedRecord, event: &'static str, words: &'static str) {
    tracing::error!(
        event,
        kind = record.kind.as_str(),
        call_sid = record.call.as_ref().map(CallId::as_str),
        created_at = record.created_at,
        detail = record.detail,
        "{words}"
    );
}

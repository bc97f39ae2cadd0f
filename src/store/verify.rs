//! Verifies an audit log from its file alone: read-only, without a configuration, also beside a running server.
//!
//! Rows are read in pages, each in a transaction of its own, so that no reader stands in the way of the write-ahead log. What is wrong with
//! them is said by [`ChainVerifier`]; here is what surrounds it: schema, checkpoints, keys, the head beside the file, an anchor, other rows.

mod beside;
mod evidence;
mod open;
mod pages;
mod proof;
mod report;
mod signed;

use std::sync::mpsc;
use std::thread;

use rusqlite::{Connection, ErrorCode};

use super::checkpoints::{self, PruningCheckpoint};
use super::{audit_records, head_file};
use crate::audit::{ChainVerifier, FindingKind, Findings, VerifyReport};
use evidence::Evidence;
pub use evidence::{Against, Installation};
pub use open::VerifyError;
use pages::{Pages, RowBatch};
pub use proof::{ProofError, prove};
pub use signed::{LogEnd, signed_head};

/// Batches that are read ahead.
const AHEAD: usize = 4;

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub records: u64,
    pub of: u64,
}

#[derive(Debug)]
pub struct Verification {
    against: Against,
    pages: Option<Pages>,
    verifier: ChainVerifier,
    evidence: Evidence,
    /// About so many rows there are.
    of: u64,
    /// All rows could be read so far.
    is_whole: bool,
}

impl Verification {
    /// Opens the file and checks all that is signed by itself.
    pub fn open(against: Against) -> Result<Self, VerifyError> {
        let refused = |source| VerifyError::Open {
            path: against.database.clone(),
            source,
        };
        let connection = open::open_file(&against.database).map_err(refused)?;
        let mut evidence = Evidence::default();
        let is_readable = open::examine_schema(&connection, &against.database, &mut evidence);
        let looked = if is_readable.map_err(refused)? {
            look(&connection, &against, &mut evidence).map(Some)
        } else {
            Ok(None)
        };
        let looked = match looked {
            Ok(looked) => looked,
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
                return Err(refused(error.into()));
            }
            Err(error) => {
                let what = format!("the file cannot be read as an audit log: {error}");
                evidence.wrong(FindingKind::Altered, what);
                None
            }
        };
        let (verifier, pages, of) = match looked {
            Some((verifier, last, of)) => (verifier, Some(Pages::new(connection, last)), of),
            None => (ChainVerifier::default(), None, 0),
        };
        Ok(Self {
            against,
            is_whole: pages.is_some(),
            pages,
            verifier,
            evidence,
            of,
        })
    }

    /// How far it has come.
    pub fn progress(&self) -> Verified {
        Verified {
            records: self.verifier.rows(),
            of: self.of,
        }
    }

    /// Verifies one page; `false` when there is no further one.
    pub fn step(&mut self) -> bool {
        let batch = self.pages.as_mut().and_then(Pages::next);
        if let Some(batch) = &batch {
            self.feed(batch);
        }
        batch.is_some()
    }

    /// Verifies all of it as fast as the machine can: one thread reads, this one computes.
    pub fn run(mut self, mut tell: impl FnMut(Verified)) -> Result<VerifyReport, VerifyError> {
        let Some(mut pages) = self.pages.take() else {
            return Ok(self.finish());
        };
        let end = pages.end();
        let (filled, arriving) = mpsc::sync_channel(AHEAD);
        let read_all = move || pages.try_for_each(|batch| filled.send(batch).ok());
        let reading = thread::Builder::new()
            .name("verify-reader".to_owned())
            .spawn(read_all)
            .map_err(VerifyError::Thread)?;
        for batch in arriving {
            self.feed(&batch);
            tell(self.progress());
        }
        if reading.join().is_err() {
            self.is_whole = false;
            self.verifier.unreadable("the reader failed");
        }
        let rows = self.is_whole.then(|| self.verifier.rows());
        beside::examine(&mut self.against, rows, end, &mut self.evidence);
        Ok(self.finish())
    }

    fn feed(&mut self, batch: &RowBatch) {
        if let Some(pruning) = &batch.pruning {
            self.pruned_meanwhile(pruning);
        }
        for row in batch.rows.rows() {
            self.verifier.next_row(&row);
        }
        if let Some(why) = &batch.unreadable {
            self.verifier.unreadable(why);
            self.is_whole = false;
        }
    }

    fn pruned_meanwhile(&mut self, pruning: &PruningCheckpoint) {
        if pruning.through_id <= self.evidence.pruning {
            return;
        }
        let mut findings = Findings::default();
        let keys: Vec<_> = self
            .evidence
            .signed
            .iter()
            .map(|(_, _, key)| key.clone())
            .collect();
        let start = signed::examine_pruning(pruning, &keys, &mut findings);
        if findings.is_empty() {
            self.evidence.pruning = start.place;
            self.verifier.skip_to(start);
        }
    }

    pub fn finish(self) -> VerifyReport {
        let walked = self.verifier.finish();
        report::make(&self.against, self.evidence, walked)
    }
}

/// Reads all that surrounds the rows, in one transaction: the walk, the last row, and how many there are.
fn look(
    connection: &Connection,
    against: &Against,
    evidence: &mut Evidence,
) -> rusqlite::Result<(ChainVerifier, i64, u64)> {
    // Before the rows: a server that writes meanwhile must not seem to have fewer than it has told of.
    evidence.kept = match head_file::read_head(&head_file::head_path(&against.database)) {
        Ok(kept) => kept,
        Err(error) => {
            evidence.kept_unreadable = Some(error.to_string());
            None
        }
    };
    let transaction = connection.unchecked_transaction()?;
    evidence.log_id = audit_records::log_id(&transaction)?;
    let (_, count) = audit_records::extent(&transaction)?;
    let last = audit_records::head(&transaction)?.id;
    let pruning = checkpoints::pruning(&transaction)?;
    evidence.gate = pruning.through_id;
    let keys = signed::candidates(&transaction, against, evidence)?;
    let stored = checkpoints::all(&transaction)?;
    drop(transaction);
    evidence.checkpoints = stored.len();
    let start = signed::examine_pruning(&pruning, &keys, &mut evidence.findings);
    evidence.pruning = start.place;
    let roots = signed::examine_checkpoints(&stored, &start, &keys, evidence);
    let heads = [against.anchor.as_ref(), evidence.kept.as_ref()];
    let watched: Vec<i64> = heads
        .into_iter()
        .flatten()
        .filter_map(|head| i64::try_from(head.records).ok())
        .collect();
    let verifier = ChainVerifier::new(start, roots, &watched);
    Ok((verifier, last, count.unsigned_abs()))
}

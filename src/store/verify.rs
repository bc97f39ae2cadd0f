//! Verifies an audit log from its file alone: read-only, without a configuration, also beside a running server.
//!
//! Rows are read in pages, each in a transaction of its own, so that no reader stands in the way of the write-ahead log. What is
//! wrong is said by [`ChainVerifier`]; here is what surrounds it: checkpoints, the pruning checkpoint, keys, the head beside the file, an anchor.

mod evidence;
mod pages;
mod report;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::checkpoints::{self, PruningCheckpoint};
use super::error::OpenError;
use super::migrations::STEPS;
use super::{audit_records, column, connection, file, found, head_file, key_check, rows, schema};
use crate::audit::{
    BadNote, ChainVerifier, CompactRange, FindingKind, Findings, Hash, NoteSubject, PublicKey,
    SignedTreeHead, SigningKeyNamed, Start, Statement,
};
use evidence::Evidence;
pub use evidence::{Against, Installation};
use pages::{Pages, RowBatch};
pub use report::VerifyReport;

/// Batches that are read ahead.
const AHEAD: usize = 4;

/// Why there is nothing to verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no database of ours at that path, or it may not be read.
    #[error("cannot verify {path}", path = .path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: OpenError,
    },
    /// The rows could not be read in a thread of their own.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

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
    done: Verified,
    is_whole: bool,
}

/// Rows beside the log that are told one by one.
const ALTERED: usize = 100;

impl Verification {
    /// Opens the file and checks all that is signed by itself.
    pub fn open(against: Against) -> Result<Self, VerifyError> {
        let refused = |source| VerifyError::Open {
            path: against.database.clone(),
            source,
        };
        let connection = open_file(&against.database).map_err(refused)?;
        let mut evidence = Evidence::default();
        if let Err(error) = examine_schema(&connection, &against.database, &mut evidence) {
            return Err(refused(error));
        }
        let looked = if evidence.is_readable {
            look(&connection, &against, &mut evidence)
        } else {
            Ok((ChainVerifier::new(nowhere(), Vec::new(), &[]), None, 0))
        };
        let (verifier, end, total) = match looked {
            Ok(looked) => looked,
            Err(error) if is_foreign(&error) => return Err(refused(error.into())),
            Err(error) => {
                let what = format!("the file cannot be read as an audit log: {error}");
                evidence.wrong(FindingKind::Altered, what);
                (ChainVerifier::new(nowhere(), Vec::new(), &[]), None, 0)
            }
        };
        Ok(Self {
            against,
            pages: end.map(|end| Pages::new(connection, end)),
            verifier,
            evidence,
            done: Verified {
                records: 0,
                of: total,
            },
            is_whole: end.is_some(),
        })
    }

    /// How far it has come.
    pub fn progress(&self) -> Verified {
        self.done
    }

    /// Verifies one page; `false` when there is no further one.
    pub fn step(&mut self) -> bool {
        let Some(pages) = &mut self.pages else {
            return false;
        };
        let batch = pages.read();
        let more = pages.has_more();
        self.feed(&batch);
        if !more {
            self.pages = None;
        }
        more
    }

    /// Verifies all of it as fast as the machine can: one thread reads, this one computes.
    pub fn run(mut self, mut tell: impl FnMut(Verified)) -> Result<VerifyReport, VerifyError> {
        let Some(mut pages) = self.pages.take() else {
            return Ok(self.finish());
        };
        let end = pages.end();
        let (filled, arriving) = mpsc::sync_channel::<RowBatch>(AHEAD);
        let reading = thread::Builder::new()
            .name("verify-reader".to_owned())
            .spawn(
                move || {
                    while filled.send(pages.read()).is_ok() && pages.has_more() {}
                },
            )
            .map_err(VerifyError::Thread)?;
        for batch in arriving {
            self.feed(&batch);
            tell(self.done);
        }
        if reading.join().is_err() {
            self.is_whole = false;
            self.verifier.unreadable(None, "the reader failed");
        }
        self.look_beside(end);
        Ok(self.finish())
    }

    /// What the walk does not see: rows that it did not come by, indexes that do not lead to all of them, and the rows beside the log.
    fn look_beside(&mut self, end: i64) {
        let looked = open_file(&self.against.database)
            .map_err(|error| error.to_string())
            .and_then(|connection| {
                self.count(&connection, end)
                    .and_then(|()| self.check_indexes(&connection))
                    .and_then(|()| self.check_rows(&connection))
                    .map_err(|error| error.to_string())
            });
        // Where the walk could not read all, that is known already.
        if let (Err(why), true) = (looked, self.is_whole) {
            let what = format!("what surrounds the records cannot be read: {why}");
            self.evidence.wrong(FindingKind::IndexDamaged, what);
        }
    }

    /// Whether the walk came by every row.
    fn count(&mut self, connection: &Connection, end: i64) -> rusqlite::Result<()> {
        let (count, behind, pruning): (i64, i64, i64) = connection.query_row(
            "SELECT (SELECT coalesce(sum(1), 0) FROM audit_records NOT INDEXED),
                    (SELECT count(*) FROM audit_records NOT INDEXED WHERE id > ?1),
                    (SELECT through_id FROM prune_gate)",
            [end],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let walked = i64::try_from(self.done.records).unwrap_or(i64::MAX);
        let counted = count - behind;
        // Where records were pruned meanwhile, there is nothing to compare.
        let is_comparable = self.is_whole && pruning == self.evidence.gate;
        if is_comparable && counted != walked {
            let kind = if counted > walked {
                FindingKind::Inserted
            } else {
                FindingKind::Missing
            };
            let what =
                format!("{walked} records were found in their order, and there are {counted}");
            self.evidence.wrong(kind, what);
        }
        Ok(())
    }

    fn check_indexes(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare("PRAGMA integrity_check(audit_records)")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let line: String = row.get(0)?;
            if line.contains(" index ") {
                let what = format!(
                    "an index does not lead to all records, so that some are shown nowhere: {line}"
                );
                self.evidence.wrong(FindingKind::IndexDamaged, what);
                return Ok(());
            }
        }
        Ok(())
    }

    fn check_rows(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(installation) = &self.against.installation else {
            let what =
                "rows beside the log were not checked: the installation's secret is not at hand";
            self.evidence.remarks.push(what.to_owned());
            return Ok(());
        };
        let key_ring = &installation.key_ring;
        if key_check::is_of_other(connection, key_ring)? {
            let what = "the database is sealed under another secret than the one at hand: its rows beside the log were not checked";
            if installation.is_in_place {
                self.evidence.wrong(FindingKind::ProjectionAltered, what);
            } else {
                self.evidence.remarks.push(what.to_owned());
            }
            self.against.installation = None;
            return Ok(());
        }
        for (table, row) in rows::altered(connection, key_ring, ALTERED)? {
            let what = format!("row {row} of {table} is not the one that was written");
            self.evidence.wrong(FindingKind::ProjectionAltered, what);
        }
        let now = installation.now.as_millisecond();
        let ahead: i64 = connection.query_row(
            "SELECT count(*) FROM sessions WHERE created_at > ?1 OR updated_at > ?1",
            [now],
            |row| row.get(0),
        )?;
        if ahead > 0 {
            let what = format!("{ahead} sessions begin in the future");
            self.evidence.wrong(FindingKind::ProjectionAltered, what);
        }
        Ok(())
    }

    fn feed(&mut self, batch: &RowBatch) {
        if let Some(pruning) = &batch.pruning {
            self.pruned_meanwhile(pruning);
        }
        for row in &batch.rows {
            self.verifier.next_row(&row.row());
            self.done.records += 1;
        }
        if let Some(unreadable) = &batch.unreadable {
            self.verifier.unreadable(unreadable.before, &unreadable.why);
            self.is_whole &= unreadable.before.is_some();
        }
    }

    fn pruned_meanwhile(&mut self, pruning: &PruningCheckpoint) {
        if pruning.through_id <= self.evidence.pruning {
            return;
        }
        let mut findings = Findings::default();
        let keys = self.evidence.signed.iter().map(|(_, _, key)| key.clone());
        let start = examine_pruning(pruning, &keys.collect::<Vec<_>>(), &mut findings);
        if findings.is_empty() {
            self.evidence.pruning = start.place;
            self.verifier.skip_to(start);
        }
    }

    pub fn finish(self) -> VerifyReport {
        let walked = self.verifier.finish(self.is_whole);
        report::make(&self.against, self.evidence, &walked)
    }
}

fn nowhere() -> Start {
    Start {
        place: 0,
        hash: None,
        tree: None,
    }
}

fn is_foreign(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::NotADatabase)
}

/// Opens a database to read it. Where nobody has it open, nothing is written beside it either.
fn open_file(path: &Path) -> Result<Connection, OpenError> {
    file::must_exist(path)?;
    let is_open = file::beside(path, "-wal").exists();
    let mut connection = if is_open {
        Connection::open_with_flags(path, connection::reader_flags())?
    } else {
        let flags = connection::reader_flags() | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(immutable(path), flags)?
    };
    connection::prepare_reader(&mut connection)?;
    connection::bound(&connection, path)?;
    Ok(connection)
}

/// Compares the schema before anything is read by it: what is not a table of ours is not asked.
fn examine_schema(
    connection: &Connection,
    path: &Path,
    evidence: &mut Evidence,
) -> Result<(), OpenError> {
    let version = file::claimed_version(connection, path, STEPS)?;
    let differences = schema::differences(connection, version, STEPS)?;
    for difference in &differences {
        let what = format!("the schema is not what this program makes: {difference}");
        evidence.wrong(FindingKind::SchemaChanged, what);
    }
    evidence.is_readable =
        differences.is_empty() || schema::is_readable(connection, version, STEPS)?;
    Ok(())
}

/// The address of a file that nobody changes.
fn immutable(path: &Path) -> String {
    let mut address = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            address.push(char::from(*byte));
        } else {
            address.push('%');
            address.push_str(&hex::encode([*byte]));
        }
    }
    address.push_str("?immutable=1");
    address
}

/// Reads all that surrounds the rows, in one transaction, and says where the walk begins and ends.
fn look(
    connection: &Connection,
    against: &Against,
    evidence: &mut Evidence,
) -> rusqlite::Result<(ChainVerifier, Option<i64>, u64)> {
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
    let keys = candidates(&transaction, against, evidence)?;
    let stored = checkpoints::all(&transaction)?;
    drop(transaction);
    evidence.checkpoints = stored.len();
    let start = examine_pruning(&pruning, &keys, &mut evidence.findings);
    evidence.pruning = start.place;
    let roots = examine_checkpoints(&stored, &start, &keys, evidence);
    let heads = [against.anchor.as_ref(), evidence.kept.as_ref()];
    let watched: Vec<i64> = heads
        .into_iter()
        .flatten()
        .filter_map(|head| i64::try_from(head.records).ok())
        .collect();
    let verifier = ChainVerifier::new(start, roots, &watched);
    Ok((verifier, Some(last), count.unsigned_abs()))
}

/// Every key that may have signed: the trusted one, and those that the log names.
fn candidates(
    connection: &Connection,
    against: &Against,
    evidence: &mut Evidence,
) -> rusqlite::Result<Vec<PublicKey>> {
    let mut keys: Vec<PublicKey> = against.known_key().cloned().into_iter().collect();
    let anchor = against.anchor.as_ref();
    keys.extend(anchor.and_then(|anchor| PublicKey::from_line(&anchor.public_key)));
    for detail in audit_records::signing_keys(connection)? {
        let Ok(named) = serde_json::from_slice::<SigningKeyNamed>(&detail) else {
            continue;
        };
        keys.extend(PublicKey::from_line(&named.key));
        keys.extend(named.previous.as_deref().and_then(PublicKey::from_line));
    }
    if let Some(key) = against.known_key()
        && key.log_id() != evidence.log_id
    {
        let what = format!(
            "the key that is known belongs to log {}, and the file says that it is log {}",
            key.log_id(),
            evidence.log_id
        );
        evidence.wrong(FindingKind::CheckpointInvalid, what);
    }
    let mut seen = HashSet::new();
    keys.retain(|key| key.log_id() == evidence.log_id && seen.insert(key.to_line()));
    Ok(keys)
}

/// What a note says, by whichever of the keys it was signed.
fn opened(note: &str, keys: &[PublicKey]) -> Result<(Statement, PublicKey), BadNote> {
    let mut why = BadNote::OtherKey;
    for key in keys {
        match key.open(note) {
            Ok(statement) => return Ok((statement, key.clone())),
            Err(BadNote::OtherKey) => {}
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Where the rows begin, by the pruning checkpoint if there is one that holds.
fn examine_pruning(
    pruning: &PruningCheckpoint,
    keys: &[PublicKey],
    findings: &mut Findings,
) -> Start {
    let genesis = Start {
        place: 0,
        hash: Some([0; 32]),
        tree: Some(CompactRange::default()),
    };
    let stored_hash: Option<Hash> = pruning.through_hash.as_slice().try_into().ok();
    let mut bad =
        |what: String| findings.add(FindingKind::CheckpointInvalid, pruning.through_id, what);
    let Some((note, range)) = &pruning.signed else {
        if pruning.through_id != 0 || stored_hash != Some([0; 32]) {
            bad(format!(
                "the prune gate stands at {}, and no signed cut vouches for that",
                pruning.through_id
            ));
        }
        return genesis;
    };
    let statement = match opened(note, keys) {
        Ok((statement, _)) if statement.subject == NoteSubject::Pruning => statement,
        Ok(_) => {
            bad("the cut is a note of another kind".to_owned());
            return genesis;
        }
        Err(why) => {
            bad(format!("the cut does not hold: {why}"));
            // Whatever is there may be right all the same.
            return Start {
                place: pruning.through_id,
                hash: None,
                tree: None,
            };
        }
    };
    let place = i64::try_from(statement.size).unwrap_or(i64::MAX);
    let tree = CompactRange::from_bytes(statement.size, range)
        .filter(|tree| tree.root() == statement.root);
    if tree.is_none() {
        bad("the tree of the cut does not have the root that was signed".to_owned());
    }
    let is_gate = place == pruning.through_id;
    if !is_gate {
        bad(format!(
            "the prune gate stands at {}, and the signed cut at {place}",
            pruning.through_id
        ));
    }
    Start {
        place,
        hash: stored_hash.filter(|_| is_gate),
        tree,
    }
}

/// Each checkpoint by itself; gives the roots that were signed.
fn examine_checkpoints(
    stored: &[checkpoints::StoredCheckpoint],
    start: &Start,
    keys: &[PublicKey],
    evidence: &mut Evidence,
) -> Vec<(i64, Hash)> {
    let mut roots = Vec::new();
    let mut expected = (start.place == 0).then_some(1);
    let mut size = 0;
    let newest = stored.last().map(|row| row.id);
    let findings = &mut evidence.findings;
    let mut bad = |what: String| findings.add(FindingKind::CheckpointInvalid, None, what);
    for row in stored {
        let id = row.id;
        if expected.is_some_and(|expected| expected != id) {
            let expected = expected.unwrap_or_default();
            bad(format!(
                "checkpoint {expected} is missing: the next one there is {id}"
            ));
        }
        expected = Some(id + 1);
        let (statement, key) = match opened(&row.note, keys) {
            Ok((statement, key)) if statement.subject == NoteSubject::Checkpoint => {
                (statement, key)
            }
            Ok(_) => {
                bad(format!("checkpoint {id} is a note of another kind"));
                continue;
            }
            Err(why) => {
                bad(format!(
                    "checkpoint {id} over {} records does not hold: {why}",
                    row.size
                ));
                continue;
            }
        };
        if u64::try_from(row.size) != Ok(statement.size) || row.size < size {
            bad(format!(
                "checkpoint {id} is over {} records, and its row says {}",
                statement.size, row.size
            ));
            continue;
        }
        size = row.size;
        let tree = row
            .range
            .as_deref()
            .map(|bytes| CompactRange::from_bytes(statement.size, bytes));
        let is_right = match tree {
            Some(tree) => tree.is_some_and(|tree| tree.root() == statement.root),
            None => Some(id) != newest,
        };
        if !is_right {
            bad(format!(
                "the tree of checkpoint {id} does not have the root that was signed"
            ));
        }
        roots.push((row.size, statement.root));
        evidence.signed.push((id, row.size, key));
    }
    roots
}

/// The end of a log as it was signed, and what came after it.
#[derive(Clone, Debug)]
pub struct LogEnd {
    pub head: SignedTreeHead,
    pub unsigned: i64,
}

/// The head that the newest checkpoint in the file signs; `None` where there is none that holds.
pub fn signed_head(database: &Path) -> Result<Option<LogEnd>, VerifyError> {
    let refused = |source| VerifyError::Open {
        path: database.to_owned(),
        source,
    };
    let connection = open_file(database).map_err(refused)?;
    file::version_of(&connection, database, STEPS).map_err(refused)?;
    let read = || -> rusqlite::Result<Option<LogEnd>> {
        let transaction = connection.unchecked_transaction()?;
        let against = Against::nothing(database);
        let mut evidence = Evidence {
            log_id: audit_records::log_id(&transaction)?,
            ..Evidence::default()
        };
        let keys = candidates(&transaction, &against, &mut evidence)?;
        let Some(newest) = checkpoints::newest(&transaction)? else {
            return Ok(None);
        };
        let Ok((statement, key)) = opened(&newest.note, &keys) else {
            return Ok(None);
        };
        let Ok(size) = i64::try_from(statement.size) else {
            return Ok(None);
        };
        let found = found::first(&transaction, size, |row| {
            let hash: Hash = row.hash.try_into().unwrap_or_default();
            let is_it = row.content.id == size && size > 0;
            is_it.then(|| (hash, column::time(row.content.created_at)))
        })?;
        let (hash, at) = found.flatten().unwrap_or_default();
        let last = audit_records::head(&transaction)?;
        Ok(Some(LogEnd {
            head: SignedTreeHead::new(&key, &newest.note, statement.size, &hash, at),
            unsigned: (last.id - size).max(0),
        }))
    };
    read().map_err(|error| refused(error.into()))
}

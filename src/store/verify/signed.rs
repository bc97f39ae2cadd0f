//! What is signed: the pruning checkpoint, the checkpoints, and the keys that may have signed them.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::Connection;

use super::evidence::{Against, Evidence};
use super::open::{VerifyError, open_file};
use crate::audit::{
    BadNote, CompactRange, FindingKind, Findings, Hash, NoteSubject, PublicKey, SignedTreeHead,
    SigningKeyNamed, Start, Statement,
};
use crate::store::checkpoints::{self, PruningCheckpoint, StoredCheckpoint};
use crate::store::migrations::STEPS;
use crate::store::{audit_records, column, file, found};

/// Every key that may have signed: the trusted one, and those that the log names.
pub(super) fn candidates(
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
pub(super) fn examine_pruning(
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
    let tree = signed_tree(&statement, range);
    if tree.is_none() {
        bad("the tree of the cut does not have the root that was signed".to_owned());
    }
    if stored_hash.is_none() {
        bad("the prune gate does not say what the hash of the last pruned record is".to_owned());
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
pub(super) fn examine_checkpoints(
    stored: &[StoredCheckpoint],
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
        if let Some(expected) = expected.filter(|expected| *expected != id) {
            bad(format!(
                "checkpoint {expected} is missing: the next one there is {id}"
            ));
        }
        expected = id.checked_add(1);
        let (statement, key) = match opened(&row.note, keys) {
            Ok(opened) => opened,
            Err(why) => {
                bad(format!(
                    "checkpoint {id} over {} records does not hold: {why}",
                    row.size
                ));
                continue;
            }
        };
        if statement.subject != NoteSubject::Checkpoint {
            bad(format!("checkpoint {id} is a note of another kind"));
            continue;
        }
        if u64::try_from(row.size) != Ok(statement.size) || row.size < size {
            bad(format!(
                "checkpoint {id} is over {} records, and its row says {}",
                statement.size, row.size
            ));
            continue;
        }
        size = row.size;
        let is_right = match &row.range {
            Some(bytes) => signed_tree(&statement, bytes).is_some(),
            None => Some(id) != newest,
        };
        if !is_right {
            bad(format!(
                "the tree of checkpoint {id} does not have the root that was signed"
            ));
        }
        roots.push((size, statement.root));
        evidence.signed.push((id, size, key));
    }
    roots
}

/// The tree that those bytes are, if it has the root that was signed.
fn signed_tree(statement: &Statement, bytes: &[u8]) -> Option<CompactRange> {
    CompactRange::from_bytes(statement.size, bytes).filter(|tree| tree.root() == statement.root)
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
    let transaction = connection.unchecked_transaction();
    transaction
        .and_then(|transaction| read_signed_head(&transaction, database))
        .map_err(|error| refused(error.into()))
}

fn read_signed_head(connection: &Connection, database: &Path) -> rusqlite::Result<Option<LogEnd>> {
    let mut evidence = Evidence {
        log_id: audit_records::log_id(connection)?,
        ..Evidence::default()
    };
    let keys = candidates(connection, &Against::nothing(database), &mut evidence)?;
    let newest = checkpoints::newest(connection)?;
    let newest = newest.and_then(|row| Some((opened(&row.note, &keys).ok()?, row.note)));
    let Some(((statement, key), note)) = newest else {
        return Ok(None);
    };
    let size = i64::try_from(statement.size).unwrap_or(i64::MAX);
    let found = found::first(connection, size, |row| {
        let hash: Hash = row.hash.try_into().unwrap_or_default();
        let is_it = row.content.id == size && size > 0;
        is_it.then(|| (hash, column::time(row.content.created_at)))
    })?;
    let (hash, at) = found.flatten().unwrap_or_default();
    let last = audit_records::head(connection)?.id;
    Ok(Some(LogEnd {
        head: SignedTreeHead::new(&key, &note, statement.size, &hash, at),
        unsigned: last.saturating_sub(size).max(0),
    }))
}

//! A slice of the log with the proof that it lies under the newest signed checkpoint, read in one walk over all records that are there.

use std::path::Path;

use rusqlite::Connection;

use super::evidence::{Against, Evidence};
use super::open::{VerifyError, open_file};
use super::pages::Pages;
use super::signed::{self, LogEnd};
use crate::audit::{
    CompactRange, ExportEntry, ExportHead, ExportedRecord, Findings, Hash, OmittedRecords,
    PublicKey, RowContent, ShownPersonal, SigningKeyNamed,
};
use crate::store::{audit_records, checkpoints};

/// Why a slice cannot be proven.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    #[error(transparent)]
    Open(#[from] VerifyError),
    #[error("the log cannot be read")]
    Unreadable(#[source] rusqlite::Error),
    /// The log is not what was signed.
    #[error(
        "the log is not what was signed, at record {0} or before: `switchboard audit verify` says what is wrong"
    )]
    Disproved(i64),
    #[error("records were pruned while they were read: try again")]
    Pruned,
}

impl From<rusqlite::Error> for ProofError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// Writes the records that `select` wants up to the signed end of the log, each with what is to be shown of what is sealed in it, and
/// the proof. `contiguous` where it wants all between the first and the last. Memory does not grow with the log.
pub fn prove<E: From<ProofError>>(
    database: &Path,
    end: &LogEnd,
    contiguous: bool,
    mut select: impl FnMut(&RowContent<'_>) -> Option<ShownPersonal>,
    mut write: impl FnMut(&ExportEntry) -> Result<(), E>,
) -> Result<(), E> {
    let connection = open_file(database).map_err(|source| {
        ProofError::Open(VerifyError::Open {
            path: database.to_owned(),
            source,
        })
    })?;
    let size = i64::try_from(end.head.records).unwrap_or(i64::MAX);
    let (begin, endorsements) = begin(&connection, database).map_err(ProofError::from)?;
    let mut tree = begin.ok_or(ProofError::Disproved(0))?;
    let head = ExportHead::new(&end.head, contiguous, endorsements);
    write(&ExportEntry::Export(head))?;
    let pruned = tree.size();
    let mut omitted = tree.clone();
    for batch in Pages::new(connection, size) {
        if batch.unreadable.is_some() {
            return Err(disproved(&tree).into());
        }
        for row in batch.rows.rows() {
            let id = row.content.id;
            let before = id.checked_sub(1).and_then(|id| u64::try_from(id).ok());
            let hash: Option<Hash> = row.hash.try_into().ok();
            let Some(hash) = hash.filter(|_| before == Some(tree.size())) else {
                let now = batch.pruning.as_ref().map(|pruning| pruning.through_id);
                let is_pruned = now.is_some_and(|now| now.unsigned_abs() > pruned);
                return Err(if is_pruned {
                    ProofError::Pruned.into()
                } else {
                    disproved(&tree).into()
                });
            };
            tree.append(&hash);
            let Some(shown) = select(&row.content) else {
                omitted.append(&hash);
                continue;
            };
            if let Some(omitted) = OmittedRecords::new(&omitted) {
                write(&ExportEntry::Omitted(omitted))?;
            }
            let record = ExportedRecord::new(&row, shown).ok_or_else(|| disproved(&tree))?;
            write(&ExportEntry::Record(record))?;
            omitted = CompactRange::behind(tree.size());
        }
    }
    let key = PublicKey::from_line(&end.head.public_key);
    let signed = key.and_then(|key| end.head.statement(&key));
    if signed.is_none_or(|signed| signed.size != tree.size() || signed.root != tree.root()) {
        return Err(disproved(&tree).into());
    }
    let omitted = OmittedRecords::new(&omitted).map(ExportEntry::Omitted);
    omitted.map_or(Ok(()), |omitted| write(&omitted))
}

/// The tree over what was pruned, if it holds, and the keys that the log names.
fn begin(
    connection: &Connection,
    database: &Path,
) -> rusqlite::Result<(Option<CompactRange>, Vec<SigningKeyNamed>)> {
    let transaction = connection.unchecked_transaction()?;
    let mut evidence = Evidence {
        log_id: audit_records::log_id(&transaction)?,
        ..Evidence::default()
    };
    let keys = signed::candidates(&transaction, &Against::nothing(database), &mut evidence)?;
    let pruning = checkpoints::pruning(&transaction)?;
    let named = audit_records::signing_keys(&transaction)?
        .iter()
        .filter_map(|detail| serde_json::from_slice(detail).ok())
        .map(|named: SigningKeyNamed| SigningKeyNamed {
            vouch: None,
            ..named
        })
        .collect();
    let mut findings = Findings::default();
    let start = signed::examine_pruning(&pruning, &keys, &mut findings);
    Ok((start.tree.filter(|_| findings.is_empty()), named))
}

fn disproved(tree: &CompactRange) -> ProofError {
    ProofError::Disproved(i64::try_from(tree.size()).unwrap_or(i64::MAX))
}

//! Signs the log: reads back from the file what was written since the last time, recomputes it, and signs what holds.
//!
//! Nothing is signed over a file that contradicts itself, or that is older than the head kept beside it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::checkpoints::{self, NewCheckpoint};
use super::error::StoreError;
use super::found::{self, Walk};
use super::handle::Store;
use super::readers::RowReader;
use super::work::Work;
use super::{audit_records, column, head_file};
use crate::audit::{
    BadNote, ChainLink, CompactRange, Event, Kind, LogSigningKey, NoteSubject, PublicKey, Record,
    SignedTreeHead, SigningKeyNamed, SigningState, SigningStatus, Statement,
};

/// Records read back at a time.
const PAGE: u32 = 1_000;
/// One checkpoint of this time stays.
const KEEP_EVERY: Duration = Duration::from_mins(10);
/// How long the start may take for it.
const AT_START: Duration = Duration::from_millis(150);
/// How often the head beside the database is renewed.
const HEAD_EVERY: Duration = Duration::from_secs(10);

/// Signs the log of a store. Cheap to clone; all clones share one place in the log.
#[derive(Clone, Debug)]
pub struct CheckpointSigner(Arc<SignerState>);

#[derive(Debug)]
struct SignerState {
    store: Store,
    key: LogSigningKey,
    head_path: PathBuf,
    work: Mutex<ReadProgress>,
}

/// How far it has read.
#[derive(Debug, Default)]
struct ReadProgress {
    /// `None` until the place of the last run is found again, and where the log must not be signed.
    place: Option<SignedPlace>,
    /// How many records the newest checkpoint covers; `None` where there is none.
    signed: Option<u64>,
    /// When the newest row of the checkpoints was begun.
    kept_at: Option<Instant>,
    head_at: Option<Instant>,
}

#[derive(Clone, Debug)]
struct SignedPlace {
    walk: Walk,
    /// When the record there happened.
    at: Option<Timestamp>,
}

/// Why something is not signed.
#[derive(Debug, thiserror::Error)]
enum Unsigned {
    /// It may be signed later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It must not be signed.
    #[error("{what}")]
    Broken { record: Option<i64>, what: String },
}

impl From<rusqlite::Error> for Unsigned {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

fn broken(record: impl Into<Option<i64>>, what: impl Into<String>) -> Unsigned {
    Unsigned::Broken {
        record: record.into(),
        what: what.into(),
    }
}

impl CheckpointSigner {
    /// Takes the log up where the last run left it, names the key in it where it is a new one, and signs. `former` are keys
    /// that may have signed before. Never fails: what cannot be signed now is told by [`Store::signing_status`].
    pub async fn begin(store: &Store, key: LogSigningKey, former: &[LogSigningKey]) -> Self {
        let signer = Self(Arc::new(SignerState {
            store: store.clone(),
            head_path: head_file::head_path(store.path()),
            key,
            work: Mutex::default(),
        }));
        if signer.find_place().await && signer.name_key(former).await.is_ok() {
            // A log that was never signed is long to read: calls do not wait for that.
            if timeout(AT_START, signer.sign(true)).await.is_err() {
                tracing::info!(
                    event = "audit.unsigned",
                    "the log is read back before it is signed; calls do not wait for that"
                );
            }
        }
        signer
    }

    /// Names its key again where the secret that vouches for it is another now.
    pub async fn vouch_again(&self) -> Result<(), StoreError> {
        self.name_key(&[]).await
    }

    /// The key by which its signatures are known.
    pub fn public_key(&self) -> &PublicKey {
        self.0.key.public()
    }

    /// That the installation's secret vouches for its key.
    pub(super) fn vouch(&self) -> String {
        self.0
            .store
            .key_ring()
            .vouch_for_key(&self.public_key().to_line())
    }

    /// Signs a pruning checkpoint: the records that are about to be deleted had this root.
    pub fn sign_pruning(&self, range: &CompactRange) -> String {
        self.0.key.sign(&Statement {
            subject: NoteSubject::Pruning,
            size: range.size(),
            root: range.root(),
        })
    }

    /// The log was found to contradict itself: nothing is signed any more until the next start.
    pub async fn give_up(&self, record: Option<i64>, what: &str) {
        self.0.work.lock().await.place = None;
        self.publish(SigningState::Broken {
            record,
            what: what.to_owned(),
        });
    }

    /// Looks for the place where the last run left off; whether the log may be signed from there.
    async fn find_place(&self) -> bool {
        let kept = self.kept_head().await;
        let is_kept = kept.is_some();
        if let Some(state) = self.rolled_back(kept).await {
            self.publish(state);
            return false;
        }
        let key = self.0.key.public().clone();
        match self
            .0
            .store
            .ask(move |reader| Ok(resume(reader, &key)))
            .await
        {
            Ok(Ok((_, Some(records)))) if !is_kept => {
                self.publish(SigningState::HeadMissing { records });
                false
            }
            Ok(Ok((place, signed))) => {
                let mut work = self.0.work.lock().await;
                work.place = Some(place);
                work.signed = signed;
                true
            }
            Ok(Err(trouble)) => {
                self.report(&trouble);
                false
            }
            Err(error) => {
                self.report(&error.into());
                false
            }
        }
    }

    /// Whether the head kept beside the database says more than the database does.
    async fn rolled_back(&self, kept: Option<SignedTreeHead>) -> Option<SigningState> {
        let kept = kept?;
        let asked = kept.clone();
        let compared = self.0.store.ask(move |reader| {
            let last = audit_records::head(reader)?;
            let same_log = audit_records::log_id(reader)? == asked.log_id;
            let there = same_log && has(reader, &asked)?;
            Ok((u64::try_from(last.id).unwrap_or_default(), there))
        });
        match compared.await {
            Ok((found, false)) => Some(SigningState::RolledBack { known: kept, found }),
            Ok((_, true)) | Err(_) => None,
        }
    }

    /// The head beside the database; `None` where there is none that can be read.
    async fn kept_head(&self) -> Option<SignedTreeHead> {
        let path = self.0.head_path.clone();
        let read = tokio::task::spawn_blocking(move || head_file::read_head(&path)).await;
        read.ok()?.unwrap_or_else(|error| {
            tracing::error!(event = "audit.head_unreadable", path = %self.0.head_path.display(), error = %error, "the head kept beside the database cannot be read");
            None
        })
    }

    /// Writes into the log which key signs from here on, where the log does not say so.
    async fn name_key(&self, former: &[LogSigningKey]) -> Result<(), StoreError> {
        let named = self.0.store.last_signing_key().await?;
        let key = self.0.key.public();
        let vouch = Some(self.vouch());
        if named
            .as_ref()
            .is_some_and(|named| named.key == key.to_line() && named.vouch == vouch)
        {
            return Ok(());
        }
        let previous = named.map(|named| named.key);
        let endorser = former
            .iter()
            .find(|former| Some(former.public().to_line()) == previous);
        if previous.as_ref().is_some_and(|line| *line != key.to_line()) && endorser.is_none() {
            tracing::warn!(
                event = "audit.key_not_endorsed",
                key = key.to_line(),
                "another key signs the audit log from now on, and the key before is not at hand to say so"
            );
        }
        let named = SigningKeyNamed {
            key: key.to_line(),
            endorsement: endorser.map(|former| former.endorse(key)),
            previous,
            vouch,
        };
        let now = self.0.store.clock().now();
        let record = Record::of_service(now, Event::SigningKeyNamed(named));
        self.0.store.append(vec![record]).await.map(drop)
    }

    /// Signs what was written since the last time, if anything was. `keep`: the checkpoint is to stay whatever comes after it.
    pub async fn sign(&self, keep: bool) {
        let mut work = self.0.work.lock().await;
        if work.place.is_none() {
            drop(work);
            if !self.may_look_again() || !self.find_place().await {
                return;
            }
            work = self.0.work.lock().await;
        }
        match self.advance_and_sign(&mut work, keep).await {
            Ok(()) => {}
            Err(Unsigned::Store(error)) => {
                tracing::debug!(event = "audit.unsigned", error = %error, "the log is signed later");
            }
            Err(trouble) => {
                work.place = None;
                self.report(&trouble);
            }
        }
    }

    /// What was found wrong once stays wrong until the next start; a disk that did not answer may answer now.
    fn may_look_again(&self) -> bool {
        self.0.store.signing_status().state == SigningState::Unknown
    }

    async fn advance_and_sign(&self, work: &mut ReadProgress, keep: bool) -> Result<(), Unsigned> {
        let store = &self.0.store;
        let Some(mut place) = work.place.clone() else {
            return Ok(());
        };
        loop {
            let (next, more) = store
                .ask(move |reader| Ok(advance(reader, place)))
                .await??;
            place = next;
            work.place = Some(place.clone());
            if !more {
                break;
            }
        }
        let size = place.walk.range.size();
        if work.signed == Some(size) {
            self.tell_sound(&place, work).await;
            return Ok(());
        }
        let now = store.clock().instant();
        let is_kept = keep
            || work
                .kept_at
                .is_none_or(|at| now.duration_since(at) >= KEEP_EVERY);
        let note = self.0.key.sign(&Statement {
            subject: NoteSubject::Checkpoint,
            size,
            root: place.walk.range.root(),
        });
        let head = SignedTreeHead::new(
            self.public_key(),
            &note,
            size,
            &place.walk.link.hash,
            place.at,
        );
        if work.signed.is_none() {
            // A signed log is never without a head beside it, also after a power cut between the two.
            self.keep_head(head.clone()).await;
        }
        let written = store.submit(Work::Checkpoint(NewCheckpoint {
            size: place.walk.link.id,
            note: note.clone(),
            range: place.walk.range.to_bytes(),
            is_kept,
        }));
        written.await?;
        work.signed = Some(size);
        if is_kept {
            work.kept_at = Some(now);
        }
        let is_due = keep
            || work
                .head_at
                .is_none_or(|at| now.duration_since(at) >= HEAD_EVERY);
        if is_due {
            work.head_at = Some(now);
            self.keep_head(head.clone()).await;
        }
        self.0.store.publish_signing_status(SigningStatus {
            state: SigningState::Sound,
            head: Some(head),
        });
        Ok(())
    }

    /// Nothing is new: the head of the last run is the head of this one.
    async fn tell_sound(&self, place: &SignedPlace, work: &mut ReadProgress) {
        let signing_status = self.0.store.signing_status();
        if signing_status.state == SigningState::Sound && signing_status.head.is_some() {
            return;
        }
        let newest = self.0.store.ask(|reader| Ok(checkpoints::newest(reader)?));
        let Ok(Some(newest)) = newest.await else {
            return;
        };
        let size = place.walk.range.size();
        let head = SignedTreeHead::new(
            self.public_key(),
            &newest.note,
            size,
            &place.walk.link.hash,
            place.at,
        );
        work.head_at = Some(self.0.store.clock().instant());
        self.keep_head(head.clone()).await;
        self.0.store.publish_signing_status(SigningStatus {
            state: SigningState::Sound,
            head: Some(head),
        });
    }

    async fn keep_head(&self, head: SignedTreeHead) {
        let path = self.0.head_path.clone();
        let written = tokio::task::spawn_blocking(move || head_file::write_head(&path, &head));
        let error = match written.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(event = "audit.head_not_kept", error, path = %self.0.head_path.display(), "the head of the log could not be kept beside the database");
    }

    fn publish(&self, state: SigningState) {
        match &state {
            SigningState::RolledBack { known, found } => tracing::error!(
                event = "audit.rolled_back",
                known = known.records,
                known_head = known.head,
                found,
                "the database is not the one that the head beside it tells of; calls go on, nothing is signed"
            ),
            SigningState::Broken { record, what } => tracing::error!(
                event = "audit.broken",
                record,
                what,
                "the audit log contradicts itself; calls go on, nothing is signed"
            ),
            SigningState::HeadMissing { records } => tracing::error!(
                event = "audit.head_missing",
                records,
                "the log is signed, and the head beside the database is gone: it may be an older database; calls go on, nothing is signed until `audit accept-rollback`"
            ),
            SigningState::Unknown | SigningState::Sound => {}
        }
        let head = self.0.store.signing_status().head;
        self.0
            .store
            .publish_signing_status(SigningStatus { state, head });
    }

    fn report(&self, trouble: &Unsigned) {
        match trouble {
            Unsigned::Store(error) => {
                tracing::warn!(event = "audit.unsigned", error = %error, "the log is signed later");
            }
            Unsigned::Broken { record, what } => self.publish(SigningState::Broken {
                record: *record,
                what: what.clone(),
            }),
        }
    }
}

/// Whether the log has the record that a head names.
fn has(reader: &Connection, head: &SignedTreeHead) -> Result<bool, StoreError> {
    let Ok(id) = i64::try_from(head.records) else {
        return Ok(false);
    };
    if id == 0 {
        return Ok(true);
    }
    let pruning = checkpoints::pruning(reader)?;
    if id < pruning.through_id {
        return Ok(true);
    }
    let wanted = head.hash();
    if id == pruning.through_id {
        return Ok(wanted.is_some_and(|hash| hash.as_slice() == pruning.through_hash));
    }
    let there = found::first(reader, id, |row| {
        row.content.id == id && wanted.is_some_and(|hash| row.hash == hash)
    });
    Ok(there?.unwrap_or(false))
}

/// The place that the newest checkpoint tells of, and how many records it covers. Where another key signed it, the installation's secret must have
/// vouched for that key: a log that a stranger signed anew is none of ours.
fn resume(reader: &RowReader<'_>, key: &PublicKey) -> Result<(SignedPlace, Option<u64>), Unsigned> {
    let pruning = checkpoints::pruning(reader)?;
    let named = audit_records::last_of_kind(reader, Kind::SigningKeyNamed)?;
    let Some(newest) = checkpoints::newest(reader)? else {
        if named.is_some() || pruning.through_id != 0 {
            return Err(broken(None, "the signed checkpoints of this log are gone"));
        }
        let place = SignedPlace {
            walk: Walk::new(),
            at: None,
        };
        return Ok((place, None));
    };
    let bad = |why: String| broken(None, format!("the newest checkpoint does not hold: {why}"));
    let statement = match key.open(&newest.note) {
        Err(BadNote::OtherKey) => {
            let former = named
                .and_then(|named| serde_json::from_str::<SigningKeyNamed>(&named.detail).ok())
                .filter(|named| {
                    let vouch = named.vouch.as_deref();
                    reader.key_ring().has_vouched_for_key(&named.key, vouch)
                })
                .and_then(|named| PublicKey::from_line(&named.key));
            let former = former.ok_or_else(|| bad(BadNote::OtherKey.to_string()))?;
            former.open(&newest.note)
        }
        opened => opened,
    };
    let statement = statement.map_err(|error| bad(error.to_string()))?;
    let range = newest
        .range
        .as_deref()
        .and_then(|bytes| CompactRange::from_bytes(statement.size, bytes))
        .filter(|range| range.root() == statement.root);
    let range =
        range.ok_or_else(|| bad("its tree does not have the root that was signed".into()))?;
    if statement.subject != NoteSubject::Checkpoint
        || u64::try_from(newest.size) != Ok(statement.size)
    {
        return Err(bad("it is another than its row says".into()));
    }
    let (link, at) = record_at(reader, newest.size)?;
    let walk = Walk { link, range };
    let place = SignedPlace { walk, at };
    Ok((place, Some(statement.size)))
}

/// The record in a place, with its time.
fn record_at(reader: &Connection, id: i64) -> Result<(ChainLink, Option<Timestamp>), Unsigned> {
    if id == 0 {
        return Ok((ChainLink::GENESIS, None));
    }
    let link = found::first(reader, id, |row| {
        let hash = row.holds().map(|(_, hash)| hash);
        (row.content.id == id).then(|| (hash, column::time(row.content.created_at)))
    })?;
    match link.flatten() {
        Some((Some(hash), at)) => Ok((ChainLink { id, hash }, at)),
        Some((None, _)) => Err(broken(id, format!("record {id} was altered"))),
        None => {
            let last = audit_records::head(reader)?;
            if last.id == id {
                return Ok((last, None));
            }
            Err(broken(
                id,
                format!("records up to {id} were signed, and record {id} is gone"),
            ))
        }
    }
}

/// Reads a page of what comes after a place and recomputes it; whether there may be more.
fn advance(reader: &Connection, mut place: SignedPlace) -> Result<(SignedPlace, bool), Unsigned> {
    let walked = place.walk.page(reader, PAGE, |row| {
        place.at = column::time(row.content.created_at);
        true
    })?;
    let count = walked.map_err(|finding| broken(finding.record, finding.message))?;
    Ok((place, count == PAGE))
}

//! Deletes what is older than the policy says, from the oldest on, in slices that nobody feels.
//!
//! A slice is one transaction: it signs a pruning checkpoint over all records up to its last one, moves the gate there and deletes them, so
//! that the rest verifies at any moment. What is deleted was read back and recomputed first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;

use super::background::{Background, WAIT};
use super::checkpoints::{self, Slice};
use super::error::StoreError;
use super::found::{self, Walk};
use super::handle::Store;
use super::signer::CheckpointSigner;
use super::work::Work;
use super::{audit_records, callers, calls, column, connection};
use crate::audit::{
    ChainLink, CompactRange, Event, FoundRow, Hash, Kind, Pruned, Record, SigningKeyNamed,
    SigningState,
};

/// Records of one run: a run is announced by one record, and what it deletes is read back before.
const RUN: u32 = 20_000;
/// Records of one slice beside calls, ended calls or callers, and free pages: few enough that a commit takes about a millisecond.
const RECORDS: u32 = 50;
const CALLS: u32 = 10;
const PAGES: u32 = 8;
/// Records read back at a time.
const PAGE: u32 = 1_000;
/// A caller's row says on which day they were last seen, and records of different calls are written a little out of order.
const CALLER_MARGIN_MS: i64 = 2 * 86_400_000;
/// Free pages that stay for records to come.
const SPARE_PAGES: i64 = 1_024;
/// So often a run rests because the database could not be asked or written, and how long each time.
const INTERRUPTIONS: u32 = 20;
const REST: Duration = Duration::from_millis(500);

/// Deletes what is past retention. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pruner {
    store: Store,
    signer: CheckpointSigner,
    retention: Arc<AtomicU64>,
    background: Background,
    /// A time without any record that a start would note, in milliseconds.
    silence: i64,
}

/// What a run did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PruneReport {
    pub deleted: u64,
    pub kept: u64,
    /// When the oldest of those happened.
    pub oldest: Option<Timestamp>,
    /// Those that stay although they look old enough to go; `None` where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_longer: Option<KeptLonger>,
}

/// Records that stay longer than retention by itself asks for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeptLonger {
    pub records: u64,
    /// They stay until this at least, when the oldest of them may go.
    pub until: Timestamp,
    /// By how many milliseconds retention is lengthened.
    pub by_ms: i64,
    pub reason: String,
}

/// From when on records stay.
#[derive(Clone, Copy)]
struct Cutoff {
    /// What happened before this goes, in milliseconds.
    before: i64,
    /// By how much that is earlier than the policy says, in milliseconds.
    lengthened: i64,
}

/// Why nothing, or not all, was deleted.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// Records are never deleted younger than the policy says.
    #[error("records are kept for {} days at least", .least.as_secs() / 86_400)]
    TooYoung { least: Duration },
    /// The log contradicts itself or what is kept beside it: evidence is not deleted.
    #[error("the audit log does not verify, so nothing of it is deleted")]
    NotSound,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a run is to delete.
struct PrunePlan {
    /// Where each slice ends.
    slices: Vec<Walk>,
    pruned: Pruned,
    /// The newest naming of the key is among them.
    has_key: bool,
}

impl Pruner {
    /// Prunes the store that `signer` signs. `is_alone`: nobody routes calls, so there is nobody to wait for.
    pub fn new(
        store: Store,
        signer: CheckpointSigner,
        retention: Duration,
        is_alone: bool,
    ) -> Self {
        let pruner = Self {
            background: Background {
                store: store.clone(),
                is_alone,
            },
            store,
            signer,
            retention: Arc::default(),
            silence: 0,
        };
        pruner.set_retention(retention);
        pruner
    }

    /// The same, as it will be once a start has noted a time of so many milliseconds without any record.
    #[must_use]
    pub fn after_silence(self, silence: i64) -> Self {
        Self { silence, ..self }
    }

    pub fn set_retention(&self, retention: Duration) {
        let ms = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
        self.retention.store(ms, Ordering::Relaxed);
    }

    fn retention(&self) -> Duration {
        Duration::from_millis(self.retention.load(Ordering::Relaxed))
    }

    /// How old a record must be: by the policy, or by `older_than`, which must not be less.
    pub fn age(&self, older_than: Option<Duration>) -> Result<Duration, PruneError> {
        let least = self.retention();
        match older_than {
            Some(age) if age < least => Err(PruneError::TooYoung { least }),
            Some(age) => Ok(age),
            None => Ok(least),
        }
    }

    /// What a run would delete. Changes nothing.
    pub async fn preview(
        &self,
        age: Duration,
        mut tell: impl FnMut(u64),
    ) -> Result<PruneReport, PruneError> {
        let cutoff = self.cutoff(age).await?;
        let first = self.pruning().await?.id;
        let (due, last) = self.count_due(first, cutoff.before, &mut tell).await?;
        let counts = self.store.counts().await?;
        let oldest = self.time_after(last).await?;
        let looks_due = match cutoff.lengthened {
            0 => 0,
            lengthened => {
                let before = cutoff.before.saturating_add(lengthened);
                self.count_due(last, before, &mut |_| {}).await?.0
            }
        };
        let until = oldest.and_then(|at| {
            let age = i64::try_from(age.as_millis()).ok()?;
            let until = at.as_millisecond().checked_add(age)?;
            Timestamp::from_millisecond(until.checked_add(cutoff.lengthened)?).ok()
        });
        Ok(PruneReport {
            deleted: due,
            kept: u64::try_from(counts.records)
                .unwrap_or_default()
                .saturating_sub(due),
            oldest,
            kept_longer: until.filter(|_| looks_due > 0).map(|until| KeptLonger {
                records: looks_due,
                until,
                by_ms: cutoff.lengthened,
                reason: "the clock was set ahead, or nothing was recorded for so long that it may have been: what was written before looks older than it is".to_owned(),
            }),
        })
    }

    /// How many records behind `after` happened before a time, and the last of them.
    async fn count_due(
        &self,
        mut after: i64,
        before: i64,
        tell: &mut impl FnMut(u64),
    ) -> Result<(u64, i64), StoreError> {
        let mut due = 0;
        loop {
            let (count, last, more) = self
                .store
                .ask(move |reader| Ok(count_due(reader, after, before)?))
                .await?;
            due += count;
            after = last;
            tell(due);
            if !more {
                return Ok((due, after));
            }
        }
    }

    /// Deletes all that is older than `age`, and gives back what room it took. A database that is busy for a moment interrupts a run and does
    /// not end it: what is done is done, and the rest goes on from there.
    pub async fn run(
        &self,
        age: Duration,
        mut tell: impl FnMut(u64),
    ) -> Result<PruneReport, PruneError> {
        let before = self.cutoff(age).await?.before;
        let first = self.pruning().await?.id;
        let mut interruptions = 0;
        loop {
            match self.go_on(before, first, &mut tell).await {
                Err(PruneError::Store(
                    error @ (StoreError::Unavailable(_) | StoreError::Deferred),
                )) if interruptions < INTERRUPTIONS => {
                    tracing::info!(
                        event = "audit.prune_waits",
                        error = &error as &dyn std::error::Error,
                        "pruning waits for the database"
                    );
                    // Every attempt announces itself: there is none before the database takes records again.
                    while interruptions < INTERRUPTIONS {
                        interruptions += 1;
                        self.store.clock().wait(REST).await;
                        if self.store.health().failing_since.is_none() {
                            break;
                        }
                    }
                }
                ended => return ended,
            }
        }
    }

    /// Deletes what is left of a run that began behind the record `first`.
    async fn go_on(
        &self,
        before: i64,
        first: i64,
        tell: &mut impl FnMut(u64),
    ) -> Result<PruneReport, PruneError> {
        loop {
            // What is deleted was signed, and the log is sound.
            self.signer.sign(false).await;
            if self.store.signing_status().state != SigningState::Sound {
                return Err(PruneError::NotSound);
            }
            let pruning = self.store.ask(|reader| Ok(stored_pruning(reader)?)).await?;
            let walk = pruning.ok_or(PruneError::NotSound)?;
            let Some(plan) = self.plan(walk, before).await? else {
                break;
            };
            self.carry_out(plan, |through| tell(n_between(first, through)))
                .await?;
        }
        self.forget_calls(before).await?;
        self.forget_callers(before - CALLER_MARGIN_MS).await?;
        self.give_back().await?;
        let last = self.pruning().await?.id;
        if last > first {
            self.signer.sign(true).await;
        }
        let counts = self.store.counts().await?;
        let oldest = counts.oldest_record.unwrap_or(1) - 1;
        Ok(PruneReport {
            deleted: n_between(first, last),
            kept: u64::try_from(counts.records).unwrap_or_default(),
            oldest: self.time_after(oldest).await?,
            kept_longer: None,
        })
    }

    /// The time before which a record must have happened. A clock that jumped ahead lengthens that by as much, for as long as
    /// the log remembers it: what was written before looks older than it is.
    async fn cutoff(&self, age: Duration) -> Result<Cutoff, StoreError> {
        let steps = self
            .store
            .ask(|reader| Ok(audit_records::clock_steps(reader)?))
            .await?;
        let ahead = steps.into_iter().sum::<i64>().saturating_add(self.silence);
        let lengthened = ahead.max(0);
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let now = self.store.clock().now().as_millisecond();
        Ok(Cutoff {
            before: now.saturating_sub(age).saturating_sub(lengthened),
            lengthened,
        })
    }

    async fn pruning(&self) -> Result<ChainLink, StoreError> {
        let pruning = self
            .store
            .ask(|reader| Ok(checkpoints::pruning(reader)?))
            .await?;
        Ok(ChainLink {
            id: pruning.through_id,
            hash: pruning.through_hash.try_into().unwrap_or_default(),
        })
    }

    async fn time_after(&self, id: i64) -> Result<Option<Timestamp>, StoreError> {
        let read = |row: &FoundRow<'_>| column::time(row.content.created_at);
        let first = self
            .store
            .ask(move |reader| Ok(found::first(reader, id + 1, read)?));
        Ok(first.await?.flatten())
    }

    /// Reads back what is due, at most a run of it.
    async fn plan(&self, walk: Walk, before: i64) -> Result<Option<PrunePlan>, PruneError> {
        let mut reading = Reading {
            walk,
            before,
            width: self.background.width(RECORDS),
            slices: Vec::new(),
            count: 0,
            kinds: BTreeMap::new(),
            end: None,
        };
        while reading.end.is_none() && reading.count < RUN {
            reading = self
                .store
                .ask(move |reader| Ok(reading.page(reader)?))
                .await?;
            self.background.rest(WAIT).await;
        }
        if reading.end == Some(ReadingEnd::Wrong) {
            return Err(PruneError::NotSound);
        }
        let Some(last) = reading.slices.last().map(|walk| walk.link) else {
            return Ok(None);
        };
        let pruned = Pruned {
            through: last.id,
            hash: hex::encode(last.hash),
            older_than: Timestamp::from_millisecond(before).unwrap_or(Timestamp::UNIX_EPOCH),
            retention_ms: self.retention.load(Ordering::Relaxed),
            kinds: reading.kinds,
        };
        let newest_key = self.store.newest_of(Kind::SigningKeyNamed).await?;
        Ok(Some(PrunePlan {
            has_key: newest_key.is_some_and(|id| id <= last.id),
            slices: reading.slices,
            pruned,
        }))
    }

    async fn carry_out(
        &self,
        plan: PrunePlan,
        mut tell: impl FnMut(i64),
    ) -> Result<(), PruneError> {
        self.announce(&plan).await?;
        for Walk { link, range } in plan.slices {
            let slice = Slice {
                through: link,
                note: self.signer.sign_pruning(&range),
                range: range.to_bytes(),
            };
            self.background.slice(Work::Prune(slice)).await?;
            tell(link.id);
        }
        Ok(())
    }

    /// Records what the run is to do before it does any of it, and which key signs, where the record that said so goes.
    async fn announce(&self, plan: &PrunePlan) -> Result<(), StoreError> {
        let now = self.store.clock().now();
        let mut records = vec![Record::of_service(now, Event::Pruned(plan.pruned.clone()))];
        if plan.has_key {
            let named = SigningKeyNamed {
                key: self.signer.public_key().to_line(),
                previous: None,
                endorsement: None,
                vouch: Some(self.signer.vouch()),
            };
            records.push(Record::of_service(now, Event::SigningKeyNamed(named)));
        }
        self.store.append(records).await.map(drop)
    }

    /// Ended calls of which no record is left.
    async fn forget_calls(&self, before: i64) -> Result<(), PruneError> {
        let n = self.background.width(CALLS);
        loop {
            let due = self
                .store
                .ask(move |reader| Ok(calls::due(reader, before, n)?))
                .await?;
            if due.is_empty() {
                return Ok(());
            }
            let now = self.store.clock().now().as_millisecond();
            let forget = Work::ForgetCalls { rows: due, now };
            self.background.slice(forget).await?;
        }
    }

    /// Callers of whom no record is left.
    async fn forget_callers(&self, before: i64) -> Result<(), PruneError> {
        let n = self.background.width(CALLS);
        loop {
            let rows = self
                .store
                .ask(move |reader| Ok(callers::due(reader, before, n)?))
                .await?;
            if rows.is_empty() {
                return Ok(());
            }
            self.background
                .slice(Work::ForgetCallers { rows, before })
                .await?;
        }
    }

    /// Gives free pages back to the file system, but for some that are needed again soon.
    async fn give_back(&self) -> Result<(), PruneError> {
        let mut free = self.free_pages().await?;
        while free > SPARE_PAGES {
            self.background
                .slice(Work::GiveBack(self.background.width(PAGES)))
                .await?;
            let left = self.free_pages().await?;
            if left >= free {
                break;
            }
            free = left;
        }
        Ok(())
    }

    async fn free_pages(&self) -> Result<i64, StoreError> {
        self.store
            .ask(|reader| Ok(connection::free_pages(reader)?))
            .await
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadingEnd {
    /// What follows is young enough to stay.
    Young,
    /// What follows is not what was written.
    Wrong,
}

/// Reading back what is due.
struct Reading {
    walk: Walk,
    before: i64,
    width: u32,
    slices: Vec<Walk>,
    count: u32,
    kinds: BTreeMap<String, u64>,
    end: Option<ReadingEnd>,
}

impl Reading {
    fn page(mut self, reader: &Connection) -> rusqlite::Result<Self> {
        let until = self.count + PAGE;
        while self.end.is_none() && self.count < until {
            let walked = self.walk.page(reader, self.width, |row| {
                let is_due = row.content.created_at < self.before;
                if is_due {
                    let kind = String::from_utf8_lossy(row.content.kind).into_owned();
                    *self.kinds.entry(kind).or_default() += 1;
                }
                is_due
            })?;
            let Ok(count) = walked else {
                self.end = Some(ReadingEnd::Wrong);
                break;
            };
            if count > 0 {
                self.count += count;
                self.slices.push(self.walk.clone());
            }
            if count < self.width {
                self.end = Some(ReadingEnd::Young);
            }
        }
        Ok(self)
    }
}

/// Records behind one place, up to another.
fn n_between(first: i64, last: i64) -> u64 {
    u64::try_from(last - first).unwrap_or_default()
}

/// The place up to which the log is pruned, with its tree; `None` where they contradict each other.
fn stored_pruning(reader: &Connection) -> rusqlite::Result<Option<Walk>> {
    let pruning = checkpoints::pruning(reader)?;
    let hash: Option<Hash> = pruning.through_hash.as_slice().try_into().ok();
    let range = match (&pruning.signed, u64::try_from(pruning.through_id)) {
        (Some((_, bytes)), Ok(size)) => CompactRange::from_bytes(size, bytes),
        (None, Ok(0)) => Some(CompactRange::default()),
        (None | Some(_), _) => None,
    };
    Ok(hash.zip(range).map(|(hash, range)| {
        let link = ChainLink {
            id: pruning.through_id,
            hash,
        };
        Walk { link, range }
    }))
}

/// How many records of a page are due, the last of them, and whether there may be more.
fn count_due(reader: &Connection, after: i64, before: i64) -> rusqlite::Result<(u64, i64, bool)> {
    let mut statement = reader.prepare_cached(
        "SELECT id, created_at FROM audit_records WHERE id > ?1 ORDER BY id LIMIT 10000",
    )?;
    let mut rows = statement.query([after])?;
    let (mut count, mut last) = (0, after);
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? >= before {
            return Ok((count, last, false));
        }
        count += 1;
        last = row.get(0)?;
    }
    Ok((count, last, count == 10_000))
}

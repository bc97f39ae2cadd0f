//! The walk over the rows: what fits, and what is wrong with what does not.
//!
//! Rows come in the order of their numbers. Each commits to the hash of the one before it, and its own hash covers its number,
//! so that of two rows that do not fit, the one that was changed can be told. The tree over the hashes is built on the way,
//! with the hash to which the next record commits where a record was changed, and compared with every root that was signed.

use super::finding::missing;
use super::{ChainLink, CompactRange, FindingKind, Findings, FoundRow, Hash, Kind, OwnedRow};

/// Gaps that are remembered, for a row that was moved out of one and comes later.
const GAPS: usize = 1_000;
/// Rows that are remembered, for a gap that one was moved out of and that comes later.
const EARLY_ROWS: usize = 100;

#[derive(Clone, Debug)]
pub struct Start {
    /// The last record that is not there any more; [`ChainLink::GENESIS`] where all are.
    pub place: i64,
    /// Its hash, where that is known.
    pub hash: Option<Hash>,
    /// The tree over all that is gone, where it is known.
    pub tree: Option<CompactRange>,
}

/// A row in which the log tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    pub record: i64,
    pub kind: Kind,
    pub previous_hash: Vec<u8>,
    pub detail: String,
}

/// Walks over rows. Memory does not grow with the log.
#[derive(Debug)]
pub struct ChainVerifier {
    /// The place of the last record, and its hash where that is known.
    place: i64,
    hash: Option<Hash>,
    /// What the records' numbers are ahead of their places by.
    shift: i64,
    /// The place where the records begin of which hash and tree come from a pruning checkpoint.
    start: i64,
    /// A row that fits nowhere; the next one tells why.
    misfit: Option<Misfit>,
    /// Where something was missing, and the link before it.
    gaps: Vec<(ChainLink, i64)>,
    /// Rows that stand before the log.
    early_rows: Vec<OwnedRow>,
    tree: Option<CompactRange>,
    /// The hash of the last record, which the tree takes in when the next one has said what it is.
    leaf: Option<Hash>,
    /// Roots that were signed, by size, and those that were not looked at yet.
    roots: Vec<(i64, Hash)>,
    next_root: usize,
    /// Everything up to here is as signed.
    proven: i64,
    last_wrong: i64,
    watched: Vec<(i64, Option<Hash>)>,
    keys: Vec<KeyRecord>,
    rows: u64,
    first_row: Option<i64>,
    findings: Findings,
}

/// A row that fits nowhere.
#[derive(Debug)]
struct Misfit {
    number: i64,
    /// Its own hash, as stored.
    hash: Option<Hash>,
    /// It names the record before it rightly.
    is_linked: bool,
    /// The record that it would come after, if it stood one place further on.
    behind: Option<Hash>,
}

#[derive(Debug)]
pub struct Walked {
    pub findings: Findings,
    /// How many rows there were.
    pub rows: u64,
    /// The number of the first one.
    pub first_row: Option<i64>,
    /// The place of the last record.
    pub last: i64,
    pub head: Option<Hash>,
    /// The hashes of the records that were to be watched, where they are there.
    pub watched: Vec<(i64, Option<Hash>)>,
    /// The keys that the log names, and the secrets that took it over, in order.
    pub keys: Vec<KeyRecord>,
}

impl ChainVerifier {
    /// A walk from `start`. `roots` are those that were signed; `watched` are places whose hashes are wanted in the end.
    pub fn new(start: Start, mut roots: Vec<(i64, Hash)>, watched: &[i64]) -> Self {
        roots.sort_unstable_by_key(|(size, _)| *size);
        roots.retain(|(size, _)| *size > start.place);
        let mut watched: Vec<_> = watched.iter().map(|place| (*place, None)).collect();
        for (place, hash) in &mut watched {
            if *place == start.place {
                *hash = start.hash;
            }
        }
        Self {
            place: start.place,
            hash: start.hash,
            shift: 0,
            start: start.place,
            misfit: None,
            gaps: Vec::new(),
            early_rows: Vec::new(),
            tree: start.tree,
            leaf: None,
            roots,
            next_root: 0,
            proven: start.place,
            last_wrong: start.place,
            watched,
            keys: Vec::new(),
            rows: 0,
            first_row: None,
            findings: Findings::default(),
        }
    }

    /// What is wrong so far.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    pub fn next_row(&mut self, row: &FoundRow<'_>) {
        self.rows += 1;
        self.first_row.get_or_insert(row.content.id);
        if let Some(misfit) = self.misfit.take() {
            if self.were_swapped(&misfit, row) {
                return;
            }
            self.resolve(&misfit, Some(row));
        }
        let place = row.content.id.saturating_sub(self.shift);
        match self.link() {
            Some(link) => self.take_after(&link, place, row),
            None => self.take_after_unknown(place, row),
        }
    }

    fn link(&self) -> Option<ChainLink> {
        self.hash.map(|hash| ChainLink {
            id: self.place,
            hash,
        })
    }

    fn take_after(&mut self, link: &ChainLink, place: i64, row: &FoundRow<'_>) {
        if let Some(next) = row.follows_as(link, link.id + 1) {
            if place != next.id {
                let number = row.content.id;
                let what = format!(
                    "record {} and what follows stand as number {number} and on",
                    next.id
                );
                self.wrong(FindingKind::Altered, next.id, what);
                self.shift = number.saturating_sub(next.id);
            }
            self.accept(next.id, next.hash, row);
        } else if place <= link.id {
            self.early(row);
        } else if let Some((previous, hash)) = row.agrees_as(place) {
            if place > link.id + 1 {
                self.gap(link, place, previous);
            } else {
                self.predecessor_replaced(link, previous);
            }
            self.accept(place, hash, row);
        } else if let Some(hash) = own_hash(row).filter(|_| row.would_follow(link, place)) {
            let what = format!("record {place} names another record before it than there was");
            self.wrong(FindingKind::Altered, place, what);
            self.accept(place, hash, row);
        } else if !self.was_moved(row) {
            self.misfit = Some(Misfit {
                number: row.content.id,
                hash: own_hash(row),
                is_linked: row.previous_hash == link.hash,
                behind: row.agrees_as(place + 1).map(|(previous, _)| previous),
            });
        }
    }

    /// The record before was changed, or nothing is known of it; this row says what its hash was.
    fn take_after_unknown(&mut self, place: i64, row: &FoundRow<'_>) {
        if place <= self.place {
            self.inserted(row.content.id, "stands before the first record of the log");
            return;
        }
        if let Some((previous, hash)) = row.agrees_as(place) {
            if place > self.place + 1 {
                self.tree = None;
                self.wrong(
                    FindingKind::Missing,
                    self.place + 1,
                    missing(self.place + 1, place - 1),
                );
            } else if self.leaf.is_some() || self.place > self.start {
                self.leaf = Some(previous);
                self.watch(self.place, previous);
            }
            self.accept(place, hash, row);
        } else if !self.was_moved(row) {
            // Two in a row: what the first of them was, nobody says.
            self.tree = None;
            self.altered(row.content.id, own_hash(row));
        }
    }

    /// Whether the row that fits nowhere and the one after it stand in each other's place.
    fn were_swapped(&mut self, misfit: &Misfit, row: &FoundRow<'_>) -> bool {
        let next = self
            .link()
            .and_then(|link| row.follows_as(&link, link.id + 1));
        let Some((next, hash)) = next.zip(misfit.hash) else {
            return false;
        };
        let is_in_place = misfit.number.saturating_sub(self.shift) == next.id;
        if !is_in_place || misfit.behind != Some(next.hash) {
            return false;
        }
        for (place, hash) in [(next.id, next.hash), (next.id + 1, hash)] {
            self.wrong(
                FindingKind::Altered,
                place,
                format!("record {place} was given the number of another"),
            );
            self.grow();
            self.place = place;
            self.hash = Some(hash);
            self.leaf = Some(hash);
            self.watch(place, hash);
        }
        true
    }

    /// A row that fits nowhere: the row after it, or the end of the log, tells what it is.
    fn resolve(&mut self, misfit: &Misfit, next: Option<&FoundRow<'_>>) {
        let place = misfit.number.saturating_sub(self.shift);
        let link = self.link();
        let is_skipped = next
            .zip(link)
            .is_some_and(|(next, link)| next.follows_as(&link, link.id + 1).is_some());
        if let Some(next) = next.filter(|_| is_skipped) {
            self.inserted(
                misfit.number,
                "was never written: the record before it is followed by the one after it",
            );
            self.shift = next.content.id.saturating_sub(self.place + 1);
            return;
        }
        let is_signed = self.roots.last().is_some_and(|(size, _)| *size >= place);
        if next.is_none() && !is_signed && !misfit.is_linked {
            self.inserted(
                misfit.number,
                "was never written: it does not follow on the record before it",
            );
            return;
        }
        if place > self.place + 1 {
            self.tree = None;
            self.wrong(
                FindingKind::Missing,
                self.place + 1,
                missing(self.place + 1, place - 1),
            );
        }
        self.altered(misfit.number, misfit.hash);
    }

    /// A row was changed. Its hash is what the next record says it was.
    fn altered(&mut self, number: i64, hash: Option<Hash>) {
        let place = number.saturating_sub(self.shift);
        self.wrong(
            FindingKind::Altered,
            place,
            format!("record {place} is not what was written"),
        );
        self.grow();
        self.place = place;
        self.hash = None;
        self.leaf = hash;
    }

    fn early(&mut self, row: &FoundRow<'_>) {
        self.inserted(row.content.id, "stands before the first record of the log");
        if self.early_rows.len() < EARLY_ROWS {
            self.early_rows.push(OwnedRow::of(row));
        }
    }

    fn inserted(&mut self, number: i64, why: &str) {
        self.wrong(
            FindingKind::Inserted,
            number,
            format!("record {number} {why}"),
        );
    }

    fn gap(&mut self, link: &ChainLink, place: i64, previous: Hash) {
        let (first, last) = (link.id + 1, place - 1);
        self.wrong(FindingKind::Missing, first, missing(first, last));
        let mut early_rows = self.early_rows.iter();
        let early = early_rows.position(|early| early.row().follows_as(link, first).is_some());
        if let Some(early) = early {
            let early = self.early_rows.swap_remove(early);
            self.findings.no_longer_inserted(early.id());
            self.findings.moved(first, last, early.id());
        } else if self.gaps.len() < GAPS {
            self.gaps.push((*link, last));
        }
        self.grow();
        self.place = last;
        // The record after a single one that is gone says what its hash was.
        self.leaf = (first == last).then_some(previous);
        if self.leaf.is_none() {
            self.tree = None;
        }
        self.watch(last, previous);
    }

    /// Both rows agree with themselves and not with each other: the first was replaced, since the second names what it was.
    fn predecessor_replaced(&mut self, link: &ChainLink, previous: Hash) {
        if link.id == self.start && link.id > 0 {
            let what = format!(
                "the hash of the last pruned record, {}, is not the one that the next record names",
                link.id
            );
            self.findings
                .add(FindingKind::CheckpointInvalid, link.id, what);
            return;
        }
        let record = link.id.max(1);
        let what = format!(
            "record {record}, or it and records before it, were replaced: the next record was written after another"
        );
        self.wrong(FindingKind::Altered, record, what);
        self.leaf = self.leaf.map(|_| previous);
        self.watch(link.id, previous);
    }

    /// Whether the row is one that is missing elsewhere.
    fn was_moved(&mut self, row: &FoundRow<'_>) -> bool {
        let from = self
            .gaps
            .iter()
            .position(|(link, _)| row.follows_as(link, link.id + 1).is_some());
        let Some(from) = from else { return false };
        let (link, last) = self.gaps.swap_remove(from);
        self.findings.moved(link.id + 1, last, row.content.id);
        true
    }

    fn accept(&mut self, place: i64, hash: Hash, row: &FoundRow<'_>) {
        self.grow();
        self.place = place;
        self.hash = Some(hash);
        self.leaf = Some(hash);
        self.watch(place, hash);
        let kinds = [Kind::SigningKeyNamed, Kind::SecretRotated];
        let kind = kinds
            .into_iter()
            .find(|kind| row.content.kind == kind.as_str().as_bytes());
        if let Some(kind) = kind {
            self.keys.push(KeyRecord {
                record: place,
                kind,
                previous_hash: row.previous_hash.to_vec(),
                detail: String::from_utf8_lossy(row.content.detail).into_owned(),
            });
        }
    }

    /// Takes the last record into the tree and compares the root where one was signed.
    fn grow(&mut self) {
        if let (Some(tree), Some(leaf)) = (&mut self.tree, self.leaf.take()) {
            tree.append(&leaf);
        }
        while let Some((size, root)) = self.roots.get(self.next_root).copied() {
            if size > self.place {
                break;
            }
            self.next_root += 1;
            let Some(tree) = &self.tree else { continue };
            if u64::try_from(size) != Ok(tree.size()) {
                continue;
            }
            if tree.root() == root {
                self.proven = size;
                continue;
            }
            if self.last_wrong <= self.proven {
                let first = self.proven + 1;
                let what = format!(
                    "records {first} to {size} are not those that were signed: they were rewritten together"
                );
                self.wrong(FindingKind::Altered, first, what);
            }
            self.tree = None;
        }
    }

    fn watch(&mut self, place: i64, hash: Hash) {
        for (watched, found) in &mut self.watched {
            if *watched == place {
                *found = Some(hash);
            }
        }
    }

    fn wrong(&mut self, kind: FindingKind, record: i64, message: String) {
        self.last_wrong = self.last_wrong.max(record);
        self.findings.add(kind, record, message);
    }

    /// The records up to `start` were pruned meanwhile.
    pub fn skip_to(&mut self, start: Start) {
        if start.place > self.place {
            self.place = start.place;
            self.start = start.place;
            self.hash = start.hash;
            self.tree = start.tree;
            self.leaf = None;
            self.misfit = None;
        }
    }

    /// The rows after the last one cannot be read, up to the one of number `before`.
    pub fn unreadable(&mut self, before: Option<i64>, why: &str) {
        if let Some(misfit) = self.misfit.take() {
            self.resolve(&misfit, None);
        }
        let first = self.place + 1;
        self.wrong(
            FindingKind::Altered,
            first,
            format!("record {first} and what follows cannot be read: {why}"),
        );
        self.tree = None;
        self.hash = None;
        if let Some(before) = before {
            self.place = before.saturating_sub(self.shift).saturating_sub(1);
        }
    }

    /// The end of the rows. `is_whole`: there is nothing behind them that could not be read.
    pub fn finish(mut self, is_whole: bool) -> Walked {
        if let Some(misfit) = self.misfit.take() {
            self.resolve(&misfit, None);
        }
        self.grow();
        if let Some((signed, _)) = self.roots.last().copied()
            && signed > self.place
            && is_whole
        {
            let first = self.place + 1;
            let what = format!(
                "{signed} records were signed, and {} at the end are gone",
                signed - self.place
            );
            self.wrong(FindingKind::Truncated, first, what);
        }
        Walked {
            findings: self.findings,
            rows: self.rows,
            first_row: self.first_row,
            last: self.place,
            head: self.hash,
            watched: self.watched,
            keys: self.keys,
        }
    }
}

fn own_hash(row: &FoundRow<'_>) -> Option<Hash> {
    row.hash.try_into().ok()
}

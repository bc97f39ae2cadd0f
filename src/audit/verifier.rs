//! The walk over the rows: which of them hold, and what is wrong with the others. Its rules are those of `docs/audit-format.md`, section 7.
//!
//! Rows come in the order of their numbers. A row that holds says what the hash of the record before it was, whatever stands there
//! now. After one that does not, the walk goes on from the next that does. The tree over the hashes is built on the way, and compared with
//! every root that was signed.

use super::{ChainLink, CompactRange, FindingKind, Findings, FoundRow, Hash, Kind, LogFinding};

/// Where a walk begins.
#[derive(Clone, Debug)]
pub struct Start {
    /// The last record that is not looked at; 0 before the first.
    pub place: i64,
    /// Its hash, where that is known.
    pub hash: Option<Hash>,
    /// The tree over all records up to it, where it is known.
    pub tree: Option<CompactRange>,
}

/// A row in which the log tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    pub record: i64,
    pub kind: Kind,
    pub previous_hash: Hash,
    pub detail: String,
}

/// What a walk came by.
#[derive(Debug, Default)]
pub struct Walked {
    pub findings: Findings,
    /// How many rows there were.
    pub rows: u64,
    /// The number of the first one.
    pub first_row: Option<i64>,
    /// The last record that is accounted for, and its hash where that is known.
    pub last: i64,
    pub head: Option<Hash>,
    /// The tree over all records, where it is known; on the way, over those whose hash is settled: all but the last one.
    pub tree: Option<CompactRange>,
    /// The hashes of the records that were to be watched, where they are known.
    pub watched: Vec<(i64, Option<Hash>)>,
    /// The keys that the log names, and the secrets that took it over, in order.
    pub keys: Vec<KeyRecord>,
}

/// Walks over rows. Memory does not grow with the log.
#[derive(Debug, Default)]
pub struct ChainVerifier {
    walked: Walked,
    /// Where the records begin.
    start: i64,
    /// Rows right before this one that share a finding.
    misfits: Option<Misfits>,
    /// Roots that were signed and not looked at yet, by size, the largest first.
    roots: Vec<(i64, Hash)>,
    /// The size of the largest.
    signed: i64,
    /// Everything up to here is as signed.
    proven: i64,
    /// Something was found behind that.
    is_disproved: bool,
    /// The rows right before the next one could not be read.
    is_blind: bool,
}

/// Rows one after another that share a finding.
#[derive(Clone, Copy, Debug)]
struct Misfits {
    kind: FindingKind,
    first: i64,
    last: i64,
    /// The first of them names the hash of the record before it.
    is_linked: bool,
}

impl Walked {
    /// The last record and the tree over all up to it, or the first thing that is wrong.
    pub fn end(self) -> Result<(ChainLink, CompactRange), LogFinding> {
        let (id, end) = (self.last, self.head.zip(self.tree));
        match (self.findings.into_list().into_iter().next(), end) {
            (None, Some((hash, tree))) => Ok((ChainLink { id, hash }, tree)),
            (Some(finding), _) => Err(finding),
            (None, None) => Err(LogFinding {
                kind: FindingKind::Altered,
                record: Some(id),
                message: format!("nothing tells what record {id} was"),
            }),
        }
    }
}

impl ChainVerifier {
    /// A walk from `start`. `roots` are those that were signed; `watched` are records whose hashes are wanted in the end.
    pub fn new(start: Start, mut roots: Vec<(i64, Hash)>, watched: &[i64]) -> Self {
        roots.retain(|(size, _)| *size > start.place);
        roots.sort_unstable_by_key(|(size, _)| std::cmp::Reverse(*size));
        Self {
            walked: Walked {
                last: start.place,
                head: start.hash,
                tree: start.tree,
                watched: watched.iter().map(|record| (*record, None)).collect(),
                ..Walked::default()
            },
            start: start.place,
            signed: roots.first().map_or(0, |(size, _)| *size),
            roots,
            proven: start.place,
            ..Self::default()
        }
    }

    /// How many rows there were so far.
    pub fn rows(&self) -> u64 {
        self.walked.rows
    }

    /// The last record that is accounted for.
    pub fn last(&self) -> i64 {
        self.walked.last
    }

    /// Whether nothing is wrong so far.
    pub fn is_sound(&self) -> bool {
        self.misfits.is_none() && self.walked.findings.is_empty()
    }

    pub fn next_row(&mut self, row: &FoundRow<'_>) {
        self.walked.rows += 1;
        let number = row.content.id;
        self.walked.first_row.get_or_insert(number);
        if std::mem::take(&mut self.is_blind) {
            self.walked.last = self.walked.last.max(number.saturating_sub(1));
        }
        let is_next = number == self.walked.last.saturating_add(1);
        if number <= self.walked.last {
            self.misfit(FindingKind::Inserted, number, false);
        } else if let Some((previous, hash)) = row.holds() {
            self.accept(row, previous, hash);
        } else if is_next || number <= self.signed {
            self.settle_last();
            self.missing_before(number);
            let is_linked = self
                .walked
                .head
                .is_some_and(|hash| row.previous_hash == hash);
            self.misfit(FindingKind::Altered, number, is_linked);
            self.walked.last = number;
            self.walked.head = None;
        } else {
            self.misfit(FindingKind::Inserted, number, false);
        }
    }

    fn accept(&mut self, row: &FoundRow<'_>, previous: Hash, hash: Hash) {
        let number = row.content.id;
        self.end_misfits(true);
        if number > self.walked.last.saturating_add(1) {
            self.settle_last();
            self.missing_before(number);
        } else if self.walked.head.is_some_and(|hash| hash != previous) {
            self.last_was_replaced();
        }
        self.settle(number - 1, previous);
        self.walked.last = number;
        self.walked.head = Some(hash);
        let kinds = [Kind::SigningKeyNamed, Kind::SecretRotated];
        let kind = kinds
            .into_iter()
            .find(|kind| row.content.kind == kind.as_str().as_bytes());
        if let Some(kind) = kind {
            self.walked.keys.push(KeyRecord {
                record: number,
                kind,
                previous_hash: previous,
                detail: String::from_utf8_lossy(row.content.detail).into_owned(),
            });
        }
    }

    /// The next row names another hash than the last record has.
    fn last_was_replaced(&mut self) {
        if self.walked.last == self.start && self.walked.last > 0 {
            let what = format!(
                "the hash of the last pruned record, {}, is not the one that the next record names",
                self.walked.last
            );
            self.walked
                .findings
                .add(FindingKind::CheckpointInvalid, self.walked.last, what);
            return;
        }
        let record = self.walked.last.max(1);
        let what = format!(
            "record {record}, or it and records before it, were replaced: the next record was written after another"
        );
        self.wrong(FindingKind::Altered, record, what);
    }

    fn missing_before(&mut self, number: i64) {
        let (first, last) = (self.walked.last.saturating_add(1), number - 1);
        if first <= last {
            self.end_misfits(true);
            let what = format!("{} missing", records(first, last));
            self.wrong(FindingKind::Missing, first, what);
        }
    }

    /// A row that does not belong where it stands: its finding is told with those of its neighbours.
    fn misfit(&mut self, kind: FindingKind, number: i64, is_linked: bool) {
        if let Some(run) = self.misfits.as_mut().filter(|run| run.kind == kind) {
            run.last = number;
            return;
        }
        self.end_misfits(false);
        self.misfits = Some(Misfits {
            kind,
            first: number,
            last: number,
            is_linked,
        });
    }

    /// Tells of the rows before this one. Altered ones that no row that holds follows (`is_followed`) and no checkpoint covers were never written.
    fn end_misfits(&mut self, is_followed: bool) {
        let Some(run) = self.misfits.take() else {
            return;
        };
        if run.kind == FindingKind::Inserted {
            self.inserted(run.first, run.last);
            return;
        }
        let unsigned = run.first.max(self.signed.saturating_add(1));
        let is_written = is_followed || (run.is_linked && run.first == unsigned);
        let written_to = if is_written {
            run.last
        } else {
            run.last.min(unsigned - 1)
        };
        if run.first <= written_to {
            let what = format!("{} not what was written", records(run.first, written_to));
            self.wrong(FindingKind::Altered, run.first, what);
        }
        if written_to < run.last {
            self.inserted(written_to + 1, run.last);
            self.walked.last = written_to;
        }
    }

    fn inserted(&mut self, first: i64, last: i64) {
        let what = if first == last {
            format!("record {first} was never written")
        } else {
            format!("records with numbers from {first} to {last} were never written")
        };
        self.walked.findings.add(FindingKind::Inserted, first, what);
    }

    /// Nothing behind the last record tells what its hash was: it is what the record says.
    fn settle_last(&mut self) {
        if let Some(hash) = self.walked.head {
            self.settle(self.walked.last, hash);
        }
    }

    /// Takes the hash of a record into the tree, and compares the root where one was signed.
    fn settle(&mut self, record: i64, hash: Hash) {
        for (watched, found) in &mut self.walked.watched {
            if *watched == record {
                *found = Some(hash);
            }
        }
        let Some(tree) = &mut self.walked.tree else {
            return;
        };
        let size = i64::try_from(tree.size()).unwrap_or(i64::MAX);
        if record <= size {
            return;
        }
        if record - 1 > size {
            self.walked.tree = None;
            return;
        }
        tree.append(&hash);
        self.compare_root(record);
    }

    /// Compares the root of the tree over the records up to this one, where one was signed.
    fn compare_root(&mut self, record: i64) {
        while let Some((size, root)) = self.roots.pop_if(|(size, _)| *size <= record) {
            let Some(tree) = &self.walked.tree else {
                return;
            };
            if size < record {
                continue;
            }
            if tree.root() == root {
                self.proven = size;
                self.is_disproved = false;
                continue;
            }
            self.walked.tree = None;
            if !self.is_disproved {
                let first = self.proven + 1;
                let what = format!(
                    "records {first} to {size} are not those that were signed: they were rewritten together"
                );
                self.wrong(FindingKind::Altered, first, what);
            }
            return;
        }
    }

    fn wrong(&mut self, kind: FindingKind, record: i64, message: String) {
        self.is_disproved = true;
        self.walked.findings.add(kind, record, message);
    }

    /// The records up to `start` were pruned meanwhile.
    pub fn skip_to(&mut self, start: Start) {
        if start.place > self.walked.last {
            self.end_misfits(true);
            self.start = start.place;
            self.walked.last = start.place;
            self.walked.head = start.hash;
            self.walked.tree = start.tree;
        }
    }

    /// The records from `first` to `last` are left out, and `roots` are those of the perfect subtrees over them. `false` where that cannot be.
    pub fn pass_over(&mut self, first: i64, last: i64, roots: &[Hash]) -> bool {
        if first <= self.walked.last || last < first {
            return false;
        }
        self.end_misfits(true);
        self.settle_last();
        if std::mem::take(&mut self.is_blind) {
            self.walked.last = first - 1;
        }
        self.missing_before(first);
        self.walked.last = first - 1;
        self.walked.head = None;
        let known = self.walked.tree.take();
        if let Some(tree) = known.filter(|tree| tree.size() == self.walked.last.unsigned_abs()) {
            self.walked.tree = tree.extend(last.unsigned_abs(), roots);
            if self.walked.tree.is_none() {
                return false;
            }
        }
        self.walked.last = last;
        self.compare_root(last);
        if self.walked.rows == 0 {
            self.proven = last;
        }
        true
    }

    /// The rows behind the last one cannot be read, up to the next one that comes, if one does.
    pub fn unreadable(&mut self, why: &str) {
        if self.is_blind {
            return;
        }
        self.end_misfits(false);
        let first = self.walked.last.saturating_add(1);
        let what = format!("record {first} and what follows cannot be read: {why}");
        self.wrong(FindingKind::Altered, first, what);
        self.walked.tree = None;
        self.walked.head = None;
        self.is_blind = true;
    }

    /// The end of the rows.
    pub fn finish(mut self) -> Walked {
        self.end_misfits(false);
        self.settle_last();
        if self.signed > self.walked.last && !self.is_blind {
            let what = format!(
                "{} records were signed, and {} at the end are gone",
                self.signed,
                self.signed.saturating_sub(self.walked.last)
            );
            self.wrong(FindingKind::Truncated, self.walked.last + 1, what);
        }
        self.walked
    }
}

/// The subject of a sentence about some records, with its verb.
fn records(first: i64, last: i64) -> String {
    if first == last {
        format!("record {first} is")
    } else {
        format!("records {first} to {last} are")
    }
}

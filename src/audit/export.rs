//! A slice of the log that is verified by itself: what `audit export --proof` writes and `audit verify --export` reads, a JSON object a line.
//!
//! The first line says under which signed checkpoint the slice lies. Then all records of that log follow in order, each as it is stored, or, where
//! records are left out, the roots of the perfect subtrees over them. So the tree can be built, and has the root that was signed or has not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{
    ChainVerifier, CompactRange, FindingKind, Findings, FoundRow, Hash, NoteSubject, PublicKey,
    RowContent, SignedTreeHead, SigningKeyNamed, Start, VerifyReport,
};

/// The form of the lines, by name and version.
const FORMAT: &str = "switchboard-audit-export/v1";

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportEntry {
    Export(ExportHead),
    Omitted(OmittedRecords),
    Record(ExportedRecord),
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportHead {
    pub format: String,
    /// Between the first record and the last, none is left out.
    pub contiguous: bool,
    /// The checkpoint, as it was signed.
    pub note: String,
    /// The key that signed it.
    pub public_key: String,
    /// Each key that the log names, with the word of the one before it.
    #[serde(default)]
    pub endorsements: Vec<SigningKeyNamed>,
}

/// Records that are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OmittedRecords {
    /// The number of the first of them, and of the last.
    pub from: i64,
    pub through: i64,
    /// The roots of the perfect subtrees over them, in hexadecimal.
    pub roots: Vec<String>,
}

/// A record with its columns as they are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedRecord {
    pub id: i64,
    /// In milliseconds since the epoch.
    pub created_at: i64,
    pub kind: String,
    call_id: Option<i64>,
    pub call_sid: Option<String>,
    /// In base64.
    personal: Option<String>,
    pub detail: String,
    /// In hexadecimal, as `hash`.
    previous_hash: String,
    pub hash: String,
    #[serde(default)]
    pub shown: ShownPersonal,
}

/// What is sealed in a record, as far as it is shown; nothing proves it but the installation's secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownPersonal {
    pub caller: Option<String>,
    pub called: Option<String>,
    pub answer: Option<String>,
}

impl ExportHead {
    pub fn new(end: &SignedTreeHead, contiguous: bool, endorsements: Vec<SigningKeyNamed>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            contiguous,
            note: end.note.clone(),
            public_key: end.public_key.clone(),
            endorsements,
        }
    }

    /// The key and the checkpoint that it signed: how many records, and the root over them.
    fn open(&self) -> Result<(PublicKey, i64, Hash), String> {
        let key = PublicKey::from_line(&self.public_key).ok_or("it names no public key")?;
        let signed = key.open(&self.note).map_err(|why| why.to_string())?;
        let size = i64::try_from(signed.size).ok();
        size.filter(|_| signed.subject == NoteSubject::Checkpoint)
            .map(|size| (key, size, signed.root))
            .ok_or_else(|| "it is a note of another kind".to_owned())
    }

    /// Whether a key that is trusted signed, or said who signs after it, and so on up to the one that signed.
    fn is_vouched_for_by(&self, trusted: &PublicKey, signer: &PublicKey) -> bool {
        let mut current = trusted.clone();
        for named in &self.endorsements {
            if current == *signer {
                return true;
            }
            let previous = named.previous.as_deref().and_then(PublicKey::from_line);
            let next = PublicKey::from_line(&named.key);
            if let (Some(next), Some(said)) = (next, &named.endorsement)
                && previous.as_ref() == Some(&current)
                && current.has_endorsed(&next, said)
            {
                current = next;
            }
        }
        current == *signer
    }
}

impl OmittedRecords {
    /// What stands for the records of the range; `None` where there are none.
    pub fn new(range: &CompactRange) -> Option<Self> {
        let [begin, through] = [range.begin(), range.size()].map(i64::try_from);
        Some(Self {
            from: begin.ok()? + 1,
            through: through.ok()?,
            roots: range.roots().iter().map(hex::encode).collect(),
        })
        .filter(|omitted| !omitted.roots.is_empty())
    }
}

impl ExportedRecord {
    /// The row as it lies in the file; `None` where it is none that the log writes.
    pub fn new(row: &FoundRow<'_>, shown: ShownPersonal) -> Option<Self> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let content = &row.content;
        Some(Self {
            id: content.id,
            created_at: content.created_at,
            kind: text(content.kind)?,
            call_id: content.call_id,
            call_sid: match content.call_sid {
                Some(sid) => Some(text(sid)?),
                None => None,
            },
            personal: content.personal.map(|bytes| STANDARD.encode(bytes)),
            detail: text(content.detail)?,
            previous_hash: hex::encode(row.previous_hash),
            hash: hex::encode(row.hash),
            shown,
        })
        .filter(|_| row.is_typed)
    }
}

/// Verifies such a file, line by line. Memory does not grow with it.
#[derive(Debug)]
pub struct ExportVerifier {
    head: ExportHead,
    /// Who signed, and how many records; `None` where the checkpoint does not hold.
    signed: Option<(PublicKey, i64)>,
    trusted: Option<PublicKey>,
    anchor: Option<SignedTreeHead>,
    chain: ChainVerifier,
    findings: Findings,
    lines: u64,
    records: u64,
    last: i64,
    /// Records that are left out behind one that is there: the first of them and the last.
    gap: Option<(i64, i64)>,
    omitted: u64,
    /// Records show something of what is sealed in them.
    is_shown: bool,
}

impl ExportVerifier {
    /// Begins with the first line; `None` where that is not the beginning of an export with proof. A key that is trusted is that of the anchor if no
    /// other is given.
    pub fn new(
        line: &[u8],
        trusted: Option<PublicKey>,
        anchor: Option<SignedTreeHead>,
    ) -> Option<Self> {
        let ExportEntry::Export(head) = serde_json::from_slice(line).ok()? else {
            return None;
        };
        if head.format != FORMAT {
            return None;
        }
        let mut findings = Findings::default();
        let mut bad = |what| findings.add(FindingKind::CheckpointInvalid, None, what);
        let trusted = trusted.or_else(|| PublicKey::from_line(&anchor.as_ref()?.public_key));
        let opened = head.open();
        let roots = opened.as_ref().map(|(_, size, root)| (*size, *root));
        let roots = roots.into_iter().collect();
        let signed = match opened {
            Ok((key, size, _)) => {
                let trusted = trusted.as_ref();
                if trusted.is_some_and(|trusted| !head.is_vouched_for_by(trusted, &key)) {
                    let key = key.to_line();
                    bad(format!(
                        "it is signed by {key}, and that is not the key that is trusted"
                    ));
                }
                Some((key, size))
            }
            Err(why) => {
                bad(format!("the checkpoint does not hold: {why}"));
                None
            }
        };
        let start = Start {
            place: 0,
            hash: Some([0; 32]),
            tree: Some(CompactRange::default()),
        };
        let watched = anchor.as_ref().map(records_of);
        Some(Self {
            head,
            signed,
            trusted,
            chain: ChainVerifier::new(start, roots, watched.as_slice()),
            anchor,
            findings,
            lines: 1,
            records: 0,
            last: 0,
            gap: None,
            omitted: 0,
            is_shown: false,
        })
    }

    /// The next line, with its line feed, and the record that it is. What stands behind the last line feed and cannot be read is the beginning of a
    /// line that was cut off.
    pub fn next_line(&mut self, line: &[u8]) -> Option<ExportedRecord> {
        self.lines += 1;
        match serde_json::from_slice(line) {
            Ok(ExportEntry::Omitted(omitted)) if self.omitted(&omitted) => return None,
            Ok(ExportEntry::Record(record)) if self.record(&record).is_some() => {
                return Some(record);
            }
            _ if line.ends_with(b"\n") => {
                let what = format!("line {} is none of an export with proof", self.lines);
                self.chain.unreadable(&what);
            }
            _ => {}
        }
        None
    }

    /// Something is wrong with what the file proves.
    pub fn find(&mut self, kind: FindingKind, record: impl Into<Option<i64>>, what: String) {
        self.findings.add(kind, record, what);
    }

    fn omitted(&mut self, omitted: &OmittedRecords) -> bool {
        let roots: Option<Vec<Hash>> = omitted.roots.iter().map(|text| hash_of(text)).collect();
        let OmittedRecords { from, through, .. } = *omitted;
        let is_signed = |(_, size): &(PublicKey, i64)| through <= *size;
        let is_right = self.signed.as_ref().is_none_or(is_signed)
            && roots.is_some_and(|roots| self.chain.pass_over(from, through, &roots));
        if is_right && self.records > 0 {
            let first = self.gap.map_or(from, |(first, _)| first);
            self.gap = Some((first, through));
        }
        is_right
    }

    fn record(&mut self, record: &ExportedRecord) -> Option<()> {
        let personal = record.personal.as_ref().map(|text| STANDARD.decode(text));
        let personal = personal.transpose().ok()?;
        let [previous_hash, hash] = [&record.previous_hash, &record.hash].map(hex::decode);
        let (previous_hash, hash) = previous_hash.ok().zip(hash.ok())?;
        self.records += 1;
        self.is_shown |= record.shown != ShownPersonal::default();
        if let Some((_, size)) = self.signed.as_ref().filter(|(_, size)| record.id > *size) {
            let what = format!("record {} is none of the {size} signed ones", record.id);
            self.findings.add(FindingKind::Inserted, record.id, what);
            return Some(());
        }
        if record.id > self.chain.last()
            && let Some((first, last)) = self.gap.take()
        {
            if self.head.contiguous {
                let what = format!("records {first} to {last} are left out where none is to be");
                self.findings.add(FindingKind::Missing, first, what);
            }
            self.omitted += first.abs_diff(last) + 1;
        }
        self.last = self.last.max(record.id);
        self.chain.next_row(&FoundRow {
            content: RowContent {
                id: record.id,
                created_at: record.created_at,
                kind: record.kind.as_bytes(),
                call_id: record.call_id,
                call_sid: record.call_sid.as_ref().map(String::as_bytes),
                personal: personal.as_deref(),
                detail: record.detail.as_bytes(),
            },
            previous_hash: &previous_hash,
            hash: &hash,
            is_typed: true,
        });
        Some(())
    }

    pub fn finish(mut self) -> VerifyReport {
        let walked = self.chain.finish();
        self.findings.append(walked.findings);
        let mut remarks = Vec::new();
        if let Some(anchor) = &self.anchor {
            let records = records_of(anchor);
            let watched = walked.watched.first().and_then(|(_, hash)| *hash);
            let (kind, what) = (FindingKind::AnchorMismatch, &mut self.findings);
            let keys = self.head.endorsements.iter();
            let keys = keys.filter_map(|named| PublicKey::from_line(&named.key));
            let signer = self.signed.as_ref().map(|(key, _)| key.clone());
            let mut keys = keys.chain(signer.clone()).chain(self.trusted.clone());
            if signer.is_some_and(|key| key.log_id() != anchor.log_id) {
                what.add(
                    kind,
                    None,
                    format!("the anchor is of log {}", anchor.log_id),
                );
            } else if !anchor.note.is_empty() && !keys.any(|key| anchor.statement(&key).is_some()) {
                what.add(kind, None, "the anchor is not signed by a key of this log");
            } else if watched.is_none() {
                remarks.push(format!(
                    "record {records}, of which the anchor tells, is not in the file: they were not compared"
                ));
            } else if watched != anchor.hash() && !what.about(records) {
                let text = format!("record {records} is not the one that the anchor tells of");
                what.add(kind, records, text);
            }
        }
        if self.trusted.is_none() {
            remarks.push("no key is trusted: the signature was checked against the key that the file itself names".to_owned());
        }
        if self.is_shown {
            remarks.push("numbers and answers that are shown beside what is sealed are not proven: only the installation can open that".to_owned());
        }
        if self.omitted > 0 {
            let omitted = self.omitted;
            remarks.push(format!(
                "{omitted} records between the first and the last are left out"
            ));
        }
        let key = self.signed.as_ref().map(|(key, _)| key);
        let is_vouched = |trusted| key.is_some_and(|key| self.head.is_vouched_for_by(trusted, key));
        VerifyReport {
            ok: self.findings.is_empty(),
            records: self.records,
            not_listed: self.findings.more(),
            findings: self.findings.into_list(),
            log_id: key.map_or_else(String::new, |key| key.log_id().to_owned()),
            oldest: walked.first_row,
            last: self.last,
            head: walked.head.map(hex::encode),
            signed: self.signed.as_ref().map_or(0, |(_, size)| *size),
            key: key.map(PublicKey::to_line),
            key_is_trusted: self.trusted.as_ref().is_some_and(is_vouched),
            remarks,
        }
    }
}

fn records_of(head: &SignedTreeHead) -> i64 {
    i64::try_from(head.records).unwrap_or(i64::MAX)
}

fn hash_of(text: &str) -> Option<Hash> {
    hex::decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{ChainLink, LogSigningKey, Statement};

    const LOG: &str = "0123456789abcdef0123456789abcdef";

    fn key(seed: u8) -> LogSigningKey {
        LogSigningKey::read(LOG, &hex::encode([seed; 32])).unwrap()
    }

    /// A record after another, and its link.
    fn record(before: ChainLink, detail: &str) -> (ExportedRecord, ChainLink) {
        let id = before.id + 1;
        let content = RowContent {
            id,
            created_at: 1_790_000_000_000 + id,
            kind: b"call_decided",
            call_id: (id % 3 != 0).then_some(id),
            call_sid: Some(b"CA1"),
            personal: (id % 2 == 0).then_some(b"sealed"),
            detail: detail.as_bytes(),
        };
        let link = before.append(&content);
        let row = FoundRow {
            content,
            previous_hash: &before.hash,
            hash: &link.hash,
            is_typed: true,
        };
        (
            ExportedRecord::new(&row, ShownPersonal::default()).unwrap(),
            link,
        )
    }

    fn log(n: i64) -> Vec<ExportedRecord> {
        let mut before = ChainLink::GENESIS;
        let mut records = Vec::new();
        for _ in 0..n {
            let (record, link) = record(before, r#"{"a":"ü\n"}"#);
            records.push(record);
            before = link;
        }
        records
    }

    fn line(entry: &ExportEntry) -> String {
        serde_json::to_string(entry).unwrap() + "\n"
    }

    /// The lines of an export of these records, of which `is_wanted` takes some.
    fn export(
        records: &[ExportedRecord],
        contiguous: bool,
        is_wanted: impl Fn(i64) -> bool,
    ) -> Vec<String> {
        let mut tree = CompactRange::default();
        for record in records {
            tree.append(&hash_of(&record.hash).unwrap());
        }
        let signer = key(1);
        let note = signer.sign(&Statement {
            subject: NoteSubject::Checkpoint,
            size: tree.size(),
            root: tree.root(),
        });
        let end = SignedTreeHead::new(signer.public(), &note, tree.size(), &[0; 32], None);
        let head = ExportHead::new(&end, contiguous, Vec::new());
        let mut lines = vec![line(&ExportEntry::Export(head))];
        let mut omitted = CompactRange::default();
        let end = |omitted: &CompactRange, lines: &mut Vec<String>| {
            if let Some(omitted) = OmittedRecords::new(omitted) {
                lines.push(line(&ExportEntry::Omitted(omitted)));
            }
        };
        for record in records {
            if is_wanted(record.id) {
                end(&omitted, &mut lines);
                lines.push(line(&ExportEntry::Record(record.clone())));
                omitted = CompactRange::behind(record.id.unsigned_abs());
            } else {
                omitted.append(&hash_of(&record.hash).unwrap());
            }
        }
        end(&omitted, &mut lines);
        lines
    }

    fn verify_with(
        lines: &[String],
        trusted: Option<&LogSigningKey>,
        anchor: Option<SignedTreeHead>,
    ) -> VerifyReport {
        let (first, rest) = lines.split_first().unwrap();
        let trusted = trusted.map(|key| key.public().clone());
        let mut verifier = ExportVerifier::new(first.as_bytes(), trusted, anchor).unwrap();
        for line in rest {
            verifier.next_line(line.as_bytes());
        }
        verifier.finish()
    }

    fn verify(lines: &[String]) -> VerifyReport {
        verify_with(lines, Some(&key(1)), None)
    }

    type Found = Vec<(FindingKind, Option<i64>)>;

    fn found(report: &VerifyReport) -> Found {
        assert_eq!(report.ok, report.findings.is_empty());
        let findings = report.findings.iter();
        findings.map(|found| (found.kind, found.record)).collect()
    }

    /// How many records are left out between others, as is remarked.
    fn omitted(report: &VerifyReport) -> i64 {
        let said = report.remarks.iter().find_map(|remark| {
            let (n, _) = remark.split_once(" records between")?;
            n.parse().ok()
        });
        said.unwrap_or(0)
    }

    #[test]
    fn every_slice_of_every_log_verifies() {
        for n in 0..14 {
            let records = log(n);
            for first in 1..=n + 1 {
                for last in first - 1..=n {
                    let lines = export(&records, true, |id| (first..=last).contains(&id));
                    let report = verify(&lines);
                    assert_eq!(found(&report), [], "{first} to {last} of {n}: {report:#?}");
                    assert_eq!(report.records, (last - first + 1).unsigned_abs());
                    assert!(report.key_is_trusted);
                }
            }
            for step in 2..5 {
                let report = verify(&export(&records, false, |id| id % step == 0));
                assert_eq!(found(&report), [], "every {step} of {n}");
                let between = (n / step - 1).max(0) * (step - 1);
                assert_eq!(omitted(&report), between);
            }
        }
    }

    /// Line 0 is the head, line 1 stands for records 1 to 3, then come 4 to 9, and line 8 stands for 10 to 13.
    fn slice() -> Vec<String> {
        let lines = export(&log(13), true, |id| (4..=9).contains(&id));
        assert_eq!(lines.len(), 9);
        lines
    }

    fn after(change: impl FnOnce(&mut Vec<String>)) -> Found {
        let mut lines = slice();
        change(&mut lines);
        found(&verify(&lines))
    }

    #[test]
    fn whatever_is_done_to_a_slice_is_called_by_its_name() {
        use FindingKind::{Altered, CheckpointInvalid, Inserted, Missing, Truncated};
        let edit = |line: &mut String| *line = line.replace("call_decided", "call_answered");
        assert_eq!(after(|lines| edit(&mut lines[4])), [(Altered, Some(6))]);
        assert_eq!(after(|lines| edit(&mut lines[7])), [(Altered, Some(9))]);
        let left_out = after(|lines| drop(lines.remove(4)));
        assert_eq!(left_out, [(Missing, Some(6))]);
        let first = after(|lines| drop(lines.remove(2)));
        assert_eq!(first, [(Missing, Some(4))]);
        let last = after(|lines| drop(lines.remove(7)));
        assert_eq!(last, [(Missing, Some(9))]);
        let twice = after(|lines| lines.insert(4, lines[4].clone()));
        assert_eq!(twice, [(Inserted, Some(6))]);
        let swapped = after(|lines| lines.swap(4, 5));
        assert_eq!(swapped, [(Missing, Some(6)), (Inserted, Some(6))]);
        assert_eq!(after(|lines| lines.truncate(6)), [(Truncated, Some(8))]);
        let cut_in_a_line = after(|lines| {
            lines.truncate(6);
            let cut = lines[5].len() / 2;
            lines[5].truncate(cut);
        });
        assert_eq!(cut_in_a_line, [(Truncated, Some(7))]);
        let garbage = after(|lines| lines[4] = "{}\n".to_owned());
        assert_eq!(garbage, [(Altered, Some(6))]);
        let without_proof = after(|lines| drop(lines.remove(1)));
        assert_eq!(without_proof, [(Missing, Some(1))]);
        let other_size = after(|lines| lines[0] = lines[0].replace("\\n13\\n", "\\n12\\n"));
        assert_eq!(other_size, [(CheckpointInvalid, None)]);
        let behind_all = after(|lines| {
            let before = log(13).pop().unwrap();
            let link = ChainLink {
                id: 13,
                hash: hash_of(&before.hash).unwrap(),
            };
            let (record, _) = record(link, "{}");
            lines.push(line(&ExportEntry::Record(record)));
        });
        assert_eq!(behind_all, [(Inserted, Some(14))]);
        let past_the_end = after(|lines| {
            let omitted = OmittedRecords {
                from: 14,
                through: 14,
                roots: vec![hex::encode([0; 32])],
            };
            lines.push(line(&ExportEntry::Omitted(omitted)));
        });
        assert_eq!(past_the_end, [(Altered, Some(14))]);
    }

    #[test]
    fn a_record_with_a_hash_of_its_own_does_not_belong_to_the_log() {
        let mut records = log(13);
        let before = ChainLink {
            id: 8,
            hash: hash_of(&records[7].hash).unwrap(),
        };
        records[8] = record(before, "{}").0;
        let mut lines = slice();
        lines[7] = line(&ExportEntry::Record(records[8].clone()));
        assert_eq!(
            found(&verify(&lines)),
            [(FindingKind::Altered, Some(4))],
            "the last record: only the root tells"
        );
        lines[7] = slice()[7].clone();
        let before = ChainLink {
            id: 5,
            hash: hash_of(&records[4].hash).unwrap(),
        };
        lines[4] = line(&ExportEntry::Record(record(before, "{}").0));
        assert_eq!(found(&verify(&lines)), [(FindingKind::Altered, Some(6))]);
    }

    #[test]
    fn a_slice_that_leaves_none_out_must_leave_none_out() {
        let mut lines = export(&log(13), false, |id| [4, 5, 8, 9].contains(&id));
        let report = verify(&lines);
        assert_eq!((found(&report), omitted(&report)), (Vec::new(), 2));
        lines[0] = lines[0].replace("\"contiguous\":false", "\"contiguous\":true");
        assert_eq!(found(&verify(&lines)), [(FindingKind::Missing, Some(6))]);
    }

    #[test]
    fn a_head_of_another_key_counts_only_by_the_word_of_the_one_that_is_trusted() {
        let (old, next) = (key(2), key(1));
        assert_eq!(
            found(&verify_with(&slice(), Some(&old), None)),
            [(FindingKind::CheckpointInvalid, None)]
        );
        let with = |endorser: &LogSigningKey| {
            let mut lines = slice();
            let Ok(ExportEntry::Export(mut head)) = serde_json::from_str(&lines[0]) else {
                panic!("{lines:?}");
            };
            head.endorsements = vec![SigningKeyNamed {
                key: next.public().to_line(),
                previous: Some(old.public().to_line()),
                endorsement: Some(endorser.endorse(next.public())),
                vouch: None,
            }];
            lines[0] = line(&ExportEntry::Export(head));
            verify_with(&lines, Some(&old), None)
        };
        assert!(with(&old).ok && with(&old).key_is_trusted);
        assert!(!with(&next).ok && !with(&next).key_is_trusted);
        let unknown = verify_with(&slice(), None, None);
        assert!(unknown.ok && !unknown.key_is_trusted);
        assert_eq!(unknown.remarks.len(), 1, "{unknown:?}");
    }

    #[test]
    fn an_anchor_is_compared_where_the_file_holds_its_record() {
        let records = log(13);
        let anchor = |size: usize, record: usize| {
            let mut tree = CompactRange::default();
            for record in &records[..size] {
                tree.append(&hash_of(&record.hash).unwrap());
            }
            let note = key(1).sign(&Statement {
                subject: NoteSubject::Checkpoint,
                size: tree.size(),
                root: tree.root(),
            });
            let hash = hash_of(&records[record - 1].hash).unwrap();
            SignedTreeHead::new(key(1).public(), &note, tree.size(), &hash, None)
        };
        let with = |anchor| verify_with(&slice(), None, Some(anchor));
        for size in [3, 4, 9] {
            assert_eq!(found(&with(anchor(size, size))), [], "{size}");
            assert_eq!(with(anchor(size, size)).remarks, Vec::<String>::new());
            assert_eq!(
                found(&with(anchor(size, 1))),
                [(FindingKind::AnchorMismatch, Some(size.try_into().unwrap()))]
            );
        }
        let outside = with(anchor(11, 11));
        assert_eq!((found(&outside), outside.remarks.len()), (Vec::new(), 1));
        let mismatch = [(FindingKind::AnchorMismatch, None)];
        let of_other_log = SignedTreeHead {
            log_id: "ffff".to_owned(),
            ..anchor(5, 5)
        };
        assert_eq!(found(&with(of_other_log)), mismatch);
        let unsigned = SignedTreeHead {
            records: 6,
            ..anchor(5, 5)
        };
        assert_eq!(found(&with(unsigned)), mismatch);
    }

    /// With one bit of one byte flipped, the file says the same or is found to be wrong.
    #[test]
    fn no_byte_can_be_changed_unnoticed() {
        let lines = export(&log(5), false, |id| id == 2 || id == 4);
        let mut tried = 0;
        for (n, text) in lines.iter().enumerate() {
            for at in 0..text.len() {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1;
                let Ok(changed) = String::from_utf8(bytes) else {
                    continue;
                };
                let entry = |text: &str| serde_json::from_str::<ExportEntry>(text).ok();
                if entry(&changed) == entry(text) {
                    continue;
                }
                if n == 0 && !matches!(entry(&changed), Some(ExportEntry::Export(_))) {
                    continue;
                }
                let mut lines = lines.clone();
                lines[n] = changed;
                let (first, rest) = lines.split_first().unwrap();
                let key = Some(key(1).public().clone());
                let Some(mut verifier) = ExportVerifier::new(first.as_bytes(), key, None) else {
                    continue;
                };
                for line in rest {
                    verifier.next_line(line.as_bytes());
                }
                let report = verifier.finish();
                assert!(!report.ok, "line {n}, byte {at}: {}", lines[n]);
                tried += 1;
            }
        }
        assert!(tried > 500, "{tried}");
    }

    #[test]
    fn the_documented_example_verifies() {
        let text = include_str!("../../docs/audit-format.md");
        let example = text.split("```json\n").nth(1).unwrap();
        let example = example.split("```").next().unwrap();
        let lines: Vec<_> = example.lines().map(|line| format!("{line}\n")).collect();
        let report = verify(&lines);
        assert_eq!((found(&report), report.records), (Vec::new(), 1));
        for text in &lines {
            let entry: ExportEntry = serde_json::from_str(text).unwrap();
            assert_eq!(line(&entry), *text);
        }
    }

    #[test]
    fn what_is_no_export_with_proof_is_not_read_as_one() {
        for first in ["", "{}", "[]", r#"{"id":1,"at":"2026-01-01T00:00:00Z"}"#] {
            assert!(ExportVerifier::new(first.as_bytes(), None, None).is_none());
        }
        let newer = slice()[0].replace("export/v1", "export/v2");
        assert!(ExportVerifier::new(newer.as_bytes(), None, None).is_none());
    }
}

//! A slice of the log that verifies by itself: written beside the database, verified without it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::export_line::{ExportFormat, ExportLine, shown};
use super::frame::{Bar, Global};
use crate::audit::{
    ExportEntry, ExportVerifier, ExportedRecord, FindingKind, PublicKey, RowContent, ShownPersonal,
    SignedTreeHead, VerifyReport,
};
use crate::store::LogReader;
use crate::store::verify::{LogEnd, prove};

/// No line is longer, in bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Which records are exported.
pub(super) enum Selection {
    /// All with these numbers.
    Span(RangeInclusive<i64>),
    /// Those of calls, by their rows in order, and others, by their numbers in order, that were made in a span of milliseconds.
    Chosen {
        calls: Vec<i64>,
        records: Vec<i64>,
        made_at: Range<i64>,
    },
}

impl Selection {
    fn contains(&self, content: &RowContent<'_>) -> bool {
        match self {
            Self::Span(numbers) => numbers.contains(&content.id),
            Self::Chosen {
                calls,
                records,
                made_at,
            } => {
                let of_call = |call| calls.binary_search(&call).is_ok();
                let is_chosen = content.call_id.is_some_and(of_call)
                    || records.binary_search(&content.id).is_ok();
                is_chosen && made_at.contains(&content.created_at)
            }
        }
    }
}

/// The proof of an export lies beside it: of november.csv, in november.proof.jsonl.
pub(super) fn beside(export: &Path) -> PathBuf {
    export.with_extension("proof.jsonl")
}

/// Writes what is selected, with the proof; the records beside it as well, where that is wanted. One page is in memory at a time.
pub(super) fn write(
    (database, log, end): (&Path, &LogReader, &LogEnd),
    selection: &Selection,
    reveal: bool,
    mut to: Box<dyn Write>,
    mut beside: Option<(ExportFormat, Box<dyn Write>)>,
    global: &Global,
) -> anyhow::Result<()> {
    let bar = Bar::start(global, end.head.records, "records");
    let select = |content: &RowContent<'_>| {
        bar.set(content.id.unsigned_abs());
        selection.contains(content).then(|| {
            let personal = log.personal(content);
            personal.map_or_else(ShownPersonal::default, |personal| shown(&personal, reveal))
        })
    };
    let contiguous = matches!(selection, Selection::Span(..));
    prove(database, end, contiguous, select, |entry| {
        if let (ExportEntry::Record(record), Some((format, to))) = (entry, &mut beside) {
            to.write_all(&format.render(&ExportLine::of_proof(record)?)?)?;
        }
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        to.write_all(&line)?;
        anyhow::Ok(())
    })?;
    to.flush()?;
    beside.map_or(Ok(()), |(_, mut to)| to.flush())?;
    bar.end();
    Ok(())
}

/// An export that is compared with the proof beside it, byte by byte.
struct Compared {
    format: ExportFormat,
    reader: BufReader<File>,
    is_alike: bool,
}

impl Compared {
    fn open(file: File) -> anyhow::Result<Self> {
        let mut reader = BufReader::new(file);
        let head = ExportFormat::Csv.head()?;
        let is_csv = reader.fill_buf()?.starts_with(&head);
        if is_csv {
            reader.consume(head.len());
        }
        Ok(Self {
            format: if is_csv {
                ExportFormat::Csv
            } else {
                ExportFormat::Jsonl
            },
            reader,
            is_alike: true,
        })
    }

    /// Whether this is the first record that it holds differently, or not at all.
    fn differs(&mut self, record: &ExportedRecord) -> anyhow::Result<bool> {
        if !self.is_alike {
            return Ok(false);
        }
        // A proof that was altered may hold what is no line.
        let line = ExportLine::of_proof(record).and_then(|line| self.format.render(&line));
        let line = line.unwrap_or_else(|_| b"\0".to_vec());
        let mut found = Vec::new();
        let length = u64::try_from(line.len())?;
        self.reader.by_ref().take(length).read_to_end(&mut found)?;
        self.is_alike = found == line;
        Ok(!self.is_alike)
    }
}

/// Verifies a file that [`write()`] wrote, line by line; where its proof lies beside it, that, and whether the file is what it proves.
pub(super) fn verify(
    path: &Path,
    trusted: Option<PublicKey>,
    anchor: Option<SignedTreeHead>,
    global: &Global,
) -> anyhow::Result<VerifyReport> {
    let unreadable = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(unreadable)?;
    let mut compared = None;
    if let Ok(proof) = File::open(beside(path)) {
        compared = Some(Compared::open(file)?);
        file = proof;
    }
    let size = file.metadata().map_or(0, |found| found.len());
    let bar = Bar::start(global, size, "bytes");
    let (mut reader, mut line, mut done) = (BufReader::new(file), Vec::new(), 0);
    let mut next_line = |line: &mut Vec<u8>| {
        line.clear();
        let length = reader.by_ref().take(LONGEST).read_until(b'\n', line);
        let length = u64::try_from(length.with_context(unreadable)?)?;
        anyhow::ensure!(
            length < LONGEST,
            "{} has a line of more than 16 MiB, which no export has",
            path.display()
        );
        done += length;
        bar.set(done);
        Ok(length > 0)
    };
    next_line(&mut line)?;
    let verifier = ExportVerifier::new(&line, trusted, anchor);
    let mut verifier = verifier.with_context(|| {
        format!(
            "{} is no export with proof, and has none beside it: `switchboard audit export --format jsonl --proof` writes one",
            path.display()
        )
    })?;
    while next_line(&mut line)? {
        let record = verifier.next_line(&line);
        if let (Some(record), Some(compared)) = (record, &mut compared)
            && compared.differs(&record)?
        {
            let what = format!(
                "{} has another record {} than its proof",
                path.display(),
                record.id
            );
            verifier.find(FindingKind::Altered, record.id, what);
        }
    }
    if let Some(mut compared) = compared
        && compared.is_alike
        && !compared.reader.fill_buf()?.is_empty()
    {
        let what = format!(
            "{} goes on behind the last record of its proof",
            path.display()
        );
        verifier.find(FindingKind::Inserted, None, what);
    }
    bar.end();
    Ok(verifier.finish())
}

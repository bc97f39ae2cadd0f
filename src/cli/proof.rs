//! A slice of the log that verifies by itself: written beside the database, verified without it.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use anyhow::Context;

use super::frame::{Bar, Global};
use crate::audit::{
    ExportVerifier, Personal, PublicKey, RowContent, ShownPersonal, SignedTreeHead, VerifyReport,
};
use crate::phone::{Caller, ERASED};
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

/// What of a person is shown: numbers masked and no answers, unless all is to be revealed.
pub(super) fn shown(personal: &Personal, reveal: bool) -> ShownPersonal {
    let shown = |text: &String| {
        if reveal || text == ERASED {
            text.clone()
        } else {
            Caller::classify(text).masked()
        }
    };
    ShownPersonal {
        caller: personal.caller.as_ref().map(shown),
        called: personal.called.as_ref().map(shown),
        answer: personal.body.clone().filter(|_| reveal),
    }
}

/// Writes what is selected to stdout, with the proof. One page is in memory at a time.
pub(super) fn write(
    database: &Path,
    log: &LogReader,
    end: &LogEnd,
    selection: &Selection,
    reveal: bool,
    global: &Global,
) -> anyhow::Result<()> {
    let bar = Bar::start(global, end.head.records, "records");
    let mut to = BufWriter::new(std::io::stdout());
    let select = |content: &RowContent<'_>| {
        bar.set(content.id.unsigned_abs());
        selection.contains(content).then(|| {
            let personal = log.personal(content);
            personal.map_or_else(ShownPersonal::default, |personal| shown(&personal, reveal))
        })
    };
    let contiguous = matches!(selection, Selection::Span(..));
    prove(database, end, contiguous, select, |entry| {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        to.write_all(&line)?;
        anyhow::Ok(())
    })?;
    to.flush()?;
    bar.end();
    Ok(())
}

/// Verifies a file that [`write()`] wrote, line by line.
pub(super) fn verify(
    path: &Path,
    trusted: Option<PublicKey>,
    anchor: Option<SignedTreeHead>,
    global: &Global,
) -> anyhow::Result<VerifyReport> {
    let unreadable = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(unreadable)?;
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
            "{} is no export with proof: `switchboard audit export --format jsonl --proof` writes one",
            path.display()
        )
    })?;
    while next_line(&mut line)? {
        verifier.next_line(&line);
    }
    bar.end();
    Ok(verifier.finish())
}

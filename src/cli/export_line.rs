//! A record as a line of an export: JSON, or comma-separated values.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::audit::{ExportedRecord, Personal, ShownPersonal};
use crate::call::CallId;
use crate::phone::{Caller, ERASED};
use crate::store::StoredRecord;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ExportFormat {
    Jsonl,
    Csv,
}

/// One record as a line; a missing value is null in JSON and empty in CSV.
#[derive(Serialize)]
pub(super) struct ExportLine<'r> {
    id: i64,
    at: Timestamp,
    kind: &'r str,
    call_id: Option<&'r str>,
    #[serde(flatten)]
    shown: ShownPersonal,
    detail: &'r RawValue,
    hash: String,
}

const COLUMNS: [&str; 9] = [
    "id", "at", "kind", "call_id", "caller", "called", "answer", "detail", "hash",
];

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

impl<'r> ExportLine<'r> {
    pub(super) fn new(record: &'r StoredRecord, reveal: bool) -> serde_json::Result<Self> {
        let personal = record.personal.as_ref();
        let shown = personal.map(|personal| shown(personal, reveal));
        Ok(Self {
            id: record.id,
            at: record.at,
            kind: record.kind.as_str(),
            call_id: record.call_id.as_ref().map(CallId::as_str),
            shown: shown.unwrap_or_default(),
            detail: serde_json::from_str(&record.detail)?,
            hash: hex::encode(record.hash),
        })
    }

    /// The same line, of a record as a proof has it.
    pub(super) fn of_proof(record: &'r ExportedRecord) -> anyhow::Result<Self> {
        Ok(Self {
            id: record.id,
            at: Timestamp::from_millisecond(record.created_at)?,
            kind: &record.kind,
            call_id: record.call_sid.as_deref(),
            shown: record.shown.clone(),
            detail: serde_json::from_str(&record.detail)?,
            hash: record.hash.clone(),
        })
    }

    fn cells(&self) -> [String; 9] {
        let text = |text: Option<&str>| text.map(inert).unwrap_or_default();
        [
            self.id.to_string(),
            self.at.to_string(),
            self.kind.to_owned(),
            text(self.call_id),
            text(self.shown.caller.as_deref()),
            text(self.shown.called.as_deref()),
            text(self.shown.answer.as_deref()),
            inert(self.detail.get()),
            self.hash.clone(),
        ]
    }
}

impl ExportFormat {
    /// What stands before the first record.
    pub(super) fn head(self) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Jsonl => Ok(Vec::new()),
            Self::Csv => row(&COLUMNS),
        }
    }

    /// A record with the end of its line.
    pub(super) fn render(self, line: &ExportLine<'_>) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Jsonl => Ok([&serde_json::to_vec(line)?, &b"\n"[..]].concat()),
            Self::Csv => row(&line.cells()),
        }
    }
}

fn row(cells: &[impl AsRef<[u8]>]) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells)?;
    Ok(writer.into_inner()?)
}

/// A spreadsheet takes a cell that begins like this for a formula; a quote before it makes it text. Every number begins with `+`.
fn inert(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\0']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_taken_for_a_formula() {
        for dangerous in ["=1+1", "+49", "-1", "@x", "\tx", "\rx", "\0x"] {
            assert_eq!(inert(dangerous), format!("'{dangerous}"));
        }
        assert_eq!(inert("[erased]"), "[erased]");
    }
}

//! What the demo shows: a line for every call, and a summary that says whether every one was answered and recorded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::super::frame::{Exit, Global, outln};
use crate::audit::Kind;
use crate::call::CallId;
use crate::phone::Caller;
use crate::store::{Store, StoredCall};
use switchboard_simulator::twilio::{CallResult, Outcome};

/// A call that has ended, from both sides.
#[derive(Clone, Debug)]
pub(super) struct DemoCall {
    result: CallResult,
    stored: Option<StoredCall>,
    n_decisions: usize,
}

impl DemoCall {
    /// What the store holds of the call, beside what the caller saw.
    pub(super) async fn of(store: &Store, result: CallResult) -> Self {
        let (mut stored, mut n_decisions) = (None, 0);
        if let Ok(call_id) = CallId::parse(&result.call_sid) {
            stored = store.call(&call_id).await.ok().flatten();
            let records = store.records_of_call(&call_id).await.unwrap_or_default();
            n_decisions = records
                .iter()
                .filter(|record| record.kind == Kind::CallDecided)
                .count();
        }
        Self {
            result,
            stored,
            n_decisions,
        }
    }

    /// One line for people: when, who, how valuable, where, how quick, how it ended.
    pub(super) fn line(&self, now: Timestamp) -> String {
        let time = now.to_zoned(TimeZone::system()).strftime("%H:%M:%S");
        let caller = Caller::classify(self.caller()).masked();
        let tier = self.stored.as_ref().map_or_else(String::new, |stored| {
            match (&stored.tier, stored.score) {
                (Some(tier), Some(score)) => format!("{tier} {score}"),
                (Some(tier), None) => tier.to_string(),
                (None, _) => stored.reason.as_str().replace('_', " "),
            }
        });
        let dialer = self.dialer();
        let first_ms = self.result.first_answer.as_millis();
        let trouble = if self.is_well() {
            ""
        } else {
            "  NOT AS IT SHOULD BE"
        };
        format!(
            "{time}  {caller:<22} {tier:<18} → {dialer:<12} {first_ms:>5} ms  {}{trouble}",
            self.end()
        )
    }

    fn caller(&self) -> &str {
        self.result
            .steps
            .first()
            .and_then(|step| step.field("From"))
            .unwrap_or_default()
    }

    fn dialer(&self) -> String {
        let Some(stored) = &self.stored else {
            return "not recorded".to_owned();
        };
        let name = stored
            .dialer
            .as_ref()
            .map_or_else(|| "nobody".to_owned(), ToString::to_string);
        if stored.failed_over {
            format!("{name} (2nd)")
        } else {
            name
        }
    }

    fn end(&self) -> String {
        let talked: Duration = self.result.dialled.iter().map(|leg| leg.talked).sum();
        let disposition = self.disposition();
        match &self.result.outcome {
            Outcome::Talked { .. } => format!("{disposition}, talked {} s", talked.as_secs()),
            Outcome::ErrorMessage => "heard Twilio's error message".to_owned(),
            Outcome::CallerHungUp | Outcome::HungUp | Outcome::Rejected | Outcome::Endless => {
                disposition.to_owned()
            }
        }
    }

    fn disposition(&self) -> &'static str {
        let disposition = self.stored.as_ref().and_then(|stored| stored.disposition);
        disposition.map_or("open", crate::call::Disposition::as_str)
    }

    /// Valid TwiML at every step, and one decision on disk.
    fn is_well(&self) -> bool {
        self.result.violations.is_empty()
            && self.result.outcome != Outcome::ErrorMessage
            && self.n_decisions == 1
    }
}

/// What all calls of a run came to. Counts them, and keeps none: a demo may run for days.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct DemoReport {
    ok: bool,
    calls: usize,
    answered_with_valid_twiml: usize,
    decisions: usize,
    by_dialer: BTreeMap<String, usize>,
    by_disposition: BTreeMap<&'static str, usize>,
    first_answer_ms: Quantiles,
    violations: Vec<String>,
    database: PathBuf,
    #[serde(skip)]
    well: usize,
    /// How many first answers took so many milliseconds.
    #[serde(skip)]
    first_answers: BTreeMap<u128, usize>,
}

/// Violations that are told word by word.
const VIOLATIONS: usize = 100;

#[derive(Clone, Debug, Default, Serialize)]
struct Quantiles {
    p50: u128,
    p95: u128,
    max: u128,
}

impl DemoReport {
    pub(super) fn add(&mut self, seen: &DemoCall) {
        let violations = &seen.result.violations;
        self.calls += 1;
        self.well += usize::from(seen.is_well());
        self.answered_with_valid_twiml += usize::from(violations.is_empty());
        self.decisions += seen.n_decisions;
        *self.by_dialer.entry(seen.dialer()).or_default() += 1;
        *self.by_disposition.entry(seen.disposition()).or_default() += 1;
        let first_ms = seen.result.first_answer.as_millis();
        *self.first_answers.entry(first_ms).or_default() += 1;
        let room = VIOLATIONS.saturating_sub(self.violations.len());
        self.violations
            .extend(violations.iter().take(room).cloned());
    }

    /// Prints the summary; fails unless every call was answered with valid TwiML and recorded once.
    pub(super) fn summarize(mut self, global: &Global, database: PathBuf) -> anyhow::Result<Exit> {
        self.ok = self.well == self.calls;
        self.database = database;
        self.first_answer_ms = Quantiles {
            p50: self.first_answer(50),
            p95: self.first_answer(95),
            max: self.first_answer(100),
        };
        global.print(&self, print)?;
        Ok(Exit::of_check(self.ok))
    }

    /// Milliseconds within which so many per cent of the first answers came.
    fn first_answer(&self, percent: usize) -> u128 {
        let nth = (self.calls * percent).div_ceil(100);
        let mut so_far = 0;
        let found = self.first_answers.iter().find(|(_, calls)| {
            so_far += **calls;
            so_far >= nth
        });
        found.map_or(0, |(ms, _)| *ms)
    }
}

fn print(summary: &DemoReport) {
    let well = if summary.ok {
        "all well"
    } else {
        "NOT all well"
    };
    let Quantiles { p50, p95, max } = &summary.first_answer_ms;
    outln!("");
    outln!(
        "{} calls, {} answered with valid TwiML, {} decisions on disk: {well}",
        summary.calls,
        summary.answered_with_valid_twiml,
        summary.decisions
    );
    outln!("first answer: p50 {p50} ms, p95 {p95} ms, max {max} ms");
    for (dialer, calls) in &summary.by_dialer {
        outln!("  {dialer:<20} {calls:>6}");
    }
    outln!("ended as");
    for (disposition, calls) in &summary.by_disposition {
        outln!("  {disposition:<20} {calls:>6}");
    }
    for violation in &summary.violations {
        outln!("violation: {violation}");
    }
    outln!("database: {}", summary.database.display());
}

//! `switchboard replay`: executes recorded decisions again. A decision is a pure function of its recorded facts and rule set, so it must come
//! out identical; any difference is an error.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::export::{call_id, moment};
use super::frame::{Exit, Global, as_owner, errln, key_ring, load, outln};
use crate::audit::{CallDecided, Event, Kind};
use crate::call::CallId;
use crate::routing::{self, RulesInForce, RulesetVersion};
use crate::store::{LogReader, StoreError, StoredRecord};

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct ReplayArguments {
    /// The call to decide again: its `CallSid`, or the id that the JSON door gave it
    #[arg(value_parser = call_id)]
    call: Option<CallId>,
    /// Decide every call again since then: an age like 24h, or a time like 2026-11-01T00:00:00Z
    #[arg(long, value_parser = moment)]
    since: Option<Timestamp>,
}

#[derive(Debug, Default, Serialize)]
struct ReplayReport {
    /// Decisions that were executed again.
    replayed: u64,
    /// Those that came out as recorded.
    identical: u64,
    /// Every field that did not.
    different: Vec<Different>,
}

#[derive(Debug, Serialize)]
struct Different {
    call_id: String,
    field: String,
    then: Value,
    now: Value,
}

pub(super) fn run(arguments: &ReplayArguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = load(global)?;
    let path = &loaded.config.storage.path;
    let _acting = as_owner(path)?;
    let log = LogReader::open(path, key_ring(&loaded.config)?);
    let mut replay = Replay::new(log.with_context(|| cannot_read(path))?);
    if let Some(call) = &arguments.call {
        replay.call(call).with_context(|| cannot_read(path))?;
        if replay.report.replayed == 0 {
            errln!("no decision of {call} is recorded");
            return Ok(Exit::Failed);
        }
    } else if let Some(since) = arguments.since {
        replay.all_since(since).with_context(|| cannot_read(path))?;
    }
    let report = replay.report;
    global.print(&report, print)?;
    Ok(Exit::of_check(report.different.is_empty()))
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

struct Replay {
    log: LogReader,
    rulesets: HashMap<RulesetVersion, Option<RulesInForce>>,
    report: ReplayReport,
}

impl Replay {
    fn new(log: LogReader) -> Self {
        Self {
            log,
            rulesets: HashMap::new(),
            report: ReplayReport::default(),
        }
    }

    fn call(&mut self, call: &CallId) -> Result<(), StoreError> {
        for record in self.log.of_call(call)? {
            self.record(Ok(record))?;
        }
        Ok(())
    }

    fn all_since(&mut self, since: Timestamp) -> Result<(), StoreError> {
        let mut last = self.log.before(since)?;
        loop {
            let page = self.log.page_after(last)?;
            let Some(end) = page.last_id else {
                return Ok(());
            };
            last = end;
            for record in page.records {
                // What was written late stands among younger records.
                if record.as_ref().is_ok_and(|record| record.at < since) {
                    continue;
                }
                self.record(record)?;
            }
        }
    }

    /// Executes the decision again, if the record is one. A record that cannot be read is a difference, and no end.
    fn record(&mut self, record: Result<StoredRecord, StoreError>) -> Result<(), StoreError> {
        let record = match record {
            Ok(record) => record,
            Err(StoreError::Inconsistent { row, .. }) => {
                self.unusable("", "record", Value::from(row), "it cannot be read");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if record.kind != Kind::CallDecided {
            return Ok(());
        }
        let call = record
            .call_id
            .as_ref()
            .map_or("", CallId::as_str)
            .to_owned();
        self.report.replayed += 1;
        let Ok(Event::CallDecided(decided)) = record.event() else {
            self.unusable(&call, "record", Value::from(record.id), "it cannot be read");
            return Ok(());
        };
        self.decision(record.id, &call, &decided)
    }

    fn decision(&mut self, id: i64, call: &str, decided: &CallDecided) -> Result<(), StoreError> {
        let version = &decided.decision.ruleset;
        if !self.rulesets.contains_key(version) {
            let found = self.log.ruleset_before(id, version)?;
            self.rulesets.insert(version.clone(), found.map(Into::into));
        }
        let Some(Some(ruleset)) = self.rulesets.get(version) else {
            let version = Value::from(version.as_str());
            self.unusable(call, "ruleset", version, "it is not recorded");
            return Ok(());
        };
        let differences = routing::replay(ruleset, &decided.facts, &decided.decision);
        if differences.is_empty() {
            self.report.identical += 1;
        }
        for difference in differences {
            self.report.different.push(Different {
                call_id: call.to_owned(),
                field: difference.field,
                then: difference.then,
                now: difference.now,
            });
        }
        Ok(())
    }

    fn unusable(&mut self, call: &str, field: &str, then: Value, now: &str) {
        self.report.different.push(Different {
            call_id: call.to_owned(),
            field: field.to_owned(),
            then,
            now: Value::from(now),
        });
    }
}

fn print(report: &ReplayReport) {
    for different in &report.different {
        outln!(
            "{}: {} was {}, is {}",
            different.call_id,
            different.field,
            different.then,
            different.now
        );
    }
    outln!(
        "{} decisions executed again, {} identical",
        report.replayed,
        report.identical
    );
}

//! `switchboard rules`: the versions of the rules, read from the log beside a running server or without one; and having that server publish them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::configuration;
use super::frame::{Exit, Global, as_owner, errln, key_ring, load, outln, sudo_user};
use crate::admin::ControlRequest;
use crate::audit::RulesetLoaded;
use crate::config::{self, Problem, Rejected};
use crate::routing::{Ruleset, RulesetChange, RulesetVersion};
use crate::store::LogReader;

#[derive(Debug, clap::Args)]
pub(super) struct RulesArguments {
    #[command(subcommand)]
    command: RulesCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RulesCommand {
    /// What should be looked at in the rules of the configuration, or of a file that holds all of `[routing]`
    Lint { file: Option<PathBuf> },
    /// Run the tests of these rules
    Test { file: Option<PathBuf> },
    /// Which rule sets were in force, newest first: since when, until when, and who brought them
    History,
    /// A rule set, whole, as JSON
    Show {
        /// Its version, as the history names it
        #[arg(value_parser = version)]
        version: RulesetVersion,
    },
    /// What differs between two rule sets
    Diff {
        /// The version to begin with
        #[arg(value_parser = version)]
        a: RulesetVersion,
        /// The version to compare it with
        #[arg(value_parser = version)]
        b: RulesetVersion,
    },
    /// Have the running server write a text into the file of `[routing]`, and bring it into force
    Publish {
        /// The whole new text of that file
        file: PathBuf,
        /// The version that it was started from: refused where other rules are in force
        #[arg(long, value_parser = version)]
        based_on: Option<RulesetVersion>,
    },
    /// Have the running server go back to a rule set that was in force before
    Rollback {
        /// Its version, as the history names it
        #[arg(value_parser = version)]
        version: RulesetVersion,
    },
}

#[derive(Serialize)]
struct Diff<'a> {
    from: &'a RulesetVersion,
    to: &'a RulesetVersion,
    changes: Vec<RulesetChange>,
}

fn version(text: &str) -> Result<RulesetVersion, &'static str> {
    RulesetVersion::parse(text).ok_or("must be 12 hexadecimal digits")
}

pub(super) fn run(arguments: &RulesArguments, global: &Global) -> anyhow::Result<Exit> {
    match &arguments.command {
        RulesCommand::Lint { file } => lint(file.as_deref(), global),
        RulesCommand::Test { file } => test(file.as_deref(), global),
        RulesCommand::History => history(global),
        RulesCommand::Show { version } => show(version, global),
        RulesCommand::Diff { a, b } => diff(a, b, global),
        RulesCommand::Publish { file, based_on } => {
            let text = fs::read_to_string(file);
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            let request = ControlRequest::PublishRules {
                text: Some(text),
                version: None,
                based_on: based_on.clone(),
                sudo_user: sudo_user(),
            };
            configuration::publish(&request, global)
        }
        RulesCommand::Rollback { version } => {
            let request = ControlRequest::PublishRules {
                text: None,
                version: Some(version.clone()),
                based_on: None,
                sudo_user: sudo_user(),
            };
            configuration::publish(&request, global)
        }
    }
}

/// What is wrong with rules, and which tests of theirs were run.
#[derive(Serialize)]
struct RulesReport {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tests: Option<Vec<String>>,
    findings: Vec<Problem>,
}

/// The rules of the configuration, or those of `file` in their place; the main file, and what is wrong with the rules.
fn checked(
    file: Option<&Path>,
    global: &Global,
) -> anyhow::Result<(PathBuf, Vec<String>, RulesReport)> {
    let main = config::find(global.config.as_deref());
    let loaded = match file {
        None => config::load(&main),
        Some(file) => {
            let text = fs::read_to_string(file);
            let text = text.with_context(|| format!("cannot read {}", file.display()))?;
            config::load_with_rules(&main, &std::path::absolute(file)?, &text)
        }
    };
    let (ok, tests, problems) = match loaded {
        Ok(loaded) => {
            let found = loaded.warnings.into_iter().chain(loaded.information);
            (true, loaded.config.rule_tests, found.collect())
        }
        Err(Rejected { problems }) => (false, Vec::new(), problems),
    };
    let tests = tests.into_iter().map(|test| test.name).collect();
    let is_told = |problem: &Problem| problem.is_of_rules() || problem.is_error();
    let report = RulesReport {
        ok,
        tests: None,
        findings: problems.into_iter().filter(is_told).collect(),
    };
    Ok((main, tests, report))
}

fn lint(file: Option<&Path>, global: &Global) -> anyhow::Result<Exit> {
    let (main, _, report) = checked(file, global)?;
    global.print(&report, |report| {
        for problem in &report.findings {
            outln!("{}", problem.render(&main));
        }
        if report.findings.is_empty() {
            outln!("nothing to look at");
        }
    })?;
    Ok(configuration::taken(report.ok))
}

fn test(file: Option<&Path>, global: &Global) -> anyhow::Result<Exit> {
    let (main, tests, report) = checked(file, global)?;
    let mut report = RulesReport {
        tests: Some(tests),
        ..report
    };
    report.findings.retain(Problem::is_error);
    global.print(&report, |report| {
        for name in report.tests.iter().flatten() {
            outln!("ok      {name}");
        }
        for problem in &report.findings {
            outln!("FAILED  {}", problem.render(&main));
        }
        if report.ok && report.tests.as_ref().is_none_or(Vec::is_empty) {
            outln!("the rules have no tests: write [[routing.tests]]");
        }
    })?;
    Ok(configuration::taken(report.ok))
}

fn with_log<T>(
    global: &Global,
    read: impl FnOnce(&LogReader) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let config = load(global)?.config;
    let path = &config.storage.path;
    let cannot_read = || format!("cannot read {}", path.display());
    let _acting = as_owner(path)?;
    let log = LogReader::open(path, key_ring(&config)?).with_context(cannot_read)?;
    read(&log).with_context(cannot_read)
}

fn ruleset(log: &LogReader, version: &RulesetVersion) -> anyhow::Result<Ruleset> {
    let found = log.ruleset_before(i64::MAX, version)?;
    found.ok_or_else(|| {
        errln!("the log holds no rule set {version}; switchboard rules history names those that it holds");
        Exit::Failed.into()
    })
}

fn history(global: &Global) -> anyhow::Result<Exit> {
    let periods = with_log(global, |log| Ok(log.ruleset_periods()?))?;
    global.print(&periods, |periods| {
        for period in periods {
            let last = period.last_at.map(|at| at.to_string());
            outln!(
                "{}  {} to {}  {} rules  by {}",
                period.version,
                period.first_at,
                last.as_deref().unwrap_or("now"),
                period.rules,
                period.by.as_deref().unwrap_or("(no longer known)")
            );
        }
    })?;
    Ok(Exit::Done)
}

fn show(version: &RulesetVersion, global: &Global) -> anyhow::Result<Exit> {
    let ruleset = with_log(global, |log| ruleset(log, version))?;
    let shown = RulesetLoaded::new(ruleset, None);
    outln!("{}", serde_json::to_string_pretty(&shown)?);
    Ok(Exit::Done)
}

fn diff(a: &RulesetVersion, b: &RulesetVersion, global: &Global) -> anyhow::Result<Exit> {
    let (from, to) = with_log(global, |log| Ok((ruleset(log, a)?, ruleset(log, b)?)))?;
    let diff = Diff {
        from: a,
        to: b,
        changes: from.changes_to(&to),
    };
    global.print(&diff, |diff| {
        for change in &diff.changes {
            outln!("{}", change.text);
        }
        if diff.changes.is_empty() {
            outln!("the two are the same");
        }
    })?;
    Ok(Exit::Done)
}

//! `switchboard rules`: the versions of the rules, read from the log beside a running server or without one; and having that server publish them.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use super::configuration;
use super::frame::{Exit, Global, as_owner, errln, key_ring, load, outln, sudo_user};
use crate::admin::ControlRequest;
use crate::audit::RulesetLoaded;
use crate::routing::{Ruleset, RulesetChange, RulesetVersion};
use crate::store::LogReader;

#[derive(Debug, clap::Args)]
pub(super) struct RulesArguments {
    #[command(subcommand)]
    command: RulesCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RulesCommand {
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

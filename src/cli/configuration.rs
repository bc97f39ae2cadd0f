//! `switchboard check-config` and `switchboard reload`: the configuration file, read whole here or by the running server.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use super::frame::{Exit, Global, errln, outln, refused, sudo_user};
use crate::admin::{self, ControlRequest};
use crate::audit::ConfigChange;
use crate::config;
use crate::flow::ReloadProblem;

#[derive(Debug, clap::Args)]
pub(super) struct ReloadArguments {
    /// Asked by the service manager: records name it
    #[arg(long, hide = true)]
    systemd: bool,
}

/// What the server answers; printed whole with `--json`.
#[derive(Debug, Deserialize)]
struct ReloadAnswer {
    ok: bool,
    changes: Vec<ConfigChange>,
    needs_restart: Vec<String>,
    warnings: Vec<ReloadProblem>,
    problems: Vec<ReloadProblem>,
    /// The version of the rules in force.
    #[serde(default)]
    ruleset: String,
}

/// Everything is parsed and validated; nothing is bound or opened.
pub(super) fn check(global: &Global) -> anyhow::Result<Exit> {
    let path = config::find(global.config.as_deref());
    let report = config::check::report(&path);
    global.print(&report, |report| {
        let text = report.to_text();
        if !text.is_empty() {
            errln!("{}", text.trim_end());
        }
        let verdict = if report.ok {
            "is valid"
        } else {
            "is not valid"
        };
        outln!("{} {verdict}", path.display());
    })?;
    Ok(taken(report.ok))
}

pub(super) fn taken(ok: bool) -> Exit {
    if ok { Exit::Done } else { Exit::Configuration }
}

/// The running server reads its configuration again; nothing is done without one.
pub(super) fn reload(arguments: &ReloadArguments, global: &Global) -> anyhow::Result<Exit> {
    let request = ControlRequest::Reload {
        systemd: arguments.systemd,
        sudo_user: sudo_user(),
    };
    configure(&request, global, |answer| {
        let changed = match answer.changes.len() {
            0 => "nothing in it has changed".to_owned(),
            1 => "1 key has changed".to_owned(),
            n => format!("{n} keys have changed"),
        };
        outln!("the configuration was read again: {changed}");
        for change in &answer.changes {
            outln!("  {}", change.key);
        }
    })
}

/// The running server writes these rules and brings them into force.
pub(super) fn publish(request: &ControlRequest, global: &Global) -> anyhow::Result<Exit> {
    configure(request, global, |answer| {
        outln!("the rules are in force: {}", answer.ruleset);
    })
}

/// Has the running server change its configuration; `print` says what came of it where it was taken.
fn configure(
    request: &ControlRequest,
    global: &Global,
    print: impl FnOnce(&ReloadAnswer),
) -> anyhow::Result<Exit> {
    let path = config::find(global.config.as_deref());
    let Some(database) = config::database_of(&path) else {
        errln!(
            "{} does not say where the database is (storage.path), so no server is found; switchboard check-config says what is wrong",
            path.display()
        );
        return Ok(Exit::Configuration);
    };
    let document = admin::ask(&database, request, |_| {}).map_err(refused)?;
    let answer: ReloadAnswer =
        ReloadAnswer::deserialize(&document).context("the server's answer cannot be read")?;
    global.print(&document, |_| {
        let file = path.file_name().map_or(path.as_path(), Path::new);
        for problem in answer.problems.iter().chain(&answer.warnings) {
            errln!("{}", problem.render(file));
        }
        if !answer.ok {
            errln!("refused: nothing has changed, the configuration of before stays in force");
            return;
        }
        print(&answer);
        if !answer.needs_restart.is_empty() {
            outln!("restart pending: {}", answer.needs_restart.join(", "));
        }
    })?;
    Ok(taken(answer.ok))
}

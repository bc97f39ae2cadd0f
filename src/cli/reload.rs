//! `switchboard reload`: the running server reads its configuration again; nothing is done without one.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use super::frame::{Exit, Global};
use super::{offline, output};
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
}

pub(super) fn run(arguments: &ReloadArguments, global: &Global) -> anyhow::Result<Exit> {
    let path = config::find(global.config.as_deref());
    let Some(database) = config::database_of(&path) else {
        output::complain(&format!(
            "{} does not say where the database is (storage.path), so no server is found; switchboard check-config says what is wrong",
            path.display()
        ));
        return Ok(Exit::Configuration);
    };
    let request = ControlRequest::Reload {
        systemd: arguments.systemd,
        sudo_user: sudo_user(),
    };
    let document = admin::ask(&database, &request, |_| {}).map_err(offline::refused)?;
    let answer: ReloadAnswer =
        ReloadAnswer::deserialize(&document).context("the server's answer cannot be read")?;
    if global.json {
        output::document(&document)?;
    } else {
        print(&answer, &path);
    }
    Ok(if answer.ok {
        Exit::Done
    } else {
        Exit::Configuration
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "who became root is no setting of the appliance"
)]
fn sudo_user() -> Option<String> {
    std::env::var("SUDO_USER").ok()
}

fn print(answer: &ReloadAnswer, path: &Path) {
    let file = path.file_name().map_or(path, Path::new);
    for problem in answer.problems.iter().chain(&answer.warnings) {
        output::complain(&problem.render(file));
    }
    if !answer.ok {
        output::complain(
            "refused: nothing has changed, the configuration of before stays in force",
        );
        return;
    }
    let changed = match answer.changes.len() {
        0 => "nothing in it has changed".to_owned(),
        1 => "1 key has changed".to_owned(),
        n => format!("{n} keys have changed"),
    };
    output::line(&format!("the configuration was read again: {changed}"));
    for change in &answer.changes {
        output::line(&format!("  {}", change.key));
    }
    if !answer.needs_restart.is_empty() {
        output::line(&format!(
            "restart pending: {}",
            answer.needs_restart.join(", ")
        ));
    }
}

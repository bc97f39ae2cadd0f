//! `switchboard status`: how the running server and its dialers are. `drain`, `resume`: takes a dialer out, puts it back.

use serde_json::Value;

use super::frame::{Exit, Global, or_said, outln, refused, sudo_user};
use crate::admin::{self, ControlRequest};
use crate::config;

#[derive(Debug, clap::Args)]
pub(super) struct DrainArguments {
    /// The dialer: its key under `[dialers]`
    dialer: String,
}

pub(super) fn drain(
    arguments: &DrainArguments,
    resume: bool,
    global: &Global,
) -> anyhow::Result<Exit> {
    let request = ControlRequest::Drain {
        dialer: arguments.dialer.clone(),
        resume,
        sudo_user: sudo_user(),
    };
    let dialer = ask(&request, global)?;
    global.print(&dialer, print_dialer)?;
    Ok(Exit::Done)
}

/// Fails where the database takes no records, or no dialer is in use.
pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let status = ask(&ControlRequest::Status, global)?;
    let (store, dialers) = (&status["store"], &status["dialers"]);
    let dialers = dialers.as_array().map(Vec::as_slice).unwrap_or_default();
    let since = text(&store["failing_since"]);
    global.print(&status, |status| {
        let (version, pid) = (text(&status["version"]), &status["pid"]);
        let (calls, records) = (&store["active_calls"], &store["records"]);
        outln!(
            "switchboard {version}, process {pid}: {calls} calls in progress, {records} records"
        );
        if !since.is_empty() {
            outln!(
                "no records are stored since {since}: {}",
                text(&store["last_error"])
            );
        }
        dialers.iter().for_each(print_dialer);
    })?;
    let is_in_use = dialers.iter().any(|dialer| dialer["in_use"] == true);
    Ok(Exit::of_check(since.is_empty() && is_in_use))
}

/// What the running server says. Its configuration is in force whatever there is to warn of.
fn ask(request: &ControlRequest, global: &Global) -> Result<Value, Exit> {
    let path = config::find(global.config.as_deref());
    let loaded = or_said(&path, config::load(&path))?;
    admin::ask(&loaded.config.storage.path, request, |_| {}).map_err(refused)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn print_dialer(dialer: &Value) {
    let why = dialer["why"].as_str().unwrap_or("in use");
    outln!("{}: {why}", text(&dialer["dialer"]));
}

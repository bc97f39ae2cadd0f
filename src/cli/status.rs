//! `switchboard status`: how the running server and its dialers are. `drain`, `resume`: takes a dialer out, puts it back.

use serde_json::Value;

use super::frame::{Exit, Global, load, outln, refused, sudo_user};
use crate::admin::{self, ControlRequest};

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
    let path = load(global)?.config.storage.path;
    let dialer = admin::ask(&path, &request, |_| {}).map_err(refused)?;
    global.print(&dialer, print_dialer)?;
    Ok(Exit::Done)
}

/// Fails where the database takes no records, or no dialer is in use.
pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let path = load(global)?.config.storage.path;
    let status = admin::ask(&path, &ControlRequest::Status, |_| {}).map_err(refused)?;
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

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn print_dialer(dialer: &Value) {
    let why = dialer["why"].as_str().unwrap_or("in use");
    outln!("{}: {why}", text(&dialer["dialer"]));
}

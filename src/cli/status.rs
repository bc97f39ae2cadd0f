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
    global.print(&status, |status| {
        let (store, text) = (&status["store"], |value: &Value| {
            value.as_str().unwrap_or_default().to_owned()
        });
        let (version, pid, calls, records) = (
            text(&status["version"]),
            &status["pid"],
            &store["active_calls"],
            &store["records"],
        );
        outln!(
            "switchboard {version}, process {pid}: {calls} calls in progress, {records} records"
        );
        if let Some(error) = store["last_error"]
            .as_str()
            .filter(|_| !store["failing_since"].is_null())
        {
            outln!(
                "the database takes no records since {}: {error}",
                text(&store["failing_since"])
            );
        }
        status["dialers"]
            .as_array()
            .into_iter()
            .flatten()
            .for_each(print_dialer);
    })?;
    let is_in_use = |dialer: &Value| dialer["drained"].is_null() && dialer["open"].is_null();
    let mut dialers = status["dialers"].as_array().into_iter().flatten();
    Ok(Exit::of_check(
        status["store"]["failing_since"].is_null() && dialers.any(is_in_use),
    ))
}

fn print_dialer(dialer: &Value) {
    let word = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let drained = &dialer["drained"];
    let state = word(&drained["by"])
        .map(|by| {
            format!(
                "taken out by {by} since {}",
                word(&drained["since"]).unwrap_or_default()
            )
        })
        .or(word(&dialer["refused"]).map(|credential| format!("refuses {credential}")))
        .or(word(&dialer["open"]).map(|why| format!("gets no calls: {why}")))
        .unwrap_or_else(|| "in use".to_owned());
    outln!("{}: {state}", word(&dialer["dialer"]).unwrap_or_default());
}

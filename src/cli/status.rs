//! `switchboard status`: how the running server and its dialers are.

use serde_json::Value;

use super::frame::{Exit, Global, or_said, outln, refused};
use crate::admin::{self, ControlRequest};
use crate::config;

/// Asks, and prints how it stands. Fails where no records are stored or no dialer is in use.
pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let path = config::find(global.config.as_deref());
    let loaded = or_said(&path, config::load(&path))?;
    let database = &loaded.config.storage.path;
    let status = admin::ask(database, &ControlRequest::Status, |_| {}).map_err(refused)?;
    global.print(&status, print)?;
    Ok(Exit::of_check(status.get("ok") == Some(&Value::Bool(true))))
}

fn print(status: &Value) {
    let (text, store) = (
        |value: &Value| value.as_str().map(str::to_owned),
        &status["store"],
    );
    let (version, calls) = (
        text(&status["version"]).unwrap_or_default(),
        &store["active_calls"],
    );
    outln!(
        "switchboard {version}, process {}: {calls} calls in progress",
        status["pid"]
    );
    if let Some(since) = text(&store["failing_since"]) {
        outln!(
            "no records are stored since {since}: {}",
            store["last_error"]
        );
    }
    for dialer in status["dialers"].as_array().into_iter().flatten() {
        let why = text(&dialer["why"]).unwrap_or_else(|| "in use".to_owned());
        outln!("{}: {why}", text(&dialer["dialer"]).unwrap_or_default());
    }
}

//! `switchboard retry`: has the running server try credentials again that a service refused.

use anyhow::Context;

use super::frame::{Exit, Global, load, outln, refused};
use crate::admin::{self, ControlRequest, Retried};

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct RetryArguments {
    /// The dialer: its key under `[dialers]`
    dialer: Option<String>,
    /// Braze
    #[arg(long)]
    braze: bool,
}

pub(super) fn run(arguments: &RetryArguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = load(global)?;
    let request = ControlRequest::Retry {
        dialer: arguments.dialer.clone(),
    };
    let document = admin::ask(&loaded.config.storage.path, &request, |_| {}).map_err(refused)?;
    let retried: Retried =
        serde_json::from_value(document).context("the server's answer cannot be read")?;
    global.print(&retried, print)?;
    Ok(Exit::of_check(retried.ok))
}

fn print(retried: &Retried) {
    let Retried { service, .. } = retried;
    match (&retried.message, retried.was_refused) {
        (Some(message), _) => {
            let next = retried.next_try_at.map(|at| at.to_string());
            let next = next.unwrap_or_default();
            outln!("{service}: still refuses {message}; the next try is at {next}");
        }
        (None, true) => outln!("{service}: accepts its credentials again"),
        (None, false) => {
            outln!("{service}: its credentials are not refused; there is nothing to try")
        }
    }
}

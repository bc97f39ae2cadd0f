//! `switchboard test-dialer`: a real connectivity test, no call placed. `switchboard retry`: has the running server try credentials again that a
//! service refused.

use anyhow::Context;

use super::frame::{Exit, Global, errln, load, outln, refused, runtime};
use crate::admin::{self, ControlRequest, Retried};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::dialer::TestReport;

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct TestDialerArguments {
    /// The dialer to test: its key under `[dialers]`
    name: Option<String>,
    /// Test every dialer
    #[arg(long)]
    all: bool,
}

pub(super) fn test(arguments: &TestDialerArguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = load(global)?;
    let dialers = app::dialers(&loaded.config, &Clock::system(), &[], &[])?;
    let name = arguments.name.as_deref();
    let is_wanted = |id: &str| name.is_none_or(|name| id == name);
    let wanted = dialers.iter().filter(|one| is_wanted(one.id().as_str()));
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() {
        let known: Vec<_> = dialers.iter().map(|dialer| dialer.id().as_str()).collect();
        let name = name.unwrap_or_default();
        errln!(
            "no dialer is named {name:?}; the configuration has {}",
            known.join(", ")
        );
        return Ok(Exit::Usage);
    }
    let reports: Vec<TestReport> = runtime()?.block_on(async {
        let mut reports = Vec::new();
        for dialer in wanted {
            reports.push(dialer.test().await);
        }
        reports
    });
    global.print(&reports, |reports| reports.iter().for_each(print_report))?;
    for report in reports.iter().filter(|report| report.ok) {
        have_it_tried(report, &loaded.config);
    }
    let is_well = reports.iter().all(|report| report.ok);
    Ok(Exit::of_check(is_well))
}

/// A server that runs here may know these credentials as refused: it finds out for itself, and does nothing where it does not. Without a server, or
/// without the right to ask it, the test says what it says all the same.
fn have_it_tried(report: &TestReport, config: &Config) {
    let request = ControlRequest::Retry {
        dialer: Some(report.dialer.to_string()),
    };
    drop(admin::ask(&config.storage.path, &request, |_| {}));
}

fn print_report(report: &TestReport) {
    let verdict = if report.ok { "ok" } else { "FAILED" };
    let latency = report.latency_ms.map(|ms| format!(", {ms} ms"));
    let latency = latency.unwrap_or_default();
    outln!("{}: {verdict}{latency}", report.dialer);
    for check in &report.checks {
        let mark = if check.ok { "ok    " } else { "FAILED" };
        outln!("  {mark} {}: {}", check.name, check.message);
    }
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct RetryArguments {
    /// The dialer: its key under `[dialers]`
    dialer: Option<String>,
    /// Braze
    #[arg(long)]
    braze: bool,
}

pub(super) fn retry(arguments: &RetryArguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = load(global)?;
    let request = ControlRequest::Retry {
        dialer: arguments.dialer.clone(),
    };
    let document = admin::ask(&loaded.config.storage.path, &request, |_| {}).map_err(refused)?;
    let retried: Retried =
        serde_json::from_value(document).context("the server's answer cannot be read")?;
    global.print(&retried, print_retried)?;
    Ok(Exit::of_check(retried.ok))
}

fn print_retried(retried: &Retried) {
    let Retried { service, .. } = retried;
    match (&retried.message, retried.was_refused) {
        (Some(message), _) => {
            let next = retried.next_try_at.map(|at| at.to_string());
            let next = next.unwrap_or_default();
            outln!("{service}: still refuses {message}; the next try is at {next}");
        }
        (None, true) => outln!("{service}: accepts its credentials again"),
        (None, false) => {
            outln!("{service}: its credentials are not refused; there is nothing to try");
        }
    }
}

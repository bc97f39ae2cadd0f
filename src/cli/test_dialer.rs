//! `switchboard test-dialer`: a real connectivity test, no call placed.

use super::frame::{Exit, Global, load, runtime};
use super::output;
use crate::admin::{self, ControlRequest};
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

pub(super) fn run(arguments: &TestDialerArguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = load(global)?;
    let dialers = app::dialers(&loaded.config, &Clock::system(), &[])?;
    let wanted: Vec<_> = dialers
        .iter()
        .filter(|dialer| {
            arguments
                .name
                .as_deref()
                .is_none_or(|name| dialer.id().as_str() == name)
        })
        .collect();
    if wanted.is_empty() {
        let known: Vec<_> = dialers.iter().map(|dialer| dialer.id().as_str()).collect();
        let name = arguments.name.as_deref().unwrap_or_default();
        output::complain(&format!(
            "no dialer is named {name:?}; the configuration has {}",
            known.join(", ")
        ));
        return Ok(Exit::Usage);
    }
    let reports: Vec<TestReport> = runtime()?.block_on(async {
        let mut reports = Vec::new();
        for dialer in wanted {
            reports.push(dialer.test().await);
        }
        reports
    });
    if global.json {
        output::document(&reports)?;
    } else {
        for report in &reports {
            print(report);
        }
    }
    for report in reports.iter().filter(|report| report.ok) {
        have_it_tried(report, &loaded.config);
    }
    Ok(if reports.iter().all(|report| report.ok) {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// A server that runs here may know these credentials as refused: it finds out for itself, and does nothing where it does not. Without a server, or
/// without the right to ask it, the test says what it says all the same.
fn have_it_tried(report: &TestReport, config: &Config) {
    let request = ControlRequest::Retry {
        dialer: Some(report.dialer.to_string()),
    };
    drop(admin::ask(&config.storage.path, &request, |_| {}));
}

fn print(report: &TestReport) {
    let verdict = if report.ok { "ok" } else { "FAILED" };
    let latency = report
        .latency_ms
        .map_or_else(String::new, |ms| format!(", {ms} ms"));
    output::line(&format!("{}: {verdict}{latency}", report.dialer));
    for check in &report.checks {
        let mark = if check.ok { "ok    " } else { "FAILED" };
        output::line(&format!("  {mark} {}: {}", check.name, check.message));
    }
}

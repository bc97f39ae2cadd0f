//! `switchboard audit complete`: whether every call that Twilio had stands in the log. Beside a running server, that server asks Twilio.

use anyhow::Context;
use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::frame::{Exit, Global, as_owner, errln, load, outln, runtime, sudo_user};
use crate::admin::{self, AskError, ControlRequest};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::flow::{Completeness, CompletenessReport};
use crate::store::{Options, Store};

#[derive(Debug, clap::Args)]
pub(super) struct CompleteArguments {
    /// The first day, UTC, like 2026-11-01 [default: that of --to]
    #[arg(long, value_name = "DAY")]
    from: Option<Date>,
    /// The last day, UTC, included [default: yesterday]
    #[arg(long, value_name = "DAY")]
    to: Option<Date>,
}

pub(super) fn run(arguments: &CompleteArguments, global: &Global) -> anyhow::Result<Exit> {
    let today = Clock::system().now().to_zoned(TimeZone::UTC).date();
    let to = arguments.to.unwrap_or(today.saturating_sub(1.day()));
    let from = arguments.from.unwrap_or(to);
    if from > to {
        errln!("--from is later than --to");
        return Ok(Exit::Usage);
    }
    let config = load(global)?.config;
    let request = ControlRequest::CheckCompleteness {
        from,
        to,
        sudo_user: sudo_user(),
    };
    let report = match admin::ask(&config.storage.path, &request, |_| {}) {
        Ok(document) => {
            serde_json::from_value(document).context("the server's answer cannot be read")?
        }
        Err(AskError::Nobody { .. }) => alone(&config, (from, to))?,
        Err(error) => return Ok(Exit::Failed.after(error)),
    };
    global.print(&report, print)?;
    let mut checks = report.checks.iter();
    let is_complete = checks.all(|one| one.missing + one.unlisted == 0);
    Ok(Exit::of_check(is_complete && report.left_out.is_empty()))
}

/// Nobody has the database: it is opened here, and what is found is recorded there.
fn alone(config: &Config, days: (Date, Date)) -> anyhow::Result<CompletenessReport> {
    let path = &config.storage.path;
    if !path.exists() {
        errln!("there is no database {}", path.display());
        return Err(Exit::Failed.into());
    }
    let _acting = as_owner(path)?;
    let key_ring = app::key_ring_of_existing(config)?;
    let clock = Clock::system();
    runtime()?.block_on(async {
        let rest = app::rest(config, &clock)?;
        let options = Options::new(path, clock.clone(), key_ring).unhurried();
        let store = Store::open(&options).context("cannot open the database")?;
        let urls = app::public_names(config);
        let completeness = Completeness::new(clock, store.clone(), rest, urls, path);
        let by =
            sudo_user().map_or_else(|| "the command line".to_owned(), |name| name + " by sudo");
        let report = completeness.check_days(days, &by).await;
        store.close().await;
        Ok(report?)
    })
}

fn print(report: &CompletenessReport) {
    for checked in &report.checks {
        let day = checked.from.to_zoned(TimeZone::UTC).date();
        outln!("{day}: {}", checked.in_words());
        for one in &checked.findings {
            let what = serde_json::json!([one.found, one.code]);
            outln!("  {} of {}: {what}", one.call_id, one.at);
        }
        if !checked.with_alerts {
            errln!("{day}: Twilio does not let its alerts be read, so that no error is named");
        }
    }
    for (day, why) in &report.left_out {
        errln!("{day} is left out: {why}");
    }
}

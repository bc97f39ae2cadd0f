//! `switchboard drill`: what callers hear when something fails, by this configuration, before a caller finds out. Everything outside is a stand-in.

mod callers;
mod copy;
mod run;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Context;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use switchboard_simulator::chance::Chance;
use switchboard_simulator::drill::Breaks;
use switchboard_simulator::scorecard::Scorecard;

use super::demo::terminal_logs;
use super::explain::moment;
use super::frame::{Exit, Global, errln, load, outln, runtime};
use crate::clock::Clock;
use crate::config::Config;
use crate::telemetry;
use run::Drill;

/// So many drills run at the same time: most of one is waiting.
const AT_ONCE: usize = 3;

#[derive(Debug, clap::Args)]
pub(super) struct DrillArguments {
    /// Only this fault; several are separated by commas
    #[arg(long, value_delimiter = ',', value_name = "FAULT")]
    only: Vec<String>,
    /// Suppose this time: 19:00, "tomorrow 19:00", "2026-11-30 10:00" (in the time zone of `[routing]`), or ISO 8601
    #[arg(long)]
    at: Option<String>,
}

pub(super) fn run(arguments: &DrillArguments, global: &Global) -> anyhow::Result<Exit> {
    let config = load(global)?.config;
    let now = Clock::system().now();
    let text = arguments.at.as_deref();
    let Some(at) = text.map_or(Some(now), |text| {
        moment(text, now, &config.routing.time_zone)
    }) else {
        errln!("--at is no time; write one like 10:00, \"tomorrow 10:00\" or 2026-11-30T10:00:00Z");
        return Ok(Exit::Usage);
    };
    let _logs = telemetry::start(&terminal_logs(global), Clock::system())?;
    let drilled = runtime()?.block_on(drill(&config, &arguments.only, at, 1));
    let report = match drilled? {
        Ok(report) => report,
        Err(names) => {
            errln!("--only takes these faults: {}", names.join(", "));
            return Ok(Exit::Usage);
        }
    };
    global.print(&report, |report| {
        for line in report.lines() {
            outln!("{line}");
        }
    })?;
    Ok(Exit::of_check(report.ok))
}

/// Runs the faults of these names, or all; nothing is broken first, by which is known what callers hear on a good day. Where there is no fault of
/// such a name, gives those that there are.
async fn drill(
    config: &Config,
    only: &[String],
    at: Timestamp,
    machine_is_faster: u32,
) -> anyhow::Result<Result<Scorecard, Vec<String>>> {
    let dialers: Vec<String> = config
        .dialers
        .iter()
        .map(|one| one.id.to_string())
        .collect();
    let all = Breaks::all(&dialers);
    if only
        .iter()
        .any(|only| all.iter().all(|(name, _)| name != only))
    {
        return Ok(Err(all.into_iter().map(|(name, _)| name).collect()));
    }
    let folder = format!("switchboard-drill-{:016x}", Chance::fresh_seed());
    let folder = Scratch(std::env::temp_dir().join(folder));
    std::fs::create_dir(&folder.0).context("cannot create a folder for the drills")?;
    let good_day = Drill {
        config,
        callers: &callers::all(config, at),
        folder: &folder.0,
        at,
        machine_is_faster,
        well: &[],
    };
    let (first, well) = Box::pin(good_day.run("nothing", &Breaks::Nothing)).await?;
    let bad_day = Drill {
        well: &well,
        ..good_day
    };
    let is_wanted = |name: &String| only.is_empty() || only.contains(name);
    let others = all.iter().skip(1).filter(|(name, _)| is_wanted(name));
    let others = stream::iter(others).map(|(name, breaks)| Box::pin(bad_day.run(name, breaks)));
    let others: Vec<_> = others.buffered(AT_ONCE).try_collect().await?;
    let others = others.into_iter().map(|(result, _)| result);
    let drills = std::iter::once(first).chain(others).collect();
    let budget_ms = config.routing.budget.as_millis();
    Ok(Ok(Scorecard::new(at.to_string(), budget_ms, drills)))
}

/// A folder for what is made up; it goes with everything in it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

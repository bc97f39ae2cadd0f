//! `switchboard prune`: deletes audit records past retention. Beside a running server, that server does it.

use std::time::Duration;

use anyhow::Context;

use super::audit::not_opened;
use super::frame::{Bar, Exit, Global, as_owner, errln, load, outln, runtime};
use crate::admin::{self, AskError, ControlRequest};
use crate::app;
use crate::clock::Clock;
use crate::config::{Config, parse_duration};
use crate::jobs;
use crate::store::{CheckpointSigner, Options, PruneError, PruneReport, Pruner, Store};

#[derive(Debug, clap::Args)]
pub(super) struct PruneArguments {
    /// Delete what is older than this; not less than `storage.retention`, which is the default
    #[arg(long, value_name = "DURATION", value_parser = age)]
    older_than: Option<Duration>,
    /// Say what would go, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

fn age(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("must be a number with a unit, such as 90d")
}

pub(super) fn run(arguments: &PruneArguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = load(global)?;
    let config = &loaded.config;
    let least = config.storage.retention;
    if arguments.older_than.is_some_and(|age| age < least) {
        let error = PruneError::TooYoung { least };
        errln!("{}", error.to_string());
        return Ok(Exit::Usage);
    }
    let request = ControlRequest::Prune {
        older_than_ms: arguments
            .older_than
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        dry_run: arguments.dry_run,
    };
    let bar = Bar::start(global, 0, "records");
    let answer = admin::ask(&config.storage.path, &request, |progress| {
        bar.set_total(progress.total);
        bar.set(progress.done);
    });
    let report = match answer {
        Ok(document) => {
            serde_json::from_value(document).context("the server's answer cannot be read")?
        }
        Err(AskError::Nobody { .. }) => alone(arguments, config, &bar)?,
        Err(error) => {
            bar.end();
            return Ok(Exit::Failed.after(error));
        }
    };
    bar.end();
    global.print(&report, |report| print(report, arguments.dry_run))?;
    Ok(Exit::Done)
}

/// Nobody has the database: it is opened, signed and pruned here.
fn alone(arguments: &PruneArguments, config: &Config, bar: &Bar) -> anyhow::Result<PruneReport> {
    let clock = Clock::system();
    let path = &config.storage.path;
    if !path.exists() {
        errln!("there is no database {}", path.display());
        return Err(Exit::Failed.into());
    }
    let _acting = as_owner(path)?;
    let key_ring = app::key_ring_of_existing(config)?;
    runtime()?.block_on(async {
        let options = Options::new(path, clock, key_ring).unhurried();
        let store = Store::open(&options).map_err(not_opened)?;
        let report = prune(&store, arguments, config, bar).await;
        store.close().await;
        report
    })
}

async fn prune(
    store: &Store,
    arguments: &PruneArguments,
    config: &Config,
    bar: &Bar,
) -> anyhow::Result<PruneReport> {
    let clock = Clock::system();
    let silence = jobs::prune::silence(store, &clock).await;
    if !arguments.dry_run {
        // As a start does: what was written before looks older than it is.
        jobs::prune::note_silence(store, &clock).await;
    }
    let (key, former) = app::signing_keys(config, &store.log_id().await?)?;
    let signer = CheckpointSigner::begin(store, key, &former).await;
    let pruner = Pruner::new(store.clone(), signer, config.storage.retention, true);
    let age = pruner.age(arguments.older_than)?;
    if arguments.dry_run {
        let pruner = pruner.after_silence(silence.unwrap_or_default());
        return Ok(pruner.preview(age, |_| {}).await?);
    }
    bar.set_total(pruner.preview(age, |_| {}).await?.deleted);
    Ok(pruner.run(age, |done| bar.set(done)).await?)
}

fn print(report: &PruneReport, is_dry: bool) {
    let PruneReport {
        deleted,
        kept,
        oldest,
        kept_longer,
    } = report;
    let verb = if is_dry {
        "would be deleted"
    } else {
        "deleted"
    };
    outln!("{deleted} records {verb}, {kept} kept");
    if let Some(oldest) = oldest {
        outln!("the oldest of them is of {oldest}");
    }
    if let Some(longer) = kept_longer {
        outln!(
            "{} of them are past retention and stay until {} at least: {}",
            longer.records,
            longer.until,
            longer.reason
        );
    }
}

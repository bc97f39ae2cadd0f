//! `switchboard serve`: the appliance.

use std::path::{Path, PathBuf};

use super::{Exit, Global, load_silently, output, runtime};
use crate::app::{self, Running, StartError};
use crate::clock::Clock;
use crate::config::{self, Config, Loaded};
use crate::lifecycle::{Lifecycle, Signals, Verdict};
use crate::store::OpenError;
use crate::telemetry;

pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let path = config::find(global.config.as_deref());
    let loaded = match load_silently(&path) {
        Ok(loaded) => loaded,
        Err(exit) => return Ok(exit),
    };
    let _logs = telemetry::start(&telemetry_settings(&loaded.config, global), Clock::system())?;
    log_warnings(&loaded, &path);
    let metrics = app::metrics::install()?;
    runtime()?.block_on(async {
        let signals = Signals::register()?;
        let lifecycle = Lifecycle::default();
        let running =
            match app::start(&loaded.config, &Clock::system(), &lifecycle, Some(metrics)).await {
                Ok(running) => running,
                Err(error) => return Ok(refuse(error)),
            };
        lifecycle.spawn("reload", reload(lifecycle.clone(), running.clone(), path));
        let verdict = lifecycle.run_until_stopped(signals).await;
        running.close().await;
        tracing::info!(event = "service.stopped", verdict = %verdict, "stopped");
        Ok(match verdict {
            Verdict::Clean | Verdict::Aborted { .. } => Exit::Done,
            Verdict::Failed(_) => Exit::Failed,
        })
    })
}

/// Says why it does not start, and whether trying again may help.
pub(super) fn refuse(error: StartError) -> Exit {
    let exit = match &error {
        StartError::Store {
            source: OpenError::Newer { .. },
            ..
        } => Exit::Configuration,
        StartError::Store {
            source: OpenError::InUse { .. },
            ..
        }
        | StartError::Listen { .. } => Exit::TryAgain,
        StartError::Store { .. } | StartError::Other(_) => Exit::Failed,
    };
    output::complain(&format!("{:#}", anyhow::Error::from(error)));
    exit
}

async fn reload(lifecycle: Lifecycle, running: Running, path: PathBuf) {
    let mut reloads = lifecycle.reloads();
    let draining = lifecycle.draining();
    while let Some(Ok(())) = draining.run_until_cancelled(reloads.changed()).await {
        reload_once(&running, &path).await;
    }
}

/// A valid file replaces what is in force; an invalid one is refused, and the old one stays.
async fn reload_once(running: &Running, path: &Path) {
    let problems = match config::load(path) {
        Ok(loaded) => match running.reload(&loaded.config).await {
            Ok(()) => return log_warnings(&loaded, path),
            Err(error) => vec![format!("{error:#}")],
        },
        Err(rejected) => rejected
            .problems
            .iter()
            .filter(|problem| problem.is_error())
            .map(|problem| problem.render(path))
            .collect(),
    };
    metrics::counter!("switchboard_config_reload_failures_total").increment(1);
    for problem in problems {
        tracing::error!(
            event = "config.refused",
            problem,
            "the new configuration is refused; the old one stays"
        );
    }
}

/// What somebody should look at in the configuration in force, as log lines: they come at start and with every reload.
fn log_warnings(loaded: &Loaded, path: &Path) {
    for warning in &loaded.warnings {
        tracing::warn!(
            event = "config.warning",
            problem = warning.render(path),
            "the configuration is taken; this deserves a look"
        );
    }
}

fn telemetry_settings(config: &Config, global: &Global) -> telemetry::Settings {
    let logging = &config.logging;
    telemetry::Settings {
        format: match logging.format {
            config::Format::Json => telemetry::Format::Json,
            config::Format::Text => telemetry::Format::Text {
                colors: global.colors(),
            },
        },
        filter: level(global).map_or_else(|| logging.level.clone(), str::to_owned),
        directory: logging.directory.clone(),
    }
}

/// The level that `-v` and `-q` ask for.
fn level(global: &Global) -> Option<&'static str> {
    match (global.verbose, global.quiet) {
        (0, 0) => None,
        (0, 1) => Some("warn"),
        (0, _) => Some("error"),
        (1, _) => Some("debug"),
        (_, _) => Some("trace"),
    }
}

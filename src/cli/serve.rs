//! `switchboard serve`: the appliance.

use std::net::TcpListener;
use std::str::FromStr;

use anyhow::Context;
use jiff::SignedDuration;
use listenfd::ListenFd;

use super::frame::{Exit, Global, or_said, runtime};
use crate::app::{self, Given, SecretError, StartError};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::lifecycle::{Lifecycle, Signals, Verdict};
use crate::store::OpenError;
use crate::telemetry;

pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let runtime = runtime()?;
    // First of all: a SIGHUP that nobody took over ends the process.
    let signals = {
        let _guard = runtime.enter();
        Signals::register()?
    };
    let path = config::find(global.config.as_deref());
    let loaded = or_said(&path, config::load_to_start(&path))?;
    let logs = telemetry::start(&telemetry_settings(&loaded.config, global), Clock::system())?;
    app::say_warnings(&loaded.warnings, &path);
    let listener = given_listener().map_err(|error| Exit::Configuration.after(error))?;
    let given = Given {
        metrics: Some(app::metrics::install()?),
        listener,
        file: Some(path),
        demo: None,
        confirm_every: of_test("SWITCHBOARD_CONFIRM_EVERY").map(SignedDuration::from_secs),
    };
    runtime.block_on(async {
        let lifecycle = Lifecycle::default();
        app::metrics::watch_log_lines(&lifecycle, logs.dropped_lines());
        let started = app::start_with(&loaded.config, &clock(), &lifecycle, given).await;
        let running = started.map_err(refuse)?;
        let verdict = lifecycle.run_until_stopped(signals).await;
        running.close().await;
        tracing::info!(event = "service.stopped", verdict = %verdict, "stopped");
        Ok(match verdict {
            Verdict::Clean | Verdict::Aborted { .. } => Exit::Done,
            Verdict::Failed(_) => Exit::Failed,
        })
    })
}

/// The clock of the service. A debug build lets a test slow it by `$SWITCHBOARD_SLOWED`, so that a busy machine makes no call late.
fn clock() -> Clock {
    match of_test("SWITCHBOARD_SLOWED") {
        Some(times) => Clock::system().slowed(times),
        None => Clock::system(),
    }
}

/// What a test says to a debug build.
#[expect(
    clippy::disallowed_methods,
    reason = "no setting of anybody's installation"
)]
fn of_test<T: FromStr>(name: &str) -> Option<T> {
    let said = cfg!(debug_assertions).then(|| std::env::var(name).ok());
    said.flatten()?.parse().ok()
}

/// The socket that the service manager keeps for us, where it does: between two runs it holds the callers, so that none is refused.
fn given_listener() -> anyhow::Result<Option<TcpListener>> {
    let mut given = ListenFd::from_env();
    if given.len() > 1 {
        anyhow::bail!(
            "the service manager gives {} sockets; one is served: keep one ListenStream",
            given.len()
        );
    }
    given.take_tcp_listener(0).context(
        "the socket of the service manager is no TCP listener: use ListenStream with a port",
    )
}

/// Says why it does not start, and whether trying again may help.
pub(super) fn refuse(error: StartError) -> Exit {
    let exit = match &error {
        StartError::Store { source, .. }
        | StartError::Secret(SecretError::Database { source, .. }) => exit_of(source),
        StartError::Secret(
            SecretError::Missing { .. } | SecretError::Empty { .. } | SecretError::Exposed { .. },
        )
        | StartError::Exposed { .. } => Exit::Configuration,
        StartError::Listen { .. } => Exit::TryAgain,
        StartError::Secret(_) | StartError::Other(_) => Exit::Failed,
    };
    exit.after(error)
}

/// Whether another database, a newer program, or another moment is needed.
pub(super) fn exit_of(error: &OpenError) -> Exit {
    match error {
        OpenError::Newer { .. }
        | OpenError::Development { .. }
        | OpenError::SchemaChanged { .. }
        | OpenError::Foreign { .. }
        | OpenError::NotADatabase { .. }
        | OpenError::WrongSecret { .. }
        | OpenError::FormerSecret { .. } => Exit::Configuration,
        OpenError::InUse { .. } => Exit::TryAgain,
        OpenError::NoSuchVersion { .. } => Exit::Usage,
        OpenError::StrayLog { .. }
        | OpenError::OldSqlite { .. }
        | OpenError::Setting { .. }
        | OpenError::BackupDamaged { .. }
        | OpenError::File { .. }
        | OpenError::Sqlite(_)
        | OpenError::Start(_) => Exit::Failed,
    }
}

fn telemetry_settings(config: &Config, global: &Global) -> telemetry::Settings {
    let logging = &config.logging;
    telemetry::Settings {
        format: match logging.format {
            config::LogFormat::Json => telemetry::LineFormat::Json,
            config::LogFormat::Text => telemetry::LineFormat::Text {
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

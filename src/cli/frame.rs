//! What every command has in common: the options before it, how it ends, and its way to the configuration.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::output;
use crate::config::{self, Loaded};
use crate::files::Acting;

#[derive(Debug, clap::Args)]
pub(super) struct Global {
    /// The configuration file [default: `$SWITCHBOARD_CONFIG`, ./config.toml, /etc/switchboard/config.toml]
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) config: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Say more (once: debug, twice: trace)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Say less (once: warnings, twice: errors)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) quiet: u8,
    /// No colours (also: `NO_COLOR`)
    #[arg(long, global = true)]
    no_color: bool,
}

impl Global {
    /// Whether standard error takes colours: a terminal, and nobody said no.
    #[expect(
        clippy::disallowed_methods,
        reason = "NO_COLOR is no setting of the appliance"
    )]
    pub(super) fn colors(&self) -> bool {
        let unwanted = std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
        !self.no_color && !unwanted && std::io::stderr().is_terminal()
    }
}

/// How a command ended; becomes the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// 0: done, or the check passed.
    Done,
    /// 1: the check or operation failed.
    Failed,
    /// 2: the command was used wrongly.
    Usage,
    /// 75: it may work later (sysexits `EX_TEMPFAIL`).
    TryAgain,
    /// 78: the configuration is invalid (sysexits `EX_CONFIG`).
    Configuration,
}

/// What was wrong has been said.
impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Exit {}

impl Exit {
    /// Says what went wrong; the command ends so.
    pub(super) fn after(self, error: impl Into<anyhow::Error>) -> Self {
        output::complain(&format!("{:#}", error.into()));
        self
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::TryAgain => 75,
            Exit::Configuration => 78,
        })
    }
}

/// Loads the configuration, printing warnings; prints every problem and says how to end where it is refused.
pub(super) fn load(global: &Global) -> Result<Loaded, Exit> {
    let path = config::find(global.config.as_deref());
    let loaded = or_said(&path, config::load(&path))?;
    for warning in &loaded.warnings {
        output::complain(&warning.render(&path));
    }
    Ok(loaded)
}

/// Root works as the owner of the folder that the file at `path` lies in, as long as this is held.
pub(super) fn as_owner(path: &Path) -> Result<Option<Acting>, Exit> {
    Acting::as_owner_of_folder(path).map_err(|error| {
        output::complain(&format!(
            "cannot work as the owner of the folder of {}: {error}",
            path.display()
        ));
        Exit::Failed
    })
}

/// What was loaded; what is wrong with it is said.
pub(super) fn or_said(
    path: &Path,
    loaded: Result<Loaded, config::Rejected>,
) -> Result<Loaded, Exit> {
    loaded.map_err(|rejected| {
        for problem in &rejected.problems {
            output::complain(&problem.render(path));
        }
        Exit::Configuration
    })
}

/// A runtime for commands that talk to the outside.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        // Within the unit's `TasksMax`; what waits for a file or the database takes its turn.
        .max_blocking_threads(256)
        .enable_all()
        .build()?)
}

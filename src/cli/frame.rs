//! What every command has in common: the options before it, where its words go, how it ends, and its way to the configuration.

use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::admin::{AskError, RefusalCause};
use crate::app;
use crate::config::{self, Config, Loaded};
use crate::files::Acting;
use crate::store::KeyRing;

/// Prints one line of a result to stdout. A reader that stops reading ends the command quietly.
macro_rules! outln {
    ($($text:tt)*) => { $crate::cli::frame::write_line(std::io::stdout().lock(), format_args!($($text)*)) };
}

/// Prints one line that is no result to stderr.
macro_rules! errln {
    ($($text:tt)*) => { $crate::cli::frame::write_line(std::io::stderr().lock(), format_args!($($text)*)) };
}

pub(super) use {errln, outln};

pub(super) fn write_line(mut to: impl Write, text: Arguments<'_>) {
    if writeln!(to, "{text}").and_then(|()| to.flush()).is_err() {
        // Nobody reads any more; the exit code still tells.
    }
}

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
        !self.no_color && !unwanted && io::stderr().is_terminal()
    }

    /// Prints a result: as one JSON document where that is wanted, else as `print` writes it for people.
    pub(super) fn print<T: Serialize>(
        &self,
        result: &T,
        print: impl FnOnce(&T),
    ) -> anyhow::Result<()> {
        if self.json {
            outln!("{}", serde_json::to_string_pretty(result)?);
        } else {
            print(result);
        }
        Ok(())
    }
}

/// How a command ended; becomes the exit code. As an error: what was wrong has been said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{self:?}")]
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

impl Exit {
    /// Whether a check passed.
    pub(super) fn of_check(ok: bool) -> Self {
        if ok { Self::Done } else { Self::Failed }
    }

    /// Says what went wrong; the command ends so.
    pub(super) fn after(self, error: impl Into<anyhow::Error>) -> Self {
        errln!("{:#}", error.into());
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
        errln!("{}", warning.render(&path));
    }
    Ok(loaded)
}

/// Root works as the owner of the folder that the file at `path` lies in, as long as this is held.
pub(super) fn as_owner(path: &Path) -> Result<Option<Acting>, Exit> {
    Acting::as_owner_of_folder(path).map_err(|error| {
        errln!(
            "cannot work as the owner of the folder of {}: {error}",
            path.display()
        );
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
            errln!("{}", problem.render(path));
        }
        Exit::Configuration
    })
}

/// The keys of an installation, for a command that only reads.
pub(super) fn key_ring(config: &Config) -> Result<KeyRing, Exit> {
    app::key_ring_of_existing(config).map_err(|error| Exit::Configuration.after(error))
}

/// Who became root to run this command.
#[expect(
    clippy::disallowed_methods,
    reason = "who became root is no setting of the appliance"
)]
pub(super) fn sudo_user() -> Option<String> {
    std::env::var("SUDO_USER").ok()
}

/// Says why the running server did not do it, and how to end.
pub(super) fn refused(error: AskError) -> Exit {
    let exit = match &error {
        AskError::Refused(refusal) => match refusal.cause {
            RefusalCause::Request => Exit::Usage,
            RefusalCause::Busy => Exit::TryAgain,
            RefusalCause::Failed => Exit::Failed,
        },
        AskError::Nobody { .. } | AskError::Broken { .. } => Exit::TryAgain,
    };
    exit.after(error)
}

/// A runtime for commands that talk to the outside.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        // Within the unit's `TasksMax`; what waits for a file or the database takes its turn.
        .max_blocking_threads(256)
        .enable_all()
        .build()?)
}

/// How far a command has come, where somebody watches: on a terminal, and not with `-q`.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Begins at nothing of `total`.
    pub(super) fn start(global: &Global, total: u64, unit: &'static str) -> Self {
        if global.quiet > 0 || !io::stderr().is_terminal() {
            return Self(None);
        }
        let template =
            format!("{{bar:40}} {{human_pos}} of {{human_len}} {unit}, {{per_sec}}, {{eta}} left");
        let style = ProgressStyle::with_template(&template)
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar =
            ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        Self(Some(bar.with_style(style)))
    }

    pub(super) fn set(&self, done: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
        }
    }

    /// So much is to be done, as is known now.
    pub(super) fn set_total(&self, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
        }
    }

    pub(super) fn end(self) {
        if let Some(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}

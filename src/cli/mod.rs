//! The command line: every command parses its arguments, calls the library and turns the result into text or JSON and an exit code.

mod audit;
mod backup;
mod check_config;
mod completions;
mod demo;
mod doctor;
mod erase;
mod explain;
mod export;
mod init;
mod key;
mod man;
mod migrate;
mod offline;
mod output;
mod progress;
mod prune;
mod reload;
mod replay;
mod retry;
mod serve;
mod test_dialer;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::config::{self, Loaded};
use crate::files::Acting;

/// Answers the phone for Twilio: looks the caller up in Braze, picks a dialer, records why, connects the call.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, clap::Args)]
struct Global {
    /// The configuration file [default: `$SWITCHBOARD_CONFIG`, ./config.toml, /etc/switchboard/config.toml]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Say more (once: debug, twice: trace)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say less (once: warnings, twice: errors)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    quiet: u8,
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
    fn colors(&self) -> bool {
        let unwanted = std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
        !self.no_color && !unwanted && std::io::stderr().is_terminal()
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the appliance
    Serve,
    /// Run it against built-in stand-ins of every outside service, with callers
    Demo(demo::Arguments),
    /// Parse and validate the whole configuration file; print every problem
    CheckConfig,
    /// Ask the world whether the appliance can do its work; changes nothing
    Doctor(doctor::Arguments),
    /// Copy the database while it is in use; the copy is verified
    Backup(backup::Backup),
    /// Put a backup in place of the database
    Restore(backup::Restore),
    /// Forget one person; the audit log still verifies
    Erase(erase::Arguments),
    /// Show or change the version of the database schema
    Migrate(migrate::Arguments),
    /// Test the connection to a dialer; no call is placed
    TestDialer(test_dialer::Arguments),
    /// Have the running server try credentials again that a service refused
    Retry(retry::Arguments),
    /// What would happen to a caller, and why; no side effects
    Explain(explain::Arguments),
    /// Have the running server read its configuration and secrets again
    Reload(reload::Arguments),
    /// Execute recorded decisions again; any difference is an error
    Replay(replay::Arguments),
    /// Write a first configuration, with generated keys
    Init(Box<init::Arguments>),
    /// The tamper-evident trail: verify it, print its head
    Audit(audit::Arguments),
    /// Delete audit records past retention; beside a running server, that server does it
    Prune(prune::Arguments),
    /// Make API keys
    Key(key::Arguments),
    /// Print what a shell needs to complete this command line
    Completions(completions::Arguments),
    /// Print the manual page, as roff
    Man,
}

/// How a command ended; becomes the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
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
    fn after(self, error: impl Into<anyhow::Error>) -> Self {
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

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    keep_memory_private();
    let arguments = Arguments::parse();
    let ended = run(&arguments.command, &arguments.global);
    let exit = ended.or_else(anyhow::Error::downcast::<Exit>);
    exit.unwrap_or_else(|error| Exit::Failed.after(error))
        .into()
}

/// Secrets are in memory: no image of it comes to lie on the disk, and no other process of the same user reads it.
fn keep_memory_private() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let kept = setrlimit(Resource::Core, none)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = kept {
        output::complain(&format!("core dumps cannot be switched off: {error}"));
    }
}

fn run(command: &Command, global: &Global) -> anyhow::Result<Exit> {
    if let Command::Audit(_) | Command::Backup(_) | Command::Replay(_) = command {
        yield_to_calls();
    }
    match command {
        Command::Serve => serve::run(global),
        Command::Demo(arguments) => demo::run(arguments, global),
        Command::CheckConfig => check_config::run(global),
        Command::Doctor(arguments) => doctor::run(arguments, global),
        Command::Backup(arguments) => backup::run_backup(arguments, global),
        Command::Restore(arguments) => backup::run_restore(arguments, global),
        Command::Erase(arguments) => erase::run(arguments, global),
        Command::Migrate(arguments) => migrate::run(arguments, global),
        Command::TestDialer(arguments) => test_dialer::run(arguments, global),
        Command::Retry(arguments) => retry::run(arguments, global),
        Command::Explain(arguments) => explain::run(arguments, global),
        Command::Reload(arguments) => reload::run(arguments, global),
        Command::Replay(arguments) => replay::run(arguments, global),
        Command::Init(arguments) => init::run(arguments, global),
        Command::Prune(arguments) => prune::run(arguments, global),
        Command::Audit(arguments) => audit::run(arguments, global),
        Command::Key(arguments) => key::run(arguments, global),
        Command::Completions(arguments) => completions::run(arguments),
        Command::Man => man::run(),
    }
}

/// Loads the configuration, printing warnings; prints every problem and says how to end where it is refused.
fn load(global: &Global) -> Result<Loaded, Exit> {
    let path = config::find(global.config.as_deref());
    let loaded = or_said(&path, config::load(&path))?;
    for warning in &loaded.warnings {
        output::complain(&warning.render(&path));
    }
    Ok(loaded)
}

/// Root works as the owner of the folder that the file at `path` lies in, as long as this is held.
fn as_owner(path: &Path) -> Result<Option<Acting>, Exit> {
    Acting::as_owner_of_folder(path).map_err(|error| {
        output::complain(&format!(
            "cannot work as the owner of the folder of {}: {error}",
            path.display()
        ));
        Exit::Failed
    })
}

/// What was loaded; what is wrong with it is said.
fn or_said(path: &Path, loaded: Result<Loaded, config::Rejected>) -> Result<Loaded, Exit> {
    loaded.map_err(|rejected| {
        for problem in &rejected.problems {
            output::complain(&problem.render(path));
        }
        Exit::Configuration
    })
}

/// Work of this command comes after everything else on the machine: a server may be answering calls beside it.
fn yield_to_calls() {
    if let Err(error) = rustix::process::nice(19) {
        output::complain(&format!("cannot give way to other processes: {error}"));
    }
}

/// A runtime for commands that talk to the outside.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        // Within the unit's `TasksMax`; what waits for a file or the database takes its turn.
        .max_blocking_threads(256)
        .enable_all()
        .build()?)
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn the_memory_of_a_command_is_private() {
        keep_memory_private();
        let behavior = dumpable_behavior().unwrap();
        assert_eq!(behavior, DumpableBehavior::NotDumpable);
    }
}

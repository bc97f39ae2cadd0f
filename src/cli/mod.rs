//! The command line: every command parses its arguments, calls the library and turns the result into text or JSON and an exit code.

mod audit;
mod backup;
mod calls;
mod complete;
mod configuration;
mod demo;
mod dialers;
mod doctor;
mod drill;
mod erase;
mod explain;
mod export;
mod export_line;
mod frame;
mod init;
mod key;
mod lists;
mod migrate;
mod proof;
mod prune;
mod quiet;
mod reference;
mod replay;
mod rules;
mod secret;
mod serve;
mod simulate;
mod status;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use frame::{Exit, Global, errln};

/// Answers the phone for Twilio: looks the caller up in Braze, picks a dialer, records why, connects the call.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the appliance
    Serve,
    /// Run it against built-in stand-ins of every outside service, with callers
    Demo(demo::DemoArguments),
    /// Break one outside service after the other, all of them stand-ins, and tell what callers hear by this configuration
    Drill(drill::DrillArguments),
    /// Run one stand-in of the outside world by itself
    Simulate(simulate::SimulateArguments),
    /// Parse and validate the whole configuration file; print every problem
    CheckConfig,
    /// Ask the world whether the appliance can do its work; changes nothing
    Doctor(doctor::DoctorArguments),
    /// Copy the database while it is in use; the copy is verified
    Backup(backup::BackupArguments),
    /// Put a backup in place of the database
    Restore(backup::RestoreArguments),
    /// Forget one person; the audit log still verifies
    Erase(erase::EraseArguments),
    /// Show or change the version of the database schema
    Migrate(migrate::MigrateArguments),
    /// Test the connection to a dialer; no call is placed
    TestDialer(dialers::TestDialerArguments),
    /// Have the running server try credentials again that a service refused
    Retry(dialers::RetryArguments),
    /// Have the running server take a dialer out: it gets no new calls
    Drain(quiet::DrainArguments),
    /// Have the running server put a dialer back
    Resume {
        /// The dialer: its key under `[dialers]`
        dialer: String,
    },
    /// Have the running server tell nobody of incidents for a while
    Mute(quiet::MuteArguments),
    /// How the running server and its dialers are
    Status,
    /// The lists of callers: show one, put a number on it, take one off; asks the running server
    List(lists::ListArguments),
    /// Which calls came lately, and what became of them; changes nothing
    Calls(calls::CallsArguments),
    /// What would happen to a caller, and why; no side effects
    Explain(explain::ExplainArguments),
    /// Have the running server read its configuration and secrets again
    Reload(configuration::ReloadArguments),
    /// The versions of the rules: which were in force, what differs; publish others, go back
    Rules(rules::RulesArguments),
    /// Execute recorded decisions again; any difference is an error
    Replay(replay::ReplayArguments),
    /// Write a first configuration, with generated keys
    Init(Box<init::InitArguments>),
    /// The tamper-evident trail: verify it, print its head
    Audit(audit::AuditArguments),
    /// Delete audit records past retention; beside a running server, that server does it
    Prune(prune::PruneArguments),
    /// Make API keys
    Key(key::KeyArguments),
    /// Change the secret under which callers' data is sealed; beside a running server, that server does it
    Secret(secret::SecretArguments),
    /// Print what a shell needs to complete this command line
    Completions(reference::CompletionsArguments),
    /// Print the manual page, as roff
    Man,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    keep_memory_private();
    let arguments = CommandLine::parse();
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
        errln!("core dumps cannot be switched off: {error}");
    }
}

fn run(command: &Command, global: &Global) -> anyhow::Result<Exit> {
    if let Command::Audit(_) | Command::Backup(_) | Command::Replay(_) = command {
        yield_to_calls();
    }
    match command {
        Command::Serve => serve::run(global),
        Command::Demo(arguments) => demo::run(arguments, global),
        Command::Drill(arguments) => drill::run(arguments, global),
        Command::Simulate(arguments) => simulate::run(arguments, global),
        Command::CheckConfig => configuration::check(global),
        Command::Doctor(arguments) => doctor::run(arguments, global),
        Command::Backup(arguments) => backup::run_backup(arguments, global),
        Command::Restore(arguments) => backup::run_restore(arguments, global),
        Command::Erase(arguments) => erase::run(arguments, global),
        Command::Migrate(arguments) => migrate::run(arguments, global),
        Command::TestDialer(arguments) => dialers::test(arguments, global),
        Command::Retry(arguments) => dialers::retry(arguments, global),
        Command::Drain(arguments) => quiet::drain(arguments, global),
        Command::Resume { dialer } => quiet::resume(dialer, global),
        Command::Mute(arguments) => quiet::mute(arguments, global),
        Command::Status => status::run(global),
        Command::List(arguments) => lists::run(arguments, global),
        Command::Calls(arguments) => calls::run(arguments, global),
        Command::Explain(arguments) => explain::run(arguments, global),
        Command::Reload(arguments) => configuration::reload(arguments, global),
        Command::Rules(arguments) => rules::run(arguments, global),
        Command::Replay(arguments) => replay::run(arguments, global),
        Command::Init(arguments) => init::run(arguments, global),
        Command::Prune(arguments) => prune::run(arguments, global),
        Command::Audit(arguments) => audit::run(arguments, global),
        Command::Key(arguments) => key::run(arguments, global),
        Command::Secret(arguments) => secret::run(arguments, global),
        Command::Completions(arguments) => {
            reference::completions(arguments, CommandLine::command())
        }
        Command::Man => reference::man(CommandLine::command()),
    }
}

/// Work of this command comes after everything else on the machine: a server may be answering calls beside it.
fn yield_to_calls() {
    if let Err(error) = rustix::process::nice(19) {
        errln!("cannot give way to other processes: {error}");
    }
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

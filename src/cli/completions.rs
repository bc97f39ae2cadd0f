//! `switchboard completions`: what a shell needs to complete our command line.

use clap::Command;
use clap_complete::{Shell, generate};

use super::frame::Exit;
use super::output;

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArguments {
    /// Which shell
    shell: Shell,
}

pub(super) fn run(arguments: &CompletionsArguments, mut command: Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut command, "switchboard", &mut script);
    output::text(&String::from_utf8(script)?);
    Ok(Exit::Done)
}

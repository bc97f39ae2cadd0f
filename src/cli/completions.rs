//! `switchboard completions`: what a shell needs to complete our command line.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{Arguments as CommandLine, Exit, output};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Which shell
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    generate(
        arguments.shell,
        &mut CommandLine::command(),
        "switchboard",
        &mut script,
    );
    output::text(&String::from_utf8(script)?);
    Ok(Exit::Done)
}

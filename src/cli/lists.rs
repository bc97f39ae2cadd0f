//! `switchboard list`: which numbers are on a list of callers, putting one on it, taking one off. The running server does it.

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;

use super::erase::written_plainly;
use super::frame::{Exit, Global, load, outln, refused, sudo_user};
use crate::admin::{self, AddedEntry, ControlRequest, ListCommand, RemovedEntry, ShownList};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::flow::ListEntryDocument;
use crate::phone::E164;

#[derive(Debug, clap::Args)]
pub(super) struct ListArguments {
    #[command(subcommand)]
    command: ListSubcommand,
}

#[derive(Debug, clap::Subcommand)]
enum ListSubcommand {
    /// Show the numbers that were put on a list while the server runs
    Show {
        /// The list: its key under `[routing.lists]`
        name: String,
        /// Show the numbers in full; that it was done is recorded
        #[arg(long)]
        reveal: bool,
    },
    /// Put a number on a list; one that is there gets the reason and the end that are given now
    Add {
        /// The list: its key under `[routing.lists]`
        name: String,
        /// The number, with its country code
        #[arg(value_parser = number, allow_hyphen_values = true)]
        number: E164,
        /// Why; sealed with the number
        #[arg(long)]
        why: Option<String>,
        /// From then on it does not count any more: a time from now like 30d, or one like 2126-11-01T00:00:00Z
        #[arg(long, value_parser = moment_ahead)]
        until: Option<Timestamp>,
    },
    /// Take a number off a list
    Remove {
        /// The list: its key under `[routing.lists]`
        name: String,
        /// The number, with its country code
        #[arg(value_parser = number, allow_hyphen_values = true)]
        number: E164,
    },
}

fn number(text: &str) -> Result<E164, String> {
    E164::parse(&written_plainly(text)).map_err(|error| error.to_string())
}

fn moment_ahead(text: &str) -> Result<Timestamp, String> {
    let now = Clock::system().now();
    let ahead = || {
        let ahead = SignedDuration::try_from(config::parse_duration(text)?).ok()?;
        now.checked_add(ahead).ok()
    };
    let moment = text.parse().ok().or_else(ahead);
    moment.filter(|moment| *moment > now).ok_or_else(|| {
        "write a time from now like 30d, or a time in the future like 2126-11-01T00:00:00Z"
            .to_owned()
    })
}

pub(super) fn run(arguments: &ListArguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = load(global)?;
    match &arguments.command {
        ListSubcommand::Show { name, reveal } => {
            let reveal = *reveal;
            let shown = ask(&loaded.config, name, ListCommand::Show { reveal })?;
            global.print(&shown, print)?;
        }
        ListSubcommand::Add {
            name,
            number,
            why,
            until,
        } => {
            let action = ListCommand::Add {
                number: number.clone(),
                why: why.clone(),
                until: *until,
            };
            let added = ask(&loaded.config, name, action)?;
            global.print(&added, |added: &AddedEntry| {
                outln!("on {name}: {}", line(&added.entry));
            })?;
        }
        ListSubcommand::Remove { name, number } => {
            let action = ListCommand::Remove {
                number: number.clone(),
            };
            let removed = ask(&loaded.config, name, action)?;
            global.print(&removed, |_: &RemovedEntry| {
                outln!("off {name}: {}", number.masked());
            })?;
        }
    }
    Ok(Exit::Done)
}

/// Has the running server do it.
fn ask<T: DeserializeOwned>(config: &Config, list: &str, action: ListCommand) -> anyhow::Result<T> {
    let request = ControlRequest::List {
        list: list.to_owned(),
        action,
        sudo_user: sudo_user(),
    };
    let document = admin::ask(&config.storage.path, &request, |_| {}).map_err(refused)?;
    serde_json::from_value(document).context("the server's answer cannot be read")
}

fn print(ShownList { list, shown }: &ShownList) {
    let of_file = match &list.file {
        Some(file) => format!(" and {file}"),
        None => String::new(),
    };
    outln!(
        "{}: {} numbers in the configuration{of_file}, {} entries",
        list.name,
        list.numbers,
        list.entries
    );
    for entry in shown {
        outln!("  {}", line(entry));
    }
}

fn line(entry: &ListEntryDocument) -> String {
    let number = entry.number.as_deref().unwrap_or("[erased]");
    let until = entry.until.map(|until| format!(", until {until}"));
    let why = entry.why.as_ref().map(|why| format!(": {why}"));
    format!(
        "{number}, by {} at {}{}{}",
        entry.by,
        entry.created_at,
        until.unwrap_or_default(),
        why.unwrap_or_default()
    )
}

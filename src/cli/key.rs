//! `switchboard key new`: makes an API key.

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use super::frame::{Exit, Global, outln};
use crate::http::keys::{DrawnKey, Role};

#[derive(Debug, clap::Args)]
pub(super) struct KeyArguments {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// Make an API key: prints the key, once, and the lines of the configuration with its hash
    New {
        /// Who holds it; stands in the audit trail
        #[arg(long, value_parser = name)]
        name: String,
        /// What it may do
        #[arg(long)]
        role: Word,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Word {
    /// See and change everything
    Admin,
    /// See, take dialers out and put them back, try credentials again, change entries of lists
    Operator,
    /// See
    Viewer,
}

#[derive(Serialize)]
struct NewKey<'a> {
    name: &'a str,
    role: &'static str,
    key: &'a str,
    hash: &'a str,
}

/// What the configuration takes as a name.
fn name(text: &str) -> Result<String, &'static str> {
    let is_name =
        !text.trim().is_empty() && text.chars().count() <= 64 && !text.contains(char::is_control);
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("must be up to 64 characters without control characters")
    }
}

pub(super) fn run(arguments: &KeyArguments, global: &Global) -> anyhow::Result<Exit> {
    let KeyCommand::New { name, role } = &arguments.command;
    let role = match role {
        Word::Admin => Role::Admin,
        Word::Operator => Role::Operator,
        Word::Viewer => Role::Viewer,
    };
    let drawn = DrawnKey::draw().context("the system gives no random bytes")?;
    let new = NewKey {
        name,
        role: role.as_str(),
        key: &drawn.key,
        hash: &drawn.hash.to_hex(),
    };
    global.print(&new, |new| {
        outln!("Key, shown only now: {}", new.key);
        outln!("");
        outln!("{}", new.config_lines());
    })?;
    Ok(Exit::Done)
}

impl NewKey<'_> {
    /// The lines for the configuration file; they hold nothing secret.
    fn config_lines(&self) -> String {
        let Self {
            name, role, hash, ..
        } = self;
        let name = toml::Value::String((*name).to_owned());
        format!("[[auth.keys]]\nname = {name}\nrole = \"{role}\"\nhash = \"{hash}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_lines_are_a_key_of_the_configuration() {
        for name in ["ops", "a \"quoted\" name", "it's \\ mine"] {
            let hash = "0".repeat(64);
            let new = NewKey {
                name,
                role: "viewer",
                key: "swb_x",
                hash: &hash,
            };
            let parsed: toml::Table = toml::from_str(&new.config_lines()).unwrap();
            let key = &parsed["auth"]["keys"][0];
            assert_eq!(key["name"].as_str(), Some(name));
            assert_eq!(key["role"].as_str(), Some("viewer"));
            assert_eq!(key["hash"].as_str(), Some(hash.as_str()));
        }
    }

    #[test]
    fn a_name_that_the_configuration_refuses_is_refused_here() {
        assert!(name("ops").is_ok());
        for wrong in ["", " ", "a\nb", &"x".repeat(65)] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
    }
}

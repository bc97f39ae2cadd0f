//! `switchboard key`: makes an API key for the configuration, lists keys, revokes those that were made while the server runs.

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use super::frame::{Exit, Global, load, outln, refused, sudo_user};
use crate::admin::{self, ControlRequest};
use crate::flow::KeyDocument;
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
    /// List the keys: those of the configuration, and those that were made while the server runs
    List,
    /// Revoke a key that was made while the server runs; its sessions end
    Revoke {
        /// Who holds it
        name: String,
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
    let (name, role) = match &arguments.command {
        KeyCommand::New { name, role } => (name, role),
        KeyCommand::List => return list(None, global),
        KeyCommand::Revoke { name } => return list(Some(name), global),
    };
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

/// Lists the keys that are left, after one was revoked where that is asked for. The running server knows those that were made.
fn list(revoke: Option<&str>, global: &Global) -> anyhow::Result<Exit> {
    let config = load(global)?.config;
    let request = ControlRequest::Keys {
        revoke: revoke.map(ToOwned::to_owned),
        sudo_user: sudo_user(),
    };
    let made = admin::ask(&config.storage.path, &request, |_| {}).map_err(refused)?;
    let made: Vec<KeyDocument> =
        serde_json::from_value(made).context("the server's answer cannot be read")?;
    let of_file = config.auth.keys.iter().map(|key| KeyDocument {
        id: None,
        name: key.name.to_string(),
        role: key.role,
        by: None,
        created_at: None,
        used_at: None,
    });
    let keys: Vec<KeyDocument> = of_file.chain(made).collect();
    global.print(&keys, |keys| {
        for key in keys {
            let by = key.by.as_ref().map(|by| format!(", made by {by}"));
            let used = key.used_at.map(|at| format!(", last used {at}"));
            let (by, used) = (by.unwrap_or_default(), used.unwrap_or_default());
            outln!("{}: {}{by}{used}", key.name, key.role.as_str());
        }
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

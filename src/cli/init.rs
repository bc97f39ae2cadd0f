//! `switchboard init`: a first configuration. Writes a commented file, files for the secrets and a key for the dashboard; or the file of a second machine. Overwrites nothing.

mod answers;
mod place;
mod second;
mod template;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::frame::{Exit, Global, errln, outln};
use crate::config;
use crate::http::keys::{DrawnKey, Role};
use answers::Answers;
pub(super) use answers::InitArguments;
use place::InitPaths;

/// The name of the key that is made for the dashboard.
const KEY_NAME: &str = "ops";

#[derive(Serialize)]
struct Made<'a> {
    config: &'a Path,
    secrets: Vec<PathBuf>,
    /// Placeholders that are still to be replaced.
    to_do: Vec<String>,
    key: DrawnKeys<'a>,
}

#[derive(Serialize)]
struct DrawnKeys<'a> {
    name: &'static str,
    role: &'static str,
    key: &'a str,
    hash: String,
}

pub(super) fn run(arguments: &InitArguments, global: &Global) -> anyhow::Result<Exit> {
    if let Some(first) = &arguments.second {
        return second::run(first, arguments, global);
    }
    let config = global.config.clone().or_else(config::from_environment);
    let place = InitPaths::new(config.as_deref(), arguments.database.as_deref());
    if place.config.exists() {
        errln!(
            "{} is there already and stays as it is; name another file with --config, or move it away",
            place.config.display()
        );
        return Ok(Exit::Failed);
    }
    let may_ask = !arguments.yes && io::stdin().is_terminal();
    if !may_ask && !arguments.yes {
        errln!("there is no terminal to ask on: give --yes, and what is known as options");
        return Ok(Exit::Usage);
    }
    let answers = Answers::gather(arguments, &place, may_ask)?;
    let key = DrawnKey::draw().context("the system gives no random bytes")?;
    let text = answers.write(&place, KEY_NAME, &key.hash.to_hex());
    // Nothing is written that would be refused.
    let problems = answers.problems(&place);
    if !problems.is_empty() {
        for (key, message) in problems {
            errln!("{key}: {message}");
        }
        return Ok(Exit::Usage);
    }
    let secrets = place.write(&text, &answers.secrets())?;
    let made = Made {
        config: &place.config,
        secrets,
        to_do: answers.to_do(),
        key: DrawnKeys {
            name: KEY_NAME,
            role: Role::Admin.as_str(),
            key: &key.key,
            hash: key.hash.to_hex(),
        },
    };
    global.print(&made, Made::print)?;
    Ok(Exit::Done)
}

impl Made<'_> {
    fn print(&self) {
        errln!("wrote {}", self.config.display());
        for secret in &self.secrets {
            errln!("wrote {}", secret.display());
        }
        outln!(
            "Key {:?} for the dashboard and the API, shown only now: {}",
            self.key.name,
            self.key.key
        );
        for open in &self.to_do {
            errln!("still a placeholder: {open}");
        }
        errln!(
            "next: switchboard --config {0} check-config, switchboard --config {0} doctor, then start the service",
            self.config.display()
        );
    }
}

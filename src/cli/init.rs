//! `switchboard init`: a first configuration. Writes a commented file, files for the secrets and a key for the dashboard; overwrites nothing.

mod answers;
mod place;
mod template;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::{Exit, Global, output};
use crate::config;
use crate::http::keys::{DrawnKey, Role};
use answers::{Answers, Unanswered};
use place::Place;

/// The name of the key that is made for the dashboard.
const KEY_NAME: &str = "ops";

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Ask nothing: what is not given stays a placeholder, which is named at the end
    #[arg(long)]
    yes: bool,
    /// Address of this server as it will be typed in the Twilio console, like <https://calls.example.com>
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Address and port to listen on [default: 0.0.0.0:443 with a certificate, 127.0.0.1:8080 behind a proxy]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Get a certificate from Let's Encrypt, which writes to this mail address
    #[arg(long, value_name = "MAIL", conflicts_with = "certificate")]
    acme_contact: Option<String>,
    /// Certificate with its intermediates, PEM
    #[arg(long, value_name = "FILE", requires = "private_key")]
    certificate: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    private_key: Option<PathBuf>,
    /// Database file [default: /var/lib/switchboard/switchboard.db for a configuration in /etc/switchboard, else beside it]
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
    /// Account SID from the Twilio console
    #[arg(long, value_name = "SID")]
    twilio_account_sid: Option<String>,
    /// File with Twilio's auth token
    #[arg(long, value_name = "FILE")]
    twilio_auth_token: Option<PathBuf>,
    /// REST endpoint of your Braze instance
    #[arg(long, value_name = "URL")]
    braze_url: Option<String>,
    /// File with the Braze API key
    #[arg(long, value_name = "FILE")]
    braze_api_key: Option<PathBuf>,
    /// Inbound line of Dialfire: a number or a sip: address
    #[arg(long, value_name = "LINE")]
    dialfire_connect: Option<String>,
    /// Campaign of Dialfire
    #[arg(long, value_name = "ID", requires = "dialfire_connect")]
    dialfire_campaign: Option<String>,
    /// Task of that campaign
    #[arg(long, value_name = "NAME", requires = "dialfire_connect")]
    dialfire_task: Option<String>,
    /// File with the token of that campaign
    #[arg(long, value_name = "FILE", requires = "dialfire_connect")]
    dialfire_token: Option<PathBuf>,
    /// Line of Zendesk Talk: a number or a sip: address
    #[arg(long, value_name = "LINE")]
    zendesk_connect: Option<String>,
    /// What stands before .zendesk.com
    #[arg(long, value_name = "NAME", requires = "zendesk_connect")]
    zendesk_subdomain: Option<String>,
    /// Agent that the API token of Zendesk acts as
    #[arg(long, value_name = "MAIL", requires = "zendesk_connect")]
    zendesk_email: Option<String>,
    /// File with the API token of Zendesk
    #[arg(long, value_name = "FILE", requires = "zendesk_connect")]
    zendesk_api_token: Option<PathBuf>,
    /// Number that is dialed when all else fails
    #[arg(long, value_name = "NUMBER")]
    last_resort: Option<String>,
    /// Who is told of incidents; may be repeated
    #[arg(long, value_name = "MAIL", requires = "smtp")]
    alert_to: Vec<String>,
    /// Sender of these mails
    #[arg(long, value_name = "MAIL", requires = "alert_to")]
    alert_from: Option<String>,
    /// Mail server, like <smtps://mail.example.com:465>
    #[arg(long, value_name = "URL", requires = "alert_to")]
    smtp: Option<String>,
    /// Login at the mail server
    #[arg(
        long,
        value_name = "NAME",
        requires = "smtp",
        requires = "smtp_password"
    )]
    smtp_username: Option<String>,
    /// File with the password of that login
    #[arg(long, value_name = "FILE", requires = "smtp_username")]
    smtp_password: Option<PathBuf>,
}

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

pub(super) fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<Exit> {
    let place = Place::new(global.config.as_deref(), arguments.database.as_deref());
    if place.config.exists() {
        output::complain(&format!(
            "{} is there already and stays as it is; name another file with --config, or move it away",
            place.config.display()
        ));
        return Ok(Exit::Failed);
    }
    let may_ask = !arguments.yes && io::stdin().is_terminal();
    let answers = match Answers::gather(arguments, may_ask) {
        Ok(answers) => answers,
        Err(Unanswered::Nobody) => {
            output::complain(
                "there is no terminal to ask on: give --yes, and what is known as options",
            );
            return Ok(Exit::Usage);
        }
        Err(Unanswered::Failed(error)) => return Err(error),
    };
    let key = DrawnKey::draw().context("the system gives no random bytes")?;
    let text = answers.write(&place, KEY_NAME, &key.hash.to_hex());
    // Nothing is written that would be refused.
    let context = config::Context::in_directory(place.directory()).without_secrets();
    if let Err(rejected) = config::parse(&text, &context) {
        for problem in rejected.problems.iter().filter(|found| found.is_error()) {
            output::complain(&format!("{}: {}", problem.key, problem.message));
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
    if global.json {
        output::document(&made)?;
    } else {
        made.print();
    }
    Ok(Exit::Done)
}

impl Made<'_> {
    fn print(&self) {
        output::complain(&format!("wrote {}", self.config.display()));
        for secret in &self.secrets {
            output::complain(&format!("wrote {}", secret.display()));
        }
        output::line(&format!(
            "Key {:?} for the dashboard and the API, shown only now: {}",
            self.key.name, self.key.key
        ));
        for open in &self.to_do {
            output::complain(&format!("still a placeholder: {open}"));
        }
        output::complain(&format!(
            "next: switchboard --config {0} check-config, switchboard --config {0} doctor, then start the service",
            self.config.display()
        ));
    }
}

//! `switchboard doctor`: asks the world whether the appliance can do its work. Nothing is changed, no call is placed, and mail is
//! sent only where that is asked for.

mod finding;
mod here;
mod outside;
mod signature;

use super::frame::{Exit, Global, load, runtime};
use crate::config::Loaded;
use finding::{Finding, conclude};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct DoctorArguments {
    /// Ask nobody outside this machine
    #[arg(long)]
    offline: bool,
    /// Send a test mail to everybody who is told of incidents by mail
    #[arg(long, conflicts_with = "offline")]
    test_mail: bool,
    #[command(subcommand)]
    about: Option<Subject>,
}

#[derive(Debug, clap::Subcommand)]
enum Subject {
    /// Say why a webhook of Twilio's was refused: which URL, host, query or token its signature was made with
    Signature(signature::SignatureArguments),
}

pub(super) fn run(arguments: &DoctorArguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = load(global)?;
    let config = &loaded.config;
    if let Some(Subject::Signature(arguments)) = &arguments.about {
        return signature::run(arguments, config, global);
    }
    let mut findings = vec![configuration(&loaded)];
    let server = here::server(config);
    let is_running = server.is_some();
    findings.extend(here::findings(config, server.as_ref())?);
    if !arguments.offline {
        findings.extend(runtime()?.block_on(outside::findings(config, is_running))?);
    }
    if arguments.test_mail {
        findings.push(runtime()?.block_on(outside::test_mail(config))?);
    }
    conclude(findings, global)
}

fn configuration(loaded: &Loaded) -> Finding {
    let check = "configuration";
    match loaded.warnings.len() {
        0 => Finding::well(check, "every key can be used"),
        n => Finding::warning(
            check,
            format!("every key can be used; {n} deserve a look"),
            "`check-config` shows them with their lines",
        ),
    }
}

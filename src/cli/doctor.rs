//! `switchboard doctor`: asks the world whether the appliance can do its work. Nothing is changed, no call is placed, and mail is
//! sent only where that is asked for.

mod finding;
mod here;
mod outside;
mod signature;

use serde::Serialize;

use super::{Exit, Global, load, output, runtime};
use finding::{Finding, Severity};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
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
    Signature(signature::Arguments),
}

#[derive(Debug, Serialize)]
struct DoctorRun {
    ok: bool,
    findings: Vec<Finding>,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = match load(global) {
        Ok(loaded) => loaded,
        Err(exit) => return Ok(exit),
    };
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

fn configuration(loaded: &crate::config::Loaded) -> Finding {
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

/// Prints the findings, and says how to end: what could only not be asked now is worth another try.
fn conclude(findings: Vec<Finding>, global: &Global) -> anyhow::Result<Exit> {
    let errors = || {
        let graver = findings.iter();
        graver.filter(|finding| finding.severity == Severity::Error)
    };
    let exit = if errors().next().is_none() {
        Exit::Done
    } else if errors().all(|finding| finding.is_temporary) {
        Exit::TryAgain
    } else {
        Exit::Failed
    };
    if global.json {
        output::document(&DoctorRun {
            ok: exit == Exit::Done,
            findings,
        })?;
    } else {
        for finding in &findings {
            finding.print();
        }
        let count = |severity| {
            let found = findings.iter();
            found.filter(|finding| finding.severity == severity).count()
        };
        output::line(&format!(
            "{} checks: {} errors, {} warnings",
            findings.len(),
            count(Severity::Error),
            count(Severity::Warning)
        ));
    }
    Ok(exit)
}

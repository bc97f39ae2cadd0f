//! `switchboard doctor signature`: why a webhook was refused. Says which variant of the request its signature was made over, and never what
//! the signature should have been.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use serde_json::Value;

use super::finding::{Finding, conclude};
use crate::admin::{self, ControlRequest};
use crate::app;
use crate::cli::frame::{Exit, Global, errln};
use crate::config::Config;
use crate::twilio::{Form, Hosts, KeyUsed, Pasted, SignedRequest};

/// No pasted request is longer.
const LONGEST: u64 = 256 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct SignatureArguments {
    /// A file with the request as Twilio's request inspector or a proxy's log shows it, `-` for standard input: the URL or request line,
    /// header lines, an empty line, then the body or one parameter a line. Without a file: what the running server refused last
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The URL that Twilio asked for, where it is not in the file
    #[arg(long)]
    url: Option<String>,
    /// The value of X-Twilio-Signature, where it is not in the file
    #[arg(long)]
    signature: Option<String>,
}

pub(super) fn run(
    arguments: &SignatureArguments,
    config: &Config,
    global: &Global,
) -> anyhow::Result<Exit> {
    let is_pasted = arguments.file.is_some() || arguments.url.is_some();
    if !is_pasted && (io::stdin().is_terminal() || !has_input()) {
        return refused_last(config, global);
    }
    let text = match read(arguments) {
        Ok(text) => text,
        Err(error) => {
            errln!("the request cannot be read: {error}");
            return Ok(Exit::Usage);
        }
    };
    let mut pasted = Pasted::read(&text);
    if let Some(url) = &arguments.url {
        pasted.set_url(url);
    }
    if let Some(signature) = &arguments.signature {
        signature.trim().clone_into(&mut pasted.signature);
    }
    if pasted.target.is_empty() || pasted.signature.is_empty() {
        errln!(
            "a URL and an X-Twilio-Signature are needed: in the text, or with --url and --signature"
        );
        return Ok(Exit::Usage);
    }
    conclude(vec![explain(&pasted, config)?], global)
}

fn read(arguments: &SignatureArguments) -> io::Result<String> {
    let mut text = String::new();
    match arguments.file.as_deref() {
        Some(path) if path.as_os_str() != "-" => {
            fs::File::open(path)?
                .take(LONGEST)
                .read_to_string(&mut text)?;
        }
        None if arguments.signature.is_some() && io::stdin().is_terminal() => {}
        Some(_) | None => {
            io::stdin().take(LONGEST).read_to_string(&mut text)?;
        }
    }
    Ok(text)
}

/// Whether something may come over standard input: not where it is closed or nothing.
fn has_input() -> bool {
    let stdin = rustix::fs::fstat(io::stdin());
    stdin.is_ok_and(|found| {
        let kind = rustix::fs::FileType::from_raw_mode(found.st_mode);
        kind != rustix::fs::FileType::CharacterDevice
    })
}

fn explain(pasted: &Pasted, config: &Config) -> anyhow::Result<Finding> {
    let check = "signature";
    let verifier = app::edge(config)?.verifier;
    let form = Form::parse(pasted.body.as_bytes());
    let request = SignedRequest {
        path_and_query: &pasted.target,
        signature: Some(pasted.signature.as_bytes()),
        settings: pasted.settings.as_deref().map(str::as_bytes),
        content_type: pasted.content_type(),
        body: pasted.body.as_bytes(),
        form: &form,
    };
    let error = match verifier.verify(&request) {
        Ok(KeyUsed::AuthToken(0)) => return Ok(Finding::well(check, "the signature is right")),
        Ok(KeyUsed::AuthToken(idx)) => {
            let message = format!("the signature is right, by token {} of auth_token", idx + 1);
            let hint = "Twilio still signs with an older token: promote the new one in the console";
            return Ok(Finding::warning(check, message, hint));
        }
        Ok(KeyUsed::SharedKey(id)) => {
            let message = format!("the signature is right, by the shared key {id}");
            return Ok(Finding::well(check, message));
        }
        Err(error) => error,
    };
    let hosts = Hosts {
        host: pasted.host.as_deref(),
        forwarded: None,
    };
    let diagnosis = verifier.diagnose(&request, &hosts, error);
    let account = form.text("AccountSid").unwrap_or_default();
    let twilio = &config.twilio;
    let is_ours =
        account == twilio.account_sid || twilio.subaccounts.iter().any(|one| *one == account);
    let is_explained = !diagnosis.would_match.is_empty();
    let hint = match diagnosis.remedy() {
        _ if !is_explained && !is_ours && !account.is_empty() => {
            format!(
                "[twilio] account_sid, subaccounts and auth_token: the webhook is of {account}, which is none of them"
            )
        }
        remedy => remedy.to_owned(),
    };
    Ok(Finding::error(check, diagnosis.to_string(), hint))
}

/// What the running server has refused and looked into.
fn refused_last(config: &Config, global: &Global) -> anyhow::Result<Exit> {
    let check = "signature";
    let request = ControlRequest::RejectedWebhooks;
    let findings = match admin::ask(&config.storage.path, &request, |_| {}) {
        Ok(document) => match document.get("rejected").and_then(Value::as_array) {
            Some(rejected) if !rejected.is_empty() => rejected
                .iter()
                .map(|one| {
                    let text = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default();
                    let [at, path, reason, why] = ["at", "path", "reason", "why"].map(text);
                    let message = format!("{at} {path} {reason}: {why}");
                    let hint = "paste a refused request to look closer: doctor signature FILE";
                    Finding::error(check, message, hint)
                })
                .collect(),
            Some(_) | None => {
                let message = "the running server has refused nothing";
                vec![Finding::well(check, message)]
            }
        },
        Err(admin::AskError::Nobody { .. }) => {
            errln!(
                "no server runs here: give the request as a file or on standard input (see doctor signature --help)"
            );
            return Ok(Exit::Usage);
        }
        Err(error) => {
            let why = format!("{:#}", anyhow::Error::from(error));
            let hint = "run this as the user of the server or as root";
            vec![Finding::error(check, why, hint).for_now()]
        }
    };
    conclude(findings, global)
}

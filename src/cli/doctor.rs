//! `switchboard doctor`: asks the world whether the appliance can do its work. Nothing is changed, and no call is placed.

use serde::Serialize;

use super::{Exit, Global, load, output, runtime};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::store::migrate;

#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Ask nobody outside this machine
    #[arg(long)]
    offline: bool,
}

/// The `--json` document.
#[derive(Debug, Serialize)]
struct Examination {
    ok: bool,
    findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    severity: Severity,
    message: String,
    hint: Option<&'static str>,
    line: Option<usize>,
    column: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Severity {
    Ok,
    Warning,
    Error,
}

impl Severity {
    fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok     ",
            Self::Warning => "warning",
            Self::Error => "ERROR  ",
        }
    }
}

impl Finding {
    fn well(check: &str, message: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            severity: Severity::Ok,
            message: message.into(),
            hint: None,
            line: None,
            column: None,
        }
    }

    fn wrong(severity: Severity, check: &str, message: String, hint: &'static str) -> Self {
        Self {
            severity,
            hint: Some(hint),
            ..Self::well(check, message)
        }
    }
}

pub(super) fn run(arguments: Arguments, global: &Global) -> anyhow::Result<Exit> {
    let loaded = match load(global) {
        Ok(loaded) => loaded,
        Err(exit) => return Ok(exit),
    };
    let config = &loaded.config;
    let mut findings = vec![
        Finding::well("configuration", "every key can be used"),
        database(config),
        lost_callbacks(config)?,
    ];
    if !arguments.offline {
        findings.extend(runtime()?.block_on(outside(config))?);
    }
    let ok = findings.iter().all(|f| f.severity != Severity::Error);
    if global.json {
        output::document(&Examination { ok, findings })?;
    } else {
        findings.iter().for_each(print);
    }
    Ok(if ok { Exit::Done } else { Exit::Failed })
}

fn print(finding: &Finding) {
    let mark = finding.severity.mark();
    output::line(&format!("{mark} {}: {}", finding.check, finding.message));
    if let Some(hint) = finding.hint {
        output::line(&format!("        {hint}"));
    }
}

fn database(config: &Config) -> Finding {
    let check = "database";
    match migrate::status(&config.storage.path) {
        Ok(status) if status.pending.is_empty() => {
            Finding::well(check, format!("schema {}", status.current))
        }
        Ok(status) => Finding::wrong(
            Severity::Warning,
            check,
            format!("schema {} of {}", status.current, status.latest),
            "`serve` brings it up to date at its start, after a backup; so does `migrate up`",
        ),
        Err(error) => Finding::wrong(
            Severity::Error,
            check,
            format!("{:#}", anyhow::Error::from(error)),
            "restore a backup, or set `[storage] path` to the right file",
        ),
    }
}

/// Whether Twilio can be asked what became of a call whose callbacks were lost.
fn lost_callbacks(config: &Config) -> anyhow::Result<Finding> {
    let check = "lost callbacks";
    Ok(match app::rest(config, &Clock::system())?.can_ask() {
        Ok(()) => Finding::well(check, "Twilio can be asked what became of a call"),
        Err(why) => Finding::wrong(
            Severity::Warning,
            check,
            format!("{why}: a call whose callbacks are lost stays open for hours"),
            "set `auth_token`, or `api_key_sid` and `api_key_secret`, under [twilio]",
        ),
    })
}

/// Braze, and every dialer.
async fn outside(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let clock = Clock::system();
    let probe = app::braze(config, &clock)?.probe().await;
    let mut findings = vec![if probe.ok {
        Finding::well("braze", probe.message)
    } else {
        let hint = "check `base_url`, and that `api_key` has the permission users.export.ids";
        Finding::wrong(Severity::Error, "braze", probe.message, hint)
    }];
    for dialer in app::dialers_without_callers(config, &clock)? {
        let report = dialer.test().await;
        for check in report.checks {
            let name = format!("{} {}", report.dialer, check.name);
            findings.push(if check.ok {
                Finding::well(&name, check.message)
            } else {
                let hint = "`test-dialer` asks this dialer alone";
                Finding::wrong(Severity::Error, &name, check.message, hint)
            });
        }
    }
    Ok(findings)
}

//! `switchboard audit`: the tamper-evident trail, as an auditor uses it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::frame::{Bar, Exit, Global, as_owner, errln, key_ring, load, outln, runtime};
use crate::app;
use crate::audit::{PublicKey, SignedTreeHead, VerifyReport};
use crate::clock::Clock;
use crate::store::verify::{self, Against, Installation, Verification};
use crate::store::{self, OpenError, Options, Store};

#[derive(Debug, clap::Args)]
pub(super) struct AuditArguments {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuditCommand {
    /// Verify that no record was altered, removed or added since it was written
    Verify(Verify),
    /// Print the records as JSON lines or CSV
    Export(super::export::ExportArguments),
    /// Compare the log with Twilio's list of calls, and record what is missing
    Complete(super::complete::CompleteArguments),
    /// Print the end of the log as it was signed; kept elsewhere, it is the anchor of a later verification
    Head(Where),
    /// After an older database was put back on purpose: go on from it
    AcceptRollback,
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// What `audit head --json` printed earlier; the log must go on from there
    #[arg(long, value_name = "FILE")]
    anchor: Option<PathBuf>,
    /// The public key whose signatures count [default: that of the anchor]. The one beside the database is compared with the log, and not trusted
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Verify what `audit export --proof` wrote, in place of a database; no configuration is read then
    #[arg(long, value_name = "FILE", conflicts_with = "database")]
    export: Option<PathBuf>,
    #[command(flatten)]
    at: Where,
}

#[derive(Debug, clap::Args)]
struct Where {
    /// The database file; no configuration is read then
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
}

impl Where {
    fn path(&self, global: &Global) -> Result<PathBuf, Exit> {
        match &self.database {
            Some(path) => Ok(path.clone()),
            None => load(global).map(|loaded| loaded.config.storage.path),
        }
    }
}

pub(super) fn run(arguments: &AuditArguments, global: &Global) -> anyhow::Result<Exit> {
    match &arguments.command {
        AuditCommand::Verify(arguments) => run_verify(arguments, global),
        AuditCommand::Export(arguments) => super::export::run(arguments, global),
        AuditCommand::Complete(arguments) => super::complete::run(arguments, global),
        AuditCommand::Head(at) => run_head(at, global),
        AuditCommand::AcceptRollback => run_accept(global),
    }
}

fn run_verify(arguments: &Verify, global: &Global) -> anyhow::Result<Exit> {
    let anchor = arguments.anchor.as_deref().map(read_anchor).transpose()?;
    let given = arguments.public_key.as_deref().map(read_key).transpose()?;
    if let Some(file) = &arguments.export {
        let report = super::proof::verify(file, given, anchor, global)?;
        global.print(&report, print)?;
        return Ok(Exit::of_check(report.ok));
    }
    let (database, config) = if let Some(database) = &arguments.at.database {
        (database.clone(), None)
    } else {
        let config = load(global)?.config;
        (config.storage.path.clone(), Some(config))
    };
    let _acting = as_owner(&database)?;
    let installation = match &config {
        Some(config) => Some(Installation {
            key_ring: key_ring(config)?,
            now: Clock::system().now(),
            is_in_place: true,
            is_secret_elsewhere: config.storage.secret.is_some(),
        }),
        None => beside(&database),
    };
    let beside = app::public_key_path(&database);
    let key_beside = beside.exists().then(|| read_key(&beside)).transpose()?;
    let against = Against {
        key: given.or_else(|| {
            let anchor = anchor.as_ref()?;
            PublicKey::from_line(&anchor.public_key)
        }),
        key_beside,
        anchor,
        installation,
        database,
    };
    let verification = Verification::open(against).map_err(|error| Exit::Failed.after(error))?;
    let bar = Bar::start(global, verification.progress().of, "records");
    let report = verification.run(|verified| bar.set(verified.records))?;
    bar.end();
    global.print(&report, print)?;
    Ok(Exit::of_check(report.ok))
}

/// The installation whose secret lies beside a copy, where that can be read. It tells of rows that are not what was written; its word for a key
/// counts for nothing, since it lies in the same folder.
fn beside(database: &Path) -> Option<Installation> {
    Some(Installation {
        key_ring: app::key_ring_beside(database)?,
        now: Clock::system().now(),
        is_in_place: false,
        is_secret_elsewhere: false,
    })
}

fn read_key(path: &Path) -> anyhow::Result<PublicKey> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    PublicKey::from_line(&text).with_context(|| {
        format!(
            "{} holds no public key; one is written as switchboard-audit/<log id>+<key id>+<key>",
            path.display()
        )
    })
}

fn read_anchor(path: &Path) -> anyhow::Result<SignedTreeHead> {
    store::read_head(path)
        .with_context(|| format!("{} holds no head of an audit log", path.display()))?
        .with_context(|| format!("there is no file {}", path.display()))
}

fn print(report: &VerifyReport) {
    for finding in &report.findings {
        outln!("{}: {}", finding.kind, finding.message);
    }
    if report.not_listed > 0 {
        outln!("and {} findings more", report.not_listed);
    }
    for remark in &report.remarks {
        errln!("{remark}");
    }
    let verdict = if report.ok {
        "nothing is wrong"
    } else {
        "it was tampered with, or is damaged"
    };
    outln!(
        "{} records of log {}, which is signed up to record {}: {verdict}",
        report.records,
        report.log_id,
        report.signed
    );
}

fn run_head(at: &Where, global: &Global) -> anyhow::Result<Exit> {
    let database = at.path(global)?;
    let _acting = as_owner(&database)?;
    let signed = verify::signed_head(&database).map_err(|error| Exit::Failed.after(error))?;
    let Some(signed) = signed else {
        errln!("nothing in this log is signed yet, or the newest checkpoint does not hold");
        return Ok(Exit::Failed);
    };
    if signed.unsigned > 0 {
        errln!("{} records after it are not signed yet", signed.unsigned);
    }
    global.print(&signed.head, |head| {
        outln!("log       {}", head.log_id);
        outln!("records   {}", head.records);
        outln!("head      {}", head.head);
        if let Some(at) = head.at {
            outln!("at        {at}");
        }
        outln!("signature {}", head.signature);
        outln!("key       {}", head.public_key);
    })?;
    Ok(Exit::Done)
}

/// The database cannot be opened to write; where another process does, it may later.
pub(super) fn not_opened(error: OpenError) -> Exit {
    if matches!(error, OpenError::InUse { .. }) {
        Exit::TryAgain.after(error)
    } else {
        Exit::Failed.after(error)
    }
}

fn run_accept(global: &Global) -> anyhow::Result<Exit> {
    let config = load(global)?.config;
    let _acting = as_owner(&config.storage.path)?;
    let key_ring = app::key_ring_of_existing(&config)?;
    let options = Options::new(&config.storage.path, Clock::system(), key_ring).unhurried();
    let store = Store::open(&options).map_err(not_opened)?;
    let accepted = runtime()?.block_on(async {
        let accepted = store.accept_rollback().await;
        store.close().await;
        accepted
    });
    match accepted.context("cannot accept")? {
        Some(given_up) => outln!(
            "the head of {} records is given up; the log goes on from what the database holds",
            given_up.records
        ),
        None => outln!("there is no head beside the database: nothing to accept"),
    }
    Ok(Exit::Done)
}

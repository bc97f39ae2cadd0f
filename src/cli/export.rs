//! `switchboard audit export`: the audit records as lines, for other programs. One page is in memory at a time.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};

use super::erase::written_plainly;
use super::export_line::{ExportFormat, ExportLine};
use super::frame::{Bar, Exit, Global, as_owner, errln, key_ring, load, refused, runtime};
use super::proof::{self, Selection};
use crate::admin::{self, AskError, ControlRequest};
use crate::app;
use crate::audit::Exported;
use crate::call::CallId;
use crate::clock::Clock;
use crate::config;
use crate::phone::Caller;
use crate::store::{LogReader, StoredRecord, verify};

#[derive(Debug, clap::Args)]
pub(super) struct ExportArguments {
    /// JSON, a record a line; or comma-separated values
    #[arg(long, value_enum)]
    format: ExportFormat,
    /// Records at or after this: an age like 24h, or a time like 2026-11-01T00:00:00Z
    #[arg(long, value_parser = moment)]
    since: Option<Timestamp>,
    /// Records before this
    #[arg(long, value_parser = moment)]
    until: Option<Timestamp>,
    /// Records of this call only
    #[arg(long, value_parser = call_id)]
    call: Option<CallId>,
    /// Records of all calls of this person only: a number with its country code, or a SIP address as calls bring it
    #[arg(
        long,
        value_name = "NUMBER",
        allow_hyphen_values = true,
        conflicts_with = "call"
    )]
    caller: Option<String>,
    /// Show callers' numbers and what they were answered; that it was done is recorded
    #[arg(long)]
    reveal: bool,
    /// Prove that each record is in the log under its signed end, for `audit verify --export`; what is not signed yet is left out. Without --output, the lines are those of the proof, which hold the records as they are stored; with it, the proof is a file beside it
    #[arg(long)]
    proof: bool,
    /// Write a new file and not stdout; of november.csv, the proof is november.proof.jsonl
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    config::parse_duration(text)
        .and_then(|age| SignedDuration::try_from(age).ok())
        .and_then(|age| Clock::system().now().checked_sub(age).ok())
        .ok_or_else(|| {
            "write an age like 24h or 7d, or a time like 2026-11-01T00:00:00Z".to_owned()
        })
}

pub(super) fn call_id(text: &str) -> Result<CallId, String> {
    CallId::parse(text).map_err(|_| "this is no id of a call".to_owned())
}

pub(super) fn run(arguments: &ExportArguments, global: &Global) -> anyhow::Result<Exit> {
    if let (Some(since), Some(until)) = (arguments.since, arguments.until)
        && since >= until
    {
        errln!(
            "no record can be at or after --since and before --until: --since is not the earlier one"
        );
        return Ok(Exit::Usage);
    }
    let caller = arguments.caller.as_deref().map(written_plainly);
    let caller = caller.map(|caller| Caller::classify(&caller));
    if let Some(Caller::Withheld | Caller::Unreadable(_)) = caller {
        errln!("this is no number: write it as +4930123456");
        return Ok(Exit::Usage);
    }
    if arguments.proof && arguments.format == ExportFormat::Csv && arguments.output.is_none() {
        errln!("--proof goes with --format jsonl, or with --output FILE");
        return Ok(Exit::Usage);
    }
    let loaded = load(global)?;
    let path = &loaded.config.storage.path;
    // The socket tells the server who asks: that is asked as root.
    let acting = as_owner(path)?;
    let key_ring = key_ring(&loaded.config)?;
    let log = LogReader::open(path, key_ring).map_err(|error| Exit::Failed.after(error))?;
    drop(acting);
    let theirs = match &caller {
        Some(caller) => Some(RecordsOfPerson {
            calls: log.calls_of(caller)?,
            list_changes: log.list_changes_of(caller)?,
        }),
        None => None,
    };
    if let (Some(caller), Some(theirs)) = (&caller, &theirs)
        && theirs.is_empty()
    {
        errln!("nothing of {} is recorded", caller.masked());
        return Ok(Exit::Failed);
    }
    if arguments.reveal {
        record(arguments, caller.as_ref(), &loaded.config)?;
    }
    let written = if arguments.proof {
        write_proof(arguments, global, &log, path, theirs)
    } else if let Some(theirs) = &theirs {
        write_person(arguments, &log, theirs)
    } else {
        write(arguments, global, &log)
    };
    match written {
        Ok(()) => Ok(Exit::Done),
        // Whoever read it has read enough.
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Done),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes into the log that numbers leave it. Where that cannot be, nothing is to be exported.
fn record(
    arguments: &ExportArguments,
    caller: Option<&Caller>,
    config: &config::Config,
) -> anyhow::Result<()> {
    let exported = Exported {
        user: rustix::process::getuid().as_raw(),
        format: match arguments.format {
            ExportFormat::Jsonl => "jsonl".to_owned(),
            ExportFormat::Csv => "csv".to_owned(),
        },
        since: arguments.since,
        until: arguments.until,
        call: arguments.call.as_ref().map(|call| call.as_str().to_owned()),
        caller: caller.map(Caller::masked),
    };
    let request = ControlRequest::RecordExport {
        exported: exported.clone(),
    };
    match admin::ask(&config.storage.path, &request, |_| {}) {
        Ok(_) => Ok(()),
        Err(AskError::Nobody { .. }) => {
            let _acting = as_owner(&config.storage.path)?;
            let store = app::store(config, &Clock::system()).map_err(super::serve::refuse)?;
            runtime()?.block_on(async {
                let recorded = store.record_export(exported).await;
                store.close().await;
                recorded
            })?;
            Ok(())
        }
        Err(error) => Err(refused(error).into()),
    }
}

/// What the log holds of one person.
struct RecordsOfPerson {
    /// The rows of their calls, in order.
    calls: Vec<i64>,
    /// Their being put on lists and taken off them, in order.
    list_changes: Vec<StoredRecord>,
}

impl RecordsOfPerson {
    fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.list_changes.is_empty()
    }
}

/// Writes records with their proof; of one person, where that is asked.
fn write_proof(
    arguments: &ExportArguments,
    global: &Global,
    log: &LogReader,
    database: &Path,
    person: Option<RecordsOfPerson>,
) -> anyhow::Result<()> {
    let (to, beside): (Box<dyn Write>, _) = match &arguments.output {
        Some(path) => {
            let output = Output::new(arguments)?;
            (create(&proof::beside(path))?, Some(output))
        }
        None => (Box::new(BufWriter::new(io::stdout())), None),
    };
    let _acting = as_owner(database)?;
    let end = verify::signed_head(database)?
        .context("nothing in this log is signed yet, so nothing can be proven")?;
    let chosen = match (&arguments.call, person) {
        (Some(call), _) => Some((log.row_of(call)?.into_iter().collect(), Vec::new())),
        (
            None,
            Some(RecordsOfPerson {
                calls,
                list_changes,
            }),
        ) => {
            let changes = list_changes.iter().map(|record| record.id);
            Some((calls, changes.collect()))
        }
        (None, None) => None,
    };
    let ms = Timestamp::as_millisecond;
    let since = arguments.since.map_or(i64::MIN, ms);
    let made_at = since..arguments.until.map_or(i64::MAX, ms);
    let selection = match chosen {
        Some((calls, records)) => Selection::Chosen {
            calls,
            records,
            made_at,
        },
        None => Selection::Span(log.span(&made_at)?),
    };
    if end.unsigned > 0 {
        let unsigned = end.unsigned;
        errln!("{unsigned} records at the end of the log are not signed yet");
    }
    let reveal = arguments.reveal;
    let beside = beside.map(|output| (output.format, output.to));
    proof::write(
        (database, log, &end),
        &selection,
        reveal,
        to,
        beside,
        global,
    )
}

fn write(arguments: &ExportArguments, global: &Global, log: &LogReader) -> anyhow::Result<()> {
    let mut output = Output::new(arguments)?;
    if let Some(call) = &arguments.call {
        for record in log.of_call(call)? {
            output.write(arguments, &record)?;
        }
        return output.finish();
    }
    let mut after = match arguments.since {
        Some(since) => log.before(since)?,
        None => 0,
    };
    let end = log.last_id()?;
    let first = after;
    let bar = Bar::start(global, u64::try_from(end - first).unwrap_or(0), "records");
    while after < end {
        let page = log.page_after(after)?;
        let Some(last) = page.last_id else { break };
        let mut is_past = arguments.until.is_some();
        for record in page.records {
            let record = record?;
            is_past &= arguments
                .until
                .is_some_and(|until| record.at >= later(until));
            if record.id <= end {
                output.write(arguments, &record)?;
            }
        }
        after = last;
        bar.set(u64::try_from(after - first).unwrap_or(0));
        if is_past {
            break;
        }
    }
    bar.end();
    output.finish()
}

/// The records of a person's calls, call after call, and then those of lists.
fn write_person(
    arguments: &ExportArguments,
    log: &LogReader,
    person: &RecordsOfPerson,
) -> anyhow::Result<()> {
    let mut output = Output::new(arguments)?;
    for call in &person.calls {
        for record in log.of_row(*call)? {
            output.write(arguments, &record)?;
        }
    }
    for record in &person.list_changes {
        output.write(arguments, record)?;
    }
    output.finish()
}

/// Records may stand a little out of order.
fn later(until: Timestamp) -> Timestamp {
    until
        .checked_add(SignedDuration::from_hours(1))
        .unwrap_or(Timestamp::MAX)
}

/// Where records go, and how.
struct Output {
    format: ExportFormat,
    to: Box<dyn Write>,
}

impl Output {
    fn new(arguments: &ExportArguments) -> anyhow::Result<Self> {
        let mut to: Box<dyn Write> = match &arguments.output {
            Some(path) => create(path)?,
            None => Box::new(BufWriter::new(io::stdout())),
        };
        to.write_all(&arguments.format.head()?)?;
        Ok(Self {
            format: arguments.format,
            to,
        })
    }

    fn write(&mut self, arguments: &ExportArguments, record: &StoredRecord) -> anyhow::Result<()> {
        let is_wanted = arguments.since.is_none_or(|since| record.at >= since)
            && arguments.until.is_none_or(|until| record.at < until);
        if is_wanted {
            let line = ExportLine::new(record, arguments.reveal)?;
            self.to.write_all(&self.format.render(&line)?)?;
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        Ok(self.to.flush()?)
    }
}

/// A new file that its owner alone may read.
fn create(path: &Path) -> anyhow::Result<Box<dyn Write>> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}

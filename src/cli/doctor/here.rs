//! What can be asked on this machine: disk, database, files of secrets, the clock's own opinion, the running server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value;

use super::finding::Finding;
use crate::admin::{self, ControlRequest};
use crate::app;
use crate::audit::FindingKind;
use crate::clock::Clock;
use crate::config::Config;
use crate::files::{Acting, beside};
use crate::http::listener::tls::{CertificateState, kept};
use crate::store::{self, Examination, Growth, Integrity};

/// How long the integrity of the database is looked into.
const INTEGRITY: Duration = Duration::from_secs(10);
/// Below this much free space the end is near: the records of some days at a busy installation.
const LITTLE: u64 = 1024 * 1024 * 1024;
/// Below this much, records wait in memory soon.
const TOO_LITTLE: u64 = 200 * 1024 * 1024;
/// A write-ahead log this large means that a reader holds it, or that the disk is slow.
const LARGE_WAL: u64 = 256 * 1024 * 1024;

/// What the running server says of itself; `None` where none runs on this database.
pub(super) fn server(config: &Config) -> Option<Result<Value, String>> {
    match admin::ask(&config.storage.path, &ControlRequest::Status, |_| {}) {
        Ok(status) => Some(Ok(status)),
        Err(admin::AskError::Nobody { .. }) => None,
        Err(error) => Some(Err(format!("{:#}", anyhow::Error::from(error)))),
    }
}

pub(super) fn findings(
    config: &Config,
    server: Option<&Result<Value, String>>,
) -> anyhow::Result<Vec<Finding>> {
    let mut findings = vec![running(server)];
    findings.extend(database(config));
    findings.push(disk(config));
    findings.extend(secrets(config));
    findings.push(synchronized());
    findings.extend(certificate(config));
    findings.push(lost_callbacks(config)?);
    Ok(findings)
}

fn running(server: Option<&Result<Value, String>>) -> Finding {
    let check = "server";
    match server {
        None => Finding::well(check, "no server runs on this database"),
        Some(Err(error)) => Finding::warning(
            check,
            format!("a server runs and does not answer: {error}"),
            "run this as the user of the server or as root; otherwise look into its log",
        ),
        Some(Ok(status)) => {
            let failing = status.pointer("/store/failing_since");
            let version = status.get("version").and_then(Value::as_str);
            let version = version.unwrap_or("unknown");
            match failing.and_then(Value::as_str) {
                Some(since) => Finding::error(
                    check,
                    format!("version {version} runs; the disk takes no records since {since}"),
                    "free space on the disk of the database, or look into the log for its error",
                ),
                None => Finding::well(check, format!("version {version} runs")),
            }
        }
    }
}

fn database(config: &Config) -> Vec<Finding> {
    let check = "database";
    let path = &config.storage.path;
    let _acting = Acting::as_owner_of_folder(path);
    let key_ring = app::key_ring_of_existing(config).ok();
    let found = match store::examine(path, key_ring.as_ref(), INTEGRITY, &Clock::system()) {
        Ok(Some(found)) => found,
        Ok(None) => {
            return vec![Finding::warning(
                check,
                format!("there is none yet at {}", path.display()),
                "`serve` makes it at its first start",
            )];
        }
        Err(error) => {
            return vec![Finding::error(
                check,
                format!("{}: {:#}", path.display(), anyhow::Error::from(error)),
                "restore a backup, or set `[storage] path` to the right file",
            )];
        }
    };
    let schema = &found.schema;
    let version = format!("schema {} of {}", schema.current, schema.latest);
    let mut findings = vec![if schema.pending.is_empty() {
        Finding::well(check, format!("{version}, {}", bytes(found.bytes)))
    } else {
        Finding::warning(
            check,
            version,
            "`serve` brings it up to date at its start, after a backup; so does `migrate up`",
        )
    }];
    findings.push(match &found.integrity {
        Integrity::Sound => Finding::well("database integrity", "the file is sound"),
        Integrity::Unfinished => Finding::well(
            "database integrity",
            format!(
                "nothing wrong in {} s of looking; there is more",
                INTEGRITY.as_secs()
            ),
        ),
        Integrity::Damaged { finding } => Finding::error(
            "database integrity",
            format!("the file is damaged: {finding}"),
            "stop the server, keep the file, restore the last backup with `restore`",
        ),
    });
    let mut is_chain_sound = true;
    for finding in &found.findings {
        let (check, hint) = match finding.kind {
            FindingKind::SchemaChanged => (
                "database schema",
                "the database will not be opened: restore a backup, and keep the file as evidence",
            ),
            FindingKind::ProjectionAltered => (
                "database rows",
                "it is not used; `audit verify` names every such row; keep the file as evidence",
            ),
            FindingKind::HeadMissing => (
                "audit head",
                "it may be an older database that was put back: `audit verify --anchor` tells; `audit accept-rollback` says that it was meant",
            ),
            FindingKind::Altered
            | FindingKind::Missing
            | FindingKind::Inserted
            | FindingKind::Truncated
            | FindingKind::RolledBack
            | FindingKind::AnchorMismatch
            | FindingKind::CheckpointInvalid
            | FindingKind::IndexDamaged => {
                is_chain_sound = false;
                (
                    "audit chain",
                    "`audit verify` says what was altered; keep the file as evidence",
                )
            }
        };
        let what = format!("{}: {}", finding.kind, finding.message);
        findings.push(Finding::error(check, what, hint));
    }
    if is_chain_sound {
        findings.push(Finding::well(
            "audit chain",
            format!("the last {} records hang together", found.records),
        ));
    }
    findings.extend(outlook(config, &found));
    if found.wal_bytes > LARGE_WAL {
        findings.push(Finding::warning(
            "write-ahead log",
            format!("it has {}", bytes(found.wal_bytes)),
            "another program holds a long read of the database: end it",
        ));
    }
    findings
}

/// How far the database grows at the present rate, and whether the disk has room for that: after retention, as much goes as comes.
fn outlook(config: &Config, found: &Examination) -> Option<Finding> {
    let Growth {
        records_a_day,
        bytes_a_day,
    } = found.growth.filter(|growth| growth.bytes_a_day > 0)?;
    let space = rustix::fs::statvfs(directory(config)).ok()?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let days = config.storage.retention.as_secs() / 86_400;
    let in_the_end = bytes_a_day.saturating_mul(days).max(found.bytes);
    let rate = format!("{records_a_day} records and {} a day", bytes(bytes_a_day));
    let check = "disk outlook";
    Some(if in_the_end - found.bytes <= free {
        let end = bytes(in_the_end);
        Finding::well(
            check,
            format!("{rate}: at this rate the database has {end} after {days} days of retention"),
        )
    } else {
        Finding::warning(
            check,
            format!(
                "{rate}: at this rate the disk is full in {} days",
                free / bytes_a_day
            ),
            format!(
                "grow the file system to {} more, or shorten `[storage] retention` (90 days at least)",
                bytes(in_the_end - found.bytes)
            ),
        )
    })
}

/// The directory of the database, or of what will be one.
fn directory(config: &Config) -> PathBuf {
    let path = &config.storage.path;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

fn disk(config: &Config) -> Finding {
    let check = "disk";
    let directory = directory(config);
    let space = match rustix::fs::statvfs(&directory) {
        Ok(space) => space,
        Err(error) => {
            return Finding::error(
                check,
                format!("{} cannot be looked at: {error}", directory.display()),
                "make the directory, for the user of the server",
            );
        }
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let message = format!("{} free at {}", bytes(free), directory.display());
    let hint = "free space, or grow the file system; records wait in memory when it is full";
    if free < TOO_LITTLE {
        Finding::error(check, message, hint)
    } else if free < LITTLE {
        Finding::warning(check, message, hint)
    } else {
        Finding::well(check, message)
    }
}

/// Files that the server makes for itself beside the database; those that the configuration names were looked at with it.
fn secrets(config: &Config) -> Vec<Finding> {
    let of_tls = config.server.tls.iter().map(|tls| tls.private_key.clone());
    let files = ["", "-wal", ".secret", ".signing"]
        .map(|suffix| beside(&config.storage.path, suffix))
        .into_iter()
        .chain(of_tls);
    let mut findings: Vec<Finding> = files.filter_map(|path| exposed(&path)).collect();
    if findings.is_empty() {
        let message = "nobody else can read the database and the keys";
        findings.push(Finding::well("secrets", message));
    }
    findings
}

fn exposed(path: &Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let name = path.display();
    let hint = format!("chmod 0600 {name}");
    if mode & 0o007 != 0 {
        let message = format!("everybody on this machine has access to {name} (mode {mode:04o})");
        return Some(Finding::error("secrets", message, hint));
    }
    (mode & 0o020 != 0).then(|| {
        let message = format!("its group can change {name} (mode {mode:04o})");
        Finding::warning("secrets", message, hint)
    })
}

/// What the system says of its own clock. Whether it is right is asked outside.
fn synchronized() -> Finding {
    let check = "clock synchronization";
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .output();
    let answer = asked.ok().filter(|output| output.status.success());
    let answer = answer.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    match answer.as_deref() {
        Some("yes") => Finding::well(check, "the system keeps its clock synchronized"),
        Some("no") => Finding::warning(
            check,
            "the system does not keep its clock synchronized",
            "timedatectl set-ntp true, or run chrony: records, retention and sessions go by this clock",
        ),
        Some(_) | None => Finding::well(check, "unknown: timedatectl gives no answer here"),
    }
}

/// The certificate that would be served.
fn certificate(config: &Config) -> Option<Finding> {
    let check = "certificate";
    let server = &config.server;
    Some(if let Some(tls) = &server.tls {
        match app::certificate_of_files(tls) {
            Ok(state) => expiry(check, &state),
            Err(error) => Finding::error(
                check,
                format!("{error:#}"),
                "put a valid chain and its key at the paths under [server.tls]",
            ),
        }
    } else {
        let acme = server.acme.as_ref()?;
        match kept(acme) {
            Some(kept) => expiry(check, &kept),
            None => Finding::warning(
                check,
                format!("there is none yet in {}", acme.cache.display()),
                "`serve` orders it; port 443 of the public address must lead to its listener",
            ),
        }
    })
}

fn expiry(check: &str, state: &CertificateState) -> Finding {
    let names = state.names.join(", ");
    let Some(at) = state.expires_at else {
        return Finding::warning(check, format!("for {names}, of unknown age"), "replace it");
    };
    let message = format!("for {names}, until {at}");
    let hint = "renew it; a running server takes new files by itself";
    let left = at.duration_since(Clock::system().now());
    if left.is_negative() {
        Finding::error(check, format!("{message}: it has expired"), hint)
    } else if left < SignedDuration::from_hours(14 * 24) {
        Finding::warning(check, message, hint)
    } else {
        Finding::well(check, message)
    }
}

/// Whether Twilio can be asked what became of a call whose callbacks were lost.
fn lost_callbacks(config: &Config) -> anyhow::Result<Finding> {
    let check = "lost callbacks";
    Ok(match app::rest(config, &Clock::system())?.can_ask() {
        Ok(()) => Finding::well(check, "Twilio can be asked what became of a call"),
        Err(why) => Finding::warning(
            check,
            format!("{why}: a call whose callbacks are lost stays open for hours"),
            "set `auth_token`, or `api_key_sid` and `api_key_secret`, under [twilio]",
        ),
    })
}

fn bytes(n: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.into_iter().find(|(_, size)| n >= *size);
    unit.map_or_else(
        || format!("{n} bytes"),
        |(name, size)| format!("{} {name}", n / size),
    )
}

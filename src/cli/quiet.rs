//! `switchboard drain` and `resume`: a dialer is taken out and put back. `switchboard mute`: nobody is told of incidents for a while. The running
//! server does it.

use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;

use super::frame::{Exit, Global, errln, load, outln, refused, sudo_user};
use crate::admin::{self, ControlRequest, DrainCommand, DrainedDialer, MuteCommand, MutesInForce};
use crate::alerts::{IncidentKind, Mute, NewMute};
use crate::clock::Clock;
use crate::config;

#[derive(Debug, clap::Args)]
pub(super) struct DrainArguments {
    /// The dialer: its key under `[dialers]`
    dialer: String,
    /// Why; whoever sees dialers reads it
    #[arg(long)]
    reason: Option<String>,
    /// How long, like 30m or 2h; then it comes back by itself
    #[arg(long = "for", value_parser = length, conflicts_with = "until")]
    length: Option<Duration>,
    /// When it comes back by itself, like 2126-11-01T00:00:00Z
    #[arg(long)]
    until: Option<Timestamp>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ResumeArguments {
    /// The dialer: its key under `[dialers]`
    dialer: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct MuteArguments {
    /// How long: up to 24h
    #[arg(long = "for", value_parser = length, required_unless_present_any = ["until", "list", "end"], conflicts_with = "until")]
    length: Option<Duration>,
    /// Until when, at most 24 hours after it began
    #[arg(long)]
    until: Option<Timestamp>,
    /// From when: a planned window. Now, where it is left out
    #[arg(long)]
    from: Option<Timestamp>,
    /// Incidents of this kind only, like `dialer_down`
    #[arg(long, value_parser = kind)]
    kind: Option<IncidentKind>,
    /// Incidents about this dialer only
    #[arg(long)]
    dialer: Option<String>,
    /// Why; whoever sees incidents reads it
    #[arg(long, required_unless_present_any = ["list", "end"])]
    reason: Option<String>,
    /// Show what is muted and planned
    #[arg(long, exclusive = true)]
    list: bool,
    /// End a mute before its time, by its name
    #[arg(long, exclusive = true, value_name = "ID")]
    end: Option<String>,
}

fn length(text: &str) -> Result<Duration, String> {
    config::parse_duration(text)
        .filter(|length| !length.is_zero())
        .ok_or_else(|| "write a number and a unit, like 30m or 2h".to_owned())
}

fn kind(text: &str) -> Result<IncidentKind, String> {
    let mut all = IncidentKind::ALL.iter().copied();
    let names = || IncidentKind::ALL.iter().map(|kind| kind.as_str());
    all.find(|kind| kind.as_str() == text)
        .ok_or_else(|| format!("it is one of {}", names().collect::<Vec<_>>().join(", ")))
}

fn ask<T: DeserializeOwned>(request: &ControlRequest, global: &Global) -> anyhow::Result<T> {
    let loaded = load(global)?;
    let document = admin::ask(&loaded.config.storage.path, request, |_| {}).map_err(refused)?;
    serde_json::from_value(document).context("the server's answer cannot be read")
}

pub(super) fn drain(arguments: &DrainArguments, global: &Global) -> anyhow::Result<Exit> {
    let after = |length: Duration| {
        let length = SignedDuration::try_from(length).ok()?;
        Clock::system().now().checked_add(length).ok()
    };
    let out = DrainCommand::Out {
        reason: arguments.reason.clone(),
        until: arguments.length.and_then(after).or(arguments.until),
    };
    turn(&arguments.dialer, out, global)
}

pub(super) fn resume(arguments: &ResumeArguments, global: &Global) -> anyhow::Result<Exit> {
    turn(&arguments.dialer, DrainCommand::Back, global)
}

fn turn(dialer: &str, action: DrainCommand, global: &Global) -> anyhow::Result<Exit> {
    let request = ControlRequest::Drain {
        dialer: dialer.to_owned(),
        action,
        sudo_user: sudo_user(),
    };
    let turned: DrainedDialer = ask(&request, global)?;
    global.print(&turned, |turned| match &turned.drained {
        None => outln!("{}: in use", turned.dialer),
        Some(out) => {
            let until = out.until.map(|until| format!(", until {until}"));
            let until = until.unwrap_or_default();
            outln!("{}: {}{until}", turned.dialer, out.cause());
        }
    })?;
    if turned.is_last {
        errln!("no other dialer takes calls: callers are held");
    }
    Ok(Exit::Done)
}

pub(super) fn mute(arguments: &MuteArguments, global: &Global) -> anyhow::Result<Exit> {
    let ms = |length: Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
    let action = match &arguments.end {
        Some(id) => MuteCommand::End(id.clone()),
        None if arguments.list => MuteCommand::List,
        None => MuteCommand::Begin(NewMute {
            kind: arguments.kind,
            dialer: arguments.dialer.clone(),
            from: arguments.from,
            length_ms: arguments.length.map(ms),
            until: arguments.until,
            reason: arguments.reason.clone().unwrap_or_default(),
        }),
    };
    let request = ControlRequest::Mute {
        action,
        sudo_user: sudo_user(),
    };
    let in_force: MutesInForce = ask(&request, global)?;
    global.print(&in_force, |in_force| {
        if in_force.mutes.is_empty() {
            outln!("nothing is muted");
        }
        in_force.mutes.iter().for_each(print);
    })?;
    Ok(Exit::Done)
}

fn print(mute: &Mute) {
    let kind = mute.kind.map_or("all incidents", IncidentKind::as_str);
    let dialer = mute
        .dialer
        .as_ref()
        .map(|dialer| format!(" about {dialer}"));
    let dialer = dialer.unwrap_or_default();
    let Mute {
        id,
        from,
        until,
        reason,
        by,
        ..
    } = mute;
    outln!("{id}: {kind}{dialer}, from {from} until {until}, by {by}: {reason}");
}

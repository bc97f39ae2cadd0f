//! `switchboard drain` and `resume`: a dialer is taken out and put back. `switchboard mute`: nobody is told of incidents for a while. The running
//! server does it.

use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{Exit, Global, errln, load, outln, refused, sudo_user};
use crate::admin::{self, ControlRequest, DrainedDialer};
use crate::alerts::{IncidentKind, Mute};
use crate::flow::TakeOut;

#[derive(Debug, clap::Args)]
pub(super) struct DrainArguments {
    /// The dialer: its key under `[dialers]`
    dialer: String,
    /// Why; whoever sees dialers reads it
    #[arg(long)]
    reason: Option<String>,
    /// How long, like 30m or 2h; then it comes back by itself
    #[arg(long = "for", conflicts_with = "until")]
    length: Option<String>,
    /// When it comes back by itself, like 2126-11-01T00:00:00Z
    #[arg(long)]
    until: Option<Timestamp>,
}

/// As the API reads them, but for the last two.
#[derive(Debug, clap::Args, Serialize)]
pub(super) struct MuteArguments {
    /// How long, like 30m or 2h: up to 24h
    #[arg(long = "for", required_unless_present_any = ["until", "list", "end"], conflicts_with = "until")]
    #[serde(rename = "for")]
    length: Option<String>,
    /// Until when, at most 24 hours after it began
    #[arg(long)]
    until: Option<Timestamp>,
    /// From when: a planned window. Now, where it is left out
    #[arg(long)]
    from: Option<Timestamp>,
    /// Incidents of this kind only, like `dialer_down`
    #[arg(long)]
    kind: Option<String>,
    /// Incidents about this dialer only
    #[arg(long)]
    dialer: Option<String>,
    /// Why; whoever sees incidents reads it
    #[arg(long, required_unless_present_any = ["list", "end"])]
    reason: Option<String>,
    /// Show what is muted and planned
    #[arg(long, exclusive = true)]
    #[serde(skip)]
    list: bool,
    /// End a mute before its time, by its name
    #[arg(long, exclusive = true, value_name = "ID")]
    #[serde(skip)]
    end: Option<String>,
}

fn ask<T: DeserializeOwned>(request: &ControlRequest, global: &Global) -> anyhow::Result<T> {
    let loaded = load(global)?;
    let document = admin::ask(&loaded.config.storage.path, request, |_| {}).map_err(refused)?;
    serde_json::from_value(document).context("the server's answer cannot be read")
}

pub(super) fn drain(arguments: &DrainArguments, global: &Global) -> anyhow::Result<Exit> {
    let out = TakeOut {
        reason: arguments.reason.clone(),
        r#for: arguments.length.clone(),
        until: arguments.until,
    };
    turn(&arguments.dialer, Some(out), global)
}

pub(super) fn resume(dialer: &str, global: &Global) -> anyhow::Result<Exit> {
    turn(dialer, None, global)
}

fn turn(dialer: &str, out: Option<TakeOut>, global: &Global) -> anyhow::Result<Exit> {
    let request = ControlRequest::Drain {
        dialer: dialer.to_owned(),
        out,
        sudo_user: sudo_user(),
    };
    let turned: DrainedDialer = ask(&request, global)?;
    global.print(&turned, |turned| match &turned.drained {
        None => outln!("{dialer}: in use"),
        Some(out) => {
            let until = out.until.map(|until| format!(", until {until}"));
            outln!("{dialer}: {}{}", out.cause(), until.unwrap_or_default());
        }
    })?;
    if turned.callers_held {
        errln!("no dialer takes calls now: callers are held");
    }
    Ok(Exit::Done)
}

pub(super) fn mute(arguments: &MuteArguments, global: &Global) -> anyhow::Result<Exit> {
    let is_new = !arguments.list && arguments.end.is_none();
    let request = ControlRequest::Mute {
        new: is_new
            .then(|| serde_json::to_value(arguments))
            .transpose()?,
        end: arguments.end.clone(),
        sudo_user: sudo_user(),
    };
    let mutes: Vec<Mute> = ask(&request, global)?;
    global.print(&mutes, |mutes| {
        if mutes.is_empty() {
            outln!("nothing is muted");
        }
        for mute in mutes {
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
    })?;
    Ok(Exit::Done)
}

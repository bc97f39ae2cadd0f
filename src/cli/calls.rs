//! `switchboard calls`: which calls came lately, and what became of them. Reads the database, also beside a running server.

use jiff::Timestamp;

use super::export::moment;
use super::frame::{Exit, Global, as_owner, errln, key_ring, load, outln};
use crate::store::{CallFilter, CallsAsked, Digits, LogReader, Part, StoredCall};

#[derive(Debug, clap::Args)]
pub(super) struct CallsArguments {
    /// Which calls, as the API filters them, like outcome=failed or rule="sales floor"; also dialer=NAME and tier=NAME. Of a caller: the last two
    /// digits or the whole number
    #[arg(value_name = "FILTER=VALUE")]
    filters: Vec<String>,
    /// Calls that arrived at or after this: an age like 24h, or a time like 2026-11-01T00:00:00Z
    #[arg(long, value_parser = moment)]
    since: Option<Timestamp>,
    /// Calls that arrived before this
    #[arg(long, value_parser = moment)]
    until: Option<Timestamp>,
    /// So many at most, the newest first
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

pub(super) fn run(arguments: &CallsArguments, global: &Global) -> anyhow::Result<Exit> {
    let mut asked = CallsAsked {
        from: arguments.since,
        to: arguments.until,
        ..CallsAsked::default()
    };
    for text in &arguments.filters {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let named = match name {
            "dialer" => Some(&mut asked.dialer),
            "tier" => Some(&mut asked.tier),
            _ => None,
        };
        if let Some(named) = named {
            *named = Some(value.to_owned());
            continue;
        }
        let set = match name {
            _ if CallFilter::NAMES.split(' ').any(|known| known == name) => {
                asked.filter.set(name, value)
            }
            _ => Err(format!(
                "is no filter; there are dialer, tier, {}",
                CallFilter::NAMES.replace(' ', ", ")
            )),
        };
        if let Err(wrong) = set {
            errln!("{name} {wrong}");
            return Ok(Exit::Usage);
        }
    }
    asked.search_whole();
    if asked.filter.caller.as_ref().is_some_and(Digits::is_telling) {
        errln!(
            "write two last digits or the whole number with +; other searches are recorded, and the dashboard has them"
        );
        return Ok(Exit::Usage);
    }
    let loaded = load(global)?;
    let path = &loaded.config.storage.path;
    let acting = as_owner(path)?;
    let log = LogReader::open(path, key_ring(&loaded.config)?);
    drop(acting);
    let log = log.map_err(|error| Exit::Failed.after(error))?;
    let (mut lines, mut after, mut left) = (Vec::new(), None, arguments.limit);
    while left > 0 {
        let page = log.calls_page(
            &asked,
            Part {
                after,
                skip: 0,
                size: left.min(200),
            },
        )?;
        left = left.saturating_sub(u32::try_from(page.rows.len())?);
        lines.extend(page.rows.iter().map(|(call, _)| line(call)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    global.print(&lines, |lines| lines.iter().for_each(print))?;
    Ok(Exit::Done)
}

fn line(call: &StoredCall) -> serde_json::Value {
    serde_json::json!({
        "call_id": call.id,
        "started_at": call.started_at,
        "caller": call.personal.caller().masked(),
        "status": call.status,
        "disposition": call.disposition,
        "tier": call.tier,
        "rule": call.rule,
        "reason": call.reason,
        "dialer": call.dialer,
        "failed_over": call.failed_over,
        "held": call.held,
        "routing_ms": call.routing_ms,
    })
}

fn print(line: &serde_json::Value) {
    let text = |name: &str| {
        line.get(name)
            .and_then(serde_json::Value::as_str)
            .unwrap_or("-")
            .to_owned()
    };
    let outcome = if text("disposition") == "-" {
        text("status")
    } else {
        text("disposition")
    };
    let (at, caller, dialer) = (text("started_at"), text("caller"), text("dialer"));
    outln!(
        "{at}  {caller}  {outcome}  {dialer}  {}  {}",
        text("reason"),
        text("call_id")
    );
}

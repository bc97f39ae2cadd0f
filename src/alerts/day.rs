//! The wording of a day's summary.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::notification::{ChangeLine, DailySummary, DayShare, IncidentLine, Percentiles};
use super::signals::length;
use super::templates::{MessageContent, Paragraph, n_calls};

/// Keys of a change that are named; the rest is counted.
const KEYS_NAMED: usize = 8;

pub(super) fn content(mut summary: DailySummary, public_url: &str) -> MessageContent {
    summary.tell.clear();
    let zone = TimeZone::get(&summary.zone).unwrap_or(TimeZone::UTC);
    let local = |at: Timestamp| {
        let local = at.to_zoned(zone.clone());
        local.strftime("%Y-%m-%d %H:%M %Z").to_string()
    };
    let (from, to) = (local(summary.from), local(summary.to));
    let calls = n_calls(summary.calls);
    let DailySummary {
        answered,
        failed,
        abandoned,
        ..
    } = summary;
    let of_ended = share_of(failed, summary.succeeded + failed);
    let (url, alerts) = (format!("{public_url}/"), format!("{public_url}/alerts"));
    let opening = [
        Paragraph::Line(format!(
            "From {from} to {to}: {calls} arrived, {answered} answered, {failed} failed{of_ended}, {abandoned} hung up first."
        )),
        Paragraph::Facts(vec![
            ("Went to another dialer", summary.failed_over.to_string()),
            ("Were on hold", summary.held.to_string()),
        ]),
    ];
    let times = summary.times.iter().map(times_line).collect();
    let lists = [
        ("Failures by reason", counts(&summary.by_reason)),
        ("By tier", shares(&summary.by_tier)),
        ("By outcome", counts(&summary.by_outcome)),
        ("By dialer", shares(&summary.by_dialer)),
        (
            "Times: half of them, 95 % and 99 % took no longer than",
            times,
        ),
    ];
    let incidents = summary.incidents.iter();
    let changes = summary.changes.iter();
    let closing = [
        list_or(
            "There was no incident.",
            "Incidents",
            incidents.map(|incident| incident_line(incident, local)),
            summary.n_incidents,
        ),
        list_or(
            "The configuration did not change.",
            "Changes of the configuration",
            changes.map(|change| change_line(change, local)),
            summary.n_changes,
        ),
        Paragraph::Links(
            "Dashboard",
            vec![
                ("Live view".to_owned(), url),
                ("Alerts".to_owned(), alerts.clone()),
            ],
        ),
    ];
    let lists = lists
        .into_iter()
        .filter_map(|(title, items)| Paragraph::list(title, items));
    let completeness = summary.completeness.clone().map(Paragraph::Line);
    MessageContent {
        id: summary.id.clone(),
        follows: None,
        subject: format!("[Switchboard] Day to {to}: {calls}, {failed} failed"),
        parts: opening
            .into_iter()
            .chain(completeness)
            .chain(lists)
            .chain(closing)
            .collect(),
        json: json!({ "summary": summary, "links": { "alerts": alerts } }),
    }
}

fn counts(of: &BTreeMap<String, u64>) -> Vec<String> {
    let counts = of.iter();
    counts
        .map(|(name, n)| format!("{}: {n}", name.replace('_', " ")))
        .collect()
}

fn shares(of: &BTreeMap<String, DayShare>) -> Vec<String> {
    let line = |(name, share): (&String, &DayShare)| {
        let name = if name.is_empty() { "no tier" } else { name };
        let DayShare {
            calls,
            answered,
            failed,
        } = *share;
        format!(
            "{name}: {}, {answered} answered, {failed} failed",
            n_calls(calls)
        )
    };
    of.iter().map(line).collect()
}

/// ` (2.5 % of the 80 that succeeded or failed)`; nothing of nothing.
#[expect(clippy::cast_precision_loss, reason = "the calls of a day")]
fn share_of(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return String::new();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    format!(" ({percent:.1} % of the {whole} that succeeded or failed)")
}

fn times_line((stage, times): (&String, &Percentiles)) -> String {
    let Percentiles {
        p50_ms,
        p95_ms,
        p99_ms,
    } = times;
    format!("{stage}: {p50_ms:.1} ms, {p95_ms:.1} ms, {p99_ms:.1} ms")
}

fn incident_line(incident: &IncidentLine, local: impl Fn(Timestamp) -> String) -> String {
    let about = if incident.subject.is_empty() {
        String::new()
    } else {
        format!(" ({})", incident.subject)
    };
    let until = match incident.lasted_ms {
        Some(ms) => format!("lasted {}", length(Duration::from_millis(ms))),
        None => "is still open".to_owned(),
    };
    format!(
        "{}: {}{about}, {until}, {} affected: {}",
        local(incident.opened_at),
        incident.kind.title(),
        n_calls(incident.calls),
        incident.cause
    )
}

fn change_line(change: &ChangeLine, local: impl Fn(Timestamp) -> String) -> String {
    let named: Vec<&str> = change
        .keys
        .iter()
        .take(KEYS_NAMED)
        .map(String::as_str)
        .collect();
    let more = match change.keys.len().saturating_sub(named.len()) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    format!(
        "{}, by {}: {}{more}",
        local(change.at),
        change.by,
        named.join(", ")
    )
}

/// The lines, and how many are left out; or the sentence that there are none.
fn list_or(
    none: &str,
    title: &'static str,
    lines: impl Iterator<Item = String>,
    n: u64,
) -> Paragraph {
    let mut lines: Vec<String> = lines.collect();
    match n.saturating_sub(u64::try_from(lines.len()).unwrap_or(u64::MAX)) {
        _ if lines.is_empty() => return Paragraph::Line(none.to_owned()),
        0 => {}
        more => lines.push(format!("and {more} more")),
    }
    Paragraph::List(title, lines)
}

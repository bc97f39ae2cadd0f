//! The wording of a day's summary.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::letter::{Letter, Paragraph, Surroundings, head_part, n_calls, text};
use crate::alert::{ChangeLine, DayShare, IncidentLine, Occasion, Percentiles, Summary, length};

/// Keys of a change that are named; the rest is counted.
const KEYS_NAMED: usize = 8;

pub(super) fn letter(summary: &Summary, at: Timestamp, around: &Surroundings) -> Letter {
    let zone = TimeZone::get(&summary.zone).unwrap_or(TimeZone::UTC);
    let spoken = |at: Timestamp| {
        at.to_zoned(zone.clone())
            .strftime("%Y-%m-%d %H:%M %Z")
            .to_string()
    };
    let (from, to) = (spoken(summary.from), spoken(summary.to));
    let subject = format!(
        "[Switchboard] Day to {to}: {}, {} failed",
        n_calls(summary.calls),
        summary.failed
    );
    let mut parts = vec![
        Paragraph::Line(format!(
            "From {from} to {to}: {} arrived, {} answered, {} failed{}, {} hung up first.",
            n_calls(summary.calls),
            summary.answered,
            summary.failed,
            share_of(summary.failed, summary.succeeded + summary.failed),
            summary.abandoned
        )),
        Paragraph::Facts(vec![
            ("Went to another dialer", summary.failed_over.to_string()),
            ("Were on hold", summary.held.to_string()),
        ]),
    ];
    let list =
        |title, items: Vec<String>| (!items.is_empty()).then_some(Paragraph::List(title, items));
    let shares = |name: fn(&str) -> &str, of: &std::collections::BTreeMap<String, DayShare>| {
        of.iter()
            .map(|(key, share)| share_line(name(key), *share))
            .collect()
    };
    let reasons = summary.by_reason.iter();
    parts.extend(list(
        "Failures by reason",
        reasons
            .map(|(name, n)| format!("{}: {n}", name.replace('_', " ")))
            .collect(),
    ));
    parts.extend(list("By tier", shares(tier_name, &summary.by_tier)));
    let outcomes = summary.by_outcome.iter();
    parts.extend(list(
        "By outcome",
        outcomes
            .map(|(name, n)| format!("{}: {n}", name.replace('_', " ")))
            .collect(),
    ));
    parts.extend(list("By dialer", shares(|name| name, &summary.by_dialer)));
    let times = summary.times.iter();
    parts.extend(list(
        "Times: half of them, 95 % and 99 % took no longer than",
        times.map(|(stage, of)| times_line(stage, *of)).collect(),
    ));
    let incidents = summary.incidents.iter();
    let lines = incidents.map(|incident| incident_line(incident, spoken));
    parts.push(few_or_none(
        "Incidents",
        "There was no incident.",
        lines.collect(),
        summary.n_incidents,
    ));
    let changes = summary.changes.iter();
    let lines = changes.map(|change| change_line(change, spoken));
    parts.push(few_or_none(
        "Changes of the configuration",
        "The configuration did not change.",
        lines.collect(),
        summary.n_changes,
    ));
    let url = &around.public_url;
    parts.push(Paragraph::Links(
        "Dashboard",
        vec![
            ("Live view".to_owned(), format!("{url}/")),
            ("Alerts".to_owned(), format!("{url}/alerts")),
        ],
    ));
    parts.extend(head_part(around));
    let day = Summary {
        tell: Vec::new(),
        ..summary.clone()
    };
    let json = json!({
        "version": 1,
        "notice": summary.id,
        "occasion": Occasion::Summary.as_str(),
        "at": at,
        "title": subject,
        "text": text(&parts),
        "summary": day,
        "links": { "alerts": format!("{url}/alerts") },
        "audit_head": around.audit_head,
    });
    Letter::new(&summary.id, subject, &parts, json)
}

fn tier_name(tier: &str) -> &str {
    if tier.is_empty() { "no tier" } else { tier }
}

fn share_line(name: &str, share: DayShare) -> String {
    let DayShare {
        calls,
        answered,
        failed,
    } = share;
    format!(
        "{name}: {}, {answered} answered, {failed} failed",
        n_calls(calls)
    )
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

fn times_line(stage: &str, times: Percentiles) -> String {
    let Percentiles {
        p50_ms,
        p95_ms,
        p99_ms,
    } = times;
    format!("{stage}: {p50_ms:.1} ms, {p95_ms:.1} ms, {p99_ms:.1} ms")
}

fn incident_line(incident: &IncidentLine, spoken: impl Fn(Timestamp) -> String) -> String {
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
        spoken(incident.opened_at),
        incident.kind.title(),
        n_calls(incident.calls),
        incident.cause
    )
}

fn change_line(change: &ChangeLine, spoken: impl Fn(Timestamp) -> String) -> String {
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
        spoken(change.at),
        change.by,
        named.join(", ")
    )
}

/// The lines, and how many are left out; or that there are none.
fn few_or_none(title: &'static str, none: &str, mut lines: Vec<String>, n: u64) -> Paragraph {
    if lines.is_empty() {
        return Paragraph::Line(none.to_owned());
    }
    let told = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    if n > told {
        lines.push(format!("and {} more", n - told));
    }
    Paragraph::List(title, lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::IncidentKind;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn summary() -> Summary {
        let share = |calls, answered, failed| DayShare {
            calls,
            answered,
            failed,
        };
        let name = |name: &str| name.to_owned();
        Summary {
            id: name("summary-2026-07-15"),
            from: at("2026-07-14T05:00:00Z"),
            to: at("2026-07-15T05:00:00Z"),
            zone: name("Europe/Berlin"),
            calls: 80,
            answered: 70,
            failed: 2,
            abandoned: 6,
            succeeded: 70,
            by_reason: [(name("all_legs_failed"), 2)].into(),
            failed_over: 5,
            held: 1,
            by_tier: [(name(""), share(10, 8, 0)), (name("hot"), share(70, 62, 2))].into(),
            by_outcome: [(name("answered"), 70), (name("last_resort"), 2)].into(),
            by_dialer: [(name("dialfire"), share(75, 70, 0))].into(),
            times: [(
                name("routing"),
                Percentiles {
                    p50_ms: 4.2,
                    p95_ms: 31.0,
                    p99_ms: 640.5,
                },
            )]
            .into(),
            incidents: vec![IncidentLine {
                incident: name("dialer_down-dialfire-1"),
                kind: IncidentKind::DialerDown,
                subject: name("dialfire"),
                cause: name("503 <busy>"),
                opened_at: at("2026-07-14T12:00:00Z"),
                lasted_ms: Some(200_000),
                calls: 3,
            }],
            n_incidents: 1,
            changes: vec![ChangeLine {
                at: at("2026-07-14T09:30:00Z"),
                by: name("key ops"),
                keys: vec![name("routing.budget"), name("braze.api_key")],
            }],
            n_changes: 3,
            tell: Vec::new(),
        }
    }

    fn composed(summary: &Summary) -> Letter {
        let detail = serde_json::to_string(summary).unwrap();
        let around = Surroundings {
            public_url: "https://calls.example.com".to_owned(),
            audit_head: Some("abc 12 0011".to_owned()),
            ..Surroundings::default()
        };
        Letter::compose(Occasion::Summary, &detail, summary.to, &around).unwrap()
    }

    #[test]
    fn a_day_is_told_with_all_that_it_was_asked_for() {
        let letter = composed(&summary());
        assert_eq!(
            letter.subject,
            "[Switchboard] Day to 2026-07-15 07:00 CEST: 80 calls, 2 failed"
        );
        assert_eq!(
            letter.text,
            "From 2026-07-14 07:00 CEST to 2026-07-15 07:00 CEST: 80 calls arrived, 70 answered, 2 failed (2.8 % of the 72 that succeeded or failed), 6 hung up first.\n\n\
             Went to another dialer: 5\nWere on hold: 1\n\n\
             Failures by reason:\n  all legs failed: 2\n\n\
             By tier:\n  no tier: 10 calls, 8 answered, 0 failed\n  hot: 70 calls, 62 answered, 2 failed\n\n\
             By outcome:\n  answered: 70\n  last resort: 2\n\n\
             By dialer:\n  dialfire: 75 calls, 70 answered, 0 failed\n\n\
             Times: half of them, 95 % and 99 % took no longer than:\n  routing: 4.2 ms, 31.0 ms, 640.5 ms\n\n\
             Incidents:\n  2026-07-14 14:00 CEST: a dialer is down (dialfire), lasted 3 min 20 s, 3 calls affected: 503 <busy>\n\n\
             Changes of the configuration:\n  2026-07-14 11:30 CEST, by key ops: routing.budget, braze.api_key\n  and 2 more\n\n\
             Dashboard:\n  Live view\n  https://calls.example.com/\n  Alerts\n  https://calls.example.com/alerts\n\n\
             Audit head: abc 12 0011\n"
        );
        assert!(letter.html.contains("503 &lt;busy&gt;"), "{}", letter.html);
        assert_eq!(letter.follows, None);
        assert_eq!(letter.json["summary"]["by_tier"]["hot"]["calls"], 70);
        assert_eq!(letter.json["audit_head"], "abc 12 0011");
    }

    #[test]
    fn a_day_without_anything_says_so() {
        let empty = Summary {
            id: "summary-2026-07-15".to_owned(),
            zone: "Nowhere/Else".to_owned(),
            ..Summary::default()
        };
        let text = composed(&empty).text;
        assert!(
            text.contains("no call arrived, 0 answered, 0 failed, 0 hung up first."),
            "{text}"
        );
        assert!(text.contains("There was no incident.\n"), "{text}");
        assert!(
            text.contains("The configuration did not change.\n"),
            "{text}"
        );
        assert!(
            !text.contains("By tier") && !text.contains("Times"),
            "{text}"
        );
    }
}

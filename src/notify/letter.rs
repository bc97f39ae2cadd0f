//! The wording of a message: the same content as text, as HTML and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::day;
use crate::alert::{IncidentKind, Notice, Occasion, Summary, Tested, length};

/// Characters of a title in the subject of a mail.
const SUBJECT_LENGTH: usize = 160;
/// Calls that are named in a message.
const CALLS_LISTED: usize = 10;
/// Calls that are named in the message to the webhook.
const CALLS_NAMED: usize = 50;

/// What surrounds a notice when it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    pub public_url: String,
    /// What is known of the affected calls.
    pub calls: Vec<AffectedCall>,
    /// The head of the audit log, as a line that can be kept; `None` where it is not known.
    pub audit_head: Option<String>,
}

/// An affected call, without anything that identifies a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffectedCall {
    pub id: String,
    /// The caller with all but the last digits hidden; empty where it is not known.
    pub caller: String,
    /// What became of it, in words; empty where it is not known.
    pub fate: String,
}

/// A message, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// Names the notice: the same however often it is sent.
    pub notice: String,
    /// Names the notice that it follows on, where there is one.
    pub follows: Option<String>,
    pub subject: String,
    /// The whole message as text.
    pub text: String,
    pub html: String,
    pub json: Value,
}

/// One paragraph of a message.
pub(super) enum Paragraph {
    Line(String),
    Facts(Vec<(&'static str, String)>),
    List(&'static str, Vec<String>),
    Links(&'static str, Vec<(String, String)>),
}

impl Letter {
    /// The message of a stored payload. `None` where it cannot be read.
    pub fn compose(
        occasion: Occasion,
        detail: &str,
        at: Timestamp,
        around: &Surroundings,
    ) -> Option<Self> {
        match occasion {
            Occasion::Opened | Occasion::Reminded | Occasion::Resolved => {
                let notice: Notice = serde_json::from_str(detail).ok()?;
                Some(of_incident(occasion, &notice, at, around))
            }
            Occasion::Tested => {
                let tested: Tested = serde_json::from_str(detail).ok()?;
                Some(of_test(&tested, at, around))
            }
            Occasion::Summary => {
                let summary: Summary = serde_json::from_str(detail).ok()?;
                Some(day::letter(&summary, at, around))
            }
        }
    }

    pub(super) fn new(notice: &str, subject: String, parts: &[Paragraph], json: Value) -> Self {
        Self {
            notice: notice.to_owned(),
            follows: None,
            text: text(parts),
            html: html(&subject, parts),
            subject,
            json,
        }
    }
}

fn of_incident(
    occasion: Occasion,
    notice: &Notice,
    at: Timestamp,
    around: &Surroundings,
) -> Letter {
    let title = match (notice.kind, occasion) {
        // Who waits, and for whom: that much stands in the subject.
        (
            IncidentKind::AllDialersDown | IncidentKind::CallersWaiting,
            Occasion::Opened | Occasion::Reminded,
        ) => cut(&format!("{}: {}", notice.title(), notice.cause)),
        _ => notice.title(),
    };
    let lasted = Duration::from_millis(notice.lasted_ms.unwrap_or_default());
    let subject = match occasion {
        Occasion::Resolved => format!("[Switchboard] Resolved: {title}"),
        Occasion::Reminded => format!("[Switchboard] Still open: {title}"),
        Occasion::Opened | Occasion::Tested | Occasion::Summary => {
            format!("[Switchboard] {}", capital(&title))
        }
    };
    let first = match occasion {
        Occasion::Resolved => format!(
            "It is over. It lasted {} and affected {}.",
            length(lasted),
            n_calls(notice.calls)
        ),
        Occasion::Reminded => format!(
            "It has been open for {} and has affected {}.",
            length(lasted),
            n_calls(notice.calls)
        ),
        Occasion::Opened | Occasion::Tested | Occasion::Summary => {
            format!("{}.", capital(&notice.cause))
        }
    };
    let mut parts = vec![Paragraph::Line(first)];
    let mut facts = Vec::new();
    if occasion != Occasion::Opened {
        facts.push(("Why it opened", notice.cause.clone()));
    }
    let since = notice.since.unwrap_or(at);
    facts.push(("Opened", spoken(since)));
    if occasion == Occasion::Resolved {
        facts.push(("Resolved", spoken(at)));
        facts.push(("Lasted", length(lasted)));
    }
    facts.push(("Calls affected", notice.calls.to_string()));
    facts.push(("Incident", notice.incident.clone()));
    parts.push(Paragraph::Facts(facts));
    let reasons = notice.ranked();
    if !reasons.is_empty() {
        let lines = reasons
            .iter()
            .map(|(reason, n)| format!("{n} × {}", reason.replace('_', " ")));
        parts.push(Paragraph::List(
            "Reasons, most frequent first",
            lines.collect(),
        ));
    }
    let links = call_links(notice, around);
    if !links.is_empty() {
        parts.push(Paragraph::Links("Calls", links));
    }
    if occasion != Occasion::Resolved {
        parts.push(Paragraph::Line(notice.kind.advice().to_owned()));
    }
    let mut dashboard = vec![("Alerts".to_owned(), format!("{}/alerts", around.public_url))];
    if notice.calls > 0 {
        dashboard.insert(
            0,
            ("All of these calls".to_owned(), calls_url(notice, around)),
        );
    }
    parts.push(Paragraph::Links("Dashboard", dashboard));
    parts.extend(head_part(around));
    let json = incident_json(occasion, notice, at, around, &subject, &text(&parts));
    let opened = format!("{}-{}", notice.incident, Occasion::Opened.as_str());
    Letter {
        follows: (occasion != Occasion::Opened).then_some(opened),
        ..Letter::new(&notice.id, subject, &parts, json)
    }
}

fn of_test(tested: &Tested, at: Timestamp, around: &Surroundings) -> Letter {
    let subject = "[Switchboard] Test message".to_owned();
    let mut parts = vec![
        Paragraph::Line(
            "This is a test: messages about incidents arrive like this one.".to_owned(),
        ),
        Paragraph::Facts(vec![
            ("Sent by", tested.by.clone()),
            ("At", spoken(at)),
            ("Dashboard", around.public_url.clone()),
        ]),
    ];
    parts.extend(head_part(around));
    let json = json!({
        "version": 1,
        "notice": tested.id,
        "occasion": Occasion::Tested.as_str(),
        "at": at,
        "title": subject,
        "text": text(&parts),
        "by": tested.by,
        "audit_head": around.audit_head,
    });
    Letter::new(&tested.id, subject, &parts, json)
}

fn incident_json(
    occasion: Occasion,
    notice: &Notice,
    at: Timestamp,
    around: &Surroundings,
    title: &str,
    text: &str,
) -> Value {
    let reasons: Vec<Value> = notice
        .ranked()
        .iter()
        .map(|(reason, calls)| json!({ "reason": reason, "calls": calls }))
        .collect();
    let severity = notice.kind.severity().as_str();
    json!({
        "version": 1,
        "notice": notice.id,
        "occasion": occasion.as_str(),
        "at": at,
        "title": title,
        "text": text,
        "severity": severity,
        "dedup_key": notice.incident,
        "incident": {
            "id": notice.incident,
            "kind": notice.kind,
            "subject": notice.subject,
            "cause": notice.cause,
            "opened_at": notice.since.unwrap_or(at),
            "resolved_at": (occasion == Occasion::Resolved).then_some(at),
            "lasted_ms": notice.lasted_ms,
            "calls": notice.calls,
            "call_ids": notice.call_ids.iter().take(CALLS_NAMED).collect::<Vec<_>>(),
            "reasons": reasons,
        },
        "links": {
            "alerts": format!("{}/alerts", around.public_url),
            "incident_calls": calls_url(notice, around),
            "calls": call_links(notice, around).into_iter().map(|(_, url)| url).collect::<Vec<_>>(),
        },
        "audit_head": around.audit_head,
    })
}

pub(super) fn head_part(around: &Surroundings) -> Option<Paragraph> {
    let head = around.audit_head.clone()?;
    Some(Paragraph::Facts(vec![("Audit head", head)]))
}

/// The affected calls, each with its page on the dashboard.
fn call_links(notice: &Notice, around: &Surroundings) -> Vec<(String, String)> {
    let url = |id: &str| format!("{}/logs/{id}", around.public_url);
    let link = |id: &str| {
        let known = around.calls.iter().find(|call| call.id == id);
        let words = known.map_or_else(String::new, |call| {
            format!(" {} {}", call.caller, call.fate)
        });
        (format!("{id}{}", words.trim_end()), url(id))
    };
    let ids = notice.call_ids.iter().take(CALLS_LISTED);
    ids.map(|id| link(id.as_str())).collect()
}

/// The page that lists the calls of an incident.
fn calls_url(notice: &Notice, around: &Surroundings) -> String {
    format!("{}/logs?incident={}", around.public_url, notice.incident)
}

pub(super) fn n_calls(n: u64) -> String {
    match n {
        0 => "no call".to_owned(),
        1 => "1 call".to_owned(),
        n => format!("{n} calls"),
    }
}

pub(super) fn spoken(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// As much of a text as fits into one line of an inbox.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SUBJECT_LENGTH) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

pub(super) fn text(parts: &[Paragraph]) -> String {
    let mut text = String::new();
    for part in parts {
        match part {
            Paragraph::Line(line) => text.push_str(line),
            Paragraph::Facts(facts) => {
                for (name, value) in facts {
                    line(&mut text, format_args!("{name}: {value}\n"));
                }
            }
            Paragraph::List(title, items) => {
                line(&mut text, format_args!("{title}:\n"));
                for item in items {
                    line(&mut text, format_args!("  {item}\n"));
                }
            }
            Paragraph::Links(title, links) => {
                line(&mut text, format_args!("{title}:\n"));
                for (words, url) in links {
                    line(&mut text, format_args!("  {words}\n  {url}\n"));
                }
            }
        }
        let end = text.trim_end().len();
        text.truncate(end);
        text.push_str("\n\n");
    }
    let end = text.trim_end().len();
    text.truncate(end);
    text.push('\n');
    text
}

fn html(subject: &str, parts: &[Paragraph]) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title></head>\
         <body style=\"font-family:sans-serif;line-height:1.4;max-width:42em\"><h1 style=\"font-size:1.2em\">{0}</h1>",
        escaped(subject)
    );
    for part in parts {
        match part {
            Paragraph::Line(text) => line(&mut html, format_args!("<p>{}</p>", escaped(text))),
            Paragraph::Facts(facts) => {
                html.push_str("<table cellpadding=\"3\">");
                for (name, value) in facts {
                    line(
                        &mut html,
                        format_args!(
                            "<tr><th align=\"left\" valign=\"top\">{}</th><td>{}</td></tr>",
                            escaped(name),
                            escaped(value)
                        ),
                    );
                }
                html.push_str("</table>");
            }
            Paragraph::List(title, items) => {
                line(&mut html, format_args!("<p>{}</p><ul>", escaped(title)));
                for item in items {
                    line(&mut html, format_args!("<li>{}</li>", escaped(item)));
                }
                html.push_str("</ul>");
            }
            Paragraph::Links(title, links) => {
                line(&mut html, format_args!("<p>{}</p><ul>", escaped(title)));
                for (words, url) in links {
                    line(
                        &mut html,
                        format_args!(
                            "<li><a href=\"{}\">{}</a></li>",
                            escaped(url),
                            escaped(words)
                        ),
                    );
                }
                html.push_str("</ul>");
            }
        }
    }
    html.push_str("</body></html>\n");
    html
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    text.write_fmt(words).unwrap_or_default();
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::IncidentKind;
    use crate::call::CallId;

    fn notice() -> Notice {
        Notice {
            id: "routing_failure_rate-1-resolved".to_owned(),
            incident: "routing_failure_rate-1".to_owned(),
            kind: IncidentKind::RoutingFailureRate,
            subject: String::new(),
            cause: "12.5 % of the calls of the last 5 min failed (3 of 24)".to_owned(),
            dialers: Vec::new(),
            since: Timestamp::from_second(1_790_000_000).ok(),
            lasted_ms: Some(200_000),
            calls: 3,
            call_ids: vec![CallId::parse("CA1").unwrap()],
            reasons: [("all_dialers_refused", 1), ("all_legs_failed", 2)]
                .map(|(reason, n)| (reason.to_owned(), n))
                .into(),
            quiet: false,
            tell: Vec::new(),
        }
    }

    fn around() -> Surroundings {
        Surroundings {
            public_url: "https://calls.example.com".to_owned(),
            calls: vec![AffectedCall {
                id: "CA1".to_owned(),
                caller: "+********07".to_owned(),
                fate: "last resort".to_owned(),
            }],
            audit_head: Some("abc 12 0011".to_owned()),
        }
    }

    fn composed(occasion: Occasion, notice: &Notice) -> Letter {
        let detail = serde_json::to_string(notice).unwrap();
        let at = Timestamp::from_second(1_790_000_200).unwrap();
        Letter::compose(occasion, &detail, at, &around()).unwrap()
    }

    #[test]
    fn a_resolved_incident_says_how_long_and_how_many_calls() {
        let letter = composed(Occasion::Resolved, &notice());
        assert_eq!(letter.subject, "[Switchboard] Resolved: calls fail");
        assert_eq!(
            letter.follows.as_deref(),
            Some("routing_failure_rate-1-opened")
        );
        assert_eq!(
            letter.text,
            "It is over. It lasted 3 min 20 s and affected 3 calls.\n\n\
             Why it opened: 12.5 % of the calls of the last 5 min failed (3 of 24)\n\
             Opened: 2026-09-21 14:13:20 UTC\nResolved: 2026-09-21 14:16:40 UTC\nLasted: 3 min 20 s\n\
             Calls affected: 3\nIncident: routing_failure_rate-1\n\n\
             Reasons, most frequent first:\n  2 × all legs failed\n  1 × all dialers refused\n\n\
             Calls:\n  CA1 +********07 last resort\n  https://calls.example.com/logs/CA1\n\n\
             Dashboard:\n  All of these calls\n  https://calls.example.com/logs?incident=routing_failure_rate-1\n  Alerts\n  https://calls.example.com/alerts\n\n\
             Audit head: abc 12 0011\n"
        );
        assert_eq!(letter.json["incident"]["reasons"][0]["calls"], 2);
        assert_eq!(
            letter.json["links"]["calls"][0],
            "https://calls.example.com/logs/CA1"
        );
    }

    #[test]
    fn what_somebody_else_has_written_is_no_markup() {
        let hostile = Notice {
            cause: "dialfire: <script>alert(\"1\")</script> & 'more'".to_owned(),
            ..notice()
        };
        let letter = composed(Occasion::Opened, &hostile);
        assert!(!letter.html.contains("<script>"), "{}", letter.html);
        assert!(
            letter.html.contains("&lt;script&gt;alert(&quot;1&quot;)"),
            "{}",
            letter.html
        );
        assert!(
            letter
                .html
                .contains("href=\"https://calls.example.com/logs/CA1\"")
        );
    }

    #[test]
    fn what_cannot_be_read_makes_no_message() {
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(Letter::compose(Occasion::Opened, "{}", at, &around()), None);
    }
}

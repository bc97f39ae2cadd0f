//! What a message says: the same content as text, as HTML and as JSON; and why one was not taken.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::day;
use super::notification::{EventType, Notification, TestNotification};
use super::signals::length;
use super::templates::{MessageContent, Paragraph, html, n_calls, text};

/// Characters of a title in the subject of a mail.
const SUBJECT_LENGTH: usize = 160;
/// Calls that are named in a message.
const CALLS_LISTED: usize = 10;
/// Calls that are named in the message to the webhook.
const CALLS_NAMED: usize = 50;

/// What surrounds a notification when it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageContext {
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
pub struct RenderedMessage {
    /// Names the notification: the same however often it is sent.
    pub id: String,
    /// Names the notification that it follows on, where there is one.
    pub follows: Option<String>,
    pub subject: String,
    /// The whole message as text.
    pub text: String,
    pub html: String,
    pub json: Value,
}

impl RenderedMessage {
    /// The message of a stored payload. `None` where it cannot be read.
    pub fn compose(
        event_type: EventType,
        detail: &str,
        at: Timestamp,
        context: &MessageContext,
    ) -> Option<Self> {
        let content = match event_type {
            EventType::Opened
            | EventType::Reminded
            | EventType::Resolved
            | EventType::Acknowledged => {
                of_incident(event_type, &serde_json::from_str(detail).ok()?, at, context)
            }
            EventType::Tested => of_test(serde_json::from_str(detail).ok()?, at, context),
            EventType::Summary => {
                day::content(serde_json::from_str(detail).ok()?, &context.public_url)
            }
        };
        let MessageContent {
            id,
            follows,
            subject,
            mut parts,
            json: of_its_kind,
        } = content;
        let head = context.audit_head.clone();
        parts.extend(head.map(|head| Paragraph::Facts(vec![("Audit head", head)])));
        let text = text(&parts);
        let mut json = json!({
            "version": 1,
            "notice": id,
            "occasion": event_type,
            "at": at,
            "title": subject,
            "text": text,
            "audit_head": context.audit_head,
        });
        if let (Some(json), Value::Object(of_its_kind)) = (json.as_object_mut(), of_its_kind) {
            json.extend(of_its_kind);
        }
        Some(Self {
            html: html(&subject, &parts),
            id,
            follows,
            subject,
            text,
            json,
        })
    }
}

/// What a subject says of an incident. While calls fail, who waits, how many, and for whom.
fn headline(event_type: EventType, notification: &Notification) -> String {
    let title = notification.title();
    if !notification.kind.is_opened_by_calls() || event_type == EventType::Resolved {
        return title;
    }
    let many = match (event_type, notification.calls) {
        (EventType::Opened, n @ 1..) => format!(" ({n})"),
        _ => String::new(),
    };
    cut(&format!("{title}{many}. {}", notification.cause))
}

fn of_incident(
    event_type: EventType,
    notification: &Notification,
    at: Timestamp,
    context: &MessageContext,
) -> MessageContent {
    let incident = notification.incident.clone();
    let opened = notification.since.unwrap_or(at);
    let lasted = length(Duration::from_millis(
        notification.lasted_ms.unwrap_or_default(),
    ));
    let calls = n_calls(notification.calls);
    let is_resolved = event_type == EventType::Resolved;
    let title = headline(event_type, notification);
    let (subject, first) = match event_type {
        EventType::Resolved => (
            format!("Resolved: {title}"),
            format!("It is over. It lasted {lasted} and affected {calls}."),
        ),
        EventType::Reminded => (
            format!("Still open: {title}"),
            format!("It has been open for {lasted} and has affected {calls}."),
        ),
        EventType::Acknowledged => (
            format!("Somebody works on it: {title}"),
            format!("It has been open for {lasted} and has affected {calls}."),
        ),
        EventType::Opened | EventType::Tested | EventType::Summary => (
            capital(&title),
            format!("{}.", capital(&notification.cause)),
        ),
    };
    let mut facts = Vec::new();
    if event_type != EventType::Opened {
        facts.push(("Why it opened", notification.cause.clone()));
    }
    facts.push(("Opened", utc(opened)));
    if is_resolved {
        facts.push(("Resolved", utc(at)));
        facts.push(("Lasted", lasted));
    }
    facts.push(("Calls affected", notification.calls.to_string()));
    facts.push(("Incident", incident.clone()));
    let mut parts = vec![Paragraph::Line(first), Paragraph::Facts(facts)];
    let reasons = notification.ranked();
    let lines = reasons
        .iter()
        .map(|(reason, n)| format!("{n} × {}", reason.replace('_', " ")));
    parts.extend(Paragraph::list(
        "Reasons, most frequent first",
        lines.collect(),
    ));
    let calls = call_links(notification, context);
    if !calls.is_empty() {
        parts.push(Paragraph::Links("Calls", calls.clone()));
    }
    if !is_resolved {
        parts.push(Paragraph::Line(notification.kind.advice().to_owned()));
    }
    let name = encoded(&incident);
    let alerts = format!("{}/alerts/{name}", context.public_url);
    let all_calls = format!("{}/logs?incident={name}", context.public_url);
    let mut dashboard = vec![("This incident".to_owned(), alerts.clone())];
    if notification.calls > 0 {
        dashboard.insert(0, ("All of these calls".to_owned(), all_calls.clone()));
    }
    parts.push(Paragraph::Links("Dashboard", dashboard));
    let json = json!({
        "severity": notification.kind.severity(),
        "dedup_key": incident,
        "incident": {
            "id": incident,
            "kind": notification.kind,
            "subject": notification.subject,
            "cause": notification.cause,
            "opened_at": opened,
            "resolved_at": is_resolved.then_some(at),
            "lasted_ms": notification.lasted_ms,
            "calls": notification.calls,
            "call_ids": notification.call_ids.iter().take(CALLS_NAMED).collect::<Vec<_>>(),
            "reasons": reasons
                .iter()
                .map(|(reason, calls)| json!({ "reason": reason, "calls": calls }))
                .collect::<Vec<_>>(),
        },
        "links": {
            "alerts": alerts,
            "incident_calls": all_calls,
            "calls": calls.iter().map(|(_, url)| url).collect::<Vec<_>>(),
        },
    });
    let first = format!("{incident}-{}", EventType::Opened.as_str());
    MessageContent {
        id: notification.id.clone(),
        follows: (event_type != EventType::Opened).then_some(first),
        subject: format!("[Switchboard] {subject}"),
        parts,
        json,
    }
}

fn of_test(test: TestNotification, at: Timestamp, context: &MessageContext) -> MessageContent {
    let what = "This is a test: messages about incidents arrive like this one.";
    MessageContent {
        id: test.id,
        follows: None,
        subject: "[Switchboard] Test message".to_owned(),
        json: json!({ "by": test.by }),
        parts: vec![
            Paragraph::Line(what.to_owned()),
            Paragraph::Facts(vec![
                ("Sent by", test.by),
                ("At", utc(at)),
                ("Dashboard", context.public_url.clone()),
            ]),
        ],
    }
}

/// The affected calls, each with its page on the dashboard.
fn call_links(notification: &Notification, context: &MessageContext) -> Vec<(String, String)> {
    let link = |id: &str| {
        let known = context.calls.iter().find(|call| call.id == id);
        let about = known.map_or_else(String::new, |call| {
            format!(" {} {}", call.caller, call.fate)
        });
        let url = format!("{}/logs/{id}", context.public_url);
        (format!("{id}{}", about.trim_end()), url)
    };
    let ids = notification.call_ids.iter().take(CALLS_LISTED);
    ids.map(|id| link(id.as_str())).collect()
}

/// The name of an incident in an address: it may name a rule.
fn encoded(name: &str) -> String {
    let byte = |byte: u8| match byte {
        b'-' | b'_' | b'.' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    name.bytes().map(byte).collect()
}

fn utc(at: Timestamp) -> String {
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

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotTaken {
    /// What went wrong, in words, without secrets.
    pub message: String,
    pub for_good: bool,
    /// The receiver answered: it was not the connection that failed.
    pub answered: bool,
    /// How long the receiver wants to be left alone, where it says so.
    pub retry_after: Option<Duration>,
}

impl NotTaken {
    pub(super) fn for_now(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            for_good: false,
            answered: false,
            retry_after: None,
        }
    }

    pub(super) fn for_good(message: impl Into<String>) -> Self {
        Self {
            for_good: true,
            ..Self::for_now(message)
        }
    }
}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_makes_no_message() {
        let context = MessageContext::default();
        let composed =
            RenderedMessage::compose(EventType::Opened, "{}", Timestamp::UNIX_EPOCH, &context);
        assert_eq!(composed, None);
    }
}

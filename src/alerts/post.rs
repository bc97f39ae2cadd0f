//! Chat and paging services: one POST whose body is made from a template. A kind is its template, its line in [`room`] and its line in
//! [`Channel::NAMED`]. The formats and their limits:
//!
//! - Slack, text as mrkdwn, 40,000 characters: <https://api.slack.com/messaging/webhooks>,
//!   <https://docs.slack.dev/messaging/formatting-message-text>
//! - Teams, an Adaptive Card to a Workflows webhook, 28 KB:
//!   <https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>,
//!   <https://learn.microsoft.com/en-us/connectors/teams/>
//! - PagerDuty, Events API v2, 512 KB, a summary of 1,024 characters, a key of 255:
//!   <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/>
//! - ntfy, JSON to the root of the server, a message of 4,096 bytes, a title of 1 KB: <https://docs.ntfy.sh/publish/>

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::message::{NotTaken, RenderedMessage};
use super::policy::Channel;
use super::webhook::submit;
use crate::outbound::{Connections, TemplatePiece, template_pieces};
use crate::secret::Secret;

/// What the values of a body of the kind `http` may hold, each between braces.
pub const PLACEHOLDERS: [&str; 7] = [
    "title", "text", "severity", "occasion", "incident", "link", "at",
];
/// The longest title in bytes: fewer than the characters of a summary at PagerDuty, and than the bytes of a title at ntfy.
const TITLE: usize = 800;

/// `[alerts.channels.*]`: one channel of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostSettings {
    /// Its key under `[alerts.channels]`, 1 to 32 of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// One of [`Channel::NAMED`].
    pub kind: Channel,
    /// Scheme, host and port of `url`.
    pub host: String,
    /// Where messages go, which is a secret; of ntfy, the address of the topic.
    pub url: Secret,
    /// The integration key of PagerDuty; `None` for all other kinds.
    pub routing_key: Option<Secret>,
    /// Extra headers, in the order of the file. Default: none.
    pub headers: Vec<(String, Secret)>,
    /// The flat JSON body of the kind `http`: keys, and values that may hold [`PLACEHOLDERS`]. Default: each of them under its own name.
    pub body: Vec<(String, String)>,
}

/// `[alerts] heartbeat`: an address that raises the alarm when it is not asked any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatSettings {
    pub url: Secret,
    /// From one request to the next; 10 s to 1 d. Default: 1 m.
    pub every: Duration,
}

/// Sends one message. What the service refuses with 4xx is refused for good, but for 408, 425 and 429.
pub(super) async fn send(
    (settings, connections): &(PostSettings, Connections),
    message: &RenderedMessage,
    public_url: &str,
    now: Timestamp,
) -> Result<(), NotTaken> {
    let url = settings.url.expose();
    let (url, topic) = match url.trim_end_matches('/').rsplit_once('/') {
        Some((root, topic)) if settings.kind == Channel::Ntfy => (root, topic),
        _ => (url, ""),
    };
    let body = body(settings, topic, message, public_url).to_string();
    let request = |client: &reqwest::Client| {
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .header("idempotency-key", &message.id)
            .body(body.clone());
        let headers = settings.headers.iter();
        headers.fold(request, |request, (name, value)| {
            request.header(name, value.expose())
        })
    };
    let is_final = |status| matches!(status, 400..500) && !matches!(status, 408 | 425 | 429);
    submit(connections, request, now, is_final).await
}

fn body(
    settings: &PostSettings,
    topic: &str,
    message: &RenderedMessage,
    public_url: &str,
) -> Value {
    let kind = settings.kind;
    let said = |place| message.json.pointer(place).and_then(Value::as_str);
    let occasion = said("/occasion").unwrap_or_default();
    let severity = said("/severity").unwrap_or("info");
    let action = match occasion {
        "resolved" => "resolve",
        "acknowledged" => "acknowledge",
        _ => "trigger",
    };
    let (colour, tag, priority) = match (action, severity) {
        ("resolve" | "acknowledge", _) => ("Good", "white_check_mark", 3),
        (_, "critical") => ("Attention", "rotating_light", 5),
        (_, "warning") => ("Warning", "warning", 4),
        _ => ("Default", "information_source", 3),
    };
    let title: Vec<&str> = message.subject.split_whitespace().collect();
    let values = json!({
        "title": shown(kind, &title.join(" "), TITLE),
        "text": shown(kind, &message.text, room(kind)),
        "severity": severity, "occasion": occasion, "action": action, "at": said("/at"),
        "incident": said("/dedup_key").unwrap_or(&message.id),
        "link": said("/links/alerts").unwrap_or(public_url), "source": public_url,
        "kind": said("/incident/kind").unwrap_or(occasion),
        "colour": colour, "tag": tag, "priority": priority, "topic": topic,
        "routing_key": settings.routing_key.as_ref().map(Secret::expose),
    });
    let template = match kind {
        Channel::Slack => include_str!("../../templates/channels/slack.json"),
        Channel::Teams => include_str!("../../templates/channels/teams.json"),
        Channel::Pagerduty => include_str!("../../templates/channels/pagerduty.json"),
        Channel::Ntfy => include_str!("../../templates/channels/ntfy.json"),
        Channel::Http | Channel::Email | Channel::Webhook => {
            let body = settings.body.iter();
            let fields = body.map(|(key, text)| (key.clone(), filled(&json!(text), &values)));
            return Value::Object(fields.collect());
        }
    };
    filled(&serde_json::from_str(template).unwrap_or_default(), &values)
}

/// The most bytes of a text, so that the body stays within the limit when all of it has to be escaped.
fn room(kind: Channel) -> usize {
    match kind {
        Channel::Slack => 7_000,
        Channel::Teams => 5_000,
        Channel::Ntfy => 3_000,
        Channel::Email | Channel::Webhook | Channel::Pagerduty | Channel::Http => 50_000,
    }
}

/// The template with its placeholders filled once. One that stands alone is replaced by its value, whatever that is.
fn filled(template: &Value, values: &Value) -> Value {
    match template {
        Value::String(text) => match template_pieces(text, |word| values.get(word)).as_slice() {
            [TemplatePiece::Placeholder(value)] => (*value).clone(),
            pieces => {
                let texts = pieces.iter().map(|piece| match piece {
                    TemplatePiece::Text(text) => text,
                    TemplatePiece::Placeholder(value) => value.as_str().unwrap_or_default(),
                });
                Value::String(texts.collect())
            }
        },
        Value::Array(items) => items.iter().map(|item| filled(item, values)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(k, v)| (k.clone(), filled(v, values)));
            Value::Object(fields.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => template.clone(),
    }
}

/// As much of a text as fits into so many bytes, as the service shows it and takes it for no markup.
fn shown(kind: Channel, text: &str, bytes: usize) -> String {
    let end = text.floor_char_boundary(bytes);
    let (text, rest) = text.split_at(end);
    let mut shown = String::new();
    for c in text.chars().chain((!rest.is_empty()).then_some('…')) {
        match (kind, c) {
            (Channel::Slack, '&') => shown.push_str("&amp;"),
            (Channel::Slack, '<') => shown.push_str("&lt;"),
            (Channel::Slack, '>') => shown.push_str("&gt;"),
            (Channel::Teams, '\\' | '*' | '[' | ']' | '`' | '<') => shown.extend(['\\', c]),
            // One line break is a blank to Markdown.
            (Channel::Teams, '\n') => shown.push_str("\n\n"),
            (_, c) if c != '\n' && c.is_control() => {}
            (_, c) => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, occasion: &str) -> RenderedMessage {
        RenderedMessage {
            id: "n".to_owned(),
            follows: None,
            subject: text.to_owned(),
            text: text.to_owned(),
            html: String::new(),
            json: json!({ "occasion": occasion, "severity": "critical", "dedup_key": "i" }),
        }
    }

    fn of(kind: Channel, text: &str, occasion: &str) -> Value {
        let settings = PostSettings {
            name: "a".to_owned(),
            kind,
            host: String::new(),
            url: Secret::new(""),
            routing_key: Some(Secret::new("key")),
            headers: Vec::new(),
            body: vec![("all".to_owned(), "{title} {text}".to_owned())],
        };
        let message = message(text, occasion);
        body(&settings, "topic", &message, "https://calls.example.com")
    }

    #[test]
    fn the_longest_text_stays_within_what_each_service_takes() {
        for piece in ["<&>", "*[`", "\u{1}\"", "ß€😀\n"] {
            let text = piece.repeat(200_000);
            for (kind, most) in [
                (Channel::Slack, 40_000),
                (Channel::Teams, 28_000),
                (Channel::Pagerduty, 512_000),
                (Channel::Ntfy, 8_192),
                (Channel::Http, 512_000),
            ] {
                let n = of(kind, &text, "opened").to_string().len();
                assert!(n <= most, "{kind:?} {piece:?}: {n}");
            }
        }
        let long = of(Channel::Ntfy, &"ß".repeat(9_000), "opened");
        assert_eq!(long["message"].as_str().map(str::len), Some(3_003));
        let long = of(Channel::Pagerduty, &"ß".repeat(9_000), "opened");
        assert!(long["payload"]["summary"].as_str().unwrap().chars().count() <= 1_024);
    }

    #[test]
    fn an_incident_is_triggered_acknowledged_and_resolved_under_one_key() {
        for (occasion, action) in [
            ("opened", "trigger"),
            ("reminded", "trigger"),
            ("acknowledged", "acknowledge"),
            ("resolved", "resolve"),
        ] {
            let event = of(Channel::Pagerduty, "calls fail", occasion);
            assert_eq!(event["event_action"], action);
            assert_eq!(
                (&event["dedup_key"], &event["routing_key"]),
                (&json!("i"), &json!("key"))
            );
        }
    }

    #[test]
    fn what_a_message_says_is_no_markup_and_no_placeholder() {
        let slack = of(Channel::Slack, "<!channel> {routing_key} & *", "opened");
        assert_eq!(
            slack["text"],
            "*<https://calls.example.com|&lt;!channel&gt; {routing_key} &amp; *>*\n&lt;!channel&gt; {routing_key} &amp; *"
        );
        let teams = of(Channel::Teams, "[a](https://b.example)\n*", "opened");
        let block = &teams["attachments"][0]["content"]["body"][1];
        assert_eq!(block["text"], "\\[a\\](https://b.example)\n\n\\*");
    }
}

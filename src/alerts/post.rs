//! Chat and paging services: one POST whose body is made from a template. Adding a kind takes its template and its line in [`room`] and in
//! [`Channel::NAMED`].
//!
//! | kind | format and limits |
//! |---|---|
//! | `slack` | incoming webhook, text as mrkdwn: <https://api.slack.com/messaging/webhooks>, <https://docs.slack.dev/messaging/formatting-message-text>; longer texts than 40,000 characters are cut: <https://docs.slack.dev/reference/methods/chat.postMessage> |
//! | `teams` | an Adaptive Card to a Workflows webhook, at most 28 KB: <https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>, <https://learn.microsoft.com/en-us/connectors/teams/> |
//! | `pagerduty` | Events API v2, at most 512 KB, a summary of 1,024 characters, a key of 255: <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/> |
//! | `ntfy` | JSON to the root of the server, a message of 4,096 bytes, a title of 1 KB: <https://docs.ntfy.sh/publish/> |

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use serde_json::{Value, json};

use super::message::{NotTaken, RenderedMessage};
use super::policy::Channel;
use super::webhook::submit;
use crate::outbound::{Connections, TemplatePiece, TextTemplate};
use crate::secret::Secret;

/// What the values of a body of the kind `http` may hold, each between braces.
pub const PLACEHOLDERS: [&str; 7] = [
    "title",
    "text",
    "severity",
    "occasion",
    "dedup_key",
    "link",
    "at",
];
/// The longest title in bytes: fewer than the characters of a summary at PagerDuty, and than the bytes of a title at ntfy.
const TITLE: usize = 1_000;

/// `[alerts.channels.*]`: one channel of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostSettings {
    /// Its key under `[alerts.channels]`, 1 to 32 of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// One of [`Channel::NAMED`].
    pub kind: Channel,
    /// Where messages go; of ntfy, the address of the topic.
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

/// Sends messages to one channel.
#[derive(Clone, Debug)]
pub struct PostSender {
    settings: PostSettings,
    url: Url,
    template: Value,
    /// Of ntfy: the last part of the address.
    topic: String,
    connections: Connections,
}

impl PostSender {
    /// `url` is that of the settings.
    pub fn new(settings: PostSettings, mut url: Url, connections: Connections) -> Self {
        let template = match settings.kind {
            Channel::Slack => shipped(include_str!("../../templates/channels/slack.json")),
            Channel::Teams => shipped(include_str!("../../templates/channels/teams.json")),
            Channel::Pagerduty => shipped(include_str!("../../templates/channels/pagerduty.json")),
            Channel::Ntfy => shipped(include_str!("../../templates/channels/ntfy.json")),
            Channel::Http | Channel::Email | Channel::Webhook => {
                let body = settings.body.iter();
                Value::Object(body.map(|(k, v)| (k.clone(), json!(v))).collect())
            }
        };
        let path = url.path().trim_end_matches('/').to_owned();
        let (root, topic) = path.rsplit_once('/').unwrap_or(("", &path));
        if settings.kind == Channel::Ntfy {
            url.set_path(&format!("{root}/"));
        }
        Self {
            topic: topic.to_owned(),
            settings,
            url,
            template,
            connections,
        }
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub fn kind(&self) -> Channel {
        self.settings.kind
    }

    /// Sends one message. What the service refuses with 4xx is refused for good, but for 408, 425 and 429.
    pub async fn send(
        &self,
        message: &RenderedMessage,
        public_url: &str,
        now: Timestamp,
    ) -> Result<(), NotTaken> {
        let body = self.body(message, public_url).to_string();
        let request = |client: &reqwest::Client| {
            let request = client
                .post(self.url.clone())
                .header("content-type", "application/json")
                .header("idempotency-key", &message.id)
                .body(body.clone());
            let headers = self.settings.headers.iter();
            headers.fold(request, |request, (name, value)| {
                request.header(name, value.expose())
            })
        };
        let is_final = |status| matches!(status, 400..500) && !matches!(status, 408 | 425 | 429);
        submit(&self.connections, request, now, is_final).await
    }

    /// The body, with as much of the text as the service takes.
    fn body(&self, message: &RenderedMessage, public_url: &str) -> Value {
        let (mut text_bytes, body_bytes) = room(self.settings.kind);
        loop {
            let values = self.values(message, public_url, text_bytes);
            let body = filled(&self.template, &values);
            if text_bytes == 0 || body.to_string().len() <= body_bytes {
                return body;
            }
            text_bytes = text_bytes / 4 * 3;
        }
    }

    fn values(
        &self,
        message: &RenderedMessage,
        public_url: &str,
        text_bytes: usize,
    ) -> [(&'static str, Value); 15] {
        let said = |place| message.json.pointer(place).and_then(Value::as_str);
        let kind = self.settings.kind;
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
        let link = said("/links/alerts").unwrap_or(public_url);
        let is_slack = kind == Channel::Slack;
        let link = if is_slack {
            escaped(kind, link)
        } else {
            link.to_owned()
        };
        let routing_key = self.settings.routing_key.as_ref().map(Secret::expose);
        [
            ("title", json!(escaped(kind, &cut(&title.join(" "), TITLE)))),
            (
                "text",
                json!(escaped(kind, &cut(&message.text, text_bytes))),
            ),
            ("severity", json!(severity)),
            ("occasion", json!(occasion)),
            (
                "dedup_key",
                json!(said("/dedup_key").unwrap_or(&message.id)),
            ),
            ("link", json!(link)),
            ("at", json!(said("/at"))),
            ("action", json!(action)),
            ("source", json!(public_url)),
            ("kind", json!(said("/incident/kind").unwrap_or(occasion))),
            ("colour", json!(colour)),
            ("tag", json!(tag)),
            ("priority", json!(priority)),
            ("topic", json!(self.topic)),
            ("routing_key", json!(routing_key)),
        ]
    }
}

/// The most bytes of a text, before it is escaped, and of the whole body.
fn room(kind: Channel) -> (usize, usize) {
    match kind {
        Channel::Slack => (40_000, 40_000),
        Channel::Teams => (28_000, 28_000),
        // A server reads twice as much JSON as a message may have.
        Channel::Ntfy => (4_096, 8_192),
        Channel::Pagerduty | Channel::Http | Channel::Email | Channel::Webhook => {
            (500_000, 512_000)
        }
    }
}

fn shipped(template: &str) -> Value {
    serde_json::from_str(template).unwrap_or_default()
}

/// The template with its placeholders filled once. One that stands alone is replaced by its value, whatever that is.
fn filled(template: &Value, values: &[(&str, Value)]) -> Value {
    match template {
        Value::String(text) => {
            let find = |word: &str| values.iter().find(|(name, _)| *name == word);
            let text = TextTemplate::parse(text, |word| find(word).map(|(_, value)| value));
            if let Some(&value) = text.single() {
                return value.clone();
            }
            let filled = text.render(|piece| match piece {
                TemplatePiece::Text(text) => text.clone(),
                TemplatePiece::Placeholder(Value::String(text)) => text.clone(),
                TemplatePiece::Placeholder(value) => value.to_string(),
            });
            Value::String(filled)
        }
        Value::Array(items) => items.iter().map(|item| filled(item, values)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            Value::Object(
                fields
                    .map(|(k, v)| (k.clone(), filled(v, values)))
                    .collect(),
            )
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => template.clone(),
    }
}

/// Text that the service shows as it is, and takes for no markup.
fn escaped(kind: Channel, text: &str) -> String {
    match kind {
        Channel::Slack => text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;"),
        Channel::Teams => text.chars().fold(String::new(), |mut escaped, c| {
            match c {
                '\\' | '*' | '[' | ']' | '`' | '<' => escaped.extend(['\\', c]),
                // One line break is a blank to Markdown.
                '\n' => escaped.push_str("\n\n"),
                c => escaped.push(c),
            }
            escaped
        }),
        _ => text.to_owned(),
    }
}

/// As much of a text as fits into so many bytes.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes.saturating_sub('…'.len_utf8()));
    format!("{}…", text.get(..end).unwrap_or_default())
}

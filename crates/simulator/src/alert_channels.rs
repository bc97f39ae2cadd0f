//! Stand-ins of the services to which alerts are sent: Slack, Microsoft Teams, PagerDuty, ntfy, and a dead man's switch, each under its own
//! paths. What breaks a documented format or limit is answered as that service answers it.
//!
//! - Slack: <https://api.slack.com/messaging/webhooks>, <https://docs.slack.dev/messaging/formatting-message-text>
//! - Teams: <https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>
//! - PagerDuty: <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/>
//! - ntfy: <https://docs.ntfy.sh/publish/>

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::faults::Faults;
use super::http_server::{Answer, HttpServer};
use super::requests::{Request, Requests};

/// The stand-ins, behind one port. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AlertChannels {
    server: HttpServer,
    /// The alerts of PagerDuty by their key, and how each stands.
    alerts: Arc<Mutex<BTreeMap<String, &'static str>>>,
}

impl AlertChannels {
    pub const SLACK: &str = "/services/T000/B000/made-up-slack-token";
    pub const TEAMS: &str = "/workflows/made-up/triggers/manual/paths/invoke";
    pub const PAGERDUTY: &str = "/v2/enqueue";
    pub const ROUTING_KEY: &str = "0123456789abcdef0123456789abcdef";
    /// Any other service, which takes a flat JSON object.
    pub const OTHER: &str = "/other/made-up-hook";
    pub const TOPIC: &str = "made_up_topic";
    /// Takes GET alone, as Uptime Kuma 1 does.
    pub const HEARTBEAT: &str = "/api/push/made-up-push-token";

    /// Listens on `address`; the future serves until it is dropped.
    pub fn bind(
        address: &str,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static + use<>)> {
        let channels = Self {
            server: HttpServer::bind(address)?,
            alerts: Arc::default(),
        };
        let service = channels.clone();
        let serve = channels
            .server
            .serve(move |request| service.answer(request));
        Ok((channels, serve))
    }

    /// The host, without a path.
    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    /// What came to this path, oldest first.
    pub fn requests_to(&self, path: &str) -> Vec<Request> {
        let all = self.server.requests.all().into_iter();
        all.filter(|request| request.path() == path).collect()
    }

    pub fn requests(&self) -> &Requests {
        &self.server.requests
    }

    /// The alerts of PagerDuty by their key: `triggered`, `acknowledged` or `resolved`.
    pub fn alerts(&self) -> BTreeMap<String, &'static str> {
        self.alerts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn answer(&self, request: &Request) -> Answer {
        let body = request.json().unwrap_or_default();
        match (request.method.as_str(), request.path()) {
            ("GET", Self::HEARTBEAT) => Answer::json(200, &json!({ "ok": true })),
            ("POST", Self::SLACK) => match slack_fault(&body) {
                None => Answer::text(200, "ok"),
                Some(fault) => Answer::text(400, fault),
            },
            ("POST", Self::TEAMS) if request.body.len() > 28_000 => {
                Answer::text(413, "Request entity too large")
            }
            ("POST", Self::TEAMS) => match teams_fault(&body) {
                None => Answer::text(202, ""),
                Some(fault) => Answer::text(400, fault),
            },
            ("POST", Self::PAGERDUTY) if request.body.len() > 512_000 => Answer::text(413, ""),
            ("POST", Self::PAGERDUTY) => self.pagerduty(&body),
            ("POST", "/") => match ntfy_fault(&body, request.body.len()) {
                None => Answer::json(200, &json!({ "id": "made-up", "event": "message" })),
                Some(fault) => Answer::json(400, &json!({ "code": 40001, "error": fault })),
            },
            ("POST", Self::OTHER) if body.is_object() => Answer::text(204, ""),
            ("POST", path) if path.starts_with("/services/") => Answer::text(404, "no_service"),
            _ => Answer::text(404, "not found"),
        }
    }

    fn pagerduty(&self, event: &Value) -> Answer {
        if let Some(fault) = pagerduty_fault(event) {
            let invalid = json!({ "status": "invalid event", "message": "Event object is invalid", "errors": [fault] });
            return Answer::json(400, &invalid);
        }
        let key = text(event, "/dedup_key").unwrap_or("drawn").to_owned();
        let mut alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_open = alerts.get(&key).is_some_and(|state| *state != "resolved");
        match text(event, "/event_action") {
            Some("trigger") if !is_open => {
                alerts.insert(key.clone(), "triggered");
            }
            // What is about no open alert is dropped.
            Some("acknowledge") if is_open => {
                alerts.insert(key.clone(), "acknowledged");
            }
            Some("resolve") if is_open => {
                alerts.insert(key.clone(), "resolved");
            }
            _ => {}
        }
        let taken = json!({ "status": "success", "message": "Event processed", "dedup_key": key });
        Answer::json(202, &taken)
    }
}

fn text<'a>(body: &'a Value, place: &str) -> Option<&'a str> {
    body.pointer(place)?.as_str()
}

/// Three characters are markup and have to be escaped, but for links like `<https://…|label>`.
fn slack_fault(body: &Value) -> Option<&'static str> {
    let Some(text) = text(body, "/text").filter(|text| !text.is_empty()) else {
        return Some("no_text");
    };
    let is_escaped = |after: &str| ["amp;", "lt;", "gt;"].iter().any(|e| after.starts_with(e));
    let is_link = |after: &str| after.starts_with("http") && after.contains('>');
    let mut ampersands = text.split('&').skip(1);
    let mut links = text.split('<').skip(1);
    let n_closed = text.matches('>').count();
    if text.chars().count() > 40_000
        || n_closed != text.matches('<').count()
        || !ampersands.all(is_escaped)
        || !links.all(is_link)
    {
        return Some("invalid_payload");
    }
    None
}

fn teams_fault(body: &Value) -> Option<&'static str> {
    let kind = text(body, "/attachments/0/contentType");
    let Some(card) = body.pointer("/attachments/0/content") else {
        return Some("not a message with an Adaptive Card");
    };
    if text(body, "/type") != Some("message")
        || kind != Some("application/vnd.microsoft.card.adaptive")
    {
        return Some("not a message with an Adaptive Card");
    }
    let blocks = card.pointer("/body").and_then(Value::as_array);
    let is_block = |block: &Value| {
        let colour = text(block, "/color").unwrap_or("Default");
        let colours = [
            "Default",
            "Dark",
            "Light",
            "Accent",
            "Good",
            "Warning",
            "Attention",
        ];
        text(block, "/type") == Some("TextBlock")
            && text(block, "/text").is_some()
            && colours.contains(&colour)
    };
    let is_card = text(card, "/type") == Some("AdaptiveCard")
        && text(card, "/version").is_some()
        && blocks.is_some_and(|blocks| !blocks.is_empty() && blocks.iter().all(is_block));
    let opens = text(card, "/actions/0/url").is_some_and(|url| url.starts_with("http"));
    (!is_card || !opens).then_some("not an Adaptive Card")
}

fn pagerduty_fault(event: &Value) -> Option<&'static str> {
    if text(event, "/routing_key").map(str::len) != Some(32) {
        return Some("Length of 'routing_key' is incorrect (should be 32 characters)");
    }
    let action = text(event, "/event_action").unwrap_or_default();
    if !["trigger", "acknowledge", "resolve"].contains(&action) {
        return Some("'event_action' is invalid");
    }
    if text(event, "/dedup_key").is_some_and(|key| key.chars().count() > 255) {
        return Some("'dedup_key' is too long");
    }
    let summary = text(event, "/payload/summary").unwrap_or_default();
    let severity = text(event, "/payload/severity").unwrap_or_default();
    let is_whole = !summary.is_empty()
        && summary.chars().count() <= 1_024
        && text(event, "/payload/source").is_some()
        && ["critical", "error", "warning", "info"].contains(&severity);
    (action == "trigger" && !is_whole).then_some("'payload' is missing or invalid")
}

fn ntfy_fault(body: &Value, n_bytes: usize) -> Option<&'static str> {
    let topic = text(body, "/topic").unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if topic.is_empty() || topic.len() > 64 || !topic.chars().all(is_name) {
        return Some("invalid request: topic invalid");
    }
    let message = text(body, "/message").unwrap_or_default();
    let title = text(body, "/title").unwrap_or_default();
    // A longer message would become an attachment.
    if message.len() > 4_096 || title.len() > 1_024 || n_bytes > 8_192 {
        return Some("invalid request: too long");
    }
    let priority = body.pointer("/priority").and_then(Value::as_u64);
    if !priority.is_some_and(|priority| (1..=5).contains(&priority)) {
        return Some("invalid request: priority invalid");
    }
    text(body, "/click")
        .is_none()
        .then_some("invalid request: click invalid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{client, in_background};

    #[tokio::test]
    async fn what_breaks_a_format_is_refused_as_the_service_refuses_it() {
        let (channels, serve) = AlertChannels::bind("127.0.0.1:0").unwrap();
        let _running = in_background(serve);
        let long = "a".repeat(1_025);
        let event = |summary: &str| {
            json!({ "routing_key": AlertChannels::ROUTING_KEY, "event_action": "trigger", "dedup_key": "k",
                    "payload": { "summary": summary, "source": "s", "severity": "critical" } })
        };
        for (path, body, status) in [
            (
                AlertChannels::SLACK,
                json!({ "text": "a &amp; <https://x.example|b>" }),
                200,
            ),
            (AlertChannels::SLACK, json!({ "text": "a & b" }), 400),
            (AlertChannels::SLACK, json!({ "text": "<!channel>" }), 400),
            ("/services/T000/B000/gone", json!({ "text": "a" }), 404),
            (AlertChannels::TEAMS, json!({ "text": "a" }), 400),
            (AlertChannels::PAGERDUTY, event("a"), 202),
            (AlertChannels::PAGERDUTY, event(&long), 400),
            (
                "/",
                json!({ "topic": "a", "message": "b", "priority": 9, "click": "c" }),
                400,
            ),
        ] {
            let url = format!("{}{path}", channels.url());
            let answer = client().post(url).json(&body).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{path} {body}");
        }
        assert_eq!(channels.alerts()["k"], "triggered");
    }
}

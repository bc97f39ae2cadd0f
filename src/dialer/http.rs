//! Any dialer that takes one POST: address, headers and a flat JSON body come from the configuration.

use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};
use serde_json::{Value, json};

use super::client::{DialerReply, Link, Request, reference, shown_reference};
use super::health::{Check, Health, Probe, failing, reachability_and_credentials};
use super::settings::{HttpApi, InvalidSettings, parse_url, secret_header};
use super::template::Template;
use super::{HandedOff, Note};
use crate::handoff::Outcome;
use crate::routing::Availability;

/// Where a dialer may say what it calls the handoff.
const REFERENCE_KEYS: [&str; 3] = ["id", "reference", "call_id"];

pub(super) struct HttpDialer {
    url: Url,
    headers: HeaderMap,
    body: Vec<(String, Template)>,
    health: Option<(Url, HeaderMap)>,
}

impl HttpDialer {
    pub(super) fn new(api: &HttpApi) -> Result<Self, InvalidSettings> {
        let url = parse_url("url", &api.url)?;
        let mut headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ACCEPT, HeaderValue::from_static("application/json")),
        ]);
        for (name, value) in &api.headers {
            headers.insert(
                header_name(name)?,
                secret_header("headers", value.expose())?,
            );
        }
        let health = match &api.health_url {
            None => None,
            Some(text) => {
                let health_url = parse_url("health_url", text)?;
                Some((
                    health_url.clone(),
                    health_headers(&url, &health_url, &headers),
                ))
            }
        };
        let mut body = Vec::new();
        for (key, value) in &api.body {
            body.push((key.clone(), Template::parse(value)?));
        }
        Ok(Self {
            url,
            headers,
            body,
            health,
        })
    }

    pub(super) async fn hand_off(&self, link: &Link, note: &Note, deadline: Instant) -> HandedOff {
        let reply = link.ask(self.request(note), deadline).await;
        let outcome = match reply.success() {
            Err(outcome) => outcome,
            Ok(answer) => Outcome::Accepted {
                reference: answer.json().and_then(|json| reference_in(&json)),
            },
        };
        let shown = match &outcome {
            Outcome::Accepted {
                reference: Some(id),
            } => Some(json!({ "reference": shown_reference(id, &note.caller) })),
            Outcome::Accepted { reference: None }
            | Outcome::Refused { .. }
            | Outcome::Retryable { .. }
            | Outcome::Unknown { .. } => None,
        };
        HandedOff {
            outcome,
            exchanges: vec![reply.exchange(shown, None)],
        }
    }

    fn request(&self, note: &Note) -> Request {
        let mut headers = self.headers.clone();
        if let Ok(key) = HeaderValue::from_str(note.call_id.as_str()) {
            headers.entry("idempotency-key").or_insert(key);
        }
        let body = |fill: fn(&Template, &Note) -> String| {
            let fields = self.body.iter();
            Value::Object(
                fields
                    .map(|(key, value)| (key.clone(), fill(value, note).into()))
                    .collect(),
            )
        };
        Request::post(
            self.url.clone(),
            headers,
            &body(Template::fill),
            body(Template::fill_shown),
        )
    }

    pub(super) fn sends_credentials_to_health_url(&self) -> bool {
        let health = self.health.as_ref();
        health.is_some_and(|(url, _)| url.origin() == self.url.origin())
    }

    pub(super) async fn probe(&self, link: &Link, deadline: Instant) -> Probe {
        match self.ask_health(link, deadline).await {
            None => Probe {
                health: Health::Unknown {
                    why: "no health_url configured".to_owned(),
                },
                availability: Availability::Unknown,
                latency: None,
            },
            Some(reply) => judge(&reply),
        }
    }

    async fn ask_health(&self, link: &Link, deadline: Instant) -> Option<DialerReply> {
        let (url, headers) = self.health.clone()?;
        Some(link.ask(Request::get(url, headers), deadline).await)
    }

    pub(super) async fn test(&self, link: &Link, timeout: Duration) -> (Vec<Check>, Probe) {
        let (mut checks, probe) = match self.ask_health(link, link.now() + timeout).await {
            None => (
                vec![Check::failed(
                    "reachability",
                    "no health_url configured: nothing can be tested without placing a call. Set `health_url` to an address that answers 2xx while the dialer is well",
                )],
                self.probe(link, link.now() + timeout).await,
            ),
            Some(reply) => (
                reachability_and_credentials(&reply, "check `headers`"),
                judge(&reply),
            ),
        };
        if only_stores_a_record(&self.url) {
            checks.push(Check::failed(
                "url",
                "this Zendesk endpoint stores the record of a call and rings nobody: use `kind = \"zendesk_talk\"`",
            ));
        }
        (checks, probe)
    }
}

fn judge(reply: &DialerReply) -> Probe {
    match reply.success() {
        Ok(_) => Probe::healthy(reply.elapsed),
        Err(_) => failing(reply, "health_url"),
    }
}

/// The credentials of the dialer go to another host under no circumstances.
fn health_headers(url: &Url, health_url: &Url, headers: &HeaderMap) -> HeaderMap {
    let mut headers = if url.origin() == health_url.origin() {
        headers.clone()
    } else {
        HeaderMap::new()
    };
    headers.remove(CONTENT_TYPE);
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers
}

fn header_name(name: &str) -> Result<HeaderName, InvalidSettings> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| InvalidSettings::new("headers", format!("`{name}` is no header name")))?;
    if [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&parsed) {
        return Err(InvalidSettings::new(
            "headers",
            format!("`{name}` is set by the connection itself"),
        ));
    }
    Ok(parsed)
}

fn reference_in(answer: &Value) -> Option<String> {
    let fields = answer.as_object()?;
    REFERENCE_KEYS
        .iter()
        .filter_map(|key| fields.get(*key))
        .find_map(reference)
}

fn only_stores_a_record(url: &Url) -> bool {
    let path = url.path().trim_end_matches('/').trim_end_matches(".json");
    url.host_str()
        .is_some_and(|host| host.ends_with(".zendesk.com"))
        && path == "/api/v2/calls"
}

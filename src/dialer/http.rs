//! Any dialer that takes one POST: address, headers and a flat JSON body come from the configuration.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};
use serde_json::{Value, json};

use super::adapter::{Adapter, AdapterSection, Api, SettingValue};
use super::attempt::{HandedOff, HandoffPayload};
use super::client::{DialerReply, DialerRequest, Link, masked_reference, reference};
use super::health::{DialerCheck, Probe, ProbeHealth, failing, reachability_and_credentials};
use super::settings::{InvalidSettings, parse_url, secret_header};
use super::template::{BodyTemplate, placeholders};
use crate::config::problem::Fault;
use crate::config::section::{Section, TomlValue};
use crate::config::url;
use crate::handoff::{Outcome, Repeat};
use crate::routing::{Availability, DialerId};
use crate::secret::Secret;

pub(super) const KIND: &str = "http";

/// Where a dialer may say what it calls the handoff.
const REFERENCE_KEYS: [&str; 3] = ["id", "reference", "call_id"];

/// How to reach any other dialer.
pub(super) struct HttpApi {
    pub(super) url: String,
    /// What answers 2xx to a GET while the dialer is well. Default: none; no probe is made.
    pub(super) health_url: Option<String>,
    /// Extra headers, in the order of the file; they win over those the adapter sets. Default: none.
    pub(super) headers: Vec<(String, Secret)>,
    /// The flat JSON body, in the order of the file: keys, and values that may hold the placeholders of [`placeholders`].
    /// Default: caller, score, tier, `CallSid` and request id.
    pub(super) body: Vec<(String, String)>,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Api> {
    let url = section.required("url", |value| {
        let url = value.request_url()?;
        warn_of_call_records(value, &url)?;
        Ok(url)
    });
    Some(Api::new(HttpApi {
        health_url: section.optional("health_url", TomlValue::request_url),
        headers: section.or("headers", Vec::new(), |value| {
            value.map(|name, value| value.header(name))
        }),
        body: section.or("body", default_body(), |value| {
            value.map(|_, value| value.template(&placeholders()))
        }),
        url: url?,
    }))
}

/// Warns of the address that people take for the one that places calls.
pub(super) fn warn_of_call_records(value: &TomlValue<'_>, url: &str) -> Result<(), Fault> {
    let path = url::Parts::split(url)?.path.trim_end_matches('/');
    let path = path.strip_suffix(".json").unwrap_or(path);
    if path.ends_with("/api/v2/calls") {
        value.warn(
            Fault::new(
                "ends in /api/v2/calls, which only stores a record of a call and rings nobody",
            )
            .hint("use kind = \"zendesk_talk\", which opens a ticket and connects the call"),
        );
    }
    Ok(())
}

fn default_body() -> Vec<(String, String)> {
    [
        ("phone_number", "{caller}"),
        ("lead_score", "{score}"),
        ("tier", "{tier}"),
        ("call_sid", "{call_sid}"),
        ("request_id", "{request_id}"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

impl AdapterSection for HttpApi {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn entries(&self) -> Vec<(String, SettingValue)> {
        let address = |url: &String| SettingValue::Address(url.clone());
        let mut entries = vec![("url".to_owned(), address(&self.url))];
        let health_url = self.health_url.iter();
        entries.extend(health_url.map(|url| ("health_url".to_owned(), address(url))));
        for (name, value) in &self.headers {
            entries.push((
                format!("headers.{name}"),
                SettingValue::Secret(value.clone()),
            ));
        }
        for (name, value) in &self.body {
            entries.push((format!("body.{name}"), SettingValue::Plain(value.clone())));
        }
        entries
    }

    fn credentials(&self) -> Vec<&str> {
        let health_url = self.health_url.as_deref().unwrap_or_default();
        let headers = self.headers.iter();
        [KIND, &self.url, health_url]
            .into_iter()
            .chain(headers.flat_map(|(name, value)| [name.as_str(), value.expose()]))
            .collect()
    }

    fn at(&self, base: &str, secret: &Secret) -> Api {
        let health = format!("{base}/health");
        let names = self.headers.iter().map(|(name, _)| name.clone());
        Api::new(Self {
            url: format!("{base}/calls"),
            health_url: self.health_url.as_ref().map(|_| health),
            headers: names.map(|name| (name, secret.clone())).collect(),
            body: self.body.clone(),
        })
    }

    fn adapter(&self, _secret: &[u8]) -> Result<Box<dyn Adapter>, InvalidSettings> {
        let url = parse_url("url", &self.url)?;
        let mut headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ACCEPT, HeaderValue::from_static("application/json")),
        ]);
        for (name, value) in &self.headers {
            headers.insert(
                header_name(name)?,
                secret_header("headers", value.expose())?,
            );
        }
        let health = match &self.health_url {
            None => None,
            Some(text) => {
                let health_url = parse_url("health_url", text)?;
                Some((
                    health_url.clone(),
                    health_headers(&url, &health_url, &headers),
                ))
            }
        };
        let body = self.body.iter();
        let body = body.map(|(key, value)| (key.clone(), BodyTemplate::parse(value)));
        Ok(Box::new(HttpDialer {
            url,
            headers,
            body: body.collect(),
            health,
        }))
    }
}

struct HttpDialer {
    url: Url,
    headers: HeaderMap,
    body: Vec<(String, BodyTemplate)>,
    health: Option<(Url, HeaderMap)>,
}

impl HttpDialer {
    fn request(&self, payload: &HandoffPayload) -> DialerRequest {
        let mut headers = self.headers.clone();
        if let Ok(key) = HeaderValue::from_str(payload.call_id.as_str()) {
            headers.entry("idempotency-key").or_insert(key);
        }
        let body = |fill: fn(&BodyTemplate, &HandoffPayload) -> String| {
            let fields = self.body.iter();
            Value::Object(
                fields
                    .map(|(key, value)| (key.clone(), fill(value, payload).into()))
                    .collect(),
            )
        };
        DialerRequest::post(
            self.url.clone(),
            headers,
            &body(BodyTemplate::fill),
            body(BodyTemplate::fill_redacted),
        )
    }

    async fn ask_health(&self, link: &Link, deadline: Instant) -> Option<DialerReply> {
        let (url, headers) = self.health.clone()?;
        Some(link.ask(DialerRequest::get(url, headers), deadline).await)
    }
}

#[async_trait]
impl Adapter for HttpDialer {
    fn credential(&self, dialer: &DialerId) -> String {
        format!("the headers (dialers.{dialer}.headers)")
    }

    fn repeat(&self) -> Repeat {
        Repeat::UnlessSent
    }

    fn fails_where_rejected(&self) -> bool {
        true
    }

    async fn hand_off(
        &self,
        link: &Link,
        payload: &HandoffPayload,
        deadline: Instant,
    ) -> HandedOff {
        let reply = link.ask(self.request(payload), deadline).await;
        let outcome = match reply.success() {
            Err(outcome) => outcome,
            Ok(answer) => Outcome::Accepted {
                reference: answer.json().and_then(|json| reference_in(&json)),
            },
        };
        let shown = match &outcome {
            Outcome::Accepted {
                reference: Some(id),
            } => Some(json!({ "reference": masked_reference(id, &payload.caller) })),
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

    fn probes_credentials(&self) -> bool {
        let health = self.health.as_ref();
        health.is_some_and(|(url, _)| url.origin() == self.url.origin())
    }

    async fn probe(&self, link: &Link, deadline: Instant) -> Probe {
        match self.ask_health(link, deadline).await {
            None => Probe {
                health: ProbeHealth::Unknown {
                    why: "no health_url configured".to_owned(),
                },
                availability: Availability::Unknown,
                latency: None,
            },
            Some(reply) => judge(&reply),
        }
    }

    async fn test(&self, link: &Link, timeout: Duration) -> (Vec<DialerCheck>, Probe) {
        let (mut checks, probe) = match self.ask_health(link, link.now() + timeout).await {
            None => (
                vec![DialerCheck::failed(
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
            checks.push(DialerCheck::failed(
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

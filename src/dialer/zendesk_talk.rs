//! Zendesk Talk: a ticket says who is calling, then the SIP-IN line rings with the ticket's id.
//!
//! No endpoint of Talk places a call; `/api/v2/calls` only stores a record of one. A ticket may be asked for again under the same
//! `Idempotency-Key`, if the body is the same to the byte.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::adapter::{Adapter, AdapterSection, Api, SettingValue};
use super::attempt::{HandedOff, HandoffPayload};
use super::client::{
    DialerAnswer, DialerReply, DialerRequest, Link, malformed, masked_reference, reference,
    retryable,
};
use super::health::{
    DialerCheck, Probe, ProbeHealth, described, failing, reachability_and_credentials, unreadable,
};
use super::http::warn_of_call_records;
use super::settings::{InvalidSettings, endpoint, parse_url, secret_header};
use crate::audit::Exchange;
use crate::config::problem::Fault;
use crate::config::section::{Section, TomlValue};
use crate::handoff::{Failure, FailureKind, Outcome};
use crate::routing::{Availability, DialerId};
use crate::secret::Secret;

pub(super) const KIND: &str = "zendesk_talk";

/// The SIP header that ties a call to its ticket.
const TICKET_HEADER: &str = "X-Zendesk-Ticket-Id";
/// The channel of a ticket: an incoming phone call.
const VIA_PHONE_CALL_INCOMING: u32 = 34;
/// A 409 is the first request still at work.
const CONFLICT_RETRY_AFTER: Duration = Duration::from_millis(300);
/// A 429 does not always say how long.
const RATE_LIMITED_FOR: Duration = Duration::from_secs(10);

/// Words of error answers that may be recorded: all others might repeat what was sent.
const ERROR_NAMES: [&str; 9] = [
    "Couldn't authenticate you",
    "Forbidden",
    "IdempotentRequestError",
    "InvalidEndpoint",
    "InvalidValue",
    "RecordInvalid",
    "RecordNotFound",
    "TooManyRequests",
    "Unprocessable Entity",
];
/// Fields of a ticket that Zendesk may complain of.
const FIELD_NAMES: [&str; 11] = [
    "base",
    "comment",
    "email",
    "external_id",
    "name",
    "phone",
    "priority",
    "requester",
    "subject",
    "tags",
    "via_id",
];

/// How to reach Zendesk Talk.
pub(super) struct ZendeskTalkApi {
    pub(super) base_url: String,
    /// The agent as whom the token acts.
    pub(super) email: String,
    pub(super) token: Secret,
    /// Fewer agents online than this, and it takes no calls. Default: 1.
    pub(super) min_agents: u64,
    /// More callers waiting than this, and it takes no calls. Default: 20.
    pub(super) max_waiting: u64,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Api> {
    let subdomain = section.optional("subdomain", subdomain);
    let base_url = section.optional("base_url", |value| {
        let url = value.base_url()?;
        warn_of_call_records(value, &url)?;
        Ok(url)
    });
    if !section.has("subdomain") && !section.has("base_url") {
        section.error(
            "subdomain",
            Fault::new("is missing")
                .hint("write subdomain = \"acme\" for https://acme.zendesk.com"),
        );
    }
    let email = section.required("email", |value| {
        if value.as_text().is_some_and(|text| text.ends_with("/token")) {
            return Err(
                Fault::new("must be the mail address alone").hint("leave /token out; it is added")
            );
        }
        value.mail_address()
    });
    let token = section.required("token", TomlValue::token);
    let from_subdomain = subdomain.map(|name| format!("https://{name}.zendesk.com"));
    Some(Api::new(ZendeskTalkApi {
        min_agents: section.or("min_agents", 1, |value| value.integer(0..=100_000)),
        max_waiting: section.or("max_waiting", 20, |value| value.integer(0..=100_000)),
        base_url: base_url.or(from_subdomain)?,
        email: email?,
        token: token?,
    }))
}

fn subdomain(value: &TomlValue<'_>) -> Result<String, Fault> {
    let text = value.text()?;
    let is_label = text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if is_label {
        return Ok(text);
    }
    Err(Fault::new("must be one word of letters, digits and -")
        .hint("write only what stands before .zendesk.com; for another host use base_url"))
}

impl AdapterSection for ZendeskTalkApi {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn entries(&self) -> Vec<(String, SettingValue)> {
        let plain = |text: String| SettingValue::Plain(text);
        [
            ("base_url", plain(self.base_url.clone())),
            ("email", plain(self.email.clone())),
            ("token", SettingValue::Secret(self.token.clone())),
            ("min_agents", plain(self.min_agents.to_string())),
            ("max_waiting", plain(self.max_waiting.to_string())),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }

    fn credentials(&self) -> Vec<&str> {
        vec![KIND, &self.base_url, &self.email, self.token.expose()]
    }

    fn at(&self, base: &str, secret: &Secret) -> Api {
        Api::new(Self {
            base_url: base.to_owned(),
            email: self.email.clone(),
            token: secret.clone(),
            ..*self
        })
    }

    fn adapter(&self, _secret: &[u8]) -> Result<Box<dyn Adapter>, InvalidSettings> {
        if self.email.is_empty() || self.email.contains(':') {
            return Err(InvalidSettings::new(
                "email",
                "write the e-mail address of the agent to whom the token belongs",
            ));
        }
        let pair = Zeroizing::new(format!("{}/token:{}", self.email, self.token.expose()));
        let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        Ok(Box::new(ZendeskTalk {
            base: parse_url("base_url", &self.base_url)?,
            headers: HeaderMap::from_iter([
                (AUTHORIZATION, secret_header("token", &basic)?),
                (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (ACCEPT, HeaderValue::from_static("application/json")),
            ]),
            min_agents: self.min_agents,
            max_waiting: self.max_waiting,
        }))
    }
}

struct ZendeskTalk {
    base: Url,
    headers: HeaderMap,
    min_agents: u64,
    max_waiting: u64,
}

impl ZendeskTalk {
    fn create_ticket(&self, payload: &HandoffPayload) -> DialerRequest {
        let mut headers = self.headers.clone();
        if let Ok(key) = HeaderValue::from_str(&format!("sb-{}-zd", payload.call_id)) {
            headers.insert("idempotency-key", key);
        }
        let number = payload.caller.number();
        DialerRequest::post(
            endpoint(&self.base, &["api", "v2", "tickets"]),
            headers,
            &ticket(payload, number.map(|n| n.as_str().to_owned())),
            ticket(payload, number.map(crate::phone::E164::masked)),
        )
        .repeatable()
    }

    fn voice(&self, rest: &[&str]) -> Url {
        let voice = ["api", "v2", "channels", "voice"];
        endpoint(&self.base, &[&voice[..], rest].concat())
    }

    /// Older accounts lack some figures. One that is there and too bad is enough; one that is missing proves nothing.
    fn availability(&self, activity: &Map<String, Value>) -> Availability {
        let figure = |key| activity.get(key).and_then(Value::as_u64);
        let agents = figure("agents_online");
        let waiting = figure("calls_waiting");
        if let Some(agents) = agents.filter(|n| *n < self.min_agents) {
            let why = format!(
                "{} online, {} needed",
                count(agents, "agent"),
                self.min_agents
            );
            return Availability::Unavailable { why };
        }
        if let Some(waiting) = waiting.filter(|n| *n > self.max_waiting) {
            let why = format!(
                "{} waiting, {} allowed",
                count(waiting, "caller"),
                self.max_waiting
            );
            return Availability::Unavailable { why };
        }
        match (agents, waiting) {
            (Some(_), Some(_)) => Availability::Available,
            _ => Availability::Unknown,
        }
    }
}

#[async_trait]
impl Adapter for ZendeskTalk {
    fn credential(&self, dialer: &DialerId) -> String {
        format!("e-mail and API token (dialers.{dialer}.email, dialers.{dialer}.token)")
    }

    fn sip_headers(&self, reference: &str) -> Vec<(&'static str, String)> {
        vec![(TICKET_HEADER, reference.to_owned())]
    }

    async fn hand_off(
        &self,
        link: &Link,
        payload: &HandoffPayload,
        deadline: Instant,
    ) -> HandedOff {
        let reply = link.ask(self.create_ticket(payload), deadline).await;
        let (outcome, exchange) = conclude(reply, payload);
        HandedOff {
            outcome,
            exchanges: vec![exchange],
        }
    }

    async fn probe(&self, link: &Link, deadline: Instant) -> Probe {
        let url = self.voice(&["stats", "current_queue_activity"]);
        let reply = link
            .ask(DialerRequest::get(url, self.headers.clone()), deadline)
            .await;
        let Ok(answer) = reply.success() else {
            return failing(&reply, "queue activity");
        };
        let activity = answer
            .json()
            .and_then(|mut json| json.get_mut("current_queue_activity").map(Value::take));
        match activity {
            Some(Value::Object(activity)) => Probe {
                health: ProbeHealth::Healthy,
                availability: self.availability(&activity),
                latency: Some(reply.elapsed),
            },
            Some(_) | None => unreadable(&reply, "queue activity"),
        }
    }

    async fn test(&self, link: &Link, timeout: Duration) -> (Vec<DialerCheck>, Probe) {
        let mut url = self.voice(&["lines"]);
        url.set_query(Some("minimal_mode=true"));
        let reply = link
            .ask(
                DialerRequest::get(url, self.headers.clone()),
                link.now() + timeout,
            )
            .await;
        let mut checks = reachability_and_credentials(
            &reply,
            "check `email` and `token`, that token access is on, and that the agent has a Talk seat",
        );
        if reply.status().is_some() {
            checks.push(lines_check(&reply));
        }
        let probe = self.probe(link, link.now() + timeout).await;
        (checks, probe)
    }
}

/// The ticket of a call, with the caller's number as given: the real one to send, a masked one to record. Nothing in it may change
/// between two attempts, not even where a restart or a round of holding lies between them: the call's id, but no request's.
fn ticket(payload: &HandoffPayload, phone: Option<String>) -> Value {
    let tier = payload.tier.as_ref().map(ToString::to_string);
    let mut tags = vec!["switchboard".to_owned()];
    tags.extend(tier.as_deref().map(tag));
    let subject = match &tier {
        Some(tier) => format!("Inbound call, tier {tier}"),
        None => "Inbound call".to_owned(),
    };
    let lead = match (payload.score, &tier) {
        (Some(score), Some(tier)) => format!("Lead score {score} (tier {tier})."),
        (Some(score), None) => format!("Lead score {score}."),
        (None, Some(tier)) => format!("Tier {tier}, no lead score."),
        (None, None) => "No lead score.".to_owned(),
    };
    let mut ticket = json!({
        "via_id": VIA_PHONE_CALL_INCOMING,
        "external_id": payload.call_id,
        "subject": subject,
        "priority": if payload.urgent { "urgent" } else { "normal" },
        "tags": tags,
        "comment": {
            "body": format!("{lead} Call {}.", payload.call_id),
            "public": false,
        },
    });
    if let (Some(phone), Some(fields)) = (phone, ticket.as_object_mut()) {
        let name = format!("Caller {}", shortened(&phone));
        fields.insert(
            "requester".to_owned(),
            json!({ "name": name, "phone": phone }),
        );
    }
    json!({ "ticket": ticket })
}

/// `+44…50`: enough to tell two callers apart, too little to call one. A number that is masked already stays so.
fn shortened(phone: &str) -> String {
    let n = phone.chars().count();
    let head: String = phone.chars().take(3).collect();
    let tail: String = phone.chars().skip(n.saturating_sub(2)).collect();
    format!("{head}…{tail}")
}

/// A tag has no spaces and only plain characters.
fn tag(tier: &str) -> String {
    let plain = |c: char| {
        if c.is_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    format!(
        "tier_{}",
        tier.to_lowercase().chars().map(plain).collect::<String>()
    )
}

fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

fn conclude(reply: DialerReply, payload: &HandoffPayload) -> (Outcome, Exchange) {
    let outcome = reply
        .success()
        .and_then(ticket_id)
        .map_or_else(soften, |id| Outcome::Accepted {
            reference: Some(id),
        });
    let shown = match &reply.answer {
        Ok(answer) => shown(answer, &outcome, payload),
        Err(_) => None,
    };
    let is_2xx = reply.success().is_ok();
    let unread = is_2xx && matches!(outcome, Outcome::Refused { .. });
    let error = unread.then_some("the answer holds no numeric ticket id");
    (outcome, reply.exchange(shown, error))
}

fn ticket_id(answer: &DialerAnswer) -> Result<String, Outcome> {
    answer.content()?;
    answer
        .json()
        .as_ref()
        .and_then(|json| json.pointer("/ticket/id"))
        .filter(|id| id.is_u64())
        .and_then(reference)
        .ok_or_else(|| malformed(answer.status))
}

/// What Zendesk means differently from others: 409 is no refusal, and 429 without a time asks for ten seconds.
fn soften(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Refused {
            failure: failure @ Failure {
                status: Some(409), ..
            },
        } => retryable(failure, Some(CONFLICT_RETRY_AFTER)),
        Outcome::Retryable {
            failure:
                failure @ Failure {
                    kind: FailureKind::RateLimited,
                    ..
                },
            retry_after_ms: None,
        } => retryable(failure, Some(RATE_LIMITED_FOR)),
        other @ (Outcome::Accepted { .. }
        | Outcome::Refused { .. }
        | Outcome::Retryable { .. }
        | Outcome::Unknown { .. }) => other,
    }
}

/// Ids, the verdict on the idempotency key, and known names of errors and fields; nothing else.
fn shown(answer: &DialerAnswer, outcome: &Outcome, payload: &HandoffPayload) -> Option<Value> {
    let mut shown = Map::new();
    if let Outcome::Accepted {
        reference: Some(id),
    } = outcome
    {
        let id = masked_reference(id, &payload.caller);
        shown.insert("ticket_id".to_owned(), json!(id));
    }
    let lookup = answer
        .headers
        .get("x-idempotency-lookup")
        .and_then(|v| v.to_str().ok());
    if let Some(lookup) = lookup.filter(|v| ["hit", "miss"].contains(v)) {
        shown.insert("idempotency".to_owned(), json!(lookup));
    }
    if let Some(Value::Object(error)) = answer.json() {
        let name = error.get("error").and_then(Value::as_str);
        if let Some(name) = name.filter(|n| ERROR_NAMES.contains(n)) {
            shown.insert("error".to_owned(), json!(name));
        }
        if let Some(Value::Object(details)) = error.get("details") {
            let fields: Vec<&String> = details
                .keys()
                .filter(|k| FIELD_NAMES.contains(&k.as_str()))
                .collect();
            shown.insert("fields".to_owned(), json!(fields));
        }
    }
    (!shown.is_empty()).then_some(Value::Object(shown))
}

fn lines_check(reply: &DialerReply) -> DialerCheck {
    let Ok(answer) = reply.success() else {
        return DialerCheck::failed(
            "lines",
            format!(
                "the Talk lines cannot be read ({}): check `subdomain`, and that Talk is on for this account",
                described(reply)
            ),
        );
    };
    let json = answer.json();
    let lines = json
        .as_ref()
        .and_then(|json| json.get("lines"))
        .and_then(Value::as_array);
    match lines.map(Vec::len) {
        None => DialerCheck::failed(
            "lines",
            "the answer is not a list of Talk lines: check `subdomain` or `base_url`",
        ),
        Some(0) => DialerCheck::passed("lines", "Talk is on; it lists no lines"),
        Some(n) => DialerCheck::passed(
            "lines",
            format!("Talk is on, with {}", count(n as u64, "line")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn availability(activity: &Value) -> Availability {
        let adapter = ZendeskTalk {
            base: Url::parse("http://localhost").unwrap(),
            headers: HeaderMap::new(),
            min_agents: 1,
            max_waiting: 20,
        };
        adapter.availability(activity.as_object().unwrap())
    }

    #[test]
    fn availability_compares_the_figures_with_the_limits() {
        let check = |activity: Value, why: &str| {
            let why = why.to_owned();
            assert_eq!(
                availability(&activity),
                Availability::Unavailable { why },
                "{activity}"
            );
        };
        check(
            json!({"agents_online": 0, "calls_waiting": 0}),
            "0 agents online, 1 needed",
        );
        check(
            json!({"agents_online": 5, "calls_waiting": 25}),
            "25 callers waiting, 20 allowed",
        );
        check(json!({"agents_online": 0}), "0 agents online, 1 needed");
        let good = json!({"agents_online": 1, "calls_waiting": 20});
        assert_eq!(availability(&good), Availability::Available);
        for unknown in [
            json!({}),
            json!({"agents_online": 3}),
            json!({"calls_waiting": 0}),
            json!({"agents_online": "3", "calls_waiting": null}),
            json!({"agents_online": -1, "calls_waiting": 0.5}),
        ] {
            assert_eq!(availability(&unknown), Availability::Unknown, "{unknown}");
        }
    }

    #[test]
    fn a_tier_becomes_a_plain_tag() {
        assert_eq!(tag("Hot Leads!"), "tier_hot_leads_");
    }
}

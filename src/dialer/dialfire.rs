//! Dialfire: the caller becomes a contact of a campaign task, and the line of that task rings.
//!
//! There is no instruction to place a call. `contacts/create` puts the caller before the agents; a caller who is there already answers 409 and is
//! updated. Both may be repeated, because the contact's `$ref` is the same for every call of one person.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::adapter::{Adapter, AdapterSection, Api, SettingValue};
use super::attempt::{HandedOff, HandoffPayload};
use super::client::{DialerReply, DialerRequest, Link, masked_reference, reference};
use super::health::{
    DialerCheck, Probe, ProbeHealth, described, failing, reachability_and_credentials,
};
use super::settings::{InvalidSettings, endpoint, parse_url, path_part, secret_header};
use crate::audit::Exchange;
use crate::config::section::{Section, TomlValue};
use crate::handoff::{Failure, FailureKind, Outcome};
use crate::routing::{Availability, DialerId};
use crate::secret::Secret;

pub(super) const KIND: &str = "dialfire";

pub(super) struct DialfireApi {
    pub(super) base_url: String,
    /// The id of the campaign, 16 letters and digits.
    pub(super) campaign: String,
    /// The task (stage) that new contacts enter.
    pub(super) task: String,
    pub(super) token: Secret,
    /// The tenant, where line statistics are the health probe. Default: none.
    pub(super) tenant: Option<Tenant>,
}

pub(super) struct Tenant {
    pub(super) id: String,
    /// The tenant token; another one than the campaign's.
    pub(super) token: Secret,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Api> {
    let campaign = section.required("campaign", |value| {
        value.text_like("a campaign id of Dialfire like AB12CD34EF56GH78", |text| {
            (8..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
        })
    });
    let task = section.required("task", |value| {
        value.text_like(
            "the name of a task, which has no blanks and no / ? # %",
            is_path_segment,
        )
    });
    let token = section.required("token", TomlValue::token);
    let tenant = section.optional("tenant", |value| {
        value.text_like("a tenant id of Dialfire like 0a1b2c3d", |text| {
            text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric())
        })
    });
    let tenant_token = section.optional("tenant_token", TomlValue::token);
    section.refuse_half_a_pair("tenant", "tenant_token");
    Some(Api::new(DialfireApi {
        base_url: section.or(
            "base_url",
            "https://api.dialfire.com".to_owned(),
            TomlValue::base_url,
        ),
        tenant: tenant
            .zip(tenant_token)
            .map(|(id, token)| Tenant { id, token }),
        campaign: campaign?,
        task: task?,
        token: token?,
    }))
}

fn is_path_segment(text: &str) -> bool {
    text.chars()
        .all(|c| !c.is_whitespace() && !c.is_control() && !"/?#%\\".contains(c))
}

impl AdapterSection for DialfireApi {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn entries(&self) -> Vec<(String, SettingValue)> {
        let plain = |key: &str, text: &str| (key.to_owned(), SettingValue::Plain(text.to_owned()));
        let secret =
            |key: &str, value: &Secret| (key.to_owned(), SettingValue::Secret(value.clone()));
        let mut entries = vec![
            plain("base_url", &self.base_url),
            plain("campaign", &self.campaign),
            plain("task", &self.task),
            secret("token", &self.token),
        ];
        if let Some(tenant) = &self.tenant {
            entries.push(plain("tenant", &tenant.id));
            entries.push(secret("tenant_token", &tenant.token));
        }
        entries
    }

    fn credentials(&self) -> Vec<&str> {
        let mut parts = vec![KIND, &self.base_url, &self.campaign, self.token.expose()];
        if let Some(tenant) = &self.tenant {
            parts.extend([tenant.id.as_str(), tenant.token.expose()]);
        }
        parts
    }

    fn at(&self, base: &str, secret: &Secret) -> Api {
        let tenant = self.tenant.as_ref().map(|tenant| Tenant {
            id: tenant.id.clone(),
            token: secret.clone(),
        });
        Api::new(Self {
            base_url: base.to_owned(),
            campaign: self.campaign.clone(),
            task: self.task.clone(),
            token: secret.clone(),
            tenant,
        })
    }

    fn adapter(&self, secret: &[u8]) -> Result<Box<dyn Adapter>, InvalidSettings> {
        let base = parse_url("base_url", &self.base_url)?;
        let lines = match &self.tenant {
            None => None,
            Some(tenant) => {
                let id = path_part("tenant", &tenant.id)?;
                Some(LineStatistics {
                    url: endpoint(&base, &["api", "tenants", &id, "lines", "stats"]),
                    headers: headers("tenant_token", tenant.token.expose())?,
                })
            }
        };
        Ok(Box::new(Dialfire {
            campaign: path_part("campaign", &self.campaign)?,
            task: path_part("task", &self.task)?,
            headers: headers("token", self.token.expose())?,
            lines,
            pseudonyms: Hmac::new_from_slice(secret).map_err(|_| {
                InvalidSettings::new("secret", "cannot serve as the key of a pseudonym")
            })?,
            base,
        }))
    }
}

struct Dialfire {
    base: Url,
    campaign: String,
    task: String,
    headers: HeaderMap,
    lines: Option<LineStatistics>,
    pseudonyms: Hmac<Sha256>,
}

/// Where line statistics are read, with the tenant's own token.
struct LineStatistics {
    url: Url,
    headers: HeaderMap,
}

impl Dialfire {
    fn create(&self, payload: &HandoffPayload) -> DialerRequest {
        let mut fields = news(payload);
        fields.insert("$ref".to_owned(), self.pseudonym(payload).into());
        fields.insert("source".to_owned(), "switchboard".into());
        let task = payload.task.as_deref().unwrap_or(&self.task);
        let mut shown = fields.clone();
        if let Some(number) = payload.caller.number() {
            fields.insert("$phone".to_owned(), number.as_str().into());
            shown.insert("$phone".to_owned(), number.masked().into());
        }
        DialerRequest::post(
            self.in_campaign(&["tasks", task, "contacts", "create"]),
            self.headers.clone(),
            &Value::Object(fields),
            Value::Object(shown),
        )
        .repeatable()
    }

    fn update(&self, payload: &HandoffPayload) -> DialerRequest {
        let body = Value::Object(news(payload));
        DialerRequest::post(
            self.in_campaign(&["contacts", &self.pseudonym(payload), "update"]),
            self.headers.clone(),
            &body,
            body.clone(),
        )
        .repeatable()
    }

    fn in_campaign(&self, rest: &[&str]) -> Url {
        let campaign = ["api", "campaigns", &self.campaign];
        endpoint(&self.base, &[&campaign[..], rest].concat())
    }

    /// The same for every call of one caller, and no way back to the number without the installation's secret. A caller
    /// without a number is somebody else with every call.
    fn pseudonym(&self, payload: &HandoffPayload) -> String {
        let (domain, text) = match payload.caller.number() {
            // A contact of its own: one that is known stays in its task.
            Some(number) if payload.task.is_some() => ("call back\0", number.as_str()),
            Some(number) => ("caller\0", number.as_str()),
            None => ("call\0", payload.call_id.as_str()),
        };
        let mut mac = self.pseudonyms.clone();
        mac.update(domain.as_bytes());
        mac.update(text.as_bytes());
        let digest = hex::encode(mac.finalize().into_bytes());
        format!("sb-{}", digest.get(..32).unwrap_or(&digest))
    }

    /// Asks for the campaign with the token of handoffs.
    async fn probe_campaign(&self, link: &Link, deadline: Instant) -> Probe {
        let reply = link
            .ask(
                DialerRequest::get(self.in_campaign(&[]), self.headers.clone()),
                deadline,
            )
            .await;
        // The body holds tokens of the campaign; it is never looked at.
        match reply.success() {
            Ok(_) => Probe::healthy(reply.elapsed),
            Err(_) => failing(&reply, "the campaign"),
        }
    }

    fn task_check(&self, reply: &DialerReply) -> DialerCheck {
        let task = &self.task;
        let Ok(answer) = reply.success() else {
            return DialerCheck::failed(
                "task",
                format!(
                    "the campaign's tasks cannot be read ({}): check `campaign`",
                    described(reply)
                ),
            );
        };
        let Some(Value::Array(tasks)) = answer.json() else {
            return DialerCheck::failed(
                "task",
                "the campaign's tasks came in a form that cannot be read: check `base_url`",
            );
        };
        let names: Vec<&str> = tasks
            .iter()
            .filter_map(|task| task.pointer("/data/name")?.as_str())
            .collect();
        if names.contains(&task.as_str()) {
            DialerCheck::passed("task", format!("the campaign has the task `{task}`"))
        } else {
            DialerCheck::failed(
                "task",
                format!(
                    "the campaign has no task `{task}`; it has {}. Set `task` to one of them",
                    list(&names)
                ),
            )
        }
    }
}

#[async_trait]
impl Adapter for Dialfire {
    fn credential(&self, dialer: &DialerId) -> String {
        format!("the campaign token (dialers.{dialer}.token)")
    }

    async fn hand_off(
        &self,
        link: &Link,
        payload: &HandoffPayload,
        deadline: Instant,
    ) -> HandedOff {
        let created = link.ask(self.create(payload), deadline).await;
        if created.status() != Some(409) {
            let (outcome, exchange) = conclude(created, payload);
            return handed(outcome, vec![exchange]);
        }
        let conflict = created.exchange(None, Some("the contact exists already"));
        let updated = link.ask(self.update(payload), deadline).await;
        let (outcome, exchange) = conclude(updated, payload);
        handed(outcome, vec![conflict, exchange])
    }

    /// Line statistics are not in the vendor's own tool; where they are refused, the campaign itself has the last word on health.
    async fn probe(&self, link: &Link, deadline: Instant) -> Probe {
        if let Some(lines) = &self.lines {
            let reply = link.ask(lines.request(), deadline).await;
            match reply.success() {
                Ok(answer) => {
                    return Probe {
                        health: ProbeHealth::Healthy,
                        availability: answer
                            .json()
                            .map_or(Availability::Unknown, |stats| availability(&stats)),
                        latency: Some(reply.elapsed),
                    };
                }
                Err(Outcome::Refused { .. }) => {}
                Err(_) => return failing(&reply, "line statistics"),
            }
        }
        self.probe_campaign(link, deadline).await
    }

    async fn try_credentials(&self, link: &Link, deadline: Instant) -> Probe {
        self.probe_campaign(link, deadline).await
    }

    async fn test(&self, link: &Link, timeout: Duration) -> (Vec<DialerCheck>, Probe) {
        let probe = self.probe(link, link.now() + timeout).await;
        let tasks = DialerRequest::get(self.in_campaign(&["tasks", ""]), self.headers.clone());
        let reply = link.ask(tasks, link.now() + timeout).await;
        let mut checks = reachability_and_credentials(
            &reply,
            "make a new campaign token in the campaign's settings and put it into `token`",
        );
        if let Some(lines) = &self.lines {
            let stats = link.ask(lines.request(), link.now() + timeout).await;
            checks.push(match stats.success() {
                Ok(_) => DialerCheck::passed("lines", "line statistics can be read"),
                Err(_) => DialerCheck::failed(
                    "lines",
                    format!(
                        "line statistics cannot be read ({}): check `tenant` and `tenant_token`, or leave both out",
                        described(&stats)
                    ),
                ),
            });
        }
        if reply.status().is_some() {
            checks.push(self.task_check(&reply));
        }
        (checks, probe)
    }
}

impl LineStatistics {
    fn request(&self) -> DialerRequest {
        DialerRequest::get(self.url.clone(), self.headers.clone())
    }
}

fn headers(key: &'static str, token: &str) -> Result<HeaderMap, InvalidSettings> {
    let bearer = secret_header(key, &format!("Bearer {token}"))?;
    Ok(HeaderMap::from_iter([
        (AUTHORIZATION, bearer),
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        ),
        (ACCEPT, HeaderValue::from_static("application/json")),
    ]))
}

/// What is new with this call, for a new contact as for a known one.
fn news(payload: &HandoffPayload) -> Map<String, Value> {
    let mut fields = Map::new();
    if let Some(score) = payload.score {
        fields.insert("lead_score".to_owned(), json!(score));
    }
    if let Some(tier) = &payload.tier {
        fields.insert("tier".to_owned(), json!(tier));
    }
    fields.insert("router_call_sid".to_owned(), json!(payload.call_id));
    fields.insert("request_id".to_owned(), json!(payload.request_id));
    fields
}

/// A good status is a success, whatever is in the answer: an update does not return the contact, and a create need not. Only JSON that says
/// an error refuses.
fn conclude(reply: DialerReply, payload: &HandoffPayload) -> (Outcome, Exchange) {
    let (status, answer) = match reply.success() {
        Ok(answer) => (answer.status, answer.json()),
        Err(outcome) => return (outcome, reply.exchange(None, None)),
    };
    let contact = match answer {
        Some(Value::Object(contact)) => contact,
        Some(_) | None => Map::new(),
    };
    if says_an_error(&contact) {
        let failure = Failure::with_status(FailureKind::Rejected, status);
        let exchange = reply.exchange(None, Some("the answer says an error"));
        return (Outcome::Refused { failure }, exchange);
    }
    let reference = contact_id(&contact);
    let shown = reference
        .as_deref()
        .map(|id| json!({ "$id": masked_reference(id, &payload.caller) }));
    (Outcome::Accepted { reference }, reply.exchange(shown, None))
}

/// `error` or `errors` with something in it, or a plain no. Fields of a contact begin with `$`, or stand below `data`.
fn says_an_error(answer: &Map<String, Value>) -> bool {
    let is_said = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    };
    let is = |key, value: Value| answer.get(key) == Some(&value);
    ["error", "errors"]
        .iter()
        .any(|key| answer.get(*key).is_some_and(is_said))
        || is("success", json!(false))
        || is("ok", json!(false))
        || is("status", json!("error"))
}

fn contact_id(answer: &Map<String, Value>) -> Option<String> {
    let inner = answer.get("data").and_then(|data| data.get("$id"));
    reference(inner.or_else(|| answer.get("$id"))?)
}

fn handed(outcome: Outcome, exchanges: Vec<Exchange>) -> HandedOff {
    HandedOff { outcome, exchanges }
}

/// The shape of line statistics is not known. An agent count under its usual name is taken, anything else says nothing.
fn availability(stats: &Value) -> Availability {
    let agents = stats
        .get("agents_online")
        .or_else(|| stats.pointer("/data/agents_online"));
    match agents.and_then(Value::as_u64) {
        None => Availability::Unknown,
        Some(0) => Availability::Unavailable {
            why: "0 agents online, 1 needed".to_owned(),
        },
        Some(_) => Availability::Available,
    }
}

fn list(names: &[&str]) -> String {
    const MAX_NAMES: usize = 10;
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut text: Vec<String> = names
        .iter()
        .take(MAX_NAMES)
        .map(|n| format!("`{n}`"))
        .collect();
    if names.len() > MAX_NAMES {
        text.push(format!("{} more", names.len() - MAX_NAMES));
    }
    text.join(", ")
}

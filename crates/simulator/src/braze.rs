//! A stand-in for Braze's user export, `POST /users/export/ids`, as far as a look-up by phone needs it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::faults::Faults;
use super::http_server::{Answer, HttpServer};
use super::requests::{Request, Requests};

/// Requests that an account may send in a minute; the headers count them, and more are answered all the same.
const PER_MINUTE: u32 = 250;

/// What may stand in `fields_to_export`.
const FIELDS: &str = "\
    apps attributed_campaign attributed_source attributed_adgroup attributed_ad braze_id \
    campaigns_received canvases_received cards_clicked country created_at custom_attributes \
    custom_events devices dob email email_subscribe external_id first_name gender home_city \
    language last_coordinates last_name phone purchases push_subscribe push_tokens \
    random_bucket time_zone total_revenue uninstalled_at user_aliases";

/// One user profile. Several may share one phone.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    phone: String,
    fields: Map<String, Value>,
    attributes: Option<Map<String, Value>>,
}

impl Profile {
    /// A profile without custom attributes: Braze leaves the key out then.
    pub fn new(phone: &str) -> Self {
        let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
        let fields = json!({
            "external_id": format!("ext-{digits}"),
            "braze_id": format!("{digits:0>24}"),
            "created_at": "2024-07-10 15:00:00.000 UTC",
            "phone": phone,
            "first_name": "Jane",
            "last_name": "Doe",
        });
        Self {
            phone: phone.to_owned(),
            fields: into_map(fields),
            attributes: None,
        }
    }

    /// With a custom attribute of any JSON type.
    #[must_use]
    pub fn with(mut self, attribute: &str, value: impl Into<Value>) -> Self {
        self.attributes
            .get_or_insert_default()
            .insert(attribute.to_owned(), value.into());
        self
    }

    /// With `"custom_attributes": {}` instead of no such key.
    #[must_use]
    pub fn with_empty_attributes(mut self) -> Self {
        self.attributes.get_or_insert_default();
        self
    }

    /// With another standard field: `external_id`, `created_at`, …
    #[must_use]
    pub fn with_field(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes.as_ref()?.get(name)
    }

    pub fn external_id(&self) -> Option<&str> {
        self.fields.get("external_id")?.as_str()
    }

    fn export(&self, wanted: &[&str]) -> Value {
        let mut out: Map<String, Value> = self
            .fields
            .iter()
            .filter(|(name, _)| wanted.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if let Some(attributes) = &self.attributes
            && wanted.contains(&"custom_attributes")
        {
            out.insert(
                "custom_attributes".to_owned(),
                Value::Object(attributes.clone()),
            );
        }
        Value::Object(out)
    }
}

/// The stand-in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Braze {
    server: HttpServer,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    api_key: String,
    profiles: BTreeMap<String, Vec<Profile>>,
    minute: i64,
    used: u32,
}

impl Braze {
    /// Listens on `address`; the future serves until it is dropped.
    pub fn bind(
        address: &str,
        api_key: &str,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static + use<>)> {
        let braze = Self {
            server: HttpServer::bind(address)?,
            state: Arc::new(Mutex::new(State {
                api_key: api_key.to_owned(),
                profiles: BTreeMap::new(),
                minute: 0,
                used: 0,
            })),
        };
        let service = braze.clone();
        let serve = braze.server.serve(move |request| service.answer(request));
        Ok((braze, serve))
    }

    /// The REST host, without a trailing slash.
    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    pub fn requests(&self) -> &Requests {
        &self.server.requests
    }

    /// Adds a profile beside those that have the same phone.
    pub fn add(&self, profile: Profile) {
        self.state()
            .profiles
            .entry(profile.phone.clone())
            .or_default()
            .push(profile);
    }

    /// Puts this profile in place of all that have its phone.
    pub fn put(&self, profile: Profile) {
        self.state()
            .profiles
            .insert(profile.phone.clone(), vec![profile]);
    }

    /// Forgets everybody with this phone.
    pub fn remove(&self, phone: &str) {
        self.state().profiles.remove(phone);
    }

    fn answer(&self, request: &Request) -> Answer {
        let mut state = self.state();
        if let Some(refused) = state.check_key(request) {
            return refused;
        }
        let now_ms = Timestamp::now().as_millisecond();
        let headers = state.count(now_ms);
        let answer = if request.path() != "/users/export/ids" {
            Answer::json(404, &json!({ "message": "Not found" }))
        } else if request.method != "POST" {
            Answer::json(405, &json!({ "message": "Method not allowed" }))
        } else {
            state.export(request)
        };
        headers
            .into_iter()
            .fold(answer, |answer, (name, value)| answer.with(name, value))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A wrong key is told back to the sender, as Braze does.
    fn check_key(&self, request: &Request) -> Option<Answer> {
        let key = request
            .header("authorization")
            .and_then(|value| value.strip_prefix("Bearer "))
            .unwrap_or("");
        if key == self.api_key {
            return None;
        }
        let body = json!({ "message": format!("Invalid API key: {key}") });
        let refused = Answer::json(401, &body)
            .with("x-ratelimit-limit", "")
            .with("x-ratelimit-remaining", "")
            .with("x-ratelimit-reset", "");
        Some(refused)
    }

    fn count(&mut self, now_ms: i64) -> [(&'static str, String); 3] {
        let minute = now_ms.div_euclid(60_000);
        if minute != self.minute {
            self.minute = minute;
            self.used = 0;
        }
        self.used = self.used.saturating_add(1);
        let remaining = PER_MINUTE.saturating_sub(self.used);
        [
            ("x-ratelimit-limit", PER_MINUTE.to_string()),
            ("x-ratelimit-remaining", remaining.to_string()),
            ("x-ratelimit-reset", ((minute + 1) * 60).to_string()),
        ]
    }

    fn export(&self, request: &Request) -> Answer {
        let Some(Value::Object(asked)) = request.json() else {
            return bad_request("The request body is not a JSON object");
        };
        let wanted: Vec<&str> = asked
            .get("fields_to_export")
            .and_then(Value::as_array)
            .map(|fields| fields.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        if wanted.is_empty() {
            return bad_request("fields_to_export is required");
        }
        if wanted
            .iter()
            .any(|field| FIELDS.split(' ').all(|known| known != *field))
        {
            return bad_request("fields_to_export contains an unknown field");
        }
        let single = ["phone", "email_address", "device_id"];
        let n_single = single
            .iter()
            .filter(|key| asked.contains_key(**key))
            .count();
        let ids: Vec<&str> = asked
            .get("external_ids")
            .and_then(Value::as_array)
            .map(|ids| ids.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        if n_single > 1 {
            return bad_request("only one of device_id, email_address and phone may be given");
        }
        if n_single == 0 && ids.is_empty() {
            return bad_request("at least one identifier is required");
        }
        if ids.len() > 50 {
            return bad_request("The max number of ids per request was exceeded");
        }
        let mut users = Vec::new();
        let mut unmatched = Vec::new();
        if let Some(phone) = asked.get("phone").and_then(Value::as_str) {
            match self.profiles.get(&stored_form(phone)) {
                Some(found) => users.extend(found.iter().map(|profile| profile.export(&wanted))),
                None => unmatched.push(phone.to_owned()),
            }
        }
        for id in ids {
            let mut found = self
                .profiles
                .values()
                .flatten()
                .filter(|profile| profile.external_id() == Some(id))
                .peekable();
            if found.peek().is_none() {
                unmatched.push(id.to_owned());
            }
            users.extend(found.map(|profile| profile.export(&wanted)));
        }
        let mut body = json!({ "users": users, "message": "success" });
        if !unmatched.is_empty()
            && let Some(body) = body.as_object_mut()
        {
            body.insert("invalid_user_ids".to_owned(), json!(unmatched));
        }
        Answer::json(201, &body)
    }
}

/// Braze drops what is no digit, and takes ten digits without a plus for a number in the US.
fn stored_form(phone: &str) -> String {
    let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
    if phone.starts_with('+') {
        format!("+{digits}")
    } else if digits.len() == 10 {
        format!("+1{digits}")
    } else {
        digits
    }
}

fn bad_request(message: &str) -> Answer {
    Answer::json(400, &json!({ "message": message, "errors": [message] }))
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::faults::Fault;
    use crate::testing::{client, in_background};

    const KEY: &str = "11111111-made-up";

    fn start() -> (Braze, JoinSet<()>) {
        let (braze, serve) = Braze::bind("127.0.0.1:0", KEY).unwrap();
        (braze, in_background(serve))
    }

    async fn export(braze: &Braze, key: &str, body: Value) -> (u16, Value, String) {
        let answer = client()
            .post(format!("{}/users/export/ids", braze.url()))
            .bearer_auth(key)
            .json(&body)
            .send()
            .await
            .unwrap();
        let remaining = answer.headers()["x-ratelimit-remaining"]
            .to_str()
            .unwrap()
            .to_owned();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap(), remaining)
    }

    fn by_phone(phone: &str) -> Value {
        json!({ "phone": phone, "fields_to_export": ["external_id", "custom_attributes"] })
    }

    #[tokio::test]
    async fn a_profile_is_found_by_phone_with_the_fields_asked_for_and_no_others() {
        let (braze, _running) = start();
        braze.add(Profile::new("+4930123456").with("lead_score", "87"));
        braze.add(Profile::new("+4930123456").with_field("external_id", Value::Null));
        let (status, body, remaining) = export(&braze, KEY, by_phone("+4930123456")).await;
        assert_eq!(status, 201);
        assert_eq!(
            body,
            json!({ "message": "success", "users": [
                { "external_id": "ext-4930123456", "custom_attributes": { "lead_score": "87" } },
                { "external_id": null },
            ]})
        );
        assert_eq!(remaining, "249");
    }

    #[tokio::test]
    async fn an_unknown_phone_is_a_success_without_users() {
        let (braze, _running) = start();
        let (status, body, _) = export(&braze, KEY, by_phone("+4930999999")).await;
        assert_eq!(status, 201);
        assert_eq!(body["users"], json!([]));
        assert_eq!(body["invalid_user_ids"], json!(["+4930999999"]));
    }

    #[tokio::test]
    async fn a_wrong_key_is_echoed_and_the_rate_headers_are_empty() {
        let (braze, _running) = start();
        let (status, body, remaining) = export(&braze, "wrong-key", by_phone("+4930123456")).await;
        assert_eq!(status, 401);
        assert_eq!(body["message"], "Invalid API key: wrong-key");
        assert_eq!(remaining, "");
    }

    #[tokio::test]
    async fn requests_that_break_the_rules_are_refused() {
        let (braze, _running) = start();
        let fields = json!(["external_id"]);
        for body in [
            json!({ "phone": "+4930123456" }),
            json!({ "phone": "+4930123456", "fields_to_export": [] }),
            json!({ "phone": "+4930123456", "fields_to_export": ["lead_score"] }),
            json!({ "fields_to_export": fields }),
            json!({ "phone": "+49301", "email_address": "a@b.example", "fields_to_export": fields }),
            json!([1]),
        ] {
            let (status, _, _) = export(&braze, KEY, body.clone()).await;
            assert_eq!(status, 400, "{body}");
        }
    }

    #[tokio::test]
    async fn faults_apply() {
        let (braze, _running) = start();
        export(&braze, KEY, by_phone("+4930123456")).await;
        braze.faults().once(Fault::status(503));
        let answer = client()
            .post(format!("{}/users/export/ids", braze.url()))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(braze.requests().count(), 2);
        assert_eq!(braze.requests().mentioning("+4930123456").len(), 1);
    }
}

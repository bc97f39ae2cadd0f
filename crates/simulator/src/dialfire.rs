//! A stand-in for Dialfire: contacts of a campaign, and the statistics of a tenant's lines.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

use super::chance::Chance;
use super::faults::Faults;
use super::form;
use super::handoffs::Handoffs;
use super::http_server::{Answer, HttpServer};
use super::made_up;
use super::requests::{Request, Requests};

/// The oldest contacts are forgotten beyond this many.
const KEPT: usize = 100_000;

/// The ids and tokens of the customer that the stand-in plays.
#[derive(Clone, Debug)]
pub struct Account {
    /// 16 upper-case letters and digits.
    pub campaign: String,
    pub campaign_token: String,
    pub tenant: String,
    pub tenant_token: String,
    /// The names of the campaign's tasks.
    pub tasks: Vec<String>,
}

impl Account {
    /// The made-up customer of all tests.
    pub fn made_up() -> Self {
        Self {
            campaign: made_up::CAMPAIGN.to_owned(),
            campaign_token: made_up::CAMPAIGN_TOKEN.to_owned(),
            tenant: made_up::TENANT.to_owned(),
            tenant_token: made_up::TENANT_TOKEN.to_owned(),
            tasks: vec![made_up::TASK.to_owned(), made_up::CALL_BACK_TASK.to_owned()],
        }
    }
}

/// A contact as the campaign knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Contact {
    pub id: String,
    /// Its fields, `$ref` and `$phone` among them.
    pub fields: Map<String, Value>,
}

/// The stand-in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialfire {
    server: HttpServer,
    handoffs: Handoffs,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    account: Account,
    contacts: HashMap<String, Contact>,
    id_of_reference: HashMap<String, String>,
    oldest_first: VecDeque<String>,
    chance: Chance,
}

impl Dialfire {
    /// Listens on `address`; the future serves until it is dropped.
    pub fn bind(
        address: &str,
        account: Account,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static + use<>)> {
        let dialfire = Self {
            server: HttpServer::bind(address)?,
            handoffs: Handoffs::default(),
            state: Arc::new(Mutex::new(State {
                account,
                contacts: HashMap::new(),
                id_of_reference: HashMap::new(),
                oldest_first: VecDeque::new(),
                chance: Chance::seeded(0xD1A1),
            })),
        };
        let service = dialfire.clone();
        let serve = dialfire
            .server
            .serve(move |request| service.answer(request));
        Ok((dialfire, serve))
    }

    /// The API host, without a trailing slash.
    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    pub fn requests(&self) -> &Requests {
        &self.server.requests
    }

    pub fn handoffs(&self) -> &Handoffs {
        &self.handoffs
    }

    /// A contact by its `$ref` or its `$id`.
    pub fn contact(&self, reference: &str) -> Option<Contact> {
        self.state().find(reference).cloned()
    }

    fn answer(&self, request: &Request) -> Answer {
        let path: Vec<String> = request
            .path()
            .trim_matches('/')
            .split('/')
            .map(|segment| form::percent_decode(segment, false))
            .collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let mut state = self.state();
        if !state.may(request, &path) {
            return Answer::text(403, "403 - Forbidden");
        }
        match (request.method.as_str(), path.as_slice()) {
            ("GET", ["api", "campaigns", campaign]) => Answer::json(
                200,
                &json!({ "id": campaign, "title": "Inbound", "status": "active" }),
            ),
            ("GET", ["api", "campaigns", _, "tasks"]) => state.tasks(),
            ("POST", ["api", "campaigns", _, "tasks", task, "contacts", "create"]) => {
                self.create(&mut state, request, task)
            }
            ("POST", ["api", "campaigns", _, "contacts", reference, "update"]) => {
                self.update(&mut state, request, reference)
            }
            ("GET", ["api", "campaigns", _, "contacts", reference, "flat_view"]) => {
                match state.find(reference) {
                    Some(contact) => Answer::json(200, &Value::Object(contact.fields.clone())),
                    None => not_found(),
                }
            }
            // The true shape is not known.
            ("GET", ["api", "tenants", _, "lines", "stats"]) => {
                Answer::json(200, &json!([{ "id": "line-1", "agents": 4, "waiting": 0 }]))
            }
            _ => not_found(),
        }
    }

    fn create(&self, state: &mut State, request: &Request, task: &str) -> Answer {
        if !state.account.tasks.iter().any(|known| known == task) {
            return not_found();
        }
        let Some(Value::Object(mut fields)) = request.json() else {
            return Answer::text(400, "400 - Bad Request");
        };
        let reference = fields
            .get("$ref")
            .and_then(Value::as_str)
            .map(str::to_owned);
        if let Some(known) = reference
            .as_deref()
            .and_then(|reference| state.id_of_reference.get(reference))
        {
            return Answer::text(409, &format!("409 - Conflict: contacts/{known}"));
        }
        let id = state.chance.hex(16).to_uppercase();
        let version = state.chance.hex(12);
        fields.insert("$id".to_owned(), json!(id));
        fields.insert("$version".to_owned(), json!(version));
        fields.insert("$task".to_owned(), json!(task));
        fields.insert("$status".to_owned(), json!("open"));
        let answer = Answer::json(200, &json!({ "data": fields }));
        state.remember(
            reference,
            Contact {
                id: id.clone(),
                fields,
            },
        );
        self.handoffs.accept(&id, request, None);
        answer
    }

    fn update(&self, state: &mut State, request: &Request, reference: &str) -> Answer {
        let Some(Value::Object(changes)) = request.json() else {
            return Answer::text(400, "400 - Bad Request");
        };
        let Some(contact) = state.find_mut(reference) else {
            return not_found();
        };
        contact.fields.extend(changes);
        let id = contact.id.clone();
        self.handoffs.accept(&id, request, Some(reference));
        Answer::json(200, &json!({}))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A campaign token opens its campaign, a tenant token its tenant; nothing else opens anything.
    fn may(&self, request: &Request, path: &[&str]) -> bool {
        let token = request
            .header("authorization")
            .and_then(|value| value.strip_prefix("Bearer "));
        match path {
            ["api", "campaigns", campaign, ..] => {
                *campaign == self.account.campaign
                    && token == Some(self.account.campaign_token.as_str())
            }
            ["api", "tenants", tenant, ..] => {
                *tenant == self.account.tenant && token == Some(self.account.tenant_token.as_str())
            }
            _ => true,
        }
    }

    fn tasks(&self) -> Answer {
        let tasks: Vec<Value> = self
            .account
            .tasks
            .iter()
            .enumerate()
            .map(|(index, name)| {
                json!({
                    "data": {
                        "name": name, "title": name, "id": format!("T{index}"), "type": "CreateTask",
                        "inbound": true, "line": {}, "check_duplicate": true,
                    },
                    "version": "1",
                })
            })
            .collect();
        Answer::json(200, &Value::Array(tasks))
    }

    fn find(&self, reference: &str) -> Option<&Contact> {
        let id = self
            .id_of_reference
            .get(reference)
            .map_or(reference, String::as_str);
        self.contacts.get(id)
    }

    fn find_mut(&mut self, reference: &str) -> Option<&mut Contact> {
        let id = self
            .id_of_reference
            .get(reference)
            .map_or(reference, String::as_str);
        self.contacts.get_mut(id)
    }

    fn remember(&mut self, reference: Option<String>, contact: Contact) {
        if let Some(reference) = reference {
            self.id_of_reference.insert(reference, contact.id.clone());
        }
        self.oldest_first.push_back(contact.id.clone());
        self.contacts.insert(contact.id.clone(), contact);
        if self.contacts.len() > KEPT
            && let Some(oldest) = self.oldest_first.pop_front()
            && let Some(contact) = self.contacts.remove(&oldest)
            && let Some(reference) = contact.fields.get("$ref").and_then(Value::as_str)
        {
            self.id_of_reference.remove(reference);
        }
    }
}

fn not_found() -> Answer {
    Answer::text(404, "404 - Not Found")
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::faults::{Fault, Route};
    use crate::testing::{client, in_background};

    fn start() -> (Dialfire, JoinSet<()>) {
        let account = Account {
            campaign: "AB12CD34EF56GH78".to_owned(),
            campaign_token: "campaign-token".to_owned(),
            tenant: "0a1b2c3d".to_owned(),
            tenant_token: "tenant-token".to_owned(),
            tasks: vec!["inbound_hot".to_owned()],
        };
        let (dialfire, serve) = Dialfire::bind("127.0.0.1:0", account).unwrap();
        (dialfire, in_background(serve))
    }

    async fn send(
        dialfire: &Dialfire,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> reqwest::Result<(u16, String)> {
        let url = format!("{}{path}", dialfire.url());
        let request = match body {
            Some(body) => client().post(url).json(&body),
            None => client().get(url),
        };
        let answer = request.bearer_auth(token).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    const CREATE: &str = "/api/campaigns/AB12CD34EF56GH78/tasks/inbound_hot/contacts/create";
    const CALL: &str = "CA00000000000000000000000000000001";

    #[tokio::test]
    async fn a_second_create_conflicts_and_an_update_by_reference_succeeds() {
        let (dialfire, _running) = start();
        let body = json!({ "$ref": "cr/1", "$phone": "+4930123456", "router_call_sid": CALL });
        let (status, text) = send(&dialfire, CREATE, "campaign-token", Some(body.clone()))
            .await
            .unwrap();
        assert_eq!(status, 200);
        let created: Value = serde_json::from_str(&text).unwrap();
        let id = created["data"]["$id"].as_str().unwrap();
        let (status, text) = send(&dialfire, CREATE, "campaign-token", Some(body))
            .await
            .unwrap();
        assert_eq!(status, 409);
        assert!(text.contains(&format!("contacts/{id}")), "{text}");
        let update = "/api/campaigns/AB12CD34EF56GH78/contacts/cr%2F1/update";
        let change = json!({ "lead_score": "91", "router_call_sid": CALL });
        let (status, _) = send(&dialfire, update, "campaign-token", Some(change))
            .await
            .unwrap();
        assert_eq!(status, 200);
        let contact = dialfire.contact("cr/1").unwrap();
        assert_eq!(contact.fields["lead_score"], "91");
        assert_eq!(dialfire.handoffs().count_of("cr/1"), 2);
        assert_eq!(dialfire.handoffs().count_of(CALL), 2);
    }

    #[tokio::test]
    async fn each_token_opens_its_own_half_and_errors_are_text() {
        let (dialfire, _running) = start();
        let campaign = "/api/campaigns/AB12CD34EF56GH78";
        let lines = "/api/tenants/0a1b2c3d/lines/stats";
        for (path, token, expected) in [
            (campaign, "campaign-token", 200),
            (campaign, "tenant-token", 403),
            (lines, "tenant-token", 200),
            (lines, "campaign-token", 403),
            (
                "/api/campaigns/AB12CD34EF56GH78/tasks/",
                "campaign-token",
                200,
            ),
            (
                "/api/campaigns/AB12CD34EF56GH78/nothing",
                "campaign-token",
                404,
            ),
        ] {
            let (status, answer) = send(&dialfire, path, token, None).await.unwrap();
            assert_eq!(status, expected, "{path} with {token}");
            if expected == 403 {
                assert_eq!(answer, "403 - Forbidden");
            }
        }
        let wrong = CREATE.replace("inbound_hot", "nowhere");
        let (status, _) = send(&dialfire, &wrong, "campaign-token", Some(json!({})))
            .await
            .unwrap();
        assert_eq!(status, 404);
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_a_contact_behind() {
        let (dialfire, _running) = start();
        dialfire
            .faults()
            .once_on(Route::path("/contacts/create"), Fault::ResetAfterAccept);
        let body = json!({ "$ref": "cr-2", "router_call_sid": CALL });
        assert!(
            send(&dialfire, CREATE, "campaign-token", Some(body))
                .await
                .is_err()
        );
        assert!(dialfire.contact("cr-2").is_some());
        assert_eq!(dialfire.handoffs().count_of(CALL), 1);
    }
}

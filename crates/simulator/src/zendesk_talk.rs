//! A stand-in for Zendesk: tickets with idempotency keys, and the live figures of Talk.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::faults::Faults;
use super::handoffs::Handoffs;
use super::http_server::{Answer, HttpServer};
use super::requests::{Request, Requests};

const FIRST_TICKET: u64 = 35_436;
/// How long an idempotency key is remembered.
const KEY_LIFE: Duration = Duration::from_hours(2);
/// The oldest keys are forgotten beyond this many.
const KEPT: usize = 100_000;

/// The stand-in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ZendeskTalk {
    server: HttpServer,
    handoffs: Handoffs,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    authorization: String,
    next_ticket: u64,
    keys: HashMap<String, Remembered>,
    keys_oldest_first: VecDeque<String>,
}

#[derive(Debug)]
struct Remembered {
    body: Bytes,
    answer: Answer,
    at: Instant,
}

impl ZendeskTalk {
    /// Listens on `address`; the future serves until it is dropped. Five agents are online, nobody waits.
    pub fn bind(
        address: &str,
        email: &str,
        token: &str,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static + use<>)> {
        let zendesk = Self {
            server: HttpServer::bind(address)?,
            handoffs: Handoffs::default(),
            state: Arc::new(Mutex::new(State {
                authorization: basic(email, token),
                next_ticket: FIRST_TICKET,
                keys: HashMap::new(),
                keys_oldest_first: VecDeque::new(),
            })),
        };
        let service = zendesk.clone();
        let serve = zendesk.server.serve(move |request| service.answer(request));
        Ok((zendesk, serve))
    }

    /// The account's host, without a trailing slash.
    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn faults(&self) -> &Faults {
        &self.server.faults
    }

    pub fn requests(&self) -> &Requests {
        &self.server.requests
    }

    /// What was accepted; a repetition that was recognized by its key is not counted.
    pub fn handoffs(&self) -> &Handoffs {
        &self.handoffs
    }

    /// How many tickets there are.
    pub fn n_tickets(&self) -> u64 {
        self.state().next_ticket - FIRST_TICKET
    }

    /// Changes the credentials; the old ones are refused from now on.
    pub fn set_credentials(&self, email: &str, token: &str) {
        self.state().authorization = basic(email, token);
    }

    fn answer(&self, request: &Request) -> Answer {
        let mut state = self.state();
        let answer = if request.header("authorization") == Some(state.authorization.as_str()) {
            let path = request.path();
            let path = path.strip_suffix(".json").unwrap_or(path);
            match (request.method.as_str(), path) {
                ("POST", "/api/v2/tickets") => self.ticket_with_key(&mut state, request),
                ("GET", "/api/v2/channels/voice/stats/current_queue_activity") => {
                    Answer::json(200, &queue_activity())
                }
                ("GET", "/api/v2/channels/voice/lines") => Answer::json(200, &lines()),
                _ => Answer::json(
                    404,
                    &json!({ "error": "RecordNotFound", "description": "Not found" }),
                ),
            }
        } else {
            Answer::json(401, &json!({ "error": "Couldn't authenticate you" }))
        };
        answer
            .with("x-rate-limit", "700")
            .with("x-rate-limit-remaining", "699")
            .with("x-request-id", format!("stand-in-{}", request.number))
    }

    fn ticket_with_key(&self, state: &mut State, request: &Request) -> Answer {
        let Some(key) = request.header("idempotency-key") else {
            return self.create_ticket(state, request);
        };
        if key.len() > 255 {
            return idempotency_error("The idempotency key is too long");
        }
        let known = state
            .keys
            .get(key)
            .filter(|known| request.at.saturating_duration_since(known.at) < KEY_LIFE);
        if let Some(known) = known {
            return if known.body == request.body {
                known.answer.clone().with("x-idempotency-lookup", "hit")
            } else {
                idempotency_error("Request parameters don't match the given idempotency key")
            };
        }
        let answer = self.create_ticket(state, request);
        state.remember(key, request, &answer);
        answer.with("x-idempotency-lookup", "miss")
    }

    fn create_ticket(&self, state: &mut State, request: &Request) -> Answer {
        let Some(body) = request.json() else {
            let body = json!({ "error": "InvalidJSON", "description": "The body is not JSON" });
            return Answer::json(400, &body);
        };
        let Some(ticket) = body.get("ticket").filter(|ticket| has_comment(ticket)) else {
            let details = json!({ "base": [{ "description": "Description: cannot be blank", "error": "BlankValue" }] });
            let body = json!({
                "error": "RecordInvalid", "description": "Record validation errors", "details": details,
            });
            return Answer::json(422, &body);
        };
        let id = state.next_ticket;
        state.next_ticket += 1;
        self.handoffs.accept(&id.to_string(), request, None);
        let mut created = ticket.clone();
        if let Some(created) = created.as_object_mut() {
            created.insert("id".to_owned(), json!(id));
            created.insert("status".to_owned(), json!("new"));
            let url = format!("{}/api/v2/tickets/{id}.json", self.url());
            created.insert("url".to_owned(), json!(url));
        }
        Answer::json(201, &json!({ "ticket": created }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, key: &str, request: &Request, answer: &Answer) {
        let remembered = Remembered {
            body: request.body.clone(),
            answer: answer.clone(),
            at: request.at,
        };
        if self.keys.insert(key.to_owned(), remembered).is_none() {
            self.keys_oldest_first.push_back(key.to_owned());
        }
        if self.keys.len() > KEPT
            && let Some(oldest) = self.keys_oldest_first.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

fn has_comment(ticket: &Value) -> bool {
    let text = |pointer| ticket.pointer(pointer).and_then(Value::as_str);
    [
        text("/comment/body"),
        text("/comment/html_body"),
        text("/description"),
    ]
    .into_iter()
    .flatten()
    .any(|text| !text.trim().is_empty())
}

fn queue_activity() -> Value {
    json!({ "current_queue_activity": {
        "agents_online": 5, "ai_agent_calls": 0, "average_wait_time": 12, "callbacks_waiting": 0, "calls_waiting": 0,
        "embeddable_callbacks_waiting": 0, "longest_wait_time": 30,
    }})
}

fn lines() -> Value {
    json!({
        "lines": [{
            "id": 1001, "country_code": null, "external": false, "nickname": "Sales", "priority": 0,
            "brand_id": 1, "line_type": "digital",
        }],
        "count": 1, "next_page": null, "previous_page": null,
    })
}

fn idempotency_error(description: &str) -> Answer {
    let body = json!({ "error": "IdempotentRequestError", "description": description });
    Answer::json(400, &body)
}

fn basic(email: &str, token: &str) -> String {
    format!(
        "Basic {}",
        STANDARD.encode(format!("{email}/token:{token}"))
    )
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::faults::Fault;
    use crate::testing::{client, in_background};

    const EMAIL: &str = "router@acme.example";
    const TOKEN: &str = "made-up";

    fn start() -> (ZendeskTalk, JoinSet<()>) {
        let (zendesk, serve) = ZendeskTalk::bind("127.0.0.1:0", EMAIL, TOKEN).unwrap();
        (zendesk, in_background(serve))
    }

    fn ticket(body: &str) -> Value {
        json!({ "ticket": { "external_id": "CA1", "subject": "Inbound", "comment": { "body": body } } })
    }

    async fn create(zendesk: &ZendeskTalk, key: &str, body: &Value) -> reqwest::Response {
        client()
            .post(format!("{}/api/v2/tickets.json", zendesk.url()))
            .basic_auth(format!("{EMAIL}/token"), Some(TOKEN))
            .header("Idempotency-Key", key)
            .json(body)
            .send()
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_repeated_key_gives_the_first_ticket_and_another_body_is_refused() {
        let (zendesk, _running) = start();
        let first = create(&zendesk, "k1", &ticket("score 87")).await;
        assert_eq!(first.status(), 201);
        assert_eq!(first.headers()["x-idempotency-lookup"], "miss");
        let id = first.json::<Value>().await.unwrap()["ticket"]["id"].clone();
        let second = create(&zendesk, "k1", &ticket("score 87")).await;
        assert_eq!(second.status(), 201);
        assert_eq!(second.headers()["x-idempotency-lookup"], "hit");
        assert_eq!(second.json::<Value>().await.unwrap()["ticket"]["id"], id);
        let other = create(&zendesk, "k1", &ticket("score 12")).await;
        assert_eq!(other.status(), 400);
        let other: Value = other.json().await.unwrap();
        assert_eq!(other["error"], "IdempotentRequestError");
        assert_eq!(zendesk.n_tickets(), 1);
        assert_eq!(zendesk.handoffs().count_of("CA1"), 1);
    }

    #[tokio::test]
    async fn a_lost_answer_is_found_again_by_its_key() {
        let (zendesk, _running) = start();
        zendesk.faults().once(Fault::ResetAfterAccept);
        let lost = client()
            .post(format!("{}/api/v2/tickets", zendesk.url()))
            .basic_auth(format!("{EMAIL}/token"), Some(TOKEN))
            .header("Idempotency-Key", "k2")
            .json(&ticket("score 87"))
            .send()
            .await;
        assert!(lost.is_err());
        let again = create(&zendesk, "k2", &ticket("score 87")).await;
        assert_eq!(again.headers()["x-idempotency-lookup"], "hit");
        assert_eq!(zendesk.handoffs().count(), 1);
    }

    #[tokio::test]
    async fn tickets_without_a_text_and_wrong_credentials_are_refused() {
        let (zendesk, _running) = start();
        assert_eq!(create(&zendesk, "k3", &ticket(" ")).await.status(), 422);
        zendesk.set_credentials(EMAIL, "another");
        let refused = create(&zendesk, "k4", &ticket("x")).await;
        assert_eq!(refused.status(), 401);
        assert_eq!(
            refused.json::<Value>().await.unwrap()["error"],
            "Couldn't authenticate you"
        );
    }

    #[tokio::test]
    async fn the_queue_shows_its_figures() {
        let (zendesk, _running) = start();
        let get = async |path: &str| {
            let url = format!("{}/api/v2/channels/voice/{path}", zendesk.url());
            let request = client().get(url);
            let request = request.basic_auth(format!("{EMAIL}/token"), Some(TOKEN));
            request.send().await.unwrap().json::<Value>().await.unwrap()
        };
        let path = "stats/current_queue_activity?phone_number_ids=1";
        let activity = &get(path).await["current_queue_activity"];
        assert_eq!(activity["agents_online"], 5);
        assert_eq!(activity["calls_waiting"], 0);
        assert_eq!(get("lines?minimal_mode=true").await["count"], 1);
    }
}

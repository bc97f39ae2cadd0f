//! A stand-in for any dialer that takes a call by one POST and has a health address.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::faults::Faults;
use super::handoffs::Handoffs;
use super::http_server::{Answer, HttpServer};
use super::requests::{Request, Requests};

/// The stand-in. Cheap to clone.
///
/// It notes `Idempotency-Key` and does not act on it: a request sent twice is a call placed twice, and
/// [`HttpDialer::handoffs`] shows both.
#[derive(Clone, Debug)]
pub struct HttpDialer {
    server: HttpServer,
    handoffs: Handoffs,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    required: Option<(String, String)>,
    n_calls: u64,
    keys: HashMap<String, u32>,
}

impl HttpDialer {
    /// Listens on `address`; the future serves until it is dropped.
    pub fn bind(
        address: &str,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static + use<>)> {
        let dialer = Self {
            server: HttpServer::bind(address)?,
            handoffs: Handoffs::default(),
            state: Arc::default(),
        };
        let service = dialer.clone();
        let serve = dialer.server.serve(move |request| service.answer(request));
        Ok((dialer, serve))
    }

    /// The host, without a path.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Where a call is placed.
    pub fn calls_url(&self) -> String {
        format!("{}/calls", self.url())
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

    /// How often this `Idempotency-Key` was accepted.
    pub fn n_with_key(&self, key: &str) -> u32 {
        self.state().keys.get(key).copied().unwrap_or(0)
    }

    /// Refuses every request without this header.
    pub fn require_header(&self, name: &str, value: &str) {
        self.state().required = Some((name.to_ascii_lowercase(), value.to_owned()));
    }

    fn answer(&self, request: &Request) -> Answer {
        let mut state = self.state();
        if let Some((name, value)) = &state.required
            && request.header(name) != Some(value)
        {
            return Answer::json(401, &json!({ "error": "unauthorized" }));
        }
        match (request.method.as_str(), request.path()) {
            ("GET", "/health") => Answer::json(200, &json!({ "status": "ok" })),
            ("POST", "/calls") => {
                if !request.json().is_some_and(|body| body.is_object()) {
                    return Answer::json(400, &json!({ "error": "the body is not a JSON object" }));
                }
                state.n_calls += 1;
                if let Some(key) = request.header("idempotency-key") {
                    *state.keys.entry(key.to_owned()).or_default() += 1;
                }
                let id = format!("call-{}", state.n_calls);
                self.handoffs.accept(&id, request, None);
                Answer::json(202, &json!({ "id": id, "accepted": true }))
            }
            _ => Answer::json(404, &json!({ "error": "not found" })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{client, in_background};

    #[tokio::test]
    async fn calls_are_counted_by_request() {
        let (dialer, serve) = HttpDialer::bind("127.0.0.1:0").unwrap();
        let _running = in_background(serve);
        dialer.require_header("X-API-Key", "made-up");
        let place = async |key: &str| {
            let request = client().post(dialer.calls_url());
            let request = request
                .header("X-API-Key", key)
                .header("Idempotency-Key", "i1");
            let body = json!({ "request_id": "r1", "phone_number": "+4930123456" });
            request.json(&body).send().await.unwrap().status().as_u16()
        };
        assert_eq!(place("wrong").await, 401);
        assert_eq!(place("made-up").await, 202);
        assert_eq!(place("made-up").await, 202);
        assert_eq!(dialer.handoffs().count_of("r1"), 2);
        assert_eq!(dialer.n_with_key("i1"), 2);
        let health = async || {
            let request = client().get(format!("{}/health", dialer.url()));
            let answer = request.header("x-api-key", "made-up").send().await;
            answer.unwrap().status().as_u16()
        };
        assert_eq!(health().await, 200);
    }
}

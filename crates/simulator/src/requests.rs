//! What a service was asked: every request, for tests to look at.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::faults::Fault;
use super::form;

/// The oldest requests are forgotten beyond this many, so that a demo can run for days.
const KEPT: usize = 20_000;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// Counts from 1 over the life of the service.
    pub number: u64,
    pub method: String,
    /// Path and query, as on the wire.
    pub target: String,
    /// Header names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// The body as it arrived.
    pub body: Bytes,
    /// When the request had been read, on the monotonic clock.
    pub at: Instant,
    pub fault: Option<Fault>,
    /// The status that was sent; none while the request is held or when the answer was withheld.
    pub status: Option<u16>,
}

impl Request {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The first value of a query parameter, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        form::decode(query)
            .into_iter()
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The first value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    /// The body, where it is JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whether this text occurs in the target or the body: a number, a call's id, a reference.
    pub fn mentions(&self, text: &str) -> bool {
        self.target.contains(text) || String::from_utf8_lossy(&self.body).contains(text)
    }
}

/// The requests of one service, oldest first. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Requests(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kept: Mutex<VecDeque<Request>>,
    count: watch::Sender<u64>,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            kept: Mutex::new(VecDeque::new()),
            count: watch::Sender::new(0),
        }))
    }

    /// All requests that are still remembered.
    pub fn all(&self) -> Vec<Request> {
        self.kept().iter().cloned().collect()
    }

    /// The requests that mention this text, in their target or their body.
    pub fn mentioning(&self, text: &str) -> Vec<Request> {
        self.kept()
            .iter()
            .filter(|request| request.mentions(text))
            .cloned()
            .collect()
    }

    pub fn last(&self) -> Option<Request> {
        self.kept().back().cloned()
    }

    /// How many requests have arrived so far.
    pub fn count(&self) -> u64 {
        *self.0.count.borrow()
    }

    /// Waits until so many requests have arrived.
    pub async fn reached(&self, count: u64) {
        let mut watch = self.0.count.subscribe();
        // The sender lives as long as `self`.
        if watch.wait_for(|now| *now >= count).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Forgets the requests; the count goes on.
    pub fn forget(&self) {
        self.kept().clear();
    }

    /// Records a request and gives it its number.
    pub(super) fn record(&self, mut request: Request) -> Request {
        let mut kept = self.kept();
        let number = self.count() + 1;
        request.number = number;
        kept.push_back(request.clone());
        if kept.len() > KEPT {
            kept.pop_front();
        }
        self.0.count.send_replace(number);
        request
    }

    pub(super) fn answered(&self, number: u64, status: u16) {
        let mut kept = self.kept();
        let first = kept.front().map_or(number, |request| request.number);
        let index = number
            .checked_sub(first)
            .and_then(|index| usize::try_from(index).ok());
        if let Some(request) = index.and_then(|index| kept.get_mut(index)) {
            request.status = Some(status);
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Request>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

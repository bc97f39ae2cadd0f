//! What a dialer accepted, grouped by the ids that stand in the request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::requests::Request;

/// The oldest are forgotten beyond this many.
const KEPT: usize = 200_000;

#[derive(Clone, Debug)]
pub struct Handoff {
    /// What the dialer calls it: contact id, ticket id, …
    pub id: String,
    /// The references in the request: `$ref`, `external_id`, `request_id`, and every `CallSid`.
    pub references: Vec<String>,
    pub at: Instant,
}

/// The accepted handoffs of one dialer. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Handoffs(Arc<Mutex<VecDeque<Handoff>>>);

impl Handoffs {
    /// All of them, oldest first.
    pub fn all(&self) -> Vec<Handoff> {
        self.kept().iter().cloned().collect()
    }

    /// Those that carry this reference: a `CallSid`, a `$ref`, an `external_id` or a `request_id`.
    pub fn of(&self, reference: &str) -> Vec<Handoff> {
        self.kept()
            .iter()
            .filter(|handoff| handoff.references.iter().any(|known| known == reference))
            .cloned()
            .collect()
    }

    /// How many carry this reference.
    pub fn count_of(&self, reference: &str) -> usize {
        self.kept()
            .iter()
            .filter(|handoff| handoff.references.iter().any(|known| known == reference))
            .count()
    }

    pub fn count(&self) -> usize {
        self.kept().len()
    }

    pub(super) fn accept(&self, id: &str, request: &Request, also: Option<&str>) {
        let mut references: Vec<String> = also.map(str::to_owned).into_iter().collect();
        if let Some(body) = request.json() {
            collect(&body, None, &mut references);
        }
        references.sort_unstable();
        references.dedup();
        let mut kept = self.kept();
        kept.push_back(Handoff {
            id: id.to_owned(),
            references,
            at: request.at,
        });
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Handoff>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn collect(value: &Value, key: Option<&str>, found: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let named = matches!(
                key,
                Some("$ref" | "external_id" | "request_id" | "call_sid")
            );
            if named || is_call_sid(text) {
                found.push(text.clone());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, None, found)),
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| collect(value, Some(key), found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_call_sid(text: &str) -> bool {
    text.strip_prefix("CA")
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

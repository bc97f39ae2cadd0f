//! The whole trace of a call, told from its records.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::calls::CallDocument;
use super::record::RecordDocument;
use crate::audit::{Attempt, CallAnswered, CallDecided, Event, Exchange};
use crate::call::CallId;
use crate::lead::LeadScore;
use crate::phone::Caller;
use crate::routing::{CallFacts, Decision};
use crate::store::StoredRecord;

/// Digits of a number that may belong to a person.
const SHORTEST_NUMBER: usize = 7;

/// The whole trace of a call.
#[derive(Serialize, ToSchema)]
pub(super) struct CallTrace {
    #[schema(value_type = String)]
    call_id: CallId,
    /// Where the call stands; null where only its records are left.
    #[schema(nullable)]
    call: Option<CallDocument>,
    /// Each time it was decided; more than once where a caller on hold was decided anew.
    decisions: Vec<TracedDecision>,
    /// The API requests to Braze and the dialers with their answers, in order.
    exchanges: Vec<TracedExchange>,
    /// What became of each request to a dialer.
    handoffs: Vec<TracedHandoff>,
    /// The answers to its webhooks, with their times against the budget.
    answers: Vec<TracedAnswer>,
    /// All its records, in order.
    records: Vec<RecordDocument>,
}

/// A decision, and how it came about.
#[derive(Serialize, ToSchema)]
struct TracedDecision {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    request_id: String,
    /// `twilio`, or `api` for the JSON door.
    #[schema(value_type = String)]
    door: Value,
    reason: String,
    tier: Option<String>,
    #[schema(value_type = Option<f64>)]
    score: Option<LeadScore>,
    rule: Option<String>,
    ruleset: String,
    /// The dialers to ask, in order.
    plan: Vec<String>,
    /// The dialers left out: `{dialer, reason, change}`.
    #[schema(value_type = Vec<Object>)]
    skipped: Value,
    /// The decision chain, a step each: the step as data, and `text` as a sentence.
    #[schema(value_type = Vec<Object>)]
    trace: Vec<Value>,
    /// All that was known. Of a dialer, what is as it should be is left out: in service, circuit closed, availability not told.
    #[schema(value_type = Object)]
    facts: Value,
}

/// An API request and its answer, redacted.
#[derive(Serialize, ToSchema)]
struct TracedExchange {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// `braze`, or the dialer's name.
    service: String,
    method: String,
    url: String,
    /// HTTP status; null where no answer came.
    status: Option<u16>,
    /// Why no usable answer came.
    error: Option<String>,
    elapsed_ms: f64,
    /// The request body, redacted.
    #[schema(value_type = Option<Object>)]
    request: Option<Value>,
    /// The answer, redacted.
    #[schema(value_type = Option<Object>)]
    response: Option<Value>,
}

/// One request to a dialer.
#[derive(Serialize, ToSchema)]
struct TracedHandoff {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    dialer: String,
    /// 1, or 2 for the one retry.
    attempt: u8,
    /// What became of it: `{outcome, …}`.
    #[schema(value_type = Object)]
    outcome: Value,
    elapsed_ms: f64,
}

/// An answer to a webhook of the call.
#[derive(Serialize, ToSchema)]
struct TracedAnswer {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    request_id: String,
    /// `inbound`, or `dial-1`, `dial-2` …
    step: String,
    /// What the caller got: `{is, …}`.
    #[schema(value_type = Object)]
    answer: Value,
    lookup_ms: f64,
    handoff_ms: f64,
    /// From arrival to the moment the answer was recorded.
    total_ms: f64,
    /// What there is from arrival to answer, by the configuration in force now.
    budget_ms: u64,
    within_budget: bool,
    /// The answer as it was given (TwiML, or JSON at the JSON door), with numbers masked.
    twiml: Option<String>,
}

impl CallTrace {
    pub(super) fn new(
        call_id: CallId,
        call: Option<CallDocument>,
        records: Vec<StoredRecord>,
        budget: Duration,
    ) -> Self {
        let mut trace = Self {
            call_id,
            call,
            decisions: Vec::new(),
            exchanges: Vec::new(),
            handoffs: Vec::new(),
            answers: Vec::new(),
            records: Vec::new(),
        };
        for record in records {
            if let Ok(event) = record.event() {
                let body = record.personal.as_ref().and_then(|p| p.body.as_deref());
                trace.add(record.at, event, budget, body.map(masked));
            }
            trace.records.push(RecordDocument::new(record));
        }
        trace
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "everything else is told by its record"
    )]
    fn add(&mut self, at: Timestamp, event: Event, budget: Duration, body: Option<String>) {
        if let Some(attempt) = event.attempt() {
            let exchanges = attempt.exchanges.iter().cloned();
            self.exchanges
                .extend(exchanges.map(|exchange| TracedExchange::new(at, exchange)));
            self.handoffs.push(TracedHandoff::new(at, attempt));
        }
        match event {
            Event::CallDecided(decided) => {
                let exchange = decided.lookup_exchange.clone();
                self.exchanges
                    .extend(exchange.map(|exchange| TracedExchange::new(at, exchange)));
                self.decisions.push(TracedDecision::new(at, *decided));
            }
            Event::CallAnswered(answered) => {
                self.answers
                    .push(TracedAnswer::new(at, *answered, budget, body));
            }
            _ => {}
        }
    }
}

/// Hides all but the last digits of every number in a text.
fn masked(text: &str) -> String {
    let mut parts = text.split('+');
    let mut hidden = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let n_digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = part.split_at(n_digits);
        let number = format!("+{digits}");
        if n_digits >= SHORTEST_NUMBER {
            hidden.push_str(&Caller::classify(&number).masked());
        } else {
            hidden.push_str(&number);
        }
        hidden.push_str(rest);
    }
    hidden
}

fn document<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// The steps of a decision as data, each with its sentence as `text`.
pub(super) fn steps(decision: &Decision, facts: &CallFacts) -> Vec<Value> {
    let sentences = decision.sentences(facts);
    let steps = decision.trace.0.iter().zip(sentences).map(|(step, text)| {
        let mut shown = document(step);
        if let Value::Object(fields) = &mut shown {
            fields.insert("text".to_owned(), text.into());
        }
        shown
    });
    steps.collect()
}

impl TracedDecision {
    fn new(at: Timestamp, decided: CallDecided) -> Self {
        let decision = decided.decision;
        Self {
            at,
            request_id: decided.request_id,
            door: document(&decided.door),
            reason: decision.reason.as_str().to_owned(),
            tier: decision.tier.as_ref().map(|tier| tier.as_str().to_owned()),
            score: decision.score,
            rule: decision.rule.clone(),
            ruleset: decision.ruleset.to_string(),
            plan: decision
                .plan
                .dialers
                .iter()
                .map(ToString::to_string)
                .collect(),
            skipped: document(&decision.plan.skipped),
            trace: steps(&decision, &decided.facts),
            facts: document(&decided.facts),
        }
    }
}

impl TracedExchange {
    fn new(at: Timestamp, exchange: Exchange) -> Self {
        Self {
            at,
            service: exchange.service,
            method: exchange.method,
            url: exchange.url,
            status: exchange.status,
            error: exchange.error,
            elapsed_ms: exchange.elapsed_ms,
            request: exchange.request,
            response: exchange.response,
        }
    }
}

impl TracedHandoff {
    fn new(at: Timestamp, attempt: &Attempt) -> Self {
        Self {
            at,
            dialer: attempt.dialer.to_string(),
            attempt: attempt.attempt,
            outcome: document(&attempt.outcome),
            elapsed_ms: attempt
                .exchanges
                .iter()
                .map(|exchange| exchange.elapsed_ms)
                .sum(),
        }
    }
}

impl TracedAnswer {
    fn new(at: Timestamp, answered: CallAnswered, budget: Duration, body: Option<String>) -> Self {
        Self {
            at,
            request_id: answered.request_id,
            step: answered.step,
            answer: document(&answered.answer),
            lookup_ms: answered.stages.lookup_ms,
            handoff_ms: answered.stages.handoff_ms,
            total_ms: answered.stages.total_ms,
            budget_ms: u64::try_from(budget.as_millis()).unwrap_or(u64::MAX),
            within_budget: answered.within_budget,
            twiml: body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_an_answer_are_hidden_and_nothing_else_is() {
        let given = "<Dial callerId=\"+4917012345678\"><Number>+4930111111</Number></Dial> 1+1 +12";
        let shown = masked(given);
        assert!(
            !shown.contains("12345") && !shown.contains("11111"),
            "{shown}"
        );
        assert!(shown.starts_with("<Dial callerId=\"+***") && shown.ends_with("</Dial> 1+1 +12"));
    }
}

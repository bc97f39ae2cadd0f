//! A recorded decision, executed again.

use serde_json::Value;

use super::{CallFacts, Decision, RulesInForce, decide};

/// A field in which a decision comes out otherwise than it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Which field of the decision.
    pub field: String,
    pub then: Value,
    pub now: Value,
}

/// Decides again from the recorded facts and compares with what was recorded, field by field.
pub fn replay(ruleset: &RulesInForce, facts: &CallFacts, recorded: &Decision) -> Vec<Difference> {
    let again = decide(ruleset, facts);
    if again == *recorded {
        return Vec::new();
    }
    let (then, now) = (fields(recorded), fields(&again));
    let names = then
        .keys()
        .chain(now.keys().filter(|name| !then.contains_key(*name)));
    let value = |of: &serde_json::Map<String, Value>, name: &String| {
        of.get(name).cloned().unwrap_or(Value::Null)
    };
    names
        .map(|name| Difference {
            field: name.clone(),
            then: value(&then, name),
            now: value(&now, name),
        })
        .filter(|difference| difference.then != difference.now)
        .collect()
}

fn fields(decision: &Decision) -> serde_json::Map<String, Value> {
    match serde_json::to_value(decision) {
        Ok(Value::Object(fields)) => fields,
        Ok(other) => [("decision".to_owned(), other)].into_iter().collect(),
        Err(_) => serde_json::Map::new(),
    }
}

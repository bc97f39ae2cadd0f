//! What differs between two rule sets: as data, and in words.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Ruleset;

/// A value is told in at most so many characters.
const LONGEST_VALUE: usize = 160;

/// One difference between two rule sets.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RulesetChange {
    /// `rule`, `tier`, `hours`, `limits`, `list`, `default_dialer`, `dialers` or `attributes`.
    pub of: &'static str,
    /// Of a rule, tier, hours, limits or list: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub change: RulesetChangeKind,
    /// As it was; null where it was not there.
    #[schema(value_type = Option<Object>)]
    pub from: Value,
    /// As it is; null where it is gone.
    #[schema(value_type = Option<Object>)]
    pub to: Value,
    /// The same as a sentence.
    pub text: String,
}

/// What became of a part of a rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RulesetChangeKind {
    Added,
    Removed,
    Changed,
    /// A rule is tried earlier or later.
    Moved,
}

/// The parts of one kind, by their names, in their order.
type Parts = Vec<(String, Value)>;

impl Ruleset {
    /// What differs in `other`: rules in the order in which they are tried, then everything else.
    pub fn changes_to(&self, other: &Self) -> Vec<RulesetChange> {
        let rules = [self, other].map(|set| parts(&set.rules));
        let tiers = [self, other].map(|set| parts(&set.tiers));
        let hours = [self, other].map(|set| parts(&set.hours));
        let limits = [self, other].map(|set| parts(&set.limits));
        let lists = [self, other].map(|set| parts(&set.lists));
        let mut changes = changes_of("rule", &rules);
        changes.extend(moves_of(&rules));
        changes.extend(changes_of("tier", &tiers));
        changes.extend(changes_of("hours", &hours));
        changes.extend(changes_of("limits", &limits));
        changes.extend(changes_of("list", &lists));
        let single = |of: &'static str, [from, to]: [Value; 2]| {
            (from != to).then(|| RulesetChange {
                of,
                name: None,
                change: RulesetChangeKind::Changed,
                text: format!("{}.", is_and_was(of, Some(&from), Some(&to))),
                from,
                to,
            })
        };
        changes.extend(single(
            "default_dialer",
            [self, other].map(|set| json(&set.default_dialer)),
        ));
        changes.extend(single(
            "dialers",
            [self, other].map(|set| json(&set.dialers)),
        ));
        changes.extend(single(
            "attributes",
            [self, other].map(|set| json(&set.attributes)),
        ));
        changes
    }
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// A list of things that have a `name`, or a table of them.
fn parts(of: &impl Serialize) -> Parts {
    match json(of) {
        Value::Array(list) => {
            let named = list.into_iter().filter_map(|mut one| {
                let name = one.as_object_mut()?.remove("name")?;
                Some((name.as_str()?.to_owned(), one))
            });
            named.collect()
        }
        Value::Object(table) => table.into_iter().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Parts::new(),
    }
}

fn find<'a>(parts: &'a Parts, name: &str) -> Option<&'a Value> {
    parts
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value)
}

fn changes_of(of: &'static str, [from, to]: &[Parts; 2]) -> Vec<RulesetChange> {
    let change = |name: &str, before: Option<&Value>, now: Option<&Value>| {
        let (change, what) = match (before, now) {
            (None, _) => (RulesetChangeKind::Added, " is new".to_owned()),
            (_, None) => (RulesetChangeKind::Removed, " is gone".to_owned()),
            (Some(before), Some(now)) => (
                RulesetChangeKind::Changed,
                format!(": {}", fields(before, now)),
            ),
        };
        RulesetChange {
            of,
            name: Some(name.to_owned()),
            change,
            from: before.cloned().unwrap_or_default(),
            to: now.cloned().unwrap_or_default(),
            text: format!("{} {name:?}{what}.", capital(of)),
        }
    };
    let gone = from.iter().filter(|(name, _)| find(to, name).is_none());
    let mut changes: Vec<_> = gone
        .map(|(name, before)| change(name, Some(before), None))
        .collect();
    for (name, now) in to {
        let before = find(from, name);
        if before != Some(now) {
            changes.push(change(name, before, Some(now)));
        }
    }
    changes
}

/// The rules that are tried earlier or later among those that both have: as few as explain the new order.
fn moves_of([from, to]: &[Parts; 2]) -> Vec<RulesetChange> {
    let place = |parts: &Parts, name: &str| parts.iter().position(|(known, _)| known == name);
    let both: Vec<(&str, usize, usize)> = to
        .iter()
        .enumerate()
        .filter_map(|(now, (name, _))| Some((name.as_str(), place(from, name)?, now)))
        .collect();
    let places: Vec<usize> = both.iter().map(|(_, before, _)| *before).collect();
    let stay = in_order(&places);
    let moved = both.iter().filter(|(_, before, _)| !stay.contains(before));
    moved
        .map(|(name, before, now)| RulesetChange {
            of: "rule",
            name: Some((*name).to_owned()),
            change: RulesetChangeKind::Moved,
            from: json(&(before + 1)),
            to: json(&(now + 1)),
            text: format!(
                "Rule {name:?} is number {}, was number {}.",
                now + 1,
                before + 1
            ),
        })
        .collect()
}

/// A longest part of these numbers that rises, by what it holds.
fn in_order(places: &[usize]) -> BTreeSet<usize> {
    let mut best: Vec<Vec<usize>> = Vec::new();
    for place in places {
        let before = best.iter().filter(|rising| rising.last() < Some(place));
        let mut rising = before.max_by_key(|rising| rising.len()).cloned();
        rising.get_or_insert_default().push(*place);
        best.extend(rising);
    }
    let longest = best.into_iter().max_by_key(Vec::len);
    longest.unwrap_or_default().into_iter().collect()
}

/// The fields that differ, in words.
fn fields(before: &Value, now: &Value) -> String {
    let empty = Map::new();
    let [before, now] = [before, now].map(|value| value.as_object().unwrap_or(&empty));
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let differing = names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name));
    let told = differing.map(|name| is_and_was(name, before.get(name), now.get(name)));
    told.collect::<Vec<_>>().join("; ")
}

fn is_and_was(name: &str, before: Option<&Value>, now: Option<&Value>) -> String {
    let text = |value: Option<&Value>| {
        let Some(value) = value else {
            return "not set".to_owned();
        };
        let text = value.to_string();
        match text.char_indices().nth(LONGEST_VALUE) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
        }
    };
    format!("{name} is {}, was {}", text(now), text(before))
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lead::{LeadScore, Tier, TierName, Tiers};
    use crate::routing::{DialerId, DialerLimits, Rule};

    fn ruleset(rules: &[(&str, &[&str])]) -> Ruleset {
        let rules = rules
            .iter()
            .map(|(name, dialers)| Rule::of_tiers(name, &[], dialers));
        Ruleset::of_rules(Tiers::default(), rules.collect(), &["web", "desk"])
    }

    fn told(from: &Ruleset, to: &Ruleset) -> Vec<String> {
        let changes = from.changes_to(to).into_iter();
        changes.map(|change| change.text).collect()
    }

    #[test]
    fn what_differs_is_told_by_its_name() {
        let from = ruleset(&[("a", &["web"]), ("b", &["desk"])]);
        let mut to = ruleset(&[("a", &["desk", "web"]), ("c", &["desk"])]);
        to.tiers = Tiers::new(vec![Tier {
            name: TierName::new("hot"),
            min_score: LeadScore::new(80.0).unwrap(),
        }]);
        let limits = DialerLimits {
            max_active: Some(3),
            ..DialerLimits::default()
        };
        to.limits.insert(DialerId::new("web"), limits);
        to.default_dialer = DialerId::new("desk");
        let expected = [
            "Rule \"b\" is gone.",
            "Rule \"a\": dialers is [\"desk\",\"web\"], was [\"web\"].",
            "Rule \"c\" is new.",
            "Tier \"hot\" is new.",
            "Limits \"web\" is new.",
            "default_dialer is \"desk\", was \"web\".",
        ];
        assert_eq!(told(&from, &to), expected);
        assert_eq!(told(&to, &to), [""; 0]);
        let back = to.changes_to(&from);
        assert_eq!(back[0].change, RulesetChangeKind::Removed);
        assert_eq!(back[0].to, Value::Null);
    }

    #[test]
    fn a_rule_that_moves_is_told_and_those_that_give_way_are_not() {
        let from = ruleset(&[
            ("a", &["web"]),
            ("b", &["web"]),
            ("c", &["web"]),
            ("d", &["web"]),
        ]);
        let to = ruleset(&[
            ("d", &["web"]),
            ("a", &["web"]),
            ("b", &["web"]),
            ("c", &["web"]),
        ]);
        assert_eq!(told(&from, &to), ["Rule \"d\" is number 1, was number 4."]);
    }
}

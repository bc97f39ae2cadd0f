//! The conditions of a rule: what each asks of a call, and what it says where the call is otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::class::CallerClass;
use super::{CallFacts, CallerKind, LookupOutcome, NumberPattern};
use crate::lead::{LeadScore, TierName};

/// Stands for "no tier" where tiers are named; no tier may be called so.
pub const NO_TIER: &str = "none";

/// What a rule asks of a call. A rule matches where all of its conditions hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// One of these tiers; [`NO_TIER`] for callers without one.
    Tier(Vec<TierName>),
    Score(ScoreRange),
    /// How the look-up ended.
    Lookup(Vec<LookupOutcome>),
    /// The Braze attribute of each name has one of these values, compared without case.
    Attribute(BTreeMap<String, Vec<String>>),
    /// What was called.
    Called(Vec<NumberPattern>),
    /// Who calls; prefixes only.
    Caller(Vec<NumberPattern>),
    CallerKind(Vec<CallerKind>),
    /// It is open by one of these hours.
    Hours(Vec<Arc<str>>),
    /// It is closed by all of these hours.
    NotHours(Vec<Arc<str>>),
    /// The caller is on one of these lists.
    List(Vec<Arc<str>>),
    /// The caller is on none of these lists.
    NotList(Vec<Arc<str>>),
    CalledBeforeWithin(CalledBefore),
    /// So many of a hundred callers, the same ones each time.
    Share(u8),
}

/// Scores from `from` on and below `below`; an absent bound does not restrict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreRange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<LeadScore>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<LeadScore>,
}

/// When the caller has called before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalledBefore {
    Never,
    /// At most so many seconds ago.
    Seconds(u64),
}

/// The conditions of one rule, in the order of [`Condition`]; a rule without any takes every call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions(pub Vec<Arc<Condition>>);

/// Whether a condition holds for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Holds,
    Fails,
    /// The fact that it asks for is not known.
    NotKnown,
}

impl Check {
    fn of(holds: bool) -> Self {
        if holds { Self::Holds } else { Self::Fails }
    }

    fn known<T>(fact: Option<T>, holds: impl FnOnce(T) -> bool) -> Self {
        fact.map_or(Self::NotKnown, |fact| Self::of(holds(fact)))
    }
}

impl ScoreRange {
    pub fn holds(&self, score: LeadScore) -> bool {
        self.from.is_none_or(|from| score >= from) && self.below.is_none_or(|below| score < below)
    }
}

impl Conditions {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tiers that are asked for; none where that is no condition.
    pub fn tiers(&self) -> &[TierName] {
        for condition in &self.0 {
            if let Condition::Tier(tiers) = &**condition {
                return tiers;
            }
        }
        &[]
    }

    /// The first condition that does not hold for a call; `None` where all do.
    pub(super) fn first_unmet(
        &self,
        rule: &str,
        facts: &CallFacts,
        class: &CallerClass,
    ) -> Option<&Arc<Condition>> {
        self.0
            .iter()
            .find(|condition| !condition.is_met(rule, facts, class))
    }
}

impl Condition {
    /// Whether it asks for what is known only once Braze and the caller's history were asked.
    pub(super) fn is_known_late(&self) -> bool {
        match self {
            Self::Tier(_)
            | Self::Score(_)
            | Self::Lookup(_)
            | Self::Attribute(_)
            | Self::CalledBeforeWithin(_) => true,
            Self::Called(_)
            | Self::Caller(_)
            | Self::CallerKind(_)
            | Self::Hours(_)
            | Self::NotHours(_)
            | Self::List(_)
            | Self::NotList(_)
            | Self::Share(_) => false,
        }
    }

    pub(super) fn is_met(&self, rule: &str, facts: &CallFacts, class: &CallerClass) -> bool {
        self.check(rule, facts, class) == Check::Holds
    }

    fn check(&self, rule: &str, facts: &CallFacts, class: &CallerClass) -> Check {
        let asked = &facts.asked;
        let on = |name: &Arc<str>| asked.lists.contains(name);
        let open = |name: &Arc<str>| asked.hours.get(name).map(|hours| hours.is_open);
        match self {
            Self::Tier(tiers) => match &class.tier {
                Some(tier) => Check::of(tiers.contains(tier)),
                None if !tiers.iter().any(|tier| tier.as_str() == NO_TIER) => Check::Fails,
                None => Check::known(facts.lookup.settles_class().then_some(()), |()| true),
            },
            Self::Score(range) => Check::known(class.score, |score| range.holds(score)),
            Self::Lookup(outcomes) => Check::of(outcomes.contains(&facts.lookup.outcome())),
            Self::Attribute(wanted) => {
                let known = facts.lookup.profile().map(|profile| &profile.attributes);
                Check::known(known, |known| {
                    wanted.iter().all(|(name, values)| {
                        let value = known.get(name);
                        value.is_some_and(|value| values.iter().any(|one| is_same(one, value)))
                    })
                })
            }
            Self::Called(patterns) => {
                Check::of(patterns.iter().any(|one| asked.called.contains(one)))
            }
            Self::Caller(patterns) => {
                Check::of(patterns.iter().any(|one| asked.caller.contains(one)))
            }
            Self::CallerKind(kinds) => {
                Check::known(asked.caller_kind, |kind| kinds.contains(&kind))
            }
            Self::Hours(names) => Check::of(names.iter().any(|name| open(name) == Some(true))),
            Self::NotHours(names) => Check::of(names.iter().all(|name| open(name) == Some(false))),
            Self::List(names) => Check::of(names.iter().any(on)),
            Self::NotList(names) => Check::of(!names.iter().any(on)),
            Self::CalledBeforeWithin(when) => {
                Check::known(asked.history.as_ref(), |history| {
                    match (when, history.called_before_s) {
                        (CalledBefore::Never, before) => before.is_none(),
                        (CalledBefore::Seconds(most), before) => {
                            before.is_some_and(|before| before <= *most)
                        }
                    }
                })
            }
            Self::Share(share) => Check::known(asked.buckets.get(rule), |bucket| bucket < share),
        }
    }

    /// Why it does not hold, in words: `tier is cold; the rule wants hot or warm`.
    pub(super) fn why_not(&self, rule: &str, facts: &CallFacts, class: &CallerClass) -> String {
        let (has, wants) = self.words(rule, facts, class);
        format!("{has}; the rule wants {wants}")
    }

    /// What the call has, and what is wanted.
    fn words(&self, rule: &str, facts: &CallFacts, class: &CallerClass) -> (String, String) {
        let asked = &facts.asked;
        match self {
            Self::Tier(tiers) => {
                let has = match &class.tier {
                    Some(tier) => format!("tier is {tier}"),
                    None if self.check(rule, facts, class) == Check::NotKnown => {
                        "the tier is not known".to_owned()
                    }
                    None => "the caller has no tier".to_owned(),
                };
                (
                    has,
                    either(tiers, |tier| match tier.as_str() {
                        NO_TIER => "no tier".to_owned(),
                        name => name.to_owned(),
                    }),
                )
            }
            Self::Score(ScoreRange { from, below }) => {
                let has = class.score.map_or_else(
                    || "no score is known".to_owned(),
                    |score| format!("score is {score}"),
                );
                let bounds = [
                    from.map(|from| format!("{from} or more")),
                    below.map(|below| format!("less than {below}")),
                ];
                (
                    has,
                    bounds
                        .into_iter()
                        .flatten()
                        .collect::<Vec<_>>()
                        .join(" and "),
                )
            }
            Self::Lookup(outcomes) => (
                format!("the look-up is {}", facts.lookup.outcome().as_str()),
                either(outcomes, |outcome| outcome.as_str().to_owned()),
            ),
            Self::Attribute(wanted) => {
                let profile = facts.lookup.profile();
                let unmet = wanted.iter().find(|(name, values)| {
                    let value = profile.and_then(|profile| profile.attributes.get(*name));
                    !value.is_some_and(|value| values.iter().any(|one| is_same(one, value)))
                });
                let Some((name, values)) = unmet else {
                    return (String::new(), String::new());
                };
                let has = match profile.map(|profile| profile.attributes.get(name)) {
                    Some(Some(value)) => format!("{name} is {value}"),
                    Some(None) => format!("the caller has no {name}"),
                    None => format!("{name} is not known"),
                };
                (has, either(values, Clone::clone))
            }
            Self::Called(patterns) => (
                "another number was called".to_owned(),
                either(patterns, ToString::to_string),
            ),
            Self::Caller(patterns) => (
                "another number calls".to_owned(),
                either(patterns, ToString::to_string),
            ),
            Self::CallerKind(kinds) => {
                let kind = asked.caller_kind.map_or("not known", CallerKind::as_str);
                (
                    format!("the kind of caller is {kind}"),
                    either(kinds, |kind| kind.as_str().to_owned()),
                )
            }
            Self::Hours(names) => (
                hours_words(names, asked, "closed"),
                format!("{} open", either(names, |name| name.as_ref().to_owned())),
            ),
            Self::NotHours(names) => {
                let open = names
                    .iter()
                    .filter(|name| asked.hours.get(*name).is_some_and(|hours| hours.is_open));
                let open: Vec<_> = open.cloned().collect();
                (hours_words(&open, asked, "open"), "it closed".to_owned())
            }
            Self::List(names) => (
                "the caller is not on it".to_owned(),
                format!(
                    "a caller on list {}",
                    either(names, |name| name.as_ref().to_owned())
                ),
            ),
            Self::NotList(names) => {
                let on = names.iter().find(|name| asked.lists.contains(*name));
                (
                    format!("the caller is on list {}", on.map_or("", |name| name)),
                    "nobody of it".to_owned(),
                )
            }
            Self::CalledBeforeWithin(when) => {
                let has = match &asked.history {
                    None => "whether the caller called before is not known".to_owned(),
                    Some(history) => match history.called_before_s {
                        None => "the caller never called before".to_owned(),
                        Some(age) => format!("the last call was {} ago", age_words(age)),
                    },
                };
                let wants = match when {
                    CalledBefore::Never => "somebody who never called".to_owned(),
                    CalledBefore::Seconds(most) => format!("one within {}", age_words(*most)),
                };
                (has, wants)
            }
            Self::Share(share) => {
                let has = asked.buckets.get(rule).map_or_else(
                    || "the caller's place of a hundred is not known".to_owned(),
                    |bucket| format!("the caller is number {bucket} of a hundred"),
                );
                (has, format!("those below {share}"))
            }
        }
    }
}

/// Values of Braze are compared without case.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

fn either<T>(all: &[T], word: impl Fn(&T) -> String) -> String {
    all.iter().map(word).collect::<Vec<_>>().join(" or ")
}

fn hours_words(names: &[Arc<str>], asked: &super::AskedFacts, state: &str) -> String {
    let one = |name: &Arc<str>| {
        let until = asked.hours.get(name).and_then(|hours| hours.until);
        let until = until.map_or_else(String::new, |until| format!(" until {until}"));
        format!("{name} is {state}{until}")
    };
    names.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A length of time in its largest unit: `3 d`, `2 h`, `5 min`, `7 s`.
pub(super) fn age_words(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let unit = units.iter().find(|(length, _)| seconds >= *length);
    let (length, name) = unit.copied().unwrap_or((1, "s"));
    format!("{} {name}", seconds / length)
}

/// As one table, a key for each condition, as in the configuration.
impl Serialize for Conditions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for condition in &self.0 {
            let entry = serde_json::to_value(condition).map_err(S::Error::custom)?;
            if let Value::Object(entry) = entry {
                for (name, value) in entry {
                    map.serialize_entry(&name, &value)?;
                }
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Conditions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Conditions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of conditions")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Conditions, A::Error> {
                let mut conditions = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    let entry = Value::Object([(name, value)].into_iter().collect());
                    let condition = serde_json::from_value(entry).map_err(A::Error::custom)?;
                    conditions.push(Arc::new(condition));
                }
                Ok(Conditions(conditions))
            }
        }
        deserializer.deserialize_map(Table)
    }
}

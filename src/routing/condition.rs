//! The conditions of a rule: what each asks of a call, and what it says where the call is otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::class::CallerClass;
use super::{CallFacts, CallerKind, Lookup, LookupOutcome, NumberPattern};
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
            Self::Attribute(wanted) => Check::known(facts.lookup.profile(), |_| {
                unmet_attribute(wanted, &facts.lookup).is_none()
            }),
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
        let (found, wanted) = (self.found(rule, facts, class), self.wanted(facts));
        format!("{found}; the rule wants {wanted}")
    }

    /// What the call has.
    fn found(&self, rule: &str, facts: &CallFacts, class: &CallerClass) -> String {
        let asked = &facts.asked;
        match self {
            Self::Tier(_) => match &class.tier {
                Some(tier) => format!("tier is {tier}"),
                None if self.check(rule, facts, class) == Check::NotKnown => {
                    "the tier is not known".to_owned()
                }
                None => "the caller has no tier".to_owned(),
            },
            Self::Score(_) => class.score.map_or_else(
                || "no score is known".to_owned(),
                |score| format!("score is {score}"),
            ),
            Self::Lookup(_) => format!("the look-up is {}", facts.lookup.outcome().as_str()),
            Self::Attribute(wanted) => {
                let Some((name, _)) = unmet_attribute(wanted, &facts.lookup) else {
                    return String::new();
                };
                let profile = facts.lookup.profile();
                match profile.map(|profile| profile.attributes.get(name)) {
                    Some(Some(value)) => format!("{name} is {value}"),
                    Some(None) => format!("the caller has no {name}"),
                    None => format!("{name} is not known"),
                }
            }
            Self::Called(_) => "another number was called".to_owned(),
            Self::Caller(_) => "another number calls".to_owned(),
            Self::CallerKind(_) => {
                let kind = asked.caller_kind.map_or("not known", CallerKind::as_str);
                format!("the kind of caller is {kind}")
            }
            Self::Hours(names) => hours_words(names, asked, "closed"),
            Self::NotHours(names) => {
                let is_open =
                    |name: &&Arc<str>| asked.hours.get(*name).is_some_and(|hours| hours.is_open);
                let open: Vec<_> = names.iter().filter(is_open).cloned().collect();
                hours_words(&open, asked, "open")
            }
            Self::List(_) => "the caller is not on it".to_owned(),
            Self::NotList(names) => {
                let on = names.iter().find(|name| asked.lists.contains(*name));
                format!("the caller is on list {}", on.map_or("", |name| name))
            }
            Self::CalledBeforeWithin(_) => match &asked.history {
                None => "whether the caller called before is not known".to_owned(),
                Some(history) => history.called_before_s.map_or_else(
                    || "the caller never called before".to_owned(),
                    |age| format!("the last call was {} ago", age_words(age)),
                ),
            },
            Self::Share(_) => asked.buckets.get(rule).map_or_else(
                || "the caller's place of a hundred is not known".to_owned(),
                |bucket| format!("the caller is number {bucket} of a hundred"),
            ),
        }
    }

    /// What a rule with this condition wants.
    fn wanted(&self, facts: &CallFacts) -> String {
        let name = |name: &Arc<str>| name.as_ref().to_owned();
        match self {
            Self::Tier(tiers) => either(tiers, |tier| match tier.as_str() {
                NO_TIER => "no tier".to_owned(),
                name => name.to_owned(),
            }),
            Self::Score(ScoreRange { from, below }) => {
                let bounds = [
                    from.map(|from| format!("{from} or more")),
                    below.map(|below| format!("less than {below}")),
                ];
                let bounds: Vec<String> = bounds.into_iter().flatten().collect();
                bounds.join(" and ")
            }
            Self::Lookup(outcomes) => either(outcomes, |outcome| outcome.as_str().to_owned()),
            Self::Attribute(wanted) => unmet_attribute(wanted, &facts.lookup)
                .map_or_else(String::new, |(_, values)| either(values, Clone::clone)),
            Self::Called(patterns) | Self::Caller(patterns) => {
                either(patterns, ToString::to_string)
            }
            Self::CallerKind(kinds) => either(kinds, |kind| kind.as_str().to_owned()),
            Self::Hours(names) => format!("{} open", either(names, name)),
            Self::NotHours(_) => "it closed".to_owned(),
            Self::List(names) => format!("a caller on list {}", either(names, name)),
            Self::NotList(_) => "nobody of it".to_owned(),
            Self::CalledBeforeWithin(CalledBefore::Never) => "somebody who never called".to_owned(),
            Self::CalledBeforeWithin(CalledBefore::Seconds(most)) => {
                format!("one within {}", age_words(*most))
            }
            Self::Share(share) => format!("those below {share}"),
        }
    }
}

/// The first attribute that the caller does not have as it is wanted.
fn unmet_attribute<'a>(
    wanted: &'a BTreeMap<String, Vec<String>>,
    lookup: &Lookup,
) -> Option<(&'a String, &'a Vec<String>)> {
    let known = lookup.profile().map(|profile| &profile.attributes);
    wanted.iter().find(|(name, values)| {
        let value = known.and_then(|known| known.get(*name));
        !value.is_some_and(|value| values.iter().any(|one| is_same(one, value)))
    })
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::{AskedFacts, History, HoursState, LookupUnavailable, Profile, Source};
    use super::*;

    const RULE: &str = "rule";

    fn known(profile: Profile) -> Lookup {
        Lookup::Known {
            profile,
            source: Source::Fetched,
            age_ms: 0,
            because: None,
        }
    }

    /// A call of which everything is known.
    fn facts() -> CallFacts {
        let profile = Profile {
            score: LeadScore::new(30.0),
            tier: None,
            attributes: [("plan".to_owned(), "Gold".to_owned())].into(),
        };
        let closed = HoursState {
            is_open: false,
            until: "2026-12-01T07:00:00Z".parse().ok(),
        };
        let open = HoursState {
            is_open: true,
            until: None,
        };
        let pattern = |text| NumberPattern::parse(text).unwrap();
        CallFacts {
            asked: AskedFacts {
                called: vec![pattern("+4930*")],
                caller: vec![pattern("+49*")],
                caller_kind: Some(CallerKind::Number),
                lists: vec!["vip".into()],
                hours: [("office".into(), closed), ("hotline".into(), open)].into(),
                history: Some(History {
                    called_before_s: Some(7_200),
                    last_answered: None,
                }),
                buckets: [(RULE.into(), 42)].into(),
                draws: BTreeMap::new(),
            },
            ..CallFacts::new(Timestamp::UNIX_EPOCH, known(profile), Vec::new())
        }
    }

    fn class() -> CallerClass {
        CallerClass {
            score: LeadScore::new(30.0),
            tier: Some(TierName::new("warm")),
            named: None,
        }
    }

    fn names(text: &str) -> Vec<Arc<str>> {
        text.split(' ').map(Arc::from).collect()
    }

    fn patterns(text: &str) -> Vec<NumberPattern> {
        text.split(' ')
            .map(|one| NumberPattern::parse(one).unwrap())
            .collect()
    }

    fn tiers(text: &str) -> Condition {
        Condition::Tier(text.split(' ').map(TierName::new).collect())
    }

    fn score(from: Option<f64>, below: Option<f64>) -> Condition {
        let bound = |bound: Option<f64>| bound.and_then(LeadScore::new);
        Condition::Score(ScoreRange {
            from: bound(from),
            below: bound(below),
        })
    }

    fn plan(values: &[&str]) -> Condition {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Condition::Attribute([("plan".to_owned(), values)].into())
    }

    #[test]
    fn every_condition_holds_for_the_calls_that_it_asks_for_and_says_why_not_for_others() {
        use Condition as C;
        let cases = [
            (
                tiers("hot warm"),
                tiers("hot none"),
                "tier is warm; the rule wants hot or no tier",
            ),
            (
                score(Some(30.0), Some(30.5)),
                score(Some(20.0), Some(30.0)),
                "score is 30; the rule wants 20 or more and less than 30",
            ),
            (
                score(None, Some(31.0)),
                score(Some(30.5), None),
                "score is 30; the rule wants 30.5 or more",
            ),
            (
                C::Lookup(vec![LookupOutcome::Known]),
                C::Lookup(vec![LookupOutcome::Unknown, LookupOutcome::Skipped]),
                "the look-up is known; the rule wants unknown or skipped",
            ),
            (
                plan(&["gold"]),
                plan(&["silver"]),
                "plan is Gold; the rule wants silver",
            ),
            (
                C::Called(patterns("+4930*")),
                C::Called(patterns("+4940* +4941*")),
                "another number was called; the rule wants +4940* or +4941*",
            ),
            (
                C::Caller(patterns("+49*")),
                C::Caller(patterns("+44*")),
                "another number calls; the rule wants +44*",
            ),
            (
                C::CallerKind(vec![CallerKind::Number]),
                C::CallerKind(vec![CallerKind::Sip]),
                "the kind of caller is number; the rule wants sip",
            ),
            (
                C::Hours(names("office hotline")),
                C::Hours(names("office")),
                "office is closed until 2026-12-01T07:00:00Z; the rule wants office open",
            ),
            (
                C::NotHours(names("office")),
                C::NotHours(names("office hotline")),
                "hotline is open; the rule wants it closed",
            ),
            (
                C::List(names("vip")),
                C::List(names("blocked")),
                "the caller is not on it; the rule wants a caller on list blocked",
            ),
            (
                C::NotList(names("blocked")),
                C::NotList(names("vip")),
                "the caller is on list vip; the rule wants nobody of it",
            ),
            (
                C::CalledBeforeWithin(CalledBefore::Seconds(7_200)),
                C::CalledBeforeWithin(CalledBefore::Seconds(7_199)),
                "the last call was 2 h ago; the rule wants one within 1 h",
            ),
            (
                C::CalledBeforeWithin(CalledBefore::Seconds(86_400)),
                C::CalledBeforeWithin(CalledBefore::Never),
                "the last call was 2 h ago; the rule wants somebody who never called",
            ),
            (
                C::Share(43),
                C::Share(42),
                "the caller is number 42 of a hundred; the rule wants those below 42",
            ),
        ];
        let (facts, class) = (facts(), class());
        for (holds, fails, why) in cases {
            assert_eq!(holds.check(RULE, &facts, &class), Check::Holds, "{holds:?}");
            assert_eq!(fails.check(RULE, &facts, &class), Check::Fails, "{fails:?}");
            assert_eq!(fails.why_not(RULE, &facts, &class), why);
        }
    }

    #[test]
    fn a_fact_that_is_not_known_meets_no_condition_and_is_said_to_be_unknown() {
        use Condition as C;
        let reason = LookupUnavailable::Timeout;
        let facts = CallFacts::new(
            Timestamp::UNIX_EPOCH,
            Lookup::Unavailable { reason },
            Vec::new(),
        );
        let nobody = CallerClass::default();
        for (condition, why) in [
            (
                tiers("none"),
                "the tier is not known; the rule wants no tier",
            ),
            (
                score(Some(1.0), None),
                "no score is known; the rule wants 1 or more",
            ),
            (plan(&["gold"]), "plan is not known; the rule wants gold"),
            (
                C::CallerKind(vec![CallerKind::Client]),
                "the kind of caller is not known; the rule wants client",
            ),
            (
                C::CalledBeforeWithin(CalledBefore::Never),
                "whether the caller called before is not known; the rule wants somebody who never called",
            ),
            (
                C::Share(100),
                "the caller's place of a hundred is not known; the rule wants those below 100",
            ),
        ] {
            assert_eq!(
                condition.check(RULE, &facts, &nobody),
                Check::NotKnown,
                "{condition:?}"
            );
            assert_eq!(condition.why_not(RULE, &facts, &nobody), why);
        }
        let unknown = Lookup::Unknown {
            source: Source::Fetched,
            age_ms: 0,
        };
        let facts = CallFacts::new(Timestamp::UNIX_EPOCH, unknown, Vec::new());
        assert_eq!(tiers("none").check(RULE, &facts, &nobody), Check::Holds);
        let nothing = known(Profile::default());
        let facts = CallFacts::new(Timestamp::UNIX_EPOCH, nothing, Vec::new());
        assert_eq!(
            plan(&["gold"]).why_not(RULE, &facts, &nobody),
            "the caller has no plan; the rule wants gold"
        );
        assert_eq!(tiers("hot").check(RULE, &facts, &nobody), Check::Fails);
    }

    #[test]
    fn conditions_are_written_as_one_table_and_read_back() {
        let all = [
            tiers("hot"),
            score(Some(1.0), None),
            plan(&["gold"]),
            Condition::Share(5),
        ];
        let conditions = Conditions(all.into_iter().map(Arc::new).collect());
        let json = serde_json::to_string(&conditions).unwrap();
        assert_eq!(
            json,
            r#"{"tier":["hot"],"score":{"from":1},"attribute":{"plan":["gold"]},"share":5}"#
        );
        assert_eq!(
            serde_json::from_str::<Conditions>(&json).unwrap(),
            conditions
        );
        assert!(serde_json::from_str::<Conditions>(r#"{"moon":"full"}"#).is_err());
    }

    #[test]
    fn lengths_of_time_are_told_in_their_largest_unit() {
        let words = [7, 60, 3_599, 3_600, 86_399, 86_400, 2_592_000].map(age_words);
        assert_eq!(
            words,
            ["7 s", "1 min", "59 min", "1 h", "23 h", "1 d", "30 d"]
        );
    }
}

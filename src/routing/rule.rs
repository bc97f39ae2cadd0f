//! A rule: which calls it takes, and what becomes of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::condition::{Condition, Conditions};
use super::{AskedFacts, DialerId};
use crate::phone::E164;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub name: Arc<str>,
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    pub when: Conditions,
    #[serde(flatten)]
    pub action: RuleAction,
    /// Whoever talked to the caller last goes first, where that is at most so many seconds ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer_last_answered_s: Option<u64>,
    #[serde(flatten)]
    pub speech: Speech,
}

/// What becomes of a call that a rule takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    /// These dialers are asked, in order.
    Dialers(Vec<OrderStep>),
    /// It is put through to this number; where nobody answers there, to the last resort.
    Number(E164),
    /// It is refused without being answered.
    Reject(Rejection),
    /// This is spoken, and the call ends.
    Message(String),
}

/// How a call is refused, as the caller hears it (Twilio, `<Reject reason>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Rejection {
    /// The busy tone.
    Busy,
    /// The announcement of a number that is not in service.
    Rejected,
}

impl Rejection {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// What becomes of the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Course {
    /// The dialers of the plan are asked; where none takes the call, the caller waits.
    #[default]
    Dialers,
    /// It is put through to the number of the rule.
    Number,
    Reject {
        with: Rejection,
    },
    /// The message of the rule is spoken, and the call ends.
    Message,
    /// All dialers of the plan are outside their hours: the caller is told so, and does not wait.
    Closed,
}

impl Course {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the shape that serde asks for"
    )]
    pub(super) fn is_to_dialers(&self) -> bool {
        *self == Self::Dialers
    }
}

/// One place in the order of dialers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OrderStep {
    One(DialerId),
    /// Several that are drawn by their weights, one after another; a weight of 0 comes last.
    Drawn(BTreeMap<DialerId, u32>),
}

/// What a rule says in words of its own; what is absent is said as `[routing]` says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speech {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goodbye_message: Option<String>,
}

/// Who is told of callers who reached nobody: `[routing] missed_to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissedTo {
    pub dialer: DialerId,
    /// Where the dialer has tasks, the one that they are for.
    pub task: Option<String>,
}

/// The dialers of a rule in the order in which one call asks them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) dialers: Vec<DialerId>,
    /// The first of each weighted step.
    pub(super) drawn: Vec<DialerId>,
    /// Who was put first for having talked to the caller last.
    pub(super) preferred: Option<DialerId>,
}

impl Rule {
    /// The rule that sends every call of these tiers to these dialers, in order; an empty list of tiers matches every caller.
    #[cfg(test)]
    pub(crate) fn of_tiers(name: &str, tiers: &[&str], dialers: &[&str]) -> Self {
        use crate::lead::TierName;
        let tiers: Vec<TierName> = tiers.iter().map(|tier| TierName::new(tier)).collect();
        let tiers = (!tiers.is_empty()).then(|| Arc::new(Condition::Tier(tiers)));
        let dialers = dialers
            .iter()
            .map(|dialer| OrderStep::One(DialerId::new(dialer)));
        Self {
            name: name.into(),
            when: Conditions(tiers.into_iter().collect()),
            action: RuleAction::Dialers(dialers.collect()),
            prefer_last_answered_s: None,
            speech: Speech::default(),
        }
    }

    /// Whether it is about calls outside hours: its message then tells the caller so.
    pub fn is_for_closed_hours(&self) -> bool {
        let mut conditions = self.when.0.iter();
        conditions.any(|condition| matches!(**condition, Condition::NotHours(_)))
    }

    /// Every dialer that it names, in the order of the file; of a weighted step the heaviest first.
    pub fn dialers(&self) -> Vec<DialerId> {
        let RuleAction::Dialers(steps) = &self.action else {
            return Vec::new();
        };
        steps.iter().flat_map(OrderStep::heaviest_first).collect()
    }

    /// How many weighted steps it has.
    pub(super) fn n_draws(&self) -> usize {
        let RuleAction::Dialers(steps) = &self.action else {
            return 0;
        };
        let is_drawn = |step: &&OrderStep| matches!(step, OrderStep::Drawn(_));
        steps.iter().filter(is_drawn).count()
    }

    /// Its dialers in the order in which this call asks them.
    pub(super) fn order(&self, asked: &AskedFacts) -> Order {
        let mut order = Order::default();
        let RuleAction::Dialers(steps) = &self.action else {
            return order;
        };
        let mut draws = asked.draws.get(&self.name).into_iter().flatten();
        for step in steps {
            match step {
                OrderStep::One(dialer) => order.dialers.push(dialer.clone()),
                OrderStep::Drawn(weights) => {
                    let drawn = draws.next().map(|draw| draw_order(weights, *draw));
                    let first = drawn.as_ref().and_then(|drawn| drawn.first());
                    order.drawn.extend(first.cloned());
                    let dialers = drawn.unwrap_or_else(|| step.heaviest_first());
                    order.dialers.extend(dialers);
                }
            }
        }
        order.preferred = self.preferred(asked, &order.dialers);
        if let Some(preferred) = &order.preferred {
            order.dialers.retain(|dialer| dialer != preferred);
            order.dialers.insert(0, preferred.clone());
        }
        order
    }

    /// Who talked to the caller last, where the rule wants that dialer first and names it.
    fn preferred(&self, asked: &AskedFacts, dialers: &[DialerId]) -> Option<DialerId> {
        let within_s = self.prefer_last_answered_s?;
        let last = asked.history.as_ref()?.last_answered.as_ref()?;
        let is_first = last.age_s <= within_s && dialers.contains(&last.dialer);
        is_first.then(|| last.dialer.clone())
    }
}

impl OrderStep {
    pub(super) fn names(&self, dialer: &DialerId) -> bool {
        match self {
            Self::One(one) => one == dialer,
            Self::Drawn(weights) => weights.contains_key(dialer),
        }
    }

    fn heaviest_first(&self) -> Vec<DialerId> {
        match self {
            Self::One(dialer) => vec![dialer.clone()],
            Self::Drawn(weights) => {
                let mut all: Vec<_> = weights.iter().collect();
                all.sort_by_key(|(_, weight)| std::cmp::Reverse(**weight));
                all.into_iter().map(|(dialer, _)| dialer.clone()).collect()
            }
        }
    }
}

/// All dialers of a weighted step: each place is drawn among those that are left, in proportion to their weights.
fn draw_order(weights: &BTreeMap<DialerId, u32>, draw: u32) -> Vec<DialerId> {
    let mut left: Vec<(&DialerId, u64)> = weights
        .iter()
        .map(|(dialer, weight)| (dialer, u64::from(*weight)))
        .collect();
    let mut order = Vec::with_capacity(left.len());
    let mut draw = draw;
    while !left.is_empty() {
        let total: u64 = left.iter().map(|(_, weight)| weight).sum();
        let mut at = (u64::from(draw) * total) >> 32;
        let place = left.iter().position(|(_, weight)| {
            let is_it = at < *weight;
            at = at.saturating_sub(*weight);
            is_it
        });
        let (dialer, _) = left.remove(place.unwrap_or(0));
        order.push(dialer.clone());
        draw = mix(draw);
    }
    order
}

/// Another draw out of one: the finalizer of `MurmurHash3` over a step of the golden ratio.
fn mix(draw: u32) -> u32 {
    let mut x = draw.wrapping_add(0x9E37_79B9);
    x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
    x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{History, LastAnswered};

    fn drawn_rule(weights: &[(&str, u32)]) -> Rule {
        let weights = weights
            .iter()
            .map(|(name, weight)| (DialerId::new(name), *weight));
        let steps = vec![
            OrderStep::Drawn(weights.collect()),
            OrderStep::One(DialerId::new("last")),
        ];
        Rule {
            action: RuleAction::Dialers(steps),
            ..Rule::of_tiers("split", &[], &[])
        }
    }

    fn facts(draw: u32) -> AskedFacts {
        AskedFacts {
            draws: [("split".into(), vec![draw])].into(),
            ..AskedFacts::default()
        }
    }

    #[test]
    fn a_weighted_step_is_drawn_in_proportion_and_names_each_dialer_once() {
        let rule = drawn_rule(&[("a", 70), ("b", 30), ("c", 0)]);
        let mut n_first = BTreeMap::<DialerId, u32>::new();
        for n in 0..10_000_u32 {
            let order = rule.order(&facts(n.wrapping_mul(429_497)));
            assert_eq!(order.dialers.len(), 4);
            assert_eq!(order.dialers.last(), Some(&DialerId::new("last")));
            assert_eq!(
                order.dialers[2],
                DialerId::new("c"),
                "a weight of 0 comes last"
            );
            assert_eq!(order.drawn, order.dialers[..1]);
            *n_first.entry(order.dialers[0].clone()).or_default() += 1;
        }
        assert!(
            (6_900..7_100).contains(&n_first[&DialerId::new("a")]),
            "{n_first:?}"
        );
        assert_eq!(n_first.len(), 2);
    }

    #[test]
    fn without_a_draw_the_heaviest_comes_first() {
        let rule = drawn_rule(&[("a", 30), ("b", 70)]);
        let order = rule.order(&AskedFacts::default());
        assert_eq!(order.dialers, rule.dialers());
        assert_eq!(order.dialers[0], DialerId::new("b"));
    }

    #[test]
    fn whoever_talked_to_the_caller_lately_goes_first_if_the_rule_names_them() {
        let mut rule = Rule::of_tiers("vip", &[], &["a", "b", "c"]);
        rule.prefer_last_answered_s = Some(100);
        let order = |dialer: &str, age_s| {
            let last_answered = Some(LastAnswered {
                dialer: DialerId::new(dialer),
                age_s,
            });
            let history = Some(History {
                last_answered,
                called_before_s: Some(age_s),
            });
            let order = rule.order(&AskedFacts {
                history,
                ..AskedFacts::default()
            });
            let names: Vec<String> = order.dialers.iter().map(ToString::to_string).collect();
            (names.join(" "), order.preferred.is_some())
        };
        assert_eq!(order("b", 100), ("b a c".to_owned(), true));
        assert_eq!(order("b", 101), ("a b c".to_owned(), false));
        assert_eq!(order("d", 1), ("a b c".to_owned(), false));
    }
}

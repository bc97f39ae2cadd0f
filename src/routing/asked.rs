//! What the rules ask of a call by name, so that no more is gathered and recorded.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::condition::Condition;
use super::{AskedFacts, CallerKind, NumberPattern, Rule};
use crate::phone::{Caller, E164};

/// What a rule set asks for by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    called: Vec<NumberPattern>,
    caller: Vec<NumberPattern>,
    caller_kind: bool,
    history: bool,
    /// The rules that have a share.
    shares: Vec<Arc<str>>,
    /// The rules with weighted steps, and how many of them.
    draws: Vec<(Arc<str>, usize)>,
}

/// Where the answers come from. Each is asked only where a rule wants to know.
pub trait CallSource {
    fn caller(&self) -> &Caller;
    /// What was called, as received.
    fn called(&self) -> Option<&str>;
    /// The lists that the caller is on.
    fn lists(&self) -> Vec<Arc<str>>;
    /// The place of the caller among a hundred for what is named so, from 0: the same one each time.
    fn bucket(&self, name: &str) -> u8;
    /// A number drawn evenly.
    fn draw(&self) -> u32;
}

impl Asked {
    pub(super) fn by(rules: &[Rule]) -> Self {
        let mut asked = Self::default();
        for rule in rules {
            for condition in &rule.when.0 {
                match &**condition {
                    Condition::Called(patterns) => add(&mut asked.called, patterns),
                    Condition::Caller(patterns) => add(&mut asked.caller, patterns),
                    Condition::CallerKind(_) => asked.caller_kind = true,
                    Condition::CalledBeforeWithin(_) => asked.history = true,
                    Condition::Share(_) => asked.shares.push(rule.name.clone()),
                    Condition::Tier(_)
                    | Condition::Score(_)
                    | Condition::Lookup(_)
                    | Condition::Attribute(_)
                    | Condition::Hours(_)
                    | Condition::NotHours(_)
                    | Condition::List(_)
                    | Condition::NotList(_) => {}
                }
            }
            asked.history |= rule.prefer_last_answered_s.is_some();
            match rule.n_draws() {
                0 => {}
                n => asked.draws.push((rule.name.clone(), n)),
            }
        }
        asked
    }

    /// What this rule set and another ask for together.
    pub fn with(&self, other: &Self) -> Self {
        let mut both = self.clone();
        add(&mut both.called, &other.called);
        add(&mut both.caller, &other.caller);
        both.caller_kind |= other.caller_kind;
        both.history |= other.history;
        add(&mut both.shares, &other.shares);
        for (rule, n) in &other.draws {
            match both.draws.iter_mut().find(|(known, _)| known == rule) {
                Some((_, known)) => *known = (*known).max(*n),
                None => both.draws.push((rule.clone(), *n)),
            }
        }
        both
    }

    /// Whether a rule wants to know of the caller's calls before this one.
    pub fn wants_history(&self) -> bool {
        self.history
    }

    /// The answers for one call but its history, which takes a read; hours and lists are added by [`RulesInForce::facts`](super::RulesInForce::facts).
    pub(super) fn answers(&self, source: &impl CallSource) -> AskedFacts {
        let caller = source.caller();
        let number = caller.number().map(E164::as_str);
        let matching = |patterns: &[NumberPattern], text: Option<&str>| {
            let matches = |pattern: &&NumberPattern| text.is_some_and(|text| pattern.matches(text));
            patterns.iter().filter(matches).cloned().collect()
        };
        let draws = self.draws.iter().map(|(rule, n)| {
            let draws = std::iter::repeat_with(|| source.draw()).take(*n).collect();
            (rule.clone(), draws)
        });
        let buckets = self
            .shares
            .iter()
            .map(|rule| (rule.clone(), source.bucket(rule)));
        AskedFacts {
            called: matching(&self.called, source.called()),
            caller: matching(&self.caller, number),
            caller_kind: self.caller_kind.then(|| CallerKind::of(caller)),
            lists: Vec::new(),
            hours: BTreeMap::new(),
            history: None,
            buckets: buckets.collect(),
            draws: draws.collect(),
        }
    }
}

fn add<T: Clone + PartialEq>(all: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
}

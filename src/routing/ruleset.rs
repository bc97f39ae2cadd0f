//! The rule set: tiers, ordered rules, limits, and a default that makes it total.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::asked::{Asked, CallSource};
use super::class::CallerClass;
use super::{
    AskedFacts, CallFacts, DialerId, DialerLimits, Hours, HoursInForce, HoursState, ListSummary,
    Lookup, LookupSkipped, Rule, RuleAction,
};
use crate::lead::Tiers;
use crate::phone::E164;

/// Everything a decision is made by. The first matching rule wins; after the last comes the default plan, so that every
/// call gets a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruleset {
    pub tiers: Tiers,
    /// In the order of the file.
    pub rules: Vec<Rule>,
    /// First in the default plan; the other dialers follow in the order of the file.
    pub default_dialer: DialerId,
    /// Every configured dialer, in the order of the file.
    pub dialers: Vec<DialerId>,
    /// The Braze attributes that rules may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<DialerId, DialerLimits>,
    /// The lists of callers, without their numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lists: BTreeMap<String, ListSummary>,
    /// Named opening hours.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hours: BTreeMap<Arc<str>, Hours>,
}

/// Names one rule set by its content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RulesetVersion(Arc<str>);

impl RulesetVersion {
    /// Reads a version; `None` where the text cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 12 && text.bytes().all(is_digit)).then(|| Self(text.into()))
    }

    /// The version as text: the first 12 hexadecimal digits of a SHA-256.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RulesetVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ruleset {
    /// Tiers, rules and dialers alone.
    #[cfg(test)]
    pub(crate) fn of_rules(tiers: Tiers, rules: Vec<Rule>, dialers: &[&str]) -> Self {
        let dialers: Vec<DialerId> = dialers.iter().map(|name| DialerId::new(name)).collect();
        Self {
            tiers,
            rules,
            default_dialer: dialers
                .first()
                .cloned()
                .unwrap_or_else(|| DialerId::new("none")),
            dialers,
            attributes: Vec::new(),
            limits: BTreeMap::new(),
            lists: BTreeMap::new(),
            hours: BTreeMap::new(),
        }
    }

    /// The version of this content: the same rules always have the same version.
    pub fn version(&self) -> RulesetVersion {
        let content = serde_json::to_vec(self).unwrap_or_default();
        let digest = Sha256::digest(&content);
        RulesetVersion(hex::encode(digest.get(..6).unwrap_or_default()).into())
    }

    /// Whether another one decides alike, whatever dialers there are besides those that rules name, and whoever is on which list.
    pub fn is_like(&self, other: &Self) -> bool {
        let with_same_surroundings = Self {
            dialers: other.dialers.clone(),
            lists: other.lists.clone(),
            ..self.clone()
        };
        with_same_surroundings == *other
    }

    /// The rule of this name.
    pub fn rule(&self, name: Option<&str>) -> Option<&Rule> {
        let name = name?;
        self.rules.iter().find(|rule| &*rule.name == name)
    }

    /// The number that the rule of this name puts calls through to, if it does.
    pub fn number(&self, rule: Option<&str>) -> Option<&E164> {
        match &self.rule(rule)?.action {
            RuleAction::Number(number) => Some(number),
            RuleAction::Dialers(_) | RuleAction::Reject(_) | RuleAction::Message(_) => None,
        }
    }

    /// The dialers that the rule of this name wants, in the order of the file; those of the default plan where there is no such rule.
    pub fn order(&self, rule: Option<&str>) -> Vec<DialerId> {
        self.rule(rule)
            .map_or_else(|| self.default_order(), Rule::dialers)
    }

    /// The default plan: the default dialer, then the others in the order of the file.
    pub fn default_order(&self) -> Vec<DialerId> {
        let others = self
            .dialers
            .iter()
            .filter(|dialer| **dialer != self.default_dialer);
        std::iter::once(&self.default_dialer)
            .chain(others)
            .cloned()
            .collect()
    }
}

/// A rule set in force, with what is derived from it once and not for every call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesInForce {
    ruleset: Ruleset,
    version: RulesetVersion,
    asked: Asked,
    hours: BTreeMap<Arc<str>, HoursInForce>,
    /// The first rule that names each dialer.
    named_by: BTreeMap<DialerId, usize>,
}

impl RulesInForce {
    pub fn version(&self) -> &RulesetVersion {
        &self.version
    }

    /// What its rules ask for by name.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// What the rules ask for by name, of one call that comes at this time.
    pub fn facts(&self, source: &impl CallSource, at: Timestamp) -> AskedFacts {
        AskedFacts {
            lists: source.lists(),
            hours: self.hours_at(at),
            ..self.asked.answers(source)
        }
    }

    /// The same rules, with what another rule set asks for by name asked as well.
    #[must_use]
    pub fn asking_also(mut self, other: &Self) -> Self {
        self.asked = self.asked.with(&other.asked);
        self
    }

    /// The state of each named hours.
    pub fn hours_at(&self, at: Timestamp) -> BTreeMap<Arc<str>, HoursState> {
        let hours = self.hours.iter();
        hours
            .map(|(name, hours)| (name.clone(), hours.state(at)))
            .collect()
    }

    /// Whether Braze has to be asked before this call can be decided: not where a rule matches by other conditions alone, and none above it
    /// could match. The caller's history is read beside the look-up, so a rule that asks for it could match.
    pub fn needs_lookup(&self, facts: &CallFacts) -> bool {
        let unasked = CallerClass::default();
        for rule in &self.rules {
            let (late, known): (Vec<_>, Vec<_>) = rule
                .when
                .0
                .iter()
                .partition(|condition| condition.is_known_late());
            if known
                .iter()
                .all(|condition| condition.is_met(&rule.name, facts, &unasked))
            {
                return rule.when.is_empty() || !late.is_empty();
            }
        }
        true
    }

    /// The dialers that the rule of this name wants, in the order in which this call asks them; those of the default where there is none.
    pub fn wanted(&self, rule: Option<&str>, asked: &AskedFacts) -> Vec<DialerId> {
        self.rule(rule)
            .map_or_else(|| self.default_order(), |rule| rule.order(asked).dialers)
    }

    /// The hours of a dialer at a time, where it has some.
    pub fn hours_of(&self, dialer: &DialerId, at: Timestamp) -> Option<HoursState> {
        let name = self.limits.get(dialer)?.hours.as_ref()?;
        Some(self.hours.get(name)?.state(at))
    }

    /// The rule that comes first among those that name this dialer.
    pub(super) fn first_naming(&self, dialer: &DialerId) -> Option<&Rule> {
        self.rules.get(*self.named_by.get(dialer)?)
    }
}

impl Lookup {
    /// The look-up of a call that the rules decide without.
    pub fn not_needed() -> Self {
        Self::Skipped {
            reason: LookupSkipped::NotNeeded,
        }
    }
}

impl From<Ruleset> for RulesInForce {
    fn from(ruleset: Ruleset) -> Self {
        let mut named_by = BTreeMap::new();
        for (at, rule) in ruleset.rules.iter().enumerate() {
            for dialer in rule.dialers() {
                named_by.entry(dialer).or_insert(at);
            }
        }
        Self {
            version: ruleset.version(),
            asked: Asked::by(&ruleset.rules),
            hours: ruleset
                .hours
                .iter()
                .map(|(name, hours)| (name.clone(), hours.clone().into()))
                .collect(),
            named_by,
            ruleset,
        }
    }
}

impl Deref for RulesInForce {
    type Target = Ruleset;

    fn deref(&self) -> &Ruleset {
        &self.ruleset
    }
}

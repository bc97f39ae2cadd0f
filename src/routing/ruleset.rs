//! The rule set: tiers, ordered rules, and a default that makes it total.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{DialerId, Hours};
use crate::lead::{TierName, Tiers};

/// One rule: which tiers it wants, and which dialers then take the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub name: String,
    /// The tiers it matches; empty matches every caller, also one without a tier.
    pub tiers: Vec<TierName>,
    /// The dialers, in the order in which they are asked.
    pub dialers: Vec<DialerId>,
}

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
    /// Named opening hours.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hours: BTreeMap<String, Hours>,
}

/// Names one rule set by its content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RulesetVersion(String);

impl RulesetVersion {
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
    /// The version of this content: the same rules always have the same version.
    pub fn version(&self) -> RulesetVersion {
        let content = serde_json::to_vec(self).unwrap_or_default();
        let digest = Sha256::digest(&content);
        RulesetVersion(hex::encode(digest.get(..6).unwrap_or_default()))
    }

    /// The dialers that the rule of this name wants, in order; those of the default plan where there is no such rule.
    pub fn order(&self, rule: Option<&str>) -> Vec<DialerId> {
        let rule = rule.and_then(|name| self.rules.iter().find(|rule| rule.name == name));
        rule.map_or_else(|| self.default_order(), |rule| rule.dialers.clone())
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

/// A rule set in force. Its version is computed once, and not for every call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesInForce {
    ruleset: Ruleset,
    version: RulesetVersion,
}

impl RulesInForce {
    pub fn version(&self) -> &RulesetVersion {
        &self.version
    }
}

impl From<Ruleset> for RulesInForce {
    fn from(ruleset: Ruleset) -> Self {
        let version = ruleset.version();
        Self { ruleset, version }
    }
}

impl Deref for RulesInForce {
    type Target = Ruleset;

    fn deref(&self) -> &Ruleset {
        &self.ruleset
    }
}

//! The class of a caller.

use super::Lookup;
use crate::lead::{LeadScore, TierName, Tiers};

/// The class of a caller, and the score it came from.
#[derive(Clone, Debug, Default)]
pub(super) struct CallerClass {
    pub(super) score: Option<LeadScore>,
    pub(super) tier: Option<TierName>,
    /// The class as Braze names it, where that name decided.
    pub(super) named: Option<String>,
}

impl CallerClass {
    /// A named tier wins over the thresholds, where the rule set knows the name.
    pub(super) fn of(tiers: &Tiers, lookup: &Lookup) -> Self {
        let Lookup::Known { profile, .. } = lookup else {
            return Self::default();
        };
        let score = profile.score;
        let name = profile.tier.as_deref();
        if let Some((name, tier)) = name.and_then(|name| Some((name, tiers.named(name)?))) {
            return Self {
                score,
                tier: Some(tier.name.clone()),
                named: Some(name.to_owned()),
            };
        }
        let tier = score.and_then(|score| tiers.of_score(score));
        Self {
            score,
            tier: tier.map(|tier| tier.name.clone()),
            named: None,
        }
    }
}

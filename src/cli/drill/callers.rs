//! Who calls in a drill.

use jiff::Timestamp;
use switchboard_simulator::braze::Profile;
use switchboard_simulator::drill::DrillCaller;
use switchboard_simulator::made_up;

use crate::config::Config;
use crate::lead::LeadScore;
use crate::routing::{Lookup, Reachability, reachability};

/// Callers of one round, at most.
const MOST: usize = 12;

/// A stranger, one of each tier, and one of each rule that some call reaches.
pub(super) fn all(config: &Config, at: Timestamp) -> Vec<DrillCaller> {
    let (rules, braze) = (&config.ruleset, &config.braze);
    let number = config.twilio.number.as_ref();
    let called = number.map_or(made_up::CALLED, |number| number.as_str());
    let scored = |from: &str, score: Option<LeadScore>| {
        let profile = Profile::new(from);
        match score {
            Some(score) => profile.with(&braze.score_attribute, score.value()),
            None => profile,
        }
    };
    let mut callers: Vec<DrillCaller> = Vec::new();
    let mut add =
        |from: Option<String>, to: Option<String>, profile: &dyn Fn(&str) -> Option<Profile>| {
            let from = from.unwrap_or_else(|| format!("+49151000000{:02}", callers.len()));
            callers.push(DrillCaller {
                profile: profile(&from),
                to: to.unwrap_or_else(|| called.to_owned()),
                from,
            });
        };
    add(None, None, &|_| None);
    for tier in &rules.tiers {
        add(None, None, &|from| Some(scored(from, Some(tier.min_score))));
    }
    let tier_attribute = braze.tier_attribute.as_deref();
    for witness in reachability(&rules.clone().into(), at, tier_attribute.is_some()) {
        let Reachability::Reachable(witness) = witness else {
            continue;
        };
        let is_asked = !witness.facts.asked.caller.is_empty();
        let from = witness.caller.filter(|_| is_asked);
        add(from, witness.called, &|from| {
            let Lookup::Known { profile, .. } = &witness.facts.lookup else {
                return None;
            };
            let tier = tier_attribute.zip(profile.tier.as_deref());
            let attributes = profile.attributes.iter();
            let attributes = attributes.map(|(name, value)| (name.as_str(), value.as_str()));
            let known = scored(from, profile.score);
            Some(
                attributes
                    .chain(tier)
                    .fold(known, |known, (name, value)| known.with(name, value)),
            )
        });
    }
    callers.truncate(MOST);
    callers
}

//! The smallest change that would have put a dialer into the plan.

use super::class::{CallerClass, verdict};
use super::{DialerId, Lookup, RuleVerdict, Ruleset};
use crate::lead::{LeadScore, Tier};

/// The smallest change of the caller's class that leads to a rule (or the default) that names `dialer`, in words.
pub(super) fn change_to_be_named(
    ruleset: &Ruleset,
    lookup: &Lookup,
    class: &CallerClass,
    dialer: &DialerId,
) -> String {
    let has = has_words(lookup, class);
    let nearest = ruleset
        .tiers
        .iter()
        .filter(|tier| {
            Some(&tier.name) != class.tier.as_ref() && names(ruleset, Some(tier), dialer)
        })
        .min_by(|a, b| gap(ruleset, class.score, a).total_cmp(&gap(ruleset, class.score, b)));
    if let Some(tier) = nearest {
        return match class.score {
            Some(score) if score >= tier.min_score && class.named.is_none() => {
                let above = next_above(ruleset, tier)
                    .map_or_else(String::new, |next| format!(" below {next}"));
                format!("{has}; {} is{above}", tier.name)
            }
            Some(_) | None => format!("{has}; {} starts at {}", tier.name, tier.min_score),
        };
    }
    if class.tier.is_some() && names(ruleset, None, dialer) {
        return format!("{has}; a caller without a tier would go there");
    }
    "no rule names it".to_owned()
}

fn has_words(lookup: &Lookup, class: &CallerClass) -> String {
    match (&class.named, class.score, lookup) {
        (Some(named), _, _) => format!("tier {named}"),
        (None, Some(score), _) => format!("score {score}"),
        (None, None, Lookup::Known { .. }) => "no score".to_owned(),
        (None, None, Lookup::Unknown { .. }) => "unknown caller".to_owned(),
        (None, None, Lookup::Skipped { .. } | Lookup::Unavailable { .. }) => {
            "score not known".to_owned()
        }
    }
}

/// Whether a caller of this class gets `dialer` into the plan.
fn names(ruleset: &Ruleset, tier: Option<&Tier>, dialer: &DialerId) -> bool {
    let name = tier.map(|tier| &tier.name);
    match ruleset
        .rules
        .iter()
        .find(|rule| verdict(rule, name) == RuleVerdict::Matched)
    {
        Some(rule) => rule.dialers.contains(dialer),
        None => true,
    }
}

/// How far the score would have to move to belong to the class.
fn gap(ruleset: &Ruleset, score: Option<LeadScore>, tier: &Tier) -> f64 {
    match score {
        None => tier.min_score.value(),
        Some(score) if score < tier.min_score => score.distance(tier.min_score),
        Some(score) => next_above(ruleset, tier).map_or(0.0, |next| score.distance(next)),
    }
}

/// Where the next higher class starts.
fn next_above(ruleset: &Ruleset, tier: &Tier) -> Option<LeadScore> {
    ruleset
        .tiers
        .iter()
        .map(|other| other.min_score)
        .filter(|min| *min > tier.min_score)
        .min()
}

//! The smallest change that would have put a dialer into the plan.

use super::class::CallerClass;
use super::{CallFacts, DialerId, Lookup, Rule, RuleAction, RulesInForce};
use crate::lead::{LeadScore, Tier};

/// What a call of each other class would come to, found once for all dialers that are left out.
pub(super) struct ClassChanges<'a> {
    ruleset: &'a RulesInForce,
    facts: &'a CallFacts,
    class: &'a CallerClass,
    /// The rule that would take a call of each tier.
    of_tiers: Vec<(&'a Tier, Option<&'a Rule>)>,
    of_no_tier: Option<&'a Rule>,
}

impl<'a> ClassChanges<'a> {
    pub(super) fn new(
        ruleset: &'a RulesInForce,
        facts: &'a CallFacts,
        class: &'a CallerClass,
    ) -> Self {
        let taken_by = |class: &CallerClass| {
            let mut rules = ruleset.rules.iter();
            rules.find(|rule| rule.when.first_unmet(&rule.name, facts, class).is_none())
        };
        let with = |tier: Option<&Tier>| CallerClass {
            tier: tier.map(|tier| tier.name.clone()),
            ..class.clone()
        };
        let of_tiers = ruleset
            .tiers
            .iter()
            .map(|tier| (tier, taken_by(&with(Some(tier)))));
        Self {
            ruleset,
            facts,
            class,
            of_tiers: of_tiers.collect(),
            of_no_tier: taken_by(&with(None)),
        }
    }

    /// The smallest change of the caller's class that leads to a rule (or the default) that names `dialer`; else what keeps the first rule that
    /// names it from taking the call. In words.
    pub(super) fn to_be_named(&self, dialer: &DialerId) -> String {
        let Self {
            ruleset,
            facts,
            class,
            ..
        } = self;
        let has = has_words(&facts.lookup, class);
        let nearest = self
            .of_tiers
            .iter()
            .filter(|(tier, rule)| Some(&tier.name) != class.tier.as_ref() && names(*rule, dialer))
            .map(|(tier, _)| *tier)
            .min_by(|a, b| self.gap(a).total_cmp(&self.gap(b)));
        if let Some(tier) = nearest {
            return match class.score {
                Some(score) if score >= tier.min_score && class.named.is_none() => {
                    let above = self
                        .next_above(tier)
                        .map_or_else(String::new, |next| format!(" below {next}"));
                    format!("{has}; {} is{above}", tier.name)
                }
                Some(_) | None => format!("{has}; {} starts at {}", tier.name, tier.min_score),
            };
        }
        if class.tier.is_some() && names(self.of_no_tier, dialer) {
            return format!("{has}; a caller without a tier would go there");
        }
        let Some(rule) = ruleset.first_naming(dialer) else {
            return "no rule names it".to_owned();
        };
        match rule.when.first_unmet(&rule.name, facts, class) {
            Some(unmet) => format!(
                "rule {:?}: {}",
                rule.name,
                unmet.why_not(&rule.name, facts, class)
            ),
            None => format!("a rule above {:?} takes the call", rule.name),
        }
    }

    /// How far the score would have to move to belong to the class.
    fn gap(&self, tier: &Tier) -> f64 {
        match self.class.score {
            None => tier.min_score.value(),
            Some(score) if score < tier.min_score => score.distance(tier.min_score),
            Some(score) => self
                .next_above(tier)
                .map_or(0.0, |next| score.distance(next)),
        }
    }

    /// Where the next higher class starts.
    fn next_above(&self, tier: &Tier) -> Option<LeadScore> {
        let above = self.ruleset.tiers.iter().map(|other| other.min_score);
        above.filter(|min| *min > tier.min_score).min()
    }
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

/// Whether a call that this rule takes (or the default) may go to `dialer`.
fn names(rule: Option<&Rule>, dialer: &DialerId) -> bool {
    match rule.map(|rule| &rule.action) {
        None => true,
        Some(RuleAction::Dialers(steps)) => steps.iter().any(|step| step.names(dialer)),
        Some(RuleAction::Number(_) | RuleAction::Reject(_) | RuleAction::Message(_)) => false,
    }
}

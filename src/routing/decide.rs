//! The decision itself.

use super::change::change_to_be_named;
use super::eligibility::ineligible;
use super::{
    CallFacts, Decision, DialerId, Lookup, Reason, RoutePlan, Rule, Ruleset, SkipReason, Skipped,
    Step, Trace, Verdict,
};
use crate::lead::{LeadScore, TierName};

/// Decides who takes a call. Total: every rule set decides every call, at worst with an empty plan that says why.
pub fn decide(ruleset: &Ruleset, facts: &CallFacts) -> Decision {
    let mut trace = Trace(vec![Step::Lookup {
        lookup: facts.lookup.clone(),
    }]);
    let standing = standing(ruleset, &facts.lookup);
    if matches!(facts.lookup, Lookup::Known { .. }) {
        trace.0.push(Step::Tier {
            tier: standing.tier.clone(),
            score: standing.score,
            named: standing.named.clone(),
        });
    }

    let (rule, mut reason) = match_rule(ruleset, &facts.lookup, &standing, &mut trace);
    let wanted = rule.map_or_else(|| ruleset.default_order(), |rule| rule.dialers.clone());
    let plan = plan(ruleset, facts, &standing, &wanted, &mut trace);
    if plan.dialers.is_empty() {
        reason = Reason::NoDialerAvailable;
    }
    Decision {
        tier: standing.tier,
        score: standing.score,
        rule: rule.map(|rule| rule.name.clone()),
        reason,
        plan,
        trace,
        ruleset: ruleset.version(),
    }
}

/// Where the caller stands: score and class.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) score: Option<LeadScore>,
    pub(super) tier: Option<TierName>,
    /// The class as Braze names it, where that name decided.
    pub(super) named: Option<String>,
}

/// A named tier wins over the thresholds, where the rule set knows the name.
fn standing(ruleset: &Ruleset, lookup: &Lookup) -> Standing {
    let Lookup::Known { profile, .. } = lookup else {
        return Standing::default();
    };
    let named = profile
        .tier
        .as_deref()
        .and_then(|name| Some((name, ruleset.tiers.named(name)?)));
    if let Some((name, tier)) = named {
        return Standing {
            score: profile.score,
            tier: Some(tier.name.clone()),
            named: Some(name.to_owned()),
        };
    }
    let tier = profile
        .score
        .and_then(|score| ruleset.tiers.of_score(score))
        .map(|tier| tier.name.clone());
    Standing {
        score: profile.score,
        tier,
        named: None,
    }
}

/// The first matching rule, and the reason that goes with it. A failed look-up goes to the default dialer at once.
fn match_rule<'a>(
    ruleset: &'a Ruleset,
    lookup: &Lookup,
    standing: &Standing,
    trace: &mut Trace,
) -> (Option<&'a Rule>, Reason) {
    let without_rule = match lookup {
        Lookup::Known { .. } => Reason::NoRuleMatched,
        Lookup::Unknown { .. } => Reason::UnknownCaller,
        Lookup::Skipped { .. } => Reason::LookupSkipped,
        Lookup::Unavailable { .. } => Reason::LookupUnavailable,
    };
    for rule in &ruleset.rules {
        let verdict = verdict(rule, standing.tier.as_ref());
        let matched = verdict == Verdict::Matched;
        trace.0.push(Step::Rule {
            name: rule.name.clone(),
            verdict,
        });
        if matched {
            return (Some(rule), Reason::RuleMatched);
        }
    }
    trace.0.push(Step::DefaultRule {
        dialer: ruleset.default_dialer.clone(),
        reason: without_rule,
    });
    (None, without_rule)
}

pub(super) fn verdict(rule: &Rule, tier: Option<&TierName>) -> Verdict {
    if rule.tiers.is_empty() || tier.is_some_and(|tier| rule.tiers.contains(tier)) {
        return Verdict::Matched;
    }
    let wants = rule
        .tiers
        .iter()
        .map(TierName::as_str)
        .collect::<Vec<_>>()
        .join(" or ");
    let has = tier.map_or_else(
        || "the caller has no tier".to_owned(),
        |tier| format!("tier is {tier}"),
    );
    Verdict::NotMatched {
        why: format!("{has}; the rule wants {wants}"),
    }
}

fn plan(
    ruleset: &Ruleset,
    facts: &CallFacts,
    standing: &Standing,
    wanted: &[DialerId],
    trace: &mut Trace,
) -> RoutePlan {
    let mut plan = RoutePlan::default();
    for dialer in wanted {
        let view = facts.dialers.iter().find(|view| view.dialer == *dialer);
        match view.and_then(ineligible) {
            None => {
                plan.dialers.push(dialer.clone());
                trace.0.push(Step::Planned {
                    dialer: dialer.clone(),
                    order: plan.dialers.len(),
                });
            }
            Some(no) => {
                let change = no.change.to_owned();
                plan.skipped.push(Skipped {
                    dialer: dialer.clone(),
                    reason: no.reason,
                    change,
                });
                trace.0.push(Step::Skipped {
                    dialer: dialer.clone(),
                    reason: no.reason,
                    detail: no.detail,
                });
            }
        }
    }
    for dialer in ruleset
        .dialers
        .iter()
        .filter(|dialer| !wanted.contains(dialer))
    {
        let change = change_to_be_named(ruleset, &facts.lookup, standing, dialer);
        let reason = SkipReason::NotInRule;
        trace.0.push(Step::Skipped {
            dialer: dialer.clone(),
            reason,
            detail: change.clone(),
        });
        plan.skipped.push(Skipped {
            dialer: dialer.clone(),
            reason,
            change,
        });
    }
    plan
}

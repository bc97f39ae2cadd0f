//! The decision itself.

use super::change::ClassChanges;
use super::class::CallerClass;
use super::rule::Order;
use super::{
    CallFacts, Course, Decision, DialerId, Lookup, Reason, RoutePlan, Rule, RuleAction,
    RuleVerdict, RulesInForce, SkipReason, Skipped, Step, Trace, admissible, all_closed,
};

/// Decides who takes a call. Total: every rule set decides every call, at worst with an empty plan that says why.
pub fn decide(ruleset: &RulesInForce, facts: &CallFacts) -> Decision {
    let mut trace = Trace(vec![Step::Lookup {
        lookup: facts.lookup.clone(),
    }]);
    let class = CallerClass::of(&ruleset.tiers, &facts.lookup);
    if matches!(facts.lookup, Lookup::Known { .. }) {
        trace.0.push(Step::Tier {
            tier: class.tier.clone(),
            score: class.score,
            named: class.named.clone(),
        });
    }

    let (rule, mut reason) = match_rule(ruleset, facts, &class, &mut trace);
    let order = order(ruleset, rule, facts, &mut trace);
    let plan = plan(ruleset, facts, &class, &order.dialers, &mut trace);
    let course = course(rule, facts, &order);
    if course == Course::Closed {
        reason = Reason::Closed;
    } else if course == Course::Dialers && plan.dialers.is_empty() {
        reason = Reason::NoDialerAvailable;
    }
    if course != Course::Dialers {
        trace.0.push(Step::Course { course });
    }
    Decision {
        tier: class.tier,
        score: class.score,
        rule: rule.map(|rule| rule.name.to_string()),
        reason,
        course,
        plan,
        trace,
        ruleset: ruleset.version().clone(),
    }
}

/// The first matching rule, and the reason that goes with it. A failed look-up goes to the default dialer at once.
fn match_rule<'a>(
    ruleset: &'a RulesInForce,
    facts: &CallFacts,
    class: &CallerClass,
    trace: &mut Trace,
) -> (Option<&'a Rule>, Reason) {
    for rule in &ruleset.rules {
        let unmet = rule.when.first_unmet(&rule.name, facts, class).cloned();
        let matched = unmet.is_none();
        let verdict = unmet.map_or(RuleVerdict::Matched, |condition| RuleVerdict::NotMatched {
            condition,
        });
        let name = rule.name.clone();
        trace.0.push(Step::Rule { name, verdict });
        if matched {
            return (Some(rule), Reason::RuleMatched);
        }
    }
    let without_rule = Reason::without_rule(&facts.lookup);
    trace.0.push(Step::DefaultRule {
        dialer: ruleset.default_dialer.clone(),
        reason: without_rule,
    });
    (None, without_rule)
}

/// The dialers that are wanted, in the order in which this call asks them.
fn order(
    ruleset: &RulesInForce,
    rule: Option<&Rule>,
    facts: &CallFacts,
    trace: &mut Trace,
) -> Order {
    let Some(rule) = rule else {
        return Order {
            dialers: ruleset.default_order(),
            ..Order::default()
        };
    };
    let order = rule.order(&facts.asked);
    let drawn = order.drawn.iter().cloned();
    trace.0.extend(drawn.map(|dialer| Step::Drawn { dialer }));
    let preferred = order.preferred.iter().cloned();
    trace
        .0
        .extend(preferred.map(|dialer| Step::Preferred { dialer }));
    order
}

fn course(rule: Option<&Rule>, facts: &CallFacts, order: &Order) -> Course {
    match rule.map(|rule| &rule.action) {
        Some(RuleAction::Number(_)) => Course::Number,
        Some(RuleAction::Reject(with)) => Course::Reject { with: *with },
        Some(RuleAction::Message(_)) => Course::Message,
        Some(RuleAction::Dialers(_)) | None if all_closed(&order.dialers, &facts.dialers) => {
            Course::Closed
        }
        Some(RuleAction::Dialers(_)) | None => Course::Dialers,
    }
}

fn plan(
    ruleset: &RulesInForce,
    facts: &CallFacts,
    class: &CallerClass,
    wanted: &[DialerId],
    trace: &mut Trace,
) -> RoutePlan {
    let mut plan = RoutePlan::default();
    for dialer in wanted {
        match admissible(dialer, &facts.dialers) {
            Ok(()) => {
                plan.dialers.push(dialer.clone());
                trace.0.push(Step::Planned {
                    dialer: dialer.clone(),
                    order: plan.dialers.len(),
                    line_only: facts.rings_only(dialer),
                });
            }
            Err(no) => {
                plan.skipped.push(Skipped {
                    dialer: dialer.clone(),
                    reason: no.reason,
                    change: no.change.to_owned(),
                });
                trace.0.push(Step::Skipped {
                    dialer: dialer.clone(),
                    reason: no.reason,
                    detail: no.detail,
                });
            }
        }
    }
    let mut others = ruleset
        .dialers
        .iter()
        .filter(|dialer| !wanted.contains(dialer))
        .peekable();
    if others.peek().is_none() {
        return plan;
    }
    let changes = ClassChanges::new(ruleset, facts, class);
    for dialer in others {
        let change = changes.to_be_named(dialer);
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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::{
        Availability, BreakerView, DialerView, Difference, LookupSkipped, LookupUnavailable,
        Profile, RecordedDecision, Ruleset, Source, replay,
    };
    use super::*;
    use crate::lead::{LeadScore, Tier, TierName, Tiers};

    /// Decides; what is recorded of it gives the whole decision back.
    fn decide(ruleset: &Ruleset, facts: &CallFacts) -> Decision {
        let decision = super::decide(&ruleset.clone().into(), facts);
        let recorded = serde_json::to_string(&RecordedDecision::from(&decision)).unwrap();
        let read: RecordedDecision<'_> = serde_json::from_str(&recorded).unwrap();
        assert_eq!(read.restore(facts), decision, "{recorded}");
        decision
    }

    fn ruleset() -> Ruleset {
        let tier = |name: &str, min: f64| Tier {
            name: TierName::new(name),
            min_score: LeadScore::new(min).unwrap(),
        };
        let tiers = Tiers::new(vec![
            tier("hot", 80.0),
            tier("warm", 40.0),
            tier("cold", 0.0),
        ]);
        let rules = vec![
            Rule::of_tiers("hot", &["hot"], &["dialfire", "zendesk"]),
            Rule::of_tiers("warm", &["warm"], &["zendesk"]),
        ];
        Ruleset {
            default_dialer: DialerId::new("zendesk"),
            ..Ruleset::of_rules(tiers, rules, &["dialfire", "zendesk", "other"])
        }
    }

    fn facts(lookup: Lookup) -> CallFacts {
        let view = |name: &str| DialerView::well(DialerId::new(name));
        let dialers = ["dialfire", "zendesk", "other"].map(view).to_vec();
        CallFacts::new(Timestamp::UNIX_EPOCH, lookup, dialers)
    }

    fn known(score: Option<f64>, tier: Option<&str>) -> Lookup {
        let profile = Profile {
            score: score.and_then(LeadScore::new),
            tier: tier.map(str::to_owned),
            ..Profile::default()
        };
        Lookup::Known {
            profile,
            source: Source::Fetched,
            age_ms: 0,
            because: None,
        }
    }

    fn names(plan: &RoutePlan) -> Vec<&str> {
        plan.dialers.iter().map(DialerId::as_str).collect()
    }

    #[test]
    fn the_first_matching_rule_decides_and_the_default_makes_it_total() {
        let cases: [(Lookup, Option<&str>, Reason, &[&str]); 8] = [
            (
                known(Some(80.0), None),
                Some("hot"),
                Reason::RuleMatched,
                &["dialfire", "zendesk"],
            ),
            (
                known(Some(79.9), None),
                Some("warm"),
                Reason::RuleMatched,
                &["zendesk"],
            ),
            (
                known(Some(3.0), None),
                None,
                Reason::NoRuleMatched,
                &["zendesk", "dialfire", "other"],
            ),
            (
                known(Some(3.0), Some("HOT")),
                Some("hot"),
                Reason::RuleMatched,
                &["dialfire", "zendesk"],
            ),
            (
                known(Some(50.0), Some("platinum")),
                Some("warm"),
                Reason::RuleMatched,
                &["zendesk"],
            ),
            (
                Lookup::Unknown {
                    source: Source::Fresh,
                    age_ms: 5,
                },
                None,
                Reason::UnknownCaller,
                &["zendesk", "dialfire", "other"],
            ),
            (
                Lookup::Skipped {
                    reason: LookupSkipped::Withheld,
                },
                None,
                Reason::LookupSkipped,
                &["zendesk", "dialfire", "other"],
            ),
            (
                Lookup::Unavailable {
                    reason: LookupUnavailable::Timeout,
                },
                None,
                Reason::LookupUnavailable,
                &["zendesk", "dialfire", "other"],
            ),
        ];
        for (lookup, rule, reason, plan) in cases {
            let decision = decide(&ruleset(), &facts(lookup.clone()));
            assert_eq!(decision.rule.as_deref(), rule, "{lookup:?}");
            assert_eq!(decision.reason, reason, "{lookup:?}");
            assert_eq!(names(&decision.plan), plan, "{lookup:?}");
        }
    }

    #[test]
    fn a_rule_without_tiers_matches_whatever_came_of_the_look_up() {
        let mut ruleset = ruleset();
        ruleset.rules.push(Rule::of_tiers("all", &[], &["other"]));
        let skipped = Lookup::Skipped {
            reason: LookupSkipped::Withheld,
        };
        let unavailable = Lookup::Unavailable {
            reason: LookupUnavailable::Timeout,
        };
        let unknown = Lookup::Unknown {
            source: Source::Fetched,
            age_ms: 0,
        };
        for lookup in [skipped, unavailable, unknown, known(Some(3.0), None)] {
            let decision = decide(&ruleset, &facts(lookup.clone()));
            assert_eq!(decision.rule.as_deref(), Some("all"), "{lookup:?}");
            assert_eq!(decision.reason, Reason::RuleMatched, "{lookup:?}");
            assert_eq!(names(&decision.plan), ["other"], "{lookup:?}");
        }
    }

    #[test]
    fn the_trace_numbers_the_dialers_from_one_in_the_order_in_which_they_are_asked() {
        let facts = facts(known(Some(3.0), None));
        let decision = decide(&ruleset(), &facts);
        let said = decision.sentences(&facts);
        let planned = &said[said.len() - 3..];
        assert_eq!(planned, ["1. zendesk", "2. dialfire", "3. other"]);
    }

    #[test]
    fn a_dialer_that_limits_our_requests_stays_in_the_plan_unless_something_else_is_in_the_way() {
        let mut facts = facts(known(Some(90.0), None));
        facts.dialers[0].breaker = BreakerView::Open;
        facts.dialers[0].line_only = true;
        let decision = decide(&ruleset(), &facts);
        assert_eq!(names(&decision.plan), ["dialfire", "zendesk"]);
        let said = decision.sentences(&facts).join(" ");
        assert!(
            said.contains("1. dialfire, unannounced: it limits"),
            "{said}"
        );
        assert!(said.contains("2. zendesk"), "{said}");
        facts.dialers[0].availability = Availability::Unavailable {
            why: "0 agents online, 1 needed".to_owned(),
        };
        assert_eq!(names(&decide(&ruleset(), &facts).plan), ["zendesk"]);
        facts.dialers[0].availability = Availability::Unknown;
        facts.dialers[0].drained = true;
        assert_eq!(names(&decide(&ruleset(), &facts).plan), ["zendesk"]);
    }

    #[test]
    fn a_skipped_dialer_says_the_smallest_change_that_would_select_it() {
        let change = |lookup: Lookup, dialer: &str| {
            let plan = decide(&ruleset(), &facts(lookup)).plan;
            plan.skipped
                .into_iter()
                .find(|s| s.dialer.as_str() == dialer)
                .map(|s| s.change)
        };
        assert_eq!(
            change(known(Some(72.0), None), "dialfire").as_deref(),
            Some("score 72; hot starts at 80")
        );
        assert_eq!(
            change(known(Some(45.0), None), "dialfire").as_deref(),
            Some("score 45; cold is below 40")
        );
        assert_eq!(
            change(known(Some(95.0), None), "other").as_deref(),
            Some("score 95; cold is below 40")
        );
        assert_eq!(change(known(Some(5.0), None), "other"), None);
        // Without a score the lowest class that leads there is the smallest change.
        let mut ruleset = ruleset();
        ruleset.rules.push(Rule::of_tiers("rest", &[], &["other"]));
        let plan = decide(&ruleset, &facts(known(None, None))).plan;
        let zendesk = plan.skipped.iter().find(|s| s.dialer.as_str() == "zendesk");
        assert_eq!(
            zendesk.map(|s| s.change.as_str()),
            Some("no score; warm starts at 40")
        );
    }

    #[test]
    fn a_dialer_that_cannot_take_calls_is_skipped_with_its_reason() {
        let mut facts = facts(known(Some(90.0), None));
        facts.dialers[0].drained = true;
        facts.dialers[1].availability = Availability::Unavailable {
            why: "0 agents online, 1 needed".to_owned(),
        };
        let decision = decide(&ruleset(), &facts);
        assert_eq!(decision.plan.dialers, []);
        assert_eq!(decision.reason, Reason::NoDialerAvailable);
        let skipped: Vec<_> = decision
            .plan
            .skipped
            .iter()
            .map(|s| (s.dialer.as_str(), s.reason.as_str(), s.change.as_str()))
            .collect();
        assert_eq!(
            skipped,
            [
                ("dialfire", "drained", "resume it"),
                (
                    "zendesk",
                    "unavailable",
                    "it reports that it can take calls"
                ),
                ("other", "not_in_rule", "score 90; cold is below 40"),
            ]
        );

        facts.dialers[0].drained = false;
        facts.dialers[0].breaker = BreakerView::HalfOpen;
        assert_eq!(names(&decide(&ruleset(), &facts).plan), ["dialfire"]);
        facts.dialers[0].breaker = BreakerView::Open;
        assert!(decide(&ruleset(), &facts).plan.dialers.is_empty());
    }

    #[test]
    fn a_dialer_for_which_others_wait_is_passed_over_with_its_reason() {
        let mut facts = facts(known(Some(90.0), None));
        facts.dialers[0].callers_first = Some(12);
        let decision = decide(&ruleset(), &facts);
        assert_eq!(names(&decision.plan), ["zendesk"]);
        let said = decision.sentences(&facts).join(" ");
        let expected = "dialfire is skipped: callers first (it has just recovered; 12 who wait for it come first).";
        assert!(said.contains(expected), "{said}");
        facts.dialers[0].breaker = BreakerView::Open;
        let skipped = decide(&ruleset(), &facts).plan.skipped;
        assert_eq!(skipped[0].reason, SkipReason::BreakerOpen);
    }

    #[test]
    fn a_recorded_decision_comes_out_identical_when_executed_again() {
        let facts = facts(known(Some(72.5), Some("warm")));
        let decision = decide(&ruleset(), &facts);
        let read_back: CallFacts =
            serde_json::from_str(&serde_json::to_string(&facts).unwrap()).unwrap();
        let rules: Ruleset =
            serde_json::from_str(&serde_json::to_string(&ruleset()).unwrap()).unwrap();
        assert_eq!(decide(&rules, &read_back), decision);
        let recorded: Decision =
            serde_json::from_str(&serde_json::to_string(&decision).unwrap()).unwrap();
        assert_eq!(recorded, decision);
    }

    #[test]
    fn the_trace_reads_as_sentences() {
        let mut facts = facts(known(Some(72.0), None));
        facts.dialers[1].breaker = BreakerView::Open;
        let sentences = decide(&ruleset(), &facts).sentences(&facts);
        assert_eq!(
            sentences,
            [
                "Braze knows the caller: score 72 (just fetched).",
                "Score 72 is tier warm.",
                "Rule \"hot\" does not match: tier is warm; the rule wants hot.",
                "Rule \"warm\" matches.",
                "zendesk is skipped: breaker open (its requests fail).",
                "dialfire is skipped: not in rule (score 72; hot starts at 80).",
                "other is skipped: not in rule (score 72; cold is below 40).",
            ]
        );
    }

    #[test]
    fn a_decision_that_comes_out_otherwise_names_the_fields_and_both_values() {
        let rules = ruleset();
        let facts = facts(Lookup::Skipped {
            reason: LookupSkipped::Withheld,
        });
        let mut recorded = decide(&rules, &facts);
        assert_eq!(replay(&rules.clone().into(), &facts, &recorded), []);
        recorded.reason = Reason::UnknownCaller;
        let expected = Difference {
            field: "reason".to_owned(),
            then: serde_json::json!("unknown_caller"),
            now: serde_json::json!("lookup_skipped"),
        };
        assert_eq!(replay(&rules.clone().into(), &facts, &recorded), [expected]);
        let lookup = recorded.trace.lookup();
        assert_eq!(lookup, Some(&facts.lookup));
    }

    #[test]
    fn a_rule_set_has_the_order_of_each_rule_and_is_named_by_its_content() {
        let rules = ruleset();
        let order = |rule| {
            let order = rules.order(rule);
            order
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(order(Some("hot")), "dialfire zendesk");
        assert_eq!(order(Some("warm")), "zendesk");
        assert_eq!(
            order(Some("nothing of that name")),
            "zendesk dialfire other"
        );
        assert_eq!(order(None), "zendesk dialfire other");
        assert_eq!(format!("{:?}", rules.default_dialer), "zendesk");
        let version = rules.version();
        assert_eq!(version.to_string(), version.as_str());
        assert_eq!(version.as_str().len(), 12);
        assert_eq!(ruleset().version(), version);
        let mut other = ruleset();
        other.rules.pop();
        assert_ne!(other.version(), version);
    }
}

//! A decision as it is recorded: once, as codes and values. What its facts say is left out, and sentences are made when it is shown.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::{
    BreakerView, CallFacts, Condition, Course, Decision, DialerId, DialerView, Lookup, Reason,
    RoutePlan, RuleVerdict, RulesetVersion, SkipReason, Skipped, Step, Trace,
};
use crate::lead::{LeadScore, TierName};

/// A decision without what follows from its facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedDecision<'d> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<Cow<'d, TierName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<LeadScore>,
    /// The class as Braze names it, where that name decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    named: Option<Cow<'d, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Cow<'d, str>>,
    reason: Reason,
    #[serde(default, skip_serializing_if = "Course::is_to_dialers")]
    course: Course,
    ruleset: Cow<'d, RulesetVersion>,
    /// The rules that did not match before it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    passed: Vec<PassedRule>,
    /// The first dialer of the default, where no rule matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<Cow<'d, DialerId>>,
    /// Of each weighted step the dialer that was drawn first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    drawn: Vec<Cow<'d, DialerId>>,
    /// The dialer that was put first for having talked to the caller last.
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred: Option<Cow<'d, DialerId>>,
    /// The dialers to ask, in order.
    plan: Cow<'d, [DialerId]>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<SkippedDialer<'d>>,
}

/// A rule that did not match, and the condition that did not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PassedRule {
    rule: Arc<str>,
    unmet: Arc<Condition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SkippedDialer<'d> {
    dialer: Cow<'d, DialerId>,
    reason: SkipReason,
    /// With the figures, where it is more than the change that is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'d, str>>,
    change: Cow<'d, str>,
    /// So many dialers of the plan come before it; `None` where the rule does not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    behind: Option<usize>,
}

impl<'d> From<&'d Decision> for RecordedDecision<'d> {
    fn from(decision: &'d Decision) -> Self {
        let mut recorded = Self {
            tier: decision.tier.as_ref().map(Cow::Borrowed),
            score: decision.score,
            named: None,
            rule: decision.rule.as_deref().map(Cow::Borrowed),
            reason: decision.reason,
            course: decision.course,
            ruleset: Cow::Borrowed(&decision.ruleset),
            passed: Vec::new(),
            default: None,
            drawn: Vec::new(),
            preferred: None,
            plan: Cow::Borrowed(&decision.plan.dialers),
            skipped: Vec::new(),
        };
        let mut changes = decision.plan.skipped.iter();
        let mut n_planned = 0;
        for step in &decision.trace.0 {
            match step {
                Step::Tier { named, .. } => recorded.named = named.as_deref().map(Cow::Borrowed),
                Step::Rule {
                    name,
                    verdict: RuleVerdict::NotMatched { condition },
                } => recorded.passed.push(PassedRule {
                    rule: name.clone(),
                    unmet: condition.clone(),
                }),
                Step::DefaultRule { dialer, .. } => recorded.default = Some(Cow::Borrowed(dialer)),
                Step::Drawn { dialer } => recorded.drawn.push(Cow::Borrowed(dialer)),
                Step::Preferred { dialer } => recorded.preferred = Some(Cow::Borrowed(dialer)),
                Step::Planned { .. } => n_planned += 1,
                Step::Skipped {
                    dialer,
                    reason,
                    detail,
                } => {
                    let change = changes.next().map_or("", |skipped| &skipped.change);
                    recorded.skipped.push(SkippedDialer {
                        dialer: Cow::Borrowed(dialer),
                        reason: *reason,
                        detail: (detail != change).then_some(Cow::Borrowed(detail)),
                        change: Cow::Borrowed(change),
                        behind: (*reason != SkipReason::NotInRule).then_some(n_planned),
                    });
                }
                Step::Lookup { .. }
                | Step::Course { .. }
                | Step::Rule {
                    verdict: RuleVerdict::Matched,
                    ..
                } => {}
            }
        }
        recorded
    }
}

impl RecordedDecision<'_> {
    /// The whole decision, as it was made of these facts.
    pub fn restore(self, facts: &CallFacts) -> Decision {
        let tier = self.tier.map(Cow::into_owned);
        let mut trace = vec![Step::Lookup {
            lookup: facts.lookup.clone(),
        }];
        if matches!(facts.lookup, Lookup::Known { .. }) {
            trace.push(Step::Tier {
                tier: tier.clone(),
                score: self.score,
                named: self.named.map(Cow::into_owned),
            });
        }
        for PassedRule { rule, unmet } in self.passed {
            trace.push(Step::Rule {
                name: rule,
                verdict: RuleVerdict::NotMatched { condition: unmet },
            });
        }
        let rule = self.rule.map(Cow::into_owned);
        if let Some(name) = &rule {
            trace.push(Step::Rule {
                name: name.as_str().into(),
                verdict: RuleVerdict::Matched,
            });
        }
        if let Some(dialer) = self.default {
            trace.push(Step::DefaultRule {
                dialer: dialer.into_owned(),
                reason: Reason::without_rule(&facts.lookup),
            });
        }
        let drawn = self.drawn.into_iter().map(Cow::into_owned);
        trace.extend(drawn.map(|dialer| Step::Drawn { dialer }));
        let preferred = self.preferred.map(Cow::into_owned);
        trace.extend(preferred.map(|dialer| Step::Preferred { dialer }));
        let mut plan = RoutePlan::default();
        let mut skipped = self.skipped.into_iter().peekable();
        let dialers = self.plan.into_owned();
        for (n, dialer) in dialers.iter().enumerate() {
            while let Some(left_out) = skipped.next_if(|one| one.behind.is_some_and(|at| at <= n)) {
                left_out.restore(&mut plan, &mut trace);
            }
            trace.push(Step::Planned {
                dialer: dialer.clone(),
                order: n + 1,
                line_only: facts.rings_only(dialer),
            });
        }
        for left_out in skipped {
            left_out.restore(&mut plan, &mut trace);
        }
        plan.dialers = dialers;
        if self.course != Course::Dialers {
            trace.push(Step::Course {
                course: self.course,
            });
        }
        Decision {
            tier,
            score: self.score,
            rule,
            reason: self.reason,
            course: self.course,
            plan,
            trace: Trace(trace),
            ruleset: self.ruleset.into_owned(),
        }
    }
}

impl SkippedDialer<'_> {
    fn restore(self, plan: &mut RoutePlan, trace: &mut Vec<Step>) {
        let (dialer, change) = (self.dialer.into_owned(), self.change.into_owned());
        let detail = self.detail.map_or_else(|| change.clone(), Cow::into_owned);
        plan.skipped.push(Skipped {
            dialer: dialer.clone(),
            reason: self.reason,
            change,
        });
        trace.push(Step::Skipped {
            dialer,
            reason: self.reason,
            detail,
        });
    }
}

impl Decision {
    /// Writes it as it is recorded.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn record<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RecordedDecision::from(self).serialize(serializer)
    }
}

impl CallFacts {
    /// Whether only the line of a dialer can ring, because it limits our requests.
    pub(super) fn rings_only(&self, dialer: &DialerId) -> bool {
        let rings_only = |view: &DialerView| {
            view.dialer == *dialer && view.line_only && view.breaker == BreakerView::Open
        };
        self.dialers.iter().any(rings_only)
    }
}

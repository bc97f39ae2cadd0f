//! What the file itself says of its rules: a call, and what has to become of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{
    BreakerView, CallFacts, CallSource, Course, Decision, DialerId, DialerView, History,
    HoursState, LimitPeriod, LimitUse, Lookup, RulesInForce, decide,
};
use crate::phone::{Caller, E164};

/// `[[routing.tests]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleTest {
    pub name: String,
    pub given: GivenCall,
    pub expect: ExpectedCourse,
}

/// A call, and how the dialers are when it comes.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenCall {
    /// `None` where it does not matter: all hours are open then.
    pub at: Option<Timestamp>,
    pub caller: Caller,
    pub called: Option<String>,
    pub lookup: Lookup,
    pub lists: Vec<Arc<str>>,
    /// How many seconds ago the caller's last call came; `None` where there was none.
    pub called_before_s: Option<u64>,
    /// The place of the call among a hundred, from 0: by it shares and weights are settled.
    pub draw: u8,
    /// Those that are not named are well, and open as their hours say.
    pub dialers: BTreeMap<DialerId, GivenDialer>,
}

/// Why a dialer takes no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenDialer {
    Down,
    Full,
    Closed,
}

/// What has to become of the call; what is absent may be as it will.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectedCourse {
    pub rule: Option<String>,
    /// All that can take the call, in order.
    pub dialers: Option<Vec<DialerId>>,
    /// The dialer that is asked first.
    pub first: Option<DialerId>,
    pub number: Option<E164>,
    /// Whether it is refused.
    pub reject: Option<bool>,
    /// Whether it finds all dialers of its plan outside their hours.
    pub closed: Option<bool>,
}

impl RuleTest {
    /// What becomes of the call.
    pub fn decision(&self, rules: &RulesInForce) -> Decision {
        decide(rules, &self.given.facts(rules))
    }

    /// What is wrong, as the rest of a sentence that begins with the test; `None` where it comes out as expected.
    pub fn failure(&self, rules: &RulesInForce) -> Option<String> {
        let decision = self.decision(rules);
        let unmet = self.expect.unmet(rules, &decision);
        if unmet.is_empty() {
            return None;
        }
        let came = outcome(rules, &decision);
        Some(format!(
            "fails: the call comes to {came}, and not to {}",
            unmet.join(", ")
        ))
    }
}

impl GivenCall {
    fn facts(&self, rules: &RulesInForce) -> CallFacts {
        let at = self.at.unwrap_or(Timestamp::UNIX_EPOCH);
        let views = rules.dialers.iter().map(|dialer| self.view(rules, dialer));
        let mut facts = CallFacts::new(at, self.lookup.clone(), views.collect());
        facts.asked = rules.facts(self, at);
        facts.asked.history = Some(History {
            called_before_s: self.called_before_s,
            ..History::default()
        });
        if self.at.is_none() {
            for state in facts.asked.hours.values_mut() {
                *state = always(true);
            }
        }
        facts
    }

    fn view(&self, rules: &RulesInForce, dialer: &DialerId) -> DialerView {
        let well = DialerView {
            hours: self.at.and_then(|at| rules.hours_of(dialer, at)),
            ..DialerView::well(dialer.clone())
        };
        match self.dialers.get(dialer) {
            None => well,
            Some(GivenDialer::Down) => DialerView {
                breaker: BreakerView::Open,
                ..well
            },
            Some(GivenDialer::Full) => DialerView {
                limits: vec![LimitUse {
                    period: LimitPeriod::Active,
                    used: 1,
                    of: 1,
                }],
                ..well
            },
            Some(GivenDialer::Closed) => DialerView {
                hours: Some(always(false)),
                ..well
            },
        }
    }
}

fn always(is_open: bool) -> HoursState {
    HoursState {
        is_open,
        until: None,
    }
}

impl CallSource for GivenCall {
    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn called(&self) -> Option<&str> {
        self.called.as_deref()
    }

    fn lists(&self) -> Vec<Arc<str>> {
        self.lists.clone()
    }

    fn bucket(&self, _: &str) -> u8 {
        self.draw
    }

    fn draw(&self) -> u32 {
        u32::MAX / 100 * u32::from(self.draw)
    }
}

impl ExpectedCourse {
    /// What is expected and is otherwise, in words.
    fn unmet(&self, rules: &RulesInForce, decision: &Decision) -> Vec<String> {
        let is_rejected = matches!(decision.course, Course::Reject { .. });
        let is_closed = decision.course == Course::Closed;
        let plan = &decision.plan.dialers;
        let mut unmet = Vec::new();
        if let Some(rule) = &self.rule
            && decision.rule.as_ref() != Some(rule)
        {
            unmet.push(format!("rule {rule:?}"));
        }
        if let Some(dialers) = &self.dialers
            && (decision.course != Course::Dialers || dialers != plan)
        {
            unmet.push(dialers_words(dialers));
        }
        if let Some(first) = &self.first
            && (decision.course != Course::Dialers || plan.first() != Some(first))
        {
            unmet.push(format!("{first} first"));
        }
        if let Some(number) = &self.number
            && rules.number(decision.rule.as_deref()) != Some(number)
        {
            unmet.push(format!("number {}", number.as_str()));
        }
        let flags = [
            (self.reject, is_rejected, "a refusal"),
            (self.closed, is_closed, "closed dialers"),
        ];
        for (expected, is_so, what) in flags {
            match expected {
                Some(true) if !is_so => unmet.push(what.to_owned()),
                Some(false) if is_so => unmet.push(format!("anything but {what}")),
                Some(_) | None => {}
            }
        }
        unmet
    }
}

/// `rule "night", number +493055555`.
fn outcome(rules: &RulesInForce, decision: &Decision) -> String {
    let rule = match &decision.rule {
        Some(rule) => format!("rule {rule:?}"),
        None => "no rule".to_owned(),
    };
    let course = match decision.course {
        Course::Dialers => dialers_words(&decision.plan.dialers),
        Course::Number => {
            let number = rules.number(decision.rule.as_deref());
            let number = number.map_or("", E164::as_str);
            format!("number {number}")
        }
        Course::Reject { .. } => "a refusal".to_owned(),
        Course::Message => "a message".to_owned(),
        Course::Closed => "closed dialers".to_owned(),
    };
    format!("{rule}, {course}")
}

fn dialers_words(dialers: &[DialerId]) -> String {
    if dialers.is_empty() {
        return "no dialer".to_owned();
    }
    let names: Vec<&str> = dialers.iter().map(DialerId::as_str).collect();
    format!("dialers {}", names.join(", "))
}

//! Random calls against random rule sets, from fixed seeds: every decision is whole, is recorded whole, and comes out the same again.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::lead::{LeadScore, Tier, TierName, Tiers};
use crate::phone::{Caller, E164};

/// Numbers that follow from a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: u64) -> usize {
        usize::try_from(self.next() % n).unwrap()
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64)].clone()
    }

    fn some<T: Clone>(&mut self, all: &[T]) -> Vec<T> {
        let n = 1 + self.below(all.len() as u64);
        all.iter().take(n).cloned().collect()
    }
}

const DIALERS: [&str; 4] = ["a", "b", "c", "d"];
const PATTERNS: [&str; 3] = ["+4930*", "+4940*", "+44*"];
const NAMES: [&str; 3] = ["one", "two", "three"];

fn names(chance: &mut Chance) -> Vec<Arc<str>> {
    chance.some(&NAMES).into_iter().map(Arc::from).collect()
}

fn patterns(chance: &mut Chance) -> Vec<NumberPattern> {
    let some = chance.some(&PATTERNS);
    some.into_iter()
        .map(|text| NumberPattern::parse(text).unwrap())
        .collect()
}

fn score(chance: &mut Chance) -> LeadScore {
    let whole = u32::try_from(chance.below(200)).unwrap();
    LeadScore::new(f64::from(whole) / 2.0).unwrap()
}

fn condition(chance: &mut Chance) -> Condition {
    match chance.below(13) {
        0 => Condition::Tier(
            chance
                .some(&["hot", "none", "warm"])
                .into_iter()
                .map(TierName::new)
                .collect(),
        ),
        1 => {
            let (from, below) = (Some(score(chance)), Some(score(chance)));
            Condition::Score(ScoreRange { from, below })
        }
        2 => Condition::Lookup(chance.some(LookupOutcome::ALL)),
        3 => Condition::Attribute([("plan".to_owned(), vec!["gold".to_owned()])].into()),
        4 => Condition::Called(patterns(chance)),
        5 => Condition::Caller(patterns(chance)),
        6 => Condition::CallerKind(chance.some(CallerKind::ALL)),
        7 => Condition::Hours(names(chance)),
        8 => Condition::NotHours(names(chance)),
        9 => Condition::List(names(chance)),
        10 => Condition::NotList(names(chance)),
        11 => Condition::CalledBeforeWithin(
            chance.pick(&[CalledBefore::Never, CalledBefore::Seconds(3_600)]),
        ),
        _ => Condition::Share(chance.pick(&[1, 20, 100])),
    }
}

fn action(chance: &mut Chance) -> RuleAction {
    let dialers = DIALERS.map(DialerId::new);
    match chance.below(8) {
        0 => RuleAction::Number(E164::parse("+493055555").unwrap()),
        1 => RuleAction::Reject(chance.pick(&[Rejection::Busy, Rejection::Rejected])),
        2 => RuleAction::Message("no".to_owned()),
        3 => {
            let weights = dialers[..3]
                .iter()
                .map(|dialer| (dialer.clone(), u32::try_from(chance.below(100)).unwrap()));
            let drawn = OrderStep::Drawn(weights.collect());
            RuleAction::Dialers(vec![drawn, OrderStep::One(dialers[3].clone())])
        }
        _ => RuleAction::Dialers(
            chance
                .some(&dialers)
                .into_iter()
                .map(OrderStep::One)
                .collect(),
        ),
    }
}

fn ruleset(chance: &mut Chance) -> Ruleset {
    let tier = |name, min| Tier {
        name: TierName::new(name),
        min_score: LeadScore::new(min).unwrap(),
    };
    let rules = (0..chance.below(20)).map(|n| {
        let conditions = (0..chance.below(4)).map(|_| Arc::new(condition(chance)));
        let when = Conditions(conditions.collect());
        Rule {
            when,
            action: action(chance),
            prefer_last_answered_s: chance.one_in(3).then_some(3_600),
            ..Rule::of_tiers(&format!("rule {n}"), &[], &[])
        }
    });
    let rules = rules.collect();
    Ruleset::of_rules(
        Tiers::new(vec![tier("hot", 80.0), tier("warm", 40.0)]),
        rules,
        &DIALERS,
    )
}

fn lookup(chance: &mut Chance) -> Lookup {
    match chance.below(6) {
        0 => Lookup::Unknown {
            source: Source::Fetched,
            age_ms: 0,
        },
        1 => Lookup::Skipped {
            reason: LookupSkipped::Withheld,
        },
        2 => Lookup::Unavailable {
            reason: LookupUnavailable::Timeout,
        },
        _ => {
            let plan = chance
                .one_in(2)
                .then(|| ("plan".to_owned(), "Gold".to_owned()));
            let profile = Profile {
                score: (!chance.one_in(4)).then(|| score(chance)),
                tier: chance.one_in(4).then(|| "HOT".to_owned()),
                attributes: plan.into_iter().collect(),
            };
            Lookup::Known {
                profile,
                source: Source::Fresh,
                age_ms: 5,
                because: None,
            }
        }
    }
}

fn view(chance: &mut Chance, name: &str) -> DialerView {
    let mut view = DialerView::well(DialerId::new(name));
    match chance.below(8) {
        0 => view.drained = true,
        1 => view.breaker = BreakerView::Open,
        2 => {
            view.availability = Availability::Unavailable {
                why: "0 agents".to_owned(),
            };
        }
        3 => {
            view.hours = Some(HoursState {
                is_open: false,
                until: None,
            });
        }
        4 => {
            view.limits = vec![LimitUse {
                period: LimitPeriod::Active,
                used: 3,
                of: 3,
            }];
        }
        5 => view.callers_first = Some(2),
        _ => {}
    }
    view
}

/// A call that comes from and to some number.
struct RandomCall(Caller, std::cell::RefCell<Chance>);

impl CallSource for RandomCall {
    fn caller(&self) -> &Caller {
        &self.0
    }
    fn called(&self) -> Option<&str> {
        Some("+49301234567")
    }
    fn lists(&self) -> Vec<Arc<str>> {
        vec!["one".into()]
    }
    fn bucket(&self, _: &str) -> u8 {
        u8::try_from(self.1.borrow_mut().below(100)).unwrap()
    }
    fn draw(&self) -> u32 {
        u32::try_from(self.1.borrow_mut().next() >> 32).unwrap()
    }
}

fn facts(chance: &mut Chance, rules: &RulesInForce) -> CallFacts {
    let caller =
        Caller::classify(chance.pick(&["+493099999999", "anonymous", "+441234567890", "client:x"]));
    let source = RandomCall(caller, Chance(chance.next()).into());
    let at = Timestamp::UNIX_EPOCH;
    let mut asked = rules.facts(&source, at);
    asked.history = (!chance.one_in(3)).then(|| History {
        called_before_s: chance.pick(&[None, Some(60), Some(86_400)]),
        last_answered: chance.pick(&[
            None,
            Some(LastAnswered {
                dialer: DialerId::new("b"),
                age_s: 60,
            }),
        ]),
    });
    let state = |is_open| HoursState {
        is_open,
        until: None,
    };
    asked.hours = BTreeMap::from(NAMES.map(|name| (name.into(), state(chance.one_in(2)))));
    let dialers = DIALERS.map(|name| view(chance, name)).to_vec();
    CallFacts {
        asked,
        ..CallFacts::new(at, lookup(chance), dialers)
    }
}

#[test]
fn ten_thousand_calls_against_two_hundred_rule_sets_come_out_the_same_again() {
    for seed in 0..200 {
        let chance = &mut Chance(seed);
        let ruleset = ruleset(chance);
        let stored = serde_json::to_string(&ruleset).unwrap();
        let read: Ruleset = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, ruleset, "seed {seed}");
        let (rules, again) = (RulesInForce::from(ruleset), RulesInForce::from(read));
        assert_eq!(rules.version(), again.version(), "seed {seed}");
        for _ in 0..50 {
            let facts = facts(chance, &rules);
            let decision = decide(&rules, &facts);
            let json = serde_json::to_string(&RecordedDecision::from(&decision)).unwrap();
            let recorded: RecordedDecision<'_> = serde_json::from_str(&json).unwrap();
            let stored = serde_json::to_string(&facts).unwrap();
            let facts: CallFacts = serde_json::from_str(&stored).unwrap();
            let recorded = recorded.restore(&facts);
            assert_eq!(replay(&again, &facts, &recorded), [], "seed {seed}");
            assert_eq!(recorded, decision, "seed {seed}");
            assert_eq!(recorded.sentences(&facts).len(), recorded.trace.0.len());
            let n_dialers = decision.plan.dialers.len() + decision.plan.skipped.len();
            assert_eq!(
                n_dialers,
                DIALERS.len(),
                "seed {seed}: every dialer is planned or skipped"
            );
        }
    }
}

/// `cargo test --release -p switchboard-core decisions_by_two_hundred_rules -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: prints how long a decision takes"]
#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement, and the core has no clock of its own"
)]
fn decisions_by_two_hundred_rules() {
    let chance = &mut Chance(7);
    let dialers: Vec<String> = (0..30).map(|n| format!("dialer-{n}")).collect();
    let dialers: Vec<&str> = dialers.iter().map(String::as_str).collect();
    let rules = (0..200).map(|n| {
        let conditions = [condition(chance), condition(chance)].map(Arc::new);
        let named = (0..3).map(|_| OrderStep::One(DialerId::new(chance.pick(&dialers))));
        Rule {
            when: Conditions(conditions.into()),
            action: RuleAction::Dialers(named.collect()),
            ..Rule::of_tiers(&format!("rule {n}"), &[], &[])
        }
    });
    let rules = rules.collect();
    let ruleset = Ruleset::of_rules(ruleset(&mut Chance(1)).tiers, rules, &dialers);
    let rules = RulesInForce::from(ruleset);
    let mut calls: Vec<CallFacts> = (0..1_000).map(|_| facts(chance, &rules)).collect();
    for call in &mut calls {
        let views = dialers
            .iter()
            .map(|name| DialerView::well(DialerId::new(name)));
        call.dialers = views.collect();
        let state = |n: usize| HoursState {
            is_open: n.is_multiple_of(2),
            until: None,
        };
        let hours = (0..50).map(|n| (format!("hours {n}").into(), state(n)));
        call.asked.hours.extend(hours);
    }
    let mut took: Vec<u128> = Vec::new();
    for call in calls.iter().cycle().take(20_000) {
        let started = std::time::Instant::now();
        std::hint::black_box(decide(&rules, call));
        took.push(started.elapsed().as_nanos());
    }
    took.sort_unstable();
    let [median, p99] = [took.len() / 2, took.len() * 99 / 100].map(|at| took[at] / 10 * 10);
    println!("200 rules, 50 hours, 30 dialers: median {median} ns, 99th percentile {p99} ns");
}

use std::cell::RefCell;

use super::super::{
    CallSource, Conditions, DialerId, OrderStep, RuleAction, Ruleset, ScoreRange, Speech, time_zone,
};
use super::*;
use crate::lead::{Tier, TierName, Tiers};
use crate::phone::Caller;
use crate::routing::LookupOutcome;

const FROM: &str = "2026-12-01T12:00:00Z";

fn from() -> Timestamp {
    FROM.parse().unwrap()
}

fn score(value: f64) -> LeadScore {
    LeadScore::new(value).unwrap()
}

fn pattern(text: &str) -> NumberPattern {
    NumberPattern::parse(text).unwrap()
}

fn rule(name: &str, conditions: Vec<Condition>) -> Rule {
    Rule {
        name: name.into(),
        when: Conditions(conditions.into_iter().map(Arc::new).collect()),
        action: RuleAction::Dialers(vec![OrderStep::One(DialerId::new("a"))]),
        prefer_last_answered_s: None,
        speech: Speech::default(),
    }
}

fn tiers(names: &[&str]) -> Condition {
    Condition::Tier(names.iter().map(|name| TierName::new(name)).collect())
}

fn range(from: Option<f64>, below: Option<f64>) -> Condition {
    Condition::Score(ScoreRange {
        from: from.map(score),
        below: below.map(score),
    })
}

fn called(texts: &[&str]) -> Condition {
    Condition::Called(texts.iter().map(|text| pattern(text)).collect())
}

fn caller(texts: &[&str]) -> Condition {
    Condition::Caller(texts.iter().map(|text| pattern(text)).collect())
}

fn names(texts: &[&str]) -> Vec<Arc<str>> {
    texts.iter().map(|text| Arc::from(*text)).collect()
}

fn plan(value: &str) -> Condition {
    Condition::Attribute([("plan".to_owned(), vec![value.to_owned()])].into())
}

fn in_force(rules: Vec<Rule>) -> RulesInForce {
    let tier = |name: &str, min_score: f64| Tier {
        name: TierName::new(name),
        min_score: score(min_score),
    };
    let all = vec![tier("hot", 80.0), tier("warm", 40.0), tier("cold", 0.0)];
    let hours = |open: &str| super::super::Hours {
        time_zone: time_zone("Europe/Berlin").unwrap(),
        open: vec![open.parse().unwrap()],
        closed: Vec::new(),
        special: Vec::new(),
        holidays: BTreeSet::new(),
    };
    Ruleset {
        hours: [
            ("office".into(), hours("mon-fri 08:00-18:00")),
            ("early".into(), hours("mon-fri 08:00-12:00")),
            ("night".into(), hours("daily 20:00-06:00")),
        ]
        .into(),
        ..Ruleset::of_rules(Tiers::new(all), rules, &["a", "b"])
    }
    .into()
}

/// `reachable`, or the names of the rules that take all calls.
fn said(rules: Vec<Rule>, named_tiers: bool) -> Vec<String> {
    let rules = in_force(rules);
    let found = reachability(&rules, from(), named_tiers).into_iter();
    found
        .map(|one| match one {
            Reachability::Reachable(_) => "reachable".to_owned(),
            Reachability::Unreachable { taken_by } => format!("taken by {}", taken_by.join(", ")),
            Reachability::NotSettled => "not settled".to_owned(),
        })
        .collect()
}

/// What is said of the last of these rules, and what of the default behind it.
#[track_caller]
fn assert_last(above: Vec<Vec<Condition>>, last: Vec<Condition>, expected: &str) {
    let above = above.into_iter().enumerate();
    let mut rules: Vec<Rule> = above
        .map(|(idx, when)| rule(&format!("r{idx}"), when))
        .collect();
    rules.push(rule("last", last));
    let found = said(rules, false);
    assert_eq!(found[found.len() - 2], expected);
}

#[test]
fn a_rule_behind_one_that_takes_every_call_is_not_reached() {
    let found = said(
        vec![rule("all", Vec::new()), rule("hot", vec![tiers(&["hot"])])],
        false,
    );
    assert_eq!(found, ["reachable", "taken by all", "taken by all"]);
    let found = said(vec![rule("hot", vec![tiers(&["hot"])])], false);
    assert_eq!(found, ["reachable", "reachable"]);
}

#[test]
fn rules_that_together_take_all_calls_of_one_are_named_and_no_others() {
    let above = vec![
        vec![plan("gold")],
        vec![tiers(&["hot"])],
        vec![range(Some(40.0), Some(80.0))],
    ];
    assert_last(
        above.clone(),
        vec![tiers(&["hot", "warm"])],
        "taken by r1, r2",
    );
    assert_last(
        above.clone(),
        vec![range(Some(50.0), None)],
        "taken by r1, r2",
    );
    assert_last(above, vec![range(Some(39.5), None)], "reachable");
}

#[test]
fn conditions_that_contradict_each_other_leave_no_call() {
    let none = "taken by ";
    assert_last(vec![], vec![tiers(&["hot"]), range(None, Some(80.0))], none);
    assert_last(vec![], vec![tiers(&["none"]), range(Some(0.0), None)], none);
    assert_last(
        vec![],
        vec![tiers(&["none"]), range(None, Some(0.0))],
        "reachable",
    );
    let withheld = Condition::CallerKind(vec![CallerKind::Withheld]);
    assert_last(vec![], vec![withheld.clone(), caller(&["+49*"])], none);
    let unknown = Condition::Lookup(vec![LookupOutcome::Unknown]);
    assert_last(vec![], vec![withheld.clone(), unknown.clone()], none);
    assert_last(
        vec![],
        vec![withheld, Condition::List(names(&["vip"]))],
        none,
    );
    assert_last(vec![], vec![unknown, plan("gold")], none);
    let both = vec![
        Condition::List(names(&["vip", "vop"])),
        Condition::NotList(names(&["vip"])),
    ];
    assert_last(vec![], both, "reachable");
    let both = vec![
        Condition::List(names(&["vip"])),
        Condition::NotList(names(&["vop", "vip"])),
    ];
    assert_last(vec![], both, none);
}

#[test]
fn a_tier_that_braze_names_counts_whatever_the_score() {
    let rules = || vec![rule("odd", vec![tiers(&["hot"]), range(None, Some(10.0))])];
    assert_eq!(said(rules(), false)[0], "taken by ");
    assert_eq!(said(rules(), true)[0], "reachable");
}

#[test]
fn numbers_that_longer_beginnings_share_out_leave_none() {
    let tenths: Vec<String> = (0..10).map(|digit| format!("+49{digit}*")).collect();
    let tenths: Vec<&str> = tenths.iter().map(String::as_str).collect();
    assert_last(
        vec![vec![called(&tenths)]],
        vec![called(&["+49*"])],
        "taken by r0",
    );
    assert_last(
        vec![vec![called(&tenths[1..])]],
        vec![called(&["+49*"])],
        "reachable",
    );
    assert_last(
        vec![vec![called(&["+49*"])]],
        vec![called(&["+4930111111*"])],
        "taken by r0",
    );
    let above = vec![vec![called(&["+4930111111*"])]];
    assert_last(above, vec![called(&["+493011111100", "+44*"])], "reachable");
    let above = vec![vec![called(&["+4930111111*"])]];
    assert_last(above, vec![called(&["+493011111100"])], "taken by r0");
}

#[test]
fn hours_are_open_together_as_they_are_in_the_year_to_come() {
    let open = |name: &str| Condition::Hours(names(&[name]));
    let closed = |name: &str| Condition::NotHours(names(&[name]));
    assert_last(vec![], vec![open("early"), closed("office")], "taken by ");
    assert_last(vec![], vec![open("office"), closed("early")], "reachable");
    assert_last(
        vec![vec![open("office")]],
        vec![open("early")],
        "taken by r0",
    );
    assert_last(vec![], vec![open("night"), open("office")], "taken by ");
    assert_last(
        vec![vec![open("office")], vec![open("night")]],
        vec![],
        "reachable",
    );
    let always = vec![vec![open("office")], vec![closed("office")]];
    assert_last(always, vec![tiers(&["hot"])], "taken by r0, r1");
}

#[test]
fn shares_and_histories_leave_the_other_callers() {
    assert_last(vec![vec![Condition::Share(99)]], vec![], "reachable");
    assert_last(vec![vec![Condition::Share(100)]], vec![], "taken by r0");
    let within = |s| Condition::CalledBeforeWithin(CalledBefore::Seconds(s));
    let never = Condition::CalledBeforeWithin(CalledBefore::Never);
    assert_last(vec![vec![within(60)]], vec![within(59)], "taken by r0");
    assert_last(
        vec![vec![within(60)], vec![never]],
        vec![within(61)],
        "reachable",
    );
}

#[test]
fn a_witness_has_numbers_that_can_be_dialed() {
    let rules = in_force(vec![
        rule("odd", vec![caller(&["+4915*"]), called(&["+49*"])]),
        rule("rest", vec![called(&["+4930*"]), caller(&["+49*"])]),
    ]);
    let found = reachability(&rules, from(), false);
    let Reachability::Reachable(call) = &found[1] else {
        panic!("{found:?}");
    };
    let caller = call.caller.as_deref().unwrap();
    assert!(
        matches!(Caller::classify(caller), Caller::Number(_)),
        "{caller}"
    );
    assert!(
        caller.starts_with("+49") && !caller.starts_with("+4915"),
        "{caller}"
    );
    assert!(call.called.as_deref().unwrap().starts_with("+4930"));
}

/// Numbers from a fixed seed.
struct Dice(RefCell<u64>);

impl Dice {
    fn below(&self, n: u64) -> u64 {
        let mut state = self.0.borrow_mut();
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % n
    }

    fn one_of<'a, T>(&self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    /// Each with one chance in `n`, and at least one.
    fn some_of(&self, all: &[&str], n: u64) -> Vec<String> {
        let drawn = all.iter().filter(|_| self.below(n) == 0);
        let mut drawn: Vec<String> = drawn.map(|one| (*one).to_owned()).collect();
        if drawn.is_empty() {
            drawn.push((*self.one_of(all)).to_owned());
        }
        drawn
    }
}

const PATTERNS: [&str; 8] = [
    "+49*",
    "+4930*",
    "+493011*",
    "+493012345678",
    "+44*",
    "+4420*",
    "+1*",
    "+49301*",
];
const LISTS: [&str; 4] = ["vip", "blocked", "staff", "press"];
const PLANS: [&str; 3] = ["gold", "silver", "Gold"];

fn random_condition(dice: &Dice, kind: u64) -> Condition {
    let arcs = |all: Vec<String>| all.into_iter().map(Arc::from).collect::<Vec<Arc<str>>>();
    let patterns = || {
        dice.some_of(&PATTERNS, 5)
            .iter()
            .map(|text| pattern(text))
            .collect()
    };
    match kind {
        0 => {
            let names = dice.some_of(&["hot", "warm", "cold", "none"], 3);
            Condition::Tier(names.iter().map(|name| TierName::new(name)).collect())
        }
        1 => {
            let bounds = [dice.below(10) * 10, dice.below(10) * 10 + 10]
                .map(|at| f64::from(u32::try_from(at).unwrap()));
            let (from, below) = (bounds[0].min(bounds[1]), bounds[1].max(bounds[0] + 1.0));
            range((dice.below(3) > 0).then_some(from), Some(below))
        }
        2 => Condition::Lookup(vec![*dice.one_of(LookupOutcome::ALL)]),
        3 => Condition::Attribute([("plan".to_owned(), dice.some_of(&PLANS, 3))].into()),
        4 => Condition::Called(patterns()),
        5 => Condition::Caller(patterns()),
        6 => Condition::CallerKind(vec![*dice.one_of(CallerKind::ALL)]),
        7 => Condition::Hours(arcs(dice.some_of(&["office", "early", "night"], 3))),
        8 => Condition::NotHours(arcs(dice.some_of(&["office", "early", "night"], 3))),
        9 => Condition::List(arcs(dice.some_of(&LISTS, 4))),
        10 => Condition::NotList(arcs(dice.some_of(&LISTS, 4))),
        11 if dice.below(2) == 0 => Condition::CalledBeforeWithin(CalledBefore::Never),
        11 => Condition::CalledBeforeWithin(CalledBefore::Seconds(60 * (1 + dice.below(3)))),
        _ => Condition::Share(u8::try_from(1 + dice.below(100)).unwrap()),
    }
}

fn random_rules(dice: &Dice, n_rules: usize) -> Vec<Rule> {
    let rule_of = |idx: usize| {
        let n_conditions = 1 + dice.below(3);
        let mut kinds: Vec<u64> = (0..n_conditions).map(|_| dice.below(13)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let conditions = kinds.into_iter().map(|kind| random_condition(dice, kind));
        rule(&format!("r{idx}"), conditions.collect())
    };
    (0..n_rules).map(rule_of).collect()
}

/// Where a random call comes from.
struct RandomCall<'a> {
    dice: &'a Dice,
    caller: Caller,
    called: String,
}

impl<'a> RandomCall<'a> {
    fn new(dice: &'a Dice) -> Self {
        let number = || {
            let beginning = dice.one_of(&PATTERNS).trim_end_matches('*');
            let digits = dice.below(10_000_000);
            if dice.below(4) == 0 {
                beginning.to_owned() + "0000"
            } else {
                format!("{beginning}{digits:07}")
            }
        };
        let from = match dice.below(8) {
            0 => "anonymous".to_owned(),
            1 => "client:ann".to_owned(),
            2 => format!("sip:{}@example.com", number()),
            3 => "sip:ann@example.com".to_owned(),
            4 => "030123456".to_owned(),
            _ => number(),
        };
        Self {
            dice,
            caller: Caller::classify(&from),
            called: number(),
        }
    }

    fn facts(&self, rules: &RulesInForce) -> CallFacts {
        let dice = self.dice;
        let minutes = i64::try_from(dice.below(360 * 1_440)).unwrap();
        let at = from() + SignedDuration::from_mins(minutes);
        let has_number = self.caller.number().is_some();
        let lookup = match dice.below(8) {
            _ if !has_number => Lookup::Skipped {
                reason: LookupSkipped::Withheld,
            },
            0 => Lookup::Unknown {
                source: Source::Fetched,
                age_ms: 0,
            },
            1 => Lookup::Unavailable {
                reason: LookupUnavailable::Connect,
            },
            _ => {
                let at = f64::from(u32::try_from(dice.below(130)).unwrap()) - 10.0;
                let plan = (dice.below(2) == 0).then(|| {
                    (
                        "plan".to_owned(),
                        (*dice.one_of(&["GOLD", "silver", "free"])).to_owned(),
                    )
                });
                Lookup::Known {
                    profile: Profile {
                        score: (dice.below(5) > 0).then(|| score(at)),
                        tier: (dice.below(4) == 0)
                            .then(|| (*dice.one_of(&["hot", "WARM", "odd"])).to_owned()),
                        attributes: plan.into_iter().collect(),
                    },
                    source: Source::Fetched,
                    age_ms: 0,
                    because: None,
                }
            }
        };
        let before = [None, Some(dice.below(240)), Some(86_400)];
        let mut facts = CallFacts::new(at, lookup, Vec::new());
        facts.asked = rules.facts(self, at);
        facts.asked.history = (dice.below(4) > 0).then(|| History {
            called_before_s: *dice.one_of(&before),
            ..History::default()
        });
        facts
    }
}

impl CallSource for RandomCall<'_> {
    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn called(&self) -> Option<&str> {
        Some(&self.called)
    }

    fn lists(&self) -> Vec<Arc<str>> {
        let on = LISTS
            .iter()
            .filter(|_| self.caller.number().is_some() && self.dice.below(3) == 0);
        on.map(|name| Arc::from(*name)).collect()
    }

    fn bucket(&self, _: &str) -> u8 {
        u8::try_from(self.dice.below(100)).unwrap()
    }

    fn draw(&self) -> u32 {
        0
    }
}

/// Rule sets that are drawn, every other one of 50 rules: a witness is confirmed, and what is not reached is never chosen in so many calls of each.
#[expect(clippy::print_stdout, reason = "what was found is a figure")]
fn assert_found(n_rulesets: usize, n_calls: usize) {
    let dice = Dice(RefCell::new(20_261_201));
    let mut n_of = [0_usize; 3];
    let (mut n_large, mut n_not_settled) = (0_usize, 0_usize);
    for round in 0..n_rulesets {
        let n_rules = if round % 2 == 0 { 50 } else { 6 };
        let rules = in_force(random_rules(&dice, n_rules));
        let found = reachability(&rules, from(), true);
        for (idx, one) in found.iter().enumerate() {
            let name = rules.rules.get(idx).map(|rule| &*rule.name);
            match one {
                Reachability::Reachable(call) => {
                    assert_eq!(decide(&rules, &call.facts).rule.as_deref(), name);
                    n_of[0] += 1;
                }
                Reachability::Unreachable { .. } => n_of[1] += 1,
                Reachability::NotSettled => n_of[2] += 1,
            }
        }
        if n_rules == 50 {
            let is_open = |one: &Reachability| matches!(one, Reachability::NotSettled);
            n_large += 1;
            n_not_settled += usize::from(found.iter().any(is_open));
        }
        for _ in 0..n_calls {
            let call = RandomCall::new(&dice);
            let facts = call.facts(&rules);
            let chosen = decide(&rules, &facts).rule;
            let mut all = rules.rules.iter();
            let idx = chosen
                .as_deref()
                .and_then(|name| all.position(|rule| &*rule.name == name));
            let one = &found[idx.unwrap_or(rules.rules.len())];
            assert!(
                !matches!(one, Reachability::Unreachable { .. }),
                "{chosen:?}: {one:?} {:?} {facts:?}",
                rules.rules
            );
        }
    }
    println!(
        "reachable, not reachable, not settled: {n_of:?}; not settled in {n_not_settled} of {n_large} sets of 50 rules"
    );
    assert!(
        n_of[0] > n_rulesets * 12 && n_of[1] > n_rulesets / 2,
        "{n_of:?}"
    );
    assert!(
        n_not_settled * 100 < n_large,
        "{n_not_settled} of {n_large}"
    );
}

#[test]
fn what_is_reached_has_a_witness_and_what_is_not_is_never_chosen() {
    assert_found(24, 400);
}

/// `cargo test --release -p switchboard-core a_hundred_thousand -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes in a debug build"]
fn what_is_not_reached_is_never_chosen_in_a_hundred_thousand_calls_of_each_rule_set() {
    assert_found(400, 1_000);
    assert_found(20, 100_000);
}

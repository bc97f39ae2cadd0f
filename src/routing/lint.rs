//! Which rules can be reached: for each a call that it takes, or the rules above it that leave it none.
//!
//! What rules ask about divides all calls into finitely many cells on each of a few axes: who calls, what was called, the
//! look-up, the hours of the year to come, history, each list, attribute and share. A rule takes the calls that lie in its
//! cells and outside those of every rule above it. Whether there is such a call is searched by narrowing what is left of each
//! axis, and by trying alternatives where that settles nothing: a search of all cells, and not a sample.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::class::CallerClass;
use super::condition::is_same;
use super::{
    AskedFacts, CallFacts, CalledBefore, CallerKind, Condition, DialerView, History, HoursState,
    Lookup, LookupSkipped, LookupUnavailable, NumberPattern, Profile, Rule, RulesInForce, Source,
    decide,
};
use crate::lead::LeadScore;

/// After so many steps the search for one call is given up.
const MOST_STEPS: u32 = 100_000;
/// After so many for all rules together no more is searched, so that no file delays a start by more than some seconds.
const MOST_STEPS_IN_ALL: u32 = 1_000_000;
/// Opening hours are followed for so long: a year, and some days for what a year shifts.
const HOURS_AHEAD: SignedDuration = SignedDuration::from_hours(370 * 24);
/// No number has more digits; a plus sign comes on top.
const LONGEST_NUMBER: usize = 16;

/// Whether any call can come to a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Reachability {
    Reachable(Box<WitnessCall>),
    /// The rules above that together take all of its calls; none where its own conditions contradict each other.
    Unreachable {
        taken_by: Vec<Arc<str>>,
    },
    NotSettled,
}

/// A call that comes to a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct WitnessCall {
    pub facts: CallFacts,
    /// A number that calls with these facts; `None` for callers without one.
    pub caller: Option<String>,
    /// A number that is called with these facts.
    pub called: Option<String>,
}

/// Whether each rule can be reached, in their order, and at the end whether the default can. Opening hours are those of the year that
/// begins at `from`. `named_tiers`: Braze may name a tier whatever the score.
pub fn reachability(rules: &RulesInForce, from: Timestamp, named_tiers: bool) -> Vec<Reachability> {
    let space = CallSpace::new(rules, from, named_tiers);
    let wants: Vec<Vec<Constraint>> = rules.rules.iter().map(|rule| space.wants(rule)).collect();
    let avoids: Vec<Constraint> = wants.iter().map(|wants| space.avoids(wants)).collect();
    let nothing = Vec::new();
    let targets = wants.iter().chain([&nothing]).enumerate();
    targets
        .map(|(idx, wants)| {
            let avoided: Vec<&Constraint> = avoids.iter().take(idx).collect();
            let name = rules.rules.get(idx).map(|rule| &*rule.name);
            match space.search(wants, &avoided) {
                SearchResult::Found(region) => {
                    let call = space.call(&region);
                    // A call that is decided otherwise proves nothing.
                    if decide(rules, &call.facts).rule.as_deref() == name {
                        Reachability::Reachable(Box::new(call))
                    } else {
                        Reachability::NotSettled
                    }
                }
                SearchResult::Empty => Reachability::Unreachable {
                    taken_by: taken_by(&space, wants, &avoided)
                        .into_iter()
                        .filter_map(|idx| Some(rules.rules.get(idx)?.name.clone()))
                        .collect(),
                },
                SearchResult::GivenUp => Reachability::NotSettled,
            }
        })
        .collect()
}

/// The rules that are needed to leave no call: one alone where one is enough.
fn taken_by(space: &CallSpace<'_>, wants: &[Constraint], above: &[&Constraint]) -> Vec<usize> {
    let is_empty = |rules: &[usize]| {
        let avoided: Vec<&Constraint> = rules
            .iter()
            .filter_map(|idx| above.get(*idx).copied())
            .collect();
        matches!(space.search(wants, &avoided), SearchResult::Empty)
    };
    if is_empty(&[]) {
        return Vec::new();
    }
    if let Some(one) = (0..above.len()).find(|idx| is_empty(&[*idx])) {
        return vec![one];
    }
    let mut needed: Vec<usize> = (0..above.len()).collect();
    for idx in (0..above.len()).rev() {
        let without: Vec<usize> = needed
            .iter()
            .copied()
            .filter(|other| *other != idx)
            .collect();
        if is_empty(&without) {
            needed = without;
        }
    }
    needed
}

/// Some of the cells of one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CellSet(Vec<u64>);

impl CellSet {
    fn of(n_cells: usize, holds: impl Fn(usize) -> bool) -> Self {
        let word = |word: usize| {
            let bits = (0..64).filter(|bit| word * 64 + bit < n_cells && holds(word * 64 + bit));
            bits.fold(0, |word, bit| word | 1 << bit)
        };
        Self((0..n_cells.div_ceil(64)).map(word).collect())
    }

    fn has(&self, cell: usize) -> bool {
        let word = self.0.get(cell / 64);
        word.is_some_and(|word| word & (1 << (cell % 64)) != 0)
    }

    fn pairs<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (u64, u64)> + 'a {
        self.0.iter().copied().zip(other.0.iter().copied())
    }

    fn meets(&self, other: &Self) -> bool {
        self.pairs(other).any(|(one, other)| one & other != 0)
    }

    fn lies_within(&self, other: &Self) -> bool {
        self.pairs(other).all(|(one, other)| one & !other == 0)
    }

    fn and(&self, other: &Self) -> Self {
        Self(self.pairs(other).map(|(one, other)| one & other).collect())
    }

    fn first(&self) -> usize {
        let words = self.0.iter().enumerate();
        let mut found = words.filter(|(_, word)| **word != 0);
        let bit = |word: u64| usize::try_from(word.trailing_zeros()).unwrap_or(0);
        found.next().map_or(0, |(idx, word)| idx * 64 + bit(*word))
    }
}

/// An axis by its index, and the cells of it that are allowed.
type Restriction = (usize, CellSet);
/// At least one of these holds; each is the restrictions that it takes all of.
type Constraint = Vec<Vec<Restriction>>;
/// What is left of each axis.
type Remaining = Vec<CellSet>;

enum SearchResult {
    Found(Remaining),
    Empty,
    GivenUp,
}

const PEOPLE: usize = 0;
const CALLED: usize = 1;
const LOOKUP: usize = 2;
const HOURS: usize = 3;
const HISTORY: usize = 4;
const FIRST_NAMED: usize = 5;

/// The axes and their cells, each by an example.
struct CallSpace<'a> {
    rules: &'a RulesInForce,
    people: Vec<Person>,
    called: Vec<MatchedNumber>,
    lookups: Vec<Lookup>,
    hours: Vec<(Timestamp, BTreeMap<Arc<str>, HoursState>)>,
    histories: Vec<Option<History>>,
    /// One axis each, from [`FIRST_NAMED`] on.
    named: Vec<NamedAxis>,
    /// What holds for every call.
    laws: Vec<Constraint>,
    steps_left: Cell<u32>,
}

/// A kind of caller, and the patterns that the number matches.
struct Person {
    kind: CallerKind,
    number: Option<MatchedNumber>,
}

/// A number, or none, and the patterns that it matches.
#[derive(Clone)]
struct MatchedNumber {
    text: Option<String>,
    matched: Vec<NumberPattern>,
}

enum NamedAxis {
    /// Not on it, on it.
    List(Arc<str>),
    /// The values that rules ask for, after another one or none.
    Attribute(String, Vec<Option<String>>),
    /// The places of callers for the rule: the first that it takes, and the first that it does not.
    Share(Arc<str>, Vec<u8>),
}

impl NamedAxis {
    fn n_cells(&self) -> usize {
        match self {
            Self::List(_) => 2,
            Self::Attribute(_, values) => values.len(),
            Self::Share(_, places) => places.len(),
        }
    }
}

impl<'a> CallSpace<'a> {
    fn new(rules: &'a RulesInForce, from: Timestamp, named_tiers: bool) -> Self {
        let conditions = || {
            let rules = rules.rules.iter();
            rules.flat_map(|rule| rule.when.0.iter().map(move |one| (rule, &**one)))
        };
        let (mut called, mut caller) = (BTreeSet::new(), BTreeSet::new());
        let (mut hours, mut lists) = (BTreeSet::new(), BTreeSet::new());
        let mut bounds: BTreeSet<LeadScore> =
            rules.tiers.iter().map(|tier| tier.min_score).collect();
        let mut ages = BTreeSet::new();
        let mut attributes: BTreeMap<&String, Vec<Option<String>>> = BTreeMap::new();
        let mut named = Vec::new();
        for (rule, condition) in conditions() {
            match condition {
                Condition::Score(range) => bounds.extend(range.from.iter().chain(&range.below)),
                Condition::Called(patterns) => called.extend(patterns.iter().cloned()),
                Condition::Caller(patterns) => caller.extend(patterns.iter().cloned()),
                Condition::Hours(names) | Condition::NotHours(names) => hours.extend(names),
                Condition::List(names) | Condition::NotList(names) => {
                    lists.extend(names.iter().cloned());
                }
                Condition::CalledBeforeWithin(CalledBefore::Seconds(most)) => {
                    ages.extend([*most, most.saturating_add(1)]);
                }
                Condition::Attribute(wanted) => {
                    for (name, values) in wanted {
                        let known = attributes.entry(name).or_insert_with(|| vec![None]);
                        known.extend(values.iter().cloned().map(Some));
                    }
                }
                Condition::Share(share) => {
                    let places = [0, *share].into_iter().filter(|place| *place < 100);
                    named.push(NamedAxis::Share(rule.name.clone(), places.collect()));
                }
                Condition::Tier(_)
                | Condition::Lookup(_)
                | Condition::CallerKind(_)
                | Condition::CalledBeforeWithin(CalledBefore::Never) => {}
            }
        }
        let attributes = attributes.into_iter();
        named.extend(attributes.map(|(name, values)| NamedAxis::Attribute(name.clone(), values)));
        named.extend(lists.into_iter().map(NamedAxis::List));
        let never = History::default();
        let aged = ages.into_iter().map(|age| History {
            called_before_s: Some(age),
            ..History::default()
        });
        let mut space = Self {
            rules,
            people: people(&caller.into_iter().collect::<Vec<_>>()),
            called: called_numbers(&called.into_iter().collect::<Vec<_>>()),
            lookups: lookups(rules, &bounds, named_tiers),
            hours: hours_cells(rules, &hours, from),
            histories: [None, Some(never)]
                .into_iter()
                .chain(aged.map(Some))
                .collect(),
            named,
            laws: Vec::new(),
            steps_left: Cell::new(MOST_STEPS_IN_ALL),
        };
        space.laws = space.laws();
        space
    }

    /// Only who has a number is looked up, and everybody who has is; only numbers are on lists.
    fn laws(&self) -> Vec<Constraint> {
        let has = |wanted: bool| {
            let holds = |idx: usize| {
                self.people
                    .get(idx)
                    .is_some_and(|one| one.number.is_some() == wanted)
            };
            (PEOPLE, CellSet::of(self.people.len(), holds))
        };
        let skipped = |wanted: bool| {
            let is_skipped = |lookup: &Lookup| matches!(lookup, Lookup::Skipped { .. });
            let holds = |idx: usize| {
                self.lookups
                    .get(idx)
                    .is_some_and(|one| is_skipped(one) == wanted)
            };
            (LOOKUP, CellSet::of(self.lookups.len(), holds))
        };
        let mut laws = vec![
            vec![vec![has(true)], vec![skipped(true)]],
            vec![vec![has(false)], vec![skipped(false)]],
        ];
        for (idx, axis) in self.named.iter().enumerate() {
            if let NamedAxis::List(_) = axis {
                let off = (FIRST_NAMED + idx, CellSet::of(2, |cell| cell == 0));
                laws.push(vec![vec![off], vec![has(true)]]);
            }
        }
        laws
    }

    fn n_cells(&self, axis: usize) -> usize {
        match axis {
            PEOPLE => self.people.len(),
            CALLED => self.called.len(),
            LOOKUP => self.lookups.len(),
            HOURS => self.hours.len(),
            HISTORY => self.histories.len(),
            named => {
                let named = self.named.get(named - FIRST_NAMED);
                named.map_or(0, NamedAxis::n_cells)
            }
        }
    }

    /// The axis of a name, and those of its cells that hold.
    fn on_named(
        &self,
        is_it: impl Fn(&NamedAxis) -> bool,
        holds: impl Fn(&NamedAxis, usize) -> bool,
    ) -> Vec<Restriction> {
        let mut axes = self.named.iter().enumerate();
        let found = axes.find(|(_, axis)| is_it(axis));
        let restriction = found.map(|(idx, axis)| {
            let cells = CellSet::of(axis.n_cells(), |cell| holds(axis, cell));
            (FIRST_NAMED + idx, cells)
        });
        restriction.into_iter().collect()
    }

    fn on_list(&self, name: &Arc<str>, wanted: usize) -> Vec<Restriction> {
        let is_it = |axis: &NamedAxis| matches!(axis, NamedAxis::List(list) if list == name);
        self.on_named(is_it, |_, cell| cell == wanted)
    }

    /// What a rule wants: all of these.
    fn wants(&self, rule: &Rule) -> Vec<Constraint> {
        let conditions = rule.when.0.iter();
        conditions
            .flat_map(|condition| self.wants_of(rule, condition))
            .collect()
    }

    fn wants_of(&self, rule: &Rule, condition: &Condition) -> Vec<Constraint> {
        let on = |axis| vec![vec![vec![self.where_met(axis, rule, condition)]]];
        match condition {
            Condition::Tier(_) | Condition::Score(_) | Condition::Lookup(_) => on(LOOKUP),
            Condition::Called(_) => on(CALLED),
            Condition::Caller(_) | Condition::CallerKind(_) => on(PEOPLE),
            Condition::Hours(_) | Condition::NotHours(_) => on(HOURS),
            Condition::CalledBeforeWithin(_) => on(HISTORY),
            Condition::List(names) => {
                let alternatives = names.iter().map(|name| self.on_list(name, 1));
                vec![alternatives.collect()]
            }
            Condition::NotList(names) => {
                let off = names.iter().map(|name| vec![self.on_list(name, 0)]);
                off.collect()
            }
            Condition::Attribute(wanted) => {
                let is_known = |idx: usize| {
                    let lookup = self.lookups.get(idx);
                    lookup.is_some_and(|lookup| lookup.profile().is_some())
                };
                let known = (LOOKUP, CellSet::of(self.lookups.len(), is_known));
                let mut wants = vec![vec![vec![known]]];
                for (name, values) in wanted {
                    let is_it = |axis: &NamedAxis| matches!(axis, NamedAxis::Attribute(attribute, _) if attribute == name);
                    let holds = |axis: &NamedAxis, cell: usize| match axis {
                        NamedAxis::Attribute(_, known) => {
                            let value = known.get(cell).and_then(Option::as_ref);
                            value.is_some_and(|value| values.iter().any(|one| is_same(one, value)))
                        }
                        NamedAxis::List(_) | NamedAxis::Share(..) => false,
                    };
                    wants.push(vec![self.on_named(is_it, holds)]);
                }
                wants
            }
            Condition::Share(share) => {
                let is_it = |axis: &NamedAxis| matches!(axis, NamedAxis::Share(name, _) if *name == rule.name);
                let holds = |axis: &NamedAxis, cell: usize| match axis {
                    NamedAxis::Share(_, places) => {
                        places.get(cell).is_some_and(|place| place < share)
                    }
                    NamedAxis::List(_) | NamedAxis::Attribute(..) => false,
                };
                vec![vec![self.on_named(is_it, holds)]]
            }
        }
    }

    /// The cells of an axis in which a condition holds, by asking it.
    fn where_met(&self, axis: usize, rule: &Rule, condition: &Condition) -> Restriction {
        let n_cells = self.n_cells(axis);
        let holds = |cell| {
            let mut facts = CallFacts::new(Timestamp::UNIX_EPOCH, Lookup::not_needed(), Vec::new());
            self.put(&mut facts, axis, cell);
            let class = CallerClass::of(&self.rules.tiers, &facts.lookup);
            condition.is_met(&rule.name, &facts, &class)
        };
        (axis, CellSet::of(n_cells, holds))
    }

    /// What a call does that the rule with these wants does not take.
    fn avoids(&self, wants: &[Constraint]) -> Constraint {
        let outside = |(axis, cells): &Restriction| {
            let n_cells = self.n_cells(*axis);
            (*axis, CellSet::of(n_cells, |cell| !cells.has(cell)))
        };
        // Each alternative of a want is one restriction: not to have it is to have none of them.
        let none_of = |want: &Constraint| want.iter().flatten().map(outside).collect();
        wants.iter().map(none_of).collect()
    }

    fn search(&self, wants: &[Constraint], avoided: &[&Constraint]) -> SearchResult {
        let axes = 0..FIRST_NAMED + self.named.len();
        let everything = axes.map(|axis| CellSet::of(self.n_cells(axis), |_| true));
        let open = self.laws.iter().chain(wants).chain(avoided.iter().copied());
        let granted = self.steps_left.get().min(MOST_STEPS);
        let mut steps = granted;
        let result = narrow(everything.collect(), open.collect(), &mut steps);
        self.steps_left
            .set(self.steps_left.get() - (granted - steps));
        result
    }

    /// The first call of a region.
    fn call(&self, region: &Remaining) -> WitnessCall {
        let mut facts = CallFacts::new(Timestamp::UNIX_EPOCH, Lookup::not_needed(), Vec::new());
        let cell = |axis: usize| region.get(axis).map_or(0, CellSet::first);
        for axis in 0..FIRST_NAMED + self.named.len() {
            self.put(&mut facts, axis, cell(axis));
        }
        let dialers = self.rules.dialers.iter().cloned();
        facts.dialers = dialers.map(DialerView::well).collect();
        let person = self.people.get(cell(PEOPLE));
        WitnessCall {
            facts,
            caller: person.and_then(|person| person.number.clone()?.text),
            called: self
                .called
                .get(cell(CALLED))
                .and_then(|one| one.text.clone()),
        }
    }

    /// Puts what a cell stands for into the facts. Attributes come after the look-up that they belong to.
    fn put(&self, facts: &mut CallFacts, axis: usize, cell: usize) {
        let asked: &mut AskedFacts = &mut facts.asked;
        match axis {
            PEOPLE => {
                if let Some(person) = self.people.get(cell) {
                    asked.caller_kind = Some(person.kind);
                    asked.caller = person
                        .number
                        .iter()
                        .flat_map(|one| one.matched.clone())
                        .collect();
                }
            }
            CALLED => {
                asked.called = self
                    .called
                    .get(cell)
                    .map_or_else(Vec::new, |one| one.matched.clone());
            }
            LOOKUP => facts
                .lookup
                .clone_from(self.lookups.get(cell).unwrap_or(&Lookup::not_needed())),
            HOURS => {
                if let Some((at, states)) = self.hours.get(cell) {
                    facts.at = *at;
                    asked.hours.clone_from(states);
                }
            }
            HISTORY => asked.history = self.histories.get(cell).cloned().flatten(),
            named => match self.named.get(named - FIRST_NAMED) {
                Some(NamedAxis::List(name)) if cell == 1 => asked.lists.push(name.clone()),
                Some(NamedAxis::Share(rule, places)) => {
                    let place = places.get(cell).copied().unwrap_or_default();
                    asked.buckets.insert(rule.clone(), place);
                }
                Some(NamedAxis::Attribute(name, values)) => {
                    let value = values.get(cell).cloned().flatten();
                    if let (Lookup::Known { profile, .. }, Some(value)) = (&mut facts.lookup, value)
                    {
                        profile.attributes.insert(name.clone(), value);
                    }
                }
                Some(NamedAxis::List(_)) | None => {}
            },
        }
    }
}

/// Narrows a region until all constraints hold in all of it, or none of it is left.
fn narrow(mut region: Remaining, mut open: Vec<&Constraint>, steps: &mut u32) -> SearchResult {
    let mut has_changed = true;
    while std::mem::take(&mut has_changed) {
        let Some(left) = steps.checked_sub(1) else {
            return SearchResult::GivenUp;
        };
        *steps = left;
        let mut is_empty = false;
        open.retain(|constraint| {
            if constraint.iter().any(|one| holds_in(one, &region)) {
                return false;
            }
            let mut possible = constraint.iter().filter(|one| may_hold_in(one, &region));
            match (possible.next(), possible.next()) {
                (None, _) => is_empty = true,
                (Some(only), None) => {
                    restrict(&mut region, only);
                    has_changed = true;
                    return false;
                }
                (Some(_), Some(_)) => {}
            }
            true
        });
        if is_empty {
            return SearchResult::Empty;
        }
    }
    let n_possible = |constraint: &Constraint| {
        let possible = constraint.iter().filter(|one| may_hold_in(one, &region));
        possible.count()
    };
    let fewest = open
        .iter()
        .enumerate()
        .min_by_key(|(_, constraint)| n_possible(constraint));
    let Some((idx, constraint)) = fewest.map(|(idx, constraint)| (idx, *constraint)) else {
        return SearchResult::Found(region);
    };
    open.swap_remove(idx);
    for alternative in constraint.iter().filter(|one| may_hold_in(one, &region)) {
        let mut narrower = region.clone();
        restrict(&mut narrower, alternative);
        match narrow(narrower, open.clone(), steps) {
            SearchResult::Empty => {}
            found @ (SearchResult::Found(_) | SearchResult::GivenUp) => return found,
        }
    }
    SearchResult::Empty
}

fn holds_in(alternative: &[Restriction], region: &Remaining) -> bool {
    let mut restrictions = alternative.iter();
    restrictions.all(|(axis, cells)| {
        region
            .get(*axis)
            .is_some_and(|left| left.lies_within(cells))
    })
}

fn may_hold_in(alternative: &[Restriction], region: &Remaining) -> bool {
    let mut restrictions = alternative.iter();
    restrictions.all(|(axis, cells)| region.get(*axis).is_some_and(|left| left.meets(cells)))
}

fn restrict(region: &mut Remaining, alternative: &[Restriction]) {
    for (axis, cells) in alternative {
        if let Some(left) = region.get_mut(*axis) {
            *left = left.and(cells);
        }
    }
}

fn people(patterns: &[NumberPattern]) -> Vec<Person> {
    let mut numbers = numbers(patterns);
    // Addresses are not what a caller is known by.
    numbers.retain(|one| one.text.as_ref().is_some_and(|text| text.starts_with('+')));
    let of_kind = |kind| {
        let number = move |one: &MatchedNumber| Person {
            kind,
            number: Some(one.clone()),
        };
        numbers.iter().map(number)
    };
    let without = CallerKind::ALL
        .iter()
        .filter(|kind| **kind != CallerKind::Number);
    of_kind(CallerKind::Number)
        .chain(of_kind(CallerKind::Sip))
        .chain(without.map(|kind| Person {
            kind: *kind,
            number: None,
        }))
        .collect()
}

fn called_numbers(patterns: &[NumberPattern]) -> Vec<MatchedNumber> {
    let mut called = numbers(patterns);
    let unknown = MatchedNumber {
        text: None,
        matched: Vec::new(),
    };
    called.push(unknown);
    called
}

/// A number for every set of patterns that a number can match; first one that matches none, where there is one.
fn numbers(patterns: &[NumberPattern]) -> Vec<MatchedNumber> {
    let all: Vec<&NumberPattern> = patterns.iter().collect();
    let of_pattern = |pattern: &NumberPattern| {
        if !pattern.is_prefix() {
            return Some(pattern.as_str().to_owned());
        }
        let others: Vec<&NumberPattern> =
            all.iter().copied().filter(|one| *one != pattern).collect();
        outside(stem(pattern), &others)
    };
    let texts = std::iter::once(outside("+", &all)).chain(patterns.iter().map(of_pattern));
    let mut seen = BTreeSet::new();
    let mut numbers = Vec::new();
    for text in texts.flatten() {
        let matching = patterns.iter().filter(|pattern| pattern.matches(&text));
        let matched: Vec<NumberPattern> = matching.cloned().collect();
        if seen.insert(matched.clone()) {
            numbers.push(MatchedNumber {
                text: Some(text),
                matched,
            });
        }
    }
    numbers
}

fn stem(pattern: &NumberPattern) -> &str {
    pattern.as_str().trim_end_matches('*')
}

/// A number that begins with `start` and matches none of the patterns that begin so, too.
fn outside(start: &str, patterns: &[&NumberPattern]) -> Option<String> {
    let is_within = |pattern: &&&NumberPattern| stem(pattern).starts_with(start);
    let within: Vec<&NumberPattern> = patterns.iter().filter(is_within).copied().collect();
    if within
        .iter()
        .any(|pattern| pattern.is_prefix() && stem(pattern) == start)
    {
        return None;
    }
    let is_number = start.starts_with('+');
    if within.is_empty() {
        let shortest = if start == "+" { "+1" } else { start };
        let number = || format!("{shortest:0<9}");
        return Some(if is_number {
            number()
        } else {
            start.to_owned()
        });
    }
    let longest = if is_number {
        LONGEST_NUMBER
    } else {
        usize::MAX
    };
    let next = if is_number {
        "1234567890"
    } else {
        "xyz0123456789abcdefghijklmnopqrstuvw"
    };
    let first_zero = |c: &char| start == "+" && *c == '0';
    let mut next = next
        .chars()
        .filter(|c| start.len() < longest && !first_zero(c));
    next.find_map(|c| outside(&format!("{start}{c}"), &within))
}

/// Every outcome of a look-up, and of known callers every interval of scores with every tier that Braze may name.
fn lookups(rules: &RulesInForce, bounds: &BTreeSet<LeadScore>, named_tiers: bool) -> Vec<Lookup> {
    let below = bounds
        .first()
        .and_then(|first| LeadScore::new(first.value() - 1.0));
    let scores = [None]
        .into_iter()
        .chain(below.iter().chain(bounds).copied().map(Some));
    let tiers = rules
        .tiers
        .iter()
        .map(|tier| Some(tier.name.as_str().to_owned()));
    let tiers: Vec<Option<String>> = [None]
        .into_iter()
        .chain(tiers.filter(|_| named_tiers))
        .collect();
    let known = scores.flat_map(|score| tiers.iter().map(move |tier| (score, tier.clone())));
    let known = known.map(|(score, tier)| Lookup::Known {
        profile: Profile {
            score,
            tier,
            attributes: BTreeMap::new(),
        },
        source: Source::Supposed,
        age_ms: 0,
        because: None,
    });
    let others = [
        Lookup::Unknown {
            source: Source::Supposed,
            age_ms: 0,
        },
        Lookup::Unavailable {
            reason: LookupUnavailable::Timeout,
        },
        Lookup::Skipped {
            reason: LookupSkipped::Withheld,
        },
    ];
    known.chain(others).collect()
}

/// Every combination of open and closed that occurs, by its first moment.
fn hours_cells(
    rules: &RulesInForce,
    names: &BTreeSet<&Arc<str>>,
    from: Timestamp,
) -> Vec<(Timestamp, BTreeMap<Arc<str>, HoursState>)> {
    let named = names
        .iter()
        .filter_map(|name| rules.hours.get_key_value(*name));
    let mut states: Vec<_> = named
        .map(|(name, hours)| (name, hours, hours.state(from)))
        .collect();
    let end = from.saturating_add(HOURS_AHEAD).unwrap_or(Timestamp::MAX);
    let (mut seen, mut cells) = (BTreeSet::new(), Vec::new());
    let mut at = from;
    loop {
        let is_open: Vec<bool> = states.iter().map(|(_, _, state)| state.is_open).collect();
        if seen.insert(is_open) {
            let states = states
                .iter()
                .map(|(name, _, state)| (Arc::clone(name), *state));
            cells.push((at, states.collect()));
        }
        let changes = states.iter().filter_map(|(_, _, state)| state.until);
        let Some(next) = changes.min().filter(|next| *next < end) else {
            return cells;
        };
        at = next;
        let due = states
            .iter_mut()
            .filter(|(_, _, state)| state.until == Some(next));
        due.for_each(|(_, hours, state)| *state = hours.state(next));
    }
}

#[cfg(test)]
mod tests;

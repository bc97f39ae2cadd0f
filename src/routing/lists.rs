//! Lists of callers: which of them a number is on.
//!
//! A list holds the numbers and beginnings of numbers that the configuration names, and entries that are added while the process runs. Of such an entry
//! memory holds a keyed hash and no number, so that a block goes on when the person behind it was erased.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use ring::hmac;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::phone::{Caller, E164};

/// The longest beginning of a number: one digit less than the longest number.
const LONGEST_PREFIX: usize = 14;

/// What a line of a list says: a number, or the beginning of numbers.
///
/// Neither begins with 0, and neither has more than 15 digits, so that each is a whole number of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ListedNumber {
    Number(u64),
    Prefix(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no number with its country code like +4930123456, and no beginning of one like +4930*")]
pub struct NotListed;

impl FromStr for ListedNumber {
    type Err = NotListed;

    /// Blanks, dashes, dots, slashes and brackets are passed over.
    fn from_str(text: &str) -> Result<Self, NotListed> {
        let is_punctuation = |c: char| " -./()\u{a0}\t".contains(c);
        let plain: String = text.chars().filter(|&c| !is_punctuation(c)).collect();
        let Some(prefix) = plain.strip_suffix('*') else {
            let number = E164::parse(&plain).map_err(|_| NotListed)?;
            return Ok(Self::Number(whole(&number)));
        };
        let digits = prefix.strip_prefix('+').ok_or(NotListed)?;
        let is_prefix = (1..=LONGEST_PREFIX).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0');
        let prefix = digits.parse().ok().filter(|_| is_prefix);
        prefix.map(Self::Prefix).ok_or(NotListed)
    }
}

/// A number as a whole number; it has at most 15 digits.
fn whole(number: &E164) -> u64 {
    number.as_str().parse().unwrap_or_default()
}

/// Numbers and beginnings of numbers, at 8 bytes each.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NumberSet {
    numbers: Box<[u64]>,
    prefixes: Box<[u64]>,
}

impl FromIterator<ListedNumber> for NumberSet {
    fn from_iter<I: IntoIterator<Item = ListedNumber>>(listed: I) -> Self {
        let (mut numbers, mut prefixes) = (Vec::new(), Vec::new());
        for listed in listed {
            match listed {
                ListedNumber::Number(number) => numbers.push(number),
                ListedNumber::Prefix(prefix) => prefixes.push(prefix),
            }
        }
        for set in [&mut numbers, &mut prefixes] {
            set.sort_unstable();
            set.dedup();
        }
        Self {
            numbers: numbers.into(),
            prefixes: prefixes.into(),
        }
    }
}

impl NumberSet {
    /// How many numbers and beginnings there are.
    pub fn len(&self) -> usize {
        self.numbers.len() + self.prefixes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it names this very number, not only its beginning.
    pub fn names(&self, number: &E164) -> bool {
        self.numbers.binary_search(&whole(number)).is_ok()
    }

    fn has(&self, number: u64) -> bool {
        let beginnings = std::iter::successors(Some(number / 10), |rest| Some(rest / 10));
        self.numbers.binary_search(&number).is_ok()
            || !self.prefixes.is_empty()
                && beginnings
                    .take_while(|rest| *rest > 0)
                    .any(|rest| self.prefixes.binary_search(&rest).is_ok())
    }

    /// Tells sets apart. Numbers are few enough to be tried, so that it is for a keyed fingerprint only.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for set in [&self.numbers, &self.prefixes] {
            digest.update((set.len() as u64).to_be_bytes());
            set.iter().for_each(|one| digest.update(one.to_be_bytes()));
        }
        hex::encode(digest.finalize())
    }
}

impl fmt::Debug for NumberSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NumberSet({} numbers)", self.len())
    }
}

/// A list as the configuration defines it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListDefinition {
    /// What stands in the configuration itself.
    pub numbers: Arc<NumberSet>,
    pub file: Option<ListFile>,
    /// A rule turns away whoever is on it: an entry outlives the erasure of its person, as a keyed hash.
    pub blocks: bool,
}

/// What stands in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFile {
    pub path: PathBuf,
    pub numbers: Arc<NumberSet>,
}

/// What is recorded of a list: no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListSummary {
    /// How many numbers and beginnings of numbers the configuration and its file name.
    pub numbers: usize,
}

impl ListDefinition {
    fn sets(&self) -> impl Iterator<Item = &NumberSet> {
        let of_file = self.file.iter().map(|file| &file.numbers);
        std::iter::once(&self.numbers)
            .chain(of_file)
            .map(|set| &**set)
    }

    pub fn summary(&self) -> ListSummary {
        ListSummary {
            numbers: self.sets().map(NumberSet::len).sum(),
        }
    }
}

/// The keyed hash of a number. By it nobody finds the number without the key.
pub type NumberHash = [u8; 16];

/// Under which numbers of entries are hashed.
#[derive(Clone)]
pub struct ListKey(hmac::Key);

impl ListKey {
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    pub fn hash(&self, number: &E164) -> NumberHash {
        let whole = hmac::sign(&self.0, number.as_str().as_bytes());
        let first = whole.as_ref().first_chunk();
        first.copied().unwrap_or_default()
    }
}

/// One entry that was added to a list while a process ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    pub hash: NumberHash,
    pub list: Arc<str>,
    /// Names the entry; says nothing of its number.
    pub id: Arc<str>,
    /// From then on it does not count any more.
    pub until: Option<Timestamp>,
}

impl ListEntry {
    fn counts(&self, at: Timestamp) -> bool {
        self.until.is_none_or(|until| at < until)
    }

    fn place(&self) -> (NumberHash, &str) {
        (self.hash, &self.list)
    }
}

/// All lists in force. Cheap to clone.
#[derive(Clone)]
pub struct Lists(Arc<ListsState>);

struct ListsState {
    key: ListKey,
    index: ArcSwap<ListIndex>,
}

#[derive(Clone, Default)]
struct ListIndex {
    /// By name.
    lists: Arc<BTreeMap<Arc<str>, ListDefinition>>,
    /// By hash and list.
    entries: Arc<Vec<ListEntry>>,
}

impl ListIndex {
    fn entries_of(&self, hash: NumberHash) -> &[ListEntry] {
        let start = self.entries.partition_point(|entry| entry.hash < hash);
        let rest = self.entries.get(start..).unwrap_or_default();
        let end = rest.partition_point(|entry| entry.hash == hash);
        rest.get(..end).unwrap_or_default()
    }
}

impl Lists {
    pub fn new(key: ListKey) -> Self {
        Self(Arc::new(ListsState {
            key,
            index: ArcSwap::default(),
        }))
    }

    /// What the configuration names, for whoever has no entries to ask for.
    pub fn of_definitions(lists: &BTreeMap<String, ListDefinition>) -> Self {
        let known = Self::new(ListKey::new(&[0; 32]));
        known.define(lists);
        known
    }

    /// Whether the caller is on a list whose callers a rule turns away.
    pub fn is_blocked(&self, caller: &Caller, at: Timestamp) -> bool {
        let on = self.of(caller, at);
        let definitions = self.definitions();
        let blocks = |name: &Arc<str>| definitions.get(name).is_some_and(|list| list.blocks);
        on.iter().any(blocks)
    }

    /// The names of the lists that a caller is on, sorted. Allocates nothing for who is on none.
    pub fn of(&self, caller: &Caller, at: Timestamp) -> Vec<Arc<str>> {
        let Some(number) = caller.number() else {
            return Vec::new();
        };
        let index = self.0.index.load();
        let added = if index.entries.is_empty() {
            &[]
        } else {
            index.entries_of(self.0.key.hash(number))
        };
        let number = whole(number);
        let is_on = |name: &str, list: &ListDefinition| {
            list.sets().any(|set| set.has(number))
                || added.iter().any(|one| &*one.list == name && one.counts(at))
        };
        let lists = index.lists.iter();
        lists
            .filter(|(name, list)| is_on(name, list))
            .map(|(name, _)| Arc::clone(name))
            .collect()
    }

    /// The lists as they are defined now, by name.
    pub fn definitions(&self) -> Arc<BTreeMap<Arc<str>, ListDefinition>> {
        Arc::clone(&self.0.index.load().lists)
    }

    /// How many entries of each list count at a time.
    pub fn counts(&self, at: Timestamp) -> BTreeMap<Arc<str>, usize> {
        let index = self.0.index.load();
        let mut counts = BTreeMap::new();
        for entry in index.entries.iter().filter(|entry| entry.counts(at)) {
            *counts.entry(Arc::clone(&entry.list)).or_default() += 1;
        }
        counts
    }

    /// The entry of a number on a list.
    pub fn entry(&self, list: &str, number: &E164) -> Option<ListEntry> {
        let index = self.0.index.load();
        let entries = index.entries_of(self.0.key.hash(number));
        entries.iter().find(|entry| &*entry.list == list).cloned()
    }

    /// Puts other definitions into force. Entries stay, also those of a list that is not defined any more.
    pub fn define(&self, lists: &BTreeMap<String, ListDefinition>) {
        let lists = lists
            .iter()
            .map(|(name, list)| (name.as_str().into(), list.clone()));
        let lists = Arc::new(lists.collect());
        self.0.index.rcu(|index| ListIndex {
            lists: Arc::clone(&lists),
            entries: Arc::clone(&index.entries),
        });
    }

    /// Takes up the entries of an earlier run.
    pub fn restore(&self, entries: &[ListEntry]) {
        self.change(|known| known.extend(entries.iter().cloned()));
    }

    /// Adds an entry, in place of the one of the same number on the same list.
    pub fn insert(&self, list: &str, number: &E164, id: &str, until: Option<Timestamp>) {
        let entry = ListEntry {
            hash: self.0.key.hash(number),
            list: list.into(),
            id: id.into(),
            until,
        };
        self.change(|known| {
            known.retain(|other| other.place() != entry.place());
            known.push(entry.clone());
        });
    }

    /// Whether an entry of this name is on a list.
    pub fn holds(&self, list: &str, id: &str) -> bool {
        let index = self.0.index.load();
        let mut entries = index.entries.iter();
        entries.any(|entry| &*entry.list == list && &*entry.id == id)
    }

    pub fn remove(&self, list: &str, id: &str) {
        self.change(|known| known.retain(|entry| &*entry.list != list || &*entry.id != id));
    }

    /// Removes the entries of a person, but for those on lists that block.
    pub fn erase(&self, number: &E164) {
        let hash = self.0.key.hash(number);
        let lists = self.definitions();
        let blocks = |list: &str| lists.get(list).is_some_and(|list| list.blocks);
        self.change(|known| known.retain(|entry| entry.hash != hash || blocks(&entry.list)));
    }

    /// Removes the entries that do not count any more; whether there were any.
    pub fn expire(&self, at: Timestamp) -> bool {
        let is_over = |entry: &ListEntry| !entry.counts(at);
        let is_due = self.0.index.load().entries.iter().any(is_over);
        if is_due {
            self.change(|known| known.retain(|entry| entry.counts(at)));
        }
        is_due
    }

    fn change(&self, change: impl Fn(&mut Vec<ListEntry>)) {
        self.0.index.rcu(|index| {
            let mut entries = Vec::clone(&index.entries);
            change(&mut entries);
            entries.sort_unstable_by(|one, other| one.place().cmp(&other.place()));
            ListIndex {
                lists: Arc::clone(&index.lists),
                entries: Arc::new(entries),
            }
        });
    }
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lists(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> Arc<NumberSet> {
        let listed = texts
            .iter()
            .map(|text| text.parse::<ListedNumber>().unwrap());
        Arc::new(listed.collect())
    }

    fn list(texts: &[&str]) -> ListDefinition {
        ListDefinition {
            numbers: set(texts),
            ..ListDefinition::default()
        }
    }

    fn lists(defined: &[(&str, ListDefinition)]) -> Lists {
        let lists = Lists::new(ListKey::new(&[7; 32]));
        let defined = defined.iter();
        let defined = defined.map(|(name, list)| ((*name).to_owned(), list.clone()));
        lists.define(&defined.collect());
        lists
    }

    fn number(text: &str) -> E164 {
        E164::parse(text).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn on(lists: &Lists, caller: &str, second: i64) -> Vec<String> {
        let found = lists.of(&Caller::classify(caller), at(second));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_line_is_a_number_or_the_beginning_of_numbers() {
        let read = |text: &str| match text.parse() {
            Ok(ListedNumber::Number(number)) => format!("number {number}"),
            Ok(ListedNumber::Prefix(prefix)) => format!("prefix {prefix}"),
            Err(NotListed) => "none".to_owned(),
        };
        for (text, expected) in [
            ("+4930123456", "number 4930123456"),
            ("+49 (30) 123-456", "number 4930123456"),
            ("+999999999999999", "number 999999999999999"),
            ("+44207*", "prefix 44207"),
            ("+1 *", "prefix 1"),
            ("+99999999999999*", "prefix 99999999999999"),
            ("+999999999999999*", "none"),
            ("+*", "none"),
            ("*", "none"),
            ("+0*", "none"),
            ("+49*30", "none"),
            ("44207*", "none"),
            ("030123456", "none"),
            ("", "none"),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_caller_is_on_the_lists_that_name_the_number_or_its_beginning() {
        let lists = lists(&[
            ("vip", list(&["+4915112345678", "+44207*"])),
            (
                "press",
                ListDefinition {
                    file: Some(ListFile {
                        path: "press.txt".into(),
                        numbers: set(&["+4915112345678"]),
                    }),
                    ..list(&["+1*"])
                },
            ),
            ("empty", ListDefinition::default()),
        ]);
        for (caller, expected) in [
            ("+4915112345678", &["press", "vip"][..]),
            ("sip:+4915112345678@pbx.example.com", &["press", "vip"]),
            ("+442071234567", &["vip"]),
            ("+14155550100", &["press"]),
            ("+4915112345679", &[]),
            ("+491511234567", &[]),
            ("+49151123456789", &[]),
            ("+44201234567", &[]),
            ("anonymous", &[]),
            ("client:alice", &[]),
        ] {
            assert_eq!(on(&lists, caller, 0), expected, "{caller}");
        }
    }

    #[test]
    fn an_entry_counts_from_its_addition_to_its_end() {
        let lists = lists(&[("vip", list(&[])), ("blocked", list(&[]))]);
        let caller = number("+4915112345678");
        lists.insert("vip", &caller, "a", Some(at(100)));
        lists.insert("blocked", &caller, "b", None);
        assert_eq!(on(&lists, caller.as_str(), 99), ["blocked", "vip"]);
        assert_eq!(on(&lists, caller.as_str(), 100), ["blocked"]);
        assert_eq!(on(&lists, "+4915112345679", 0), [""; 0]);
        assert_eq!(
            lists.counts(at(0)),
            [("blocked".into(), 1), ("vip".into(), 1)].into()
        );
        lists.insert("vip", &caller, "a", Some(at(200)));
        assert_eq!(on(&lists, caller.as_str(), 100), ["blocked", "vip"]);
        assert!(!lists.expire(at(199)));
        assert!(lists.expire(at(200)));
        assert_eq!(lists.entry("vip", &caller), None);
        lists.remove("blocked", "a");
        assert_eq!(on(&lists, caller.as_str(), 0), ["blocked"]);
        lists.remove("blocked", "b");
        assert_eq!(on(&lists, caller.as_str(), 0), [""; 0]);
    }

    #[test]
    fn entries_outlive_a_reload_and_a_list_that_is_gone_for_a_while() {
        let lists = lists(&[("vip", list(&[]))]);
        let caller = number("+4915112345678");
        lists.insert("vip", &caller, "a", None);
        lists.define(&BTreeMap::new());
        assert_eq!(on(&lists, caller.as_str(), 0), [""; 0]);
        lists.define(&[("vip".to_owned(), list(&["+1*"]))].into());
        assert_eq!(on(&lists, caller.as_str(), 0), ["vip"]);
        assert_eq!(on(&lists, "+14155550100", 0), ["vip"]);
    }

    #[test]
    fn whoever_is_erased_stays_blocked_and_is_favoured_no_more() {
        let blocked = ListDefinition {
            blocks: true,
            ..ListDefinition::default()
        };
        let lists = lists(&[("vip", list(&[])), ("blocked", blocked)]);
        let (erased, other) = (number("+4915112345678"), number("+4915112345679"));
        for (caller, id) in [(&erased, "a"), (&other, "b")] {
            lists.insert("vip", caller, id, None);
            lists.insert("blocked", caller, id, None);
        }
        lists.erase(&erased);
        assert_eq!(on(&lists, erased.as_str(), 0), ["blocked"]);
        assert_eq!(on(&lists, other.as_str(), 0), ["blocked", "vip"]);
    }

    #[test]
    fn what_is_shown_of_a_list_names_nobody() {
        let list = list(&["+4915112345678", "+44207*"]);
        assert_eq!(list.summary(), ListSummary { numbers: 2 });
        assert!(format!("{list:?}").contains("NumberSet(2 numbers)"));
        let digest = |texts: &[&str]| set(texts).digest();
        assert_eq!(
            digest(&["+4930123456", "+1*"]),
            digest(&["+1*", "+4930123456", "+1*"])
        );
        assert_ne!(digest(&["+4930123456"]), digest(&["+4930123456*"]));
    }

    /// `cargo test --release --lib a_million -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement: prints how much memory and time a million numbers take"]
    #[expect(
        clippy::disallowed_methods,
        clippy::print_stdout,
        reason = "a measurement, and the core has no clock of its own"
    )]
    fn a_million_numbers_are_small_and_found_quickly() {
        const N: u64 = 1_000_000;
        let listed = (0..N).map(|n| ListedNumber::Number(4_915_100_000_000 + n * 97));
        let prefixes = (0..100).map(|n| ListedNumber::Prefix(44_200 + n));
        let numbers: NumberSet = listed.chain(prefixes).collect();
        let bytes = size_of_val(&*numbers.numbers) + size_of_val(&*numbers.prefixes);
        let vip = ListDefinition {
            numbers: Arc::new(numbers),
            ..ListDefinition::default()
        };
        let with = lists(&[("vip", vip)]);
        let ask = |what: &str| {
            let callers: Vec<Caller> = (0..N)
                .map(|n| {
                    Caller::classify(&format!("+{}", 4_915_100_000_000 + n * 7_919 % (N * 97)))
                })
                .collect();
            let started = std::time::Instant::now();
            let found: usize = callers.iter().map(|one| with.of(one, at(0)).len()).sum();
            let took = started.elapsed();
            let each = took.as_nanos() / u128::from(N);
            println!("{what}: {bytes} bytes, {each} ns each, {found} found");
        };
        ask("a million numbers of a file");
        for n in 0..100 {
            with.insert(
                "vip",
                &number(&format!("+4930000{n:04}")),
                &n.to_string(),
                None,
            );
        }
        ask("and a hundred entries");
    }
}

//! Numbers of ours that nobody calls at an hour at which people always do: a week has its pattern, and the same hour of six weeks says what is usual.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use super::tracker::Evaluation;
use crate::store::{Store, StoreError};

/// So many weeks are looked back on.
const WEEKS: i64 = 6;
/// In so many of them the hour needs [`LEAST_CALLS`].
const LEAST_WEEKS: usize = 4;
const LEAST_CALLS: u32 = 3;
/// Where so many calls come in an hour on average, independent of each other, one hour in 10,000 has none: −ln 10⁻⁴.
const EXPECTED: f64 = 9.21;
/// Numbers of which something is found, at most.
const NUMBERS: usize = 1_000;

type NumberCounts = BTreeMap<String, u32>;

/// What is known of the numbers of an installation.
#[derive(Debug)]
pub(super) struct SilentNumbers {
    /// What came before cannot be held against a number.
    up_since: Timestamp,
    /// The end of the hour that was looked into last.
    looked_until: Option<Timestamp>,
    /// Why a number should have been called; it has not been since.
    silent: BTreeMap<String, String>,
}

impl SilentNumbers {
    pub(super) fn new(up_since: Timestamp) -> Self {
        Self {
            up_since,
            looked_until: None,
            silent: BTreeMap::new(),
        }
    }

    /// What is found of each number, by the hours of this zone: bad until somebody calls. Without a zone, nothing is looked for.
    pub(super) async fn look(
        &mut self,
        store: &Store,
        zone: Option<&TimeZone>,
        now: Timestamp,
    ) -> Result<Vec<(String, Evaluation)>, StoreError> {
        let hour = zone.and_then(|zone| last_hour(now, zone));
        let Some((from, until)) = hour else {
            let over = std::mem::take(&mut self.silent).into_keys();
            return Ok(over.map(|number| (number, Evaluation::Well)).collect());
        };
        let called = store.calls_by_number(from.timestamp(), now).await?;
        let is_new = self.looked_until != Some(until.timestamp());
        if is_new && self.up_since <= from.timestamp() {
            let mut weeks = Vec::new();
            for week in 1..=WEEKS {
                let back = |hour: &Zoned| hour.checked_sub(week.weeks()).map(|at| at.timestamp());
                if let (Ok(from), Ok(until)) = (back(&from), back(&until)) {
                    weeks.push(store.calls_by_number(from, until).await?);
                }
            }
            let found = silent(&called, &weeks);
            self.silent.extend(found.into_iter().map(|(number, usual)| {
                let why = in_words(&number, &from, &until, &usual);
                (number, why)
            }));
        }
        self.looked_until = Some(until.timestamp());
        self.silent.retain(|number, _| !called.contains_key(number));
        let well = called.into_keys().map(|number| (number, Evaluation::Well));
        let bad = self.silent.clone().into_iter();
        let bad = bad.map(|(number, why)| (number, Evaluation::Bad(why)));
        Ok(bad.chain(well).take(NUMBERS).collect())
    }
}

/// The last hour that is over.
fn last_hour(now: Timestamp, zone: &TimeZone) -> Option<(Zoned, Zoned)> {
    let here = now.to_zoned(zone.clone());
    let until = here.with().minute(0).second(0).subsec_nanosecond(0);
    let until = until.build().ok()?;
    Some((until.checked_sub(1.hour()).ok()?, until))
}

/// The numbers that nobody called although their weeks say otherwise, each with the calls of the weeks that had enough.
fn silent(called: &NumberCounts, weeks: &[NumberCounts]) -> Vec<(String, Vec<u32>)> {
    let numbers = weeks.iter().flat_map(BTreeMap::keys);
    let numbers: BTreeSet<&String> = numbers.collect();
    let uncalled = numbers
        .into_iter()
        .filter(|number| !called.contains_key(*number));
    let found = uncalled.filter_map(|number| {
        let counts = weeks.iter().filter_map(|week| week.get(number).copied());
        let mean =
            f64::from(counts.clone().sum::<u32>()) / f64::from(u32::try_from(weeks.len()).ok()?);
        let usual: Vec<u32> = counts.filter(|count| *count >= LEAST_CALLS).collect();
        let is_odd = usual.len() >= LEAST_WEEKS && mean >= EXPECTED;
        is_odd.then(|| (number.clone(), usual))
    });
    found.collect()
}

fn in_words(number: &str, from: &Zoned, until: &Zoned, usual: &[u32]) -> String {
    let day = from.strftime("%As");
    let (from, until) = (from.strftime("%H:%M"), until.strftime("%H:%M"));
    let (least, most) = (
        usual.iter().min().unwrap_or(&0),
        usual.iter().max().unwrap_or(&0),
    );
    let weeks = usual.len();
    format!(
        "{number}: no call since {from}; on {day} between {from} and {until} there were {least} to {most} in {weeks} of the last {WEEKS} weeks"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(calls: u32) -> NumberCounts {
        [("+4930900900".to_owned(), calls)].into()
    }

    fn is_silent(today: u32, weeks: [u32; 6]) -> bool {
        let only = |calls| {
            if calls == 0 {
                NumberCounts::new()
            } else {
                counts(calls)
            }
        };
        !silent(&only(today), &weeks.map(only)).is_empty()
    }

    #[test]
    fn a_number_is_silent_where_an_hour_without_a_call_comes_once_in_ten_thousand() {
        assert!(is_silent(0, [14, 31, 20, 18, 22, 25]));
        assert!(!is_silent(1, [14, 31, 20, 18, 22, 25]));
        assert!(is_silent(0, [10; 6]) && !is_silent(0, [9; 6]));
        // A holiday among the weeks says little; three of them are no pattern.
        assert!(is_silent(0, [20, 0, 20, 20, 0, 20]));
        assert!(!is_silent(0, [40, 0, 0, 40, 0, 40]));
        assert!(!is_silent(0, [2, 2, 2, 40, 40, 40]));
    }

    #[test]
    fn the_hour_is_that_of_the_zone_and_the_words_say_which() {
        let zone = TimeZone::get("Asia/Kolkata").unwrap();
        let now = "2026-11-30T04:50:00Z".parse().unwrap();
        let (from, until) = last_hour(now, &zone).unwrap();
        assert_eq!(from.timestamp().to_string(), "2026-11-30T03:30:00Z");
        assert_eq!(
            in_words("+4930900900", &from, &until, &[14, 31, 20, 18, 22, 25]),
            "+4930900900: no call since 09:00; on Mondays between 09:00 and 10:00 there were 14 to 31 in 6 of the last 6 weeks"
        );
    }
}

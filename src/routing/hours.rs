//! Named opening hours: when a team is there, and until when that holds.

use std::collections::BTreeSet;
use std::fmt;
use std::iter::successors;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwapOption;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How many days ahead the next change is looked for: a year, and some days for what a year shifts.
const HORIZON_DAYS: i64 = 370;

const DAY_MINUTES: u16 = 24 * 60;

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

const HOW_OPEN: &str =
    "write \"mon-fri 08:00-18:00\", \"sat,sun 09:00-13:00\" or \"daily 00:00-24:00\"";
const HOW_DAY: &str = "the days are mon, tue, wed, thu, fri, sat, sun and daily";
const HOW_CLOSED: &str = "write \"2027-01-01\" or \"2026-12-24..2026-12-26\"";
const HOW_SPECIAL: &str = "write \"2026-12-23 08:00-14:00\"";
const HOW_SPAN: &str = "write \"08:00-18:00\", from 00:00 to 24:00";

/// The time zones of the database that is part of this program, so that the same hours mean the same on every machine.
static TIME_ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The time zone of a name of the IANA database.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    TIME_ZONES.get(name).ok()
}

/// Opening hours in one time zone.
///
/// Times are what the clock on the wall shows. A span belongs to the day on which it begins, also where it goes past
/// midnight: whoever began a night shift on Wednesday ends it on Thursday, whatever day Thursday is. So a closed day loses
/// the spans that begin on it, and keeps the end of the night before; the same holds for special hours. Of what is said of
/// one day, special hours win over closed days and the calendar, and those win over the week.
///
/// Where the clocks change, a span begins when the clock first shows its beginning or a later time, and ends when the clock
/// last shows its end or an earlier one. So a time that is skipped moves to the end of the gap, and of a time that occurs
/// twice the first is a beginning and the second an end: nobody who reads the clock can tell one from the other, and it is
/// open whenever the clock shows a time within the span. A span is lost only where all of it is skipped.
///
/// Serialized, this is part of the recorded rule set and of its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    #[serde(serialize_with = "write_zone", deserialize_with = "read_zone")]
    pub time_zone: TimeZone,
    /// The week. Spans may overlap or touch, which makes them one.
    #[serde(serialize_with = "write_all", deserialize_with = "read_all")]
    pub open: Vec<OpenHours>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "write_all",
        deserialize_with = "read_all"
    )]
    pub closed: Vec<ClosedDays>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "write_all",
        deserialize_with = "read_all"
    )]
    pub special: Vec<SpecialHours>,
    /// Closed days that come from a calendar file.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub holidays: BTreeSet<Date>,
}

/// Whether it is open at a moment, and how long that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoursState {
    pub is_open: bool,
    /// When that changes; `None` where it does not within 370 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Which occurrence of a time counts where the clock shows it twice.
#[derive(Clone, Copy)]
enum Occurrence {
    First,
    Last,
}

impl Hours {
    pub fn state(&self, at: Timestamp) -> HoursState {
        let today = self.time_zone.to_datetime(at).date();
        // What began the day before yesterday may last until last night, and last night may come twice.
        let first = today.saturating_sub(2.days());
        let last = today.saturating_add(HORIZON_DAYS.days());
        let days =
            successors(Some(first), |day| day.tomorrow().ok()).take_while(|day| *day <= last);
        let mut open_until: Option<Timestamp> = None;
        // In the order of their beginnings.
        for (from, until) in days.flat_map(|day| self.stretches(day)) {
            match open_until {
                None if until <= at => {}
                None if from > at => {
                    return HoursState {
                        is_open: false,
                        until: Some(from),
                    };
                }
                None => open_until = Some(until),
                Some(end) if from > end => break,
                Some(end) => open_until = Some(end.max(until)),
            }
        }
        let horizon = self.instant(last, 0, Occurrence::First);
        HoursState {
            is_open: open_until.is_some(),
            until: open_until.filter(|end| *end < horizon),
        }
    }

    /// The spans that begin on a day, as moments; those that are skipped whole are left out.
    fn stretches(&self, day: Date) -> Vec<(Timestamp, Timestamp)> {
        let spans = self.spans(day).into_iter().map(|span| {
            (
                self.instant(day, span.from, Occurrence::First),
                self.instant(day, span.to, Occurrence::Last),
            )
        });
        spans.filter(|(from, until)| from < until).collect()
    }

    /// The spans that begin on a day, in the order of their beginnings.
    fn spans(&self, day: Date) -> Vec<ClockSpan> {
        let special = self.special.iter().filter(|special| special.day == day);
        let mut spans: Vec<ClockSpan> = special.flat_map(|special| special.spans.clone()).collect();
        let is_closed =
            || self.holidays.contains(&day) || self.closed.iter().any(|days| days.contains(day));
        // Special hours have at least one span.
        if spans.is_empty() && !is_closed() {
            let open = self.open.iter().filter(|open| open.is_on(day.weekday()));
            spans = open.flat_map(|open| open.spans.clone()).collect();
        }
        spans.sort_unstable();
        spans
    }

    /// When the clock shows a time, counted in minutes from the midnight at which `day` begins.
    fn instant(&self, day: Date, minutes: u16, reading: Occurrence) -> Timestamp {
        let minutes = SignedDuration::from_mins(minutes.into());
        let local = day.to_datetime(Time::midnight()).saturating_add(minutes);
        let offsets = self.time_zone.to_ambiguous_timestamp(local).offset();
        let offset = match (offsets, reading) {
            (AmbiguousOffset::Unambiguous { offset }, _) => offset,
            (AmbiguousOffset::Fold { before, .. }, Occurrence::First) => before,
            (AmbiguousOffset::Fold { after, .. } | AmbiguousOffset::Gap { after, .. }, _) => after,
        };
        let beyond = if local.year() < 1970 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        };
        let instant = offset.to_timestamp(local).unwrap_or(beyond);
        if !matches!(offsets, AmbiguousOffset::Gap { .. }) {
            return instant;
        }
        // By the clock of after the gap, a skipped time lies before the gap.
        let mut transitions = self.time_zone.following(instant);
        let end_of_gap = transitions.find(|transition| transition.offset() == offset);
        end_of_gap.map_or(instant, |transition| transition.timestamp())
    }
}

/// Opening hours that remember the state that was asked for last, as calls ask for the same one again and again.
#[derive(Clone, Debug)]
pub struct HoursInForce {
    hours: Hours,
    known: Arc<ArcSwapOption<KnownState>>,
}

/// A state, and the moments for which it is known.
#[derive(Debug)]
struct KnownState {
    from: Timestamp,
    /// Exclusive.
    to: Timestamp,
    state: HoursState,
}

impl HoursInForce {
    /// The same as [`Hours::state`].
    pub fn state(&self, at: Timestamp) -> HoursState {
        let known = self.known.load();
        let known = known.as_deref();
        if let Some(known) = known.filter(|known| known.from <= at && at < known.to) {
            return known.state;
        }
        let state = self.hours.state(at);
        // Tomorrow the horizon lies a day further.
        let tomorrow = || {
            let today = self.hours.time_zone.to_datetime(at).date();
            let tomorrow = today.saturating_add(1.day());
            self.hours.instant(tomorrow, 0, Occurrence::First)
        };
        let to = state.until.unwrap_or_else(tomorrow);
        let known = KnownState {
            from: at,
            to,
            state,
        };
        self.known.store(Some(Arc::new(known)));
        state
    }
}

impl From<Hours> for HoursInForce {
    fn from(hours: Hours) -> Self {
        Self {
            hours,
            known: Arc::default(),
        }
    }
}

impl PartialEq for HoursInForce {
    fn eq(&self, other: &Self) -> bool {
        self.hours == other.hours
    }
}

impl Eq for HoursInForce {}

/// Text that does not say when it is open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {hint}")]
pub struct NotHours {
    /// The rest of a sentence that begins with where the text stands.
    pub message: String,
    pub hint: &'static str,
}

impl NotHours {
    fn new(message: impl Into<String>, hint: &'static str) -> Self {
        Self {
            message: message.into(),
            hint,
        }
    }
}

/// Days of the week with their spans: `mon-fri 08:00-12:00 13:00-18:00`, `sat,sun 09:00-13:00`, `daily 22:00-06:00`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenHours {
    /// From and to, both included; they may wrap the week, as `fri-mon` does.
    days: Vec<(Weekday, Weekday)>,
    spans: Vec<ClockSpan>,
}

impl OpenHours {
    fn is_on(&self, day: Weekday) -> bool {
        let mut days = self.days.iter();
        days.any(|(from, to)| from.until(day) <= from.until(*to))
    }
}

impl FromStr for OpenHours {
    type Err = NotHours;

    fn from_str(text: &str) -> Result<Self, NotHours> {
        let n_days = text.find(|c: char| c.is_ascii_digit());
        let (days, spans) = text.split_at(n_days.unwrap_or(text.len()));
        let days = days.trim();
        if days.is_empty() {
            return Err(NotHours::new("names no day of the week", HOW_OPEN));
        }
        let range = |text: &str| {
            let (from, to) = text.split_once('-').unwrap_or((text, text));
            Ok((weekday(from)?, weekday(to)?))
        };
        let days = if days.eq_ignore_ascii_case("daily") {
            vec![(Weekday::Monday, Weekday::Sunday)]
        } else {
            days.split(',').map(range).collect::<Result<_, _>>()?
        };
        let spans = read_spans(spans, HOW_OPEN)?;
        Ok(Self { days, spans })
    }
}

impl fmt::Display for OpenHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, (from, to)) in self.days.iter().enumerate() {
            f.write_str(if idx == 0 { "" } else { "," })?;
            match (from, to) {
                (Weekday::Monday, Weekday::Sunday) => f.write_str("daily")?,
                (from, to) if from == to => f.write_str(name_of(*from))?,
                (from, to) => write!(f, "{}-{}", name_of(*from), name_of(*to))?,
            }
        }
        write_spans(&self.spans, f)
    }
}

fn weekday(text: &str) -> Result<Weekday, NotHours> {
    let text = text.trim();
    let mut known = WEEKDAYS.iter();
    let found = known.find(|(name, _)| name.eq_ignore_ascii_case(text));
    let none = || NotHours::new(format!("names {text:?} as a day"), HOW_DAY);
    found.map(|(_, day)| *day).ok_or_else(none)
}

fn name_of(day: Weekday) -> &'static str {
    let mut known = WEEKDAYS.iter();
    known
        .find(|(_, known)| *known == day)
        .map_or("", |(name, _)| *name)
}

/// Days without hours of their own: `2027-01-01`, `2026-12-24..2026-12-26` with both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedDays {
    first: Date,
    last: Date,
}

impl ClosedDays {
    fn contains(self, day: Date) -> bool {
        (self.first..=self.last).contains(&day)
    }
}

impl FromStr for ClosedDays {
    type Err = NotHours;

    fn from_str(text: &str) -> Result<Self, NotHours> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let (first, last) = (date(first, HOW_CLOSED)?, date(last, HOW_CLOSED)?);
        if last < first {
            return Err(NotHours::new("ends before it begins", HOW_CLOSED));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for ClosedDays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}..{}", self.first, self.last)
        }
    }
}

/// One day with hours of its own: `2026-12-23 08:00-14:00`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialHours {
    day: Date,
    spans: Vec<ClockSpan>,
}

impl FromStr for SpecialHours {
    type Err = NotHours;

    fn from_str(text: &str) -> Result<Self, NotHours> {
        let text = text.trim();
        let (day, spans) = text.split_once(' ').unwrap_or((text, ""));
        let day = date(day, HOW_SPECIAL)?;
        let spans = read_spans(spans, HOW_SPECIAL)?;
        Ok(Self { day, spans })
    }
}

impl fmt::Display for SpecialHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.day)?;
        write_spans(&self.spans, f)
    }
}

fn date(text: &str, hint: &'static str) -> Result<Date, NotHours> {
    let text = text.trim();
    let is_plain = text.len() == 10
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
    let date = text.parse().ok().filter(|_| is_plain);
    date.ok_or_else(|| NotHours::new(format!("holds {text:?}, which is not a date"), hint))
}

/// Two times of day, in minutes from midnight. The end is exclusive, and lies on the next day where it exceeds 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ClockSpan {
    from: u16,
    to: u16,
}

/// At least one span.
fn read_spans(text: &str, hint: &'static str) -> Result<Vec<ClockSpan>, NotHours> {
    let spans: Vec<ClockSpan> = text
        .split_whitespace()
        .map(ClockSpan::from_str)
        .collect::<Result<_, _>>()?;
    if spans.is_empty() {
        return Err(NotHours::new("names no times of day", hint));
    }
    Ok(spans)
}

fn write_spans(spans: &[ClockSpan], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    spans.iter().try_for_each(|span| write!(f, " {span}"))
}

impl FromStr for ClockSpan {
    type Err = NotHours;

    fn from_str(text: &str) -> Result<Self, NotHours> {
        let span = text.split_once('-');
        let span = span.and_then(|(from, to)| Some((minutes(from)?, minutes(to)?)));
        let Some((from, to)) = span.filter(|(from, _)| *from < DAY_MINUTES) else {
            let message = format!("holds {text:?}, which is no span of time");
            return Err(NotHours::new(message, HOW_SPAN));
        };
        if from == to {
            let message = format!("holds {text:?}, which ends when it begins");
            return Err(NotHours::new(
                message,
                "write 00:00-24:00 for the whole day",
            ));
        }
        let to = if to < from { to + DAY_MINUTES } else { to };
        Ok(Self { from, to })
    }
}

/// The minutes that a time of day lies after midnight; 24:00 is one.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let is_plain = matches!(hour.len(), 1 | 2) && minute.len() == 2;
    let number = |part: &str| {
        let is_digits = part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u16>().ok().filter(|_| is_digits)
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let minutes = hour * 60 + minute;
    (is_plain && minute < 60 && minutes <= DAY_MINUTES).then_some(minutes)
}

impl fmt::Display for ClockSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = *self;
        let to = if to > DAY_MINUTES {
            to - DAY_MINUTES
        } else {
            to
        };
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            to / 60,
            to % 60
        )
    }
}

fn write_zone<S: Serializer>(zone: &TimeZone, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.iana_name().unwrap_or("UTC"))
}

fn read_zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeZone, D::Error> {
    let name = String::deserialize(deserializer)?;
    time_zone(&name).ok_or_else(|| de::Error::custom(format!("{name:?} is no time zone")))
}

fn write_all<T: fmt::Display, S: Serializer>(
    values: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(T::to_string))
}

fn read_all<'de, T: FromStr<Err = NotHours>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let values = texts.iter().map(|text| text.parse());
    values.collect::<Result<_, _>>().map_err(de::Error::custom)
}

#[cfg(test)]
mod tests;

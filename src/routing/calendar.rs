//! The holidays of an iCalendar file (RFC 5545): its whole-day events.
//!
//! No crate reads this and is both light and kept up, and most of the format is of no use here: what counts are the days of
//! events without a time of day, once or every year.

use std::collections::BTreeSet;

use jiff::ToSpan as _;
use jiff::civil::Date;

/// The days of all events together, each counted as often as it occurs; that many is a mistake.
const MOST_STEPS: usize = 100_000;
/// So many warnings are told one by one.
const MOST_WARNINGS: usize = 5;

/// What a calendar file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holidays {
    /// From the beginning of last year to the end of the tenth year from now.
    pub days: BTreeSet<Date>,
    /// What was not understood, each the rest of a sentence that begins with the file.
    pub warnings: Vec<String>,
}

/// Reads the whole-day events of a calendar. Events with a time of day are left out without a word: a calendar may hold
/// more than holidays. The window depends on the year of `today` alone, so that the days change once a year by themselves.
///
/// An error is the rest of a sentence that begins with the file.
pub fn holidays(calendar: &[u8], today: Date) -> Result<Holidays, String> {
    let lines = content_lines(calendar);
    let is_calendar = |line: &ContentLine| line.is("BEGIN", "VCALENDAR");
    if !lines.first().is_some_and(is_calendar) {
        return Err("is no iCalendar file: it does not begin with BEGIN:VCALENDAR".to_owned());
    }
    let events = events(&lines);
    // An event with a RECURRENCE-ID stands in place of that one day of a yearly event.
    let moved: BTreeSet<(&str, Date)> = events
        .iter()
        .filter_map(|event| Some((event.uid()?, event.value("RECURRENCE-ID").and_then(date)?)))
        .collect();
    let window = window(today);
    let mut found = Holidays::default();
    let mut n_steps = 0;
    for event in events.iter().filter(|event| !event.is_cancelled()) {
        let Some(first) = event.value("DTSTART").and_then(date) else {
            continue;
        };
        let days = event.length(first);
        let excluded: Vec<Date> = event.dates("EXDATE").collect();
        let is_moved = |day: Date| {
            let is_single = event.value("RECURRENCE-ID").is_some();
            !is_single && event.uid().is_some_and(|uid| moved.contains(&(uid, day)))
        };
        let yearly = event.yearly(first, window.1).unwrap_or_else(|| {
            let rule = event.line("RRULE");
            let (number, value) = rule.map_or((0, ""), |rule| (rule.number, rule.value.as_str()));
            found.warnings.push(format!(
                "has the rule {value} in line {number}, which is not supported: of that event only {first} is a closed day"
            ));
            vec![first]
        });
        let starts = yearly.into_iter().chain(event.dates("RDATE"));
        for start in starts.filter(|day| !excluded.contains(day) && !is_moved(*day)) {
            let end = start
                .saturating_add(days.days())
                .min(window.1.saturating_add(1.day()));
            let mut day = start.max(window.0);
            while day < end {
                found.days.insert(day);
                day = day.saturating_add(1.day());
                n_steps += 1;
                if n_steps > MOST_STEPS {
                    return Err(format!("holds events of more than {MOST_STEPS} days"));
                }
            }
        }
    }
    let more = found.warnings.len().saturating_sub(MOST_WARNINGS);
    found.warnings.truncate(MOST_WARNINGS);
    if more > 0 {
        found
            .warnings
            .push(format!("has {more} more rules like that"));
    }
    Ok(found)
}

/// The first and the last day that count.
fn window(today: Date) -> (Date, Date) {
    let day = |year: i16, month, day| Date::new(year, month, day).unwrap_or(today);
    let year = today.year();
    (
        day(year.saturating_sub(1), 1, 1),
        day(year.saturating_add(10), 12, 31),
    )
}

/// One line of the format, unfolded: `NAME;PARAMETERS:VALUE`.
struct ContentLine {
    /// Where it begins in the file, counted from 1.
    number: usize,
    /// In capitals.
    name: String,
    value: String,
}

impl ContentLine {
    fn read(number: usize, bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut is_quoted = false;
        // Quoted parameters may hold a colon.
        let colon = text.find(|c| {
            is_quoted ^= c == '"';
            c == ':' && !is_quoted
        })?;
        let (head, value) = (text.get(..colon)?, text.get(colon + 1..)?);
        let name = head.split(';').next().unwrap_or_default();
        Some(Self {
            number,
            name: name.trim().to_ascii_uppercase(),
            value: value.trim().to_owned(),
        })
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.name == name && self.value.eq_ignore_ascii_case(value)
    }
}

/// A line that begins with a blank goes on with the line before, wherever that was broken, also within a character.
fn content_lines(calendar: &[u8]) -> Vec<ContentLine> {
    let calendar = calendar.strip_prefix(b"\xef\xbb\xbf").unwrap_or(calendar);
    let mut unfolded: Vec<(usize, Vec<u8>)> = Vec::new();
    for (idx, line) in calendar.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (line.split_first(), unfolded.last_mut()) {
            (Some((b' ' | b'\t', rest)), Some((_, before))) => before.extend_from_slice(rest),
            (Some(_), _) => unfolded.push((idx + 1, line.to_owned())),
            (None, _) => {}
        }
    }
    let lines = unfolded.iter();
    lines
        .filter_map(|(number, bytes)| ContentLine::read(*number, bytes))
        .collect()
}

/// The lines of one VEVENT, without those of what it holds, as an alarm.
struct CalendarEvent<'a>(Vec<&'a ContentLine>);

fn events(lines: &[ContentLine]) -> Vec<CalendarEvent<'_>> {
    let mut events = Vec::new();
    let mut within: Vec<&str> = Vec::new();
    for line in lines {
        match line.name.as_str() {
            "BEGIN" => {
                if line.value.eq_ignore_ascii_case("VEVENT") {
                    events.push(CalendarEvent(Vec::new()));
                }
                within.push(&line.value);
            }
            "END" => {
                within.pop();
            }
            _ => {
                let is_of_event = within
                    .last()
                    .is_some_and(|name| name.eq_ignore_ascii_case("VEVENT"));
                if let Some(event) = events.last_mut().filter(|_| is_of_event) {
                    event.0.push(line);
                }
            }
        }
    }
    events
}

impl<'a> CalendarEvent<'a> {
    fn line(&self, name: &str) -> Option<&'a ContentLine> {
        self.0.iter().copied().find(|line| line.name == name)
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.line(name).map(|line| line.value.as_str())
    }

    fn uid(&self) -> Option<&'a str> {
        self.value("UID")
    }

    fn is_cancelled(&self) -> bool {
        self.line("STATUS")
            .is_some_and(|line| line.is("STATUS", "CANCELLED"))
    }

    /// The dates of every line of that name; those with a time of day are left out.
    fn dates(&self, name: &str) -> impl Iterator<Item = Date> {
        let lines = self.0.iter().filter(move |line| line.name == name);
        lines
            .flat_map(|line| line.value.split(','))
            .filter_map(date)
    }

    /// How many days it lasts. Its end is exclusive; one that is missing or not later is the next day.
    fn length(&self, first: Date) -> i32 {
        let until_end = || {
            let end = self.value("DTEND").and_then(date)?;
            first.until(end).ok().map(|span| span.get_days())
        };
        let duration = || {
            let text = self.value("DURATION")?.strip_prefix('P')?;
            let (number, days) = match text.strip_suffix('W') {
                Some(weeks) => (weeks, 7),
                None => (text.strip_suffix('D')?, 1),
            };
            number.parse::<i32>().ok()?.checked_mul(days)
        };
        until_end().or_else(duration).unwrap_or(1).clamp(1, 366)
    }

    /// The days on which it begins, up to `last`; `None` where its rule is another one than every so many years.
    fn yearly(&self, first: Date, last: Date) -> Option<Vec<Date>> {
        let Some(rule) = self.value("RRULE") else {
            return Some(vec![first]);
        };
        let (mut interval, mut count, mut until) = (1, usize::MAX, last);
        let mut is_yearly = false;
        for part in rule.split(';').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=')?;
            match name.to_ascii_uppercase().as_str() {
                "FREQ" => is_yearly = value.eq_ignore_ascii_case("YEARLY"),
                "INTERVAL" => interval = value.parse::<i16>().ok().filter(|years| *years > 0)?,
                "COUNT" => count = value.parse().ok()?,
                "UNTIL" => until = until.min(value.get(..8).and_then(date)?),
                "WKST" => {}
                // The same day once more.
                "BYMONTH" if value.parse() == Ok(first.month()) => {}
                "BYMONTHDAY" if value.parse() == Ok(first.day()) => {}
                _ => return None,
            }
        }
        let years = std::iter::successors(Some(first.year()), |year| year.checked_add(interval));
        let years = years.take_while(|year| *year <= last.year());
        // A 29 February is skipped in other years, and not counted.
        let days = years.filter_map(|year| Date::new(year, first.month(), first.day()).ok());
        let days = days.take_while(|day| *day <= until).take(count);
        is_yearly.then(|| days.collect())
    }
}

/// `20261225`. A time of day behind it makes it none.
fn date(text: &str) -> Option<Date> {
    let is_date = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_date)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date as day;

    use super::*;

    fn read(events: &str) -> Holidays {
        let text = format!("BEGIN:VCALENDAR\nVERSION:2.0\n{events}\nEND:VCALENDAR\n");
        let found = holidays(text.as_bytes(), day(2026, 12, 1)).unwrap();
        let with_crlf = holidays(text.replace('\n', "\r\n").as_bytes(), day(2026, 2, 3)).unwrap();
        assert_eq!(found, with_crlf);
        found
    }

    fn days(lines: &str) -> Vec<String> {
        let found = read(&format!("BEGIN:VEVENT\n{lines}\nEND:VEVENT"));
        assert_eq!(found.warnings, Vec::<String>::new());
        found.days.iter().map(Date::to_string).collect()
    }

    #[test]
    fn whole_days_are_read_to_their_exclusive_end_and_other_events_are_left_out() {
        assert_eq!(days("DTSTART;VALUE=DATE:20261225"), ["2026-12-25"]);
        assert_eq!(days("dtstart:20261225"), ["2026-12-25"]);
        let two = ["2026-12-25", "2026-12-26"];
        assert_eq!(
            days("DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261227"),
            two
        );
        assert_eq!(days("DTSTART;VALUE=DATE:20261225\nDURATION:P2D"), two);
        assert_eq!(days("DTSTART;VALUE=DATE:20261225\nDURATION:P1W").len(), 7);
        assert_eq!(
            days("DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261225"),
            ["2026-12-25"]
        );
        let none: [&str; 0] = [];
        assert_eq!(days("DTSTART:20261225T090000Z"), none);
        assert_eq!(days("DTSTART;VALUE=DATE:20261225\nSTATUS:CANCELLED"), none);
        assert_eq!(days("DTSTART;VALUE=DATE:20261332"), none);
        assert_eq!(days("SUMMARY:DTSTART;VALUE=DATE:20261225"), none);
    }

    #[test]
    fn folded_lines_and_what_an_event_holds_are_no_obstacle() {
        let event = "SUMMARY;X=\"a:b\":Weihn\n achten\nDTSTART;VALUE=DA\n TE:2026\n\t1225\n\
             BEGIN:VALARM\nDTSTART;VALUE=DATE:20261231\nEND:VALARM\nTRANSP:TRANSPARENT";
        assert_eq!(days(event), ["2026-12-25"]);
        // Broken within an ä.
        let mut text =
            b"\xef\xbb\xbfBEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Dreik\xc3\n \xa4m\n".to_vec();
        text.extend_from_slice(b"DTSTART:20270106");
        let found = holidays(&text, day(2026, 12, 1)).unwrap();
        assert_eq!(found.days, BTreeSet::from([day(2027, 1, 6)]));
    }

    #[test]
    fn yearly_events_come_again_from_last_year_to_ten_years_on() {
        let every = days("DTSTART;VALUE=DATE:19701225\nRRULE:FREQ=YEARLY");
        assert_eq!(every.len(), 12);
        assert_eq!(
            (every[0].as_str(), every[11].as_str()),
            ("2025-12-25", "2036-12-25")
        );
        let rule = |rule: &str| days(&format!("DTSTART;VALUE=DATE:20261225\nRRULE:{rule}"));
        let dates = |years: &[u16]| -> Vec<String> {
            years.iter().map(|year| format!("{year}-12-25")).collect()
        };
        assert_eq!(rule("FREQ=YEARLY;COUNT=2"), dates(&[2026, 2027]));
        assert_eq!(rule("FREQ=YEARLY;INTERVAL=3;COUNT=2"), dates(&[2026, 2029]));
        assert_eq!(rule("FREQ=YEARLY;UNTIL=20281224"), dates(&[2026, 2027]));
        assert_eq!(
            rule("freq=yearly;until=20281225T000000Z;BYMONTH=12;BYMONTHDAY=25"),
            dates(&[2026, 2027, 2028])
        );
        assert_eq!(
            days("DTSTART;VALUE=DATE:20240229\nRRULE:FREQ=YEARLY;COUNT=3"),
            ["2028-02-29", "2032-02-29"]
        );
        assert_eq!(
            days(
                "DTSTART;VALUE=DATE:20261231\nDTEND;VALUE=DATE:20270102\nRRULE:FREQ=YEARLY;COUNT=2"
            ),
            ["2026-12-31", "2027-01-01", "2027-12-31", "2028-01-01"]
        );
    }

    #[test]
    fn single_days_of_a_yearly_event_are_left_out_added_and_moved() {
        assert_eq!(
            days(
                "DTSTART:20261225\nRRULE:FREQ=YEARLY;COUNT=3\nEXDATE;VALUE=DATE:20261225,20281225\nRDATE;VALUE=DATE:20300101"
            ),
            ["2027-12-25", "2030-01-01"]
        );
        let found = read(
            "BEGIN:VEVENT\nUID:a\nDTSTART:20261225\nRRULE:FREQ=YEARLY;COUNT=2\nEND:VEVENT\n\
             BEGIN:VEVENT\nUID:a\nRECURRENCE-ID;VALUE=DATE:20271225\nDTSTART:20271227\nEND:VEVENT",
        );
        assert_eq!(
            found.days,
            BTreeSet::from([day(2026, 12, 25), day(2027, 12, 27)])
        );
    }

    #[test]
    fn another_rule_is_told_with_its_line_and_its_first_day_counts() {
        for rule in [
            "FREQ=MONTHLY",
            "FREQ=YEARLY;BYDAY=-1MO",
            "FREQ=YEARLY;BYMONTH=5",
            "FREQ=YEARLY;INTERVAL=0",
            "FREQ=YEARLY;UNTIL=2028",
            "COUNT=2",
            "yearly",
        ] {
            let found = read(&format!(
                "BEGIN:VEVENT\nDTSTART:20261225\nRRULE:{rule}\nEND:VEVENT"
            ));
            assert_eq!(found.days, BTreeSet::from([day(2026, 12, 25)]), "{rule}");
            assert_eq!(
                found.warnings,
                [format!(
                    "has the rule {rule} in line 5, which is not supported: of that event only 2026-12-25 is a closed day"
                )]
            );
        }
        let many = "BEGIN:VEVENT\nDTSTART:20261225\nRRULE:FREQ=DAILY\nEND:VEVENT\n".repeat(8);
        let told = read(many.trim_end()).warnings;
        assert_eq!(told.len(), 6);
        assert_eq!(told[5], "has 3 more rules like that");
    }

    #[test]
    fn a_file_that_is_none_or_too_much_is_refused() {
        let today = day(2026, 12, 1);
        for text in ["", "hello", "<html>", "END:VCALENDAR"] {
            let refused = holidays(text.as_bytes(), today).unwrap_err();
            assert!(refused.contains("BEGIN:VCALENDAR"), "{text}");
        }
        let long =
            "BEGIN:VEVENT\nDTSTART:20250101\nDTEND:99991231\nRRULE:FREQ=YEARLY\nEND:VEVENT\n";
        let text = format!("BEGIN:VCALENDAR\n{}", long.repeat(12_000));
        assert!(text.len() < 1024 * 1024);
        let refused = holidays(text.as_bytes(), today).unwrap_err();
        assert_eq!(refused, "holds events of more than 100000 days");
    }
}

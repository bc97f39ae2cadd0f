use std::collections::HashSet;

use jiff::civil::{DateTime, date};
use jiff::tz::Offset;
use serde_json::json;

use super::*;

fn parsed<T: FromStr<Err = NotHours>>(texts: &[&str]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn hours(zone: &str, open: &[&str]) -> Hours {
    Hours {
        time_zone: time_zone(zone).unwrap(),
        open: parsed(open),
        closed: Vec::new(),
        special: Vec::new(),
        holidays: BTreeSet::new(),
    }
}

/// The office of the examples, in Berlin.
fn office() -> Hours {
    Hours {
        closed: parsed(&["2026-12-24..2026-12-26", "2027-01-01"]),
        special: parsed(&["2026-12-23 08:00-14:00", "2026-12-25 10:00-11:00"]),
        holidays: BTreeSet::from([date(2026, 12, 23), date(2027, 1, 6)]),
        ..hours("Europe/Berlin", &["mon-fri 08:00-18:00", "sat 09:00-13:00"])
    }
}

/// What the clock in `zone` shows, with the offset where a time occurs twice.
fn at(zone: &str, local: &str) -> Timestamp {
    if let Ok(instant) = local.parse() {
        return instant;
    }
    let local: DateTime = local.parse().unwrap();
    let zone = time_zone(zone).unwrap();
    zone.to_ambiguous_timestamp(local).unambiguous().unwrap()
}

#[track_caller]
fn assert_state(hours: &Hours, now: &str, is_open: bool, until: Option<&str>) {
    let zone = hours.time_zone.iana_name().unwrap();
    let until = until.map(|until| at(zone, until));
    assert_eq!(
        hours.state(at(zone, now)),
        HoursState { is_open, until },
        "{now}"
    );
}

#[test]
fn texts_are_read_and_written_in_one_form() {
    let open = |text: &str| text.parse::<OpenHours>().unwrap().to_string();
    for (text, written) in [
        ("mon-fri 08:00-18:00", "mon-fri 08:00-18:00"),
        (" Mon , WED,fri   8:00-12:00 ", "mon,wed,fri 08:00-12:00"),
        ("daily 00:00-24:00", "daily 00:00-24:00"),
        ("mon-sun 22:00-0:00", "daily 22:00-24:00"),
        (
            "mon-fri 08:00-12:00 13:00-18:00",
            "mon-fri 08:00-12:00 13:00-18:00",
        ),
        ("fri-mon 22:00-06:00", "fri-mon 22:00-06:00"),
        ("sat-sat 09:30-13:15", "sat 09:30-13:15"),
    ] {
        assert_eq!(open(text), written);
        assert_eq!(open(written), written);
    }
    let closed = |text: &str| text.parse::<ClosedDays>().unwrap().to_string();
    assert_eq!(closed("2027-01-01"), "2027-01-01");
    assert_eq!(closed("2026-12-24 .. 2026-12-26"), "2026-12-24..2026-12-26");
    assert_eq!(closed("2026-12-24..2026-12-24"), "2026-12-24");
    let special = |text: &str| text.parse::<SpecialHours>().unwrap().to_string();
    assert_eq!(
        special("2026-12-23  8:00-10:00 12:00-14:00"),
        "2026-12-23 08:00-10:00 12:00-14:00"
    );
}

#[test]
fn what_is_wrong_with_a_text_is_said() {
    let open = |text: &str| text.parse::<OpenHours>().unwrap_err().message;
    for (text, message) in [
        ("", "names no day of the week"),
        ("08:00-18:00", "names no day of the week"),
        ("mon-fri", "names no times of day"),
        ("mon-fir 08:00-18:00", "names \"fir\" as a day"),
        ("montag 08:00-18:00", "names \"montag\" as a day"),
        ("mon, 08:00-18:00", "names \"\" as a day"),
        ("mon-tue-wed 08:00-18:00", "names \"tue-wed\" as a day"),
        ("mon 08:00", "holds \"08:00\", which is no span of time"),
        (
            "mon 08:00 - 18:00",
            "holds \"08:00\", which is no span of time",
        ),
        ("mon 8-18", "holds \"8-18\", which is no span of time"),
        (
            "mon 24:00-25:00",
            "holds \"24:00-25:00\", which is no span of time",
        ),
        (
            "mon 08:60-18:00",
            "holds \"08:60-18:00\", which is no span of time",
        ),
        (
            "mon 08:00-24:01",
            "holds \"08:00-24:01\", which is no span of time",
        ),
        (
            "mon 08:00-+9:00",
            "holds \"08:00-+9:00\", which is no span of time",
        ),
        (
            "mon 08:00-08:00",
            "holds \"08:00-08:00\", which ends when it begins",
        ),
        (
            "mon 24:00-06:00",
            "holds \"24:00-06:00\", which is no span of time",
        ),
        (
            "mon 99999:00-18:00",
            "holds \"99999:00-18:00\", which is no span of time",
        ),
    ] {
        assert_eq!(open(text), message, "{text}");
    }
    let closed = |text: &str| text.parse::<ClosedDays>().unwrap_err().message;
    assert_eq!(
        closed("24.12.2026"),
        "holds \"24.12.2026\", which is not a date"
    );
    assert_eq!(
        closed("2026-02-29"),
        "holds \"2026-02-29\", which is not a date"
    );
    assert_eq!(closed("2026-12-26..2026-12-24"), "ends before it begins");
    assert_eq!(closed("2026-12-24.."), "holds \"\", which is not a date");
    let special = |text: &str| text.parse::<SpecialHours>().unwrap_err().message;
    assert_eq!(special("2026-12-23"), "names no times of day");
    assert_eq!(
        special("wed 08:00-14:00"),
        "holds \"wed\", which is not a date"
    );
    assert_eq!(time_zone("Europe/Bonn"), None);
}

#[test]
fn hours_are_recorded_as_they_are_written() {
    let recorded = serde_json::to_value(office()).unwrap();
    let expected = json!({
        "time_zone": "Europe/Berlin",
        "open": ["mon-fri 08:00-18:00", "sat 09:00-13:00"],
        "closed": ["2026-12-24..2026-12-26", "2027-01-01"],
        "special": ["2026-12-23 08:00-14:00", "2026-12-25 10:00-11:00"],
        "holidays": ["2026-12-23", "2027-01-06"]
    });
    assert_eq!(recorded, expected);
    assert_eq!(serde_json::from_value::<Hours>(recorded).unwrap(), office());
    let bare = hours("europe/berlin", &["daily 00:00-24:00"]);
    let text = r#"{"time_zone":"Europe/Berlin","open":["daily 00:00-24:00"]}"#;
    assert_eq!(serde_json::to_string(&bare).unwrap(), text);
    assert_eq!(serde_json::from_str::<Hours>(text).unwrap(), bare);
    let unknown = text.replace("Berlin", "Bonn");
    let refused = serde_json::from_str::<Hours>(&unknown).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("\"Europe/Bonn\" is no time zone")
    );
}

#[test]
fn the_week_repeats_and_a_span_ends_before_its_end() {
    let office = office();
    assert_state(
        &office,
        "2026-12-01T07:59:59",
        false,
        Some("2026-12-01T08:00"),
    );
    assert_state(&office, "2026-12-01T08:00", true, Some("2026-12-01T18:00"));
    assert_state(
        &office,
        "2026-12-01T17:59:59",
        true,
        Some("2026-12-01T18:00"),
    );
    assert_state(&office, "2026-12-01T18:00", false, Some("2026-12-02T08:00"));
    assert_state(&office, "2026-12-05T12:00", true, Some("2026-12-05T13:00"));
    assert_state(&office, "2026-12-05T13:00", false, Some("2026-12-07T08:00"));
}

#[test]
fn special_hours_win_over_closed_days_and_those_over_the_week() {
    let office = office();
    assert_state(&office, "2026-12-22T18:00", false, Some("2026-12-23T08:00"));
    assert_state(&office, "2026-12-23T13:00", true, Some("2026-12-23T14:00"));
    assert_state(&office, "2026-12-23T14:00", false, Some("2026-12-25T10:00"));
    assert_state(&office, "2026-12-25T11:00", false, Some("2026-12-28T08:00"));
    assert_state(&office, "2026-12-31T18:00", false, Some("2027-01-02T09:00"));
    assert_state(&office, "2027-01-05T18:00", false, Some("2027-01-07T08:00"));
}

#[test]
fn a_span_past_midnight_belongs_to_the_day_on_which_it_begins() {
    let mut night = hours("Europe/Berlin", &["fri-mon 22:00-06:00"]);
    assert_state(&night, "2026-12-04T05:00", false, Some("2026-12-04T22:00"));
    assert_state(&night, "2026-12-05T05:00", true, Some("2026-12-05T06:00"));
    assert_state(&night, "2026-12-08T05:00", true, Some("2026-12-08T06:00"));
    assert_state(&night, "2026-12-08T06:00", false, Some("2026-12-11T22:00"));
    night.closed = parsed(&["2026-12-05"]);
    assert_state(&night, "2026-12-05T05:00", true, Some("2026-12-05T06:00"));
    assert_state(&night, "2026-12-05T06:00", false, Some("2026-12-06T22:00"));
    night.special = parsed(&["2026-12-05 04:00-07:00"]);
    assert_state(&night, "2026-12-05T05:00", true, Some("2026-12-05T07:00"));
}

#[test]
fn spans_that_touch_or_overlap_are_one() {
    let day = hours(
        "Europe/Berlin",
        &[
            "daily 08:00-12:00 12:00-18:00",
            "mon 17:00-20:00",
            "tue 00:00-01:00",
            "mon 20:00-24:00",
        ],
    );
    assert_state(&day, "2026-12-07T08:00", true, Some("2026-12-08T01:00"));
    let always = hours("Europe/Berlin", &["daily 00:00-24:00"]);
    assert_state(&always, "2026-12-07T08:00", true, None);
    let always = hours("Europe/Berlin", &["daily 12:00-11:00 11:00-13:00"]);
    assert_state(&always, "2026-12-07T08:00", true, None);
}

#[test]
fn a_change_is_found_within_the_horizon_and_nowhere_else() {
    let mut once = hours("Europe/Berlin", &[]);
    assert_state(&once, "2026-12-07T08:00", false, None);
    once.special = parsed(&["2027-12-10 08:00-14:00"]);
    assert_state(&once, "2026-12-07T08:00", false, Some("2027-12-10T08:00"));
    assert_state(&once, "2026-12-04T08:00", false, None);
    assert_state(&once, "2027-12-10T09:00", true, Some("2027-12-10T14:00"));
    assert_state(&once, "2027-12-10T14:00", false, None);
    let mut not_once = hours("Europe/Berlin", &["daily 00:00-24:00"]);
    not_once.closed = parsed(&["2027-03-01"]);
    assert_state(
        &not_once,
        "2026-12-07T08:00",
        true,
        Some("2027-03-01T00:00"),
    );
    for edge in [Timestamp::MIN, Timestamp::MAX] {
        assert_eq!(
            once.state(edge).until,
            None,
            "the ends of time have an answer"
        );
    }
}

#[test]
fn a_skipped_time_moves_to_the_end_of_the_gap() {
    // On 28 March 2027, 02:00 is 03:00.
    let early = hours("Europe/Berlin", &["sun 02:30-05:00", "sat 20:00-02:30"]);
    assert_state(&early, "2027-03-28T01:59", true, Some("2027-03-28T05:00"));
    let early = hours("Europe/Berlin", &["sun 02:30-05:00"]);
    assert_state(&early, "2027-03-28T01:59", false, Some("2027-03-28T03:00"));
    let lost = hours("Europe/Berlin", &["sun 02:00-02:45"]);
    assert_state(&lost, "2027-03-28T01:59", false, Some("2027-04-04T02:00"));
}

#[test]
fn of_a_time_that_occurs_twice_the_first_is_a_beginning_and_the_second_an_end() {
    // On 25 October 2026, 03:00 is 02:00 again: 02:30 is 00:30Z and 01:30Z.
    let early = hours("Europe/Berlin", &["sun 02:30-05:00"]);
    assert_state(
        &early,
        "2026-10-25T00:29:59Z",
        false,
        Some("2026-10-25T00:30Z"),
    );
    assert_state(
        &early,
        "2026-10-25T01:29:59Z",
        true,
        Some("2026-10-25T04:00Z"),
    );
    let late = hours("Europe/Berlin", &["sat 20:00-02:30"]);
    assert_state(&late, "2026-10-25T00:30Z", true, Some("2026-10-25T01:30Z"));
    assert_state(&late, "2026-10-25T01:30Z", false, Some("2026-10-31T20:00"));
    let late = hours("Europe/Berlin", &["sat 20:00-02:00"]);
    assert_state(&late, "2026-10-25T00:00Z", true, Some("2026-10-25T01:00Z"));
}

/// Numbers from a fixed seed.
struct Draw(u64);

impl Draw {
    /// A number below `n`.
    fn below(&mut self, n: u16) -> u16 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u16::try_from((self.0 >> 33) % u64::from(n)).unwrap()
    }
}

const QUARTER: SignedDuration = SignedDuration::from_mins(15);

#[test]
fn hours_in_force_say_the_same_as_hours() {
    let mut draw = Draw(20_261_201);
    let office = office();
    let in_force = HoursInForce::from(office.clone());
    let shared = in_force.clone();
    let begin = at("Europe/Berlin", "2026-12-18T00:00");
    for _ in 0..2_000 {
        let minutes = SignedDuration::from_mins(draw.below(30 * 1_440).into());
        let moment = begin + minutes;
        for step in 0..4 {
            let moment = moment + SignedDuration::from_secs(step);
            assert_eq!(in_force.state(moment), office.state(moment));
        }
        assert_eq!(shared.state(moment), office.state(moment));
    }
    assert_eq!(in_force, HoursInForce::from(office));
}

/// Walks a clock in quarters of an hour and holds what it shows against the hours.
///
/// By definition it is open from when the clock first shows the beginning or a later time until it last shows the end or an earlier one.
fn check_around(hours: &Hours, from: Date, n_days: i64) {
    let name = hours.time_zone.iana_name().unwrap();
    let moment = |day: Date| {
        let midnight = day.to_datetime(Time::midnight());
        hours
            .time_zone
            .to_ambiguous_timestamp(midnight)
            .compatible()
            .unwrap()
    };
    let end = moment(from.saturating_add(n_days.days()));
    let clock: Vec<(Timestamp, DateTime)> =
        successors(Some(moment(from)), |at| Some(*at + QUARTER))
            .take_while(|at| *at < end)
            .map(|at| (at, hours.time_zone.to_datetime(at)))
            .collect();
    let mut expected = vec![false; clock.len()];
    let first = from.saturating_sub(2.days());
    for day in successors(Some(first), |day| day.tomorrow().ok())
        .take(usize::try_from(n_days).unwrap() + 4)
    {
        for span in hours.spans(day) {
            let midnight = day.to_datetime(Time::midnight());
            let local = |minutes: u16| midnight + SignedDuration::from_mins(minutes.into());
            let (begin, end) = (local(span.from), local(span.to));
            let first = clock.iter().position(|(_, shown)| *shown >= begin);
            let last = clock.iter().rposition(|(_, shown)| *shown <= end);
            let (Some(first), Some(last)) = (first, last) else {
                continue;
            };
            let is_end_shown = clock[last].1 == end;
            let open = first..last + usize::from(!is_end_shown);
            // What the clock shows within a span is open, without exception.
            for (idx, (at, shown)) in clock
                .iter()
                .enumerate()
                .take(last + 1)
                .skip(first.saturating_sub(8))
            {
                assert!(
                    open.contains(&idx) || !(begin..end).contains(shown),
                    "{name} {at}"
                );
            }
            open.for_each(|idx| expected[idx] = true);
        }
    }
    let mut state = hours.state(clock[0].0);
    for ((at, shown), expected) in clock.iter().zip(expected) {
        if state.until.is_some_and(|until| until <= *at) {
            let next = hours.state(*at);
            assert_ne!(next.is_open, state.is_open, "{name} {at}");
            assert!(next.until > state.until, "{name} {at}");
            state = next;
        }
        assert_eq!(state.is_open, expected, "{name} {at} {shown}");
    }
}

#[test]
fn in_every_time_zone_for_ten_years_hours_neither_overlap_nor_vanish() {
    let mut draw = Draw(20_261_201);
    let (begin, end) = (at("UTC", "2026-01-01T00:00"), at("UTC", "2036-01-01T00:00"));
    let mut seen = HashSet::new();
    let (mut n_zones, mut n_transitions) = (0, 0);
    for name in TIME_ZONES.available() {
        let zone = time_zone(name.as_str()).unwrap();
        let spans: Vec<String> = (0..2)
            .map(|_| {
                let from = draw.below(96) * 15;
                let to = from + draw.below(95) * 15 + 15;
                ClockSpan { from, to }.to_string()
            })
            .collect();
        let hours = hours(name.as_str(), &[&format!("daily {}", spans.join(" "))]);
        let transitions: Vec<(Timestamp, Offset)> = zone
            .following(begin)
            .take_while(|transition| transition.timestamp() < end)
            .map(|transition| (transition.timestamp(), transition.offset()))
            .collect();
        let any = date(2026, 1, 1).saturating_add(i64::from(draw.below(3_650)).days());
        check_around(&hours, any, 1);
        n_zones += 1;
        // Zones whose clocks show the same in these years need one walk.
        if seen.insert((zone.to_offset(begin), transitions.clone())) {
            for (transition, _) in transitions {
                let day = zone.to_datetime(transition).date();
                check_around(&hours, day.yesterday().unwrap(), 3);
                n_transitions += 1;
            }
        }
    }
    assert!(
        n_zones > 400 && n_transitions > 300,
        "{n_zones} {n_transitions}"
    );
}

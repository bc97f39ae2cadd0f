//! `[routing.hours.*]`: named opening hours.

use std::collections::BTreeSet;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::context;
use super::problem::Fault;
use super::section::{Section, TomlValue};
use crate::routing::{Holidays, Hours, HoursState, NotHours, holidays};

/// Reads the named hours of `[routing]`, in the order of the file; those that name no time zone are in `time_zone`.
pub(super) fn read_hours(section: &mut Section<'_>, time_zone: &TimeZone) -> Vec<(String, Hours)> {
    let hours = section.optional_section("hours", |section| {
        let entries = section.entries().into_iter();
        let named = entries.filter_map(|(name, value)| {
            if !is_name(name) {
                let fault = Fault::new("is not a name for opening hours");
                value.fail_at_name(fault.hint("use 1 to 64 letters, digits, _ and -"));
            }
            let hours = value.section(|section| Some(read_named(section, time_zone)))?;
            Some((name.to_owned(), hours))
        });
        Some(named.collect())
    });
    hours.unwrap_or_default()
}

fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(is_part)
}

fn read_named(section: &mut Section<'_>, time_zone: &TimeZone) -> Hours {
    let now = section.reader().context().now;
    let time_zone = section.or("time_zone", time_zone.clone(), TomlValue::time_zone);
    let today = time_zone.to_datetime(now).date();
    let hours = Hours {
        time_zone,
        open: written(section, "open"),
        closed: written(section, "closed"),
        special: written(section, "special"),
        holidays: section.or("calendar", BTreeSet::new(), |value| calendar(value, today)),
    };
    let is_read = section.has_some("open") != hours.open.is_empty();
    let fault = match hours.state(now) {
        HoursState { until: Some(_), .. } => None,
        HoursState { is_open: true, .. } => Some(
            Fault::new("is always open")
                .hint("name the hours at which it is closed, or leave it out of the rules"),
        ),
        HoursState { is_open: false, .. } => {
            let fault = Fault::new("does not open in the year to come");
            Some(fault.hint("write open = [\"mon-fri 08:00-18:00\"]"))
        }
    };
    if let Some(fault) = fault.filter(|_| is_read) {
        section.warn("", fault);
    }
    hours
}

/// One text or a list of them.
fn written<T: FromStr<Err = NotHours>>(section: &mut Section<'_>, name: &'static str) -> Vec<T> {
    let one = |value: &TomlValue<'_>| {
        let one = value.text()?.parse();
        one.map_err(|NotHours { message, hint }| Fault::new(message).hint(hint))
    };
    section.or(name, Vec::new(), |value| value.one_or_list(one))
}

/// The days of a calendar file, read again by every reload.
fn calendar(value: &TomlValue<'_>, today: Date) -> Result<BTreeSet<Date>, Fault> {
    let path = value.path()?;
    if !value.context().reads_files {
        return Ok(BTreeSet::new());
    }
    let (bytes, _) = context::read_file(&path).map_err(Fault::new)?;
    let Holidays { days, warnings } = holidays(&bytes, today).map_err(Fault::new)?;
    for warning in warnings {
        value.warn(Fault::new(warning));
    }
    if days.last().is_none_or(|last| *last < today) {
        let fault = Fault::new("has no whole-day event to come, so it closes no day");
        value.warn(fault.hint("put the holidays to come into the file, or leave calendar out"));
    }
    Ok(days)
}

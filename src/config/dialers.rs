//! `[dialers.*]`: the platforms that take calls.

use std::time::Duration;

use super::problem::Fault;
use super::section::{Section, TomlValue};
use crate::call::LAST_RESORT;
use crate::dialer::{DialerSettings, KINDS};
use crate::routing::DialerId;

/// The dialers as they were read.
pub(super) struct DialersSection {
    /// Every name of the file, also of a dialer with something wrong in it, so that no rule seems to miss it.
    pub(super) names: Vec<String>,
    pub(super) dialers: Vec<DialerSettings>,
}

impl DialersSection {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let entries = section.entries();
        if entries.is_empty() {
            section.error(
                "",
                Fault::new("holds no dialer").hint("add a section like [dialers.sales]"),
            );
        }
        let mut names: Vec<String> = Vec::new();
        let mut dialers = Vec::new();
        for (name, value) in entries {
            if !is_name(name) {
                value.fail_at_name(
                    Fault::new("is not a name for a dialer")
                        .hint("use 1 to 32 letters, digits, _ and -"),
                );
            } else if name.eq_ignore_ascii_case("braze") {
                value.fail_at_name(
                    Fault::new("is what records call the look-up").hint("choose another name"),
                );
            } else if name.eq_ignore_ascii_case(LAST_RESORT) {
                value.fail_at_name(
                    Fault::new("is what records call the last-resort number")
                        .hint("choose another name"),
                );
            } else if let Some(twin) = names.iter().find(|other| other.eq_ignore_ascii_case(name)) {
                value.fail_at_name(
                    Fault::new(format!("differs from dialers.{twin} in case only"))
                        .hint("choose another name"),
                );
            }
            names.push(name.to_owned());
            dialers.extend(value.section(|section| read(section, name)));
        }
        Self { names, dialers }
    }
}

fn read(section: &mut Section<'_>, name: &str) -> Option<DialerSettings> {
    let read_api = section.required("kind", |value| value.one_of(&KINDS));
    let connect = section.required("connect", TomlValue::connect);
    let (second, hour) = (Duration::from_secs(1), Duration::from_hours(1));
    if read_api.is_none() {
        section.leave_unjudged();
    }
    let api = read_api.and_then(|read_api| read_api(section));
    Some(DialerSettings {
        id: DialerId::new(name),
        timeout: section.or("timeout", Duration::from_millis(700), |value| {
            value.duration(Duration::from_millis(50)..=Duration::from_secs(10))
        }),
        probe_every: section.duration("probe_every", 15 * second, second..=hour),
        open_for: section.duration("open_for", 15 * second, second..=hour),
        connect: connect?,
        api: api?,
    })
}

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

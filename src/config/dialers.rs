//! `[dialers.*]`: the platforms that take calls.

use std::time::Duration;

use super::problem::Fault;
use super::section::{Section, TomlValue};
use crate::call::{LAST_RESORT, RULE_NUMBER};
use crate::dialer::{DialerSettings, KINDS};
use crate::routing::DialerId;

pub(super) fn read(section: &mut Section<'_>) -> Vec<DialerSettings> {
    let entries = section.entries();
    if entries.is_empty() {
        let fault = Fault::new("holds no dialer");
        section.error("", fault.hint("add a section like [dialers.sales]"));
    }
    let mut names: Vec<&str> = Vec::new();
    let mut dialers = Vec::new();
    for (name, value) in entries {
        let twin = names.iter().find(|other| other.eq_ignore_ascii_case(name));
        let another = "choose another name";
        if !is_name(name) {
            let fault = Fault::new("is not a name for a dialer");
            value.fail_at_name(fault.hint("use 1 to 32 letters, digits, _ and -"));
        } else if name.eq_ignore_ascii_case("braze") {
            value.fail_at_name(Fault::new("is what records call the look-up").hint(another));
        } else if name.eq_ignore_ascii_case(LAST_RESORT) {
            let fault = Fault::new("is what records call the last-resort number");
            value.fail_at_name(fault.hint(another));
        } else if name.eq_ignore_ascii_case(RULE_NUMBER) {
            let fault = Fault::new("is what records call the number of a rule");
            value.fail_at_name(fault.hint(another));
        } else if let Some(twin) = twin {
            let fault = Fault::new(format!("differs from dialers.{twin} in case only"));
            value.fail_at_name(fault.hint(another));
        }
        names.push(name);
        dialers.extend(value.section(|section| read_dialer(section, name)));
    }
    dialers
}

fn read_dialer(section: &mut Section<'_>, name: &str) -> Option<DialerSettings> {
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

pub(super) fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

//! `[twilio] may_dial`: which numbers rules may have dialled. Whoever may publish rules could buy calls to dear numbers otherwise.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::problem::Fault;
use super::reader::Reader;
use super::routing::RoutingSection;
use crate::phone::E164;
use crate::routing::RuleAction;

/// Keys of the main file that hold numbers which nobody dials: those of callers, and those of tests.
const OF_OTHERS: [&str; 3] = ["lists", "tests", "when"];

/// How the numbers may begin; `None` where every number that rules name stands in the main file itself, which nobody publishes.
pub(super) fn beginnings(
    written: Option<&[String]>,
    is_beside: bool,
    main: &Reader<'_>,
) -> Option<Vec<String>> {
    if let Some(written) = written {
        return Some(written.to_vec());
    }
    is_beside.then(|| {
        let mut countries = BTreeSet::new();
        add_countries(main.root(), &mut countries);
        countries.into_iter().collect()
    })
}

fn add_countries(table: &DeTable<'_>, countries: &mut BTreeSet<String>) {
    for (name, value) in table {
        if !OF_OTHERS.contains(&name.get_ref().as_ref()) {
            add_countries_of(value.get_ref(), countries);
        }
    }
}

fn add_countries_of(value: &DeValue<'_>, countries: &mut BTreeSet<String>) {
    match value {
        DeValue::String(text) => {
            let number = E164::parse(text).ok();
            countries.extend(number.map(|number| number.country().to_owned()));
        }
        DeValue::Array(list) => {
            for value in list {
                add_countries_of(value.get_ref(), countries);
            }
        }
        DeValue::Table(table) => add_countries(table, countries),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

/// Refuses numbers that do not begin so.
pub(super) fn check(reader: &Reader<'_>, routing: &RoutingSection, beginnings: Option<&[String]>) {
    let Some(beginnings) = beginnings else { return };
    let settings = &routing.routing;
    let single = [
        ("routing.last_resort_number", &settings.last_resort_number),
        ("routing.closed_number", &settings.closed_number),
    ];
    let single = single
        .into_iter()
        .filter_map(|(key, number)| Some((key.to_owned(), number.as_ref()?)));
    let of_rules = routing
        .rules
        .iter()
        .filter_map(|rule| match &rule.rule.action {
            RuleAction::Number(number) => Some((format!("{}.number", rule.path), number)),
            RuleAction::Dialers(_) | RuleAction::Reject(_) | RuleAction::Message(_) => None,
        });
    for (key, number) in single.chain(of_rules) {
        if beginnings
            .iter()
            .any(|begin| number.as_str().starts_with(begin.as_str()))
        {
            continue;
        }
        let fault = match beginnings {
            [] => Fault::new("is a number, and rules may dial none"),
            some => Fault::new(format!(
                "is none that rules may dial: those begin with {}",
                some.join(", ")
            )),
        };
        let hint = format!(
            "add {:?} to may_dial in [twilio] of the main file",
            number.country()
        );
        reader.error_at(&key, fault.hint(hint));
    }
}

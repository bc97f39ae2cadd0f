//! Rules of before, written into the text of today: what stays the same keeps its comments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use serde::Serialize;
use serde_json::Value as Json;
use toml_edit::visit_mut::{self, VisitMut};
use toml_edit::{
    Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TomlError, Value, value,
};

use crate::lead::Tier;
use crate::routing::{Rule, Ruleset};

/// What opening hours take from a calendar.
const HOLIDAYS: &str = "holidays";

/// The text of `[routing]` that holds `before`, with `wanted` in its place. Opening hours keep the calendar that they name, and everything
/// that is no part of a rule set stays.
pub fn with_ruleset(text: &str, before: &Ruleset, wanted: &Ruleset) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let section = document
        .entry("routing")
        .or_insert(Item::Table(Table::new()));
    if let Some(routing) = section.as_table_mut() {
        if before.default_dialer != wanted.default_dialer {
            set(routing, "default_dialer", &json(&wanted.default_dialer));
        }
        if before.attributes != wanted.attributes {
            set(routing, "attributes", &json(&wanted.attributes));
        }
        let tiers = |set: &Ruleset| set.tiers.iter().cloned().collect::<Vec<Tier>>();
        let name = |tier: &Tier| tier.name.to_string();
        set_tables(
            routing,
            "tiers",
            (&tiers(before), &tiers(wanted)),
            name,
            json,
        );
        let name = |rule: &Rule| rule.name.to_string();
        set_tables(routing, "rules", (&before.rules, &wanted.rules), name, rule);
        set_named(routing, "hours", &before.hours, &wanted.hours);
        set_named(routing, "limits", &before.limits, &wanted.limits);
    }
    Ok(document.to_string())
}

/// `[routing]` of a whole configuration and nothing else of it, without the comments above its tables: they may be another section's.
pub fn rules_alone(text: &str) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    document.retain(|name, _| name == "routing");
    document.set_trailing("");
    Bare.visit_document_mut(&mut document);
    Ok(document.to_string().trim_start().to_owned())
}

struct Bare;

impl VisitMut for Bare {
    fn visit_table_mut(&mut self, table: &mut Table) {
        table.decor_mut().clear();
        visit_mut::visit_table_mut(self, table);
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}

/// A rule with the keys of the configuration.
fn rule(rule: &Rule) -> Json {
    let seconds = |seconds: &Json| Json::from(format!("{seconds}s"));
    let mut fields = json(rule);
    let Some(table) = fields.as_object_mut() else {
        return fields;
    };
    if let Some(within) = table.remove("prefer_last_answered_s") {
        let prefer = serde_json::json!({ "last_answered_within": seconds(&within) });
        table.insert("prefer".to_owned(), prefer);
    }
    if let Some(before) = table
        .get_mut("when")
        .and_then(|when| when.get_mut("called_before_within"))
    {
        *before = match before.get("seconds") {
            Some(within) => seconds(within),
            None => serde_json::json!({ "never": true }),
        };
    }
    fields
}

/// A key with this value; without it where the value is an empty list or nothing.
pub(super) fn set(table: &mut dyn toml_edit::TableLike, key: &str, json: &Json) {
    if json.is_null() || json.as_array().is_some_and(Vec::is_empty) {
        table.remove(key);
    } else if let Some(Item::Value(written)) = table.get_mut(key) {
        // The comment beside it stays.
        let decor = written.decor().clone();
        *written = toml(json);
        *written.decor_mut() = decor;
    } else {
        table.insert(key, Item::Value(toml(json)));
    }
}

fn toml(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(""),
        Json::Bool(truth) => Value::from(*truth),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::from(whole),
            None => Value::from(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(list) => Value::Array(list.iter().map(toml).collect::<Array>()),
        Json::Object(fields) => {
            let pairs = fields
                .iter()
                .map(|(name, json)| (name.as_str(), toml(json)));
            Value::InlineTable(pairs.collect::<InlineTable>())
        }
    }
}

/// A list of tables with names: one that is as before stays as it is written, one that is different keeps the comment above it.
fn set_tables<T: PartialEq>(
    routing: &mut Table,
    key: &str,
    (before, wanted): (&[T], &[T]),
    name: impl Fn(&T) -> String,
    write: impl Fn(&T) -> Json,
) {
    if before == wanted {
        return;
    }
    let written = routing
        .remove(key)
        .and_then(|item| item.into_array_of_tables().ok());
    let mut tables = ArrayOfTables::new();
    for one in wanted {
        let is_it = |table: &&Table| table.get("name").and_then(Item::as_str) == Some(&name(one));
        let old = written.iter().flat_map(ArrayOfTables::iter).find(is_it);
        let mut table = match old {
            Some(old) if before.contains(one) => old.clone(),
            old => {
                let mut table = Table::new();
                table.decor_mut().set_prefix("\n");
                if let Some(old) = old {
                    *table.decor_mut() = old.decor().clone();
                }
                // The name first, as people write it.
                table.insert("name", value(name(one)));
                for (field, json) in write(one).as_object().into_iter().flatten() {
                    set(&mut table, field, json);
                }
                table
            }
        };
        forget_place(&mut table);
        tables.push(table);
    }
    if !tables.is_empty() {
        routing.insert(key, Item::ArrayOfTables(tables));
    }
}

/// A table of tables: of those that are different, the keys that are get other values.
fn set_named<N: Ord + Display, T: PartialEq + Serialize>(
    routing: &mut Table,
    key: &str,
    before: &BTreeMap<N, T>,
    wanted: &BTreeMap<N, T>,
) {
    if before == wanted {
        return;
    }
    let mut parent = Table::new();
    parent.set_implicit(true);
    let all = routing.entry(key).or_insert(Item::Table(parent));
    let Some(all) = all.as_table_like_mut() else {
        return;
    };
    for name in before.keys().filter(|name| !wanted.contains_key(name)) {
        all.remove(&name.to_string());
    }
    for (name, one) in wanted {
        if before.get(name) == Some(one) {
            continue;
        }
        let item = all
            .entry(&name.to_string())
            .or_insert(Item::Table(Table::new()));
        let Some(table) = item.as_table_like_mut() else {
            continue;
        };
        let [before, wanted] = [json(&before.get(name)), json(one)];
        let keys = [&before, &wanted].into_iter().filter_map(Json::as_object);
        let keys: BTreeSet<&String> = keys.flat_map(serde_json::Map::keys).collect();
        for key in keys {
            let json = wanted.get(key).unwrap_or(&Json::Null);
            // Days of a calendar stand in its own file.
            if before.get(key) != Some(json) && key != HOLIDAYS {
                set(table, key, json);
            }
        }
    }
}

/// Where a table stood in the text before says nothing of where it stands among others.
fn forget_place(table: &mut Table) {
    table.set_position(None);
    for (_, item) in table.iter_mut() {
        if let Some(below) = item.as_table_mut() {
            forget_place(below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Context, parse};
    use super::*;

    const MAIN: &str = include_str!("../../config.example.toml");

    fn ruleset(routing: &str) -> Ruleset {
        let context = Context::in_directory("/etc/switchboard").without_secrets();
        let name = std::path::Path::new("/etc/switchboard/routing.toml");
        let context = context.with_routing(name, routing);
        parse(MAIN, &context).unwrap().config.ruleset
    }

    #[test]
    fn what_is_the_same_keeps_its_comments() {
        let before = "# Ours.\n[routing]\ndefault_dialer = \"zendesk\" # the small team\n\n\
            [[routing.rules]] # first\nname = \"a\"\nwhen = { hours = \"office\" } # by day\ndialers = \"zendesk\"\n\n\
            # Everybody else.\n[[routing.rules]]\nname = \"b\"\ndialers = [\"dialfire\"]\n\n\
            [routing.hours.office]\n# Until spring.\nopen = \"mon-fri 08:00-18:00\" # as agreed\n\n\
            [[routing.tests]] # kept\nname = \"t\"\ngiven = { score = 1, at = \"2026-12-06T12:00:00Z\" }\nexpect = { rule = \"b\" }\n";
        let wanted = before
            .replace(
                "dialers = [\"dialfire\"]",
                "dialers = [{ dialfire = 70, zendesk = 30 }]",
            )
            .replace("fri 08:00", "sat 09:00")
            .replace("# the small team", "")
            .replace(
                "[[routing.tests]] # kept",
                "[routing.limits.zendesk]\nmax_active = 4\n\n[[routing.tests]]",
            );
        let (from, to) = (ruleset(before), ruleset(&wanted));
        let written = with_ruleset(before, &from, &to).unwrap();
        assert_eq!(ruleset(&written), to, "{written}");
        for kept in [
            "# Ours.",
            "# the small team",
            "# first",
            "# by day",
            "# Everybody else.",
            "# Until spring.",
            "# as agreed",
            "# kept",
        ] {
            assert!(written.contains(kept), "{kept}: {written}");
        }
        assert_eq!(with_ruleset(before, &from, &from).unwrap(), before);
    }
}

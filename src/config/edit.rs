//! Rules of before, written into the text of today: what stays the same keeps its comments.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;
use serde_json::Value as Json;
use toml_edit::{
    Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TomlError, Value, value,
};

use crate::lead::Tier;
use crate::routing::{Rule, Ruleset};

/// The text of `[routing]` that holds `before`, with `wanted` in its place. Opening hours keep the calendar that they name, and everything
/// that is no part of a rule set stays.
pub fn with_ruleset(text: &str, before: &Ruleset, wanted: &Ruleset) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let section = document
        .entry("routing")
        .or_insert(Item::Table(Table::new()));
    if let Some(routing) = section.as_table_mut() {
        routing.insert("default_dialer", value(wanted.default_dialer.as_str()));
        set(routing, "attributes", &json(&wanted.attributes));
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
        let hours = ["time_zone", "open", "closed", "special"];
        set_named(routing, "hours", &before.hours, &wanted.hours, &hours);
        let limits = [
            "hours",
            "max_active",
            "max_per_hour",
            "max_per_day",
            "max_per_month",
        ];
        set_named(routing, "limits", &before.limits, &wanted.limits, &limits);
    }
    Ok(document.to_string())
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
fn set(table: &mut dyn toml_edit::TableLike, key: &str, json: &Json) {
    if json.is_null() || json.as_array().is_some_and(Vec::is_empty) {
        table.remove(key);
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

/// A table of tables: those that are different get the values of these keys, and keep all others.
fn set_named<N: Ord + Display, T: PartialEq + Serialize>(
    routing: &mut Table,
    key: &str,
    before: &BTreeMap<N, T>,
    wanted: &BTreeMap<N, T>,
    keys: &[&str],
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
        let json = json(one);
        for key in keys {
            set(table, key, json.get(*key).unwrap_or(&Json::Null));
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

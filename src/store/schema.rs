//! Whether a database has the schema that this program makes: nothing added, nothing changed, nothing missing.
//!
//! A trigger or a view that somebody planted acts in our name, so that a database is not opened for its tables' sake alone. Other programs may
//! have left bare tables: `SQLite` itself, and Litestream.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::migrations::{FIRST, MigrationStep};

const LITESTREAM: [&str; 2] = ["_litestream_seq", "_litestream_lock"];
/// More objects than this no schema of ours has.
const MOST: u32 = 1_000;
const TOLD: usize = 20;

/// What `sqlite_schema` says of an object, and how often.
type Objects = BTreeMap<Object, u32>;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Object {
    kind: String,
    name: String,
    table: String,
    sql: Option<String>,
    is_stored: bool,
}

/// How the schema of a database differs from that of `version`, in words; empty where it does not. Reads nothing but `sqlite_schema`.
pub(super) fn differences(
    connection: &Connection,
    version: u32,
    steps: &[MigrationStep],
) -> rusqlite::Result<Vec<String>> {
    let expected = expected(version, steps)?;
    let found = objects(connection)?;
    let mut told = Vec::new();
    for (object, count) in &found {
        let is_known = expected.get(object) == Some(count);
        if !(is_known || is_bare(object) && *count == 1) {
            let is_named = expected
                .keys()
                .any(|known| known.kind == object.kind && known.name == object.name);
            let how = if is_named { "is another" } else { "was added" };
            told.push(format!("{} {how}", named(object)));
        }
    }
    for object in expected.keys() {
        let is_there = found
            .keys()
            .any(|known| known.kind == object.kind && known.name == object.name);
        if !is_there {
            told.push(format!("{} is missing", named(object)));
        }
    }
    told.truncate(TOLD);
    Ok(told)
}

/// Whether every table is there as this program makes it, so that it can be read whatever else is there.
pub(super) fn is_readable(
    connection: &Connection,
    version: u32,
    steps: &[MigrationStep],
) -> rusqlite::Result<bool> {
    let expected = expected(version, steps)?;
    let found = objects(connection)?;
    let mut tables = expected
        .keys()
        .filter(|object| object.kind == "table")
        .map(|object| object.name.as_str());
    Ok(tables.all(|table| {
        let is_it = |object: &&Object| object.kind == "table" && object.name == table;
        let same_name = found.keys().filter(|object| object.name == table);
        let known = expected.keys().find(is_it);
        same_name.count() == 1 && known.is_some_and(|known| found.get(known) == Some(&1))
    }))
}

fn named(object: &Object) -> String {
    let name: String = object.name.chars().take(100).collect();
    match object.kind.as_str() {
        "table" | "view" => format!("{} {name}", object.kind),
        "trigger" | "index" => {
            let table: String = object.table.chars().take(100).collect();
            format!("{} {name} of {table}", object.kind)
        }
        _ => format!("object {name}"),
    }
}

/// A table of another program that holds rows and does nothing.
fn is_bare(object: &Object) -> bool {
    let is_foreign =
        object.name.starts_with("sqlite_") || LITESTREAM.contains(&object.name.as_str());
    let is_plain = object
        .sql
        .as_deref()
        .is_some_and(|sql| sql.starts_with("CREATE TABLE"));
    is_foreign
        && object.kind == "table"
        && object.table == object.name
        && object.is_stored
        && is_plain
}

fn expected(version: u32, steps: &[MigrationStep]) -> rusqlite::Result<Objects> {
    let made = Connection::open_in_memory()?;
    if version >= FIRST.version {
        made.execute_batch(FIRST.up)?;
    }
    for step in steps.iter().filter(|step| step.version <= version) {
        made.execute_batch(step.up)?;
    }
    objects(&made)
}

fn objects(connection: &Connection) -> rusqlite::Result<Objects> {
    let mut objects = Objects::new();
    let mut statement = connection.prepare(
        "SELECT CAST(type AS TEXT), CAST(name AS TEXT), CAST(tbl_name AS TEXT), CAST(sql AS TEXT),
             coalesce(rootpage, 0) <> 0
         FROM sqlite_schema LIMIT ?1",
    )?;
    let mut rows = statement.query([MOST])?;
    while let Some(row) = rows.next()? {
        let text = |column| -> rusqlite::Result<Option<String>> {
            let bytes = row.get_ref(column)?.as_bytes_or_null().unwrap_or_default();
            Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
        };
        let object = Object {
            kind: text(0)?.unwrap_or_default(),
            name: text(1)?.unwrap_or_default(),
            table: text(2)?.unwrap_or_default(),
            sql: text(3)?,
            is_stored: row.get(4)?,
        };
        *objects.entry(object).or_default() += 1;
    }
    Ok(objects)
}

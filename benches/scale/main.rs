//! Makes a database large: takes one in which a few calls were recorded, and repeats these calls until the audit log has as many
//! records as wanted, with a valid chain, spread evenly over the days up to now.
//!
//! `cargo bench --bench scale -- <database> <records> [<days>]`. The database is of the running version and nobody has it open; its
//! signatures and the head kept beside it are removed, because they are of another log. `tests/faults/scale.py` measures on the result.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise and prints"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a bench reads clocks and the environment"
)]

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, params};
use switchboard::audit::{Link, RecordContent};

const DAY_MS: i64 = 86_400_000;
/// Records of one transaction.
const BATCH: i64 = 200_000;

/// A record to repeat.
struct Pattern {
    /// Milliseconds after the first record of its call.
    after: i64,
    kind: String,
    personal: Option<Vec<u8>>,
    detail: String,
}

/// A call to repeat: its row in `calls`, and its records in order.
struct Call {
    row: i64,
    records: Vec<Pattern>,
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let (Some(path), Some(wanted)) = (arguments.next(), arguments.next()) else {
        println!("skipped: it needs a database and a number of records");
        return;
    };
    let days = arguments.next().map_or(89, |days| days.parse().unwrap());
    let started = Instant::now();
    let path = PathBuf::from(path);
    let records = enlarge(&path, wanted.parse().unwrap(), days);
    for left in [".head", "-wal", "-shm"] {
        drop(std::fs::remove_file(beside(&path, left)));
    }
    println!(
        "{records} records over {days} days in {:.0} s, {} MiB",
        started.elapsed().as_secs_f64(),
        std::fs::metadata(&path).unwrap().len() / 1_048_576
    );
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Everything that stands in the way of a quick fill, as SQL to put it back.
fn clear_the_way(database: &Connection) -> Vec<String> {
    let objects: Vec<(String, String, String)> = database
        .prepare(
            "SELECT type, name, sql FROM sqlite_schema
             WHERE tbl_name LIKE 'audit_%' AND sql IS NOT NULL AND type IN ('trigger', 'index')",
        )
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for (kind, name, _) in &objects {
        database
            .execute_batch(&format!("DROP {kind} {name}"))
            .unwrap();
    }
    objects.into_iter().map(|(_, _, sql)| sql).collect()
}

fn enlarge(path: &Path, wanted: i64, days: i64) -> i64 {
    let mut database = Connection::open(path).unwrap();
    for (pragma, value) in [
        ("journal_mode", "OFF"),
        ("synchronous", "OFF"),
        ("cache_size", "-200000"),
    ] {
        database.pragma_update(None, pragma, value).unwrap();
    }
    let calls = calls(&database);
    assert!(!calls.is_empty(), "no call is recorded in it");
    let put_back = clear_the_way(&database);
    database
        .execute_batch(
            "DELETE FROM audit_records; DELETE FROM audit_checkpoints; DELETE FROM audit_cuts;",
        )
        .unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    let mut link = Link::GENESIS;
    let mut n_calls = 0_i64;
    while link.id < wanted {
        let transaction = database.transaction().unwrap();
        let ends = (link.id + BATCH).min(wanted);
        let mut insert = transaction
            .prepare(
                "INSERT INTO audit_records (id, created_at, kind, call_sid, personal, detail, previous_hash, hash)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )
            .unwrap();
        let mut repeat = transaction.prepare(&repeating(&transaction)).unwrap();
        while link.id < ends {
            let call = calls
                .get(usize::try_from(n_calls).unwrap() % calls.len())
                .unwrap();
            let at = now - days * DAY_MS + (days * DAY_MS - DAY_MS / 24) / wanted * link.id;
            // As random as those of Twilio.
            let random = n_calls.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let sid = format!("CA{random:016x}{:016x}", random.rotate_left(29));
            for pattern in &call.records {
                let content = RecordContent {
                    id: link.id + 1,
                    created_at: at + pattern.after,
                    kind: &pattern.kind,
                    call_sid: Some(&sid),
                    personal: pattern.personal.as_deref(),
                    detail: &pattern.detail,
                };
                let next = link.append(&content);
                insert
                    .execute(params![
                        content.id,
                        content.created_at,
                        content.kind,
                        content.call_sid,
                        content.personal,
                        content.detail,
                        link.hash,
                        next.hash
                    ])
                    .unwrap();
                link = next;
            }
            repeat.execute(params![call.row, sid, at]).unwrap();
            n_calls += 1;
        }
        drop((insert, repeat));
        transaction.commit().unwrap();
    }
    for sql in put_back {
        database.execute_batch(&sql).unwrap();
    }
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    link.id
}

/// Copies a row of `calls` under another id, at another time, as a call that has ended.
fn repeating(database: &Connection) -> String {
    let columns: Vec<String> = database
        .prepare("SELECT name FROM pragma_table_info('calls') WHERE name <> 'id'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let values: Vec<&str> = columns
        .iter()
        .map(|column| match column.as_str() {
            "sid" => "?2",
            "started_at" | "created_at" | "updated_at" | "ended_at" => "?3",
            "status" => "'ended'",
            "disposition" => "'answered'",
            name => name,
        })
        .collect();
    format!(
        "INSERT INTO calls ({}) SELECT {} FROM calls WHERE id = ?1",
        columns.join(", "),
        values.join(", ")
    )
}

fn calls(database: &Connection) -> Vec<Call> {
    let rows: Vec<(i64, String)> = database
        .prepare("SELECT id, sid FROM calls ORDER BY id LIMIT 50")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    rows.into_iter()
        .map(|(row, sid)| Call {
            row,
            records: records(database, &sid),
        })
        .filter(|call| !call.records.is_empty())
        .collect()
}

fn records(database: &Connection, sid: &str) -> Vec<Pattern> {
    let mut begins = None;
    database
        .prepare("SELECT created_at, kind, personal, detail FROM audit_records WHERE call_sid = ?1 ORDER BY id")
        .unwrap()
        .query_map([sid], |row| {
            let at: i64 = row.get(0)?;
            Ok(Pattern {
                after: at - *begins.get_or_insert(at),
                kind: row.get(1)?,
                personal: row.get(2)?,
                detail: row.get(3)?,
            })
        })
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

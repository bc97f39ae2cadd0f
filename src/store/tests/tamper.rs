//! Whatever is done to the file is found, and called by its name.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::*;
use crate::audit::{
    CompactRange, FindingKind, LogSigningKey, NoteSubject, PublicKey, SignedTreeHead, Statement,
    VerifyReport,
};
use crate::store::connection;
use crate::store::verify::{Against, Verification};
use crate::store::{CheckpointSigner, head_path, read_head};

const RECORDS: i64 = 1_000;
/// Checkpoints stay over so many records each.
const EVERY: i64 = 250;
const COLUMNS: [&str; 8] = [
    "id",
    "created_at",
    "kind",
    "call_sid",
    "personal",
    "detail",
    "previous_hash",
    "hash",
];

/// A log of a thousand signed records, and what an auditor kept of it.
struct Log {
    home: Home,
    key: PublicKey,
    secret: LogSigningKey,
}

impl Log {
    async fn of(records: i64) -> Self {
        let home = Home::new();
        let store = home.open();
        let secret = || async {
            let log_id = store.log_id().await.unwrap();
            LogSigningKey::read(&log_id, &hex::encode([1; 32])).unwrap()
        };
        let signer = CheckpointSigner::begin(&store, secret().await, &[]).await;
        let secret = secret().await;
        // The first record names the key.
        let mut next = 2;
        while next <= records {
            let call = call_id(&format!("CA{next:032}"));
            let body = "<Response/>";
            let mut made = vec![
                decided(&call, next),
                intended(&call, next),
                answered(&call, "inbound", body, dialing(), next),
                service_record(next),
            ];
            made.truncate(usize::try_from(records + 1 - next).unwrap());
            next += i64::try_from(made.len()).unwrap();
            store.append(made).await.unwrap();
            if (next - 2) % EVERY < 4 {
                signer.sign(true).await;
            }
        }
        signer.sign(true).await;
        store.close().await;
        let log = Self {
            home,
            key: signer.public_key().clone(),
            secret,
        };
        drop((signer, store));
        let report = log.verify();
        assert!(report.ok, "{report:?}");
        assert_eq!((report.last, report.signed), (records, records));
        assert!(report.key_is_trusted, "{report:?}");
        assert_eq!(report.remarks.len(), 1, "no secret is at hand: {report:?}");
        log.open_to_changes();
        log
    }

    /// What anybody can do who has the file.
    fn open_to_changes(&self) {
        let stranger = self.home.stranger();
        // The readers of the store close a little after it.
        while stranger
            .execute_batch("PRAGMA journal_mode = DELETE")
            .is_err()
        {
            std::thread::yield_now();
        }
    }

    fn against(&self) -> Against {
        Against {
            key: Some(self.key.clone()),
            ..Against::nothing(&self.home.path())
        }
    }

    fn verify(&self) -> VerifyReport {
        Verification::open(self.against())
            .unwrap()
            .run(|_| {})
            .unwrap()
    }

    fn verify_with(&self, anchor: SignedTreeHead) -> VerifyReport {
        let against = Against {
            anchor: Some(anchor),
            ..self.against()
        };
        Verification::open(against).unwrap().run(|_| {}).unwrap()
    }

    /// Does something to the file, verifies, and puts the file back.
    fn after(&self, sql: &str) -> VerifyReport {
        let before = std::fs::read(self.home.path()).unwrap();
        let stranger = self.home.intruder();
        stranger.execute_batch(sql).unwrap();
        drop(stranger);
        assert_ne!(std::fs::read(self.home.path()).unwrap(), before, "{sql}");
        let report = self.verify();
        std::fs::write(self.home.path(), before).unwrap();
        report
    }

    fn head(&self) -> SignedTreeHead {
        read_head(&head_path(&self.home.path())).unwrap().unwrap()
    }
}

/// The same in every run, so that what fails fails again.
fn randomness() -> TestRng {
    TestRng::deterministic_rng(RngAlgorithm::ChaCha)
}

type Found = Vec<(FindingKind, Option<i64>)>;

fn found(report: &VerifyReport) -> Found {
    let list = report.findings.iter();
    list.map(|finding| (finding.kind, finding.record)).collect()
}

/// Flips a bit of one byte of a value as it is stored; integers by their eight bytes.
fn flip(connection: &Connection, table: &str, column: &str, id: i64, at: usize, bit: u8) -> bool {
    use rusqlite::types::Value;
    let sql = format!("SELECT {column} FROM {table} WHERE id = {id}");
    let mut value: Value = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
    let mut is_text = false;
    match &mut value {
        Value::Null => return false,
        Value::Integer(number) => *number ^= 1_i64 << ((at % 8) * 8 + usize::from(bit % 8)),
        Value::Text(text) => {
            is_text = true;
            let mut bytes = text.clone().into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
            value = Value::Blob(bytes);
        }
        Value::Blob(bytes) => {
            let at = at % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
        }
        Value::Real(_) => unreachable!(),
    }
    let set = if is_text { "CAST(?1 AS TEXT)" } else { "?1" };
    let sql = format!("UPDATE {table} SET {column} = {set} WHERE id = {id}");
    // A number that is taken cannot be given twice.
    connection.execute(&sql, [value]).is_ok()
}

/// Flips a bit of one byte of a column of a record, verifies, and puts the file back. `false`: there was no byte to flip.
fn is_named_rightly(log: &Log, whole: &[u8], id: i64, column: &str, at: usize, bit: u8) -> bool {
    let stranger = log.home.intruder();
    let is_flipped = flip(&stranger, "audit_records", column, id, at, bit);
    drop(stranger);
    if is_flipped {
        let report = log.verify();
        let expected = if column == "id" {
            // The record is gone from its place, and stands where none was written.
            let number = id ^ (1_i64 << ((at % 8) * 8 + usize::from(bit % 8)));
            let gone = if id == RECORDS {
                FindingKind::Truncated
            } else {
                FindingKind::Missing
            };
            vec![(FindingKind::Inserted, Some(number)), (gone, Some(id))]
        } else {
            vec![(FindingKind::Altered, Some(id))]
        };
        let mut list = found(&report);
        list.sort_unstable_by_key(|(kind, _)| *kind != FindingKind::Inserted);
        assert_eq!(list, expected, "{column} of {id}, byte {at}, bit {bit}");
        std::fs::write(log.home.path(), whole).unwrap();
    }
    is_flipped
}

#[tokio::test]
async fn any_byte_of_any_column_of_any_record() {
    let log = Log::of(RECORDS).await;
    let whole = std::fs::read(log.home.path()).unwrap();
    let mut random = randomness();
    let mut flipped = BTreeMap::<&str, u32>::new();
    while flipped.values().sum::<u32>() < 300 {
        let id = 1 + i64::from(random.next_u32()) % RECORDS;
        let column = COLUMNS[random.next_u32() as usize % COLUMNS.len()];
        let (at, bit) = (random.next_u32() as usize, (random.next_u32() % 8) as u8);
        if is_named_rightly(&log, &whole, id, column, at, bit) {
            *flipped.entry(column).or_default() += 1;
        }
    }
    assert_eq!(flipped.len(), COLUMNS.len(), "{flipped:?}");
    assert!(log.verify().ok);
}

/// `cargo test --release --lib any_byte_of_every -- --ignored`: some minutes.
#[tokio::test]
#[ignore = "takes minutes"]
async fn any_byte_of_every_column_of_every_record() {
    let log = Log::of(RECORDS).await;
    let whole = std::fs::read(log.home.path()).unwrap();
    let mut random = randomness();
    for id in 1..=RECORDS {
        for column in COLUMNS {
            let (at, bit) = (random.next_u32() as usize, (random.next_u32() % 8) as u8);
            is_named_rightly(&log, &whole, id, column, at, bit);
        }
    }
}

#[tokio::test]
async fn any_byte_of_what_was_signed() {
    let log = Log::of(40).await;
    let whole = std::fs::read(log.home.path()).unwrap();
    let rows: i64 = log
        .home
        .stranger()
        .query_row("SELECT max(id) FROM audit_checkpoints", [], |row| {
            row.get(0)
        })
        .unwrap();
    for id in 1..=rows {
        for column in ["id", "size", "note", "frontier"] {
            for at in (0..220).step_by(3) {
                let stranger = log.home.intruder();
                let is_flipped = flip(
                    &stranger,
                    "audit_checkpoints",
                    column,
                    id,
                    at,
                    u8::try_from(at % 8).unwrap(),
                );
                drop(stranger);
                if !is_flipped {
                    continue;
                }
                let report = log.verify();
                let kinds: Vec<_> = found(&report).into_iter().map(|(kind, _)| kind).collect();
                assert!(
                    kinds.contains(&FindingKind::CheckpointInvalid)
                        && kinds
                            .iter()
                            .all(|kind| *kind == FindingKind::CheckpointInvalid),
                    "{column} of {id} at {at}: {report:?}"
                );
                std::fs::write(log.home.path(), &whole).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn each_thing_that_a_tool_for_sql_can_do_is_called_by_its_name() {
    use FindingKind::{Altered, CheckpointInvalid, Inserted, Missing, RolledBack, Truncated};
    let log = Log::of(RECORDS).await;
    let copy = "(id, created_at, kind, call_sid, personal, detail, previous_hash, hash)";
    let shift = "UPDATE audit_records SET id = -id WHERE id > 500;
                 UPDATE audit_records SET id = 1 - id WHERE id < 0;";
    let swap = |a: i64, b: i64| {
        format!(
            "UPDATE audit_records SET id = -1 WHERE id = {a};
             UPDATE audit_records SET id = {a} WHERE id = {b};
             UPDATE audit_records SET id = {b} WHERE id = -1;"
        )
    };
    let cases: Vec<(String, Found)> = vec![
        ("DELETE FROM audit_records WHERE id = 500".into(), vec![(Missing, Some(500))]),
        ("DELETE FROM audit_records WHERE id = 1".into(), vec![(Missing, Some(1))]),
        ("DELETE FROM audit_records WHERE id BETWEEN 300 AND 400".into(), vec![(Missing, Some(300))]),
        ("DELETE FROM audit_records WHERE id IN (5, 7, 900)".into(), vec![(Missing, Some(5)), (Missing, Some(7)), (Missing, Some(900))]),
        ("DELETE FROM audit_records WHERE id > 990".into(), vec![(Truncated, Some(991))]),
        ("DELETE FROM audit_records WHERE id = 1000".into(), vec![(Truncated, Some(1000))]),
        ("DELETE FROM audit_records".into(), vec![(Truncated, Some(1))]),
        (swap(200, 700), vec![(Altered, Some(200)), (Altered, Some(700))]),
        // Rows of the same finding one after another are one finding.
        (swap(200, 201), vec![(Altered, Some(200))]),
        (swap(999, 1000), vec![(Altered, Some(999))]),
        // What was moved is gone from its place, and was never written where it is.
        ("UPDATE audit_records SET id = 5000 WHERE id = 500".into(), vec![(Missing, Some(500)), (Inserted, Some(5000))]),
        ("UPDATE audit_records SET id = -5 WHERE id = 500".into(), vec![(Inserted, Some(-5)), (Missing, Some(500))]),
        ("UPDATE audit_records SET id = 5000 WHERE id = 1000".into(), vec![(Inserted, Some(5000)), (Truncated, Some(1000))]),
        ("UPDATE audit_records SET id = id + 5000 WHERE id > 500".into(), vec![(Inserted, Some(5501)), (Truncated, Some(501))]),
        // Behind what was signed.
        (format!("INSERT INTO audit_records {copy} VALUES (1001, 5, 'call_answered', NULL, NULL, '{{}}', zeroblob(32), zeroblob(32))"), vec![(Inserted, Some(1001))]),
        // A copy of a record at the end.
        (format!("INSERT INTO audit_records {copy} SELECT 1001, created_at, kind, call_sid, personal, detail, previous_hash, hash FROM audit_records WHERE id = 700"), vec![(Inserted, Some(1001))]),
        // Before the first.
        (format!("INSERT INTO audit_records {copy} VALUES (0, 5, 'call_answered', NULL, NULL, '{{}}', zeroblob(32), zeroblob(32))"), vec![(Inserted, Some(0))]),
        // In the middle, with everything behind it moved up: nothing there is what was written, and at the end is one more than was.
        (format!("{shift} INSERT INTO audit_records {copy} SELECT 501, created_at, kind, call_sid, personal, detail, previous_hash, hash FROM audit_records WHERE id = 500"), vec![(Altered, Some(501)), (Inserted, Some(1001))]),
        (format!("{shift} INSERT INTO audit_records {copy} VALUES (501, 5, 'call_answered', NULL, NULL, '{{}}', zeroblob(32), zeroblob(32))"), vec![(Altered, Some(501)), (Inserted, Some(1001))]),
        // A record and what follows moved down over one that is deleted.
        ("DELETE FROM audit_records WHERE id = 500; UPDATE audit_records SET id = id - 1 WHERE id > 500".into(), vec![]),
        ("UPDATE audit_records SET call_sid = NULL WHERE id = 2".into(), vec![(Altered, Some(2))]),
        ("UPDATE audit_records SET personal = NULL WHERE id = 2".into(), vec![(Altered, Some(2))]),
        ("UPDATE audit_records SET personal = x'' WHERE id = 1".into(), vec![(Altered, Some(1))]),
        ("UPDATE audit_records SET detail = detail || ' ' WHERE id = 1000".into(), vec![(Altered, Some(1000))]),
        ("UPDATE audit_records SET detail = '{}' WHERE id BETWEEN 10 AND 12".into(), vec![(Altered, Some(10))]),
        ("UPDATE prune_gate SET through_id = 100".into(), vec![(CheckpointInvalid, Some(100))]),
        ("UPDATE prune_gate SET through_hash = (SELECT hash FROM audit_records WHERE id = 100)".into(), vec![(CheckpointInvalid, Some(0))]),
        ("UPDATE prune_gate SET through_id = 100, through_hash = (SELECT hash FROM audit_records WHERE id = 100); DELETE FROM audit_records WHERE id <= 100".into(), vec![(CheckpointInvalid, Some(100)), (Missing, Some(1))]),
        // A checkpoint cannot stand for a cut.
        ("UPDATE prune_gate SET through_id = (SELECT size FROM audit_checkpoints WHERE id = 2);
          INSERT INTO audit_cuts (id, note, frontier) SELECT 1, note, x'00' FROM audit_checkpoints WHERE id = 2;
          DELETE FROM audit_records WHERE id <= (SELECT through_id FROM prune_gate)".into(), vec![(CheckpointInvalid, Some(253)), (Missing, Some(1))]),
        ("DELETE FROM audit_checkpoints".into(), vec![(CheckpointInvalid, None)]),
        ("DELETE FROM audit_checkpoints WHERE id = 2".into(), vec![(CheckpointInvalid, None)]),
        ("DELETE FROM audit_checkpoints WHERE id = 1".into(), vec![(CheckpointInvalid, None)]),
        // The end with all that was signed over it.
        ("DELETE FROM audit_records WHERE id > 900; DELETE FROM audit_checkpoints WHERE size > 900".into(), vec![]),
        ("UPDATE log_identity SET log_id = 'ffffffffffffffffffffffffffffffff'".into(), vec![]),
    ];
    for (sql, expected) in cases {
        let report = log.after(&sql);
        assert!(!report.ok, "{sql}");
        if expected.is_empty() {
            // Found, and by more than one name.
            continue;
        }
        let mut list = found(&report);
        list.truncate(8);
        assert_eq!(list, expected, "{sql}: {:#?}", report.findings.first());
    }
    let names = |sql: &str| -> Vec<FindingKind> {
        found(&log.after(sql))
            .into_iter()
            .map(|(kind, _)| kind)
            .collect()
    };
    // Nobody can tell a record that was taken out, with all that follows renumbered, from one that was changed; but it is gone.
    let closed_up = names(
        "DELETE FROM audit_records WHERE id = 500; UPDATE audit_records SET id = id - 1 WHERE id > 500",
    );
    assert!(closed_up.contains(&Truncated), "{closed_up:?}");
    let renamed = names("UPDATE log_identity SET log_id = 'ffffffffffffffffffffffffffffffff'");
    assert!(
        renamed.contains(&CheckpointInvalid) && renamed.contains(&RolledBack),
        "{renamed:?}"
    );
    // The head beside the database tells that the end is gone, and so does an anchor.
    let end = "DELETE FROM audit_records WHERE id > 900; DELETE FROM audit_checkpoints WHERE size > 900;
               UPDATE audit_checkpoints SET frontier = x'00' WHERE id = (SELECT max(id) FROM audit_checkpoints)";
    assert!(names(end).contains(&RolledBack));
    assert!(log.verify().ok);
}

/// Recomputes every hash from `from` on, as whoever changed a record would.
pub(super) fn rehash(path: &Path, from: i64) {
    let connection = intruder(path);
    let rows: Vec<RawRecord> = crate::store::audit_records::after(&connection, 0, 100_000).unwrap();
    let mut link = ChainLink::GENESIS;
    let transaction = connection.unchecked_transaction().unwrap();
    for mut row in rows {
        if row.id >= from {
            row.previous_hash = link.hash;
            row.hash = link.append(&row.content()).hash;
            let sql = "UPDATE audit_records SET previous_hash = ?2, hash = ?3 WHERE id = ?1";
            transaction
                .execute(sql, rusqlite::params![row.id, row.previous_hash, row.hash])
                .unwrap();
        }
        link = ChainLink {
            id: row.id,
            hash: row.hash,
        };
    }
    transaction.commit().unwrap();
}

/// Signs what is there with another key, as if it had never been otherwise.
pub(super) fn resign(path: &Path, key: &LogSigningKey) {
    let connection = intruder(path);
    let hashes: Vec<[u8; 32]> = crate::store::audit_records::after(&connection, 0, 100_000)
        .unwrap()
        .into_iter()
        .map(|row| row.hash)
        .collect();
    let mut statement = connection
        .prepare("SELECT id, size FROM audit_checkpoints ORDER BY id")
        .unwrap();
    let rows: Vec<(i64, i64)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let newest = rows.last().unwrap().0;
    for (id, size) in rows {
        let mut range = CompactRange::default();
        for hash in &hashes[..usize::try_from(size).unwrap()] {
            range.append(hash);
        }
        let note = key.sign(&Statement {
            subject: NoteSubject::Checkpoint,
            size: range.size(),
            root: range.root(),
        });
        let tree = (id == newest).then(|| range.to_bytes());
        connection
            .execute(
                "UPDATE audit_checkpoints SET note = ?2, frontier = ?3 WHERE id = ?1",
                rusqlite::params![id, note, tree],
            )
            .unwrap();
    }
}

#[tokio::test]
async fn a_log_that_was_computed_anew_fails_on_what_was_signed() {
    let log = Log::of(RECORDS).await;
    let path = log.home.path();
    let whole = std::fs::read(&path).unwrap();
    let anchor = log.head();
    let head = std::fs::read(head_path(&path)).unwrap();
    std::fs::remove_file(head_path(&path)).unwrap();
    let change = |sql: &str| log.home.intruder().execute_batch(sql).unwrap();

    // The hashes alone: the signature over the old ones stands there still.
    change("UPDATE audit_records SET detail = '{}' WHERE id = 400");
    rehash(&path, 400);
    let report = log.verify();
    assert_eq!(
        found(&report),
        [(FindingKind::Altered, Some(254))],
        "{report:#?}"
    );
    // Only the record and its own hash: the next record names what it was.
    std::fs::write(&path, &whole).unwrap();
    change("UPDATE audit_records SET detail = '{}' WHERE id = 400");
    let row = &crate::store::audit_records::after(&log.home.stranger(), 399, 1).unwrap()[0];
    let hash = ChainLink {
        id: 399,
        hash: row.previous_hash,
    }
    .append(&row.content())
    .hash;
    log.home
        .intruder()
        .execute("UPDATE audit_records SET hash = ?1 WHERE id = 400", [hash])
        .unwrap();
    assert_eq!(found(&log.verify()), [(FindingKind::Altered, Some(400))]);

    // Everything, with another key: it fails on the key that is trusted, and on the anchor.
    let other = LogSigningKey::read(log.key.log_id(), &hex::encode([9; 32])).unwrap();
    std::fs::write(&path, &whole).unwrap();
    change("UPDATE audit_records SET detail = '{}' WHERE id = 400");
    rehash(&path, 400);
    resign(&path, &other);
    let report = log.verify();
    assert!(
        !report.ok
            && found(&report)
                .iter()
                .all(|(kind, _)| *kind == FindingKind::CheckpointInvalid),
        "{report:#?}"
    );
    let kinds = |report: &VerifyReport| {
        found(report)
            .into_iter()
            .map(|(kind, _)| kind)
            .collect::<Vec<_>>()
    };
    assert!(kinds(&log.verify_with(anchor.clone())).contains(&FindingKind::AnchorMismatch));
    // The record that names the key changed with it: the log is whole by itself, and not by the key that is trusted.
    let named = serde_json::json!({ "key": other.public().to_line() }).to_string();
    log.home
        .intruder()
        .execute("UPDATE audit_records SET detail = ?1 WHERE id = 1", [named])
        .unwrap();
    rehash(&path, 1);
    resign(&path, &other);
    let report = log.verify();
    assert_eq!(
        found(&report),
        [(FindingKind::CheckpointInvalid, None)],
        "{report:#?}"
    );
    let untrusting = Verification::open(Against {
        key: None,
        ..log.against()
    })
    .unwrap();
    let report = untrusting.run(|_| {}).unwrap();
    assert!(
        report.ok && !report.key_is_trusted && !report.remarks.is_empty(),
        "{report:#?}"
    );
    assert!(kinds(&log.verify_with(anchor.clone())).contains(&FindingKind::AnchorMismatch));
    // With the very key: only what left the machine contradicts it.
    std::fs::write(&path, &whole).unwrap();
    change("UPDATE audit_records SET detail = '{}' WHERE id = 400");
    rehash(&path, 400);
    resign(&path, &log.secret);
    assert!(log.verify().ok);
    let report = log.verify_with(anchor.clone());
    assert_eq!(
        found(&report),
        [(FindingKind::AnchorMismatch, Some(RECORDS))]
    );
    std::fs::write(head_path(&path), head).unwrap();
    assert_eq!(
        found(&log.verify()),
        [(FindingKind::RolledBack, Some(RECORDS))]
    );
}

#[tokio::test]
async fn an_older_file_and_another_log_contradict_the_anchor() {
    let log = Log::of(100).await;
    let older = std::fs::read(log.home.path()).unwrap();
    let store = log.home.open();
    let signer = CheckpointSigner::begin(
        &store,
        LogSigningKey::read(log.key.log_id(), &hex::encode([1; 32])).unwrap(),
        &[],
    )
    .await;
    store
        .append(vec![service_record(1), service_record(2)])
        .await
        .unwrap();
    signer.sign(true).await;
    store.close().await;
    drop((store, signer));
    let anchor = log.head();
    assert_eq!(anchor.records, 102);
    assert!(log.verify_with(anchor.clone()).ok);
    std::fs::write(log.home.path(), older).unwrap();
    assert_eq!(found(&log.verify()), [(FindingKind::RolledBack, Some(101))]);
    std::fs::remove_file(head_path(&log.home.path())).unwrap();
    assert!(log.verify().ok, "nothing in the file itself can tell");
    assert_eq!(
        found(&log.verify_with(anchor.clone())),
        [(FindingKind::RolledBack, Some(101))]
    );
    let forged = SignedTreeHead {
        note: anchor.note.replace("102", "100"),
        records: 100,
        ..anchor
    };
    assert!(found(&log.verify_with(forged)).contains(&(FindingKind::AnchorMismatch, None)));
    let other = Log::of(102).await;
    let report = log.verify_with(other.head());
    assert!(
        found(&report).contains(&(FindingKind::AnchorMismatch, None)),
        "{report:#?}"
    );
}

/// A byte of the file itself: it is found, or the records are what they were (free pages, indexes, other tables).
#[tokio::test]
async fn a_byte_of_the_file() {
    let log = Log::of(120).await;
    let whole = std::fs::read(log.home.path()).unwrap();
    // As whoever only reads sees them: a trigger whose text is broken stops writers alone.
    let records = |home: &Home| {
        let reader = connection::open_reader(&home.path()).map_err(|error| error.to_string())?;
        crate::store::audit_records::after(&reader, 0, 1_000).map_err(|error| error.to_string())
    };
    let before = records(&log.home);
    let mut random = randomness();
    let mut n_found = 0;
    for _ in 0..150 {
        let mut bytes = whole.clone();
        let at = random.next_u32() as usize % bytes.len();
        bytes[at] ^= 1 << (random.next_u32() % 8);
        std::fs::write(log.home.path(), &bytes).unwrap();
        let is_found = match Verification::open(log.against()) {
            Ok(verification) => !verification.run(|_| {}).unwrap().ok,
            Err(_) => true,
        };
        n_found += u32::from(is_found);
        if is_found {
            continue;
        }
        let after = records(&log.home);
        let differ = before.iter().flatten().zip(after.iter().flatten());
        let differ: Vec<_> = differ.filter(|(a, b)| a != b).collect();
        assert!(
            after == before,
            "byte {at} of {}: {:?}: {differ:?}",
            bytes.len(),
            after.as_ref().map(Vec::len),
        );
    }
    assert!(n_found > 20, "{n_found}");
}

//! Records that wait in the spool: through a failing disk, the end of the process, damage and a full spool.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::*;
use crate::store::{RecordCounts, StoreError};

/// Somebody else holds the lock until this is dropped.
fn held(home: &Home) -> Connection {
    let stranger = home.stranger();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    stranger
}

async fn spooled(store: &Store, records: Vec<Record>) {
    let deferred = store.append(records).await;
    assert!(matches!(deferred, Err(StoreError::Deferred)));
}

/// Waits until everything is in the database.
async fn drained(store: &Store) {
    let is_so = |health: &crate::store::StoreHealth| health.failing_since.is_none();
    assert_eq!(store.health_when(is_so).await.backlog, 0);
}

fn times(records: &[RawRecord]) -> Vec<i64> {
    records
        .iter()
        .map(|record| record.created_at - START_MS)
        .collect()
}

fn is_marked(record: &RawRecord) -> bool {
    let detail: serde_json::Value = serde_json::from_str(&record.detail).unwrap();
    detail["spooled"] == true
}

/// What a killed process leaves behind.
fn left_behind(home: &Home) -> Home {
    let after = Home::new();
    for file in home.files("switchboard.db") {
        let name = file.file_name().unwrap();
        std::fs::copy(&file, after.folder.path().join(name)).unwrap();
    }
    after
}

#[tokio::test]
async fn what_the_spool_holds_when_the_process_ends_is_written_first_at_the_next_start() {
    let home = Home::new();
    let store = home.open();
    store.append(vec![service_record(0)]).await.unwrap();
    let lock = held(&home);
    let call = call_id("CA1");
    let opened = store
        .open_call(vec![decided(&call, 1), intended(&call, 2)])
        .await;
    assert!(matches!(opened, Err(StoreError::Deferred)));
    spooled(
        &store,
        vec![answered(&call, "inbound", "<Response/>", dialing(), 3)],
    )
    .await;
    let after = left_behind(&home);
    drop(lock);
    store.close().await;

    let store = after.open();
    assert_eq!(store.health().backlog, 0);
    store.append(vec![service_record(4)]).await.unwrap();
    let records = verified(&store).await;
    assert_eq!(times(&records), [0, 1, 2, 3, 4]);
    let marked: Vec<_> = records.iter().map(is_marked).collect();
    assert_eq!(marked, [false, true, true, true, false]);
    let stored = store.call(&call).await.unwrap().unwrap();
    assert_eq!(stored.personal.caller.as_deref(), Some("+4915112345650"));
    assert_eq!(
        store.answer(&call, "inbound").await.unwrap().as_deref(),
        Some("<Response/>")
    );
    let RecordCounts {
        accepted, stored, ..
    } = store.health().counts;
    assert_eq!((accepted, stored), (4, 4));
    store.close().await;
}

#[tokio::test]
async fn what_is_in_the_spool_and_in_the_database_is_written_once() {
    let home = Home::new();
    let store = home.open();
    let lock = held(&home);
    for ms in 0..4 {
        spooled(&store, vec![service_record(ms)]).await;
    }
    let before_draining = std::fs::read(home.path().with_extension("db.spool")).unwrap();
    drop(lock);
    drained(&store).await;
    store.close().await;
    // The process ended between the commit and the emptying of the spool.
    std::fs::write(home.path().with_extension("db.spool"), before_draining).unwrap();
    let store = home.open();
    store.append(vec![service_record(4)]).await.unwrap();
    assert_eq!(times(&verified(&store).await), [0, 1, 2, 3, 4]);
    store.close().await;
}

#[tokio::test]
async fn nobody_reads_a_number_or_an_answer_in_the_spool() {
    let home = Home::new();
    let store = home.open();
    let lock = held(&home);
    let call = call_id("CA1");
    let opened = store.open_call(vec![decided(&call, 0)]).await;
    assert!(matches!(opened, Err(StoreError::Deferred)));
    let bytes = std::fs::read(home.path().with_extension("db.spool")).unwrap();
    assert!(bytes.windows(4).any(|four| four == b"SPFR"));
    for secret in [b"4915112345650".as_slice(), b"CA1", b"call_decided"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
    drop(lock);
    drained(&store).await;
    let bytes = std::fs::read(home.path().with_extension("db.spool")).unwrap();
    assert!(
        !bytes.windows(4).any(|four| four == b"SPFR"),
        "it is emptied"
    );
    assert_eq!(bytes.len(), 1024 * 1024, "and its room is kept");
    store.close().await;
}

#[tokio::test]
async fn a_damaged_place_costs_the_records_in_it_and_no_others() {
    let home = Home::new();
    let store = home.open();
    let lock = held(&home);
    for ms in 0..3 {
        spooled(&store, vec![service_record(ms)]).await;
    }
    let after = left_behind(&home);
    drop(lock);
    store.close().await;
    let path = after.path().with_extension("db.spool");
    let bytes = std::fs::read(&path).unwrap();
    let starts: Vec<_> = (0..bytes.len() - 4)
        .filter(|at| &bytes[*at..at + 4] == b"SPFR")
        .collect();
    assert_eq!(starts.len(), 3);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"damage", starts[1] as u64 + 40).unwrap();
    let store = after.open();
    assert_eq!(times(&verified(&store).await), [0, 2]);
    store.close().await;
}

#[tokio::test]
async fn a_full_spool_leaves_memory_and_log_lines_and_order_is_kept() {
    let home = Home::new();
    let options = Options {
        spool_bytes: 64 * 1024,
        ..home.options()
    };
    let store = Store::open(&options).unwrap();
    let lock = held(&home);
    for ms in 0..600 {
        spooled(&store, vec![service_record(ms)]).await;
    }
    let RecordCounts {
        spooled, waiting, ..
    } = store.health().counts;
    assert!(spooled > 100 && waiting > 100, "{spooled} and {waiting}");
    assert_eq!(spooled + waiting, 600);
    drop(lock);
    drained(&store).await;
    let records = verified(&store).await;
    assert_eq!(times(&records), (0..600).collect::<Vec<_>>());
    let counts = store.health().counts;
    assert_eq!(
        (counts.stored, counts.lost, counts.unaccounted()),
        (600, 0, 0)
    );
    store.close().await;
}

#[tokio::test]
async fn the_spool_of_another_secret_is_put_aside_and_not_destroyed() {
    let home = Home::new();
    let store = home.open();
    let lock = held(&home);
    spooled(&store, vec![service_record(0)]).await;
    let after = left_behind(&home);
    drop(lock);
    store.close().await;
    // A database that does not know its secret takes any.
    after
        .stranger()
        .execute("DELETE FROM key_checks", [])
        .unwrap();
    let other = Options {
        key_ring: KeyRing::new(b"another"),
        path: after.path(),
        spool: after.path().with_extension("db.spool"),
        ..home.options()
    };
    let store = Store::open(&other).unwrap();
    assert_eq!(verified(&store).await.len(), 0);
    store.close().await;
    assert_eq!(after.files(".db.spool").len(), 2);
}

#[tokio::test]
async fn without_a_spool_records_wait_in_memory() {
    let home = Home::new();
    std::fs::create_dir(home.path().with_extension("db.spool")).unwrap();
    let store = home.open();
    assert!(store.health().spool_problem.is_some());
    let lock = held(&home);
    spooled(&store, vec![service_record(0)]).await;
    assert_eq!(store.health().counts.waiting, 1);
    drop(lock);
    drained(&store).await;
    assert_eq!(verified(&store).await.len(), 1);
    store.close().await;
}

fn stalls(transaction: rusqlite::Transaction<'_>) -> rusqlite::Result<()> {
    let (_hold, wait) = std::sync::mpsc::channel::<()>();
    assert!(wait.recv_timeout(Duration::from_millis(1_500)).is_err());
    transaction.commit()
}

#[tokio::test]
async fn a_commit_that_takes_too_long_keeps_nobody_waiting_and_is_not_repeated() {
    let home = Home::new();
    let options = Options {
        patience: Duration::from_millis(100),
        ..home.options()
    };
    let store = Store::open(&options).unwrap();
    store.append(vec![service_record(0)]).await.unwrap();
    store.0.faults.send(stalls).await.unwrap();
    let clock = Clock::system();
    let started = clock.instant();
    spooled(&store, vec![service_record(1)]).await;
    spooled(&store, vec![service_record(2)]).await;
    assert!(clock.instant() - started < Duration::from_millis(1_400));
    // Both are safe already.
    let after = left_behind(&home);
    drained(&store).await;
    store.append(vec![service_record(3)]).await.unwrap();
    assert_eq!(times(&verified(&store).await), [0, 1, 2, 3]);
    assert_eq!(store.health().counts.unaccounted(), 0);
    store.close().await;
    let store = after.open();
    assert_eq!(times(&verified(&store).await), [0, 1, 2]);
    store.close().await;
}

#[tokio::test]
async fn the_ballast_is_there_from_the_start() {
    let home = Home::new();
    let store = home.open();
    let reserve = home.path().with_extension("db.ballast");
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 1024 * 1024);
    assert!(!store.health().reserve_missing);
    store.close().await;
}

#[tokio::test]
async fn every_record_is_somewhere_at_every_moment() {
    let home = Home::new();
    let store = home.open();
    let watched = store.clone();
    let watch = tokio::task::spawn_blocking(move || {
        let mut n = 0;
        while watched.health().counts.stored < 400 {
            assert_eq!(watched.health().counts.unaccounted(), 0);
            n += 1;
        }
        n
    });
    for ms in 0..200 {
        store.append(vec![service_record(ms)]).await.unwrap();
    }
    let lock = held(&home);
    for ms in 200..400 {
        spooled(&store, vec![service_record(ms)]).await;
    }
    drop(lock);
    drained(&store).await;
    assert!(watch.await.unwrap() > 100);
    assert_eq!(store.health().problem(), None);
    store.close().await;
    assert!(store.health().problem().is_some());
}

//! When the disk fails, and when one submission does.

use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::Transaction;

use super::*;
use crate::store::{FirstWrite, StoreError};

/// Somebody else holds the lock until this is dropped.
fn held(home: &Home) -> Connection {
    let stranger = home.stranger();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    stranger
}

#[tokio::test]
async fn a_failing_submission_harms_no_other_of_its_batch() {
    let home = Home::new();
    let store = home.open();
    home.stranger()
        .execute_batch(
            "CREATE TRIGGER test_refuse BEFORE INSERT ON calls WHEN NEW.sid LIKE 'CAbad%'
             BEGIN SELECT RAISE(ABORT, 'refused'); END",
        )
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let store = store.clone();
        let is_bad = n % 4 == 0;
        let call = call_id(&format!("{}{n}", if is_bad { "CAbad" } else { "CAgood" }));
        tasks.spawn(async move {
            let opened = store
                .open_call(vec![decided(&call, n), intended(&call, n)])
                .await;
            match opened {
                Ok(FirstWrite::First) => assert!(!is_bad),
                Err(StoreError::Rejected(_)) => assert!(is_bad),
                other => panic!("{other:?}"),
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(verified(&store).await.len(), 60);
    assert_eq!(store.health().lost, 20);
    assert_eq!(store.health().failing_since, None);
    store.close().await;
}

#[tokio::test]
async fn while_the_disk_fails_records_wait_and_are_then_written_in_order() {
    let home = Home::new();
    let store = home.open();
    store.append(vec![service_record(0)]).await.unwrap();
    let lock = held(&home);
    let call = call_id("CA1");
    let opened = store.open_call(vec![decided(&call, 1)]).await;
    assert!(matches!(opened, Err(StoreError::Deferred)));
    for ms in 2..6 {
        let deferred = store.append(vec![intended(&call, ms)]).await;
        assert!(matches!(deferred, Err(StoreError::Deferred)));
    }
    let health = store.health_when(|health| health.backlog == 5).await;
    assert_eq!(health.failing_since, Some(at(0)));
    assert!(health.last_error.unwrap().contains("locked"));
    // Readers are not concerned.
    assert_eq!(store.counts().await.unwrap().records, 1);
    drop(lock);
    let health = store
        .health_when(|health| health.failing_since.is_none())
        .await;
    assert_eq!((health.backlog, health.lost), (0, 0));
    store.append(vec![service_record(6)]).await.unwrap();
    let records = verified(&store).await;
    let times: Vec<_> = records
        .iter()
        .map(|record| record.created_at - START_MS)
        .collect();
    assert_eq!(times, [0, 1, 2, 3, 4, 5, 6]);
    assert!(store.call(&call).await.unwrap().is_some());
    store.close().await;
}

#[tokio::test]
async fn a_call_answered_twice_because_the_ledger_could_not_be_asked_is_recorded_twice() {
    // Through the spool, and through memory, from where a submission reaches the batch as what it was.
    for spool_bytes in [1024 * 1024, 0] {
        let home = Home::new();
        let options = Options {
            spool_bytes,
            ..home.options()
        };
        let store = Store::open(&options).unwrap();
        let call = call_id("CA1");
        store.open_call(vec![decided(&call, 0)]).await.unwrap();
        let lock = held(&home);
        let opened = store
            .open_call(vec![decided(&call, 1), intended(&call, 1)])
            .await;
        assert!(matches!(opened, Err(StoreError::Deferred)));
        drop(lock);
        store
            .health_when(|health| health.failing_since.is_none())
            .await;
        let records = verified(&store).await;
        let times: Vec<_> = records
            .iter()
            .map(|record| record.created_at - START_MS)
            .collect();
        assert_eq!(times, [0, 1, 1], "with a spool of {spool_bytes} bytes");
        assert_eq!(newest_calls(&store, 10).await.len(), 1);
        store.close().await;
    }
}

#[tokio::test]
async fn beyond_the_bounds_records_are_refused_and_counted() {
    let home = Home::new();
    let options = Options {
        backlog: 2,
        spool_bytes: 0,
        ..home.options()
    };
    let store = Store::open(&options).unwrap();
    let lock = held(&home);
    for ms in 0..2 {
        let deferred = store.append(vec![service_record(ms)]).await;
        assert!(matches!(deferred, Err(StoreError::Deferred)));
    }
    let refused = store
        .append(vec![service_record(2), service_record(3)])
        .await;
    assert!(matches!(refused, Err(StoreError::Full)));
    assert_eq!(store.health().lost, 2);
    drop(lock);
    store
        .health_when(|health| health.failing_since.is_none())
        .await;
    assert_eq!(verified(&store).await.len(), 2);
    assert_eq!(store.health().counts.unaccounted(), 0);
    store.close().await;
}

#[tokio::test]
async fn what_has_no_place_at_the_end_is_counted_as_lost() {
    let home = Home::new();
    let options = Options {
        spool_bytes: 0,
        ..home.options()
    };
    let store = Store::open(&options).unwrap();
    let lock = held(&home);
    let deferred = store.append(vec![service_record(0)]).await;
    assert!(matches!(deferred, Err(StoreError::Deferred)));
    store.close().await;
    let health = store.health();
    assert_eq!((health.lost, health.running), (1, false));
    let closed = store.append(vec![service_record(1)]).await;
    assert!(matches!(closed, Err(StoreError::Closed)));
    assert_eq!(store.health().lost, 2);
    drop(lock);
}

#[tokio::test]
async fn what_cannot_be_written_at_the_end_waits_in_the_spool() {
    let home = Home::new();
    let store = home.open();
    let lock = held(&home);
    let deferred = store.append(vec![service_record(0)]).await;
    assert!(matches!(deferred, Err(StoreError::Deferred)));
    store.close().await;
    assert_eq!(store.health().lost, 0);
    drop(lock);
    let store = home.open();
    assert_eq!(verified(&store).await.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn work_that_is_no_record_is_refused_while_the_disk_fails() {
    let home = Home::new();
    let store = home.open();
    let lock = held(&home);
    let phone = crate::phone::E164::parse("+4915112345650").unwrap();
    let refused = store.delete_profile(phone).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    drop(lock);
    // Nothing waits, and that the disk works again is found out all the same.
    store
        .health_when(|health| health.failing_since.is_none())
        .await;
    store.beat().await.unwrap();
    store.close().await;
}

fn happens_and_reports_an_error(transaction: Transaction<'_>) -> rusqlite::Result<()> {
    transaction.commit()?;
    Err(rusqlite::Error::InvalidQuery)
}

pub(super) fn fails(transaction: Transaction<'_>) -> rusqlite::Result<()> {
    transaction.rollback()?;
    Err(rusqlite::Error::InvalidQuery)
}

#[tokio::test]
async fn a_commit_that_happened_in_spite_of_its_error_is_not_repeated() {
    let home = Home::new();
    let store = home.open();
    store.append(vec![service_record(0)]).await.unwrap();
    store
        .0
        .faults
        .send(happens_and_reports_an_error)
        .await
        .unwrap();
    let call = call_id("CA1");
    assert_eq!(
        store.open_call(vec![decided(&call, 1)]).await.unwrap(),
        FirstWrite::First
    );
    store.append(vec![service_record(2)]).await.unwrap();
    assert_eq!(verified(&store).await.len(), 3);
    assert_eq!(store.health().failing_since, None);
    store.close().await;
}

/// As a commit whose sync failed: it happened, and nobody knows whether it is on the disk.
fn happens_and_is_not_synchronized(transaction: Transaction<'_>) -> rusqlite::Result<()> {
    transaction.commit()?;
    Err(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC),
        None,
    ))
}

#[tokio::test]
async fn a_commit_whose_sync_failed_counts_when_a_checkpoint_has_written_it_once_more() {
    for (fault, is_checkpointed) in [
        (
            happens_and_is_not_synchronized as fn(Transaction<'_>) -> rusqlite::Result<()>,
            true,
        ),
        (happens_and_reports_an_error, false),
    ] {
        let home = Home::new();
        let store = home.open();
        store.0.faults.send(fault).await.unwrap();
        // What is in the write-ahead log alone is lost here.
        store.append(vec![service_record(0)]).await.unwrap();
        let file = home.folder.path().join("alone.db");
        std::fs::copy(home.path(), &file).unwrap();
        let alone = Connection::open(&file).unwrap();
        let records: i64 = alone
            .query_row("SELECT count(*) FROM audit_records", [], |row| row.get(0))
            .unwrap();
        assert_eq!(records == 1, is_checkpointed);
        store.close().await;
    }
}

static WAITS_MS: AtomicI64 = AtomicI64::new(0);

fn says_how_long_it_waits(transaction: Transaction<'_>) -> rusqlite::Result<()> {
    let ms = transaction.pragma_query_value(None, "busy_timeout", |row| row.get(0))?;
    WAITS_MS.store(ms, Ordering::SeqCst);
    transaction.commit()
}

#[tokio::test]
async fn after_a_failure_a_lock_is_waited_for_as_long_as_before() {
    let home = Home::new();
    let store = home.open();
    store.0.faults.send(fails).await.unwrap();
    let deferred = store.append(vec![service_record(0)]).await;
    assert!(matches!(deferred, Err(StoreError::Deferred)));
    store
        .health_when(|health| health.failing_since.is_none())
        .await;
    store.0.faults.send(says_how_long_it_waits).await.unwrap();
    store.append(vec![service_record(1)]).await.unwrap();
    assert_eq!(WAITS_MS.load(Ordering::SeqCst), 250);
    store.close().await;
}

#[tokio::test]
async fn a_commit_that_did_not_happen_is_repeated() {
    let home = Home::new();
    let store = home.open();
    store.append(vec![service_record(0)]).await.unwrap();
    for _ in 0..3 {
        store.0.faults.send(fails).await.unwrap();
    }
    let deferred = store.append(vec![service_record(1)]).await;
    assert!(matches!(deferred, Err(StoreError::Deferred)));
    store
        .health_when(|health| health.failing_since.is_none())
        .await;
    store.append(vec![service_record(2)]).await.unwrap();
    let records = verified(&store).await;
    assert_eq!(records.len(), 3);
    assert_eq!(records[1].created_at, START_MS + 1);
    store.close().await;
}

#[tokio::test]
async fn after_a_quiet_while_the_write_ahead_log_is_empty() {
    let home = Home::new();
    let store = home.open();
    store.append(vec![service_record(0)]).await.unwrap();
    let wal = home.files("-wal").remove(0);
    assert!(std::fs::metadata(&wal).unwrap().len() > 0);
    let emptied = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        let mut every = tokio::time::interval(std::time::Duration::from_millis(50));
        while std::fs::metadata(&wal).unwrap().len() > 0 {
            every.tick().await;
        }
    });
    emptied.await.unwrap();
    store.append(vec![service_record(1)]).await.unwrap();
    assert_eq!(verified(&store).await.len(), 2);
    store.close().await;
}

#[tokio::test]
async fn a_lock_that_outlasts_the_patience_is_noticed_and_its_end_as_well() {
    let home = Home::new();
    let options = Options {
        patience: std::time::Duration::from_millis(100),
        ..home.options()
    };
    let store = Store::open(&options).unwrap();
    let lock = held(&home);
    assert!(store.beat().await.is_err());
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    drop(lock);
    store
        .health_when(|health| health.failing_since.is_none())
        .await;
    store.append(vec![service_record(0)]).await.unwrap();
    store.close().await;
}

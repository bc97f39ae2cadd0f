//! What may be opened, and how.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::store::migrations::STEPS;
use crate::store::{OpenError, StoreError, connection, examine, migrate, migrations};

#[tokio::test]
async fn a_new_database_is_for_its_owner_only() {
    let home = Home::new();
    let store = home.open();
    store.append(vec![service_record(0)]).await.unwrap();
    for file in home.files("") {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    store.close().await;
    // The file stays as long as a reader has it open.
    for wal in home.files("-wal") {
        assert_eq!(std::fs::metadata(wal).unwrap().len(), 0);
    }
    assert!(home.files(".new").is_empty());
}

#[tokio::test]
async fn a_second_store_on_the_same_file_is_refused() {
    let home = Home::new();
    let store = home.open();
    let in_use = |error: &OpenError| matches!(error, OpenError::InUse { .. });
    assert!(in_use(&Store::open(&home.options()).unwrap_err()));
    let clock = Clock::manual(at(0));
    assert!(in_use(
        &migrate::up(&home.path(), &clock, &key_ring()).unwrap_err()
    ));
    assert!(in_use(&migrate::down(&home.path(), 0, &clock).unwrap_err()));
    store.close().await;
    home.open().close().await;
}

#[tokio::test]
async fn readers_cannot_write() {
    let home = Home::new();
    let store = home.open();
    for sql in ["DELETE FROM calls", "PRAGMA user_version = 9"] {
        let refused = store
            .ask(move |reader| Ok(reader.execute_batch(sql)?))
            .await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{sql}");
    }
    store.close().await;
}

#[test]
fn the_writer_has_the_settings_that_durability_needs() {
    let home = Home::new();
    migrate::up(&home.path(), &Clock::manual(at(0)), &key_ring()).unwrap();
    let writer = connection::open_writer(&home.path(), connection::WRITER_BUSY).unwrap();
    let number = |pragma| {
        writer
            .pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .unwrap()
    };
    for (pragma, wanted) in [
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("recursive_triggers", 1),
        ("trusted_schema", 0),
        ("wal_autocheckpoint", 1_000),
        ("journal_size_limit", 67_108_864),
        ("mmap_size", 0),
        ("auto_vacuum", 2),
        ("busy_timeout", 250),
        ("application_id", 0x5357_4244),
        ("secure_delete", 2),
        ("user_version", newest_schema()),
    ] {
        assert_eq!(number(pragma), wanted, "{pragma}");
    }
    let refused = connection::set(&writer, "synchronous", "NORMAL", "2");
    assert!(matches!(refused, Err(OpenError::Setting { .. })));
}

fn newest_schema() -> i64 {
    migrations::latest(STEPS).into()
}

#[test]
fn what_is_no_database_of_ours_is_refused_and_left_alone() {
    let refusal = |make: &dyn Fn(&Home)| {
        let home = Home::new();
        make(&home);
        let before = std::fs::read(home.path()).ok();
        let error = Store::open(&home.options()).unwrap_err();
        assert_eq!(std::fs::read(home.path()).ok(), before);
        assert!(home.files(".bak").is_empty());
        error
    };
    let newer = refusal(&|home| {
        migrate::up(&home.path(), &Clock::manual(at(0)), &key_ring()).unwrap();
        home.stranger()
            .pragma_update(None, "user_version", 99)
            .unwrap();
    });
    assert!(
        matches!(newer, OpenError::Newer { found: 99, known } if i64::from(known) == newest_schema())
    );
    for version in 2..=8 {
        let development = refusal(&|home| {
            home.stranger()
                .execute_batch(&format!(
                    "PRAGMA application_id = 1398227524; PRAGMA user_version = {version}; CREATE TABLE t (a)"
                ))
                .unwrap();
        });
        assert!(
            matches!(&development, OpenError::Development { found, .. } if *found == version),
            "{development:?}"
        );
    }
    let foreign = refusal(&|home| {
        home.stranger()
            .execute_batch("PRAGMA application_id = 7; CREATE TABLE t (a)")
            .unwrap();
    });
    assert!(matches!(foreign, OpenError::Foreign { found: 7, .. }));
    let empty = refusal(&|home| std::fs::write(home.path(), "").unwrap());
    assert!(matches!(
        empty,
        OpenError::NotADatabase {
            what: "it is empty",
            ..
        }
    ));
    let text = refusal(&|home| std::fs::write(home.path(), "x".repeat(5_000)).unwrap());
    assert!(matches!(text, OpenError::NotADatabase { .. }), "{text:?}");
    let folder = refusal(&|home| std::fs::create_dir(home.path()).unwrap());
    assert!(matches!(folder, OpenError::NotADatabase { .. }));
    let stray = refusal(&|home| {
        std::fs::write(home.folder.path().join("switchboard.db-wal"), "x").unwrap();
    });
    assert!(matches!(stray, OpenError::StrayLog { .. }));
    let home = Home::new();
    let nowhere = Options::new(home.path().join("a/b"), Clock::manual(at(0)), key_ring());
    assert!(matches!(Store::open(&nowhere), Err(OpenError::File { .. })));
}

#[tokio::test]
async fn a_creation_that_was_cut_short_is_begun_again() {
    let home = Home::new();
    std::fs::write(home.folder.path().join("switchboard.db.new"), "half").unwrap();
    let store = home.open();
    store.append(vec![service_record(0)]).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_write_ahead_log_that_vanished_after_a_kill_is_missed() {
    let home = Home::new();
    let store = home.open();
    store.append(vec![service_record(0)]).await.unwrap();
    let after = Home::new();
    for suffix in ["", ".lock", ".spool"] {
        let name = format!("switchboard.db{suffix}");
        let from = home.folder.path().join(&name);
        std::fs::copy(from, after.folder.path().join(&name)).unwrap();
    }
    store.close().await;
    let store = after.open();
    assert!(store.health().wal_missing);
    store.close().await;
    // In good order, there is none to miss.
    for home in [home, after] {
        let store = home.open();
        assert!(!store.health().wal_missing);
        store.close().await;
    }
}

#[tokio::test]
async fn what_is_recorded_in_a_day_is_told_by_the_last_seven_days() {
    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;
    let home = Home::new();
    let store = home.open();
    let once_a_day = (0..10).map(|day| day * DAY_MS);
    let ten_times = (0..70).map(|n| 10 * DAY_MS + n * DAY_MS / 10);
    let records = once_a_day.chain(ten_times).map(service_record).collect();
    store.append(records).await.unwrap();
    store.close().await;
    let growth = |ms| {
        let clock = Clock::stopped(at(ms));
        let found = examine(&home.path(), None, Duration::from_mins(1), &clock);
        found.unwrap().unwrap().growth
    };
    let lately = growth(17 * DAY_MS).unwrap();
    assert_eq!(lately.records_a_day, 10);
    let bytes = std::fs::metadata(home.path()).unwrap().len();
    assert_eq!(lately.bytes_a_day, 70 * bytes / 80 / 7);
    assert_eq!(growth(HOUR_MS - 1), None, "less than an hour tells nothing");
}

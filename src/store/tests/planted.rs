//! A database is not believed because it is there: what was planted in it is refused, or not used and told.

use rusqlite::types::Value;

use super::*;
use crate::audit::{
    Drained, FindingKind, KeyAction, KeyChanged, Kind, ListAction, ListChanged, LogSigningKey,
    PersistedState, Role, SigningState, VerifyReport,
};
use crate::store::copy::{self, CopyError};
use crate::store::verify::{Against, Installation, Verification};
use crate::store::{CheckpointSigner, OpenError, StoredSession, head_path, migrate, rows, schema};

const CALL: &str = "CA00000000000000000000000000000001";

async fn key(store: &Store) -> LogSigningKey {
    LogSigningKey::read(&store.log_id().await.unwrap(), &hex::encode([1; 32])).unwrap()
}

fn session(byte: u8, ms: i64) -> StoredSession {
    StoredSession {
        token_hash: [byte; 32],
        key_hash: [9; 32],
        created_at: at(ms),
        used_at: at(ms),
    }
}

/// A signed log of a call that was answered, with a session and a drained dialer.
async fn served(home: &Home) {
    let store = home.open();
    let signer = CheckpointSigner::begin(&store, key(&store).await, &[]).await;
    let call = call_id(CALL);
    store.open_call(vec![decided(&call, 0)]).await.unwrap();
    let drained = Event::HealthChanged {
        service: "dialfire".into(),
        from: "closed".into(),
        to: "drained".into(),
        cause: "ops".into(),
        standing: PersistedState {
            drained: Some(Drained::new("ops", at(0))),
            open: None,
        },
    };
    store
        .append(vec![
            answered(&call, "inbound", "<Response/>", dialing(), 0),
            Record::of_service(at(0), drained),
        ])
        .await
        .unwrap();
    store.keep_session(session(1, 0)).await.unwrap();
    signer.sign(true).await;
    store.close().await;
}

fn in_place(home: &Home) -> Against {
    Against {
        installation: Some(Installation {
            key_ring: key_ring(),
            now: at(1_000),
            is_in_place: true,
            is_secret_elsewhere: true,
        }),
        ..Against::nothing(&home.path())
    }
}

fn verify(against: Against) -> VerifyReport {
    Verification::open(against).unwrap().run(|_| {}).unwrap()
}

fn kinds(report: &VerifyReport) -> Vec<FindingKind> {
    report.findings.iter().map(|found| found.kind).collect()
}

fn restore(from: &Home, to: &Home) -> Result<copy::RestoreReport, CopyError> {
    copy::restore(
        &from.path(),
        &to.path(),
        &key_ring(),
        true,
        at(0),
        &mut |_, _, _| {},
    )
}

#[tokio::test]
async fn what_is_as_it_was_written_is_believed_everywhere() {
    let home = Home::new();
    served(&home).await;
    let report = verify(in_place(&home));
    assert!(report.ok && report.key_is_trusted, "{report:#?}");
    assert_eq!(report.remarks, [""; 0]);
    let store = home.open();
    assert_eq!(store.sessions().await.unwrap(), [session(1, 0)]);
    assert_eq!(store.dialer_states().await.unwrap().len(), 1);
    assert!(
        store
            .answer(&call_id(CALL), "inbound")
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(store.altered_rows(), None);
    store.close().await;
}

#[tokio::test]
async fn whatever_is_added_to_the_schema_is_refused_but_bare_tables_of_other_programs() {
    let changes = [
        "CREATE TRIGGER planted AFTER INSERT ON calls BEGIN DELETE FROM legs; END",
        "CREATE VIEW planted AS SELECT 1",
        "CREATE INDEX planted ON legs (status)",
        "CREATE TABLE planted (a)",
        "DROP TRIGGER audit_records_refuse_update",
        "DROP INDEX idx_calls_started_at",
        "CREATE VIEW _litestream_seq AS SELECT 1",
        "CREATE TABLE _litestream_lock (id INTEGER); CREATE INDEX planted ON _litestream_lock (id)",
        "CREATE TABLE _litestream_lock (id INTEGER);
         CREATE TRIGGER planted AFTER INSERT ON _litestream_lock BEGIN DELETE FROM legs; END",
        "ALTER TABLE calls ADD COLUMN planted TEXT",
    ];
    for sql in changes {
        let home = Home::new();
        served(&home).await;
        home.stranger().execute_batch(sql).unwrap();
        let before = std::fs::read(home.path()).unwrap();
        let refused = Store::open(&home.options()).unwrap_err();
        assert!(
            matches!(refused, OpenError::SchemaChanged { .. }),
            "{sql}: {refused:?}"
        );
        assert!(refused.to_string().contains("schema_changed"));
        assert_eq!(std::fs::read(home.path()).unwrap(), before, "{sql}");
        let report = verify(in_place(&home));
        assert!(
            kinds(&report).contains(&FindingKind::SchemaChanged),
            "{sql}: {report:#?}"
        );
        let target = Home::new();
        let refused = restore(&home, &target).unwrap_err();
        assert!(
            matches!(refused, CopyError::Open(OpenError::SchemaChanged { .. })),
            "{sql}: {refused:?}"
        );
        assert_eq!(
            target.files("switchboard.db.restored"),
            [""; 0].map(PathBuf::from)
        );
    }
    let home = Home::new();
    served(&home).await;
    home.stranger()
        .execute_batch(
            "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER);
             CREATE TABLE _litestream_lock (id INTEGER);
             ANALYZE;",
        )
        .unwrap();
    assert!(verify(in_place(&home)).ok);
    home.open().close().await;
}

#[test]
fn a_change_that_only_white_space_hides_is_one() {
    let home = Home::new();
    migrate::up(&home.path(), &Clock::manual(at(0)), &key_ring()).unwrap();
    let stranger = home.stranger();
    stranger
        .pragma_update(None, "writable_schema", "ON")
        .unwrap();
    // The line of a comment goes on, and the column behind it with it.
    let changed = stranger
        .execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'of the call overran the budget.' || char(10), 'of the call overran the budget. ')
             WHERE name = 'calls'",
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
    drop(stranger);
    let differences = schema::differences(&home.stranger(), 1, &[]).unwrap();
    assert_eq!(differences, ["table calls is another"]);
}

async fn put_on_a_list(store: &Store) {
    let added = Event::ListChanged(ListChanged {
        list: "vip".into(),
        entry: "e1".into(),
        change: ListAction::Added,
        by: "ops".into(),
        until: None,
    });
    let record = Record {
        personal: Some(Personal {
            caller: Some("+4915112345650".into()),
            ..Personal::default()
        }),
        ..Record::of_service(at(0), added)
    };
    store.append(vec![record]).await.unwrap();
}

async fn make_key(store: &Store) {
    let made = Event::KeyChanged(KeyChanged {
        name: "wall".into(),
        role: Role::Viewer,
        change: KeyAction::Made,
        by: "ops".into(),
        hash: "07".repeat(32),
    });
    let record = Record::of_service(at(0), made);
    store.append(vec![record]).await.unwrap();
}

/// Any change of any column of a row that steers calls or grants rights: the row is not used, is told, and is named.
#[tokio::test]
async fn a_row_that_was_changed_in_any_column_is_not_used_and_named() {
    let home = Home::new();
    served(&home).await;
    let store = home.open();
    announce(&store).await;
    put_on_a_list(&store).await;
    make_key(&store).await;
    store.close().await;
    for table in rows::TABLES {
        let columns: Vec<String> = {
            let stranger = home.stranger();
            let mut statement = stranger
                .prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))
                .unwrap();
            let names = statement.query_map([], |row| row.get(0)).unwrap();
            names.map(Result::unwrap).collect()
        };
        assert!(columns.contains(&"mac".to_owned()), "{table}");
        for column in columns {
            let stranger = home.intruder();
            stranger.pragma_update(None, "foreign_keys", "OFF").unwrap();
            let value: Value = stranger
                .query_row(&format!("SELECT {column} FROM {table}"), [], |row| {
                    row.get(0)
                })
                .unwrap();
            let others = match &value {
                Value::Integer(number) => vec![Value::Integer(number + 1)],
                Value::Real(number) => vec![Value::Real(number + 1.0)],
                Value::Blob(bytes) => {
                    vec![Value::Blob(bytes.iter().map(|byte| byte ^ 1).collect())]
                }
                Value::Null | Value::Text(_) => {
                    vec![
                        Value::Text("planted".into()),
                        Value::Integer(1),
                        Value::Real(1.0),
                    ]
                }
            };
            // The first one that is of the column's type.
            let set = format!("UPDATE {table} SET {column} = ?1");
            assert!(
                others
                    .iter()
                    .any(|other| stranger.execute(&set, [other]).is_ok()),
                "{table}.{column}"
            );
            let report = verify(in_place(&home));
            assert_eq!(
                kinds(&report),
                [FindingKind::ProjectionAltered],
                "{table}.{column}: {report:#?}"
            );
            let store = home.open();
            let is_used = match table {
                "api_keys" => !store.api_keys().await.unwrap().is_empty(),
                "calls" => !newest_calls(&store, 9).await.is_empty(),
                "dialer_states" => !store.dialer_states().await.unwrap().is_empty(),
                "list_entries" => !store.list_entries().await.unwrap().is_empty(),
                "outbox_messages" => !store.messages_of("T1").await.unwrap().is_empty(),
                "sessions" => !store.sessions().await.unwrap().is_empty(),
                other => panic!("{other} has no question here"),
            };
            assert!(!is_used, "{table}.{column}");
            store.close().await;
            stranger.execute(&set, [&value]).unwrap();
        }
    }
    assert!(verify(in_place(&home)).ok);
}

#[tokio::test]
async fn the_answer_to_one_step_is_not_made_that_to_another() {
    let home = Home::new();
    served(&home).await;
    home.intruder()
        .execute_batch(
            "DROP TRIGGER audit_records_refuse_update;
             UPDATE audit_records SET detail = json_set(detail, '$.step', 'dial-1') WHERE kind = 'call_answered';
             CREATE TRIGGER audit_records_refuse_update
BEFORE UPDATE ON audit_records
BEGIN
    SELECT RAISE(ABORT, 'audit_records is append-only');
END;",
        )
        .unwrap();
    let store = home.open();
    let call = call_id(CALL);
    for step in ["inbound", "dial-1"] {
        assert_eq!(store.answer(&call, step).await.unwrap(), None, "{step}");
    }
    store.close().await;
}

async fn announce(store: &Store) {
    let tested = crate::alerts::TestNotification {
        id: "T1".into(),
        by: "ops".into(),
        tell: vec![crate::alerts::Recipient::parse("webhook").unwrap()],
    };
    let event = Event::AlertTested(Box::new(tested));
    store
        .append(vec![Record::of_service(at(0), event)])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_planted_row_is_not_made_good_by_what_is_written_to_it() {
    let home = Home::new();
    served(&home).await;
    home.intruder()
        .execute_batch("UPDATE calls SET reason = 'rule_matched', dialer = 'planted'")
        .unwrap();
    let store = home.open();
    let call = call_id(CALL);
    store
        .append(vec![answered(&call, "dial-1", "<Response/>", dialing(), 5)])
        .await
        .unwrap();
    assert_eq!(store.call(&call).await.unwrap(), None);
    assert_eq!(store.health().unmatched, 1);
    store.keep_session(session(1, 5)).await.unwrap();
    home.intruder()
        .execute_batch("UPDATE sessions SET key_hash = zeroblob(32)")
        .unwrap();
    store.keep_session(session(1, 6)).await.unwrap();
    assert_eq!(store.sessions().await.unwrap(), []);
    let caller = crate::phone::Caller::classify("+4915112345650");
    store.erase(&caller, &[]).await.unwrap();
    store.close().await;
    let report = verify(in_place(&home));
    assert_eq!(
        kinds(&report),
        [FindingKind::ProjectionAltered; 2],
        "{report:#?}"
    );
}

#[tokio::test]
async fn no_session_comes_from_a_backup_or_from_the_future() {
    let home = Home::new();
    served(&home).await;
    let store = home.open();
    store.keep_session(session(2, 86_400_000)).await.unwrap();
    assert_eq!(store.sessions().await.unwrap(), [session(1, 0)]);
    store.close().await;
    assert_eq!(
        kinds(&verify(in_place(&home))),
        [FindingKind::ProjectionAltered]
    );
    let to = home.folder.path().join("copy.db");
    let key_ring = key_ring();
    let manifest = copy::back_up(
        &home.path(),
        &to,
        &key_ring,
        || at(0),
        |_| {},
        &mut |_, _, _| {},
    )
    .unwrap();
    let count = |path: &std::path::Path| -> i64 {
        let sql = "SELECT count(*) FROM sessions";
        Connection::open(path)
            .unwrap()
            .query_row(sql, [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!((count(&home.path()), count(&to)), (2, 0));
    let bytes = std::fs::read(&to).unwrap();
    assert!(!bytes.windows(32).any(|window| window == [1; 32]));
    // A copy that was made by hand has them, and its manifest is none of ours.
    let target = Home::new();
    restore(&home, &target).unwrap();
    assert_eq!(count(&target.path()), 0);
    let described = home.folder.path().join("copy.db.json");
    let forged = copy::Manifest {
        records: 7,
        ..manifest
    };
    std::fs::write(&described, serde_json::to_vec(&forged).unwrap()).unwrap();
    let refused = copy::restore(
        &to,
        &target.path(),
        &key_ring,
        true,
        at(1),
        &mut |_, _, _| {},
    );
    let Err(CopyError::Damaged { finding, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(finding.contains("manifest"), "{finding}");
}

#[tokio::test]
async fn a_record_before_all_numbers_is_found_and_shown_to_nobody() {
    let home = Home::new();
    served(&home).await;
    home.intruder()
        .execute_batch(
            "INSERT INTO audit_records SELECT -9223372036854775808, created_at, kind, call_sid, personal, detail, previous_hash, hash, call_id
             FROM audit_records WHERE kind = 'call_decided'",
        )
        .unwrap();
    let report = verify(in_place(&home));
    assert_eq!(
        report
            .findings
            .iter()
            .map(|found| (found.kind, found.record))
            .collect::<Vec<_>>(),
        [(FindingKind::Inserted, Some(i64::MIN))],
        "{report:#?}"
    );
    let store = home.open();
    let shown = store.records_of_call(&call_id(CALL)).await.unwrap();
    assert!(shown.iter().all(|record| record.id > 0) && shown.len() == 2);
    store.close().await;
}

#[tokio::test]
async fn an_index_that_leaves_a_call_out_is_found() {
    let home = Home::new();
    served(&home).await;
    let stranger = home.intruder();
    // The index is made anew of other rows, and then called what it was called.
    let version: i64 = stranger
        .pragma_query_value(None, "schema_version", |row| row.get(0))
        .unwrap();
    stranger
        .pragma_update(None, "writable_schema", "ON")
        .unwrap();
    stranger
        .execute_batch(&format!(
            "CREATE TABLE aside AS SELECT sql FROM sqlite_schema WHERE name = 'idx_audit_records_call_id';
             UPDATE sqlite_schema SET sql = sql || ' AND kind <> ''call_answered''' WHERE name = 'idx_audit_records_call_id';
             PRAGMA schema_version = {};",
            version + 5
        ))
        .unwrap();
    drop(stranger);
    let stranger = home.intruder();
    stranger
        .execute_batch("REINDEX idx_audit_records_call_id")
        .unwrap();
    stranger
        .pragma_update(None, "writable_schema", "ON")
        .unwrap();
    stranger
        .execute_batch(&format!(
            "UPDATE sqlite_schema SET sql = (SELECT sql FROM aside) WHERE name = 'idx_audit_records_call_id';
             DROP TABLE aside;
             PRAGMA schema_version = {};",
            version + 9
        ))
        .unwrap();
    drop(stranger);
    let report = verify(in_place(&home));
    assert_eq!(kinds(&report), [FindingKind::IndexDamaged], "{report:#?}");
}

#[tokio::test]
async fn a_head_that_is_gone_or_unreadable_is_a_finding_in_place_and_nothing_is_signed() {
    for spoil in [
        (|home: &Home| std::fs::remove_file(head_path(&home.path())).unwrap()) as fn(&Home),
        |home| std::fs::write(head_path(&home.path()), "{").unwrap(),
    ] {
        let home = Home::new();
        served(&home).await;
        spoil(&home);
        let report = verify(in_place(&home));
        assert_eq!(kinds(&report), [FindingKind::HeadMissing], "{report:#?}");
        assert!(verify(Against::nothing(&home.path())).ok, "a copy has none");
        let store = home.open();
        let signer = CheckpointSigner::begin(&store, key(&store).await, &[]).await;
        store.append(vec![service_record(1)]).await.unwrap();
        signer.sign(true).await;
        let state = store.signing_status().state;
        assert!(
            matches!(state, SigningState::HeadMissing { records: 4 }),
            "{state:?}"
        );
        store.accept_rollback().await.unwrap().unwrap();
        store.close().await;
        let store = home.open();
        CheckpointSigner::begin(&store, key(&store).await, &[]).await;
        assert_eq!(store.signing_status().state, SigningState::Sound);
        store.close().await;
        assert!(verify(in_place(&home)).ok);
    }
}

#[tokio::test]
async fn a_restore_without_a_head_writes_one_and_records_it() {
    let (home, target) = (Home::new(), Home::new());
    served(&home).await;
    let restored = restore(&home, &target).unwrap();
    assert_eq!(restored.altered, [""; 0]);
    let store = target.open();
    store
        .record_restored(4, restored.head.unwrap())
        .await
        .unwrap();
    let last = store.records(4, 9).await.unwrap();
    assert_eq!(last[0].kind, Kind::Restored);
    assert!(last[0].detail.contains("\"head_written\":true"));
    CheckpointSigner::begin(&store, key(&store).await, &[]).await;
    assert_eq!(store.signing_status().state, SigningState::Sound);
    store.close().await;
    assert!(verify(in_place(&target)).ok);
}

#[tokio::test]
async fn a_log_that_a_stranger_signed_anew_is_not_ours() {
    let home = Home::new();
    served(&home).await;
    let log_id = home.open();
    let id = log_id.log_id().await.unwrap();
    log_id.close().await;
    let other = LogSigningKey::read(&id, &hex::encode([9; 32])).unwrap();
    let named = serde_json::json!({ "key": other.public().to_line() }).to_string();
    home.intruder()
        .execute("UPDATE audit_records SET detail = ?1 WHERE id = 1", [named])
        .unwrap();
    tamper::rehash(&home.path(), 1);
    tamper::resign(&home.path(), &other);
    std::fs::remove_file(head_path(&home.path())).unwrap();
    let head = crate::store::verify::signed_head(&home.path())
        .unwrap()
        .unwrap();
    std::fs::write(
        head_path(&home.path()),
        serde_json::to_vec(&head.head).unwrap(),
    )
    .unwrap();
    // By the secret, which the stranger does not have.
    let report = verify(in_place(&home));
    assert_eq!(
        kinds(&report),
        [FindingKind::CheckpointInvalid],
        "{report:#?}"
    );
    assert!(!report.key_is_trusted);
    // By nothing but what lies in the same folder: whole, and not to be trusted, which is said.
    let beside = Against {
        key_beside: Some(other.public().clone()),
        ..Against::nothing(&home.path())
    };
    let report = verify(beside);
    assert!(report.ok && !report.key_is_trusted, "{report:#?}");
    assert!(
        report
            .remarks
            .iter()
            .any(|remark| remark.contains("no key is trusted"))
    );
    let store = home.open();
    let signer = CheckpointSigner::begin(&store, key(&store).await, &[]).await;
    signer.sign(true).await;
    let state = store.signing_status().state;
    assert!(matches!(state, SigningState::Broken { .. }), "{state:?}");
    store.close().await;
}

/// What hangs or takes all memory where the schema is believed, or a value of any length.
#[tokio::test]
async fn a_hostile_file_is_refused_and_neither_hangs_nor_fills_the_memory() {
    let endless = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT n AS log_id FROM n WHERE n < 0";
    for sql in [
        format!("DROP TABLE log_identity; CREATE VIEW log_identity AS {endless}"),
        format!("DROP TABLE key_checks; CREATE VIEW key_checks AS {endless}"),
        format!("DROP TABLE audit_records; CREATE VIEW audit_records AS {endless}"),
    ] {
        let home = Home::new();
        served(&home).await;
        home.intruder().execute_batch(&sql).unwrap();
        let report = verify(in_place(&home));
        assert!(
            kinds(&report).contains(&FindingKind::SchemaChanged),
            "{sql}"
        );
        assert!(Store::open(&home.options()).is_err(), "{sql}");
        assert!(restore(&home, &Home::new()).is_err(), "{sql}");
        assert!(
            crate::store::LogReader::open(&home.path(), key_ring()).is_err(),
            "{sql}"
        );
    }
    let home = Home::new();
    served(&home).await;
    home.intruder()
        .execute_batch(
            "UPDATE audit_records SET detail = CAST(zeroblob(60000000) AS TEXT) WHERE id = 2;
             UPDATE audit_checkpoints SET note = CAST(zeroblob(60000000) AS TEXT) WHERE id = 1",
        )
        .unwrap();
    let report = verify(in_place(&home));
    assert!(
        kinds(&report).contains(&FindingKind::Altered),
        "{report:#?}"
    );
    assert!(restore(&home, &Home::new()).is_err());
}

#[tokio::test]
async fn a_restored_database_and_its_manifest_have_modes_of_their_own() {
    use std::os::unix::fs::PermissionsExt;
    let (home, target) = (Home::new(), Home::new());
    served(&home).await;
    let to = home.folder.path().join("copy.db");
    copy::back_up(
        &home.path(),
        &to,
        &key_ring(),
        || at(0),
        |_| {},
        &mut |_, _, _| {},
    )
    .unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&to), mode(&home.folder.path().join("copy.db.json"))),
        (0o600, 0o600)
    );
    std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o644)).unwrap();
    copy::restore(
        &to,
        &target.path(),
        &key_ring(),
        true,
        at(0),
        &mut |_, _, _| {},
    )
    .unwrap();
    assert_eq!(mode(&target.path()), 0o600);
}

//! Signing: only what was read back and holds, from where the last run left off.

use super::*;
use crate::audit::{
    CompactRange, Kind, LogSigningKey, NoteSubject, PublicKey, SigningKeyNamed, SigningState,
    Statement,
};
use crate::store::{CheckpointSigner, head_path, read_head};

async fn key(store: &Store, seed: u8) -> LogSigningKey {
    LogSigningKey::read(&store.log_id().await.unwrap(), &hex::encode([seed; 32])).unwrap()
}

async fn begin(store: &Store) -> CheckpointSigner {
    CheckpointSigner::begin(store, key(store, 1).await, &[]).await
}

/// The checkpoints in the file, as another program reads them.
fn checkpoints(home: &Home) -> Vec<(i64, i64, String, bool)> {
    let stranger = home.stranger();
    let mut statement = stranger
        .prepare("SELECT id, size, note, frontier IS NOT NULL FROM audit_checkpoints ORDER BY id")
        .unwrap();
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

async fn root(store: &Store) -> [u8; 32] {
    let mut range = CompactRange::default();
    for record in verified(store).await {
        range.append(&record.hash);
    }
    range.root()
}

fn newest(home: &Home, key: &PublicKey) -> Statement {
    key.open(&checkpoints(home).pop().unwrap().2).unwrap()
}

fn tamper(home: &Home, sql: &str) {
    let stranger = home.intruder();
    assert_ne!(stranger.execute(sql, []).unwrap(), 0, "{sql}");
}

#[tokio::test]
async fn what_was_written_is_signed_with_the_root_over_it() {
    let home = Home::new();
    let store = home.open();
    let signer = begin(&store).await;
    assert_eq!(
        newest(&home, signer.public_key()).size,
        1,
        "the key is named first"
    );
    for n in 2..=20 {
        store.append(vec![service_record(n)]).await.unwrap();
        signer.sign(false).await;
    }
    let statement = newest(&home, signer.public_key());
    let expected = Statement {
        subject: NoteSubject::Checkpoint,
        size: 20,
        root: root(&store).await,
    };
    assert_eq!(statement, expected);
    let signing_status = store.signing_status();
    assert_eq!(signing_status.state, SigningState::Sound);
    let head = signing_status.head.unwrap();
    assert_eq!(head.records, 20);
    assert_eq!(head.hash().unwrap(), store.head().await.unwrap().hash);
    assert_eq!(head.at, Some(at(20)));
    assert_eq!(head.statement(signer.public_key()), Some(expected));
    // The newest row was signed again and again; only it carries the tree.
    assert_eq!(checkpoints(&home).len(), 1);
    signer.sign(true).await;
    store.append(vec![service_record(21)]).await.unwrap();
    signer.sign(true).await;
    let kept = checkpoints(&home);
    assert_eq!(
        kept.iter()
            .map(|row| (row.0, row.1, row.3))
            .collect::<Vec<_>>(),
        [(1, 20, false), (2, 21, true)]
    );
    let head = read_head(&head_path(&home.path())).unwrap().unwrap();
    assert_eq!(Some(head), store.signing_status().head);
    store.close().await;
}

#[tokio::test]
async fn a_restart_goes_on_where_the_last_run_signed() {
    let home = Home::new();
    for run in 1..=3 {
        let store = home.open();
        let signer = begin(&store).await;
        store
            .append(vec![service_record(1), service_record(2)])
            .await
            .unwrap();
        signer.sign(true).await;
        let statement = newest(&home, signer.public_key());
        assert_eq!(
            (statement.size, statement.root),
            (1 + 2 * run, root(&store).await)
        );
        store.close().await;
    }
    let store = home.open();
    let named = store.records(0, 100).await.unwrap();
    let named = named
        .iter()
        .filter(|record| record.kind == Kind::SigningKeyNamed);
    assert_eq!(named.count(), 1, "a key is named once");
    store.close().await;
}

#[tokio::test]
async fn what_changed_between_writing_and_signing_is_not_signed() {
    for (sql, record) in [
        ("UPDATE audit_records SET detail = '{}' WHERE id = 3", 3),
        (
            "UPDATE audit_records SET hash = zeroblob(32) WHERE id = 3",
            3,
        ),
        ("DELETE FROM audit_records WHERE id = 2", 2),
    ] {
        let home = Home::new();
        let store = home.open();
        let signer = begin(&store).await;
        store
            .append(vec![service_record(1), service_record(2)])
            .await
            .unwrap();
        tamper(&home, sql);
        signer.sign(true).await;
        let state = store.signing_status().state;
        assert!(
            matches!(state, SigningState::Broken { record: Some(at), .. } if at == record),
            "{sql}: {state:?}"
        );
        assert_eq!(newest(&home, signer.public_key()).size, 1);
        // Records are taken all the same, and still nothing is signed.
        store.append(vec![service_record(3)]).await.unwrap();
        signer.sign(true).await;
        assert_eq!(newest(&home, signer.public_key()).size, 1);
        store.close().await;
    }
}

#[tokio::test]
async fn what_was_signed_and_is_gone_or_changed_is_noticed_at_the_next_start() {
    for sql in [
        "DELETE FROM audit_records WHERE id = 3",
        "UPDATE audit_records SET created_at = 5 WHERE id = 3",
        "DELETE FROM audit_checkpoints",
        "UPDATE audit_checkpoints SET note = replace(note, '3', '4')",
        "UPDATE audit_checkpoints SET frontier = zeroblob(64)",
        "UPDATE audit_checkpoints SET size = 4",
    ] {
        let home = Home::new();
        let store = home.open();
        let signer = begin(&store).await;
        store
            .append(vec![service_record(1), service_record(2)])
            .await
            .unwrap();
        signer.sign(true).await;
        store.close().await;
        std::fs::remove_file(head_path(&home.path())).unwrap();
        tamper(&home, sql);
        let before = checkpoints(&home);
        let store = home.open();
        let signer = begin(&store).await;
        store.append(vec![service_record(3)]).await.unwrap();
        signer.sign(true).await;
        let state = store.signing_status().state;
        assert!(
            matches!(state, SigningState::Broken { .. }),
            "{sql}: {state:?}"
        );
        assert_eq!(checkpoints(&home), before, "{sql}");
        store.close().await;
    }
}

#[tokio::test]
async fn an_older_database_put_back_is_not_signed() {
    let home = Home::new();
    let store = home.open();
    let signer = begin(&store).await;
    store.append(vec![service_record(1)]).await.unwrap();
    signer.sign(true).await;
    store.close().await;
    let old = std::fs::read(home.path()).unwrap();
    let store = home.open();
    let signer = begin(&store).await;
    store.append(vec![service_record(2)]).await.unwrap();
    signer.sign(true).await;
    store.close().await;
    std::fs::write(home.path(), old).unwrap();
    let store = home.open();
    let signer = begin(&store).await;
    let state = store.signing_status().state;
    assert!(
        matches!(&state, SigningState::RolledBack { known, found: 2 } if known.records == 3),
        "{state:?}"
    );
    // Another record in the place of the lost one does not hide it.
    store.append(vec![service_record(7)]).await.unwrap();
    signer.sign(true).await;
    assert_eq!(newest(&home, signer.public_key()).size, 2);
    store.close().await;
    let store = home.open();
    begin(&store).await;
    let state = store.signing_status().state;
    assert!(
        matches!(state, SigningState::RolledBack { found: 3, .. }),
        "{state:?}"
    );
    store.close().await;
}

#[tokio::test]
async fn another_key_is_named_by_the_one_before_where_that_is_at_hand() {
    let home = Home::new();
    let store = home.open();
    begin(&store).await;
    let (first, second, third) = (
        key(&store, 1).await,
        key(&store, 2).await,
        key(&store, 3).await,
    );
    let named = async |store: &Store| -> SigningKeyNamed {
        let records = store.records(0, 100).await.unwrap();
        let last = records
            .iter()
            .rev()
            .find(|record| record.kind == Kind::SigningKeyNamed);
        serde_json::from_str(&last.unwrap().detail).unwrap()
    };
    let line = first.public().to_line();
    assert_eq!(named(&store).await.previous, None);
    let signer = CheckpointSigner::begin(&store, key(&store, 2).await, &[first]).await;
    let said = named(&store).await;
    assert_eq!(said.previous.as_deref(), Some(line.as_str()));
    assert_eq!(said.key, second.public().to_line());
    let before = PublicKey::from_line(&line).unwrap();
    assert!(before.has_endorsed(second.public(), said.endorsement.as_deref().unwrap()));
    assert_eq!(newest(&home, signer.public_key()).size, 2);
    let signer = CheckpointSigner::begin(&store, third, &[]).await;
    let said = named(&store).await;
    assert_eq!(said.previous, Some(second.public().to_line()));
    assert_eq!(said.endorsement, None);
    assert_eq!(newest(&home, signer.public_key()).size, 3);
    store.close().await;
}

#[tokio::test]
async fn a_log_of_an_older_schema_is_signed_from_its_first_record_on() {
    let home = Home::new();
    let store = home.open();
    store
        .append((0..2_500).map(service_record).collect())
        .await
        .unwrap();
    let signer = begin(&store).await;
    // The start does not wait for all of it.
    signer.sign(true).await;
    let statement = newest(&home, signer.public_key());
    assert_eq!(
        (statement.size, statement.root),
        (2_501, root(&store).await)
    );
    store.close().await;
}

//! The audit log: acknowledged means durable, and the chain holds.

use rusqlite::params;

use super::*;

#[tokio::test]
async fn what_was_acknowledged_is_in_the_file_as_another_program_sees_it() {
    let home = Home::new();
    let store = home.open();
    for ms in 0..20 {
        let appended = store.append(vec![service_record(ms)]).await.unwrap();
        let stored: i64 = home
            .stranger()
            .query_row("SELECT max(id) FROM audit_records", [], |row| row.get(0))
            .unwrap();
        assert_eq!(stored, appended.last_id);
    }
    assert_eq!(store.health().last_commit, Some(at(0)));
    store.close().await;
}

#[tokio::test]
async fn a_copy_taken_while_serving_has_everything_acknowledged() {
    let home = Home::new();
    let store = home.open();
    store
        .append(vec![service_record(1), service_record(2)])
        .await
        .unwrap();
    // What a crash would leave: the files as they are, without anybody closing them.
    let other = Home::new();
    for suffix in ["", "-wal"] {
        let file = |path: PathBuf| format!("{}{suffix}", path.display());
        std::fs::copy(file(home.path()), file(other.path())).unwrap();
    }
    let recovered = other.open();
    assert_eq!(verified(&recovered).await.len(), 2);
    recovered.close().await;
    store.close().await;
}

#[tokio::test]
async fn the_chain_goes_on_across_restarts() {
    let home = Home::new();
    let store = home.open();
    let log_id = store.log_id().await.unwrap();
    assert_eq!(log_id.len(), 32);
    let first = store
        .append(vec![service_record(1), service_record(2)])
        .await
        .unwrap();
    assert_eq!((first.first_id, first.last_id), (1, 2));
    store.close().await;
    let store = home.open();
    let second = store.append(vec![service_record(3)]).await.unwrap();
    assert_eq!((second.first_id, second.last_id), (3, 3));
    assert_eq!(verified(&store).await.len(), 3);
    assert_eq!(store.log_id().await.unwrap(), log_id);
    store.close().await;
}

#[tokio::test]
async fn many_submitters_share_a_gapless_chain() {
    let home = Home::new();
    let store = home.open();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..32 {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0..10 {
                let records = vec![service_record(task), service_record(n)];
                let appended = store.append(records).await.unwrap();
                assert_eq!(appended.last_id, appended.first_id + 1);
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(verified(&store).await.len(), 640);
    store.close().await;
}

#[tokio::test]
async fn a_submitter_who_stops_waiting_does_not_stop_the_commit() {
    let home = Home::new();
    let store = home.open();
    {
        let mut append = Box::pin(store.append(vec![service_record(1)]));
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(append.as_mut().poll(context).is_ready())
        });
        polled.await;
    }
    store.append(vec![service_record(2)]).await.unwrap();
    assert_eq!(verified(&store).await.len(), 2);
    assert_eq!(store.health().lost, 0);
    store.close().await;
}

#[tokio::test]
async fn triggers_refuse_whatever_is_no_append() {
    let home = Home::new();
    let store = home.open();
    store
        .append(vec![service_record(1), service_record(2)])
        .await
        .unwrap();
    let stranger = home.stranger();
    let row = "created_at, kind, detail, previous_hash, hash) VALUES";
    let rest = "0, 'k', '{}', zeroblob(32), zeroblob(32))";
    for recursive in ["ON", "OFF"] {
        stranger
            .pragma_update(None, "recursive_triggers", recursive)
            .unwrap();
        for sql in [
            "UPDATE audit_records SET detail = '{}' WHERE id = 2".to_owned(),
            "DELETE FROM audit_records WHERE id = 2".to_owned(),
            "DELETE FROM audit_records".to_owned(),
            format!("INSERT OR REPLACE INTO audit_records (id, {row} (2, {rest}"),
            format!("REPLACE INTO audit_records (id, {row} (1, {rest}"),
            format!("INSERT INTO audit_records (id, {row} (4, {rest}"),
            format!("INSERT INTO audit_records (id, {row} (0, {rest}"),
            format!("INSERT INTO audit_records ({row} ({rest}"),
            "UPDATE log_identity SET log_id = hex(randomblob(16))".to_owned(),
            "DELETE FROM log_identity".to_owned(),
            "DELETE FROM prune_gate".to_owned(),
        ] {
            assert!(stranger.execute(&sql, []).is_err(), "{sql}");
        }
    }
    assert_eq!(verified(&store).await.len(), 2);
    store.close().await;
}

#[tokio::test]
async fn records_may_be_deleted_up_to_the_gate_which_only_moves_forward() {
    let home = Home::new();
    let store = home.open();
    store
        .append((1..=4).map(service_record).collect())
        .await
        .unwrap();
    let records = verified(&store).await;
    let stranger = home.stranger();
    let gate = |id: i64, hash: &[u8]| {
        stranger.execute(
            "UPDATE prune_gate SET through_id = ?1, through_hash = ?2",
            params![id, hash],
        )
    };
    assert!(gate(3, &[0; 32]).is_err(), "not that record's hash");
    assert!(gate(9, &records[2].hash).is_err(), "no such record");
    gate(3, &records[2].hash).unwrap();
    assert!(gate(2, &records[1].hash).is_err(), "backwards");
    let delete = "DELETE FROM audit_records WHERE id <= ?1";
    assert!(stranger.execute(delete, [4]).is_err());
    assert_eq!(stranger.execute(delete, [3]).unwrap(), 3);
    gate(4, &records[3].hash).unwrap();
    stranger.execute(delete, [4]).unwrap();
    // Nothing is left, and the chain still goes on from where it ended.
    assert_eq!(store.head().await.unwrap().id, 4);
    assert_eq!(store.counts().await.unwrap().records, 0);
    let appended = store.append(vec![service_record(5)]).await.unwrap();
    assert_eq!(appended.first_id, 5);
    let record = store.raw_records(0, 1).await.unwrap().remove(0);
    assert_eq!(record.previous_hash, records[3].hash);
    store.close().await;
}

#[tokio::test]
async fn the_records_of_a_call_are_found_over_midnight_and_read_back_as_written() {
    let home = Home::new();
    let store = home.open();
    let (call, other) = (call_id("CA1"), call_id("CA2"));
    let day = 86_400_000;
    let written = vec![
        decided(&call, 0),
        intended(&call, 1),
        answered(&call, "inbound", "<Response/>", dialing(), day),
        intended(&call, 5 * day),
    ];
    store.append(vec![service_record(0)]).await.unwrap();
    store.append(written[..2].to_vec()).await.unwrap();
    store.append(vec![decided(&other, 3)]).await.unwrap();
    store.append(written[2..].to_vec()).await.unwrap();
    let found = store.records_of_call(&call).await.unwrap();
    let ids: Vec<_> = found.iter().map(|record| record.id).collect();
    assert_eq!(ids, [2, 3, 5, 6]);
    for (found, written) in found.iter().zip(&written) {
        assert_eq!(&found.event().unwrap(), &written.event);
        assert_eq!(found.at, written.at);
        assert_eq!(found.personal, written.personal);
        assert_eq!(found.call_id, written.call_id);
        assert!(!found.detail.contains("+4915112345650"));
    }
    assert_eq!(store.records(4, 10).await.unwrap().len(), 2);
    assert!(
        store
            .records_of_call(&call_id("CA3"))
            .await
            .unwrap()
            .is_empty()
    );
    store.close().await;
}

#[tokio::test]
async fn an_open_intent_is_looked_for_up_to_the_end_that_was_asked_for() {
    let home = Home::new();
    let store = home.open();
    let call = call_id("CA1");
    store
        .append(vec![decided(&call, 0), service_record(0)])
        .await
        .unwrap();
    let intended_at = store
        .append(vec![intended(&call, 1)])
        .await
        .unwrap()
        .last_id;
    let open = async |through| {
        let calls = vec![call.clone()];
        store.open_intents(calls, through).await.unwrap().len()
    };
    assert_eq!(open(intended_at - 1).await, 0, "it is behind the end");
    assert_eq!(open(intended_at).await, 1);
    store.close().await;
}

//! Pruning: only what is old, in slices, and what is left verifies.

use std::time::Duration;

use super::*;
use crate::audit::{ExportVerifier, FindingKind, Kind, LogSigningKey, ShownPersonal, VerifyReport};
use crate::store::verify::{Against, ProofError, Verification, prove, signed_head};
use crate::store::work::Work;
use crate::store::{CheckpointSigner, PruneError, PruneReport, Pruner};

const DAY_MS: i64 = 86_400_000;
const RETENTION: Duration = Duration::from_hours(24 * 90);

async fn pruner(store: &Store) -> Pruner {
    let log_id = store.log_id().await.unwrap();
    let key = LogSigningKey::read(&log_id, &hex::encode([1; 32])).unwrap();
    let signer = CheckpointSigner::begin(store, key, &[]).await;
    Pruner::new(store.clone(), signer, RETENTION, false)
}

/// A log that began two hundred days ago, and now is now.
async fn old_log(home: &Home) -> (Clock, Store, Pruner) {
    let options = home.options();
    options.clock.set(at(-200 * DAY_MS));
    let store = Store::open(&options).unwrap();
    let pruner = pruner(&store).await;
    options.clock.set(at(0));
    (options.clock, store, pruner)
}

/// Ten records and two calls on each day, from `first` to `last`, of which one has ended.
async fn days(store: &Store, first: i64, last: i64) {
    for day in first..=last {
        let ms = day * DAY_MS;
        let mut records = Vec::new();
        for n in 0..2 {
            let call = call_id(&format!("CA{:016}{n:016}", day + 1_000));
            records.push(decided(&call, ms));
            let state = if n == 0 { over() } else { dialing() };
            records.push(answered(&call, "inbound", "<Response/>", state, ms));
        }
        records.extend((0..6).map(|_| service_record(ms)));
        store.append(records).await.unwrap();
    }
}

fn verify(home: &Home) -> VerifyReport {
    let against = Against::nothing(&home.path());
    Verification::open(against).unwrap().run(|_| {}).unwrap()
}

async fn run(pruner: &Pruner) -> PruneReport {
    let age = pruner.age(None).unwrap();
    let expected = pruner.preview(age, |_| {}).await.unwrap();
    let report = pruner.run(age, |_| {}).await.unwrap();
    assert_eq!(
        (report.deleted, report.oldest),
        (expected.deleted, expected.oldest)
    );
    report
}

#[tokio::test]
async fn what_is_past_retention_goes_and_the_rest_verifies() {
    let home = Home::new();
    let (_, store, first) = old_log(&home).await;
    days(&store, -200, 0).await;
    let before = store.counts().await.unwrap().records;
    assert_eq!(before, 2_011, "with the key's");
    let report = run(&first).await;
    // The key was named at the beginning of time, as far as this log goes; a day is old when it is older than 90.
    assert_eq!(report.oldest, Some(at(-90 * DAY_MS)));
    assert_eq!(
        store.counts().await.unwrap().oldest_record,
        Some(1 + i64::try_from(report.deleted).unwrap())
    );
    assert!((1_100..=1_101).contains(&report.deleted), "{report:?}");
    let left = verify(&home);
    assert!(left.ok, "{left:#?}");
    assert_eq!(left.signed, left.last, "signed at the end of the run");
    // The run told of itself, and of the key again, whose record went.
    let records = store.records(2_011, 100).await.unwrap();
    let kinds: Vec<_> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::Pruned, Kind::SigningKeyNamed]);
    let calls = store.counts().await.unwrap();
    let recent = newest_calls(&store, 1_000).await;
    let ended = recent.iter().filter(|call| call.status == Status::Ended);
    assert!(
        ended
            .clone()
            .all(|call| call.started_at >= at(-90 * DAY_MS))
    );
    assert_eq!(
        (ended.count(), calls.active_calls),
        (91, 201),
        "calls in progress stay"
    );
    assert_eq!(run(&first).await.deleted, 0);
    store.close().await;
    // The next start goes on from what is left.
    let store = home.open();
    let again = pruner(&store).await;
    store.append(vec![service_record(5)]).await.unwrap();
    assert_eq!(run(&again).await.deleted, 0);
    store.close().await;
    let left = verify(&home);
    assert!(left.ok, "{left:#?}");
}

#[tokio::test]
async fn callers_go_with_their_last_record_and_come_back_as_strangers() {
    let home = Home::new();
    let (_, store, pruner) = old_log(&home).await;
    let calls = [
        ("CA1", "+4915100000001", -150),
        ("CA2", "+4915100000002", -150),
        ("CA3", "+4915100000002", -10),
        ("CA4", "+4915100000003", -91),
    ];
    for (id, caller, day) in calls {
        let (call, ms) = (call_id(id), day * DAY_MS);
        let mut records = vec![
            decided(&call, ms),
            answered(&call, "inbound", "<Response/>", over(), ms),
        ];
        for record in &mut records {
            record.personal.as_mut().unwrap().caller = Some(caller.into());
        }
        store.append(records).await.unwrap();
    }
    let rows = || {
        let query = "SELECT id FROM callers ORDER BY id";
        let stranger = home.stranger();
        let mut statement = stranger.prepare(query).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(rows(), [1, 2, 3]);
    run(&pruner).await;
    assert_eq!(
        rows(),
        [2, 3],
        "the last day of the third is not sure to be over"
    );

    // The writer remembers the key of somebody whose row has gone, and must not use it.
    let call = call_id("CA5");
    // A late record, of the day on which the caller was last seen: the writer has no reason to look for the row.
    let mut again = decided(&call, -150 * DAY_MS);
    again.personal.as_mut().unwrap().caller = Some("+4915100000001".into());
    store.append(vec![again]).await.unwrap();
    assert_eq!(rows(), [2, 3, 4]);
    let records = store.records_of_call(&call).await.unwrap();
    let personal = records[0].personal.as_ref().unwrap();
    assert_eq!(personal.caller.as_deref(), Some("+4915100000001"));
    store.close().await;
}

#[tokio::test]
async fn a_clock_that_jumped_back_shortens_no_retention() {
    let home = Home::new();
    let (_, store, pruner) = old_log(&home).await;
    let stepped = Event::ClockStepped {
        by_ms: -20 * DAY_MS,
    };
    store
        .append(vec![
            Record::of_service(at(-100 * DAY_MS), stepped),
            service_record(-80 * DAY_MS),
        ])
        .await
        .unwrap();
    let report = run(&pruner).await;
    assert_eq!(report.oldest, Some(at(-80 * DAY_MS)));
    assert_eq!(report.kept_longer, None);
    store.close().await;
}

#[tokio::test]
async fn what_stays_longer_than_it_looks_is_told_with_the_date_and_the_reason() {
    let home = Home::new();
    let (_, store, pruner) = old_log(&home).await;
    store
        .append(vec![
            service_record(-95 * DAY_MS),
            service_record(-94 * DAY_MS),
            service_record(-50 * DAY_MS),
        ])
        .await
        .unwrap();
    // Nothing was recorded since: the next start will say so.
    let pruner = pruner.after_silence(50 * DAY_MS);
    let preview = pruner.preview(RETENTION, |_| {}).await.unwrap();
    // The key was named 200 days ago.
    assert_eq!((preview.deleted, preview.kept), (1, 3));
    let longer = preview.kept_longer.unwrap();
    assert_eq!((longer.records, longer.by_ms), (2, 50 * DAY_MS));
    assert_eq!(longer.until, at((-95 + 90 + 50) * DAY_MS));
    store.close().await;
}

#[tokio::test]
async fn a_cut_that_was_changed_is_found() {
    let home = Home::new();
    let (_, store, pruner) = old_log(&home).await;
    days(&store, -100, 0).await;
    run(&pruner).await;
    store.close().await;
    drop((store, pruner));
    let stranger = home.intruder();
    while stranger
        .execute_batch("PRAGMA journal_mode = DELETE")
        .is_err()
    {
        std::thread::yield_now();
    }
    let whole = std::fs::read(home.path()).unwrap();
    assert!(verify(&home).ok);
    for (sql, kind) in [
        (
            "UPDATE prune_gate SET through_id = through_id - 1",
            FindingKind::CheckpointInvalid,
        ),
        (
            "UPDATE prune_gate SET through_hash = zeroblob(32)",
            FindingKind::CheckpointInvalid,
        ),
        (
            "UPDATE prune_gate SET through_hash = zeroblob(31)",
            FindingKind::CheckpointInvalid,
        ),
        (
            "UPDATE audit_cuts SET frontier = zeroblob(length(frontier))",
            FindingKind::CheckpointInvalid,
        ),
        (
            "UPDATE audit_cuts SET note = replace(note, 'pruned', 'Pruned')",
            FindingKind::CheckpointInvalid,
        ),
        ("DELETE FROM audit_cuts", FindingKind::CheckpointInvalid),
        // As if more had been pruned than was.
        (
            "UPDATE prune_gate SET through_id = through_id + 20, through_hash = (SELECT hash FROM audit_records WHERE id = through_id + 20); DELETE FROM audit_records WHERE id <= (SELECT through_id FROM prune_gate)",
            FindingKind::Missing,
        ),
        (
            "DELETE FROM audit_records WHERE id = (SELECT through_id + 1 FROM prune_gate)",
            FindingKind::Missing,
        ),
        (
            "INSERT INTO audit_records SELECT 3, created_at, kind, call_sid, personal, detail, previous_hash, hash, call_id FROM audit_records LIMIT 1",
            FindingKind::Inserted,
        ),
    ] {
        stranger.execute_batch(sql).unwrap();
        let report = verify(&home);
        assert!(
            report.findings.iter().any(|finding| finding.kind == kind),
            "{sql}: {report:#?}"
        );
        std::fs::write(home.path(), &whole).unwrap();
    }
}

#[tokio::test]
async fn a_clock_that_jumped_ahead_makes_nothing_old() {
    let home = Home::new();
    let (clock, store, pruner) = old_log(&home).await;
    days(&store, -85, 0).await;
    assert_eq!(run(&pruner).await.deleted, 1, "the naming of the key");
    clock.set(at(10 * DAY_MS));
    let event = Event::ClockStepped { by_ms: 10 * DAY_MS };
    store
        .append(vec![Record::of_service(at(10 * DAY_MS), event)])
        .await
        .unwrap();
    assert_eq!(run(&pruner).await.deleted, 0);
    clock.set(at(16 * DAY_MS));
    assert!(run(&pruner).await.deleted > 0, "time passes all the same");
    store.close().await;
}

#[tokio::test]
async fn nothing_goes_too_early_or_from_a_log_that_is_not_sound() {
    let home = Home::new();
    let (_, store, pruner) = old_log(&home).await;
    days(&store, -100, 0).await;
    let refused = pruner.age(Some(Duration::from_hours(24 * 89)));
    assert!(matches!(refused, Err(PruneError::TooYoung { .. })));
    let stranger = home.intruder();
    stranger
        .execute_batch("UPDATE audit_records SET detail = '{}' WHERE id = 700")
        .unwrap();
    let refused = pruner.run(RETENTION, |_| {}).await;
    assert!(matches!(refused, Err(PruneError::NotSound)), "{refused:?}");
    assert_eq!(store.counts().await.unwrap().oldest_record, Some(1));
    store.close().await;
}

#[tokio::test]
async fn a_database_that_takes_nothing_for_a_while_interrupts_a_run_and_does_not_end_it() {
    let home = Home::new();
    let (_, store, pruner) = old_log(&home).await;
    days(&store, -200, 0).await;
    let age = pruner.age(None).unwrap();
    let expected = pruner.preview(age, |_| {}).await.unwrap();
    let mut told = Vec::new();
    let report = pruner.run(age, |done| {
        if told.is_empty() {
            for _ in 0..3 {
                store.0.faults.try_send(disk::fails).unwrap();
            }
        }
        told.push(done);
    });
    let report = report.await.unwrap();
    assert_eq!(
        (report.deleted, report.oldest),
        (expected.deleted, expected.oldest)
    );
    assert!(
        told.is_sorted() && told.last() == Some(&report.deleted),
        "{told:?}"
    );
    // Both parts of the run told of themselves before they began.
    let sql = "SELECT count(*) FROM audit_records WHERE kind = 'pruned'";
    let runs = home.stranger().query_row(sql, [], |row| row.get(0));
    assert_eq!(runs, Ok(2_i64));
    store.close().await;
    let left = verify(&home);
    assert!(left.ok, "{left:#?}");
}

#[tokio::test]
async fn a_call_of_which_a_record_is_left_is_not_forgotten() {
    let home = Home::new();
    let store = home.open();
    let call = call_id("CA1");
    store.open_call(vec![decided(&call, 0)]).await.unwrap();
    let rows = vec![1];
    store
        .submit(Work::ForgetCalls { rows, now: 0 })
        .await
        .unwrap();
    assert!(store.call(&call).await.unwrap().is_some());
    assert_eq!(store.records_of_call(&call).await.unwrap().len(), 1);
    store.close().await;
}

/// Exports the records with these numbers with their proof, and verifies that.
fn prove_and_verify(
    home: &Home,
    numbers: std::ops::RangeInclusive<i64>,
) -> Result<VerifyReport, ProofError> {
    let end = signed_head(&home.path())?.unwrap();
    let mut lines = Vec::new();
    let select = |content: &crate::audit::RowContent<'_>| {
        numbers.contains(&content.id).then(ShownPersonal::default)
    };
    prove(&home.path(), &end, true, select, |entry| {
        lines.push(serde_json::to_string(entry).unwrap() + "\n");
        Ok::<_, ProofError>(())
    })?;
    let (first, rest) = lines.split_first().unwrap();
    let mut verifier = ExportVerifier::new(first.as_bytes(), None, None).unwrap();
    for line in rest {
        verifier.next_line(line.as_bytes());
    }
    Ok(verifier.finish())
}

#[tokio::test]
async fn a_slice_of_a_pruned_log_verifies_by_itself() {
    let home = Home::new();
    let (_, store, pruner) = old_log(&home).await;
    days(&store, -100, -80).await;
    let deleted = i64::try_from(run(&pruner).await.deleted).unwrap();
    assert!(deleted > 50);
    store.close().await;
    let last = verify(&home).last;
    for numbers in [1..=last, deleted + 1..=deleted + 7, deleted + 20..=last] {
        let report = prove_and_verify(&home, numbers.clone()).unwrap();
        assert!(report.ok, "{numbers:?}: {report:#?}");
        assert_eq!(report.signed, last);
        let first = *numbers.start().max(&(deleted + 1));
        assert_eq!((report.oldest, report.last), (Some(first), *numbers.end()));
    }
    // The store closes its readers a little later.
    let stranger = home.intruder();
    let change = |sql: &str| while stranger.execute_batch(sql).is_err() {};
    let edited = deleted + 5;
    change(&format!(
        "UPDATE audit_records SET detail = '{{}}' WHERE id = {edited}"
    ));
    let report = prove_and_verify(&home, deleted + 1..=deleted + 7).unwrap();
    assert_eq!(report.findings.len(), 1);
    assert_eq!(
        (report.findings[0].kind, report.findings[0].record),
        (FindingKind::Altered, Some(edited))
    );
    change(&format!(
        "UPDATE audit_records SET hash = zeroblob(32) WHERE id = {edited}"
    ));
    let refused = prove_and_verify(&home, 1..=1);
    assert!(matches!(refused, Err(ProofError::Disproved(record)) if record == last));
    change(&format!("DELETE FROM audit_records WHERE id = {edited}"));
    let refused = prove_and_verify(&home, 1..=1);
    assert!(matches!(refused, Err(ProofError::Disproved(record)) if record == edited - 1));
}

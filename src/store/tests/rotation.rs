//! The installation's secret is changed while calls go on, and what an end in its midst leaves behind goes on.

use super::*;
use crate::audit::{LogSigningKey, SigningState, VerifyReport};
use crate::phone::{Caller, E164};
use crate::store::verify::{Against, Installation, Verification};
use crate::store::{
    CallSearch, CallsAsked, CheckpointSigner, LogReader, OpenError, Part, Past, Rotation,
    StoredProfile, StoredSession, rows,
};

const OLD: &str = "a secret of this test";
const NEW: &str = "another secret of this test";
const FIRST: &str = "+4915112345650";

fn new_keys() -> KeyRing {
    KeyRing::new(NEW.as_bytes())
}

/// The keys of whoever finds the next secret beside the present one.
fn both_keys() -> KeyRing {
    let keys = key_ring();
    keys.rotate_to(NEW.as_bytes());
    keys
}

fn open_with(home: &Home, key_ring: KeyRing) -> Store {
    let options = Options {
        key_ring,
        ..home.options()
    };
    Store::open(&options).unwrap()
}

fn number(n: usize) -> String {
    format!("+4930{:07}", n * 7_919)
}

async fn ring(store: &Store, call: &str, caller: &str, ms: i64) {
    let call = call_id(call);
    let mut first = decided(&call, ms);
    first.personal.as_mut().unwrap().caller = Some(caller.into());
    let body = format!("<Response><Dial callerId=\"{caller}\"/></Response>");
    let mut last = answered(&call, "inbound", &body, dialing(), ms + 1);
    last.personal.as_mut().unwrap().caller = Some(caller.into());
    store.open_call(vec![first]).await.unwrap();
    store.append(vec![last]).await.unwrap();
}

async fn calls_of(store: &Store, caller: &str) -> Vec<String> {
    let asked = CallsAsked {
        search: Some(CallSearch::Caller(caller.to_owned())),
        ..CallsAsked::default()
    };
    let part = Part {
        after: None,
        skip: 0,
        size: 100,
    };
    let page = store.calls_page(asked, part).await.unwrap();
    page.rows
        .into_iter()
        .map(|(call, _)| {
            assert_eq!(call.personal.caller.as_deref(), Some(caller));
            call.id.as_str().to_owned()
        })
        .collect()
}

async fn signer(store: &Store) -> CheckpointSigner {
    let id = store.log_id().await.unwrap();
    let key = LogSigningKey::read(&id, &hex::encode([1; 32])).unwrap();
    CheckpointSigner::begin(store, key, &[]).await
}

/// Callers enough for several slices, a session, a profile, a state of a dialer, a signed log.
async fn filled(home: &Home) {
    let store = home.open();
    let signer = signer(&store).await;
    for n in 0..60 {
        let ms = i64::try_from(n).unwrap();
        ring(&store, &format!("CA{n}"), &number(n), ms).await;
    }
    ring(&store, "CAfirst", FIRST, 100).await;
    let profile = StoredProfile {
        phone: E164::parse(FIRST).unwrap(),
        external_id: Some("customer-4711".into()),
        profile: None,
        fetched_at: at(0),
        changed_at: None,
    };
    store.save_profiles(vec![profile]).await.unwrap();
    store.keep_session(session()).await.unwrap();
    let health = Event::HealthChanged {
        service: "dialfire".into(),
        from: "closed".into(),
        to: "open".into(),
        cause: "a probe failed".into(),
        standing: crate::audit::PersistedState::default(),
    };
    store
        .append(vec![Record::of_service(at(101), health)])
        .await
        .unwrap();
    signer.sign(true).await;
    store.close().await;
}

fn session() -> StoredSession {
    StoredSession {
        token_hash: [1; 32],
        key_hash: [9; 32],
        created_at: at(0),
        used_at: at(0),
    }
}

fn verify(home: &Home, key_ring: KeyRing) -> VerifyReport {
    let against = Against {
        installation: Some(Installation {
            key_ring,
            now: at(10_000),
            is_in_place: true,
            is_secret_elsewhere: true,
        }),
        ..Against::nothing(&home.path())
    };
    Verification::open(against).unwrap().run(|_| {}).unwrap()
}

/// Runs until `slices` slices were written, and is cut off there; true where it came to its end before.
async fn rotated(store: &Store, slices: usize) -> bool {
    let rotation = Rotation::new(store.clone(), false);
    rotation.begin(NEW, "ops").await.unwrap();
    let cut = tokio::sync::Notify::new();
    let mut told = 0;
    let run = rotation.run(|_, _| {
        told += 1;
        if told == slices {
            cut.notify_one();
        }
    });
    tokio::select! {
        biased;
        () = cut.notified() => false,
        ended = run => ended.is_ok(),
    }
}

fn count(home: &Home, sql: &str) -> i64 {
    let count = home.stranger().query_row(sql, [], |row| row.get(0));
    count.unwrap()
}

/// Everything as it was, under the new secret alone.
async fn assert_rotated(home: &Home, records: &[RawRecord]) {
    let wrapped_by = count(home, "SELECT count(DISTINCT wrapped_by) FROM callers");
    assert_eq!(wrapped_by, 1);
    assert_eq!(count(home, "SELECT count(*) FROM key_checks"), 1);
    let old = Options {
        key_ring: key_ring(),
        ..home.options()
    };
    let refused = Store::open(&old).unwrap_err();
    assert!(matches!(refused, OpenError::WrongSecret { .. }));
    let refused = LogReader::open(&home.path(), new_keys().after(OLD.as_bytes()));
    assert!(refused.is_ok(), "the old one beside it is in nobody's way");
    // Nothing is left that the old secret has signed: each row that there is counts as altered under it.
    let signed: i64 = rows::TABLES
        .iter()
        .map(|table| count(home, &format!("SELECT count(*) FROM {table}")))
        .sum();
    let refused = rows::altered(&home.stranger(), &key_ring(), 1_000).unwrap();
    assert_eq!(i64::try_from(refused.len()).unwrap(), signed);
    let altered = rows::altered(&home.stranger(), &new_keys(), 10).unwrap();
    assert!(altered.is_empty(), "{altered:?}");

    let store = open_with(home, new_keys());
    let now = verified(&store).await;
    for (before, after) in records.iter().zip(&now) {
        assert_eq!(before, after, "an audit record was touched");
    }
    for n in 0..60 {
        assert_eq!(calls_of(&store, &number(n)).await, [format!("CA{n}")]);
    }
    let answer = store.answer(&call_id("CAfirst"), "inbound").await.unwrap();
    assert!(answer.unwrap().contains(FIRST));
    let read = store.records_of_call(&call_id("CA7")).await.unwrap();
    assert!(read.iter().all(|record| {
        let personal = record.personal.as_ref().unwrap();
        personal.caller == Some(number(7))
    }));
    assert_eq!(store.sessions().await.unwrap(), [session()]);
    assert_eq!(store.dialer_states().await.unwrap().len(), 1);
    assert!(
        store.profiles(10).await.unwrap().is_empty(),
        "a cache that goes"
    );
    let told = now.iter().filter(|record| record.kind == "secret_rotated");
    assert_eq!(told.count(), 1);
    store.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_secret_is_changed_while_calls_come_and_everything_is_known_again() {
    let home = Home::new();
    filled(&home).await;
    let store = home.open();
    let signing = signer(&store).await;
    let records = verified(&store).await;
    let rotation = Rotation::new(store.clone(), false);
    assert!(!rotation.is_under_way());
    rotation.begin(NEW, "ops").await.unwrap();
    signing.vouch_again().await.unwrap();
    assert!(rotation.is_under_way());
    assert_eq!(count(&home, "SELECT count(*) FROM key_checks"), 2);
    // Old callers and new ones call while it is under way: who was known is the same person.
    let calls = async {
        for n in 0..60 {
            ring(&store, &format!("CAagain{n}"), FIRST, 200).await;
            ring(&store, &format!("CAnew{n}"), &number(100 + n), 200).await;
            assert_eq!(calls_of(&store, FIRST).await.len(), n + 2);
        }
    };
    let (rows, ()) = tokio::join!(rotation.run(|done, total| assert!(done <= total)), calls);
    assert!(rows.unwrap() > 120);
    assert!(!rotation.is_under_way());
    assert_eq!(store.altered_rows(), None);
    assert_eq!(store.health().counts.unaccounted(), 0);
    assert_eq!(calls_of(&store, FIRST).await.len(), 61);
    assert_eq!(count(&home, "SELECT count(*) FROM callers"), 121);
    signing.sign(true).await;
    assert_eq!(store.signing_status().state, SigningState::Sound);
    store.close().await;

    assert_rotated(&home, &records).await;
    let report = verify(&home, new_keys());
    assert!(report.ok && report.key_is_trusted, "{report:#?}");
    let report = verify(&home, key_ring());
    assert!(!report.ok, "the old secret says nothing of it any more");

    let store = open_with(&home, new_keys());
    let known = store.known_of(&Caller::classify(FIRST), &[]).await.unwrap();
    assert_eq!(known.unwrap().calls, 61);
    let erased = store.erase(&Caller::classify(FIRST), &[]).await.unwrap();
    let erased = erased.unwrap();
    assert!(erased.erased && erased.wal_emptied, "{erased:?}");
    assert!(calls_of(&store, FIRST).await.is_empty());
    let record = store.records_of_call(&call_id("CAagain1")).await.unwrap();
    assert!(record[0].personal.as_ref().unwrap().is_erased());
    verified(&store).await;
    store.close().await;
    assert!(verify(&home, new_keys()).ok);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_is_cut_off_anywhere_goes_on_at_the_next_start() {
    for slices in [1, 2, 4, 6, 8, 9] {
        let home = Home::new();
        filled(&home).await;
        let store = home.open();
        let ended = rotated(&store, slices).await;
        assert!(!ended, "it has more than {slices} slices");
        store.close().await;
        assert_eq!(count(&home, "SELECT count(*) FROM key_checks"), 2);
        // Neither secret by itself is enough, and who looks on needs both.
        for alone in [key_ring(), new_keys()] {
            let options = Options {
                key_ring: alone,
                ..home.options()
            };
            let refused = Store::open(&options).unwrap_err();
            assert!(matches!(refused, OpenError::WrongSecret { .. }));
        }
        let report = verify(&home, both_keys());
        assert!(report.ok, "{report:#?}");
        let store = open_with(&home, both_keys());
        for n in 0..60 {
            assert_eq!(calls_of(&store, &number(n)).await, [format!("CA{n}")]);
        }
        assert_eq!(store.altered_rows(), None);
        ring(&store, "CAmidst", &number(59), 300).await;
        assert_eq!(calls_of(&store, &number(59)).await.len(), 2);
        store
            .erase(&Caller::classify(&number(58)), &[])
            .await
            .unwrap();
        ring(&store, "CA58", &number(58), 300).await;
        store.close().await;

        let store = open_with(&home, both_keys());
        assert!(rotated(&store, usize::MAX).await);
        assert_eq!(calls_of(&store, &number(59)).await.len(), 2);
        store
            .erase(&Caller::classify(&number(59)), &[])
            .await
            .unwrap();
        ring(&store, "CA59", &number(59), 400).await;
        let of_last = store.call(&call_id("CA59")).await.unwrap().unwrap();
        assert!(of_last.personal.is_erased(), "what was erased stays erased");
        store.close().await;
        assert_eq!(count(&home, "SELECT count(*) FROM key_checks"), 1);
        assert!(verify(&home, new_keys()).ok);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_off_ends_as_what_was_not() {
    let home = Home::new();
    filled(&home).await;
    let store = home.open();
    let records = verified(&store).await;
    assert!(!rotated(&store, 5).await);
    store.close().await;
    let store = open_with(&home, both_keys());
    assert!(rotated(&store, usize::MAX).await);
    store.close().await;
    assert_rotated(&home, &records).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_forgotten_before_is_known_as_forgotten_after_it() {
    let home = Home::new();
    let store = home.open();
    ring(&store, "CA1", FIRST, 0).await;
    // Its records have passed their time.
    home.stranger()
        .execute_batch(
            "UPDATE prune_gate SET through_id = (SELECT max(id) FROM audit_records),
                 through_hash = (SELECT hash FROM audit_records ORDER BY id DESC LIMIT 1);
             DELETE FROM audit_records;",
        )
        .unwrap();
    let rows = vec![1];
    let now = START_MS;
    let forget = crate::store::work::Work::ForgetCalls { rows, now };
    store.submit(forget).await.unwrap();
    let past = async |store: &Store, call: &str| {
        store
            .past(&call_id(call), jiff::SignedDuration::ZERO)
            .await
            .unwrap()
    };
    assert_eq!(past(&store, "CA1").await, Past::Forgotten);
    let reference = store.reference_key();
    assert!(rotated(&store, usize::MAX).await);
    assert_eq!(past(&store, "CA1").await, Past::Forgotten);
    store.close().await;
    let store = open_with(&home, new_keys());
    assert_eq!(past(&store, "CA1").await, Past::Forgotten);
    assert_eq!(past(&store, "CA2").await, Past::No);
    assert_eq!(store.reference_key(), reference, "a dialer knows a caller");
    store.close().await;
}

#[tokio::test]
async fn the_spool_of_before_is_read_and_goes_on_under_the_new_secret() {
    let home = Home::new();
    let store = home.open();
    ring(&store, "CA1", FIRST, 0).await;
    let lock = home.stranger();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let deferred = store.append(vec![intended(&call_id("CA1"), 5)]).await;
    assert!(deferred.is_err());
    // What a killed process leaves behind, with the next secret drawn.
    let after = Home::new();
    for file in home.files("switchboard.db") {
        let name = file.file_name().unwrap();
        std::fs::copy(&file, after.folder.path().join(name)).unwrap();
    }
    drop(lock);
    store.close().await;
    let store = open_with(&after, both_keys());
    assert_eq!(verified(&store).await.len(), 3);
    assert!(rotated(&store, usize::MAX).await);
    let lock = after.stranger();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let deferred = store.append(vec![intended(&call_id("CA1"), 6)]).await;
    assert!(deferred.is_err());
    let last = Home::new();
    for file in after.files("switchboard.db") {
        let name = file.file_name().unwrap();
        std::fs::copy(&file, last.folder.path().join(name)).unwrap();
    }
    drop(lock);
    store.close().await;
    let store = open_with(&last, new_keys());
    let times: Vec<_> = verified(&store)
        .await
        .iter()
        .map(|one| one.created_at)
        .collect();
    assert_eq!(times.last(), Some(&(START_MS + 6)));
    store.close().await;
    assert_eq!(last.files(".db.spool").len(), 1, "none was put aside");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_planted_is_not_made_good_and_an_old_backup_says_which_secret_it_needs() {
    let home = Home::new();
    filled(&home).await;
    let backup = Home::new();
    std::fs::copy(home.path(), backup.path()).unwrap();
    home.intruder()
        .execute("UPDATE calls SET held = 1 WHERE sid = 'CA3'", [])
        .unwrap();
    let store = home.open();
    assert!(rotated(&store, usize::MAX).await);
    store.close().await;
    let altered = rows::altered(&home.stranger(), &new_keys(), 10).unwrap();
    assert_eq!(altered.len(), 1);

    let after = new_keys().after(OLD.as_bytes());
    let refused = LogReader::open(&backup.path(), after).unwrap_err();
    assert!(matches!(refused, OpenError::FormerSecret { .. }));
    assert!(refused.to_string().contains(".old"), "{refused}");
    assert!(LogReader::open(&backup.path(), key_ring()).is_ok());
}

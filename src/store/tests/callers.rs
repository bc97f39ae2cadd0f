//! Personal data: sealed for one person each, found by number, and tied to the secret of the installation.

use super::*;
use crate::audit::Kind;
use crate::phone::{Caller, E164};
use crate::store::{
    CallSearch, CallsAsked, OpenError, Part, RecordsAsked, StoredCall, StoredProfile, is_sealed,
};

const CALLER: &str = "+4915112345650";

/// Everything that the database's files hold.
fn bytes(home: &Home) -> Vec<u8> {
    home.files("switchboard.db")
        .iter()
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|found| found == text.as_bytes())
}

fn wrapped_keys(home: &Home) -> Vec<(i64, Vec<u8>)> {
    let stranger = home.stranger();
    let mut statement = stranger
        .prepare("SELECT id, wrapped_key FROM callers ORDER BY id")
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

async fn ring(store: &Store, call: &str, caller: &str, ms: i64) {
    let call = call_id(call);
    let mut first = decided(&call, ms);
    first.personal.as_mut().unwrap().caller = Some(caller.into());
    let body = format!("<Response><Dial callerId=\"{caller}\"/></Response>");
    let mut last = answered(&call, "inbound", &body, dialing(), ms + 1);
    last.personal.as_mut().unwrap().caller = Some(caller.into());
    store
        .open_call(vec![first, intended(&call, ms)])
        .await
        .unwrap();
    store.append(vec![last]).await.unwrap();
}

/// The calls of a number, newest first.
async fn calls_of(store: &Store, caller: &str, size: u32) -> Vec<StoredCall> {
    let asked = CallsAsked {
        search: Some(CallSearch::Caller(caller.to_owned())),
        ..CallsAsked::default()
    };
    let part = Part {
        after: None,
        skip: 0,
        size,
    };
    let page = store.calls_page(asked, part).await.unwrap();
    page.rows.into_iter().map(|(call, _)| call).collect()
}

#[tokio::test]
async fn nothing_in_the_files_names_a_caller_and_everything_is_read_back() {
    let home = Home::new();
    let store = home.open();
    ring(&store, "CA1", CALLER, 0).await;
    let profile = StoredProfile {
        phone: E164::parse(CALLER).unwrap(),
        external_id: Some("customer-4711".into()),
        profile: None,
        fetched_at: at(0),
        changed_at: None,
    };
    store.save_profiles(vec![profile.clone()]).await.unwrap();
    let found = bytes(&home);
    for clear in ["4915112345650", "4930123456", "customer-4711", "callerId"] {
        assert!(!holds(&found, clear), "{clear}");
    }
    store.close().await;
    let store = home.open();
    let records = store.records_of_call(&call_id("CA1")).await.unwrap();
    let callers: Vec<_> = records
        .iter()
        .filter_map(|record| record.personal.as_ref()?.caller.as_deref())
        .collect();
    assert_eq!(callers, [CALLER, CALLER]);
    let answer = store
        .answer(&call_id("CA1"), "inbound")
        .await
        .unwrap()
        .unwrap();
    assert!(answer.contains(CALLER));
    assert_eq!(store.profiles(1).await.unwrap(), [profile]);
    assert_eq!(verified(&store).await.len(), 3);
    store.close().await;
}

#[tokio::test]
async fn calls_are_found_by_number_however_it_reached_us() {
    let home = Home::new();
    let store = home.open();
    ring(&store, "CA1", CALLER, 0).await;
    ring(&store, "CA2", "+4915112345651", 10).await;
    ring(&store, "CA3", "sip:+4915112345650@pbx.example.com", 20).await;
    ring(&store, "CA4", "anonymous", 30).await;
    let of = async |caller: &str| {
        let calls = calls_of(&store, caller, 10).await;
        calls
            .into_iter()
            .map(|call| call.id.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(CALLER).await, ["CA3", "CA1"]);
    assert_eq!(of("+4915112345651").await, ["CA2"]);
    assert!(of("+4915112345652").await.is_empty());
    assert!(of("anonymous").await.is_empty());
    let calls = calls_of(&store, CALLER, 1).await;
    assert_eq!(calls.len(), 1);
    // Two people, and one row for all who hide their number.
    assert_eq!(wrapped_keys(&home).len(), 3);
    store.close().await;
}

#[tokio::test]
async fn the_records_of_all_calls_of_a_number_are_found_newest_first_and_older_ones_by_time() {
    const APART_MS: i64 = 3_600_000;
    let home = Home::new();
    let store = home.open();
    let ids: Vec<String> = (0..100).map(|n| format!("CA{n}")).collect();
    let rings = ids.iter().zip(0..).map(async |(id, n)| {
        let caller = if n % 10 == 9 {
            "+4915112345651"
        } else {
            CALLER
        };
        ring(&store, id, caller, n * APART_MS).await;
    });
    futures_util::future::join_all(rings).await;
    ring(
        &store,
        "CAsip",
        "sip:+4915112345650@pbx.example.com",
        100 * APART_MS,
    )
    .await;
    let asked = |caller: &str| RecordsAsked {
        caller: Some(caller.to_owned()),
        ..RecordsAsked::default()
    };
    let all = Part {
        after: None,
        skip: 0,
        size: 1_000,
    };
    // 91 calls with three records each: on several days, of one person through two doors.
    let found = store.records_page(asked(CALLER), all).await.unwrap();
    assert_eq!((found.total, found.total_is_exact), (273, true));
    assert!(found.rows.is_sorted_by(|one, other| one.id > other.id));
    assert_eq!(found.next, None);
    let other = store
        .records_page(asked("+4915112345651"), all)
        .await
        .unwrap();
    assert_eq!((other.total, other.total_is_exact), (30, true));
    let nobody = store
        .records_page(asked("+4915112345652"), all)
        .await
        .unwrap();
    assert_eq!((nobody.total, nobody.total_is_exact), (0, true));

    let page = Part { size: 100, ..all };
    let first = store.records_page(asked(CALLER), page).await.unwrap();
    let rest = Part {
        after: first.next,
        ..all
    };
    let rest = store.records_page(asked(CALLER), rest).await.unwrap();
    let ids: Vec<i64> = first
        .rows
        .iter()
        .chain(&rest.rows)
        .map(|one| one.id)
        .collect();
    assert_eq!(ids, found.rows.iter().map(|one| one.id).collect::<Vec<_>>());
    let narrow = RecordsAsked {
        call: Some(call_id("CA7")),
        kind: Some(Kind::CallAnswered),
        ..asked(CALLER)
    };
    assert_eq!(store.records_page(narrow, all).await.unwrap().total, 1);

    let more = (101..121).map(async |n| {
        ring(&store, &format!("CA{n}"), CALLER, n * APART_MS).await;
    });
    futures_util::future::join_all(more).await;
    let newest = store.records_page(asked(CALLER), all).await.unwrap();
    assert_eq!((newest.total, newest.total_is_exact), (300, false));
    let before = RecordsAsked {
        to: Some(at(10 * APART_MS)),
        ..asked(CALLER)
    };
    let oldest = store.records_page(before, all).await.unwrap();
    assert_eq!((oldest.total, oldest.total_is_exact), (27, true));
    store.close().await;
}

#[tokio::test]
async fn a_caller_whose_row_is_gone_reads_as_erased_and_gets_another_key() {
    let home = Home::new();
    let store = home.open();
    ring(&store, "CA1", CALLER, 0).await;
    store.close().await;
    let before = wrapped_keys(&home);
    let stranger = home.stranger();
    stranger.pragma_update(None, "foreign_keys", "ON").unwrap();
    stranger.execute("DELETE FROM callers", []).unwrap();
    drop(stranger);
    let store = home.open();
    for record in store.records_of_call(&call_id("CA1")).await.unwrap() {
        assert!(record.personal.is_none_or(|personal| personal.is_erased()));
    }
    assert!(calls_of(&store, CALLER, 1).await.is_empty());
    ring(&store, "CA2", CALLER, 10).await;
    let after = wrapped_keys(&home);
    assert_eq!(after.len(), 1);
    assert!(after[0].0 > before[0].0, "no row is used twice");
    assert_ne!(after[0].1, before[0].1);
    let records = store.records_of_call(&call_id("CA1")).await.unwrap();
    assert!(records[0].personal.as_ref().unwrap().is_erased());
    assert_eq!(verified(&store).await.len(), 6);
    store.close().await;
}

#[tokio::test]
async fn a_caller_made_in_a_transaction_that_failed_is_made_again() {
    let home = Home::new();
    let store = home.open();
    home.stranger()
        .execute_batch(
            "CREATE TRIGGER test_refuse BEFORE INSERT ON calls WHEN NEW.sid = 'CA1'
             BEGIN SELECT RAISE(ABORT, 'refused'); END",
        )
        .unwrap();
    let refused = store.open_call(vec![decided(&call_id("CA1"), 0)]).await;
    assert!(refused.is_err());
    assert!(wrapped_keys(&home).is_empty());
    ring(&store, "CA2", CALLER, 1).await;
    let stored = store.call(&call_id("CA2")).await.unwrap().unwrap();
    assert_eq!(stored.personal.caller.as_deref(), Some(CALLER));
    store.close().await;
}

#[tokio::test]
async fn another_secret_is_refused_and_nothing_is_changed() {
    let home = Home::new();
    assert!(!is_sealed(&home.path()).unwrap());
    let store = home.open();
    ring(&store, "CA1", CALLER, 0).await;
    store.close().await;
    assert!(is_sealed(&home.path()).unwrap());
    let before = std::fs::read(home.path()).unwrap();
    let other = Options {
        key_ring: KeyRing::new(b"another secret"),
        ..home.options()
    };
    let refused = Store::open(&other).unwrap_err();
    assert!(matches!(refused, OpenError::WrongSecret { .. }));
    assert_eq!(std::fs::read(home.path()).unwrap(), before);
    let store = home.open();
    assert!(store.call(&call_id("CA1")).await.unwrap().is_some());
    store.close().await;
}

#[tokio::test]
async fn a_caller_is_seen_once_a_day_at_most() {
    let home = Home::new();
    let store = home.open();
    let day = 86_400_000;
    let seen = || -> i64 {
        home.stranger()
            .query_row("SELECT updated_at FROM callers", [], |row| row.get(0))
            .unwrap()
    };
    for (n, ms, expected) in [
        (1, 0, 0),
        (2, 5, 0),
        (3, 2 * day, 2 * day),
        (4, day, 2 * day),
    ] {
        ring(&store, &format!("CA{n}"), CALLER, ms).await;
        assert_eq!(seen(), START_MS + expected, "call {n}");
    }
    store.close().await;
}

#[tokio::test]
async fn an_erased_caller_is_noise_everywhere_and_the_chain_holds() {
    let home = Home::new();
    let store = home.open();
    // Enough people for pages to be split, some of them erased.
    for n in 0..600 {
        ring(
            &store,
            &format!("CAother{n}"),
            &format!("+4930{:07}", n * 7_919),
            n,
        )
        .await;
    }
    ring(&store, "CA1", CALLER, 700).await;
    ring(&store, "CA2", "sip:+4915112345650@pbx.example.com", 710).await;
    let profile = StoredProfile {
        phone: E164::parse(CALLER).unwrap(),
        external_id: Some("customer-4711".into()),
        profile: None,
        fetched_at: at(0),
        changed_at: None,
    };
    store.save_profiles(vec![profile]).await.unwrap();
    for n in 600..900 {
        ring(
            &store,
            &format!("CAother{n}"),
            &format!("+4930{:07}", n * 7_919),
            n,
        )
        .await;
    }
    let row: (i64, Vec<u8>, Vec<u8>) = home
        .stranger()
        .query_row(
            "SELECT callers.id, wrapped_key, callers.identity_hash FROM callers JOIN calls ON caller_id = callers.id WHERE sid = 'CA1'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    let has = |home: &Home, part: &[u8]| bytes(home).windows(part.len()).any(|found| found == part);
    assert!(has(&home, &row.1) && has(&home, &row.2));

    let erased = store
        .erase(&Caller::classify(CALLER), &[])
        .await
        .unwrap()
        .unwrap();
    assert_eq!((erased.erased, erased.calls, erased.answers), (true, 2, 2));
    assert!(erased.profile && erased.wal_emptied, "{erased:?}");
    assert!(!has(&home, &row.1), "the wrapped key is still in a file");
    assert!(!has(&home, &row.2), "the keyed hash is still in a file");
    assert!(store.profiles(10).await.unwrap().is_empty());
    assert!(calls_of(&store, CALLER, 10).await.is_empty());
    for call in ["CA1", "CA2"] {
        let call = call_id(call);
        assert!(
            store
                .call(&call)
                .await
                .unwrap()
                .unwrap()
                .personal
                .is_erased()
        );
        assert_eq!(store.answer(&call, "inbound").await.unwrap(), None);
        for record in store.records_of_call(&call).await.unwrap() {
            assert!(record.personal.is_none_or(|personal| personal.is_erased()));
        }
    }
    let other = store.call(&call_id("CAother1")).await.unwrap().unwrap();
    assert_eq!(other.personal.caller.as_deref(), Some("+49300007919"));
    let records = verified(&store).await;
    let last = records.last().unwrap();
    assert_eq!(last.kind, "caller_erased");
    assert_eq!(last.detail, r#"{"calls":2,"answers":2,"profile":true}"#);
    assert_eq!(store.health().counts.unaccounted(), 0);

    let again = store
        .erase(&Caller::classify(CALLER), &[])
        .await
        .unwrap()
        .unwrap();
    assert!(!again.erased, "there is nothing more to erase");
    assert_eq!(verified(&store).await.len(), records.len());
    assert!(
        store
            .erase(&Caller::classify("anonymous"), &[])
            .await
            .unwrap()
            .is_none()
    );
    // Who rings again is somebody new.
    ring(&store, "CA3", CALLER, 1_000).await;
    let calls = calls_of(&store, CALLER, 10).await;
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].personal.caller.as_deref(), Some(CALLER));
    store.close().await;
}

#[tokio::test]
async fn a_call_whose_caller_was_erased_goes_on_without_a_number() {
    let home = Home::new();
    let store = home.open();
    ring(&store, "CA1", CALLER, 0).await;
    store.erase(&Caller::classify(CALLER), &[]).await.unwrap();
    let stored = store.call(&call_id("CA1")).await.unwrap().unwrap();
    assert_eq!(stored.personal.caller(), Caller::Withheld);
    let mut next = answered(&call_id("CA1"), "dial-1", "<Response/>", over(), 5);
    next.personal.as_mut().unwrap().caller = Some(String::new());
    store.append(vec![next]).await.unwrap();
    let answer = store.answer(&call_id("CA1"), "dial-1").await.unwrap();
    assert_eq!(answer.as_deref(), Some("<Response/>"));
    let stored = store.call(&call_id("CA1")).await.unwrap().unwrap();
    assert!(stored.personal.is_erased());
    store.close().await;
}

#[tokio::test]
async fn the_views_tell_what_was_decided_asked_and_changed() {
    let home = Home::new();
    let store = home.open();
    ring(&store, "CA1", CALLER, 0).await;
    let event = Event::HandoffConcluded(Box::new(crate::audit::Attempt {
        dialer: dialer("dialfire"),
        attempt: 2,
        outcome: crate::handoff::Outcome::Accepted { reference: None },
        exchanges: vec![crate::audit::Exchange {
            service: "dialfire".into(),
            method: "POST".into(),
            url: "https://api.dialfire.com/x".into(),
            status: Some(201),
            error: None,
            elapsed_ms: 12.5,
            request: None,
            response: Some(serde_json::json!({"ok": true})),
        }],
    }));
    let health = |to: &str| Event::HealthChanged {
        service: "dialfire".into(),
        from: "closed".into(),
        to: to.into(),
        cause: "a probe failed".into(),
        standing: crate::audit::PersistedState::default(),
    };
    store
        .append(vec![
            Record::of_call(at(2), &call_id("CA1"), event),
            Record::of_service(at(3), health("open")),
            Record::of_service(at(4), health("half_open")),
        ])
        .await
        .unwrap();
    store.close().await;
    let stranger = home.stranger();
    let rows = |sql: &str| -> Vec<String> {
        let mut statement = stranger.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    assert_eq!(
        rows(
            "SELECT call_id || ' ' || tier || ' ' || score || ' ' || reason || ' ' || plan || ' ' || caller FROM routing_decisions"
        ),
        ["CA1 hot 87.5 rule_matched [\"dialfire\",\"zendesk\"] +*********50"]
    );
    assert_eq!(
        rows(
            "SELECT service || ' ' || attempt || ' ' || status || ' ' || elapsed_ms || ' ' || response FROM api_exchanges"
        ),
        ["dialfire 2 201 12.5 {\"ok\":true}"]
    );
    assert_eq!(
        rows(
            "SELECT service || ' ' || previous_state || ' ' || state || ' ' || is_current FROM health_status ORDER BY record_id"
        ),
        ["dialfire closed open 0", "dialfire closed half_open 1"]
    );
    let times = rows("SELECT decided_at FROM routing_decisions");
    assert_eq!(times, ["2026-09-21T14:13:20.000Z"]);
}

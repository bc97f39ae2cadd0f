//! The last state of each dialer, and the silence of calls.

use super::*;
use crate::audit::{Drained, Fingerprint, OpenCause, OpenCircuit, PersistedState};
use crate::call::{CarrierAnswer, EndReason};

fn open(cause: OpenCause, until: Option<Timestamp>) -> PersistedState {
    PersistedState {
        drained: None,
        open: Some(OpenCircuit {
            cause,
            why: "timeout".into(),
            since: at(5),
            until,
            refusals: if cause.is_refused() { 3 } else { 0 },
            credentials: Fingerprint::of(b"key", ["secret"]),
        }),
    }
}

fn out() -> PersistedState {
    PersistedState {
        drained: Some(Drained {
            reason: Some("new firmware".into()),
            until: Some(at(9)),
            ..Drained::new("ops", at(7))
        }),
        ..open(OpenCause::RefusedRequest, None)
    }
}

fn changed(service: &str, to: &str, standing: PersistedState, ms: i64) -> Record {
    let event = Event::HealthChanged {
        service: service.into(),
        from: "closed".into(),
        to: to.into(),
        cause: "because".into(),
        standing,
    };
    Record::of_service(at(ms), event)
}

#[tokio::test]
async fn the_last_state_of_a_service_is_kept_over_a_restart() {
    let home = Home::new();
    let store = home.open();
    let failing = open(OpenCause::Failing, Some(at(15_005)));
    store
        .append(vec![
            changed("zendesk", "unavailable", PersistedState::default(), 1),
            changed("dialfire", "open", failing.clone(), 5),
            changed("zendesk", "drained", out(), 7),
        ])
        .await
        .unwrap();
    store.close().await;
    let store = home.open();
    let states = store.dialer_states().await.unwrap();
    let seen: Vec<_> = states
        .iter()
        .map(|s| {
            (
                s.service.as_str(),
                s.state.as_str(),
                &s.standing,
                s.changed_at,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("zendesk", "drained", &out(), at(7)),
            ("dialfire", "open", &failing, at(5)),
        ]
    );
    // And it follows from the records alone.
    let records = store.records(0, 10).await.unwrap();
    let last = records.last().unwrap();
    let Event::HealthChanged { standing, .. } =
        Event::from_detail(last.kind, &last.detail).unwrap()
    else {
        panic!("another event");
    };
    assert_eq!(standing, out());
}

#[tokio::test]
async fn a_change_that_arrives_after_a_later_one_does_not_undo_it() {
    let home = Home::new();
    let store = home.open();
    store
        .append(vec![changed(
            "dialfire",
            "closed",
            PersistedState::default(),
            9,
        )])
        .await
        .unwrap();
    store
        .append(vec![changed("dialfire", "open", out(), 8)])
        .await
        .unwrap();
    assert!(store.dialer_states().await.unwrap()[0].standing.is_clean());
    store
        .append(vec![changed("dialfire", "drained", out(), 9)])
        .await
        .unwrap();
    assert_eq!(store.dialer_states().await.unwrap()[0].standing, out());
}

#[tokio::test]
async fn a_state_that_was_changed_from_outside_is_not_used() {
    let home = Home::new();
    let store = home.open();
    store
        .append(vec![changed("dialfire", "drained", out(), 1)])
        .await
        .unwrap();
    home.stranger()
        .execute("UPDATE dialer_states SET drained_at = NULL", [])
        .unwrap();
    assert_eq!(store.dialer_states().await.unwrap(), []);
    assert!(store.altered_rows().unwrap().contains("dialer_states"));
    // What comes after it is believed again.
    store
        .append(vec![changed("dialfire", "drained", out(), 2)])
        .await
        .unwrap();
    assert_eq!(store.dialer_states().await.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_reaped_call_is_over_with_its_leg_and_no_longer_silent() {
    let home = Home::new();
    let store = home.open();
    for (sid, ms) in [("CA1", 300), ("CA2", 100), ("CA3", 200)] {
        let call = call_id(sid);
        store.open_call(vec![decided(&call, ms)]).await.unwrap();
    }
    let silent = |before| {
        let store = store.clone();
        async move {
            let silent = store.silent_calls(at(before), 10).await.unwrap();
            silent
                .into_iter()
                .map(|(call, last_news)| (call.to_string(), last_news))
                .collect::<Vec<_>>()
        }
    };
    let two = [("CA2".to_owned(), at(100)), ("CA3".to_owned(), at(200))];
    assert_eq!(silent(300).await, two);
    assert_eq!(store.count_active_calls().await.unwrap(), 3);

    let reaped = |found| Event::CallReaped { found };
    let ended = CarrierAnswer::Ended {
        end: EndReason::Completed,
        duration_s: Some(42),
        at: Some(at(400)),
    };
    let (second, third) = (call_id("CA2"), call_id("CA3"));
    store
        .append(vec![
            Record::of_call(at(900), &second, reaped(ended)).leaving(over()),
            Record::of_call(at(900), &third, reaped(CarrierAnswer::NotFound)).leaving(over()),
        ])
        .await
        .unwrap();
    assert_eq!(silent(1_000).await, [("CA1".to_owned(), at(300))]);
    assert_eq!(store.count_active_calls().await.unwrap(), 1);
    let legs = store.legs(&second).await.unwrap();
    assert_eq!((legs.len(), legs[0].duration_s), (1, Some(42)));
    assert_eq!(legs[0].ended_at, Some(at(400)));
    assert!(store.legs(&third).await.unwrap().is_empty());
    let records = store.records_of_call(&second).await.unwrap();
    let last = records.last().unwrap();
    assert_eq!(last.kind.as_str(), "call_reaped");
    assert_eq!(
        Event::from_detail(last.kind, &last.detail).unwrap(),
        reaped(ended)
    );
    store.close().await;
}

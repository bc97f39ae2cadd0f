//! The projections: each event changes what it should, and nothing goes backwards.

use super::*;
use crate::call::Stamp;
use crate::call::{DialReport, EndReason, LegReport, LegStatus};
use crate::phone::E164;
use crate::store::InProgress;
use crate::store::{FirstWrite, LegDirection, StoreError, StoredProfile};

fn leg_report(leg: &str, parent: Option<&str>, status: LegStatus, sequence: u32) -> LegReport {
    LegReport {
        leg: call_id(leg),
        parent: parent.map(call_id),
        step: parent.map(|_| 1),
        dialer: parent.map(|_| dialer("dialfire")),
        status,
        sequence: Some(sequence),
        duration_s: matches!(status, LegStatus::Ended(_)).then_some(42),
        sip_code: None,
    }
}

fn reported(call: &CallId, report: LegReport, after: CallAfter, ms: i64) -> Record {
    Record::of_call(at(ms), call, Event::LegReported { report }).leaving(after)
}

fn dial_ended(call: &CallId, end: EndReason, after: CallAfter, ms: i64) -> Record {
    let report = DialReport {
        step: 1,
        dialer: Some(dialer("dialfire")),
        end,
        leg: Some(call_id("CAchild")),
        duration_s: None,
        sip_code: Some(486),
        caller_gone: false,
    };
    Record::of_call(at(ms), call, Event::DialEnded { report }).leaving(after)
}

#[tokio::test]
async fn a_call_opened_twice_is_written_once() {
    let home = Home::new();
    let store = home.open();
    let call = call_id("CA1");
    let records = || vec![decided(&call, 0), intended(&call, 1)];
    assert_eq!(store.open_call(records()).await.unwrap(), FirstWrite::First);
    assert_eq!(
        store.open_call(records()).await.unwrap(),
        FirstWrite::Repeat
    );
    let many: Vec<_> = (0..50).map(|_| store.open_call(records())).collect();
    for opened in many {
        assert_eq!(opened.await.unwrap(), FirstWrite::Repeat);
    }
    assert_eq!(verified(&store).await.len(), 2);
    assert_eq!(store.health().lost, 0);
    store.close().await;
}

#[tokio::test]
async fn of_many_who_open_one_call_at_once_exactly_one_is_first() {
    let home = Home::new();
    let store = home.open();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let store = store.clone();
        tasks.spawn(async move {
            store
                .open_call(vec![decided(&call_id("CA1"), 0)])
                .await
                .unwrap()
        });
    }
    let opened = tasks.join_all().await;
    let first = opened.iter().filter(|opened| **opened == FirstWrite::First);
    assert_eq!(first.count(), 1);
    assert_eq!(verified(&store).await.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_call_cannot_begin_without_its_decision() {
    let home = Home::new();
    let store = home.open();
    let refused = store.open_call(vec![intended(&call_id("CA1"), 0)]).await;
    assert!(matches!(refused, Err(StoreError::Rejected(_))));
    let refused = store.open_call(Vec::new()).await;
    assert!(matches!(refused, Err(StoreError::Rejected(_))));
    assert_eq!(store.health().lost, 1);
    store.close().await;
}

#[tokio::test]
async fn a_decision_makes_the_call() {
    let home = Home::new();
    let store = home.open();
    let call = call_id("CA1");
    store.open_call(vec![decided(&call, 5)]).await.unwrap();
    let stored = store.call(&call).await.unwrap().unwrap();
    assert_eq!(stored.id, call);
    assert_eq!(stored.status, Status::Routing);
    assert_eq!(stored.disposition, None);
    assert_eq!(stored.reason, Reason::RuleMatched);
    assert_eq!(stored.tier, Some(TierName::new("hot")));
    assert_eq!(stored.score, LeadScore::new(87.5));
    assert_eq!(stored.rule.as_deref(), Some("hot leads"));
    assert_eq!(stored.ruleset, ruleset().version());
    assert_eq!(stored.personal.caller.as_deref(), Some("+4915112345650"));
    assert_eq!(stored.personal.called.as_deref(), Some("+4930123456"));
    assert_eq!(stored.state, routed());
    assert_eq!((stored.started_at, stored.updated_at), (at(5), at(5)));
    assert!(!format!("{stored:?}").contains("4915112345650"));
    assert_eq!(
        store.calls_in_progress().await.unwrap(),
        [(stored.id, at(5))]
    );
    assert_eq!(store.call(&call_id("CA2")).await.unwrap(), None);
    store.close().await;
}

#[tokio::test]
async fn an_answer_moves_the_call_on_and_stands_for_good() {
    let home = Home::new();
    let store = home.open();
    let call = call_id("CA1");
    store.open_call(vec![decided(&call, 0)]).await.unwrap();
    assert_eq!(store.answer(&call, "inbound").await.unwrap(), None);
    for body in ["<Response>1</Response>", "<Response>2</Response>"] {
        store
            .append(vec![answered(&call, "inbound", body, dialing(), 7)])
            .await
            .unwrap();
    }
    let answer = store.answer(&call, "inbound").await.unwrap();
    assert_eq!(answer.as_deref(), Some("<Response>1</Response>"));
    let stored = store.call(&call).await.unwrap().unwrap();
    assert_eq!(stored.status, Status::Dialing);
    assert_eq!(stored.dialer, Some(dialer("dialfire")));
    assert_eq!(stored.routing_ms, Some(120));
    assert_eq!(stored.state.step(), 1);
    assert_eq!((stored.started_at, stored.updated_at), (at(0), at(7)));
    store.close().await;
}

#[tokio::test]
async fn legs_move_forward_only_and_their_end_stays() {
    let home = Home::new();
    let store = home.open();
    let call = call_id("CA1");
    store.open_call(vec![decided(&call, 0)]).await.unwrap();
    let child = |status, sequence| leg_report("CAchild", Some("CA1"), status, sequence);
    let reports = [
        (child(LegStatus::Answered, 2), 30),
        (child(LegStatus::Ringing, 1), 31),
        (child(LegStatus::Initiated, 0), 32),
        (leg_report("CA1", None, LegStatus::Answered, 1), 33),
    ];
    for (report, ms) in reports {
        store
            .append(vec![reported(&call, report, dialing(), ms)])
            .await
            .unwrap();
    }
    let legs = store.legs(&call).await.unwrap();
    assert_eq!(legs.len(), 2);
    assert_eq!(legs[0].status, LegStatus::Answered);
    assert_eq!(legs[0].direction, LegDirection::OutboundDial);
    assert_eq!(legs[0].dialer, Some(dialer("dialfire")));
    assert_eq!(
        (legs[0].answered_at, legs[0].ringing_at),
        (Some(at(30)), None)
    );
    assert_eq!(legs[1].direction, LegDirection::Inbound);
    store
        .append(vec![
            dial_ended(&call, EndReason::Busy, dialing(), 40),
            reported(
                &call,
                child(LegStatus::Ended(EndReason::Completed), 3),
                dialing(),
                41,
            ),
            reported(&call, child(LegStatus::Answered, 4), dialing(), 42),
        ])
        .await
        .unwrap();
    let leg = store.legs(&call).await.unwrap().remove(0);
    assert_eq!(leg.status, LegStatus::Ended(EndReason::Busy));
    assert_eq!(leg.ended_at, Some(at(40)));
    // The second telling adds what the first did not know.
    assert_eq!((leg.sip_code, leg.duration_s), (Some(486), Some(42)));
    assert_eq!(leg.sequence, Some(3));
    assert_eq!(verified(&store).await.len(), 8);
    store.close().await;
}

#[tokio::test]
async fn a_call_that_is_over_stays_over_and_still_keeps_its_answer() {
    let home = Home::new();
    let store = home.open();
    let call = call_id("CA1");
    store.open_call(vec![decided(&call, 0)]).await.unwrap();
    let gone = CallAfter {
        routing_ms: None,
        dialer: None,
        ..over()
    };
    let hung_up = leg_report("CA1", None, LegStatus::Ended(EndReason::Completed), 3);
    store
        .append(vec![reported(&call, hung_up, gone, 10)])
        .await
        .unwrap();
    store
        .append(vec![answered(
            &call,
            "inbound",
            "<Response/>",
            dialing(),
            11,
        )])
        .await
        .unwrap();
    let stored = store.call(&call).await.unwrap().unwrap();
    assert_eq!(stored.status, Status::Ended);
    assert_eq!(stored.disposition, Some(Disposition::Abandoned));
    assert_eq!(stored.routing_ms, Some(120));
    assert_eq!(stored.dialer, Some(dialer("dialfire")));
    assert!(store.answer(&call, "inbound").await.unwrap().is_some());
    assert!(store.calls_in_progress().await.unwrap().is_empty());
    assert_eq!(newest_calls(&store, 10).await, [stored]);
    store.close().await;
}

#[tokio::test]
async fn news_of_an_unknown_call_is_recorded_and_counted() {
    let home = Home::new();
    let store = home.open();
    let call = call_id("CAunknown");
    let report = leg_report("CAunknown", None, LegStatus::Answered, 1);
    store
        .append(vec![reported(&call, report, dialing(), 0)])
        .await
        .unwrap();
    assert_eq!(verified(&store).await.len(), 1);
    assert_eq!(store.health().unmatched, 1);
    assert!(store.legs(&call).await.unwrap().is_empty());
    store.close().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_true_is_named() {
    let home = Home::new();
    let store = home.open();
    let call = call_id("CA1");
    store.open_call(vec![decided(&call, 0)]).await.unwrap();
    for column in [
        "disposition = 'answered'",
        "status = 'ended', disposition = NULL",
        "status = 'held', reason = 'whim'",
        "reason = 'rule_matched', state = '{}'",
    ] {
        let sql = format!("UPDATE calls SET {column}");
        home.stranger().execute(&sql, []).unwrap();
        let found = store.call(&call).await.unwrap();
        assert_eq!(found, None, "{column}");
    }
    assert!(store.altered_rows().is_some());
    store.close().await;
}

#[tokio::test]
async fn profiles_are_kept_over_a_restart_newest_first() {
    let home = Home::new();
    let store = home.open();
    let profile = |phone: &str, score: Option<f64>, ms| StoredProfile {
        phone: E164::parse(phone).unwrap(),
        external_id: Some("ext".into()),
        profile: score.map(|score| Profile {
            score: LeadScore::new(score),
            tier: Some("hot".into()),
            ..Profile::default()
        }),
        fetched_at: at(ms),
        changed_at: None,
    };
    let (old, new) = (
        profile("+4930111111", Some(80.0), 1),
        profile("+4930222222", None, 2),
    );
    store
        .save_profiles(vec![old.clone(), new.clone()])
        .await
        .unwrap();
    let outdated = profile("+4930111111", None, 0);
    store.save_profiles(vec![outdated]).await.unwrap();
    store.close().await;
    let store = home.open();
    assert_eq!(
        store.profiles(10).await.unwrap(),
        [new.clone(), old.clone()]
    );
    assert_eq!(store.profiles(1).await.unwrap().first(), Some(&new));
    assert_eq!(store.profiles(1).await.unwrap().len(), 1);
    store.delete_profile(new.phone).await.unwrap();
    assert_eq!(store.profiles(10).await.unwrap(), [old]);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.profiles, counts.records), (1, 0));
    store.close().await;
}

#[tokio::test]
async fn who_is_on_the_line_is_counted_by_where_they_stand() {
    let home = Home::new();
    let store = home.open();
    assert_eq!(
        store.calls_in_progress_now().await.unwrap(),
        InProgress::default()
    );
    for (n, state) in [
        Some(routed().held(Stamp {
            at: at(1_000),
            uptime_ms: 1_000,
        })),
        Some(routed().held(Stamp {
            at: at(2_000),
            uptime_ms: 2_000,
        })),
        Some(routed().dialing(&dialer("dialfire"), None)),
        None,
        Some(routed().ended(Disposition::Abandoned)),
    ]
    .into_iter()
    .enumerate()
    {
        let call = call_id(&format!("CA{n:032}"));
        let ms = i64::try_from(n).unwrap() * 500;
        store.open_call(vec![decided(&call, ms)]).await.unwrap();
        if let Some(state) = state {
            let record = answered(&call, "inbound", "<Response/>", after(state), ms + 1);
            store.append(vec![record]).await.unwrap();
        }
    }
    assert_eq!(
        store.calls_in_progress_now().await.unwrap(),
        InProgress {
            active: 4,
            talking: 0,
            on_hold: 2,
            on_hold_since: Some(at(0)),
        }
    );
    store.close().await;
}

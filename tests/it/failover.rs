//! A dialer fails: one retry where that is safe, then the next dialer of the plan.

use std::time::Duration;

use switchboard::audit::Kind;
use switchboard::call::Disposition;
use switchboard::clock::Clock;
use switchboard::phone::E164;
use switchboard::routing::DialerId;
use switchboard_simulator::faults::{Fault, Faults, Route};
use switchboard_simulator::twilio::{CallResult, LineBehaviour};

use crate::world::{COLD, DIALFIRE_LINE, HOT, LAST_RESORT, Settings, World, ZENDESK_LINE, dialled};

/// Requests that hand a call off; probes are none.
fn handoffs() -> Route {
    Route::method("POST")
}

fn break_handoffs(faults: &Faults, fault: &Fault) {
    if *fault == Fault::RefuseConnections {
        faults.standing(fault.clone());
    } else {
        faults.standing_on(handoffs(), fault.clone());
    }
}

#[tokio::test]
async fn a_500_is_asked_twice_then_the_next_dialer_once() {
    let world = World::new().await;
    world
        .outside
        .dialfire
        .faults()
        .standing_on(handoffs(), Fault::status(500));
    let result = world.call(HOT).await;
    assert_eq!(world.asked_dialfire(), 2);
    assert_eq!(world.asked_zendesk(), 1);
    assert_eq!(dialled(&result), [ZENDESK_LINE]);
    assert!(world.stored(&result).await.failed_over);
}

#[tokio::test]
async fn a_401_is_asked_once_and_opens_the_breaker() {
    let world = World::new().await;
    world
        .outside
        .dialfire
        .faults()
        .standing_on(handoffs(), Fault::status(401));
    let result = world.call(HOT).await;
    assert_eq!(world.asked_dialfire(), 1);
    assert_eq!(world.asked_zendesk(), 1);
    assert_eq!(dialled(&result), [ZENDESK_LINE]);

    let next = world.call(HOT).await;
    assert_eq!(world.asked_dialfire(), 1);
    let decided = world.details(&next, Kind::CallDecided).await;
    assert_eq!(
        decided[0]["decision"]["skipped"][0]["reason"],
        "breaker_open"
    );
}

#[tokio::test]
async fn each_way_to_fail_costs_the_requests_it_may_cost() {
    let cases: [(Fault, usize); 6] = [
        (Fault::status(422), 1),
        (Fault::status(503), 2),
        (Fault::RefuseConnections, 0),
        (Fault::Reset, 2),
        (Fault::Redirect("http://127.0.0.1:9/".to_owned()), 1),
        (Fault::too_many_requests(Some(60)), 1),
    ];
    for (fault, n_requests) in cases {
        let world = World::new().await;
        break_handoffs(world.outside.dialfire.faults(), &fault);
        let result = world.call(HOT).await;
        assert_eq!(dialled(&result), [ZENDESK_LINE], "{fault:?}");
        // A reset may have met a connection that a probe has left: the request is sent again over a new one, which is no retry.
        let mut n_asked = world.asked_dialfire();
        if fault == Fault::Reset {
            n_asked = n_asked.min(n_requests);
        }
        assert_eq!(n_asked, n_requests, "{fault:?}");
        assert_eq!(world.asked_zendesk(), 1, "{fault:?}");
    }
}

/// A ticket that Zendesk Talk will not make, because of this caller.
fn one_ticket_refused() -> Fault {
    Fault::status(422)
}

async fn certainty(world: &World, result: &CallResult) -> serde_json::Value {
    let answered = world.details(result, Kind::CallAnswered).await;
    let first = answered
        .first()
        .and_then(|answered| answered.pointer("/answer/certainty"));
    first.cloned().unwrap_or_default()
}

/// No incident was opened by the calls so far, and nothing is seen that would open one.
async fn assert_no_incident(world: &World) {
    // Two more looks at what is wrong.
    Clock::system().wait(Duration::from_secs(1)).await;
    let running = world.running();
    let records = running.store.records(0, u32::MAX).await.unwrap();
    let opened = records.iter().filter(|r| r.kind == Kind::IncidentOpened);
    let opened: Vec<_> = opened.map(|record| &record.detail).collect();
    assert_eq!(opened, Vec::<&String>::new());
}

#[tokio::test]
async fn where_every_dialer_refuses_only_this_call_the_first_line_rings_unannounced() {
    let world = World::new().await;
    for faults in [
        world.outside.dialfire.faults(),
        world.outside.zendesk.faults(),
    ] {
        faults.standing_on(handoffs(), one_ticket_refused());
    }
    for _ in 0..3 {
        let result = world.call(HOT).await;
        assert_eq!(dialled(&result), [DIALFIRE_LINE]);
        assert_eq!(certainty(&world, &result).await, "unannounced");
        let stored = world.stored(&result).await;
        assert_eq!(stored.disposition, Some(Disposition::Answered));
        assert!(!stored.held);
        assert_eq!(stored.reason.as_str(), "rule_matched");
    }
    assert_eq!((world.asked_dialfire(), world.asked_zendesk()), (3, 3));
    assert_no_incident(&world).await;
}

#[tokio::test]
async fn of_two_dialers_the_one_that_refused_only_this_call_rings_and_not_the_one_that_fails() {
    let world = World::new().await;
    let outside = &world.outside;
    outside
        .dialfire
        .faults()
        .standing_on(handoffs(), Fault::status(503));
    outside
        .zendesk
        .faults()
        .standing_on(handoffs(), one_ticket_refused());
    let result = world.call(HOT).await;
    assert_eq!(dialled(&result), [ZENDESK_LINE]);
    assert_eq!(certainty(&world, &result).await, "unannounced");
}

#[tokio::test]
async fn while_a_429_holds_us_off_nobody_asks_and_the_line_rings() {
    let world = World::new().await;
    let outside = &world.outside;
    let limited = || Fault::too_many_requests(Some(60));
    outside.dialfire.faults().standing_on(handoffs(), limited());
    outside.zendesk.faults().standing_on(handoffs(), limited());
    for n in 1..=3 {
        let result = world.call(HOT).await;
        assert_eq!(dialled(&result), [DIALFIRE_LINE], "call {n}");
        assert_eq!(certainty(&world, &result).await, "unannounced");
        assert!(!world.stored(&result).await.held);
        assert_eq!((world.asked_dialfire(), world.asked_zendesk()), (1, 1));
        if n > 1 {
            let decided = world.details(&result, Kind::CallDecided).await;
            let text = decided[0].to_string();
            assert!(text.contains(r#""line_only":true"#), "{text}");
        }
    }
    // Whoever is not held off takes the call.
    outside.zendesk.faults().clear();
    let cold = world.call(COLD).await;
    assert_eq!(dialled(&cold), [ZENDESK_LINE]);
    assert_eq!(world.asked_zendesk(), 1, "its minute is not over");
    let statuses = world.running().fleet.statuses(Clock::system().instant());
    assert!(statuses.iter().all(|status| status.view.line_only));
    assert_no_incident(&world).await;
}

#[tokio::test]
async fn after_a_leg_that_failed_the_next_line_rings_although_its_dialer_refuses_this_call() {
    for refusal in [one_ticket_refused(), Fault::too_many_requests(Some(60))] {
        let world = World::new().await;
        let outside = &world.outside;
        outside.twilio.set_line(DIALFIRE_LINE, LineBehaviour::Busy);
        outside.zendesk.faults().standing_on(handoffs(), refusal);
        for n in 1..=2 {
            let result = world.call(HOT).await;
            assert_eq!(
                dialled(&result),
                [DIALFIRE_LINE, DIALFIRE_LINE, ZENDESK_LINE],
                "call {n}"
            );
            let answered = world.details(&result, Kind::CallAnswered).await;
            let last = answered
                .iter()
                .rfind(|one| one["answer"]["is"] == "connect");
            assert_eq!(last.unwrap()["answer"]["certainty"], "unannounced");
            let stored = world.stored(&result).await;
            assert_eq!(stored.disposition, Some(Disposition::Answered));
        }
    }
}

#[tokio::test]
async fn a_busy_line_is_rung_once_more_then_the_next_dialer_takes_over() {
    let world = World::new().await;
    world
        .outside
        .twilio
        .set_line(DIALFIRE_LINE, LineBehaviour::Busy);
    let result = world.call(HOT).await;
    assert_eq!(
        dialled(&result),
        [DIALFIRE_LINE, DIALFIRE_LINE, ZENDESK_LINE]
    );
    assert_eq!(world.asked_dialfire(), 1);
    assert_eq!(world.asked_zendesk(), 1);
    let stored = world.stored(&result).await;
    assert_eq!(stored.disposition, Some(Disposition::Answered));
    assert!(stored.failed_over);
}

#[tokio::test]
async fn when_every_leg_fails_the_last_resort_rings() {
    let world = World::new().await;
    for line in [DIALFIRE_LINE, ZENDESK_LINE] {
        world.outside.twilio.set_line(line, LineBehaviour::Busy);
    }
    let result = world.call(HOT).await;
    assert_eq!(
        dialled(&result),
        [
            DIALFIRE_LINE,
            DIALFIRE_LINE,
            ZENDESK_LINE,
            ZENDESK_LINE,
            LAST_RESORT
        ]
    );
    let stored = world.stored(&result).await;
    assert_eq!(stored.disposition, Some(Disposition::LastResort));
    assert_eq!(stored.reason.as_str(), "all_legs_failed");
}

#[tokio::test]
async fn lines_that_ring_out_are_rung_again_only_where_all_others_can_still_ring() {
    let cases: [(&str, &[&str]); 3] = [
        ("", &[DIALFIRE_LINE, ZENDESK_LINE, LAST_RESORT]),
        (
            "ring_total = \"80s\"",
            &[DIALFIRE_LINE, DIALFIRE_LINE, ZENDESK_LINE, LAST_RESORT],
        ),
        (
            "ring_timeout = \"5s\"",
            &[
                DIALFIRE_LINE,
                DIALFIRE_LINE,
                ZENDESK_LINE,
                ZENDESK_LINE,
                LAST_RESORT,
            ],
        ),
    ];
    for (twilio, lines) in cases {
        let world = World::with(Settings {
            twilio: twilio.to_owned(),
            ..Settings::default()
        })
        .await;
        for line in [DIALFIRE_LINE, ZENDESK_LINE] {
            world.outside.twilio.set_line(line, LineBehaviour::NoAnswer);
        }
        let result = world.call(HOT).await;
        assert_eq!(dialled(&result), lines, "{twilio}");
    }
}

#[tokio::test]
async fn a_call_that_the_last_resort_took_is_told_as_that_wherever_it_is_told() {
    let world = World::new().await;
    for line in [DIALFIRE_LINE, ZENDESK_LINE] {
        world.outside.twilio.set_line(line, LineBehaviour::Busy);
    }
    let result = world.call(HOT).await;
    let store = &world.running().store;
    let stored = world.stored(&result).await;
    assert_eq!(stored.dialer, None);
    let number = E164::parse(LAST_RESORT).unwrap().masked();
    assert_eq!(stored.state.last_resort(), Some(number.as_str()));

    let legs = store.legs(&crate::world::id(&result)).await.unwrap();
    let lines: Vec<(Option<&str>, bool)> = legs
        .iter()
        .filter(|leg| leg.parent.is_some())
        .map(|leg| {
            (
                leg.dialer.as_ref().map(DialerId::as_str),
                leg.is_last_resort,
            )
        })
        .collect();
    let expected = [
        (Some("dialfire"), false),
        (Some("dialfire"), false),
        (Some("zendesk"), false),
        (Some("zendesk"), false),
        (None, true),
    ];
    assert_eq!(lines, expected);

    for kind in [Kind::DialEnded, Kind::LegReported] {
        let of_last = world.details(&result, kind).await;
        let of_last: Vec<_> = of_last
            .iter()
            .filter(|detail| detail["report"]["step"] == 5)
            .collect();
        assert!(!of_last.is_empty(), "{kind:?}");
        for detail in of_last {
            assert_eq!(detail["report"]["dialer"], serde_json::Value::Null);
            assert_eq!(detail["last_resort"], number);
        }
    }
    let minutes = store.figures(0, i64::MAX / 2, 60_000).await.unwrap();
    let shares = minutes.values().flat_map(|figures| &figures.dialers);
    let shares: Vec<(&str, i64, i64)> = shares
        .map(|(name, share)| (name.as_str(), share.calls, share.failed))
        .collect();
    assert_eq!(shares, [("last_resort", 1, 1)]);
}

#[tokio::test]
async fn without_a_last_resort_the_goodbye_message_is_spoken() {
    let routing = "goodbye_message = \"Please call again.\"".to_owned();
    let world = World::with(Settings {
        routing,
        ..Settings::default()
    })
    .await;
    for line in [DIALFIRE_LINE, ZENDESK_LINE] {
        world.outside.twilio.set_line(line, LineBehaviour::Busy);
    }
    let result = world.call(HOT).await;
    assert_eq!(result.heard, ["Please call again."]);
    assert_eq!(
        world.stored(&result).await.disposition,
        Some(Disposition::Busy)
    );
}

#[tokio::test]
async fn a_caller_who_hangs_up_while_it_rings_has_abandoned() {
    let world = World::new().await;
    let after = Duration::from_secs(3);
    world
        .outside
        .twilio
        .set_line(DIALFIRE_LINE, LineBehaviour::CallerHangsUpRinging { after });
    let result = world.call(HOT).await;
    assert_eq!(dialled(&result), [DIALFIRE_LINE]);
    assert_eq!(
        world.stored(&result).await.disposition,
        Some(Disposition::Abandoned)
    );
}

#[tokio::test]
async fn when_every_dialer_refuses_the_caller_waits_and_is_routed_on_recovery() {
    let world = World::new().await;
    for faults in [
        world.outside.dialfire.faults(),
        world.outside.zendesk.faults(),
    ] {
        for _ in 0..2 {
            faults.once_on(handoffs(), Fault::status(500));
        }
    }
    let result = world.call(HOT).await;
    assert_eq!(result.steps_to("/webhooks/twilio/hold").len(), 1);
    assert_eq!(dialled(&result), [DIALFIRE_LINE]);
    let stored = world.stored(&result).await;
    assert!(stored.held);
    assert_eq!(stored.disposition, Some(Disposition::Answered));
}

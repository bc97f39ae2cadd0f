//! More calls than the machine can take: each is answered, some of them without a look-up.

use switchboard::audit::Kind;
use switchboard_simulator::faults::Fault;
use switchboard_simulator::twilio::{Call, CallResult};
use tokio::task::JoinSet;

use crate::world::{
    CALLED, DIALFIRE_LINE, LAST_RESORT, STRANGER, Settings, World, ZENDESK_LINE, dialled,
};

fn world_with_room_for(calls: usize) -> Settings {
    Settings {
        server: format!("calls_in_hand = {calls}"),
        // Braze hangs: that is given up after five times as long as in life.
        machine_is_faster: 5,
        ..Settings::default()
    }
}

/// So many calls of different people at the same time.
async fn calls(world: &World, n: usize) -> Vec<CallResult> {
    let mut calls = JoinSet::new();
    for place in 0..n {
        let twilio = world.outside.twilio.clone();
        let call = Call::new(&format!("+4917100{place:05}"), CALLED);
        calls.spawn(async move { twilio.call(call).await });
    }
    calls.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_against_a_hanging_braze_is_answered_and_what_is_turned_away_is_counted() {
    let mut world = World::with(world_with_room_for(20)).await;
    world.outside.braze.faults().standing(Fault::Hang);
    let results = calls(&world, 60).await;

    let mut n_shed = 0_i64;
    for result in &results {
        assert_eq!(result.violations, Vec::<String>::new());
        match dialled(result)[..] {
            [LAST_RESORT] => n_shed += 1,
            [ZENDESK_LINE | DIALFIRE_LINE] => {}
            ref other => panic!("dialled {other:?}"),
        }
    }
    assert!(n_shed >= 40, "{n_shed} turned away, with room for 20");
    assert_eq!(i64::try_from(world.running().calls_shed()), Ok(n_shed));
    let counts = world.running().store.counts().await.unwrap();
    assert_eq!(counts.calls, 60 - n_shed, "one turned away costs no record");

    world.outside.braze.faults().clear();
    let next = world.call(STRANGER).await;
    assert_eq!(dialled(&next), [ZENDESK_LINE], "the burst is over");

    world.stop().await;
    world.start().await;
    let records = world.running().store.records(0, 10_000).await.unwrap();
    let told: i64 = records
        .iter()
        .filter(|record| record.kind == Kind::WebhookUnusable)
        .filter_map(|record| serde_json::from_str::<serde_json::Value>(&record.detail).ok())
        .filter_map(|detail| {
            let reason = detail["reason"].as_str()?.strip_prefix("overload: ")?;
            reason.split(' ').next()?.parse::<i64>().ok()
        })
        .sum();
    assert_eq!(
        told, n_shed,
        "every call turned away stands in the audit trail"
    );
}

#[tokio::test]
async fn calls_that_were_answered_before_are_served_while_fresh_ones_are_turned_away() {
    let world = World::with(world_with_room_for(1)).await;
    let twilio = &world.outside.twilio;
    let known = world.call(STRANGER).await;
    world.outside.braze.faults().standing(Fault::Hang);

    // One call waits for Braze, and the house is full.
    let mut waiting = JoinSet::new();
    waiting.spawn({
        let (twilio, call) = (twilio.clone(), Call::new("+491710000099", CALLED));
        async move { twilio.call(call).await }
    });
    world.outside.braze.requests().reached(2).await;
    let fresh = world.call("+491710000098").await;
    assert_eq!(dialled(&fresh), [LAST_RESORT]);

    // A repeat of the dial's end of a call that is known gets its stored answer, not the safe one.
    let dial = known
        .steps
        .iter()
        .find(|step| step.path.starts_with("/webhooks/twilio/dial"))
        .unwrap();
    let again = twilio.post(&dial.path, &dial.fields).await.unwrap();
    assert_eq!(again.body, dial.body);

    let waited = waiting.join_next().await.unwrap().unwrap();
    assert_eq!(dialled(&waited), [ZENDESK_LINE]);
    assert_eq!(world.running().calls_shed(), 1);
}

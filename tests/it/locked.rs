//! The database is locked by somebody else: callers hear what they would hear anyway, from memory, and all of it is recorded once the lock is
//! gone.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use switchboard::audit::Kind;
use switchboard::call::{CallId, Disposition, Status};
use switchboard::clock::Clock;
use switchboard::store::StoredCall;
use switchboard_simulator::faults::{Fault, Route};
use switchboard_simulator::twilio::{Call, CallResult, LineBehaviour, Outcome};
use tokio::time::timeout;

use crate::world::{
    CALLED, DIALFIRE_LINE, HOT, LAST_RESORT, Settings, World, ZENDESK_LINE, dialled,
};

/// Generous: the records of one call come to the disk at once.
const PATIENCE: Duration = Duration::from_mins(1);

/// Somebody else holds the database for writing until this is dropped.
pub(crate) struct Lock(Connection);

impl Lock {
    pub(crate) fn on(world: &World) -> Self {
        let stranger = Connection::open(world.database()).unwrap();
        stranger.busy_timeout(PATIENCE).unwrap();
        stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(stranger)
    }

    /// The lock is gone, and all that waited is in the database.
    pub(crate) async fn release(self, world: &World) {
        self.0.execute_batch("ROLLBACK").unwrap();
        drop(self.0);
        let store = &world.running().store;
        let clock = world.settings().clock;
        let written = async {
            loop {
                // A clock that stands still would never let the next attempt come.
                clock.advance(Duration::from_secs(1));
                let is_well = store.health_when(|health| health.failing_since.is_none());
                if let Ok(health) = timeout(Duration::from_millis(200), is_well).await {
                    return health;
                }
            }
        };
        let health = timeout(PATIENCE, written).await.unwrap();
        let of_a_call_nobody_knows = (health.unmatched, health.lost);
        assert_eq!(of_a_call_nobody_knows, (0, 0));
    }
}

async fn post(world: &World, call: &str, path: &str) -> String {
    let twilio = &world.outside.twilio;
    let fields = twilio.inbound_fields(call, HOT, CALLED);
    let answer = twilio.post(path, &fields).await.unwrap();
    assert_eq!(answer.status, 200);
    answer.body
}

async fn kinds(world: &World, result: &CallResult) -> Vec<Kind> {
    let records = world.records(result).await;
    records.iter().map(|record| record.kind).collect()
}

async fn stored(world: &World, call: &str) -> StoredCall {
    let call = CallId::parse(call).unwrap();
    world.running().store.call(&call).await.unwrap().unwrap()
}

fn busy_then_talk() -> [LineBehaviour; 3] {
    let talk = LineBehaviour::answer(Duration::from_secs(30));
    [LineBehaviour::Busy, LineBehaviour::Busy, talk]
}

#[tokio::test]
async fn while_the_database_is_locked_a_busy_line_is_followed_by_the_rest_of_the_plan() {
    let world = World::new().await;
    let unlocked = world
        .outside
        .twilio
        .call(Call::new(HOT, CALLED).lines(busy_then_talk()))
        .await;
    let lock = Lock::on(&world);
    let call = Call::new(HOT, CALLED).lines(busy_then_talk());
    let result = world.outside.twilio.call(call).await;
    assert_eq!(result.violations, Vec::<String>::new());
    let expected = [DIALFIRE_LINE, DIALFIRE_LINE, ZENDESK_LINE];
    assert_eq!(dialled(&result), expected);
    assert!(matches!(result.outcome, Outcome::Talked { .. }));
    let is_report = |path: &str| path.starts_with("/webhooks/twilio/status");
    for step in result.steps.iter().filter(|step| !is_report(&step.path)) {
        let again = world.outside.twilio.post(&step.path, &step.fields).await;
        assert_eq!(again.unwrap().body, step.body, "{} again", step.path);
    }
    assert_eq!(world.asked_zendesk(), 2, "once for each of the two calls");

    lock.release(&world).await;
    let stored = world.stored(&result).await;
    assert_eq!(stored.disposition, Some(Disposition::Answered));
    assert_eq!(stored.dialer.as_ref().unwrap().as_str(), "zendesk");
    assert!(stored.failed_over);
    assert_eq!(kinds(&world, &result).await, kinds(&world, &unlocked).await);
}

#[tokio::test]
async fn a_call_of_before_the_lock_goes_on_by_its_plan_and_by_what_happened_meanwhile() {
    let world = World::new().await;
    world
        .outside
        .dialfire
        .faults()
        .standing_on(Route::method("POST"), Fault::status(503));
    let call = world.outside.twilio.new_sid("CA");
    let first = post(&world, &call, "/webhooks/twilio").await;
    assert!(first.contains(ZENDESK_LINE), "{first}");
    let lock = Lock::on(&world);
    let ended = |step: u32| format!("/webhooks/twilio/dial?step={step}&dialer=zendesk");
    for (step, expected) in [(1, ZENDESK_LINE), (2, LAST_RESORT)] {
        let mut fields = world.outside.twilio.inbound_fields(&call, HOT, CALLED);
        fields.push(("DialCallStatus".to_owned(), "busy".to_owned()));
        let answer = world
            .outside
            .twilio
            .post(&ended(step), &fields)
            .await
            .unwrap();
        assert!(answer.body.contains(expected), "{step}: {}", answer.body);
    }
    lock.release(&world).await;
    let stored = stored(&world, &call).await;
    assert_eq!(stored.status, Status::Dialing);
    assert_eq!(stored.reason.as_str(), "all_legs_failed");
}

#[tokio::test]
async fn while_the_database_is_locked_a_held_caller_keeps_waiting_and_is_served() {
    let clock = Clock::stopped("2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap());
    let settings = Settings {
        clock: clock.clone(),
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let faults = [
        world.outside.dialfire.faults(),
        world.outside.zendesk.faults(),
    ];
    for faults in &faults {
        faults.standing_on(Route::method("POST"), Fault::status(503));
    }
    let lock = Lock::on(&world);
    let call = world.outside.twilio.new_sid("CA");
    let first = post(&world, &call, "/webhooks/twilio").await;
    assert!(first.contains("/hold?n=1"), "{first}");
    clock.advance(Duration::from_secs(5));
    let second = post(&world, &call, "/webhooks/twilio/hold?n=1").await;
    assert!(second.contains("/hold?n=2"), "{second}");
    assert_eq!(
        post(&world, &call, "/webhooks/twilio/hold?n=1").await,
        second
    );
    for faults in &faults {
        faults.clear();
    }
    clock.advance(Duration::from_secs(20));
    let third = post(&world, &call, "/webhooks/twilio/hold?n=2").await;
    assert!(third.contains("dialer=dialfire"), "{third}");

    lock.release(&world).await;
    let stored = stored(&world, &call).await;
    assert_eq!((stored.status, stored.held), (Status::Dialing, true));
    assert_eq!(stored.dialer.unwrap().as_str(), "dialfire");
}

#[tokio::test]
async fn a_caller_whom_nobody_takes_does_not_wait_for_the_record_of_the_incident() {
    let world = World::new().await;
    for faults in [
        world.outside.dialfire.faults(),
        world.outside.zendesk.faults(),
    ] {
        faults.standing_on(Route::method("POST"), Fault::status(503));
    }
    let lock = Lock::on(&world);
    let call = world.outside.twilio.new_sid("CA");
    let answer = post(&world, &call, "/webhooks/twilio").await;
    assert!(answer.contains("/hold?n=1"), "{answer}");
    assert!(world.running().incidents().is_routing_paused());
    lock.release(&world).await;
    let call = CallId::parse(&call).unwrap();
    let records = world.running().store.records_of_call(&call).await.unwrap();
    let answered = records
        .iter()
        .find(|r| r.kind == Kind::CallAnswered)
        .unwrap();
    let detail: serde_json::Value = serde_json::from_str(&answered.detail).unwrap();
    assert_ne!(detail["within_budget"], false, "{detail}");
}

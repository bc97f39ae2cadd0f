//! What was known of dialers and of Braze is known after a restart.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use switchboard::audit::{Kind, ServiceState};
use switchboard::clock::Clock;
use switchboard::dialer::DialerStatus;
use switchboard::flow::{Recorder, record_health};
use switchboard::routing::{BreakerView, DialerId};
use switchboard_simulator::faults::{Fault, Route};

use crate::world::{HOT, STRANGER, Settings, World, ZENDESK_LINE, dialled};

async fn world() -> (World, Clock) {
    let clock = Clock::stopped(Timestamp::from_second(1_790_000_000).unwrap());
    let settings = Settings {
        clock: clock.clone(),
        ..Settings::default()
    };
    (World::with(settings).await, clock)
}

async fn restart_after(world: &mut World, clock: &Clock, time: SignedDuration) {
    world.stop().await;
    clock.set(clock.now().checked_add(time).unwrap());
    world.start().await;
}

fn dialfire(world: &World) -> DialerStatus {
    let now = world.settings().clock.instant();
    let statuses = world.running().fleet.statuses(now);
    let found = statuses
        .into_iter()
        .find(|status| status.dialer.id().as_str() == "dialfire");
    found.unwrap()
}

fn break_dialfire(world: &World, fault: Fault) {
    world
        .outside
        .dialfire
        .faults()
        .standing_on(Route::method("POST"), fault);
}

async fn states(world: &World) -> Vec<ServiceState> {
    world.running().store.dialer_states().await.unwrap()
}

#[tokio::test]
async fn refused_credentials_are_tried_after_a_restart_by_the_time_that_was_set_before_it() {
    let (mut world, clock) = world().await;
    break_dialfire(&world, Fault::status(401));
    world.call(HOT).await;
    assert_eq!(world.asked_dialfire(), 1);
    restart_after(&mut world, &clock, SignedDuration::from_secs(10)).await;
    world.outside.clear_faults();
    let result = world.call(HOT).await;
    assert_eq!(world.asked_dialfire(), 1);
    assert_eq!(dialled(&result), [ZENDESK_LINE]);
    let decided = world.details(&result, Kind::CallDecided).await;
    assert_eq!(
        decided[0]["decision"]["skipped"][0]["reason"],
        "breaker_open"
    );
    let status = dialfire(&world);
    let (open_for, why) = status.open_for.unwrap();
    assert_eq!(why, "unauthorized (401)");
    assert!(open_for >= Duration::from_secs(10));
    let asked = world.outside.dialfire.requests().count();
    restart_after(&mut world, &clock, SignedDuration::from_hours(48)).await;
    // Its time is over: the first thing that it is asked.
    world.outside.dialfire.requests().reached(asked + 1).await;
    while dialfire(&world).refused.is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(dialfire(&world).view.breaker, BreakerView::Closed);
}

#[tokio::test]
async fn an_open_circuit_stays_open_for_the_rest_of_its_time() {
    for (later, expected) in [(20, BreakerView::Open), (61, BreakerView::HalfOpen)] {
        let (mut world, clock) = world().await;
        break_dialfire(&world, Fault::too_many_requests(Some(60)));
        world.call(HOT).await;
        assert_eq!(dialfire(&world).view.breaker, BreakerView::Open);
        restart_after(&mut world, &clock, SignedDuration::from_secs(later)).await;
        assert_eq!(dialfire(&world).view.breaker, expected, "{later} s later");
    }
}

#[tokio::test]
async fn the_trial_after_a_restart_closes_the_circuit_for_the_restart_after_that() {
    let (mut world, clock) = world().await;
    break_dialfire(&world, Fault::too_many_requests(Some(60)));
    world.call(HOT).await;
    world.outside.clear_faults();
    restart_after(&mut world, &clock, SignedDuration::from_secs(61)).await;
    world.call(HOT).await;
    assert_eq!(dialfire(&world).view.breaker, BreakerView::Closed);
    assert_eq!(states(&world).await[0].state, "closed");
    restart_after(&mut world, &clock, SignedDuration::from_secs(1)).await;
    assert_eq!(dialfire(&world).view.breaker, BreakerView::Closed);
}

#[tokio::test]
async fn a_drained_dialer_stays_drained_until_it_is_put_back() {
    let (mut world, clock) = world().await;
    let id = DialerId::new("dialfire");
    let running = world.running();
    let recorder = Recorder::new(Clock::system(), running.store.clone());
    let drained = running
        .fleet
        .drain(&id, &switchboard::audit::Drained::new("ops", clock.now()))
        .unwrap();
    record_health(&recorder, &clock, drained).await;
    let since = clock.now();
    restart_after(&mut world, &clock, SignedDuration::from_hours(1)).await;
    let status = dialfire(&world);
    let by = status.drained.unwrap();
    assert_eq!((by.by.as_str(), by.since), ("ops", since));
    let result = world.call(HOT).await;
    assert_eq!(world.asked_dialfire(), 0);
    assert_eq!(dialled(&result), [ZENDESK_LINE]);

    let running = world.running();
    let recorder = Recorder::new(Clock::system(), running.store.clone());
    let resumed = running.fleet.resume(&id, "ops").unwrap();
    record_health(&recorder, &clock, resumed).await;
    restart_after(&mut world, &clock, SignedDuration::from_secs(1)).await;
    assert!(dialfire(&world).drained.is_none());
}

#[tokio::test]
async fn braze_is_not_asked_for_callers_with_a_key_that_it_refuses() {
    let (mut world, clock) = world().await;
    world.outside.braze.faults().standing(Fault::status(401));
    world.call(STRANGER).await;
    let asked = world.outside.braze.requests().count();
    assert_eq!(asked, 1);
    // The health job writes it down at its next tick.
    while states(&world).await.is_empty() {
        tokio::task::yield_now().await;
    }
    let kept = &states(&world).await[0];
    assert_eq!(
        (kept.service.as_str(), kept.state.as_str()),
        ("braze", "open")
    );
    restart_after(&mut world, &clock, SignedDuration::from_secs(20)).await;
    world.call("+491700000002").await;
    assert_eq!(world.outside.braze.requests().count(), asked);

    world.stop().await;
    world.outside.clear_faults();
    world.change(|settings| settings.braze_key = "another-key".to_owned());
    world.start().await;
    world.call("+491700000003").await;
    assert_eq!(world.outside.braze.requests().count(), asked + 1);
}

//! Calls whose end nobody reports are looked up at Twilio and closed, and Twilio is asked no more than it can take.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use switchboard::audit::Kind;
use switchboard::call::{CallId, Disposition, Status};
use switchboard::clock::Clock;
use switchboard::store::StoredCall;
use switchboard::twilio::CannotAsk;
use switchboard_simulator::faults::{Fault, Garbage};
use switchboard_simulator::made_up;
use switchboard_simulator::twilio::{Call, CallResult, LineBehaviour};

use crate::world::{CALLED, HOT, LAST_RESORT, STRANGER, Settings, World, id};

const FIVE_MINUTES: SignedDuration = SignedDuration::from_mins(5);

/// A world whose clocks are moved by hand.
async fn world_with(settings: Settings) -> (World, Clock) {
    let clock = Clock::stopped(Timestamp::from_second(1_790_000_000).unwrap());
    let world = World::with(Settings {
        clock: clock.clone(),
        ..settings
    })
    .await;
    (world, clock)
}

async fn world() -> (World, Clock) {
    world_with(Settings::default()).await
}

fn pass(clock: &Clock, time: SignedDuration) {
    clock.advance(time.unsigned_abs());
}

/// One round; says how many calls are in progress afterwards. The job has its own rounds beside, so that tests count what Twilio was
/// asked in all.
async fn round(world: &World) -> i64 {
    world.running().reconciler.round().await.active.unwrap()
}

/// No status callback arrives, and no action request after the caller has gone.
fn lose_every_callback(world: &World) {
    world.outside.twilio.configure(|settings| {
        settings.disorder.lose = 1.0;
        settings.action_after_hang_up = false;
    });
}

/// A caller hangs up while the line rings, and nobody says so.
async fn lost_call(world: &World) -> CallResult {
    lose_every_callback(world);
    world.outside.twilio.set_line(
        "",
        LineBehaviour::CallerHangsUpRinging {
            after: Duration::from_secs(3),
        },
    );
    let result = world.call(HOT).await;
    assert_eq!(world.stored(&result).await.status, Status::Dialing);
    result
}

fn questions(world: &World) -> u64 {
    world.outside.twilio.requests().count()
}

#[tokio::test]
async fn a_call_whose_callbacks_are_all_lost_is_closed_by_what_twilio_knows() {
    let (world, clock) = world().await;
    let result = lost_call(&world).await;
    assert_eq!(round(&world).await, 1);
    pass(&clock, FIVE_MINUTES - SignedDuration::from_millis(1));
    assert_eq!(round(&world).await, 1);
    assert_eq!(questions(&world), 0);
    pass(&clock, SignedDuration::from_millis(1));
    assert_eq!(round(&world).await, 0);
    assert_eq!(questions(&world), 1);
    let stored = world.stored(&result).await;
    assert_eq!(stored.disposition, Some(Disposition::Abandoned));
    assert!(stored.ended_at.is_some());
    let details = world.details(&result, Kind::CallReaped).await;
    assert_eq!(details.len(), 1);
    assert_eq!(details[0]["found"]["is"], "ended");
    assert_eq!(details[0]["found"]["end"], "completed");
    let legs = world.running().store.legs(&id(&result)).await.unwrap();
    assert_eq!(legs.len(), 1, "the caller's own");
    pass(&clock, FIVE_MINUTES);
    assert_eq!(round(&world).await, 0);
    assert_eq!(questions(&world), 1);
}

#[tokio::test]
async fn a_call_that_was_bridged_counts_as_answered() {
    let (world, clock) = world().await;
    world.outside.twilio.configure(|settings| {
        settings.status_path = None;
        settings.action_after_hang_up = false;
    });
    world.outside.twilio.set_line(
        "",
        LineBehaviour::AnswerThenCallerHangsUp {
            after: Duration::from_secs(3),
            talk: Duration::from_mins(1),
        },
    );
    let result = world.call(HOT).await;
    assert_eq!(world.stored(&result).await.status, Status::Bridged);
    pass(&clock, FIVE_MINUTES);
    assert_eq!(round(&world).await, 0);
    let stored = world.stored(&result).await;
    assert_eq!(stored.disposition, Some(Disposition::Answered));
    assert!(stored.answered_at <= stored.ended_at);
}

#[tokio::test]
async fn a_call_at_the_last_resort_stays_one() {
    let (world, clock) = world().await;
    lose_every_callback(&world);
    let busy = LineBehaviour::Busy;
    world.outside.twilio.set_line("", busy);
    world.outside.twilio.set_line(
        LAST_RESORT,
        LineBehaviour::CallerHangsUpRinging {
            after: Duration::from_secs(3),
        },
    );
    let result = world.call(HOT).await;
    assert_eq!(world.stored(&result).await.status, Status::Dialing);
    pass(&clock, FIVE_MINUTES);
    assert_eq!(round(&world).await, 0);
    let stored = world.stored(&result).await;
    assert_eq!(stored.disposition, Some(Disposition::LastResort));
}

#[tokio::test]
async fn a_call_that_goes_on_is_asked_for_again_after_the_same_time() {
    let (world, clock) = world().await;
    world
        .outside
        .twilio
        .configure(|settings| settings.time_scale = 1.0);
    let twilio = world.outside.twilio.clone();
    let sid = twilio.new_sid("CA");
    let call = Call::new(STRANGER, CALLED).call_sid(&sid);
    let id = CallId::parse(&sid).unwrap();
    let store = world.running().store.clone();
    let is_dialing = async {
        loop {
            let stored = store.call(&id).await.unwrap();
            if stored.is_some_and(|call| call.status == Status::Dialing) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    // The call is left where it is: ringing, for all that Twilio knows.
    tokio::select! {
        _ = twilio.call(call) => panic!("it rings for seconds"),
        () = is_dialing => {}
    }
    // Its arrival is not in hand any more: the same webhook again is answered after that.
    let again = twilio.inbound_fields(&sid, STRANGER, CALLED);
    twilio.post("/webhooks/twilio", &again).await.unwrap();
    for n_questions in 1..=3 {
        pass(&clock, FIVE_MINUTES);
        for _ in 0..2 {
            assert_eq!(round(&world).await, 1);
            assert_eq!(questions(&world), n_questions);
        }
    }
}

#[tokio::test]
async fn a_429_ends_the_round_and_is_given_the_time_it_asks_for() {
    let (world, clock) = world().await;
    for _ in 0..3 {
        lost_call(&world).await;
    }
    let twilio = &world.outside.twilio;
    twilio.faults().standing(Fault::too_many_requests(Some(60)));
    pass(&clock, FIVE_MINUTES);
    assert_eq!(round(&world).await, 3);
    assert_eq!(questions(&world), 1);
    for _ in 0..5 {
        pass(&clock, SignedDuration::from_secs(11));
        assert_eq!(round(&world).await, 3);
    }
    assert_eq!(questions(&world), 1, "55 s of 60 have passed");
    twilio.faults().clear();
    pass(&clock, SignedDuration::from_secs(5));
    assert_eq!(round(&world).await, 0);
    assert_eq!(questions(&world), 4);
}

#[tokio::test]
async fn whatever_else_goes_wrong_with_the_answer_leaves_the_call_as_it_is() {
    let faults = [
        Fault::status(500),
        Fault::status(404),
        Fault::Reset,
        Fault::ResetMidAnswer,
        Fault::RefuseConnections,
        Fault::HugeBody(300 * 1024),
        Fault::Redirect("http://127.0.0.1:9/".to_owned()),
        Fault::Garbage(Garbage::Html),
        Fault::Garbage(Garbage::TruncatedJson),
        Fault::Garbage(Garbage::WrongShape),
        Fault::Garbage(Garbage::Empty),
    ];
    for fault in faults {
        let (world, clock) = world().await;
        let result = lost_call(&world).await;
        world.outside.twilio.faults().standing(fault.clone());
        pass(&clock, FIVE_MINUTES);
        assert_eq!(round(&world).await, 1, "{fault:?}");
        assert_eq!(world.stored(&result).await.status, Status::Dialing);
        world.outside.twilio.faults().clear();
        pass(&clock, FIVE_MINUTES);
        assert_eq!(round(&world).await, 0, "{fault:?}");
    }
}

/// A call that Twilio announced and forgot.
async fn forgotten_call(world: &World) -> StoredCall {
    let twilio = &world.outside.twilio;
    let sid = twilio.new_sid("CA");
    let fields = twilio.inbound_fields(&sid, STRANGER, CALLED);
    let response = twilio.post("/webhooks/twilio", &fields).await.unwrap();
    assert_eq!(response.status, 200);
    stored(world, &CallId::parse(&sid).unwrap()).await
}

async fn stored(world: &World, call: &CallId) -> StoredCall {
    world.running().store.call(call).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_call_that_twilio_does_not_know_is_closed_as_unknown() {
    let (world, clock) = world().await;
    let call = forgotten_call(&world).await;
    pass(&clock, FIVE_MINUTES);
    assert_eq!(round(&world).await, 0);
    let closed = stored(&world, &call.id).await;
    assert_eq!(closed.disposition, Some(Disposition::Unknown));
    assert_eq!(
        closed.ended_at,
        Some(call.updated_at),
        "the last news of it"
    );
}

#[tokio::test]
async fn without_credentials_nothing_is_asked_and_the_call_is_closed_after_hours() {
    let (world, clock) = world_with(Settings {
        credentials: "verify_signature = false".to_owned(),
        ..Settings::default()
    })
    .await;
    assert_eq!(
        world.running().rest.can_ask(),
        Err(CannotAsk::NoCredentials)
    );
    let call = forgotten_call(&world).await;
    pass(
        &clock,
        SignedDuration::from_hours(4) - SignedDuration::from_secs(1),
    );
    assert_eq!(round(&world).await, 1);
    pass(&clock, SignedDuration::from_secs(1));
    assert_eq!(round(&world).await, 0);
    let closed = stored(&world, &call.id).await;
    assert_eq!(closed.disposition, Some(Disposition::Unknown));
    assert_eq!(questions(&world), 0);
}

#[tokio::test]
async fn refused_credentials_are_tried_once_in_five_minutes_at_most() {
    let key = "SK00000000000000000000000000000001";
    let (world, clock) = world_with(Settings {
        twilio: format!("api_key_sid = \"{key}\"\napi_key_secret = \"made-up-key-secret\""),
        ..Settings::default()
    })
    .await;
    assert_eq!(world.running().rest.can_ask(), Ok(()));
    let result = lost_call(&world).await;
    for _ in 0..10 {
        pass(&clock, FIVE_MINUTES);
        assert_eq!(round(&world).await, 1);
    }
    assert_eq!(questions(&world), 10);
    assert_eq!(world.running().rest.can_ask(), Err(CannotAsk::Refused));
    let question = world.outside.twilio.requests().last().unwrap();
    assert_eq!(
        question.path(),
        format!(
            "/2010-04-01/Accounts/{}/Calls/{}.json",
            made_up::ACCOUNT_SID,
            result.call_sid
        )
    );
    assert_eq!(
        question.header("authorization"),
        // `SK…1:made-up-key-secret`, encoded elsewhere.
        Some("Basic U0swMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMTptYWRlLXVwLWtleS1zZWNyZXQ=")
    );
    pass(&clock, SignedDuration::from_hours(4));
    assert_eq!(round(&world).await, 0);
}

#[tokio::test]
async fn during_a_rotation_the_token_that_is_let_in_is_used() {
    let tokens = format!(
        "auth_token = [\"made-up-token-that-is-not-in-force\", \"{}\"]",
        made_up::AUTH_TOKEN
    );
    let (world, clock) = world_with(Settings {
        credentials: tokens,
        ..Settings::default()
    })
    .await;
    for n_questions in [2, 3] {
        lost_call(&world).await;
        pass(&clock, FIVE_MINUTES);
        assert_eq!(round(&world).await, 0);
        assert_eq!(questions(&world), n_questions);
    }
}

#[tokio::test]
async fn a_late_callback_is_worth_more_than_an_old_silence() {
    let (world, clock) = world().await;
    let call = forgotten_call(&world).await;
    pass(&clock, FIVE_MINUTES);
    let twilio = &world.outside.twilio;
    let mut fields = twilio.inbound_fields(call.id.as_str(), STRANGER, CALLED);
    for (name, value) in &mut fields {
        if name == "CallStatus" {
            "completed".clone_into(value);
        }
    }
    twilio
        .post("/webhooks/twilio/status", &fields)
        .await
        .unwrap();
    assert_eq!(round(&world).await, 0);
    assert_eq!(questions(&world), 0);
    let closed = stored(&world, &call.id).await;
    assert_eq!(closed.disposition, Some(Disposition::Abandoned));
}

#[tokio::test]
async fn after_a_restart_the_calls_of_before_are_looked_up_at_once() {
    let (mut world, clock) = world().await;
    let result = lost_call(&world).await;
    let fresh = forgotten_call(&world).await;
    world.stop().await;
    pass(&clock, SignedDuration::from_secs(1));
    world.start().await;
    // The job has begun by itself; rounds do not overlap.
    round(&world).await;
    let stored_call = world.stored(&result).await;
    assert_eq!(stored_call.disposition, Some(Disposition::Abandoned));
    let fresh = stored(&world, &fresh.id).await;
    assert_eq!(fresh.status, Status::Dialing, "Twilio's books may be late");
    pass(&clock, FIVE_MINUTES);
    assert_eq!(round(&world).await, 0);
}

#[tokio::test]
async fn a_clock_that_is_set_closes_no_call_and_keeps_none_from_being_closed() {
    for hours in [-5, 5] {
        let (world, clock) = world().await;
        let call = forgotten_call(&world).await;
        let is_set = clock.now() + SignedDuration::from_hours(hours);
        clock.set(is_set);
        assert_eq!(round(&world).await, 1, "{hours} h");
        assert_eq!(questions(&world), 0, "{hours} h");
        pass(&clock, FIVE_MINUTES);
        assert_eq!(round(&world).await, 0, "{hours} h");
        let closed = stored(&world, &call.id).await;
        assert_eq!(closed.disposition, Some(Disposition::Unknown));
    }
}

#[tokio::test]
async fn a_clock_that_is_set_while_the_process_is_away_closes_no_call_that_twilio_does_not_know_yet()
 {
    let (mut world, clock) = world().await;
    let call = forgotten_call(&world).await;
    world.stop().await;
    clock.set(clock.now() + SignedDuration::from_hours(1));
    world.start().await;
    round(&world).await;
    assert_eq!(stored(&world, &call.id).await.status, Status::Dialing);
    pass(&clock, FIVE_MINUTES);
    assert_eq!(round(&world).await, 0);
}

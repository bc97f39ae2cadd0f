//! A webhook that is sent again: the same bytes while its call goes on and for a minute after, and nothing at all later, whatever is left of the
//! call by then.

use std::time::Duration;

use jiff::Timestamp;
use switchboard::admin::{self, ControlRequest};
use switchboard::clock::Clock;
use switchboard::store::Past;
use switchboard_simulator::twilio::CallResult;

use crate::world::{CALLED, COLD, HOT, Settings, World, id};

const DAY: Duration = Duration::from_hours(24);

async fn world() -> (World, Clock) {
    let clock = Clock::manual(Timestamp::from_second(1_790_000_000).unwrap());
    let world = World::with(Settings {
        clock: clock.clone(),
        ..Settings::default()
    })
    .await;
    (world, clock)
}

/// Sends every webhook of a call again and gives the answers.
async fn replay(world: &World, result: &CallResult) -> Vec<String> {
    let mut answers = Vec::new();
    for step in &result.steps {
        let again = world.outside.twilio.post(&step.path, &step.fields).await;
        let again = again.unwrap();
        assert_eq!(again.status, 200, "{}", step.path);
        answers.push(again.body);
    }
    answers
}

fn first_answers(result: &CallResult) -> Vec<String> {
    result.steps.iter().map(|step| step.body.clone()).collect()
}

fn assert_empty(answers: &[String]) {
    assert!(!answers.is_empty());
    for answer in answers {
        assert!(answer.ends_with("<Response/>"), "{answer}");
    }
}

/// What was asked of Braze and the dialers, and what is kept of calls.
async fn traces(world: &World) -> (u64, usize, usize, i64, i64) {
    let counts = world.running().store.counts().await.unwrap();
    (
        world.outside.braze.requests().count(),
        world.asked_dialfire(),
        world.asked_zendesk(),
        counts.calls,
        counts.profiles,
    )
}

async fn erase(world: &World, caller: &str) {
    let (database, caller) = (world.database(), caller.to_owned());
    let asked = move || {
        admin::ask(
            &database,
            &ControlRequest::Erase {
                caller,
                dry_run: false,
            },
            |_| {},
        )
    };
    let erased = tokio::task::spawn_blocking(asked).await.unwrap().unwrap();
    assert_eq!(erased.get("erased").unwrap(), true);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_repeated_while_the_call_goes_on_and_for_a_minute_after_its_end() {
    let (world, clock) = world().await;
    let twilio = &world.outside.twilio;
    let fields = twilio.inbound_fields(&twilio.new_sid("CA"), COLD, CALLED);
    let first = twilio.post("/webhooks/twilio", &fields).await.unwrap().body;
    assert!(first.contains("<Dial"), "{first}");
    clock.advance(Duration::from_hours(2));
    let again = twilio.post("/webhooks/twilio", &fields).await.unwrap().body;
    assert_eq!(again, first, "it goes on");

    let result = world.call(HOT).await;
    clock.advance(Duration::from_mins(1));
    assert_eq!(replay(&world, &result).await, first_answers(&result));
    let before = traces(&world).await;
    clock.advance(Duration::from_millis(1));
    assert_empty(&replay(&world, &result).await);
    assert_eq!(traces(&world).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_a_caller_who_was_erased_brings_nothing_of_them_back() {
    let (world, _clock) = world().await;
    let result = world.call(HOT).await;
    erase(&world, HOT).await;
    let before = traces(&world).await;
    assert_empty(&replay(&world, &result).await);
    assert_eq!(traces(&world).await, before);
    let store = &world.running().store;
    assert!(world.stored(&result).await.personal.is_erased());
    let minute = jiff::SignedDuration::from_secs(60);
    assert_eq!(
        store.past(&id(&result), minute).await.unwrap(),
        Past::Erased
    );

    let next = world.call(HOT).await;
    assert!(
        !world.stored(&next).await.personal.is_erased(),
        "a new call"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_a_call_whose_records_are_gone_is_no_new_call() {
    let (world, clock) = world().await;
    let result = world.call(HOT).await;
    clock.advance(DAY * 100);
    world.call(COLD).await;
    let pruned = world.command(&["prune"]).await;
    assert!(
        pruned.status.success(),
        "{}",
        String::from_utf8_lossy(&pruned.stderr)
    );
    let store = &world.running().store;
    assert_eq!(store.call(&id(&result)).await.unwrap(), None);
    let before = traces(&world).await;
    assert_empty(&replay(&world, &result).await);
    assert_eq!(traces(&world).await, before);
}

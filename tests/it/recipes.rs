//! The recipes of `docs/rules.md`, each run as it stands there.

use std::time::Duration;

use switchboard::audit::Kind;
use switchboard::call::Disposition;
use switchboard::clock::Clock;
use switchboard_simulator::braze::Profile;
use switchboard_simulator::faults::Fault;
use switchboard_simulator::twilio::{Call, CallResult, LineBehaviour, Outcome};
use tokio_util::sync::CancellationToken;

use crate::world::{CALLED, DIALFIRE_LINE, HOT, STRANGER, Settings, World, ZENDESK_LINE, dialled};

const GUIDE: &str = include_str!("../../docs/rules.md");

/// What stands in `[routing]` in the recipe of this name.
fn recipe(name: &str) -> String {
    let heading = format!("### {name}\n");
    let (_, text) = GUIDE.split_once(&heading).unwrap();
    let (_, block) = text.split_once("```toml\n[routing]\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

async fn cooked(name: &str) -> World {
    cooked_at(name, Clock::system()).await
}

async fn cooked_at(name: &str, clock: Clock) -> World {
    World::with(Settings {
        routing: recipe(name),
        clock,
        ..Settings::default()
    })
    .await
}

async fn call(world: &World, from: &str, to: &str) -> CallResult {
    let result = world.outside.twilio.call(Call::new(from, to)).await;
    assert_eq!(result.violations, Vec::<String>::new());
    result
}

#[tokio::test]
async fn office_hours_with_an_answering_service_at_night() {
    let at = |text: &str| text.parse().unwrap();
    let clock = Clock::manual(at("2026-12-01T16:59:00Z"));
    let world = cooked_at(
        "Office hours with an answering service at night",
        clock.clone(),
    )
    .await;
    assert_eq!(dialled(&world.call(HOT).await), [DIALFIRE_LINE]);
    for night in [
        "2026-12-01T17:00:00Z",
        "2026-12-05T12:00:00Z",
        "2026-12-24T10:00:00Z",
    ] {
        clock.set(at(night));
        let result = world.call(HOT).await;
        assert_eq!(dialled(&result), ["+493055555501"], "{night}");
        let stored = world.stored(&result).await;
        assert_eq!(stored.rule.as_deref(), Some("night"), "{night}");
        assert_eq!(stored.disposition, Some(Disposition::Answered), "{night}");
    }
    clock.set(at("2026-12-05T11:59:00Z"));
    assert_eq!(dialled(&world.call(HOT).await), [DIALFIRE_LINE]);
}

#[tokio::test]
async fn two_campaigns_on_two_numbers() {
    let world = cooked("Two campaigns on two numbers").await;
    let spring = call(&world, STRANGER, "+493011111111").await;
    assert_eq!(dialled(&spring), [DIALFIRE_LINE]);
    let service = call(&world, HOT, "+493022222222").await;
    assert_eq!(dialled(&service), [ZENDESK_LINE]);
    assert_eq!(world.outside.braze.requests().count(), 0);
}

#[tokio::test]
async fn a_caller_goes_to_whoever_talked_to_them_last() {
    let world = cooked("A caller goes to whoever talked to them last").await;
    assert_eq!(
        dialled(&world.call(STRANGER).await),
        [ZENDESK_LINE],
        "the default"
    );
    assert_eq!(dialled(&world.call(STRANGER).await), [ZENDESK_LINE]);
    assert_eq!(dialled(&world.call(HOT).await), [DIALFIRE_LINE]);
    assert_eq!(dialled(&world.call(HOT).await), [DIALFIRE_LINE]);
}

#[tokio::test]
async fn important_callers_to_their_last_dialer() {
    let world = cooked("Important callers to their last dialer").await;
    for from in ["+4915112345678", "+442071838750"] {
        let result = world.call(from).await;
        assert_eq!(dialled(&result), [ZENDESK_LINE], "{from}");
        let stored = world.stored(&result).await;
        assert_eq!(stored.rule.as_deref(), Some("important"), "{from}");
    }
    let from = "+4915112345678";
    world.outside.zendesk.faults().standing(Fault::status(500));
    assert_eq!(dialled(&world.call(from).await), [DIALFIRE_LINE]);
    world.outside.zendesk.faults().clear();
    assert_eq!(
        dialled(&world.call(from).await),
        [DIALFIRE_LINE],
        "it talked to them last"
    );
    assert_eq!(
        dialled(&world.call(HOT).await),
        [DIALFIRE_LINE],
        "on no list: the sales floor"
    );
}

#[tokio::test]
async fn blocking() {
    let world = cooked("Blocking").await;
    let result = world.call("+4917099999999").await;
    assert_eq!(result.outcome, Outcome::Rejected);
    let stored = world.stored(&result).await;
    assert_eq!(stored.disposition, Some(Disposition::Rejected));
    assert_eq!(world.outside.braze.requests().count(), 0);
    assert_eq!(dialled(&world.call(HOT).await), [DIALFIRE_LINE]);
}

#[tokio::test]
async fn callers_outside_hours_are_called_back() {
    let world = cooked("Callers outside hours are called back").await;
    let result = world.call(HOT).await;
    assert_eq!(result.heard, ["We are closed, and call you back tomorrow."]);
    let announced = loop {
        let announced = world.details(&result, Kind::MissedAnnounced).await;
        if let [announced] = announced.as_slice() {
            break announced.clone();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(announced["task"], "call_back");
    assert_eq!(announced["outcome"], "accepted");
    let url = announced["exchanges"][0]["url"].as_str().unwrap();
    assert!(url.ends_with("/tasks/call_back/contacts/create"), "{url}");
    assert_eq!(world.asked_dialfire(), 1);
    world.call("anonymous").await;
    world.call(HOT).await;
    assert_eq!(world.asked_zendesk(), 0);
}

#[tokio::test]
async fn a_holiday_calendar() {
    let at = |text: &str| text.parse().unwrap();
    let clock = Clock::manual(at("2026-12-24T10:59:00Z"));
    let world = cooked_at("A holiday calendar", clock.clone()).await;
    assert_eq!(dialled(&world.call(HOT).await), [DIALFIRE_LINE]);
    for closed in [
        "2026-12-24T11:00:00Z",
        "2026-12-25T10:00:00Z",
        "2026-12-27T10:00:00Z",
    ] {
        clock.set(at(closed));
        let result = world.call(HOT).await;
        let heard = ["We are closed. Please call again on a working day."];
        assert_eq!(result.heard, heard, "{closed}");
        let stored = world.stored(&result).await;
        assert_eq!(stored.disposition, Some(Disposition::Closed), "{closed}");
    }
}

#[tokio::test]
async fn seventy_to_thirty() {
    let world = cooked("Seventy to thirty").await;
    for n in 10..20 {
        let result = world.call(&format!("+4917000001{n}")).await;
        let decided = world.details(&result, Kind::CallDecided).await;
        let drawn = decided[0]["decision"]["drawn"][0].as_str().unwrap();
        let line = match drawn {
            "dialfire" => DIALFIRE_LINE,
            _ => ZENDESK_LINE,
        };
        assert_eq!(dialled(&result), [line]);
        assert_eq!(
            decided[0]["facts"]["asked"]["draws"]["split"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    }
}

#[tokio::test]
async fn overflow_at_forty_calls() {
    let world = cooked("Overflow at forty calls").await;
    let hang_up = CancellationToken::new();
    let long = |n: u32| {
        let from = format!("+4917000001{n}");
        // They talk until they hang up, however slow the machine is.
        let talk = LineBehaviour::answer(Duration::from_hours(10_000));
        let call = Call::new(&from, CALLED)
            .lines([talk])
            .until(hang_up.clone());
        world.outside.twilio.call(call)
    };
    let one_more = async {
        let store = &world.running().store;
        while store.calls_at_dialers().await.unwrap().len() < 40 {
            tokio::task::yield_now().await;
        }
        let result = world.call(HOT).await;
        hang_up.cancel();
        result
    };
    let all = futures_util::future::join_all((10..50).map(long));
    let (_, one_more) = tokio::join!(all, one_more);
    assert_eq!(dialled(&one_more), [ZENDESK_LINE]);
    let decided = world.details(&one_more, Kind::CallDecided).await;
    let skipped = &decided[0]["decision"]["skipped"][0];
    assert_eq!(skipped["detail"], "40 of 40 calls in progress");
}

#[tokio::test]
async fn english_and_german_numbers_each_in_its_language() {
    let world = cooked("English and German numbers, each in its language").await;
    world.outside.zendesk.faults().standing(Fault::status(500));
    for (to, said) in [
        (
            "+442071838750",
            r#"<Say language="en-GB">All of our agents are busy."#,
        ),
        ("+493011111111", r#"<Say language="de-DE">Alle Mitarbeiter"#),
    ] {
        let result = call(&world, HOT, to).await;
        let body = &result.steps[0].body;
        assert!(body.contains(said), "{to}: {body}");
    }
}

#[tokio::test]
async fn a_new_threshold_for_a_fifth_of_the_callers() {
    let world = cooked("A new threshold for a fifth of the callers").await;
    for n in 10..30 {
        let from = format!("+4917000001{n}");
        let profile = Profile::new(&from).with("lead_score", 70);
        world.outside.braze.add(profile);
        let result = world.call(&from).await;
        let decided = world.details(&result, Kind::CallDecided).await;
        let place = decided[0]["facts"]["asked"]["buckets"]["trial"]
            .as_u64()
            .unwrap();
        let rule = if place < 20 { "trial" } else { "sales floor" };
        assert_eq!(world.stored(&result).await.rule.as_deref(), Some(rule));
    }
}

#[tokio::test]
async fn unknown_callers_apart() {
    let world = cooked("Unknown callers apart").await;
    for from in [STRANGER, "anonymous"] {
        let result = world.call(from).await;
        assert_eq!(dialled(&result), [ZENDESK_LINE], "{from}");
        assert_eq!(
            world.stored(&result).await.rule.as_deref(),
            Some("strangers")
        );
    }
    assert_eq!(dialled(&world.call(HOT).await), [DIALFIRE_LINE]);
}

#[test]
fn every_recipe_is_run_by_a_test_of_its_name() {
    let source = include_str!("recipes.rs");
    for name in GUIDE.lines().filter_map(|line| line.strip_prefix("### ")) {
        let letters = |c: char| {
            if c.is_ascii_alphabetic() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        };
        let test: String = name.replace(',', "").chars().map(letters).collect();
        assert!(source.contains(&format!("async fn {test}()")), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn some_are_turned_away_and_some_go_first() {
    let world = cooked("Some are turned away, and some go first").await;
    assert_eq!(dialled(&world.call(STRANGER).await), [DIALFIRE_LINE]);
    assert_eq!(dialled(&world.call(HOT).await), [DIALFIRE_LINE]);
    let add = ["list", "add", "blocked", HOT, "--why", "sells things"];
    let ran = world.command(&add).await;
    assert!(ran.status.success(), "{ran:?}");
    let result = world.call(HOT).await;
    assert!(result.steps[0].body.contains(r#"<Reject reason="busy"/>"#));
    let stored = world.stored(&result).await;
    assert_eq!(stored.rule.as_deref(), Some("turned away"));
    assert_eq!(stored.disposition, Some(Disposition::Rejected));
    let explained = world.command(&["explain", "--from", HOT, "--json"]).await;
    let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
    assert_eq!(explained["rule"], "turned away");
    world.command(&["list", "remove", "blocked", HOT]).await;
    assert_eq!(dialled(&world.call(HOT).await), [DIALFIRE_LINE]);
}

//! Rules over sockets: what each condition, action and limit does with a call.

use std::time::Duration;

use switchboard::audit::Kind;
use switchboard::call::Disposition;
use switchboard_simulator::braze::Profile;
use switchboard_simulator::twilio::{Call, LineBehaviour, Outcome};
use tokio_util::sync::CancellationToken;

use crate::world::{
    CALLED, COLD, DIALFIRE_LINE, HOT, LAST_RESORT, STRANGER, Settings, World, ZENDESK_LINE, dialled,
};

const SERVICE: &str = "+493055555501";

/// A world whose rules stand before that of the sales floor.
async fn world(routing: &str) -> World {
    let before = Settings::default();
    World::with(Settings {
        routing: format!("{}\n{routing}", before.routing),
        ..before
    })
    .await
}

/// A talk that ends when the caller hangs up, however slow the machine is.
fn endless() -> LineBehaviour {
    LineBehaviour::answer(Duration::from_hours(10_000))
}

async fn rule_of(world: &World, from: &str) -> Option<String> {
    let result = world.call(from).await;
    world.stored(&result).await.rule
}

#[tokio::test]
async fn a_rule_refuses_a_call_and_neither_braze_nor_a_dialer_is_asked() {
    let world = world(
        r#"
[[routing.rules]]
name = "refused"
when = { caller = "+4917*" }
reject = "busy"
"#,
    )
    .await;
    let result = world.call(HOT).await;
    assert_eq!(result.outcome, Outcome::Rejected);
    assert!(result.steps[0].body.contains(r#"<Reject reason="busy"/>"#));
    let stored = world.stored(&result).await;
    assert_eq!(stored.disposition, Some(Disposition::Rejected));
    assert_eq!(stored.rule.as_deref(), Some("refused"));
    assert_eq!(world.outside.braze.requests().count(), 0);
    assert_eq!((world.asked_dialfire(), world.asked_zendesk()), (0, 0));
    let decided = world.details(&result, Kind::CallDecided).await;
    assert_eq!(decided[0]["facts"]["lookup"]["reason"], "not_needed");
    assert_eq!(decided[0]["decision"]["course"]["with"], "busy");
}

#[tokio::test]
async fn a_rule_speaks_its_message_in_its_language_and_the_call_ends() {
    let world = world(&format!(
        r#"
[[routing.rules]]
name = "told"
when = {{ called = "{CALLED}", caller_kind = "withheld" }}
message = "Please call with your number."
language = "en-GB"
"#
    ))
    .await;
    let result = world.call("anonymous").await;
    assert_eq!(result.heard, ["Please call with your number."]);
    assert!(result.steps[0].body.contains(r#"<Say language="en-GB">"#));
    let stored = world.stored(&result).await;
    assert_eq!(stored.disposition, Some(Disposition::Rejected));
    assert_eq!(rule_of(&world, HOT).await.as_deref(), Some("sales floor"));
}

#[tokio::test]
async fn the_number_of_a_rule_rings_and_where_nobody_answers_the_last_resort_does() {
    let world = world(&format!(
        r#"
[[routing.rules]]
name = "answering service"
when = {{ score = {{ from = 5, below = 20 }} }}
number = "{SERVICE}"
"#
    ))
    .await;
    let result = world.call(COLD).await;
    assert_eq!(dialled(&result), [SERVICE]);
    let stored = world.stored(&result).await;
    assert_eq!(stored.disposition, Some(Disposition::Answered));
    assert_eq!((world.asked_dialfire(), world.asked_zendesk()), (0, 0));

    world.outside.twilio.set_line(SERVICE, LineBehaviour::Busy);
    let result = world.call(COLD).await;
    assert_eq!(dialled(&result), [SERVICE, LAST_RESORT]);
    let stored = world.stored(&result).await;
    assert_eq!(stored.disposition, Some(Disposition::LastResort));
    assert_eq!(dialled(&world.call(HOT).await), [DIALFIRE_LINE]);
}

#[tokio::test]
async fn outside_the_hours_of_all_dialers_a_caller_is_told_so_at_once_and_nobody_is_alarmed() {
    let closed = r#"
closed_message = "We are closed."
[routing.hours.never]
open = []
[routing.limits.dialfire]
hours = "never"
[routing.limits.zendesk]
hours = "never"
"#;
    let mut world = world(closed).await;
    for from in [HOT, STRANGER] {
        let result = world.call(from).await;
        assert_eq!(result.heard, ["We are closed."], "{from}");
        let stored = world.stored(&result).await;
        assert_eq!(stored.disposition, Some(Disposition::Closed), "{from}");
        assert_eq!(stored.reason.as_str(), "closed", "{from}");
        assert!(!stored.held, "{from}");
    }
    assert_eq!((world.asked_dialfire(), world.asked_zendesk()), (0, 0));
    let open = world.running().store.open_incidents().await.unwrap();
    assert!(open.is_empty(), "{open:?}");

    let mut settings = world.settings();
    let number = format!("closed_number = \"{SERVICE}\"\nclosed_message");
    settings.routing = settings.routing.replace("closed_message", &number);
    world.reload(settings).await;
    let result = world.call(HOT).await;
    assert_eq!(dialled(&result), [SERVICE]);
    let stored = world.stored(&result).await;
    assert_eq!(stored.disposition, Some(Disposition::Closed));

    world.outside.twilio.set_line(SERVICE, LineBehaviour::Busy);
    let result = world.call(HOT).await;
    assert_eq!(dialled(&result), [SERVICE]);
    assert_eq!(result.heard, ["We are closed."]);
    let stored = world.stored(&result).await;
    assert_eq!(stored.disposition, Some(Disposition::Closed));
}

#[tokio::test]
async fn a_closed_dialer_is_left_out_and_the_next_one_takes_the_call() {
    let world = world(
        r#"
[routing.hours.never]
open = []
[routing.limits.dialfire]
hours = "never"
"#,
    )
    .await;
    let result = world.call(HOT).await;
    assert_eq!(dialled(&result), [ZENDESK_LINE]);
    let decided = world.details(&result, Kind::CallDecided).await;
    assert_eq!(decided[0]["decision"]["skipped"][0]["reason"], "closed");
}

#[tokio::test]
async fn hours_that_are_open_and_those_that_are_closed_send_calls_to_rules_of_their_own() {
    let world = world(
        r#"
[routing.hours.always]
open = ["daily 00:00-24:00"]
[[routing.rules]]
name = "night"
when = { not_hours = "always" }
message = "It is night."
[[routing.rules]]
name = "day"
when = { hours = "always", tier = "cold" }
dialers = ["dialfire"]
"#,
    )
    .await;
    let result = world.call(COLD).await;
    assert_eq!(dialled(&result), [DIALFIRE_LINE]);
    let decided = world.details(&result, Kind::CallDecided).await;
    let open = &decided[0]["facts"]["asked"]["hours"]["always"]["is_open"];
    assert_eq!(*open, true);
    assert_eq!(rule_of(&world, HOT).await.as_deref(), Some("sales floor"));
}

#[tokio::test]
async fn attributes_of_braze_are_fetched_where_rules_ask_for_them_and_compared_without_case() {
    let world = world(
        r#"
attributes = ["plan", "trial"]
[[routing.rules]]
name = "gold"
when = { attribute = { plan = ["gold"], trial = false } }
dialers = ["zendesk"]
[[routing.rules]]
name = "nobody we know"
when = { lookup = ["unknown", "skipped"] }
dialers = ["dialfire"]
"#,
    )
    .await;
    let gold = "+491700000077";
    let profile = Profile::new(gold)
        .with("lead_score", 85)
        .with("plan", "GOLD");
    world
        .outside
        .braze
        .add(profile.with("trial", false).with("name", "secret"));
    let result = world.call(gold).await;
    assert_eq!(dialled(&result), [ZENDESK_LINE]);
    let decided = world.details(&result, Kind::CallDecided).await;
    let profile = &decided[0]["facts"]["lookup"]["profile"];
    assert_eq!(profile["attributes"]["plan"], "GOLD");
    assert!(!decided[0].to_string().contains("secret"));
    assert_eq!(rule_of(&world, HOT).await.as_deref(), Some("sales floor"));
    for from in [STRANGER, "anonymous"] {
        let rule = rule_of(&world, from).await;
        assert_eq!(rule.as_deref(), Some("nobody we know"), "{from}");
    }
}

#[tokio::test]
async fn whoever_calls_for_the_first_time_is_told_from_whoever_calls_again() {
    let world = world(
        r#"
[[routing.rules]]
name = "first"
when = { called_before_within = { never = true } }
dialers = ["zendesk"]
[[routing.rules]]
name = "again"
when = { called_before_within = "1h" }
dialers = ["dialfire", "zendesk"]
prefer = { last_answered_within = "30d" }
"#,
    )
    .await;
    assert_eq!(rule_of(&world, HOT).await.as_deref(), Some("first"));
    let result = world.call(HOT).await;
    assert_eq!(world.stored(&result).await.rule.as_deref(), Some("again"));
    assert_eq!(
        dialled(&result),
        [ZENDESK_LINE],
        "it talked to the caller last"
    );
    let decided = world.details(&result, Kind::CallDecided).await;
    assert_eq!(decided[0]["decision"]["preferred"], "zendesk");
    let first = rule_of(&world, COLD).await;
    assert_eq!(first.as_deref(), Some("first"), "another caller");
    let withheld = world.call("anonymous").await;
    assert_eq!(world.stored(&withheld).await.rule, None, "nobody knows");
}

#[tokio::test]
async fn a_share_takes_the_same_callers_each_time_and_a_weighted_order_names_each_dialer_once() {
    let world = world(
        r#"
[[routing.rules]]
name = "trial"
when = { share = 50 }
dialers = [{ dialfire = 1, zendesk = 0 }]
"#,
    )
    .await;
    for n in 0..10 {
        let from = format!("+49170000010{n}");
        let result = world.call(&from).await;
        let decided = world.details(&result, Kind::CallDecided).await;
        let place = decided[0]["facts"]["asked"]["buckets"]["trial"]
            .as_u64()
            .unwrap();
        let first = world.stored(&result).await.rule;
        assert_eq!(first.is_some(), place < 50, "{from}");
        assert_eq!(rule_of(&world, &from).await, first, "{from}");
    }
    world
        .outside
        .twilio
        .set_line(DIALFIRE_LINE, LineBehaviour::Busy);
    for n in 0..10 {
        let result = world.call(&format!("+49170000010{n}")).await;
        if world.stored(&result).await.rule.is_some() {
            let lines = dialled(&result);
            assert_eq!(lines, [DIALFIRE_LINE, DIALFIRE_LINE, ZENDESK_LINE]);
        }
    }
}

#[tokio::test]
async fn recorded_decisions_of_every_kind_come_out_the_same_when_they_are_executed_again() {
    let world = world(&format!(
        r#"
attributes = ["plan"]
[routing.hours.always]
open = ["daily 00:00-24:00"]
[routing.limits.dialfire]
max_active = 3
max_per_hour = 2
[[routing.rules]]
name = "refused"
when = {{ caller = "+4420*" }}
reject = "rejected"
[[routing.rules]]
name = "number"
when = {{ caller = "+4930*", hours = "always" }}
number = "{SERVICE}"
[[routing.rules]]
name = "split"
when = {{ share = 60, called = ["+49*"], caller_kind = ["number", "withheld"] }}
dialers = [{{ dialfire = 60, zendesk = 40 }}]
prefer = {{ last_answered_within = "1h" }}
"#
    ))
    .await;
    for n in 10..22 {
        for prefix in ["+4420000000", "+4930000000", "+4917000000"] {
            world.call(&format!("{prefix}{n}")).await;
        }
    }
    world.call("anonymous").await;
    let output = world.command(&["--json", "replay", "--since", "1h"]).await;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["replayed"], 37, "{report}");
    assert_eq!(report["identical"], 37, "{report}");
}

#[tokio::test]
async fn a_dialer_with_as_many_calls_as_it_may_have_gets_no_more_until_one_ends() {
    let world = world(
        "
[routing.limits.dialfire]
max_active = 1
",
    )
    .await;
    for from in ["+491700000091", "+491700000092"] {
        let profile = Profile::new(from).with("lead_score", 95);
        world.outside.braze.add(profile);
    }
    let hang_up = CancellationToken::new();
    let talk = Call::new(HOT, CALLED)
        .lines([endless()])
        .until(hang_up.clone());
    let (first, second) = tokio::join!(world.outside.twilio.call(talk), async {
        let store = &world.running().store;
        while store.calls_at_dialers().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let result = world.call("+491700000091").await;
        hang_up.cancel();
        result
    });
    assert_eq!(dialled(&first), [DIALFIRE_LINE]);
    assert_eq!(dialled(&second), [ZENDESK_LINE]);
    let decided = world.details(&second, Kind::CallDecided).await;
    let skipped = &decided[0]["decision"]["skipped"][0];
    assert_eq!(skipped["reason"], "full");
    assert_eq!(skipped["detail"], "1 of 1 calls in progress");
    let third = world.call("+491700000092").await;
    assert_eq!(dialled(&third), [DIALFIRE_LINE], "the first call has ended");
}

#[tokio::test]
async fn where_all_dialers_are_full_a_caller_waits_for_the_first_free_place_and_nobody_is_alarmed()
{
    let world = world(
        "
[routing.limits.dialfire]
max_active = 1
[routing.limits.zendesk]
max_active = 1
",
    )
    .await;
    let callers = ["+491700000091", "+491700000092", "+491700000093"];
    for from in callers {
        world
            .outside
            .braze
            .add(Profile::new(from).with("lead_score", 95));
    }
    let [first, second] = [(); 2].map(|()| CancellationToken::new());
    let call = |from: &str| Call::new(from, CALLED).patience(Duration::from_hours(100));
    let store = &world.running().store;
    // One after another: calls that arrive together may all see the same free place.
    let are_at_dialers = |n: usize| async move {
        while store.calls_at_dialers().await.unwrap().len() < n {
            tokio::task::yield_now().await;
        }
    };
    let one = call(callers[0]).lines([endless()]).until(first.clone());
    let two = call(callers[1]).lines([endless()]).until(second.clone());
    let second_call = async {
        are_at_dialers(1).await;
        world.outside.twilio.call(two).await
    };
    let third_call = async {
        are_at_dialers(2).await;
        let freed = async {
            while store.calls_held().await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            let open = store.open_incidents().await.unwrap();
            assert!(open.is_empty(), "{open:?}");
            first.cancel();
        };
        let (third, ()) = tokio::join!(world.outside.twilio.call(call(callers[2])), freed);
        second.cancel();
        third
    };
    let (one, two, third) = tokio::join!(world.outside.twilio.call(one), second_call, third_call);
    assert_eq!(dialled(&one), [DIALFIRE_LINE]);
    assert_eq!(dialled(&two), [ZENDESK_LINE]);
    assert_eq!(dialled(&third), dialled(&one), "the place of the first one");
    let stored = world.stored(&third).await;
    assert!(stored.held);
    assert_eq!(stored.disposition, Some(Disposition::Answered));
}

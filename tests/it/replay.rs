//! Recorded decisions, executed again.

use std::process::Output;

use rusqlite::Connection;
use serde_json::Value;
use switchboard::audit::Event;

use crate::wire::Request;
use crate::world::{COLD, HOT, PUSH_SECRET, STRANGER, World, id};

#[track_caller]
fn report(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Changes the audit log as somebody with the file could.
fn tamper(world: &World, change: &str) {
    let database = Connection::open(world.database()).unwrap();
    let script = format!("DROP TRIGGER audit_records_refuse_update; {change};");
    database.execute_batch(&script).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_decision_comes_out_as_recorded_also_beside_the_running_server() {
    let world = World::new().await;
    for caller in [HOT, COLD, STRANGER, "anonymous"] {
        world.call(caller).await;
    }
    let all = world.command(&["replay", "--since", "24h", "--json"]).await;
    let all = report(&all, 0);
    assert_eq!(
        all,
        serde_json::json!({ "replayed": 4, "identical": 4, "different": [] })
    );
    let later = world
        .command(&["replay", "--since", "2999-01-01T00:00:00Z", "--json"])
        .await;
    assert_eq!(report(&later, 0)["replayed"], 0);
}

/// The second becomes another number where it is read carelessly: its digits as a whole, then the place of its point.
#[tokio::test(flavor = "multi_thread")]
async fn a_score_of_many_digits_comes_out_as_recorded() {
    let world = World::new().await;
    for score in ["89.30000000000001", "95.77446702271027"] {
        let body = format!(r#"{{"phone":"{STRANGER}","lead_score":"{score}"}}"#);
        let push = Request::new("POST", "/webhooks/braze")
            .header("Authorization", &format!("Bearer {PUSH_SECRET}"))
            .body(body.as_bytes());
        assert_eq!(push.send(world.running().address).await.status, 204);
        let call = world.call(STRANGER).await;
        let decided = world.records(&call).await.remove(0).event().unwrap();
        let Event::CallDecided(decided) = decided else {
            panic!("{decided:?}");
        };
        assert_eq!(decided.decision.score.unwrap().to_string(), score);
        let output = world
            .command(&["replay", id(&call).as_str(), "--json"])
            .await;
        let expected = serde_json::json!({ "replayed": 1, "identical": 1, "different": [] });
        assert_eq!(report(&output, 0), expected, "{score}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_comes_out_otherwise_is_named_with_both_values() {
    let mut world = World::new().await;
    let hot = world.call(HOT).await;
    let cold = world.call(COLD).await;
    world.stop().await;
    tamper(
        &world,
        "UPDATE audit_records SET detail = replace(detail, '\"tier\":\"hot\"', '\"tier\":\"cold\"')
         WHERE kind = 'call_decided'",
    );
    let hot = id(&hot);
    let output = world.command(&["replay", hot.as_str(), "--json"]).await;
    let found = report(&output, 1);
    assert_eq!(
        (&found["replayed"], &found["identical"]),
        (&1.into(), &0.into())
    );
    let different = found["different"].as_array().unwrap();
    let tier = different.iter().find(|one| one["field"] == "tier").unwrap();
    assert_eq!(tier["call_id"], hot.as_str());
    assert_eq!(
        (&tier["then"], &tier["now"]),
        (&"cold".into(), &"hot".into())
    );

    let untouched = world
        .command(&["replay", id(&cold).as_str(), "--json"])
        .await;
    assert_eq!(report(&untouched, 0)["identical"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_set_that_is_not_recorded_is_a_difference_and_so_is_a_record_that_cannot_be_read() {
    let mut world = World::new().await;
    world.call(HOT).await;
    world.call(COLD).await;
    world.stop().await;
    tamper(
        &world,
        "UPDATE audit_records SET detail = replace(detail, 'zendesk', 'dialfire') WHERE kind = 'ruleset_loaded';
         UPDATE audit_records SET detail = '{}' WHERE id = (SELECT max(id) FROM audit_records WHERE kind = 'call_decided')",
    );
    let output = world.command(&["replay", "--since", "1h", "--json"]).await;
    let found = report(&output, 1);
    let fields: Vec<_> = found["different"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["field"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(fields, ["ruleset", "record"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_refused_with_what_to_do() {
    let world = World::new().await;
    let unknown = world
        .command(&["replay", "CA00000000000000000000000000000000"])
        .await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no decision of CA0"));
    for arguments in [
        &["replay"][..],
        &["replay", "--since", "soon"],
        &["replay", "CA1", "--since", "1h"],
    ] {
        let refused = world.command(arguments).await;
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {refused:?}");
    }
}

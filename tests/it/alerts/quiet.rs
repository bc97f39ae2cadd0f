//! What people do about alerts: mutes, planned windows, an incident that somebody works on, a dialer that is taken out. And of one outage, one message
//! each way.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use switchboard::clock::Clock;
use switchboard_simulator::faults::{Fault, Route};
use switchboard_simulator::smtp::{Message, SmtpFault};

use super::{KEY, Office, Server, messages_when};
use crate::world::{CALLED, HOT, Settings};

const START: &str = "2026-11-23T09:00:00Z";

async fn office() -> Office {
    let clock = Clock::stopped(START.parse::<Timestamp>().unwrap());
    Office::with(Server::Plain, &["ops@example.com"], "", clock).await
}

/// Long enough for every job to have looked twice.
async fn a_look() {
    Clock::system().wait(Duration::from_millis(1_600)).await;
}

async fn send(office: &Office, method: Method, path: &str, body: &str) -> (u16, Value) {
    let url = format!("http://{}/api/v1{path}", office.world.running().address);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.request(method, url).header("x-api-key", KEY);
    let answer = request.body(body.to_owned()).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

pub(super) async fn mute(office: &Office, body: Value) -> (u16, Value) {
    send(office, Method::POST, "/alerts/mutes", &body.to_string()).await
}

async fn active(office: &Office) -> Value {
    office.get("/api/v1/alerts/active").await["data"].clone()
}

/// Waits until the first open incident is so.
async fn active_when(office: &Office, is_so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1_800 {
        let first = active(office).await[0].clone();
        if is_so(&first) {
            return first;
        }
        Clock::system().wait(Duration::from_millis(100)).await;
    }
    panic!("never: {:#}", active(office).await);
}

fn subjects(office: &Office) -> Vec<String> {
    let mails = office.world.outside.smtp.messages();
    mails.iter().map(Message::subject).collect()
}

async fn records(office: &Office, kind: &str) -> Vec<Value> {
    let found = office.get(&format!("/api/v1/logs?kind={kind}")).await;
    let records = found["data"].as_array().unwrap();
    records
        .iter()
        .map(|record| record["detail"].clone())
        .collect()
}

#[tokio::test]
async fn while_alerts_are_muted_nobody_is_told_and_when_the_mute_ends_somebody_is() {
    let mut office = office().await;
    let (status, made) = mute(
        &office,
        json!({ "for": "1h", "reason": "the carrier works" }),
    )
    .await;
    assert_eq!(status, 201, "{made:#}");
    let made = &made["data"];
    assert_eq!(
        (&made["by"], &made["from"], &made["until"]),
        (&json!("ops"), &json!(START), &json!("2026-11-23T10:00:00Z"))
    );
    // It outlives the process.
    office.world.stop().await;
    office.world.start().await;
    assert_eq!(
        office.get("/api/v1/alerts/mutes").await["data"],
        json!([made])
    );

    office.failing_call().await;
    let open = active_when(&office, |one| one["muted"].is_object()).await;
    assert_eq!(
        open["muted"],
        json!({ "by": "ops", "since": START, "reason": "the carrier works", "until": "2026-11-23T10:00:00Z" })
    );
    a_look().await;
    assert_eq!(subjects(&office), Vec::<String>::new());
    assert_eq!(active(&office).await[0]["messages"], json!([]));

    let id = made["id"].as_str().unwrap();
    let path = format!("/alerts/mutes/{id}");
    assert_eq!(send(&office, Method::DELETE, &path, "").await.0, 204);
    assert_eq!(send(&office, Method::DELETE, &path, "").await.0, 404);
    office.mails(1).await;
    assert_eq!(subjects(&office), ["[Switchboard] Calls fail"]);
    assert_eq!(active(&office).await[0]["muted"], Value::Null);
    let recorded = records(&office, "alerts_muted").await;
    assert_eq!(recorded.len(), 2, "{recorded:#?}");
    assert_eq!(
        (&recorded[0]["id"], &recorded[0]["ended_by"]),
        (&json!(id), &json!("ops"))
    );
    assert_eq!(
        (&recorded[1]["by"], &recorded[1]["reason"]),
        (&json!("ops"), &json!("the carrier works"))
    );
}

#[tokio::test]
async fn in_a_planned_window_nobody_is_told_and_before_it_somebody_is() {
    let office = office().await;
    let clock = office.world.settings().clock;
    let window = json!({ "from": "2026-11-23T09:30:00Z", "for": "30m", "dialer": "dialfire", "kind": "dialer_down", "reason": "new firmware" });
    assert_eq!(mute(&office, window).await.0, 201);
    let all = json!({ "from": "2026-11-23T09:30:00Z", "until": "2026-11-23T10:00:00Z", "reason": "the carrier works" });
    assert_eq!(mute(&office, all).await.0, 201);
    office.failing_call().await;
    office.mails(1).await;
    clock.advance(Duration::from_mins(6));
    a_look().await;
    clock.advance(Duration::from_mins(2));
    office.mails(2).await;

    clock.advance(Duration::from_mins(23));
    office.failing_call().await;
    active_when(&office, |one| one["muted"].is_object()).await;
    // It is over before the window is.
    clock.advance(Duration::from_mins(6));
    a_look().await;
    clock.advance(Duration::from_mins(2));
    active_when(&office, Value::is_null).await;
    clock.advance(Duration::from_mins(40));
    a_look().await;
    assert_eq!(
        subjects(&office),
        [
            "[Switchboard] Calls fail",
            "[Switchboard] Resolved: calls fail"
        ]
    );
    assert_eq!(office.get("/api/v1/alerts/mutes").await["data"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_muted_or_taken_out_is_refused_in_words() {
    let office = office().await;
    for (body, why) in [
        (
            json!({ "for": "1h", "kind": "audit_damaged" }),
            "cannot be muted",
        ),
        (
            json!({ "for": "1h", "kind": "audit_store_failing" }),
            "cannot be muted",
        ),
        (
            json!({ "for": "1h", "until": "2026-11-23T10:00:00Z" }),
            "not both",
        ),
        (json!({}), "how long"),
        (json!({ "for": "25h" }), "24 hours"),
        (json!({ "for": "0h" }), "a time to come"),
        (json!({ "for": "soon" }), "a time to come"),
        (json!({ "until": "2026-11-23T08:00:00Z" }), "a time to come"),
        (
            json!({ "for": "1h", "from": "2000-01-01T00:00:00Z" }),
            "begins now",
        ),
        (
            json!({ "for": "1h", "from": "2027-11-23T09:00:00Z" }),
            "within 30 days",
        ),
        (json!({ "for": "1h", "dialer": null }), "null"),
        (json!({ "for": "1h", "dialer": "nobody" }), "no dialer"),
        (json!({ "for": "1h", "kind": "rain" }), "unknown variant"),
        (json!({ "for": "1h", "of": "all" }), "unknown field"),
    ] {
        let mut body = body;
        body["reason"] = "because".into();
        let (status, answer) = mute(&office, body.clone()).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(
            status == 400 && message.contains(why),
            "{body}: {status} {message}"
        );
    }
    assert_eq!(
        mute(&office, json!({ "for": "1h" })).await.0,
        400,
        "without a reason"
    );
    for body in [
        "null",
        "[]",
        r#"{"until": null}"#,
        r#"{"why": "x"}"#,
        r#"{"for": "1h", "until": "2126-11-23T10:00:00Z"}"#,
    ] {
        let (status, answer) = send(&office, Method::POST, "/dialers/dialfire/drain", body).await;
        assert_eq!(status, 400, "{body}: {answer:#}");
    }
    assert_eq!(office.get("/api/v1/alerts/mutes").await["data"], json!([]));
}

#[tokio::test]
async fn what_is_about_the_log_itself_is_told_while_all_is_muted() {
    let office = Office::new(Server::Plain).await;
    let all = json!({ "for": "24h", "reason": "all of it" });
    assert_eq!(mute(&office, all).await.0, 201);
    let stranger = rusqlite::Connection::open(office.world.database()).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    office.world.call(HOT).await;
    let reached = office.world.outside.smtp.reached(1);
    tokio::time::timeout(super::PATIENCE, reached)
        .await
        .unwrap();
    stranger.execute_batch("ROLLBACK").unwrap();
    assert_eq!(
        subjects(&office),
        ["[Switchboard] The database takes no records"]
    );
}

#[tokio::test]
async fn who_works_on_an_incident_is_recorded_and_shown_and_the_first_stays() {
    let office = office().await;
    office.failing_call().await;
    office.mails(1).await;
    let id = active(&office).await[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/alerts/{id}/acknowledge");
    for _ in 0..2 {
        let (status, answer) = send(&office, Method::POST, &path, "").await;
        assert_eq!(status, 200, "{answer:#}");
        assert_eq!(
            answer["data"]["acknowledged"],
            json!({ "by": "ops", "at": START })
        );
    }
    let recorded = records(&office, "incident_acknowledged").await;
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert_eq!(
        (&recorded[0]["incident"], &recorded[0]["by"]),
        (&id.clone().into(), &"ops".into())
    );
    let unknown = send(&office, Method::POST, "/alerts/nothing/acknowledge", "").await;
    assert_eq!(unknown.0, 404);

    // Nothing fails any more: it says so, closes, and keeps the name.
    office
        .world
        .settings()
        .clock
        .advance(Duration::from_mins(6));
    let open = active_when(&office, |one| one["recovered_at"].is_string()).await;
    assert_eq!(open["closes_at"], "2026-11-23T09:07:00Z");
    office
        .world
        .settings()
        .clock
        .advance(Duration::from_mins(1));
    office.mails(2).await;
    let over = office.get(&format!("/api/v1/alerts/{id}")).await;
    let over = &over["data"];
    assert_eq!(
        (&over["status"], &over["acknowledged"]["by"]),
        (&json!("resolved"), &json!("ops"))
    );
    assert_eq!(send(&office, Method::POST, &path, "").await.0, 409);
}

#[tokio::test]
async fn a_dialer_that_is_taken_out_until_a_time_is_back_by_itself_after_a_restart() {
    let mut office = office().await;
    let path = "/dialers/dialfire/drain";
    assert_eq!(send(&office, Method::POST, path, "").await.0, 200);
    let body = r#"{"reason": "new firmware", "for": "2h"}"#;
    let (status, out) = send(&office, Method::POST, path, body).await;
    assert_eq!(status, 200);
    assert_eq!(
        out["data"]["drained"],
        json!({ "by": "ops", "since": START, "reason": "new firmware", "until": "2026-11-23T11:00:00Z" })
    );
    assert_eq!(out["data"]["reason"], "taken out by ops: new firmware");
    let clock = office.world.settings().clock;
    office.world.stop().await;
    clock.advance(Duration::from_mins(119));
    office.world.start().await;
    a_look().await;
    let dialer = office.get("/api/v1/dialers/dialfire").await;
    assert_eq!(dialer["data"]["drained"], out["data"]["drained"]);
    office.world.stop().await;
    clock.advance(Duration::from_mins(2));
    office.world.start().await;
    let mut dialer = Value::Null;
    for _ in 0..100 {
        dialer = office.get("/api/v1/dialers/dialfire").await["data"].clone();
        if dialer["state"] == "closed" {
            break;
        }
        Clock::system().wait(Duration::from_millis(100)).await;
    }
    assert_eq!(
        (&dialer["state"], &dialer["drained"]),
        (&json!("closed"), &Value::Null)
    );
    let causes: Vec<_> = records(&office, "health_changed").await;
    assert_eq!(causes[0]["cause"], "put back by the end that ops had set");
    assert_eq!(subjects(&office), Vec::<String>::new());
}

/// The appliance, whose dialers are probed every 15 s.
async fn probed() -> Office {
    let clock = Clock::stopped(START.parse::<Timestamp>().unwrap());
    let change = |settings: Settings| Settings {
        clock,
        dialers: "probe_every = \"15s\"\ntimeout = \"1900ms\"".to_owned(),
        ..settings
    };
    Office::in_a_world(Server::Plain, &["ops@example.com"], "", change).await
}

impl Office {
    /// Both dialers fail, and a caller is held.
    async fn outage(&self) {
        for faults in [
            self.world.outside.dialfire.faults(),
            self.world.outside.zendesk.faults(),
        ] {
            faults.standing_on(Route::method("POST"), Fault::status(500));
        }
        let body = self.arrive().await;
        assert!(body.contains("/hold?n=1"), "{body}");
    }

    /// They work again, and the next caller is connected.
    async fn repair(&self) {
        self.world.outside.dialfire.faults().clear();
        self.world.outside.zendesk.faults().clear();
        let body = self.arrive().await;
        assert!(!body.contains("/hold?"), "{body}");
    }

    async fn arrive(&self) -> String {
        let twilio = &self.world.outside.twilio;
        let fields = twilio.inbound_fields(&twilio.new_sid("CA"), HOT, CALLED);
        twilio.post("/webhooks/twilio", &fields).await.unwrap().body
    }
}

#[tokio::test]
async fn two_outages_of_forty_seconds_make_one_mail_each_way_and_none_after_the_repair() {
    let office = probed().await;
    let clock = office.world.settings().clock;
    for n in 0..2 {
        office.outage().await;
        office.mails(2 * n + 1).await;
        clock.advance(Duration::from_secs(40));
        a_look().await;
        office.repair().await;
        office.mails(2 * n + 2).await;
        // Time for whatever else might be said.
        for _ in 0..8 {
            clock.advance(Duration::from_secs(10));
            a_look().await;
        }
    }
    let [opened, resolved] = [
        "[Switchboard] No dialer takes calls (1). dialfire and zendesk answer HTTP 500",
        "[Switchboard] Resolved: no dialer takes calls",
    ];
    assert_eq!(subjects(&office), [opened, resolved, opened, resolved]);
}

#[tokio::test]
async fn a_failure_that_is_over_before_its_mail_could_leave_is_told_as_over() {
    let office = probed().await;
    let (clock, smtp) = (office.world.settings().clock, &office.world.outside.smtp);
    smtp.standing(SmtpFault::RefuseConnections);
    office.outage().await;
    messages_when(&office, |all| all[0]["attempts"] == 1).await;
    clock.advance(Duration::from_secs(40));
    a_look().await;
    office.repair().await;
    let is_over = |all: &[Value]| all[0]["state"] == "superseded" && all.len() == 2;
    messages_when(&office, is_over).await;
    smtp.clear();
    clock.advance(Duration::from_secs(61));
    office.mails(1).await;
    a_look().await;
    assert_eq!(
        subjects(&office),
        ["[Switchboard] Resolved: no dialer takes calls"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_take_a_dialer_out_and_mute_alerts_beside_the_running_server() {
    let office = Office::new(Server::Plain).await;
    let run = async |arguments: &[&str]| {
        let ran = office.world.command(arguments).await;
        let text = String::from_utf8(ran.stdout).unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        (ran.status.code(), text, said)
    };
    let (code, text, said) = run(&[
        "drain",
        "dialfire",
        "--reason",
        "new firmware",
        "--for",
        "2h",
    ])
    .await;
    assert!(
        code == Some(0) && text.contains(": new firmware, until "),
        "{text}{said}"
    );
    let (code, _, said) = run(&["drain", "zendesk"]).await;
    assert!(
        code == Some(0) && said.contains("callers are held"),
        "{said}"
    );
    let (code, text, _) = run(&["resume", "zendesk"]).await;
    assert_eq!((code, text.as_str()), (Some(0), "zendesk: in use\n"));
    let (code, _, said) = run(&["drain", "nobody"]).await;
    assert!(
        code == Some(2) && said.contains("no dialer is named \"nobody\""),
        "{said}"
    );

    let (code, text, said) = run(&[
        "mute",
        "--for",
        "1h",
        "--kind",
        "dialer_down",
        "--reason",
        "firmware",
    ])
    .await;
    assert!(
        code == Some(0) && text.contains("dialer_down"),
        "{text}{said}"
    );
    let (_, text, _) = run(&["--json", "mute", "--list"]).await;
    let mutes: Value = serde_json::from_str(&text).unwrap();
    let id = mutes[0]["id"].as_str().unwrap();
    assert!(
        mutes[0]["by"].as_str().unwrap().starts_with("user "),
        "{mutes:#}"
    );
    let (code, text, _) = run(&["mute", "--end", id]).await;
    assert_eq!((code, text.as_str()), (Some(0), "nothing is muted\n"));
    let (code, _, said) = run(&[
        "mute",
        "--for",
        "1h",
        "--kind",
        "audit_damaged",
        "--reason",
        "x",
    ])
    .await;
    assert!(
        code == Some(2) && said.contains("cannot be muted"),
        "{said}"
    );
}

//! Channels of other services and the heartbeat, over real sockets: the stand-ins refuse what breaks a documented format.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use switchboard::clock::Clock;
use switchboard_simulator::alert_channels::AlertChannels;
use switchboard_simulator::faults::{Fault, Route};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::quiet::mute;
use super::{Office, PATIENCE, Server, messages_when};
use crate::world::{HOT, Settings};

fn begin() -> Clock {
    Clock::stopped("2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap())
}

/// One channel of each kind.
async fn office(clock: &Clock, alerts: &str) -> (Office, AlertChannels, JoinSet<()>) {
    let (channels, serve) = AlertChannels::bind("127.0.0.1:0").unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve);
    let url = channels.url();
    let sections = format!(
        "[alerts.channels.room]\nkind = \"slack\"\nurl = \"{url}{slack}\"\n\
         [alerts.channels.desk]\nkind = \"teams\"\nurl = \"{url}{teams}?api-version=1&sig=made-up-sig\"\n\
         [alerts.channels.oncall]\nkind = \"pagerduty\"\nurl = \"{url}{pagerduty}\"\nrouting_key = \"{key}\"\n\
         [alerts.channels.phones]\nkind = \"ntfy\"\nurl = \"{url}/{topic}\"\nheaders = {{ Authorization = \"Bearer made-up-tk\" }}\n\
         [alerts.channels.else]\nkind = \"http\"\nurl = \"{url}{other}\"\nbody = {{ what = \"{{severity}}: {{title}}\", key = \"{{incident}}\" }}\n",
        slack = AlertChannels::SLACK,
        teams = AlertChannels::TEAMS,
        pagerduty = AlertChannels::PAGERDUTY,
        key = AlertChannels::ROUTING_KEY,
        topic = AlertChannels::TOPIC,
        other = AlertChannels::OTHER,
    );
    let alerts = alerts.replace("HEARTBEAT", &format!("{url}{}", AlertChannels::HEARTBEAT));
    let change = |settings: Settings| Settings {
        clock: clock.clone(),
        sections: format!("{}\n{sections}", settings.sections),
        ..settings
    };
    let office = Office::in_a_world(Server::Plain, &["ops@example.com"], &alerts, change).await;
    (office, channels, tasks)
}

/// Waits until the messages to this recipient are so.
async fn told(office: &Office, recipient: &str, is_so: impl Fn(&[&Value]) -> bool) {
    messages_when(office, |messages| {
        let to = messages.iter().filter(|m| m["recipient"] == recipient);
        is_so(&to.collect::<Vec<_>>())
    })
    .await;
}

fn last_is(key: &str, value: impl Into<Value>) -> impl Fn(&[&Value]) -> bool {
    let value = value.into();
    move |messages| messages.last().is_some_and(|last| last[key] == value)
}

/// Lets calls be answered again, and time pass until the incident is over.
async fn resolve(office: &Office, clock: &Clock) {
    for _ in 0..1_800 {
        clock.advance(Duration::from_secs(61));
        Clock::system().wait(Duration::from_millis(300)).await;
        let history = office.get("/api/v1/alerts/history").await;
        if history["data"][0]["status"] == "resolved" {
            return;
        }
    }
    panic!("the incident stays open");
}

/// Two looks at the outbox, and a heartbeat that would be due.
async fn look() {
    Clock::system().wait(Duration::from_millis(1_500)).await;
}

fn bodies(channels: &AlertChannels, path: &str) -> Vec<Value> {
    let requests = channels.requests_to(path);
    requests.iter().map(|one| one.json().unwrap()).collect()
}

#[tokio::test]
async fn each_service_is_told_of_beginning_and_end_in_its_own_format_and_never_of_a_number() {
    let clock = begin();
    let (office, channels, _tasks) = office(&clock, "").await;
    let call_sid = office.failing_call().await;
    let all_sent = |n: usize| {
        messages_when(&office, move |messages| {
            let sent = messages.iter().filter(|m| m["state"] == "sent");
            sent.count() >= n
        })
    };
    all_sent(6).await;
    let open = office.get("/api/v1/alerts/active").await["data"][0]["id"].clone();
    let acknowledge = format!("/api/v1/alerts/{}/acknowledge", open.as_str().unwrap());
    let (status, answer) = office.ask(Method::POST, &acknowledge).await;
    assert_eq!(status, 200, "{answer}");
    // The pager alone is told that somebody works on it.
    all_sent(7).await;
    let alerts: Vec<_> = channels.alerts().into_values().collect();
    assert_eq!(alerts, ["acknowledged"]);
    resolve(&office, &clock).await;
    all_sent(13).await;

    let slack = bodies(&channels, AlertChannels::SLACK);
    let text = slack[0]["text"].as_str().unwrap();
    assert!(
        text.starts_with("*<https://calls.example.com/alerts"),
        "{text}"
    );
    assert!(text.contains("|[Switchboard] Calls fail>*\n"), "{text}");
    assert!(text.contains(&format!("/logs/{call_sid}")), "{text}");
    let end = slack.last().unwrap()["text"].as_str().unwrap();
    assert!(end.contains("[Switchboard] Resolved: calls fail>"), "{end}");

    let teams = bodies(&channels, AlertChannels::TEAMS);
    let card = |n: usize| &teams[n]["attachments"][0]["content"];
    assert_eq!(card(0)["body"][0]["text"], "\\[Switchboard\\] Calls fail");
    assert_eq!(card(0)["body"][0]["color"], "Attention");
    assert_eq!(card(teams.len() - 1)["body"][0]["color"], "Good");

    let events = bodies(&channels, AlertChannels::PAGERDUTY);
    let (first, last) = (&events[0], events.last().unwrap());
    assert_eq!(first["event_action"], "trigger");
    assert_eq!(first["payload"]["summary"], "[Switchboard] Calls fail");
    assert_eq!(first["payload"]["class"], "routing_failure_rate");
    assert_eq!(last["event_action"], "resolve");
    assert_eq!(first["dedup_key"], last["dedup_key"]);
    let alerts: Vec<_> = channels.alerts().into_values().collect();
    assert_eq!(alerts, ["resolved"]);

    let ntfy = bodies(&channels, "/");
    assert_eq!(ntfy[0]["topic"], AlertChannels::TOPIC);
    assert_eq!(
        (&ntfy[0]["priority"], &ntfy[0]["tags"][0]),
        (&5.into(), &"rotating_light".into())
    );
    assert_eq!(ntfy.last().unwrap()["priority"], 3);
    let header = channels.requests_to("/")[0]
        .header("authorization")
        .map(str::to_owned);
    assert_eq!(header.as_deref(), Some("Bearer made-up-tk"));

    let other = bodies(&channels, AlertChannels::OTHER);
    assert_eq!(other[0]["what"], "critical: [Switchboard] Calls fail");
    assert_eq!(other[0]["key"], first["dedup_key"]);

    assert!(
        channels
            .requests()
            .all()
            .iter()
            .all(|one| one.status.is_some_and(|s| s < 300))
    );
    for number in [HOT, "1700000090"] {
        assert!(channels.requests().mentioning(number).is_empty());
    }
    let settings = office.get("/api/v1/settings").await.to_string();
    assert!(settings.contains(&channels.url()), "{settings}");
    for secret in [
        "made-up-slack-token",
        "made-up-sig",
        AlertChannels::TOPIC,
        AlertChannels::ROUTING_KEY,
    ] {
        assert!(!settings.contains(secret), "{secret}: {settings}");
    }
}

#[tokio::test]
async fn who_was_told_of_a_beginning_is_told_of_the_end_though_all_is_muted_by_then() {
    let clock = begin();
    let (office, channels, _tasks) = office(&clock, "").await;
    office.failing_call().await;
    let to = "pagerduty:oncall";
    told(&office, to, last_is("state", "sent")).await;
    let all = json!({ "for": "24h", "reason": "the carrier works" });
    assert_eq!(mute(&office, all).await.0, 201);
    let open = office.get("/api/v1/alerts/active").await["data"][0]["id"].clone();
    let path = format!("/api/v1/alerts/{}", open.as_str().unwrap());
    let acknowledged = office
        .ask(Method::POST, &format!("{path}/acknowledge"))
        .await;
    assert_eq!(acknowledged.0, 200);
    let sent = |n: usize| move |all: &[&Value]| all.len() == n && all[n - 1]["state"] == "sent";
    told(&office, to, sent(2)).await;
    resolve(&office, &clock).await;
    told(&office, to, sent(3)).await;
    let alerts: Vec<_> = channels.alerts().into_values().collect();
    assert_eq!(alerts, ["resolved"]);
    told(&office, "slack:room", sent(2)).await;
    // It is not shown as one of which nobody was told.
    assert_eq!(office.get(&path).await["data"]["muted"], Value::Null);
}

#[tokio::test]
async fn a_service_that_wants_to_be_left_alone_is_and_hears_of_the_end_after_the_beginning() {
    let clock = begin();
    let (office, channels, _tasks) = office(&clock, "").await;
    let route = Route::path(AlertChannels::PAGERDUTY);
    channels
        .faults()
        .once_on(route.clone(), Fault::too_many_requests(Some(90)));
    channels
        .faults()
        .standing_on(Route::path(AlertChannels::TEAMS), Fault::Hang);
    office.failing_call().await;
    told(&office, "pagerduty:oncall", last_is("attempts", 1)).await;
    // One that hangs delays nobody else.
    told(&office, "slack:room", last_is("state", "sent")).await;
    clock.advance(Duration::from_secs(89));
    look().await;
    assert_eq!(channels.requests_to(AlertChannels::PAGERDUTY).len(), 1);
    clock.advance(Duration::from_secs(1));
    told(&office, "pagerduty:oncall", last_is("state", "sent")).await;
    assert_eq!(channels.requests_to(AlertChannels::PAGERDUTY).len(), 2);
    assert_eq!(
        channels.alerts().into_values().collect::<Vec<_>>(),
        ["triggered"]
    );
}

#[tokio::test]
async fn no_alert_is_left_open_by_an_end_that_overtakes_its_beginning() {
    let clock = begin();
    let (office, channels, _tasks) = office(&clock, "").await;
    let route = Route::path(AlertChannels::PAGERDUTY);
    channels
        .faults()
        .standing_on(route, Fault::too_many_requests(Some(900)));
    office.failing_call().await;
    told(&office, "pagerduty:oncall", last_is("attempts", 1)).await;
    // The first is tried again while the end of the incident waits behind it.
    resolve(&office, &clock).await;
    look().await;
    channels.faults().clear();
    clock.advance(Duration::from_mins(15));
    let none_waits = |messages: &[&Value]| messages.iter().all(|m| m["state"] != "waiting");
    told(&office, "pagerduty:oncall", none_waits).await;
    assert!(channels.alerts().values().all(|state| *state == "resolved"));
    let events = bodies(&channels, AlertChannels::PAGERDUTY);
    let is_end = |event: &Value| event["event_action"] == "resolve";
    let first_end = events.iter().position(is_end).unwrap_or(events.len());
    assert!(events.iter().skip(first_end).all(is_end), "{events:#?}");
}

#[tokio::test]
async fn what_is_refused_for_good_is_shown_and_not_sent_again() {
    let clock = begin();
    let (office, channels, _tasks) = office(&clock, "").await;
    let gone = Fault::Status {
        status: 404,
        body: "no_service".to_owned(),
        retry_after: None,
    };
    channels
        .faults()
        .standing_on(Route::path(AlertChannels::SLACK), gone);
    office.failing_call().await;
    told(&office, "slack:room", last_is("state", "dead")).await;
    told(
        &office,
        "slack:room",
        last_is("error", "the receiver answered 404 Not Found"),
    )
    .await;
    clock.advance(Duration::from_mins(2));
    look().await;
    assert_eq!(channels.requests_to(AlertChannels::SLACK).len(), 1);

    let (status, answer) = office.ask(Method::POST, "/api/v1/alerts/test").await;
    assert_eq!(status, 200, "{answer}");
    let messages = answer["data"]["messages"].as_array().unwrap();
    let mut states: Vec<_> = messages
        .iter()
        .map(|m| {
            (
                m["recipient"].as_str().unwrap(),
                m["state"].as_str().unwrap(),
            )
        })
        .collect();
    states.sort_unstable();
    assert_eq!(
        states,
        [
            ("email:ops@example.com", "sent"),
            ("http:else", "sent"),
            ("ntfy:phones", "sent"),
            ("pagerduty:oncall", "sent"),
            ("slack:room", "dead"),
            ("teams:desk", "sent"),
        ]
    );
}

#[tokio::test]
async fn a_message_that_failed_before_a_restart_is_delivered_after_it_to_the_channel_as_it_is_then()
{
    let clock = begin();
    let (mut office, channels, _tasks) = office(&clock, "").await;
    channels.faults().standing(Fault::status(503));
    office.failing_call().await;
    told(&office, "ntfy:phones", last_is("attempts", 1)).await;
    told(&office, "http:else", last_is("attempts", 1)).await;
    office.world.stop().await;
    channels.faults().clear();
    channels.requests().forget();
    // One of them is gone by then.
    office.world.change(|settings| {
        let at = settings.sections.find("[alerts.channels.else]").unwrap();
        settings.sections.truncate(at);
    });
    office.world.start().await;
    told(&office, "ntfy:phones", last_is("state", "sent")).await;
    assert_eq!(channels.requests_to("/").len(), 1);
    told(&office, "http:else", last_is("state", "dead")).await;
    assert_eq!(channels.requests_to(AlertChannels::OTHER).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heartbeat_stays_out_while_no_call_could_be_recorded_and_opens_no_incident_where_it_fails()
 {
    let clock = begin();
    let alerts = "heartbeat = \"HEARTBEAT\"\nheartbeat_every = \"10s\"";
    let (office, channels, _tasks) = office(&clock, alerts).await;
    let route = Route::path(AlertChannels::HEARTBEAT);
    channels.faults().once_on(route, Fault::status(500));
    // Messages about the disk go to the channels meanwhile; heartbeats are counted alone.
    let beats = || channels.requests_to(AlertChannels::HEARTBEAT);
    let reached = async |n: usize| {
        let reached = timeout(PATIENCE, async {
            while beats().len() < n {
                Clock::system().wait(Duration::from_millis(50)).await;
            }
        });
        assert!(reached.await.is_ok(), "heartbeat {n}");
    };
    let ready = async |wanted: u16| {
        let asked = timeout(PATIENCE, async {
            while office.ask(Method::GET, "/ready").await.0 != wanted {
                // The store tries again by this clock.
                clock.advance(Duration::from_millis(100));
            }
        });
        asked.await.unwrap();
    };
    reached(1).await;
    clock.advance(Duration::from_secs(10));
    reached(2).await;
    let (_, history) = office.ask(Method::GET, "/api/v1/alerts/history").await;
    assert_eq!(history["total"], 0, "{history}");

    let stranger = Connection::open(office.world.database()).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    ready(503).await;
    let before = beats().len();
    clock.advance(Duration::from_secs(30));
    look().await;
    assert_eq!(beats().len(), before);
    stranger.execute_batch("ROLLBACK").unwrap();
    ready(200).await;
    reached(before + 1).await;
    assert!(beats().iter().all(|beat| beat.method == "GET"));
}

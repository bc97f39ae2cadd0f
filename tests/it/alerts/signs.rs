//! What is wrong beside the calls of a moment, from where it shows to the mail.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use switchboard::clock::Clock;
use switchboard_simulator::faults::{Fault, Route};
use switchboard_simulator::made_up;
use switchboard_simulator::smtp::Message;
use switchboard_simulator::twilio::{Call, LineBehaviour};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{KEY, Office, PATIENCE, Server, all_sent, messages_when};
use crate::wire::{Request, about};
use crate::world::{CALLED, HOT, LAST_RESORT, STRANGER, Settings, dialled};

const HOUR: Duration = Duration::from_hours(1);

fn stopped() -> Clock {
    Clock::stopped("2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap())
}

async fn office_by(clock: &Clock) -> Office {
    Office::with(Server::Plain, &["ops@example.com"], "", clock.clone()).await
}

/// Long enough for every job to have looked.
async fn a_look() {
    Clock::system().wait(Duration::from_millis(1_100)).await;
}

fn subjects(office: &Office) -> Vec<String> {
    let mails = office.world.outside.smtp.messages();
    mails.iter().map(Message::subject).collect()
}

#[tokio::test]
async fn a_database_that_is_locked_is_mailed_from_memory_and_once() {
    let office = Office::new(Server::Plain).await;
    office.world.call(HOT).await;
    let stranger = rusqlite::Connection::open(office.world.database()).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    office.world.call(HOT).await;
    let smtp = &office.world.outside.smtp;
    timeout(PATIENCE, smtp.reached(1)).await.unwrap();
    assert_eq!(
        subjects(&office),
        ["[Switchboard] The database takes no records"]
    );
    // A breach meanwhile is told as well.
    let failed = office.failing_call().await;
    let mails = office.mails(2).await;
    assert_eq!(mails[1].subject(), "[Switchboard] Calls fail");
    let text = &mails[1].parts()[0];
    assert!(
        text.contains("1 × all legs failed") && text.contains(&failed),
        "{text}"
    );

    stranger.execute_batch("ROLLBACK").unwrap();
    let messages = messages_when(&office, all_sent).await;
    assert_eq!(messages.len(), 1);
    a_look().await;
    assert_eq!(
        smtp.count(),
        2,
        "written late, and not sent again: {:?}",
        subjects(&office)
    );
    let history = office.get("/api/v1/alerts/history").await;
    assert_eq!(history["total"], 2, "{history:#}");
}

#[tokio::test]
async fn a_service_that_starts_again_and_again_is_mailed() {
    let mut office = Office::new(Server::Plain).await;
    for _ in 0..3 {
        office.world.stop().await;
        office.world.start().await;
    }
    a_look().await;
    assert_eq!(
        office.world.outside.smtp.count(),
        0,
        "four starts are none too many"
    );
    office.world.stop().await;
    office.world.start().await;
    let mails = office.mails(1).await;
    assert_eq!(
        mails[0].subject(),
        "[Switchboard] The service starts again and again"
    );
    assert!(mails[0].parts()[0].contains("started 5 times in an hour"));
}

#[tokio::test]
async fn an_hour_without_a_call_is_mailed_where_others_had_some_and_the_next_call_ends_it() {
    let clock = stopped();
    let office = office_by(&clock).await;
    for _ in 0..2 {
        office.world.call(HOT).await;
        a_look().await;
        assert_eq!(subjects(&office), Vec::<String>::new());
        clock.advance(24 * HOUR);
    }
    let mails = office.mails(1).await;
    assert_eq!(mails[0].subject(), "[Switchboard] Nobody calls");
    let text = &mails[0].parts()[0];
    assert!(text.contains("on 2 of the last 7 days"), "{text}");
    office.world.call(HOT).await;
    let mails = office.mails(2).await;
    assert_eq!(mails[1].subject(), "[Switchboard] Resolved: nobody calls");
}

#[tokio::test]
async fn a_number_without_a_call_in_an_hour_that_always_has_some_is_mailed_until_somebody_calls_it()
{
    let clock = Clock::stopped("2026-10-19T09:10:00Z".parse::<Timestamp>().unwrap());
    let office = office_by(&clock).await;
    for _ in 0..6 {
        for _ in 0..10 {
            office.world.call(HOT).await;
        }
        clock.advance(7 * 24 * HOUR);
    }
    let twilio = &office.world.outside.twilio;
    twilio.call(Call::new(HOT, "+4930900901")).await;
    a_look().await;
    assert_eq!(subjects(&office), Vec::<String>::new());
    clock.advance(HOUR);
    let mails = office.mails(1).await;
    let subject = format!("[Switchboard] {CALLED} gets no calls");
    assert_eq!(mails[0].subject(), subject);
    let text = &mails[0].parts()[0];
    let why = "no call since 09:00; on Mondays between 09:00 and 10:00 there were 10 to 10 in 6 of the last 6 weeks";
    assert!(text.contains(why), "{text}");
    office.world.call(HOT).await;
    clock.advance(HOUR / 30);
    let mails = office.mails(2).await;
    assert_eq!(
        mails[1].subject(),
        format!("[Switchboard] Resolved: {CALLED} gets no calls")
    );
}

#[tokio::test]
async fn a_certificate_that_ends_soon_and_a_refused_configuration_are_mailed_and_so_is_their_end() {
    let office = Office::new(Server::Plain).await;
    let incidents = office.world.running().incidents();
    // Half an hour less, so that no second that passes meanwhile shows.
    let in_days = |days: i64| {
        Some(Clock::system().now() + jiff::SignedDuration::from_mins(24 * 60 * days - 30))
    };
    incidents.certificate(in_days(90), None);
    a_look().await;
    assert_eq!(subjects(&office), Vec::<String>::new());
    incidents.certificate(in_days(3), None);
    let text = office.mails(1).await[0].parts().remove(0);
    assert!(
        text.to_lowercase()
            .contains("the certificate ends in 2 d 23 h"),
        "{text}"
    );
    incidents.certificate(in_days(90), None);
    office.mails(2).await;
    incidents.reload_refused(Some("3:1: error: x is unknown".to_owned()));
    let text = office.mails(3).await[2].parts().remove(0);
    assert!(text.contains("3:1: error: x is unknown"), "{text}");
    incidents.reload_refused(None);
    office.mails(4).await;
    assert_eq!(
        subjects(&office),
        [
            "[Switchboard] The certificate ends soon",
            "[Switchboard] Resolved: the certificate ends soon",
            "[Switchboard] A changed configuration was refused",
            "[Switchboard] Resolved: a changed configuration was refused",
        ]
    );
}

#[tokio::test]
async fn a_clock_that_is_set_back_in_the_middle_of_an_incident_makes_no_other_one() {
    let clock = stopped();
    let mut office = office_by(&clock).await;
    office.failing_call().await;
    office.mails(1).await;
    clock.set("2026-11-23T08:00:00Z".parse().unwrap());
    a_look().await;
    clock.advance(Duration::from_mins(2));
    // Also for a process that finds its own records in the future.
    office.world.stop().await;
    office.world.start().await;
    a_look().await;
    clock.advance(Duration::from_mins(5));
    a_look().await;
    clock.advance(Duration::from_mins(1));
    office.mails(2).await;
    clock.set("2026-11-23T10:30:00Z".parse().unwrap());
    a_look().await;
    assert_eq!(
        subjects(&office),
        [
            "[Switchboard] Calls fail",
            "[Switchboard] Resolved: calls fail"
        ]
    );
    let history = office.get("/api/v1/alerts/history").await;
    assert_eq!(history["total"], 1, "{history:#}");
}

#[tokio::test]
async fn a_call_that_is_turned_away_or_cannot_be_read_is_a_failure() {
    let office = Office::in_a_world(Server::Plain, &["ops@example.com"], "", |settings| {
        Settings {
            server: "calls_in_hand = 1".to_owned(),
            routing: format!("last_resort_number = \"{LAST_RESORT}\""),
            // The first call is in hand until it is let go.
            machine_is_faster: 200,
            ..settings
        }
    })
    .await;
    let outside = &office.world.outside;
    outside.braze.faults().standing(Fault::Hang);
    let mut waiting = JoinSet::new();
    waiting.spawn({
        let twilio = outside.twilio.clone();
        async move { twilio.call(Call::new(STRANGER, CALLED)).await }
    });
    outside.braze.requests().reached(1).await;
    let shed = office.world.call(HOT).await;
    assert_eq!(dialled(&shed), [LAST_RESORT]);
    let mails = office.mails(1).await;
    assert_eq!(mails[0].subject(), "[Switchboard] Calls fail");
    let text = &mails[0].parts()[0];
    assert!(
        text.contains("1 × overload") && text.contains(&shed.call_sid),
        "{text}"
    );
    outside.braze.faults().standing(Fault::RefuseConnections);
    waiting.join_all().await;
    outside.braze.faults().clear();

    let address = office.world.running().address;
    for call in ["1", "2"] {
        let body = about(call, "&CallStatus=ringing&Direction=inbound");
        let astray = Request::signed("/webhooks/twilio/voice", body.as_bytes());
        assert_eq!(
            astray.send(address).await.complaints(),
            Vec::<String>::new()
        );
    }
    let mut incident = Value::Null;
    for _ in 0..1_800 {
        incident = office.get("/api/v1/alerts/active").await["data"][0].clone();
        if incident["calls"] == 3 {
            break;
        }
        Clock::system().wait(Duration::from_millis(100)).await;
    }
    let reasons = incident["reasons"].as_array().unwrap();
    let reasons: Vec<_> = reasons
        .iter()
        .map(|reason| {
            (
                reason["reason"].as_str().unwrap(),
                reason["calls"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        reasons,
        [("unknown_path", 2), ("overload", 1)],
        "{incident:#}"
    );
    let named = incident["call_ids"].as_array().unwrap();
    for call in [
        shed.call_sid,
        made_up::call_sid("1"),
        made_up::call_sid("2"),
    ] {
        assert!(
            named.contains(&Value::from(call.clone())),
            "{call}: {named:?}"
        );
    }
}

#[tokio::test]
async fn who_watches_is_told_of_a_reminder_as_of_the_opening_and_the_end() {
    let clock = stopped();
    let office = Office::with(
        Server::Plain,
        &["ops@example.com"],
        "repeat_every = \"1m\"",
        clock.clone(),
    )
    .await;
    let url = format!("http://{}/api/v1/events", office.world.running().address);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut stream = client
        .get(url)
        .header("x-api-key", KEY)
        .send()
        .await
        .unwrap();
    let mut heard = String::new();
    let mut alerts = async |n: usize| {
        let listening = async {
            while heard.matches("event: alert\n").count() < n {
                let chunk = stream.chunk().await.unwrap().unwrap();
                heard.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        let waited = timeout(PATIENCE, listening).await;
        assert!(waited.is_ok(), "{heard}");
    };
    office.failing_call().await;
    alerts(1).await;
    clock.advance(Duration::from_mins(1));
    alerts(2).await;
    office
        .world
        .outside
        .twilio
        .set_line("", LineBehaviour::answer(Duration::from_secs(1)));
    clock.advance(Duration::from_mins(4));
    a_look().await;
    // The calm of a minute before the end: nobody is reminded in it.
    clock.advance(Duration::from_mins(1));
    alerts(3).await;
    let subjects: Vec<_> = office.mails(3).await.iter().map(Message::subject).collect();
    assert_eq!(
        subjects,
        [
            "[Switchboard] Calls fail",
            "[Switchboard] Still open: calls fail",
            "[Switchboard] Resolved: calls fail"
        ]
    );
}

#[tokio::test]
async fn who_waits_and_for_whom_stands_in_the_subject_of_the_mail_and_on_the_page() {
    let other = "[dialers.other]\nkind = \"http\"\nconnect = \"+4930555555\"\nurl = \"HTTP_SERVER/calls\"\nprobe_every = \"1h\"\n";
    let change = |settings: Settings| Settings {
        clock: stopped(),
        // However slow the machine is, a refusal arrives in time.
        dialers: "probe_every = \"1h\"\ntimeout = \"1900ms\"".to_owned(),
        sections: format!("{other}{}", settings.sections),
        ..settings
    };
    let office = Office::in_a_world(Server::Plain, &["ops@example.com"], "", change).await;
    for faults in [
        office.world.outside.dialfire.faults(),
        office.world.outside.zendesk.faults(),
    ] {
        faults.standing_on(Route::method("POST"), Fault::status(500));
    }
    let twilio = &office.world.outside.twilio;
    for _ in 0..2 {
        let call = twilio.new_sid("CA");
        let fields = twilio.inbound_fields(&call, HOT, CALLED);
        let answer = twilio.post("/webhooks/twilio", &fields).await.unwrap();
        assert!(answer.body.contains("/hold?n=1"), "{}", answer.body);
    }
    let mails = office.mails(1).await;
    assert_eq!(
        mails[0].subject(),
        "[Switchboard] Callers of \"sales floor\" wait (1). dialfire and zendesk answer HTTP 500. Everybody else is connected"
    );
    office
        .world
        .settings()
        .clock
        .advance(Duration::from_secs(37));
    let active = office.get("/api/v1/alerts/active").await;
    let waiting = active["data"].as_array().unwrap();
    let incident = waiting
        .iter()
        .find(|incident| incident["kind"] == "callers_waiting")
        .unwrap();
    assert_eq!(incident["title"], "callers of \"sales floor\" wait");
    assert_eq!(
        (&incident["rule"], &incident["dialer"]),
        (&"sales floor".into(), &Value::Null)
    );
    assert_eq!(
        (&incident["waiting"], &incident["longest_wait_ms"]),
        (&2.into(), &37_000.into())
    );
    assert_eq!(
        incident["dialers"],
        serde_json::json!(["dialfire", "zendesk"])
    );
}

//! The summary of a day: at its time, once, with all that the day brought.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use switchboard::audit::Kind;
use switchboard::clock::Clock;
use switchboard_simulator::smtp::{Message, SmtpFault};
use switchboard_simulator::twilio::LineBehaviour;

use super::{Office, Server};
use crate::world::{COLD, HOT, STRANGER, Settings};

const MINUTE: Duration = Duration::from_mins(1);

/// A clock that stands, at eleven in Berlin.
fn clock() -> Clock {
    Clock::stopped("2026-11-25T10:00:00Z".parse::<Timestamp>().unwrap())
}

async fn office(clock: &Clock) -> Office {
    let alerts = "daily_summary = \"07:00\"\ntime_zone = \"Europe/Berlin\"";
    let to = ["ops@example.com", "boss@example.com"];
    Office::with(Server::Plain, &to, alerts, clock.clone()).await
}

/// Long enough for every job to have looked at the clock.
async fn a_look() {
    Clock::system().wait(Duration::from_millis(1_500)).await;
}

/// Lets time pass up to a moment.
async fn until(clock: &Clock, moment: &str) {
    let left = moment
        .parse::<Timestamp>()
        .unwrap()
        .duration_since(clock.now());
    clock.advance(left.try_into().unwrap());
    a_look().await;
}

fn summaries(office: &Office) -> Vec<Message> {
    let mut mails = office.world.outside.smtp.messages();
    mails.retain(|mail| mail.subject().contains("Day to"));
    mails
}

/// Waits for so many summaries; there are no more.
async fn told(office: &Office, n: usize) -> Vec<Message> {
    for _ in 0..900 {
        if summaries(office).len() >= n {
            break;
        }
        Clock::system().wait(Duration::from_millis(100)).await;
    }
    a_look().await;
    let mails = summaries(office);
    let subjects: Vec<_> = mails.iter().map(Message::subject).collect();
    assert_eq!(mails.len(), n, "{subjects:?}");
    mails
}

#[tokio::test]
async fn a_day_is_told_at_its_time_once_and_with_all_that_it_brought() {
    let clock = clock();
    let mut office = office(&clock).await;
    for caller in [HOT, HOT, COLD, STRANGER] {
        office.world.call(caller).await;
    }
    office.failing_call().await;
    office.mails(1).await;
    let answers = LineBehaviour::answer(Duration::from_secs(30));
    office.world.outside.twilio.set_line("", answers);
    let settings = office.world.settings();
    office
        .world
        .reload(Settings {
            braze: "timeout = \"1200ms\"".to_owned(),
            ..settings
        })
        .await;
    // However seldom the job looks: it is well for a minute once it has seen that it is.
    clock.advance(5 * MINUTE);
    for _ in 0..600 {
        if office.world.outside.smtp.messages().len() >= 2 {
            break;
        }
        clock.advance(MINUTE / 10);
        Clock::system().wait(Duration::from_millis(100)).await;
    }
    office.mails(2).await;

    until(&clock, "2026-11-26T05:59:59Z").await;
    assert_eq!(summaries(&office).len(), 0);
    until(&clock, "2026-11-26T06:00:00Z").await;
    let mail = &told(&office, 1).await[0];
    assert_eq!(mail.to, ["ops@example.com", "boss@example.com"]);
    assert_eq!(
        mail.subject(),
        "[Switchboard] Day to 2026-11-26 07:00 CET: 5 calls, 1 failed"
    );
    let [text, html] = &mail.parts()[..] else {
        panic!("{mail:?}");
    };
    for words in [
        "From 2026-11-25 07:00 CET to 2026-11-26 07:00 CET: 5 calls arrived, 4 answered, 1 failed (20.0 % of the 5 that succeeded or failed), 0 hung up first.",
        "By tier:\n  no tier: 1 call, 1 answered, 0 failed\n  cold: 1 call, 1 answered, 0 failed\n  hot: 3 calls, 2 answered, 1 failed\n",
        "By outcome:\n  answered: 4\n  busy: 1\n",
        "By dialer:\n  dialfire: 2 calls, 2 answered, 0 failed\n  zendesk: 3 calls, 2 answered, 1 failed\n",
        "\n  routing: ",
        "Incidents:\n  2026-11-25 11:00 CET: calls fail, lasted ",
        ", 1 call affected: 20 % of the calls",
        "Changes of the configuration:\n  2026-11-25 11:00 CET, by a test: braze.timeout\n",
        "\nAudit head: ",
    ] {
        let text = text.replace("\r\n", "\n");
        assert!(text.contains(words), "{words}: {text}");
    }
    for part in [text, html] {
        assert!(
            !part.contains("170000") && part.contains("dialfire"),
            "{part}"
        );
    }

    // Neither a look nor a start makes it again, whatever the clock says.
    clock.advance(MINUTE);
    a_look().await;
    office.world.stop().await;
    office.world.start().await;
    a_look().await;
    clock.set("2026-11-26T05:00:00Z".parse().unwrap());
    a_look().await;
    clock.set("2026-11-26T06:05:00Z".parse().unwrap());
    told(&office, 1).await;
}

#[tokio::test]
async fn a_day_that_ended_while_nothing_ran_is_told_at_the_next_start_and_the_days_before_it_are_not()
 {
    let clock = clock();
    let mut office = office(&clock).await;
    office.world.call(HOT).await;
    // A new installation has no day to tell of.
    a_look().await;
    assert_eq!(summaries(&office).len(), 0);
    office.world.stop().await;
    let down = "2026-11-28T09:00:00Z".parse::<Timestamp>().unwrap();
    clock.advance(down.duration_since(clock.now()).try_into().unwrap());
    office.world.start().await;
    let mails = told(&office, 1).await;
    assert_eq!(
        mails[0].subject(),
        "[Switchboard] Day to 2026-11-28 07:00 CET: no call, 0 failed"
    );
}

#[tokio::test]
async fn a_summary_waits_for_the_mail_server_like_every_other_message() {
    let clock = clock();
    let office = office(&clock).await;
    office.world.call(HOT).await;
    let smtp = office.world.outside.smtp.clone();
    smtp.standing(SmtpFault::RefuseConnections);
    until(&clock, "2026-11-26T06:00:00Z").await;
    let store = &office.world.running().store;
    let id = "summary-2026-11-26";
    for _ in 0..900 {
        if !store.messages_of(id).await.unwrap().is_empty() {
            break;
        }
        Clock::system().wait(Duration::from_millis(100)).await;
    }
    let messages = store.messages_of(id).await.unwrap();
    assert_eq!(messages.len(), 2, "one for each recipient");
    let records = store.records(0, u32::MAX).await.unwrap();
    let record = records.iter().find(|r| r.kind == Kind::DaySummed).unwrap();
    let detail: Value = serde_json::from_str(&record.detail).unwrap();
    assert_eq!(detail["id"], id);
    assert_eq!(detail["calls"], 1);
    smtp.clear();
    // Three attempts may have failed by now.
    clock.advance(MINUTE);
    told(&office, 1).await;
}

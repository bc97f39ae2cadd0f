//! A mail server that is away for minutes, and how long a mail takes when it is not.

use std::time::Duration;

use jiff::Timestamp;
use switchboard::clock::Clock;
use switchboard_simulator::smtp::{Message, SmtpFault};
use tokio::time::timeout;

use super::{Office, Server, all_sent, messages_when};
use crate::world::Settings;

const OUTAGE: Duration = Duration::from_mins(3);

/// The pauses between attempts that fail, until three minutes are over: 2 s, doubled each time, at most a minute.
const PAUSES_S: [u64; 7] = [2, 4, 8, 16, 32, 60, 60];

#[tokio::test]
async fn after_three_minutes_without_a_mail_server_the_mail_arrives_with_the_next_attempt_and_once()
{
    let clock = Clock::stopped("2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap());
    let office = Office::with(Server::StartTls, &["ops@example.com"], "", clock.clone()).await;
    let smtp = office.world.outside.smtp.clone();
    smtp.standing(SmtpFault::RefuseConnections);
    let call_sid = office.failing_call().await;
    let attempts = |n: u64| messages_when(&office, move |m| m[0]["attempts"].as_u64() == Some(n));
    attempts(1).await;
    let mut passed = Duration::ZERO;
    for (n, pause) in (2..).zip(PAUSES_S) {
        let pause = Duration::from_secs(pause);
        if passed + pause > OUTAGE {
            break;
        }
        clock.advance(pause);
        passed += pause;
        attempts(n).await;
    }
    assert_eq!(passed, Duration::from_secs(122), "six attempts more");
    assert_eq!(smtp.count(), 0);

    clock.advance(OUTAGE.saturating_sub(passed));
    smtp.clear();
    clock.advance(Duration::from_secs(2));
    let mails = office.mails(1).await;
    let messages = messages_when(&office, all_sent).await;
    assert_eq!(messages[0]["attempts"], 8);
    let [text, _] = &mails[0].parts()[..] else {
        panic!("{mails:?}");
    };
    assert!(text.contains(&call_sid), "{text}");

    // Minutes later the incident is over; that is the only other mail.
    clock.advance(Duration::from_mins(3));
    Clock::system().wait(Duration::from_secs(1)).await;
    clock.advance(Duration::from_mins(1));
    let mails = office.mails(2).await;
    Clock::system().wait(Duration::from_secs(1)).await;
    let subjects: Vec<String> = mails.iter().map(Message::subject).collect();
    assert_eq!(
        subjects,
        [
            "[Switchboard] Calls fail",
            "[Switchboard] Resolved: calls fail"
        ]
    );
    assert_eq!(smtp.count(), 2);
}

#[tokio::test]
#[ignore = "takes four minutes of real time: cargo test --test it three_minutes -- --ignored --nocapture"]
async fn three_minutes_of_real_time_without_a_mail_server_delay_the_mail_and_no_more() {
    let office = Office::new(Server::StartTls).await;
    let smtp = office.world.outside.smtp.clone();
    let system = Clock::system();
    let began = system.instant();
    smtp.standing(SmtpFault::RefuseConnections);
    office.failing_call().await;
    system.wait(OUTAGE).await;
    assert_eq!(smtp.count(), 0);
    smtp.clear();
    let back = system.instant();
    // The longest pause between two attempts is a minute.
    timeout(Duration::from_secs(65), smtp.reached(1))
        .await
        .unwrap();
    let messages = messages_when(&office, all_sent).await;
    say(&format!(
        "mail server away for {} s, mail accepted {:.1} s after it came back, {} attempts",
        back.duration_since(began).as_secs(),
        system.instant().duration_since(back).as_secs_f64(),
        messages[0]["attempts"]
    ));
    system.wait(Duration::from_secs(20)).await;
    assert_eq!(smtp.count(), 1);
}

/// From before the call that fails to the moment at which the mail server has kept the mail.
async fn breach_to_mail(server: Server) -> Duration {
    let to = &["ops@example.com"];
    let office = Office::in_a_world(server, to, "", |settings| Settings {
        machine_is_faster: 1,
        ..settings
    })
    .await;
    let system = Clock::system();
    let began = system.instant();
    office.failing_call().await;
    timeout(Duration::from_mins(1), office.world.outside.smtp.reached(1))
        .await
        .unwrap();
    system.instant().duration_since(began)
}

/// A minute is promised.
const GOAL: Duration = Duration::from_secs(15);

#[expect(
    clippy::print_stdout,
    reason = "a figure for who runs it with --nocapture"
)]
fn say(line: &str) {
    println!("{line}");
}

#[tokio::test]
#[ignore = "prints figures: cargo test --test it the_way_from_a_breach -- --ignored --nocapture"]
async fn the_way_from_a_breach_to_an_accepted_mail_is_measured() {
    for (server, name) in [
        (Server::Plain, "plain, on this machine"),
        (Server::StartTls, "STARTTLS"),
        (Server::Tls, "TLS"),
    ] {
        let took = breach_to_mail(server).await;
        say(&format!(
            "breach to accepted mail, {name}: {} ms",
            took.as_millis()
        ));
        assert!(took < GOAL, "{took:?}");
    }
}

#[tokio::test]
#[ignore = "takes half a minute: cargo test --test it twenty_breaches -- --ignored --nocapture"]
async fn twenty_breaches_are_mailed_within_the_goal() {
    let mut took = Vec::new();
    for _ in 0..20 {
        took.push(breach_to_mail(Server::StartTls).await);
    }
    took.sort();
    let (least, median, most) = (took[0], took[took.len() / 2], took[took.len() - 1]);
    say(&format!(
        "breach to accepted mail, STARTTLS, 20 runs: least {} ms, median {} ms, most {} ms",
        least.as_millis(),
        median.as_millis(),
        most.as_millis()
    ));
    assert!(most < GOAL, "{most:?}");
}

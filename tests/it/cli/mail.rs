//! Mail of the real binary: killed in the worst moment, and sent on request by `doctor`.

use std::time::Duration;

use serde_json::Value;
use switchboard::clock::Clock;
use switchboard_simulator::smtp::{SmtpFault, Stage};
use switchboard_simulator::twilio::{Call, LineBehaviour};
use tokio::time::timeout;

use super::Place;
use super::serve::{PATIENCE, Served};
use crate::world::{CALLED, HOT, Settings};

const PASSWORD: &str = "made-up-mail-password";

/// With a mail server that wants a login, and without a last resort: a failed call ends in goodbye.
fn place() -> Place {
    let place = Place::empty();
    let settings = Settings {
        routing: String::new(),
        sections: format!(
            "[alerts.email]\nto = [\"ops@example.com\", \"boss@example.com\"]\nfrom = \"switchboard@example.com\"\n\
             smtp = \"smtp://MAIL_SERVER\"\nusername = \"mailer\"\npassword = \"{PASSWORD}\""
        ),
        ..Settings::default()
    };
    place.configure(&settings.configuration(&place.outside));
    let smtp = &place.outside.smtp;
    smtp.set_credentials(Some(("mailer", PASSWORD)));
    place
}

/// The messages of the outbox: state and attempts of each.
fn outbox(place: &Place) -> Vec<(String, i64)> {
    let database = rusqlite::Connection::open(place.path("switchboard.db")).unwrap();
    let mut messages = database
        .prepare("SELECT state, attempts FROM outbox_messages ORDER BY id")
        .unwrap();
    let rows = messages.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn killed_before_it_could_note_that_a_mail_was_taken_it_sends_the_same_mail_once_more_and_never_again()
 {
    let place = place();
    let smtp = place.outside.smtp.clone();
    // The server keeps the mail, and its answer does not arrive: the process dies in this moment.
    smtp.once(SmtpFault::Hang(Stage::Kept));
    let served = Served::start(&place).await;
    place.outside.twilio.set_line("", LineBehaviour::Busy);
    let call = Call::new(HOT, CALLED);
    place.outside.twilio.call(call).await;
    timeout(PATIENCE, smtp.reached(1)).await.unwrap();
    served.signal("KILL");
    served.end().await;
    let waiting = ("waiting".to_owned(), 0);
    assert_eq!(outbox(&place), [waiting.clone(), waiting]);

    let served = Served::start(&place).await;
    timeout(PATIENCE, smtp.reached(2)).await.unwrap();
    let sent = ("sent".to_owned(), 1);
    let clock = Clock::system();
    let began = clock.instant();
    while outbox(&place) != [sent.clone(), sent.clone()] {
        assert!(clock.instant().duration_since(began) < PATIENCE);
        clock.wait(Duration::from_millis(50)).await;
    }
    served.signal("KILL");
    served.end().await;
    let mails = smtp.messages();
    let ids: Vec<_> = mails.iter().map(|mail| mail.header("Message-ID")).collect();
    assert!(ids[0].is_some());
    assert_eq!(
        ids[0], ids[1],
        "a mail system knows the second as the first"
    );
    assert_eq!(mails[0].to, mails[1].to);

    // It was noted: another start sends nothing.
    let served = Served::start(&place).await;
    clock.wait(Duration::from_secs(2)).await;
    assert_eq!(smtp.count(), 2);
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
    assert_eq!(outbox(&place), [sent.clone(), sent]);
}

fn finding(document: &Value, check: &str) -> Value {
    let findings = document["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["check"] == check);
    found.cloned().unwrap_or_default()
}

#[tokio::test]
async fn doctor_asks_the_mail_server_and_sends_a_mail_only_on_request() {
    let place = place();
    let smtp = &place.outside.smtp;
    let asked = place.run(&["doctor", "--json"]).await.json();
    let server = finding(&asked, "mail server");
    assert_eq!(server["severity"], "ok", "{server}");
    assert!(finding(&asked, "test mail").is_null());
    assert_eq!(smtp.count(), 0);

    let sent = place.run(&["doctor", "--test-mail", "--json"]).await.json();
    let mail = finding(&sent, "test mail");
    assert_eq!(mail["severity"], "ok", "{mail}");
    assert_eq!(
        mail["message"],
        "the mail server has taken one to ops@example.com, boss@example.com"
    );
    let mails = smtp.messages();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, ["ops@example.com", "boss@example.com"]);
    assert_eq!(mails[0].subject(), "[Switchboard] Test message");
    assert!(mails[0].parts()[0].contains("Sent by: switchboard doctor"));

    smtp.refuse("boss@example.com", Some(550));
    let refused = place.run(&["doctor", "--test-mail", "--json"]).await;
    assert_ne!(refused.code, Some(0));
    let mail = finding(&refused.json(), "test mail");
    assert_eq!(mail["severity"], "error");
    assert!(mail["message"].as_str().unwrap().contains("550"), "{mail}");

    smtp.set_credentials(Some(("mailer", "another-password")));
    let locked_out = place.run(&["doctor", "--test-mail", "--json"]).await;
    let document = locked_out.json();
    for check in ["mail server", "test mail"] {
        let found = finding(&document, check);
        assert_eq!(found["severity"], "error", "{check}");
        assert!(
            found["message"].as_str().unwrap().contains("535"),
            "{found}"
        );
    }
    for text in [&locked_out.stdout, &locked_out.stderr] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    let both = place.run(&["doctor", "--test-mail", "--offline"]).await;
    assert_eq!(both.code, Some(2), "{both:?}");
}

#[tokio::test]
async fn doctor_says_where_nobody_would_get_the_test_mail() {
    let place = Place::new();
    let ran = place.run(&["doctor", "--test-mail", "--json"]).await;
    assert_ne!(ran.code, Some(0));
    let mail = finding(&ran.json(), "test mail");
    assert_eq!(mail["message"], "there is nobody to send it to");
}

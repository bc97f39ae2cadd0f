//! The second way of telling: JSON over HTTP, signed. Its receiver is the stand-in that takes any JSON by one POST.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha2::Sha256;
use switchboard::clock::Clock;
use switchboard_simulator::faults::{Fault, Route};
use switchboard_simulator::requests::Request;
use tokio::time::timeout;

use super::{Office, Server, all_sent, messages_when};
use crate::world::{DIALFIRE_LINE, HOT, Settings, dialled};

const SECRET: &str = "made-up-alert-secret";

/// Mail and the webhook, both.
async fn office(clock: Clock) -> Office {
    Office::in_a_world(Server::Plain, &["ops@example.com"], "", |settings| {
        Settings {
            clock,
            sections: format!(
                "{}\n[alerts.webhook]\nurl = \"HTTP_SERVER/calls\"\nsecret = \"{SECRET}\"\n",
                settings.sections
            ),
            ..settings
        }
    })
    .await
}

/// What a receiver checks: `t=<seconds>,v1=<HMAC-SHA256 over "<seconds>.<body>", hexadecimal>`. Gives the seconds.
fn verified(request: &Request, secret: &str) -> Option<i64> {
    let signature = request.header("x-switchboard-signature")?;
    let (seconds, tag) = signature.strip_prefix("t=")?.split_once(",v1=")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(seconds.as_bytes());
    mac.update(b".");
    mac.update(&request.body);
    mac.verify_slice(&hex::decode(tag).ok()?).ok()?;
    seconds.parse().ok()
}

#[tokio::test]
async fn a_breach_is_posted_with_a_signature_that_verifies_and_again_after_a_500_until_it_is_taken()
{
    let clock = Clock::stopped("2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap());
    let office = office(clock.clone()).await;
    let receiver = office.world.outside.http_dialer.clone();
    receiver
        .faults()
        .once_on(Route::path("/calls"), Fault::status(500));
    let call_sid = office.failing_call().await;
    let webhook_is = |state: &'static str| {
        messages_when(&office, move |messages| {
            messages
                .iter()
                .any(|m| m["recipient"] == "webhook" && m["state"] == state && m["attempts"] != 0)
        })
    };
    let waiting = webhook_is("waiting").await;
    let of_webhook = waiting
        .iter()
        .find(|m| m["recipient"] == "webhook")
        .unwrap();
    assert_eq!(
        of_webhook["error"],
        "the receiver answered 500 Internal Server Error"
    );
    assert_eq!(of_webhook["attempts"], 1);
    clock.advance(Duration::from_secs(2));
    webhook_is("sent").await;
    messages_when(&office, all_sent).await;

    let posts = receiver.requests().mentioning(&call_sid);
    let statuses: Vec<_> = posts.iter().map(|post| post.status).collect();
    assert_eq!(statuses, [Some(500), Some(202)]);
    let said = |post: &Request, what: &str| post.json().unwrap()[what].clone();
    for what in ["notice", "dedup_key", "at", "incident"] {
        assert_eq!(said(&posts[0], what), said(&posts[1], what));
    }
    for (post, at) in posts.iter().zip([1_795_424_400, 1_795_424_402]) {
        assert_eq!(verified(post, SECRET), Some(at), "{post:?}");
        assert_eq!(verified(post, "another-secret"), None);
        let mut altered = post.clone();
        altered.body = String::from_utf8_lossy(&post.body)
            .replace("critical", "warning")
            .into();
        assert_ne!(altered.body, post.body);
        assert_eq!(verified(&altered, SECRET), None);
    }
    let notice = posts[0].header("x-switchboard-notice").unwrap();
    assert_eq!(posts[0].header("idempotency-key"), Some(notice));
    assert_eq!(receiver.n_with_key(notice), 1, "taken once");

    let body = posts[1].json().unwrap();
    assert_eq!(body["notice"], notice);
    assert_eq!(body["occasion"], "opened");
    assert_eq!(body["severity"], "critical");
    assert_eq!(body["incident"]["kind"], "routing_failure_rate");
    assert_eq!(body["incident"]["call_ids"][0], call_sid.as_str());
    let text = body.to_string();
    assert!(text.contains("*90") && !text.contains(HOT), "{text}");

    // Two more looks at the outbox, and no more posts.
    Clock::system().wait(Duration::from_secs(1)).await;
    assert_eq!(receiver.requests().mentioning(&call_sid).len(), 2);
}

#[tokio::test]
async fn a_receiver_that_wants_to_be_left_alone_is_left_alone() {
    let clock = Clock::stopped("2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap());
    let office = office(clock.clone()).await;
    let receiver = office.world.outside.http_dialer.clone();
    let busy = Fault::too_many_requests(Some(90));
    receiver.faults().once_on(Route::path("/calls"), busy);
    let call_sid = office.failing_call().await;
    let attempts_are = |n: u64| {
        messages_when(&office, move |messages| {
            messages
                .iter()
                .any(|m| m["recipient"] == "webhook" && m["attempts"] == n)
        })
    };
    attempts_are(1).await;
    clock.advance(Duration::from_secs(89));
    // Two more looks at the outbox.
    Clock::system().wait(Duration::from_secs(1)).await;
    assert_eq!(receiver.requests().mentioning(&call_sid).len(), 1);
    clock.advance(Duration::from_secs(1));
    attempts_are(2).await;
    assert_eq!(receiver.requests().mentioning(&call_sid).len(), 2);
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_neither_the_mail_nor_a_call_and_gets_the_message_later() {
    let clock = Clock::stopped("2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap());
    let office = office(clock.clone()).await;
    let receiver = office.world.outside.http_dialer.clone();
    receiver
        .faults()
        .once_on(Route::path("/calls"), Fault::Reset);
    receiver
        .faults()
        .once_on(Route::path("/calls"), Fault::Hang);
    office.failing_call().await;
    office.mails(1).await;
    messages_when(&office, |messages| {
        messages
            .iter()
            .any(|m| m["recipient"] == "webhook" && m["attempts"] == 1)
    })
    .await;
    clock.advance(Duration::from_secs(2));
    timeout(Duration::from_mins(3), receiver.requests().reached(2))
        .await
        .unwrap();
    // It holds our second attempt now.
    let result = office.world.call(HOT).await;
    assert_eq!(dialled(&result).first(), Some(&DIALFIRE_LINE));
}

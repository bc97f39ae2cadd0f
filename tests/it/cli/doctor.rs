//! `doctor`: what it finds here and outside, and what was wrong with a signature.

use std::fs;

use serde_json::Value;
use switchboard_simulator::made_up;

use super::Place;
use super::serve::Served;
use crate::wire::{Request, sign};
use crate::world::{CALLED, HOT};

const BODY: &str = "CallSid=CA00000000000000000000000000000001&From=%2B49170&To=%2B4930";

fn finding<'d>(document: &'d Value, check: &str) -> Option<&'d Value> {
    let findings = document["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["check"] == check)
}

#[tokio::test]
async fn damage_and_openness_are_found_offline() {
    let place = Place::new();
    let served = Served::start(&place).await;
    place
        .outside
        .twilio
        .call(switchboard_simulator::twilio::Call::new(HOT, CALLED))
        .await;
    let beside = place
        .run(&["doctor", "--offline", "--json"])
        .await
        .exits(0)
        .json();
    let server = finding(&beside, "server").unwrap();
    assert!(
        server["message"].as_str().unwrap().ends_with("runs"),
        "{server}"
    );
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));

    let sound = place
        .run(&["doctor", "--offline", "--json"])
        .await
        .exits(0)
        .json();
    for check in [
        "database",
        "database integrity",
        "audit chain",
        "disk",
        "secrets",
    ] {
        assert_eq!(
            finding(&sound, check).unwrap()["severity"],
            "ok",
            "{check}: {sound}"
        );
    }
    place.set_mode("switchboard.db.secret", 0o644);
    let open = place
        .run(&["doctor", "--offline", "--json"])
        .await
        .exits(1)
        .json();
    let secrets = finding(&open, "secrets").unwrap();
    assert!(
        secrets["hint"].as_str().unwrap().starts_with("chmod 0600 "),
        "{secrets}"
    );
    place.set_mode("switchboard.db.secret", 0o600);

    let database = rusqlite::Connection::open(place.path("switchboard.db")).unwrap();
    database
        .execute_batch(
            "DROP TRIGGER audit_records_refuse_update;
             UPDATE audit_records SET detail = replace(detail, 'a', 'b') WHERE id = (SELECT max(id) - 1 FROM audit_records);",
        )
        .unwrap();
    drop(database);
    let altered = place
        .run(&["doctor", "--offline", "--json"])
        .await
        .exits(1)
        .json();
    assert_eq!(
        finding(&altered, "audit chain").unwrap()["severity"],
        "error",
        "{altered}"
    );
}

#[tokio::test]
async fn the_settings_of_the_numbers_are_read_and_judged() {
    let place = Place::new();
    // What the stand-in's account has: our voice URL, no connection overrides.
    let found = place.run(&["doctor", "--json"]).await;
    let document = found.json();
    let name = format!("Twilio number {CALLED}");
    let number = finding(&document, &name).unwrap_or_else(|| panic!("{document:#}"));
    assert!(
        number["message"]
            .as_str()
            .unwrap()
            .contains("connection overrides"),
        "{number}"
    );
    assert!(
        number["hint"]
            .as_str()
            .unwrap()
            .contains("/webhooks/twilio#ct=2000&rt=6000"),
        "{number}"
    );
    assert_eq!(
        finding(&document, "Twilio credentials").unwrap()["severity"],
        "ok"
    );
    let url = finding(&document, "public URL").unwrap();
    assert_eq!(url["severity"], "warning", "no server runs: {url}");
}

/// The signature of the text for one URL.
fn pasted(url: &str, signed_for: &str, token: &str) -> String {
    let signature = sign(token, signed_for, BODY.as_bytes());
    format!(
        "POST {url} HTTP/1.1\nX-Twilio-Signature: {signature}\nContent-Type: application/x-www-form-urlencoded\n\n{BODY}\n"
    )
}

#[tokio::test]
async fn a_pasted_request_is_told_what_it_was_signed_for() {
    let place = Place::new();
    let right = format!("{}/webhooks/twilio", made_up::PUBLIC_URL);
    let cases = [
        (
            right.clone(),
            made_up::AUTH_TOKEN,
            0,
            "the signature is right",
        ),
        (
            format!("{right}/"),
            made_up::AUTH_TOKEN,
            1,
            "with a slash at the end",
        ),
        (
            right.replace("https", "http"),
            made_up::AUTH_TOKEN,
            1,
            "signed for http",
        ),
        (right.clone(), "another-token", 1, "auth_token"),
    ];
    for (signed_for, token, code, words) in cases {
        let text = pasted(&right, &signed_for, token);
        fs::write(place.path("request.txt"), &text).unwrap();
        let ran = place
            .run(&["doctor", "signature", "request.txt"])
            .await
            .exits(code);
        assert!(ran.stdout.contains(words), "{words}: {ran:?}");
        let expected = sign(made_up::AUTH_TOKEN, &right, BODY.as_bytes());
        if code != 0 {
            assert!(!ran.stdout.contains(&expected), "{ran:?}");
        }
    }
}

#[tokio::test]
async fn a_running_server_tells_what_it_has_refused() {
    let place = Place::new();
    let nobody = place.run(&["doctor", "signature"]).await.exits(2);
    assert!(nobody.stderr.contains("no server runs here"), "{nobody:?}");
    let served = Served::start(&place).await;
    let well = place.run(&["doctor", "signature"]).await.exits(0);
    assert!(well.stdout.contains("refused nothing"), "{well:?}");
    let slashed = format!("{}/webhooks/twilio/", made_up::PUBLIC_URL);
    let signature = sign(made_up::AUTH_TOKEN, &slashed, BODY.as_bytes());
    let forged =
        Request::form("/webhooks/twilio", BODY.as_bytes()).header("X-Twilio-Signature", &signature);
    assert_eq!(forged.send(served.address).await.status, 403);
    let told = place.run(&["doctor", "signature"]).await.exits(1);
    assert!(told.stdout.contains("with a slash at the end"), "{told:?}");
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
}

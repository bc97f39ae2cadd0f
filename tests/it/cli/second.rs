//! A second machine: the file that `init --second` writes for it, and what `doctor` finds of two.
#![expect(clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use switchboard_simulator::faults::{Fault, Route};

use super::Place;
use super::serve::Served;
use crate::world::CALLED;

/// The usual questions, answered with `first` as the public URL.
async fn first_machine(place: &Place) {
    let arguments = [
        "--config",
        "config.toml",
        "init",
        "--yes",
        "--public-url",
        "https://calls.acme.example",
        "--acme-contact",
        "ops@acme.example",
        "--twilio-account-sid",
        "AC00000000000000000000000000000001",
    ];
    place.run(&arguments).await.exits(0);
}

#[tokio::test]
async fn the_file_of_a_second_machine_is_that_of_the_first_but_for_what_has_to_differ() {
    let place = Place::empty();
    first_machine(&place).await;
    let second = ["--json", "init", "--second", "config.toml"];
    let url = ["--public-url", "https://calls-b.acme.example/"];
    let of_b = |more: &[&'static str]| [&second[..], &url, more].concat();
    let early = place.run(&of_b(&[])).await.exits(78);
    assert!(
        early.stderr.contains("storage.secret cannot be read"),
        "{early:?}"
    );
    fs::write(place.path("switchboard.db.secret"), "made-up-secret-1\n").unwrap();
    place.set_mode("switchboard.db.secret", 0o600);
    let before = place.text();
    for (more, code, words) in [
        (&["--node", "B b"][..], 78, "server.node must be"),
        (&["--listen", "127.0.0.1:1"], 2, "--listen"),
    ] {
        let refused = place.run(&of_b(more)).await.exits(code);
        assert!(refused.stderr.contains(words), "{refused:?}");
    }

    let written = place.run(&of_b(&[])).await.exits(0).json();
    assert_eq!(
        written["first"],
        json!([
            "[server] node = \"a\"",
            "[server] also_public = [\"https://calls-b.acme.example\"]",
            "[braze] requests_per_minute = 100",
        ])
    );
    let copied = written["copy"].as_array().unwrap();
    let file = place.path("switchboard.db.secret");
    let secret = format!("0600 {}", file.display());
    assert!(copied.iter().any(|file| *file == secret), "{written}");
    assert!(copied.len() >= 4, "{written}");
    assert_eq!(place.text(), before, "the first file stays as it is");

    let text = fs::read_to_string(place.path("config-b.toml")).unwrap();
    for line in [
        "node = \"b\"",
        "public_url = \"https://calls-b.acme.example\"",
        "also_public = [\"https://calls.acme.example\"]",
        "domains = [\"calls-b.acme.example\"]",
        "requests_per_minute = 100",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(!text.contains("made-up-secret-1"));
    let comments = |text: &str| text.lines().filter(|line| line.starts_with('#')).count();
    assert_eq!(comments(&text), comments(&before));
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("config-b.toml"), mode("config.toml"));
    place
        .run(&["--config", "config-b.toml", "check-config"])
        .await
        .exits(0);
    let again = place.run(&of_b(&[])).await.exits(1);
    assert!(again.stderr.contains("is not overwritten"), "{again:?}");
    let taken = place
        .run(&[
            "init",
            "--second",
            "config-b.toml",
            "--public-url",
            "https://c.example",
        ])
        .await
        .exits(1);
    assert!(taken.stderr.contains("--node"), "{taken:?}");
}

fn finding<'d>(document: &'d Value, check: &str) -> &'d Value {
    let findings = document["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("{check}: {document:#}"))
}

/// What `doctor` of `place` finds of the server under a further public URL.
async fn seen_from(place: &Place, other: &Served) -> Value {
    let before = place.text();
    let also = format!("[server]\nalso_public = [\"http://{}\"]", other.address);
    place.configure(&before.replacen("[server]", &also, 1));
    let document = place.run(&["doctor", "--json"]).await.json();
    place.configure(&before);
    finding(&document, "public URL 127.0.0.1").clone()
}

#[tokio::test]
async fn a_second_machine_with_another_secret_is_found_and_no_secret_is_told() {
    let (first, stranger, second) = (Place::new(), Place::new(), Place::new());
    let served = Served::start(&first).await;
    let secret = "switchboard.db.secret";
    fs::copy(first.path(secret), second.path(secret)).unwrap();
    let (strange, same) = (Served::start(&stranger).await, Served::start(&second).await);
    let found = seen_from(&first, &strange).await;
    assert_eq!(found["severity"], "error", "{found}");
    let message = found["message"].as_str().unwrap();
    assert!(message.contains("with another secret"), "{found}");
    let found = seen_from(&first, &same).await;
    assert_eq!(found["severity"], "ok", "{found}");
    let message = found["message"].as_str().unwrap();
    assert!(message.ends_with("with the same secret"), "{found}");
    let address = same.address;
    same.signal("TERM");
    assert_eq!(same.end().await.0, Some(0));
    let before = first.text();
    let also = format!("[server]\nalso_public = [\"http://{address}\"]");
    first.configure(&before.replacen("[server]", &also, 1));
    let document = first.run(&["doctor", "--json"]).await.json();
    let found = finding(&document, "public URL 127.0.0.1");
    assert_eq!(found["severity"], "error", "{found}");
    for ended in [served, strange] {
        ended.signal("TERM");
        assert_eq!(ended.end().await.0, Some(0));
    }
}

#[tokio::test]
async fn a_number_that_falls_back_to_the_second_machine_is_well_and_a_webhook_rule_is_named() {
    let place = Place::new();
    let first = "https://calls.example.com/webhooks/twilio";
    let second = "https://calls-b.example.com/webhooks/twilio";
    let overrides = "#ct=2000&rt=6000&rc=1&rp=ct,rt,5xx";
    let text = place.text();
    let also = "[server]\nalso_public = [\"https://calls-b.example.com\"]";
    place.configure(&text.replacen("[server]", also, 1));
    let answer = |body: &Value| Fault::Status {
        status: 200,
        body: body.to_string(),
        retry_after: None,
    };
    let asked = async |fallback: &str, rules: Value| {
        let faults = place.outside.twilio.faults();
        faults.clear();
        let numbers = json!({ "incoming_phone_numbers": [{
            "phone_number": CALLED,
            "voice_url": format!("{first}{overrides}"),
            "voice_fallback_url": fallback,
            "status_callback": format!("{first}/status{overrides}"),
        }] });
        faults.standing_on(Route::path("/IncomingPhoneNumbers"), answer(&numbers));
        faults.standing_on(Route::path("/Webhooks/Rules"), answer(&rules));
        place.run(&["doctor", "--json"]).await.json()
    };
    let number = format!("Twilio number {CALLED}");
    let rule =
        |id: &str, prefix: &str| json!({ "id": id, "matchType": "PREFIX_MATCH", "prefix": prefix });
    let none =
        json!({ "meta": {}, "rules": [rule("webhooks_rule_1", "https://other.example.com/")] });
    let well = asked(&format!("{second}{overrides}"), none.clone()).await;
    assert_eq!(finding(&well, &number)["severity"], "ok", "{well:#}");
    let findings = well["findings"].as_array().unwrap();
    assert!(
        findings
            .iter()
            .all(|one| one["check"] != "Twilio webhook rules")
    );

    let alone = asked(&format!("{first}/fallback"), none).await;
    let hint = format!("\"Primary handler fails\": {second}{overrides}");
    assert_eq!(finding(&alone, &number)["hint"], hint, "{alone:#}");

    let rules = json!({ "rules": [rule("webhooks_rule_2", "https://calls-b.example.com/")] });
    let ruled = asked(&format!("{second}{overrides}"), rules).await;
    let found = finding(&ruled, "Twilio webhook rules");
    assert_eq!(found["severity"], "warning");
    assert!(
        found["message"]
            .as_str()
            .unwrap()
            .contains("webhooks_rule_2"),
        "{found}"
    );
}

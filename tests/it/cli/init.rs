//! `init`, from an empty directory to a server that answers; `man` and `completions`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::serve::Served;
use super::{Place, Ran};
use crate::wire::Request;

fn mode(place: &Place, name: &str) -> u32 {
    let found = fs::metadata(place.path(name)).unwrap();
    found.permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_init_writes_passes_the_check_and_starts() {
    let place = Place::empty();
    for (name, secret) in [("token", "made-up-token-1"), ("key", "made-up-key-1")] {
        fs::write(place.path(name), format!("{secret}\n")).unwrap();
    }
    let arguments = [
        "--config",
        "etc/config.toml",
        "--json",
        "init",
        "--yes",
        "--public-url",
        "https://calls.acme.example",
        "--listen",
        "127.0.0.1:0",
        "--twilio-account-sid",
        "AC00000000000000000000000000000001",
        "--twilio-auth-token",
        "token",
        "--braze-url",
        "https://rest.fra-01.braze.eu",
        "--braze-api-key",
        "key",
        "--zendesk-connect",
        "sip:sales@acme.sip.twilio.com",
        "--zendesk-subdomain",
        "acme",
        "--zendesk-email",
        "router@acme.example",
        "--last-resort",
        "+4930123456",
    ];
    let made = place.run(&arguments).await.exits(0).json();
    assert_eq!(made["key"]["role"], "admin");
    let open: Vec<&str> = made["to_do"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .collect();
    assert_eq!(
        open,
        [
            "secrets/zendesk_token: the API token of Zendesk",
            "alerts.email: nobody is told of incidents yet"
        ]
    );
    assert_eq!(mode(&place, "etc/config.toml"), 0o640);
    assert_eq!(mode(&place, "etc/secrets"), 0o700);
    let token = "etc/secrets/twilio_auth_token";
    assert_eq!(mode(&place, token), 0o600);
    assert_eq!(
        fs::read_to_string(place.path(token)).unwrap(),
        "made-up-token-1\n"
    );
    let text = fs::read_to_string(place.path("etc/config.toml")).unwrap();
    assert!(
        !text.contains("made-up-token-1") && !text.contains(made["key"]["key"].as_str().unwrap())
    );
    assert!(text.contains("# How long a dialer rings"), "comments stay");

    let checked = place
        .run(&["--config", "etc/config.toml", "check-config"])
        .await
        .exits(0);
    assert!(
        checked.stderr.contains("still the placeholder"),
        "{checked:?}"
    );
    let served = Served::of(
        &place,
        place.command(&["--config", "etc/config.toml", "serve"]),
    )
    .await;
    let key = made["key"]["key"].as_str().unwrap();
    let asked = Request::new("GET", "/api/v1/dialers").header("X-API-Key", key);
    assert_eq!(asked.send(served.address).await.status, 200);
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
}

#[tokio::test]
async fn init_overwrites_nothing_and_asks_nobody_who_is_not_there() {
    let place = Place::empty();
    let unasked = place
        .run(&["--config", "config.toml", "init"])
        .await
        .exits(2);
    assert!(unasked.stderr.contains("--yes"), "{unasked:?}");
    place
        .run(&["--config", "config.toml", "init", "--yes"])
        .await
        .exits(0);
    place
        .run(&["--config", "config.toml", "check-config"])
        .await
        .exits(0);
    let before = place.text();
    fs::write(place.path("secrets/braze_api_key"), "mine").unwrap();
    let again = place
        .run(&["--config", "config.toml", "init", "--yes"])
        .await
        .exits(1);
    assert!(
        again.stderr.contains("config.toml is there already"),
        "{again:?}"
    );
    assert_eq!(place.text(), before);
    fs::remove_file(place.path("config.toml")).unwrap();
    place
        .run(&["--config", "config.toml", "init", "--yes"])
        .await
        .exits(0);
    assert_eq!(
        fs::read_to_string(place.path("secrets/braze_api_key")).unwrap(),
        "mine"
    );
}

#[tokio::test]
async fn a_value_that_would_be_refused_is_refused_before_anything_is_written() {
    let place = Place::empty();
    let arguments = [
        "--config",
        "c/config.toml",
        "init",
        "--yes",
        "--last-resort",
        "12",
    ];
    let refused = place.run(&arguments).await.exits(2);
    assert!(
        refused.stderr.contains("routing.last_resort_number"),
        "{refused:?}"
    );
    assert!(!place.path("c").exists());
}

#[tokio::test]
async fn the_manual_and_completions_are_of_this_command_line() {
    let place = Place::empty();
    let manual = place.run(&["man"]).await.exits(0);
    for wanted in [
        ".TH switchboard 1",
        ".SH EXIT STATUS",
        "switchboard doctor signature",
        "75",
    ] {
        assert!(manual.stdout.contains(wanted), "{wanted}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]).await.exits(0);
        assert!(script.stdout.contains("check-config"), "{shell}");
    }
    place.run(&["completions", "tcsh"]).await.exits(2);
}

/// Where groff is there, it has nothing to say about the page.
#[tokio::test]
async fn the_manual_is_clean_roff() {
    let place = Place::empty();
    let manual = place.run(&["man"]).await.exits(0);
    fs::write(place.path("switchboard.1"), &manual.stdout).unwrap();
    let mut groff = std::process::Command::new("groff");
    groff
        .args(["-man", "-Tutf8", "-ww", "-z"])
        .arg(place.path("switchboard.1"));
    if groff.output().is_ok() {
        let said = Ran::of(groff).await.exits(0);
        assert_eq!(said.stderr, "");
    }
}

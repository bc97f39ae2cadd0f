//! The other commands that end by themselves.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use switchboard::clock::Clock;
use switchboard_simulator::faults::Fault;

use super::{Place, Ran};

fn keys(document: &serde_json::Value) -> Vec<&str> {
    document
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

fn files(place: &Place) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(place.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_schema_goes_up_and_down_and_says_where_it_stands() {
    let place = Place::new();
    let status = |arguments: &'static [&'static str]| {
        let place = &place;
        async move {
            let document = place.run(arguments).await.exits(0).json();
            assert_eq!(keys(&document), ["current", "latest", "pending"]);
            let pending = document["pending"].as_array().unwrap().len();
            (
                document["current"].as_u64().unwrap(),
                document["latest"].as_u64().unwrap(),
                pending,
            )
        }
    };
    let (current, latest, pending) = status(&["migrate", "status", "--json"]).await;
    assert_eq!((current, pending as u64), (0, latest));
    assert!(latest > 0);
    assert_eq!(files(&place), ["config.toml"], "a status opens nothing");

    assert_eq!(status(&["migrate", "--json"]).await, (latest, latest, 0));
    assert_eq!(
        status(&["migrate", "up", "--json"]).await,
        (latest, latest, 0),
        "again changes nothing"
    );
    let (current, _, pending) = status(&["migrate", "down", "--to", "0", "--json"]).await;
    assert_eq!((current, pending as u64), (0, latest));
    assert!(
        files(&place).iter().any(|name| name.contains(".bak")),
        "{:?}",
        files(&place)
    );

    let ran = place.run(&["migrate", "status"]).await.exits(0);
    assert!(
        ran.stdout.starts_with(&format!("schema 0 of {latest}\n")),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("pending: "), "{}", ran.stdout);
    place.run(&["migrate", "up"]).await.exits(0);
    place.run(&["migrate", "down"]).await.exits(2);
    place.run(&["migrate", "down", "--to", "-1"]).await.exits(2);
    place
        .run(&["migrate", "down", "--to", "999"])
        .await
        .exits(2);
    assert_eq!(
        status(&["migrate", "status", "--json"]).await,
        (latest, latest, 0)
    );
}

#[tokio::test]
async fn a_schema_from_the_future_is_left_alone() {
    let place = Place::new();
    place.run(&["migrate"]).await.exits(0);
    let database = rusqlite::Connection::open(place.path("switchboard.db")).unwrap();
    database.pragma_update(None, "user_version", 999).unwrap();
    drop(database);
    let ran = place.run(&["serve"]).await.exits(78);
    assert!(ran.stderr.contains("999"), "{}", ran.stderr);
    place.run(&["migrate"]).await.exits(1);
    let database = rusqlite::Connection::open(place.path("switchboard.db")).unwrap();
    let version: i64 = database
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, 999);
}

#[tokio::test]
async fn what_is_no_database_is_not_overwritten() {
    let place = Place::new();
    std::fs::write(
        place.path("switchboard.db"),
        "somebody's notes, not a database\n".repeat(200),
    )
    .unwrap();
    let before = std::fs::read(place.path("switchboard.db")).unwrap();
    for command in [["migrate", "status"], ["migrate", "up"], ["serve", "-q"]] {
        let ran = place.run(&command).await;
        assert!(ran.code.is_some_and(|code| code != 0), "{ran:?}");
        assert!(ran.stderr.contains("switchboard.db"), "{ran:?}");
    }
    assert_eq!(std::fs::read(place.path("switchboard.db")).unwrap(), before);
}

/// Rules by which a warm caller never reaches Dialfire.
fn with_a_desk(place: &Place) {
    place.reconfigure(
        "tier = [\"hot\", \"warm\"]\ndialers = [\"dialfire\", \"zendesk\"]",
        "tier = [\"hot\"]\ndialers = [\"dialfire\", \"zendesk\"]\n[[routing.rules]]\nname = \"desk\"\ntier = [\"warm\"]\ndialers = [\"zendesk\"]",
    );
}

#[tokio::test]
async fn explain_says_what_would_have_to_change_for_the_dialer_that_is_skipped() {
    let place = Place::new();
    with_a_desk(&place);
    let document = place
        .run(&[
            "explain",
            "--from",
            "+491700000072",
            "--score",
            "72",
            "--json",
        ])
        .await
        .exits(0)
        .json();
    for key in [
        "caller", "tier", "score", "rule", "ruleset", "plan", "skipped", "trace",
    ] {
        assert!(document.get(key).is_some(), "{key}: {document}");
    }
    assert_eq!(document["caller"], "+491700000072");
    assert_eq!(
        (&document["tier"], &document["score"], &document["rule"]),
        (&json!("warm"), &json!(72), &json!("desk"))
    );
    assert_eq!(document["plan"], json!(["zendesk"]));
    assert_eq!(document["skipped"][0]["dialer"], "dialfire");
    assert_eq!(
        document["skipped"][0]["change"],
        "score 72; hot starts at 80"
    );
    assert!(document["skipped"][0]["reason"].is_string());
    assert!(
        document["trace"]
            .as_array()
            .is_some_and(|trace| trace.len() >= 4),
        "{document}"
    );

    let ran = place
        .run(&["explain", "--from", "+491700000072", "--score", "72"])
        .await
        .exits(0);
    assert!(
        ran.stdout
            .contains("Plan: zendesk.\nNot dialfire: score 72; hot starts at 80.\n"),
        "{}",
        ran.stdout
    );
    assert_eq!(files(&place), ["config.toml"], "no side effects");
    assert_eq!(place.outside.braze.requests().count(), 0);
}

#[tokio::test]
async fn explain_asks_braze_only_when_told_to() {
    let place = Place::new();
    let document = place
        .run(&["explain", "--from", crate::world::HOT, "--lookup", "--json"])
        .await
        .exits(0)
        .json();
    assert_eq!(
        (&document["tier"], &document["score"]),
        (&json!("hot"), &json!(90))
    );
    assert_eq!(place.outside.braze.requests().count(), 1);
    assert_eq!(files(&place), ["config.toml"], "no side effects");
    place.outside.braze.faults().standing(Fault::status(500));
    let document = place
        .run(&["explain", "--from", crate::world::HOT, "--lookup", "--json"])
        .await
        .exits(0)
        .json();
    assert_eq!(document["reason"], "lookup_unavailable");
}

#[tokio::test]
async fn explain_takes_every_kind_of_caller() {
    let place = Place::new();
    for from in [
        "anonymous",
        "+266696687",
        "",
        "sip:alice@pbx.example.com",
        "client:alice",
        "5035551212",
        "\u{202e}<x>",
        "-1",
    ] {
        let document = place
            .run(&["explain", "--from", from, "--json"])
            .await
            .exits(0)
            .json();
        assert_eq!(document["reason"], "lookup_skipped", "{from}");
        assert_eq!(document["plan"], json!(["zendesk", "dialfire"]), "{from}");
        assert_eq!(
            (&document["tier"], &document["score"]),
            (&json!(null), &json!(null)),
            "{from}"
        );
    }
    let unknown = place
        .run(&["explain", "--from", "+491700000001", "--json"])
        .await
        .exits(0);
    assert_eq!(unknown.json()["reason"], "unknown_caller");
    assert!(unknown.stderr.contains("--lookup"), "{}", unknown.stderr);
}

#[tokio::test]
async fn a_command_that_is_used_wrongly_ends_with_2_and_says_how_to_use_it() {
    let place = Place::new();
    let cases: [&[&str]; 12] = [
        &[],
        &["frobnicate"],
        &["serve", "--nonsense"],
        &["explain"],
        &["explain", "--from", "+491700000001", "--score", "x"],
        &["explain", "--from", "+491700000001", "--score", ""],
        &["explain", "--from", "+491700000001", "--score", "NaN"],
        &[
            "explain",
            "--from",
            "+491700000001",
            "--score",
            "1",
            "--lookup",
        ],
        &["explain", "--from", "+491700000001", "--at", "yesterday"],
        &["test-dialer"],
        &["test-dialer", "nobody"],
        &["demo", "--for", "3 seconds"],
    ];
    for arguments in cases {
        let ran = place.run(arguments).await.exits(2);
        assert_eq!(ran.stdout, "", "{arguments:?}");
        assert!(!ran.stderr.is_empty(), "{arguments:?}");
    }
    let nobody = place.run(&["test-dialer", "nobody"]).await;
    assert!(
        nobody
            .stderr
            .contains("the configuration has dialfire, zendesk"),
        "{}",
        nobody.stderr
    );
}

#[tokio::test]
async fn test_dialer_tests_every_dialer_and_places_no_call() {
    let place = Place::new();
    let reports = place
        .run(&["test-dialer", "--all", "--json"])
        .await
        .exits(0)
        .json();
    let reports = reports.as_array().unwrap();
    let dialers: Vec<_> = reports
        .iter()
        .map(|report| report["dialer"].as_str().unwrap())
        .collect();
    assert_eq!(dialers, ["dialfire", "zendesk"]);
    for report in reports {
        assert_eq!(report["ok"], true, "{report}");
        assert!(report["latency_ms"].is_u64(), "{report}");
        assert!(report.get("availability").is_some(), "{report}");
        let checks = report["checks"].as_array().unwrap();
        assert!(!checks.is_empty());
        for check in checks {
            assert!(
                check["name"].is_string()
                    && check["ok"].is_boolean()
                    && check["message"].is_string(),
                "{check}"
            );
        }
    }
    let requests = [
        place.outside.dialfire.requests().all(),
        place.outside.zendesk.requests().all(),
    ]
    .concat();
    assert!(!requests.is_empty());
    assert!(
        requests.iter().all(|request| request.method == "GET"),
        "{requests:?}"
    );

    assert_eq!(files(&place), ["config.toml"], "no side effects");
    place.outside.zendesk.faults().standing(Fault::status(401));
    let one = place
        .run(&["test-dialer", "dialfire", "--json"])
        .await
        .exits(0)
        .json();
    assert_eq!(one.as_array().unwrap().len(), 1);
    let all = place
        .run(&["test-dialer", "--all", "--json"])
        .await
        .exits(1)
        .json();
    let verdicts: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|report| report["ok"].as_bool().unwrap())
        .collect();
    assert_eq!(verdicts, [true, false]);
    let text = place.run(&["test-dialer", "--all"]).await.exits(1);
    assert!(
        text.stdout.contains("dialfire: ok") && text.stdout.contains("zendesk: FAILED"),
        "{}",
        text.stdout
    );
}

#[tokio::test]
async fn doctor_names_what_is_not_well_and_what_to_do() {
    let place = Place::new();
    let severity = |document: &serde_json::Value, check: &str| -> Option<String> {
        let findings = document["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["check"] == check)?;
        Some(found["severity"].as_str().unwrap().to_owned())
    };
    let well = place.run(&["doctor", "--json"]).await.exits(0).json();
    assert_eq!(well["ok"], true);
    assert_eq!(severity(&well, "database").as_deref(), Some("warning"));
    assert_eq!(severity(&well, "lost callbacks").as_deref(), Some("ok"));
    assert_eq!(severity(&well, "braze").as_deref(), Some("ok"));
    assert_eq!(files(&place), ["config.toml"], "no side effects");

    place.outside.braze.faults().standing(Fault::status(401));
    let ill = place.run(&["doctor", "--json"]).await.exits(1).json();
    assert_eq!(severity(&ill, "braze").as_deref(), Some("error"));
    let text = place.run(&["doctor"]).await.exits(1);
    assert!(text.stdout.contains("users.export.ids"), "{}", text.stdout);

    place.outside.braze.requests().forget();
    let offline = place.run(&["doctor", "--offline", "--json"]).await;
    assert_eq!(severity(&offline.exits(0).json(), "braze"), None);
    assert!(place.outside.braze.requests().all().is_empty());
}

#[tokio::test]
async fn the_demo_routes_calls_and_proves_it() {
    let place = Place::empty();
    let ran = place
        .run(&[
            "demo",
            "--for",
            "3s",
            "--history",
            "0s",
            "--calls-per-minute",
            "200",
            "--listen",
            "127.0.0.1:0",
            "--seed",
            "7",
            "--json",
        ])
        .await
        .exits(0);
    let summary = ran.json();
    assert_eq!(summary["ok"], true, "{summary}");
    let calls = summary["calls"].as_u64().unwrap();
    assert!(calls > 0);
    assert_eq!(summary["answered_with_valid_twiml"], calls);
    assert_eq!(summary["decisions"], calls);
    assert_eq!(summary["violations"], json!([]));
}

#[tokio::test]
async fn the_past_of_a_demo_lies_behind_its_start_and_the_log_of_it_verifies() {
    let place = Place::empty();
    let arguments = "demo --for 1s --history 20m --listen 127.0.0.1:0 --seed 7 --json";
    let before = Clock::system().now();
    let ran = place.run(&arguments.split(' ').collect::<Vec<_>>()).await;
    let summary = ran.exits(0).json();
    let database = Path::new(summary["database"].as_str().unwrap());
    let config = database.with_file_name("config.toml");
    let config = config.to_str().unwrap();
    let export = ["--config", config, "audit", "export", "--format", "jsonl"];
    let lines = place.run(&export).await.exits(0).stdout;
    let records = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let times: Vec<Timestamp> = records
        .filter(|record| record["kind"] == "call_decided")
        .map(|record| record["at"].as_str().unwrap().parse().unwrap())
        .collect();
    let earlier = before - SignedDuration::from_mins(2);
    let n_before = times.iter().filter(|at| **at < earlier).count();
    assert!(n_before > 10, "{times:?}");
    assert!(
        times
            .iter()
            .all(|at| *at > before - SignedDuration::from_mins(21))
    );
    assert!(times.is_sorted(), "{times:?}");
    let verify = [
        "audit",
        "verify",
        "--database",
        summary["database"].as_str().unwrap(),
    ];
    place.run(&verify).await.exits(0);
}

#[tokio::test]
async fn a_reader_that_has_gone_ends_a_command_quietly() {
    let place = Place::new();
    let commands: [(&[&str], i32); 5] = [
        (&["explain", "--from", "+491700000001"], 0),
        (&["check-config", "--json"], 0),
        (&["test-dialer", "nobody"], 2),
        (&["--help"], 0),
        (&["migrate", "status"], 0),
    ];
    for (arguments, code) in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = place.command(arguments);
        command.stdout(writer);
        let ran = Ran::of(command).await.exits(code);
        assert!(
            !ran.stderr.contains("panicked") && !ran.stderr.to_lowercase().contains("pipe"),
            "{ran:?}"
        );

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = place.command(arguments);
        command.stderr(writer);
        Ran::of(command).await.exits(code);
    }
}

#[tokio::test]
async fn version_and_help_are_results() {
    let place = Place::empty();
    let version = place.run(&["--version"]).await.exits(0);
    assert_eq!(
        version.stdout,
        format!("switchboard {}\n", env!("CARGO_PKG_VERSION"))
    );
    let mut plain = place.command(&["--help"]);
    plain.env("NO_COLOR", "1");
    let help = Ran::of(plain).await.exits(0);
    for command in [
        "serve",
        "demo",
        "check-config",
        "migrate",
        "test-dialer",
        "explain",
    ] {
        assert!(help.stdout.contains(command), "{command}: {}", help.stdout);
    }
}

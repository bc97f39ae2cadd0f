//! A slice of the log that somebody verifies who has nothing but the file.

use std::fs;

use serde_json::Value;
use switchboard_simulator::twilio::Call;

use super::serve::Served;
use super::{Place, Ran};
use crate::world::{CALLED, COLD, HOT};

/// An installation at rest, all of whose records are signed, after two calls.
async fn after_two_calls() -> Place {
    let place = Place::new();
    let served = Served::start(&place).await;
    for caller in [HOT, COLD] {
        let result = place.outside.twilio.call(Call::new(caller, CALLED)).await;
        assert_eq!(result.violations, Vec::<String>::new());
    }
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
    place
}

/// Exports with proof into a file of that name.
async fn export(place: &Place, name: &str, more: &[&str]) -> Vec<Value> {
    let export = ["audit", "export", "--format", "jsonl", "--proof"];
    let ran = place.run(&[&export, more].concat()).await.exits(0);
    fs::write(place.path(name), &ran.stdout).unwrap();
    let lines = ran.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Verifies a file in a folder where there is neither configuration nor database.
async fn verify(place: &Place, name: &str, more: &[&str]) -> Ran {
    let elsewhere = tempfile::tempdir().unwrap();
    let file = place.path(name);
    let mut command = place.command(&["audit", "verify", "--json", "--export"]);
    command.arg(&file).args(more).current_dir(elsewhere.path());
    Ran::of(command).await
}

fn records(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter_map(|line| line.get("record")).collect()
}

fn kinds(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| finding["kind"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_with_proof_verifies_without_database_masked_or_not() {
    let place = after_two_calls().await;
    let key = place.path("switchboard.db.signing.pub");
    let key = ["--public-key", key.to_str().unwrap()];
    let all = export(&place, "all.jsonl", &[]).await;
    let text = fs::read_to_string(place.path("all.jsonl")).unwrap();
    assert!(text.contains("+**********90") && !text.contains("1700000090"));
    let report = verify(&place, "all.jsonl", &key).await.exits(0).json();
    assert_eq!(report["ok"], true);
    assert_eq!(report["records"], records(&all).len());
    assert_eq!(report["records"], report["signed"]);
    assert_eq!(report["key_is_trusted"], true);

    let revealed = export(&place, "revealed.jsonl", &["--reveal", "--caller", HOT]).await;
    assert!(
        revealed
            .iter()
            .any(|line| line["record"]["shown"]["caller"] == HOT)
    );
    assert!(records(&revealed).len() >= 2 && records(&revealed).len() < records(&all).len());
    let report = verify(&place, "revealed.jsonl", &key).await.exits(0).json();
    assert_eq!(report["records"], records(&revealed).len());

    // Times are those of the records: the slice is from the third to the fifth.
    let at = |n: usize| {
        let ms = records(&all)[n]["created_at"].as_i64().unwrap();
        jiff::Timestamp::from_millisecond(ms).unwrap()
    };
    let since = at(2).to_string();
    let slice = export(&place, "slice.jsonl", &["--since", &since]).await;
    let first = records(&all).iter().position(|record| {
        record["created_at"].as_i64() >= records(&all)[2]["created_at"].as_i64()
    });
    assert_eq!(records(&slice), records(&all)[first.unwrap()..]);
    verify(&place, "slice.jsonl", &key).await.exits(0);
    let none = export(&place, "none.jsonl", &["--until", "2020-01-01T00:00:00Z"]).await;
    assert_eq!(records(&none).len(), 0);
    verify(&place, "none.jsonl", &[]).await.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_changed_is_found_and_what_is_none_is_refused() {
    let place = after_two_calls().await;
    export(&place, "all.jsonl", &[]).await;
    let text = fs::read_to_string(place.path("all.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let without = [&lines[..3], &lines[4..]].concat().join("\n") + "\n";
    let cases = [
        (text.replacen("call_decided", "call_rejected", 1), "altered"),
        (without, "missing"),
        (text[..text.len() / 2].to_owned(), "truncated"),
        (
            text.replacen("\\n\\n\u{2014} ", "\\n\\n\u{2013} ", 1),
            "checkpoint_invalid",
        ),
    ];
    for (changed, kind) in cases {
        fs::write(place.path("changed.jsonl"), changed).unwrap();
        let report = verify(&place, "changed.jsonl", &[]).await.exits(1).json();
        assert_eq!(
            (report["ok"].as_bool(), kinds(&report)),
            (Some(false), vec![kind])
        );
    }
    // The key of another installation.
    let other = after_two_calls().await;
    let key = other.path("switchboard.db.signing.pub");
    let key = ["--public-key", key.to_str().unwrap()];
    let report = verify(&place, "all.jsonl", &key).await.exits(1).json();
    assert_eq!(kinds(&report), ["checkpoint_invalid"]);

    fs::write(place.path("plain.jsonl"), "{\"id\":1}\n").unwrap();
    for name in ["plain.jsonl", "switchboard.db"] {
        let refused = verify(&place, name, &[]).await.exits(1);
        assert!(
            refused.stderr.contains("is no export with proof"),
            "{refused:?}"
        );
        assert_eq!(refused.stdout, "");
    }
    let absent = verify(&place, "absent.jsonl", &[]).await.exits(1);
    assert!(absent.stderr.contains("cannot read"), "{absent:?}");
    let both = ["--database", "switchboard.db"];
    verify(&place, "all.jsonl", &both).await.exits(2);
    let csv = ["audit", "export", "--format", "csv", "--proof"];
    place.run(&csv).await.exits(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_compared_with_the_proof_that_lies_beside_it() {
    let place = after_two_calls().await;
    let plain = ["audit", "export", "--format", "jsonl"];
    let plain = place.run(&plain).await.exits(0).stdout;
    for (name, format, masked) in [
        ("calls.jsonl", "jsonl", "\"+*"),
        ("table.csv", "csv", ",'+*"),
    ] {
        let file = place.path(name);
        let path = file.to_str().unwrap();
        let output = [
            "audit", "export", "--format", format, "--proof", "--output", path,
        ];
        assert_eq!(place.run(&output).await.exits(0).stdout, "");
        // What is there is not written over.
        place.run(&output).await.exits(1);
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text == plain, format == "jsonl");
        let report = verify(&place, name, &[]).await.exits(0).json();
        assert_eq!(report["records"], plain.lines().count());
        let shorter = text[..text.len() - 1].rsplit_once('\n').unwrap().0;
        let changes = [
            (
                text.replacen(masked, &masked.replace('*', "1"), 1),
                "altered",
            ),
            (format!("{shorter}\n"), "altered"),
            (format!("{text}more\n"), "inserted"),
        ];
        for (changed, kind) in changes {
            fs::write(&file, changed).unwrap();
            let report = verify(&place, name, &[]).await.exits(1).json();
            assert_eq!(kinds(&report), [kind], "{name}");
        }
    }
}

//! What stays in the files of those who call, and what does not.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use switchboard::clock::Clock;
use switchboard::http::keys::DrawnKey;
use switchboard_simulator::faults::Fault;
use switchboard_simulator::twilio::Call;

use super::Place;
use super::serve::Served;
use crate::wire::Request;
use crate::world::{CALLED, COLD, HOT};

/// Everything in the files of the database, but for the secret.
fn files(place: &Place) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(place.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains(".db") && path.is_file() {
            let mut bytes = fs::read(&path).unwrap();
            // The reserves are room and nothing else.
            let end = bytes.iter().rposition(|byte| *byte != 0);
            bytes.truncate(end.map_or(0, |end| end + 1));
            found.push((name, bytes));
        }
    }
    assert!(found.len() > 1, "{found:?}");
    found
}

/// A number in every form in which software writes numbers.
fn forms(number: &str) -> Vec<Vec<u8>> {
    let digits = number.trim_start_matches('+');
    let mut forms = vec![
        digits.to_owned(),
        hex::encode(digits),
        hex::encode_upper(digits),
        digits
            .bytes()
            .map(|digit| format!("{digit:02x}"))
            .collect::<Vec<_>>()
            .join(" "),
        // Without its country code.
        digits[2..].to_owned(),
    ];
    // The middle of each of the three ways in which base64 can fall on it.
    for offset in 0..3 {
        let text = format!("{}{digits}", "?".repeat(offset));
        let encoded = STANDARD.encode(text);
        forms.push(encoded[4..encoded.len() - 4].to_owned());
    }
    let mut forms: Vec<Vec<u8>> = forms.into_iter().map(String::into_bytes).collect();
    forms.push(digits.encode_utf16().flat_map(u16::to_le_bytes).collect());
    forms
}

fn assert_absent(place: &Place, what: &[&str]) {
    for (name, bytes) in files(place) {
        for text in what {
            for form in forms(text) {
                let at = bytes.windows(form.len()).position(|found| found == form);
                let shown = String::from_utf8_lossy(&form);
                assert_eq!(at, None, "{text} as {shown} in {name}");
            }
        }
    }
}

fn with_a_third_dialer(place: &Place) {
    let text = place.text();
    let third = format!(
        "\n[dialers.other]\nkind = \"http\"\nconnect = \"+4930333333\"\nurl = \"{}\"\nprobe_every = \"1h\"\n\
         body = {{ phone_number = \"{{caller}}\", note = \"call of {{caller}} to {{called}}\", call_sid = \"{{call_sid}}\" }}\n",
        place.outside.http_dialer.calls_url()
    );
    let at = text.find("[dialers.dialfire]").unwrap();
    place.configure(&format!("{}{third}\n{}", &text[..at], &text[at..]));
}

async fn ring(place: &Place, from: &str) {
    let result = place.outside.twilio.call(Call::new(from, CALLED)).await;
    assert_eq!(result.violations, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_names_a_caller_whatever_the_dialers_and_braze_answer() {
    let place = Place::new();
    with_a_third_dialer(&place);
    let mut served = Served::start(&place).await;
    ring(&place, HOT).await;
    ring(&place, COLD).await;
    ring(&place, "sip:+491700000090@pbx.example.com").await;
    // Every dialer refuses with the number in its answer, one after another.
    place.outside.dialfire.faults().standing(Fault::status(500));
    ring(&place, HOT).await;
    place.outside.zendesk.faults().standing(Fault::status(422));
    // The default plan goes on to the third; the rule for the other caller would hold the call.
    ring(&place, COLD).await;
    assert_eq!(place.outside.http_dialer.handoffs().count(), 1);
    served.event("call.routed", 5).await;
    assert_absent(&place, &[HOT, COLD]);
    for (name, bytes) in files(&place) {
        for text in ["ext-4917", "Jane", "pbx.example.com"] {
            let is_there = bytes
                .windows(text.len())
                .any(|found| found == text.as_bytes());
            assert!(!is_there, "{text} in {name}");
        }
    }
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
    assert_absent(&place, &[HOT, COLD]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_erased_beside_the_running_server_and_without_it() {
    let place = Place::new();
    let served = Served::start(&place).await;
    ring(&place, HOT).await;
    ring(&place, HOT).await;
    ring(&place, COLD).await;
    let spaced = "+49 170 0000-090";
    let dry = place
        .run(&["erase", "--caller", HOT, "--dry-run", "--json"])
        .await
        .exits(0)
        .json();
    assert_eq!(
        (&dry["erased"], &dry["known"], &dry["calls"]),
        (&false.into(), &true.into(), &2.into()),
        "{dry}"
    );
    let ran = place
        .run(&["erase", "--caller", spaced, "--json"])
        .await
        .exits(0);
    let document = ran.json();
    assert_eq!(document["erased"], true, "{document}");
    assert_eq!(document["calls"], 2, "{document}");
    assert_eq!(document["wal_emptied"], true, "{document}");
    assert!(!ran.stderr.contains("1700000090"), "{}", ran.stderr);
    assert_absent(&place, &[HOT]);
    let again = place
        .run(&["erase", "--caller", HOT, "--json"])
        .await
        .exits(0);
    assert_eq!(again.json()["erased"], false);
    // Whoever rings again is served as before, and is somebody new.
    ring(&place, HOT).await;
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));

    let offline = place
        .run(&["erase", "--caller", HOT, "--json"])
        .await
        .exits(0);
    assert_eq!(offline.json()["calls"], 1, "{offline:?}");
    let dry = place
        .run(&["erase", "--caller", COLD, "--dry-run"])
        .await
        .exits(0);
    assert!(
        dry.stdout.starts_with("would be erased: 1 calls"),
        "{dry:?}"
    );
    let nobody = ["erase", "--caller", "030123456", "--yes"];
    place.run(&nobody).await.exits(1);
    let text = place.run(&["erase", "--caller", COLD]).await.exits(0);
    assert!(text.stdout.starts_with("erased: 1 calls"), "{text:?}");
    let replayed = place
        .run(&["replay", "--since", "1h", "--json"])
        .await
        .exits(0);
    assert_eq!(replayed.json()["replayed"], 4);
    place.run(&["backup", "after.db"]).await.exits(0);
    assert_absent(&place, &[HOT, COLD]);
    let verified = place.run(&["audit", "verify", "--json"]).await.exits(0);
    assert_eq!(verified.json()["ok"], true);
}

#[tokio::test]
async fn nobody_is_erased_who_is_nobody_and_nothing_where_nothing_is() {
    let place = Place::new();
    for caller in ["anonymous", "", "x y", "030", "+49"] {
        place.run(&["erase", "--caller", caller]).await.exits(2);
    }
    place.run(&["erase", "--caller", HOT]).await.exits(1);
    assert!(!place.path("switchboard.db").exists());
}

#[tokio::test]
async fn a_lost_secret_is_not_replaced_and_another_one_is_refused() {
    let place = Place::new();
    place.run(&["migrate", "up"]).await.exits(0);
    let secret = place.path("switchboard.db.secret");
    let aside = place.path("kept");
    fs::rename(&secret, &aside).unwrap();
    for command in [
        &["serve"][..],
        &["migrate", "up"],
        &["erase", "--caller", HOT],
    ] {
        let ran = place.run(command).await.exits(78);
        assert!(
            ran.stderr.contains("put the file back"),
            "{command:?} {ran:?}"
        );
        assert!(!secret.exists(), "{command:?}");
    }
    fs::write(&secret, "another one\n").unwrap();
    place.set_mode("switchboard.db.secret", 0o604);
    let ran = place.run(&["serve"]).await.exits(78);
    assert!(ran.stderr.contains("chmod 0600"), "{ran:?}");
    place.set_mode("switchboard.db.secret", 0o600);
    let ran = place.run(&["serve"]).await.exits(78);
    assert!(
        ran.stderr.contains("another installation secret"),
        "{ran:?}"
    );
    fs::write(&secret, " \n").unwrap();
    let ran = place.run(&["serve"]).await.exits(78);
    assert!(ran.stderr.contains("is empty"), "{ran:?}");
    fs::rename(&aside, &secret).unwrap();
    place.run(&["erase", "--caller", HOT]).await.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_the_running_server_is_put_back_and_never_by_accident() {
    let place = Place::new();
    let served = Served::start(&place).await;
    ring(&place, HOT).await;
    let made = place.run(&["backup", "copy.db", "--json"]).await.exits(0);
    let manifest = made.json();
    assert!(manifest["records"].as_i64().unwrap() >= 4, "{manifest}");
    assert_eq!(manifest["sha256"].as_str().unwrap().len(), 64);
    place.run(&["backup", "switchboard.db"]).await.exits(2);
    place
        .run(&["restore", "copy.db", "--force"])
        .await
        .exits(75);
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));

    place.run(&["restore", "copy.db"]).await.exits(1);
    let restored = place
        .run(&["restore", "copy.db", "--force", "--json"])
        .await
        .exits(0);
    let document = restored.json();
    assert_eq!(document["records"], manifest["records"]);
    assert_eq!(document["head"], manifest["head"]);
    assert!(fs::exists(document["kept"].as_str().unwrap()).unwrap());
    let mut bytes = fs::read(place.path("copy.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(place.path("damaged.db"), &bytes).unwrap();
    fs::copy(place.path("copy.db.json"), place.path("damaged.db.json")).unwrap();
    place
        .run(&["restore", "damaged.db", "--force"])
        .await
        .exits(1);
    fs::write(place.path("foreign.db"), "no database").unwrap();
    place
        .run(&["restore", "foreign.db", "--force"])
        .await
        .exits(1);
    place.run(&["erase", "--caller", HOT]).await.exits(0);
    place.run(&["backup", "after.db"]).await.exits(0);
    let after = fs::read(place.path("after.db")).unwrap();
    for form in forms(HOT) {
        assert!(!after.windows(form.len()).any(|found| found == form));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_backup_is_shown_and_measured_and_its_place_is_not_told() {
    let place = Place::new();
    let drawn = DrawnKey::draw().unwrap();
    let hash = drawn.hash.to_hex();
    let text = place.text();
    place.configure(&format!(
        "{text}\n[[auth.keys]]\nname = \"desk\"\nrole = \"viewer\"\nhash = \"{hash}\"\n"
    ));
    let served = Served::start(&place).await;
    let settings = Request::new("GET", "/api/v1/settings").header("X-API-Key", &drawn.key);
    let shown = async |served: &Served| {
        let reply = settings.send(served.address).await;
        assert!(!reply.text().contains("copy.db"), "{}", reply.text());
        let document: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        document["data"]["backup"].clone()
    };
    let measured = async |served: &Served| {
        let reply = Request::new("GET", "/metrics").send(served.address).await;
        let text = reply.text();
        let mut lines = text.lines();
        let name = "switchboard_backup_last_success_timestamp_seconds ";
        let value = lines.find_map(|line| line.strip_prefix(name));
        value.map(|value| value.parse::<f64>().unwrap())
    };
    assert_eq!(shown(&served).await, serde_json::Value::Null);
    assert_eq!(measured(&served).await, None);
    ring(&place, HOT).await;
    let made = place.run(&["backup", "copy.db", "--json"]).await.exits(0);
    let manifest = made.json();
    let backup = shown(&served).await;
    for part in ["created_at", "bytes", "records", "sha256"] {
        assert_eq!(backup[part], manifest[part], "{part}");
    }
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));

    let served = Served::start(&place).await;
    let made_at: Timestamp = manifest["created_at"].as_str().unwrap().parse().unwrap();
    let mut found = measured(&served).await;
    for _ in 0..100 {
        if found.is_some() {
            break;
        }
        // It is looked for at the start, beside everything else.
        Clock::system().wait(Duration::from_millis(50)).await;
        found = measured(&served).await;
    }
    let seconds = made_at.as_second();
    assert_eq!(
        found.map(|found| format!("{found:.0}")),
        Some(seconds.to_string())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_masks_numbers_unless_it_is_to_reveal_them_and_says_who_is_erased() {
    let place = Place::new();
    let served = Served::start(&place).await;
    ring(&place, HOT).await;
    ring(&place, COLD).await;
    let jsonl = place
        .run(&["audit", "export", "--format", "jsonl"])
        .await
        .exits(0);
    let lines: Vec<serde_json::Value> = jsonl
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ids: Vec<_> = lines
        .iter()
        .map(|line| line["id"].as_i64().unwrap())
        .collect();
    assert_eq!(
        ids,
        (1..=i64::try_from(ids.len()).unwrap()).collect::<Vec<_>>()
    );
    assert!(
        lines.iter().any(|line| line["caller"] == "+**********90"),
        "{lines:?}"
    );
    assert!(!jsonl.stdout.contains("1700000090"));
    let csv = place
        .run(&["audit", "export", "--format", "csv", "--reveal"])
        .await
        .exits(0);
    assert!(
        csv.stdout
            .starts_with("id,at,kind,call_id,caller,called,answer,detail,hash")
    );
    assert!(csv.stdout.contains(&format!(",'{HOT},")), "{}", csv.stdout);
    let export = [
        "audit", "export", "--format", "jsonl", "--reveal", "--caller",
    ];
    let of_caller = |caller: &'static str| [export.as_slice(), &[caller]].concat();
    let theirs = place.run(&of_caller(HOT)).await.exits(0);
    let n_records = theirs.stdout.lines().count();
    assert!(n_records >= 2, "{}", theirs.stdout);
    assert!(theirs.stdout.contains(HOT) && !theirs.stdout.contains(COLD));
    place.run(&of_caller("+4930999999")).await.exits(1);
    place.run(&of_caller("?")).await.exits(2);
    place.run(&["erase", "--caller", HOT]).await.exits(0);
    let after = place
        .run(&["audit", "export", "--format", "jsonl", "--reveal"])
        .await
        .exits(0);
    assert!(after.stdout.contains("\"caller\":\"[erased]\""));
    assert!(after.stdout.contains(COLD) && !after.stdout.contains(HOT));
    assert!(after.stdout.contains("\"kind\":\"exported\""));
    assert!(after.stdout.contains("\"caller\":\"+**********90\""));
    let none = place
        .run(&[
            "audit",
            "export",
            "--format",
            "jsonl",
            "--until",
            "2020-01-01T00:00:00Z",
        ])
        .await
        .exits(0);
    assert_eq!(none.stdout, "");
    drop(served);
}

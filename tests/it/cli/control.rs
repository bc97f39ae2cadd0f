//! Commands that ask the running server, signals, and what monitoring reads of it.

use std::io::{BufRead, BufReader, Read as _};
use std::process::Stdio;

use reqwest::Client;
use serde_json::{Value, json};
use switchboard::clock::Clock;
use switchboard::http::keys::DrawnKey;
use switchboard_simulator::twilio::Call;

use super::serve::{PATIENCE, Served};
use super::{Place, Ran};
use crate::wire::Request;
use crate::world::{CALLED, HOT};

/// How often a condition is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);

/// Waits until something is so.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            Clock::system().wait(LOOK).await;
        }
    };
    let found = tokio::time::timeout(2 * PATIENCE, looking).await;
    assert!(found.is_ok(), "never: {what}");
    found.unwrap()
}

/// A place with the key of an admin.
fn with_key() -> (Place, String) {
    let place = Place::new();
    let drawn = DrawnKey::draw().unwrap();
    let hash = drawn.hash.to_hex();
    let text = place.text();
    place.configure(&format!(
        "{text}\n[[auth.keys]]\nname = \"ops\"\nrole = \"admin\"\nhash = \"{hash}\"\n"
    ));
    (place, drawn.key)
}

async fn asked(base: &str, key: &str, post: bool, path: &str) -> Value {
    let client = Client::builder().no_proxy().build().unwrap();
    let url = format!("{base}/api/v1{path}");
    let request = if post {
        client.post(url)
    } else {
        client.get(url)
    };
    let answer = request.header("x-api-key", key).send().await.unwrap();
    answer.json().await.unwrap()
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "one story from the first reload to the last"
)]
async fn a_reload_by_command_tells_what_waits_for_a_restart_and_records_who_asked() {
    let (place, key) = with_key();
    place.run(&["reload"]).await.exits(75);
    let mut served = Served::start(&place).await;
    let base = format!("http://{}", served.address);
    let uid = rustix::process::geteuid().as_raw();
    let user = std::process::Command::new("id")
        .arg("-un")
        .output()
        .unwrap();
    let user = String::from_utf8(user.stdout).unwrap().trim().to_owned();

    let ran = place.run(&["reload"]).await.exits(0);
    assert_eq!(
        ran.stdout,
        "the configuration was read again: nothing in it has changed\n"
    );
    place.reconfigure("[storage]", "calls_in_hand = 77\n[storage]");
    place.reconfigure("default_dialer", "budget = \"3s\"\ndefault_dialer");
    let mut sudo = place.command(&["reload"]);
    sudo.env("SUDO_USER", "anna");
    let ran = Ran::of(sudo).await.exits(0);
    assert!(
        ran.stdout
            .contains("2 keys have changed\n  routing.budget\n  server.calls_in_hand\n"),
        "{ran:?}"
    );
    assert!(
        ran.stdout
            .ends_with("restart pending: server.calls_in_hand\n"),
        "{ran:?}"
    );
    let by_sudo = served.event("config.reloaded", 2).await["by"].clone();
    let expected = match uid {
        0 => "user anna by sudo".to_owned(),
        _ => format!("user {user}"),
    };
    assert_eq!(by_sudo, expected.as_str());

    // The table shows what is in force, and beside it what waits.
    let settings = asked(&base, &key, false, "/settings").await;
    assert_eq!(
        settings["data"]["needs_restart"],
        json!(["server.calls_in_hand"])
    );
    let list = settings["data"]["settings"].as_array().unwrap();
    let of = |key: &str| list.iter().find(|one| one["key"] == key).unwrap();
    let waits = of("server.calls_in_hand");
    assert_eq!(
        (&waits["value"], &waits["pending"]),
        (&json!(""), &json!("77"))
    );
    let budget = of("routing.budget");
    assert_eq!(
        (&budget["value"], &budget["pending"]),
        (&json!("3s"), &Value::Null)
    );

    // A refusal keeps its line and its hint, and says that nothing changed.
    place.reconfigure("budget = \"3s\"", "budgt = \"3s\"");
    let line = place
        .text()
        .lines()
        .position(|line| line.starts_with("budgt"));
    let line = line.unwrap() + 1;
    let ran = place.run(&["reload"]).await.exits(78);
    assert!(
        ran.stderr.contains(&format!(
            "config.toml:{line}:1: routing.budgt is not a known key; did you mean budget?\n"
        )),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("nothing has changed"), "{ran:?}");
    assert_eq!(ran.stdout, "");
    let document = place.run(&["reload", "--json"]).await.exits(78).json();
    assert_eq!(document["ok"], false);
    assert_eq!(
        (
            &document["problems"][0]["line"],
            &document["problems"][0]["hint"]
        ),
        (&json!(line), &json!("did you mean budget?"))
    );
    let refused = asked(&base, &key, true, "/settings/reload").await;
    let problem = &refused["error"]["details"]["problems"][0];
    assert_eq!(
        (&problem["line"], &problem["hint"]),
        (&json!(line), &json!("did you mean budget?"))
    );

    // Even a file that is no TOML any more leads to the server.
    place.configure(&place.text().replace("[routing]", "[routing"));
    place.run(&["reload"]).await.exits(78);
    place.configure(
        &place
            .text()
            .replace("[routing", "[routing]")
            .replace("]]", "]"),
    );
    place.configure(&place.text().replace("budgt", "budget"));

    // The service manager asks by the same way.
    let unit = include_str!("../../../packaging/systemd/switchboard.service");
    let reload = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecReload="));
    let reload = reload.unwrap().split(' ').skip(1).collect::<Vec<_>>();
    assert_eq!(reload, ["reload", "--systemd"]);
    drop(place.run(&reload).await);
    let events = asked(&base, &key, false, "/logs?kind=config_refused").await;
    let by: Vec<&Value> = events["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| &record["detail"]["by"])
        .collect();
    let own = match uid {
        0 => "user root".to_owned(),
        _ => format!("user {user}"),
    };
    assert!(by.iter().any(|by| **by == own.as_str()), "{by:?}");
    assert!(by.iter().any(|by| *by == "key ops"), "{by:?}");
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
}

#[tokio::test]
async fn the_service_manager_is_named_in_the_record_of_its_reload() {
    let (place, key) = with_key();
    let served = Served::start(&place).await;
    place.reconfigure("default_dialer", "budget = \"3s\"\ndefault_dialer");
    place.run(&["reload", "--systemd"]).await.exits(0);
    let base = format!("http://{}", served.address);
    let changes = asked(&base, &key, false, "/settings/changes").await;
    assert_eq!(changes["data"][0]["detail"]["by"], "systemctl");
}

/// Whether the process catches this signal, as the system says.
fn catches(pid: u32, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

#[tokio::test]
async fn a_hangup_in_the_first_moments_of_a_start_is_answered() {
    const SIGHUP: u32 = 1;
    let place = Place::new();
    for _ in 0..3 {
        let mut command = place.command(&["serve"]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (told, mut heard) = tokio::sync::watch::channel(false);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if line.contains("\"config.reloaded\"") {
                    told.send_replace(true);
                }
            }
        });
        until("the signal is caught", async || {
            catches(pid, SIGHUP).then_some(())
        })
        .await;
        let kill = |name: &str| {
            let sent = std::process::Command::new("kill")
                .args([name, &pid.to_string()])
                .status();
            assert!(sent.unwrap().success());
        };
        kill("-HUP");
        let answered = tokio::time::timeout(PATIENCE, heard.wait_for(|told| *told)).await;
        assert!(answered.is_ok_and(|heard| heard.is_ok()), "lost");
        kill("-TERM");
        let ended = tokio::task::spawn_blocking(move || child.wait()).await;
        assert_eq!(ended.unwrap().unwrap().code(), Some(0));
    }
}

#[tokio::test]
async fn explain_asks_the_running_server_for_its_dialers_and_says_when_it_supposes_them_well() {
    let (place, key) = with_key();
    let explain = ["explain", "--score", "90", "--at", "19:00", "--json"];
    let alone = place.run(&explain).await.exits(0);
    assert!(
        alone
            .stderr
            .contains("no running server was asked: all dialers are supposed to be well"),
        "{alone:?}"
    );
    let document = alone.json();
    assert_eq!(document["plan"], json!(["dialfire", "zendesk"]));
    assert_eq!(
        (&document["caller"], &document["score"]),
        (&Value::Null, &json!(90))
    );
    let said = document["trace"][0]["text"].as_str().unwrap();
    assert_eq!(said, "Supposed, and not asked of Braze: score 90.");

    let served = Served::start(&place).await;
    let base = format!("http://{}", served.address);
    asked(&base, &key, true, "/dialers/dialfire/drain").await;
    let with = place.run(&explain).await.exits(0);
    assert!(!with.stderr.contains("supposed to be well"), "{with:?}");
    let document = with.json();
    assert_eq!(document["plan"], json!(["zendesk"]), "{document}");
    assert_eq!(document["skipped"][0]["reason"], "drained");
}

#[tokio::test]
async fn every_figure_of_the_contract_is_in_the_metrics_after_a_call() {
    let (place, key) = with_key();
    let mut served = Served::start(&place).await;
    let base = format!("http://{}", served.address);
    let before = Request::new("GET", "/metrics")
        .send(served.address)
        .await
        .text();
    assert!(
        before
            .contains("switchboard_calls_total{disposition=\"answered\",dialer=\"dialfire\"} 0\n"),
        "{before}"
    );
    let result = place.outside.twilio.call(Call::new(HOT, CALLED)).await;
    place.outside.twilio.call(Call::new(HOT, CALLED)).await;
    asked(&base, &key, false, &format!("/calls/{}", result.call_sid)).await;
    // Gauges of sizes are measured every few seconds.
    let metrics = until("every figure is there", async || {
        let text = Request::new("GET", "/metrics")
            .send(served.address)
            .await
            .text();
        let is_there = ["switchboard_wal_bytes ", "switchboard_active_calls "];
        is_there
            .iter()
            .all(|name| text.contains(name))
            .then_some(text)
    })
    .await;
    for begin in [
        // Counters of calls, and of what was asked.
        "switchboard_calls_total{disposition=\"answered\",dialer=\"dialfire\"} 2\n",
        "switchboard_calls_total{disposition=\"failed\",dialer=\"none\"} 0\n",
        // Histograms of the stages, and of the API by route.
        "switchboard_routing_seconds_bucket{",
        "switchboard_lookup_seconds_bucket{",
        "switchboard_handoff_seconds_bucket{",
        "switchboard_commit_seconds_bucket{",
        "switchboard_api_request_seconds_count{route=\"/api/v1/calls/{call_id}\",method=\"GET\",status=\"200\"} 1\n",
        // Gauges.
        "switchboard_active_calls ",
        "switchboard_cache_entries ",
        "switchboard_dialer_breaker_open{dialer=\"dialfire\"} 0\n",
        "switchboard_wal_bytes ",
        "switchboard_disk_free_bytes ",
    ] {
        assert!(
            metrics
                .lines()
                .any(|line| format!("{line}\n").starts_with(begin)),
            "{begin}: {metrics}"
        );
    }
    // Every name has the prefix, and counters say that they are some.
    for line in metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
    {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(name.starts_with("switchboard_"), "{line}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
    }
    let first = served.event("call.routed", 1).await;
    let second = served.event("call.routed", 2).await;
    assert_eq!(
        (&first["lookup"], &second["lookup"]),
        (&json!("fetched"), &json!("hit"))
    );
}

#[tokio::test]
async fn a_dialer_is_taken_out_and_put_back_by_command_and_the_status_says_so() {
    let (place, key) = with_key();
    place.run(&["status"]).await.exits(75);
    let served = Served::start(&place).await;
    let base = format!("http://{}", served.address);
    let dialers = asked(&base, &key, false, "/dialers").await["data"].clone();
    let names: Vec<&str> = dialers
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    let first = names[0];

    let status = place.run(&["status", "--json"]).await.exits(0).json();
    assert_eq!(status["dialers"][0], json!({"dialer": first, "why": null}));
    let out = place.run(&["drain", first]).await.exits(0);
    assert!(
        out.stdout
            .starts_with(&format!("{first}: taken out by user ")),
        "{out:?}"
    );
    let document = asked(&base, &key, false, &format!("/dialers/{first}")).await;
    assert_eq!(document["data"]["state"], "drained", "{document}");
    let unknown = place.run(&["drain", "nobody"]).await.exits(2);
    assert!(unknown.stderr.contains(first), "{unknown:?}");
    for name in &names[1..] {
        place.run(&["drain", name]).await.exits(0);
    }
    let all_out = place.run(&["status"]).await.exits(1);
    assert_eq!(
        all_out.stdout.matches("taken out by user").count(),
        names.len(),
        "{all_out:?}"
    );
    let back = place.run(&["resume", first]).await.exits(0);
    assert!(
        back.stdout.contains(&format!("{first}: in use\n")),
        "{back:?}"
    );
    place.run(&["status"]).await.exits(0);
    let records = asked(&base, &key, false, "/logs?kind=health_changed").await;
    assert!(
        records.to_string().contains("put back by user"),
        "{records}"
    );
}

#[tokio::test]
async fn the_demo_ends_clean_when_it_is_told_to_and_leaves_nobody_on_hold() {
    let place = Place::empty();
    let arguments = [
        "demo",
        "--listen",
        "127.0.0.1:0",
        "--for",
        "10m",
        "--history",
        "0s",
        "--calls-per-minute",
        "600",
        "--seed",
        "7",
        "--open-faults",
        "both-down",
        "--json",
    ];
    let mut command = place.command(&arguments);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut stdout = child.stdout.take().unwrap();
    let (told, mut said) = tokio::sync::watch::channel(Vec::new());
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            told.send_modify(|lines: &mut Vec<String>| lines.push(line));
        }
    });
    let printed = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let word = |lines: &[String], mark: &str| {
        let line = lines.iter().find_map(|line| line.strip_prefix(mark));
        line.map(|rest| rest.trim().trim_end_matches('/').to_owned())
    };
    let lines = tokio::time::timeout(
        PATIENCE,
        said.wait_for(|lines| word(lines, "API key: ").is_some()),
    );
    let lines = lines.await.unwrap().unwrap().clone();
    let (base, key) = (
        word(&lines, "dashboard: ").unwrap(),
        word(&lines, "API key: ").unwrap(),
    );
    until("people are on hold", async || {
        let metrics = asked(&base, &key, false, "/calls/metrics").await;
        (metrics["data"]["calls"]["on_hold"].as_i64() >= Some(3)).then_some(())
    })
    .await;
    // Its rules can be drafted and published.
    let rules = asked(&base, &key, false, "/routing/draft").await;
    let text = rules["data"]["text"].as_str().unwrap();
    let body = json!({
        "text": text.replacen("min_score = 80", "min_score = 70", 1),
        "based_on": asked(&base, &key, false, "/routing/rules").await["data"]["version"],
    });
    let client = Client::builder().no_proxy().build().unwrap();
    let publish = client.post(format!("{base}/api/v1/routing/publish"));
    let publish = publish.header("x-api-key", &key).body(body.to_string());
    let published = publish.send().await.unwrap();
    assert_eq!(published.status(), 200, "{:?}", published.text().await);
    let pid = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status();
    assert!(sent.unwrap().success());
    let ended = tokio::task::spawn_blocking(move || child.wait());
    let ended = tokio::time::timeout(2 * PATIENCE, ended).await.unwrap();
    let text = printed.join().unwrap().unwrap();
    let summary: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(ended.unwrap().unwrap().code(), Some(0), "{summary}");
    assert_eq!(summary["ok"], true, "{summary}");
    let ends = summary["by_disposition"].as_object().unwrap();
    assert!(!ends.contains_key("open"), "{summary}");
    assert!(ends["abandoned"].as_i64() >= Some(3), "{summary}");
    assert_eq!(summary["violations"], json!([]));
}

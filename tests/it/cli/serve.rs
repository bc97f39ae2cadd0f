//! `serve`, from its start to its end.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use switchboard_simulator::faults::Fault;
use switchboard_simulator::made_up;
use tokio::sync::watch;

use super::{Place, assert_no_secret};
use crate::wire::{Request, about};
use crate::world::{CALLED, DIALFIRE_LINE, HOT, ZENDESK_LINE, dialled};

/// Nothing that is waited for here takes longer, even on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_mins(3);

/// So many times slower than the machine the clock of a process runs: its budgets are as many times longer.
const MACHINE_IS_FASTER: u32 = 20;

/// Lets a process go by a slowed clock.
pub(super) fn slowed(command: &mut Command) -> &mut Command {
    command.env("SWITCHBOARD_SLOWED", MACHINE_IS_FASTER.to_string())
}

/// Tells the simulated Twilio where calls go, and that whoever answers goes by a slowed clock.
pub(super) fn connect(place: &Place, address: SocketAddr) {
    place
        .outside
        .connect(&format!("http://{address}"), made_up::PUBLIC_URL);
    place
        .outside
        .twilio
        .configure(|settings| settings.machine_is_faster = MACHINE_IS_FASTER);
}

/// The process, and what it has logged.
pub(super) struct Served {
    child: Child,
    lines: watch::Receiver<Vec<String>>,
    ended: watch::Receiver<bool>,
    pub(super) address: SocketAddr,
}

impl Served {
    /// Starts it, waits until calls can come, and tells the simulated Twilio where.
    pub(super) async fn start(place: &Place) -> Self {
        Self::of(place, place.command(&["serve"])).await
    }

    /// The same, by a command that ends up as `serve`.
    pub(super) async fn of(place: &Place, mut command: Command) -> Self {
        slowed(&mut command);
        Self::in_step(place, command).await
    }

    /// The same in step with the machine, for a test in which somebody else goes by the time as well.
    pub(super) async fn in_step(place: &Place, mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (heard, lines) = watch::channel(Vec::new());
        let (over, ended) = watch::channel(false);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                heard.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
            over.send_replace(true);
        });
        let mut served = Self {
            child,
            lines,
            ended,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        let started = served.event("service.started", 1).await;
        served.address = started["address"].as_str().unwrap().parse().unwrap();
        connect(place, served.address);
        served
    }

    /// Waits for the nth event of this name.
    pub(super) async fn event(&mut self, name: &str, nth: usize) -> Value {
        let nth_of = |lines: &[String]| {
            let events = lines
                .iter()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            events.filter(|line| line["event"] == name).nth(nth - 1)
        };
        let waited = tokio::time::timeout(
            PATIENCE,
            self.lines.wait_for(|lines| nth_of(lines).is_some()),
        )
        .await;
        let found = waited.is_ok_and(|found| found.is_ok());
        let lines = self.lines.borrow();
        assert!(found, "no {name}: {lines:#?}");
        nth_of(&lines).unwrap()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &line]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end; returns the exit code and all that it has logged.
    pub(super) async fn end(mut self) -> (Option<i32>, Vec<String>) {
        let ended = tokio::time::timeout(PATIENCE, self.ended.wait_for(|ended| *ended)).await;
        assert!(ended.is_ok_and(|ended| ended.is_ok()), "it does not end");
        let code = self.child.wait().unwrap().code();
        let lines = self.lines.borrow().clone();
        (code, lines)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Nothing to end where it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Every line is one JSON object without a secret or a number of anybody.
fn assert_clean(lines: &[String]) -> Vec<Value> {
    assert!(!lines.is_empty());
    let read = |line: &String| {
        assert_no_secret(line);
        for number in [HOT, CALLED] {
            let digits = number.trim_start_matches('+');
            assert!(
                !line.contains(digits) && !line.contains(&digits[2..]),
                "a number in {line}"
            );
        }
        let object: Value = serde_json::from_str(line).unwrap_or(Value::Null);
        assert!(object.is_object(), "no JSON object: {line}");
        for key in ["timestamp", "level", "target"] {
            assert!(object[key].is_string(), "no {key}: {line}");
        }
        object
    };
    lines.iter().map(read).collect()
}

#[tokio::test]
async fn a_served_call_is_routed_logged_and_counted_without_naming_anybody() {
    let place = Place::new();
    let mut served = Served::start(&place).await;
    let result = place
        .outside
        .twilio
        .call(switchboard_simulator::twilio::Call::new(HOT, CALLED))
        .await;
    assert_eq!(result.violations, Vec::<String>::new());
    assert_eq!(dialled(&result), [DIALFIRE_LINE]);
    let routed = served.event("call.routed", 1).await;
    assert_eq!(routed["call_sid"], result.call_sid.as_str());
    assert!(
        routed["request_id"]
            .as_str()
            .is_some_and(|id| !id.is_empty()),
        "{routed}"
    );
    assert_eq!(routed["dialer"], "dialfire");
    assert!(routed["duration_ms"].is_number(), "{routed}");

    let forged = Request::form(
        "/webhooks/twilio",
        about("1", "&From=%2B491700000090&To=%2B4930900900").as_bytes(),
    );
    assert_eq!(forged.send(served.address).await.status, 403);
    let metrics = Request::new("GET", "/metrics").send(served.address).await;
    assert_eq!(metrics.status, 200);
    let text = metrics.text();
    assert!(
        text.contains("switchboard_routing_seconds_count 1\n"),
        "{text}"
    );
    assert!(
        text.contains("switchboard_webhooks_rejected_total{reason=\"signature\"} 1\n"),
        "{text}"
    );
    assert!(text.contains("switchboard_panics_total 0\n"), "{text}");
    assert_no_secret(&text);

    for (nth, expected) in [
        (2, "twilio.number is missing"),
        (3, "twilio.auth_token is a plain secret"),
    ] {
        let warning = served.event("config.warning", nth).await;
        let problem = warning["problem"].as_str().unwrap();
        assert!(problem.contains(expected), "{problem}");
    }
    served.signal("TERM");
    let (code, lines) = served.end().await;
    assert_eq!(code, Some(0));
    let events = assert_clean(&lines);
    let names: Vec<&str> = events
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect();
    assert_eq!(names.last(), Some(&"service.stopped"), "{names:?}");
}

#[tokio::test]
async fn a_reload_takes_a_valid_file_and_refuses_an_invalid_one() {
    let place = Place::new();
    let mut served = Served::start(&place).await;
    let call = || async {
        let call = switchboard_simulator::twilio::Call::new(HOT, CALLED);
        let result = place.outside.twilio.call(call).await;
        assert_eq!(result.violations, Vec::<String>::new());
        dialled(&result)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(call().await, [DIALFIRE_LINE]);

    let valid = place.text();
    let other_rule = valid.replace(
        "dialers = [\"dialfire\", \"zendesk\"]",
        "dialers = [\"zendesk\", \"dialfire\"]",
    );
    assert_ne!(other_rule, valid);
    place.configure(&other_rule.replace("score_attribute", "score_atribute"));
    served.signal("HUP");
    let refused = served.event("config.refused", 1).await;
    assert_eq!(refused["level"], "error");
    let problem = refused["problem"].as_str().unwrap();
    assert!(
        problem.contains("did you mean score_attribute?"),
        "{problem}"
    );
    assert_eq!(call().await, [DIALFIRE_LINE], "the old rules stay");

    place.configure(&other_rule);
    served.signal("HUP");
    served.event("config.reloaded", 1).await;
    assert_eq!(call().await, [ZENDESK_LINE], "the new rules decide");

    std::fs::remove_file(place.path("config.toml")).unwrap();
    served.signal("HUP");
    served.event("config.refused", 2).await;
    assert_eq!(call().await, [ZENDESK_LINE]);
    let database = rusqlite::Connection::open(place.path("switchboard.db")).unwrap();
    let recorded = "SELECT group_concat(kind || detail, char(10)) FROM audit_records WHERE kind LIKE 'config%'";
    let recorded: String = database.query_row(recorded, [], |row| row.get(0)).unwrap();
    assert_no_secret(&recorded);
    let lines: Vec<&str> = recorded.lines().collect();
    assert_eq!(lines.len(), 4, "{recorded}");
    assert!(
        lines[1].contains("did you mean score_attribute?"),
        "{recorded}"
    );
    assert!(
        lines[2].starts_with("config_changed") && lines[2].contains(r#""by":"SIGHUP","changes":[{"key":"routing.rules[0].dialers","from":"dialfire, zendesk","to":"zendesk, dialfire"}]"#),
        "{recorded}"
    );
    assert!(lines[3].starts_with("config_refused"), "{recorded}");

    served.signal("TERM");
    let (code, lines) = served.end().await;
    assert_eq!(code, Some(0));
    assert_clean(&lines);
}

#[tokio::test]
async fn a_start_with_another_configuration_records_what_changed_since_the_last() {
    let place = Place::new();
    for change in [None, Some(("budget = \"3s\"", "made-up-other-token")), None] {
        if let Some((budget, token)) = change {
            place.reconfigure("default_dialer", &format!("{budget}\ndefault_dialer"));
            place.reconfigure(made_up::AUTH_TOKEN, token);
        }
        let served = Served::start(&place).await;
        served.signal("TERM");
        assert_eq!(served.end().await.0, Some(0));
    }
    let database = rusqlite::Connection::open(place.path("switchboard.db")).unwrap();
    let mut recorded = database
        .prepare("SELECT detail FROM audit_records WHERE kind = 'config_changed' ORDER BY id")
        .unwrap();
    let details: Vec<Value> = recorded
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap()
        .map(|detail| serde_json::from_str(&detail.unwrap()).unwrap())
        .collect();
    assert_eq!(details.len(), 2, "{details:#?}");
    assert_eq!(details[0]["changes"], serde_json::json!([]));
    assert_eq!(details[0]["in_force"]["routing.budget"], "2s");
    assert_eq!(details[1]["by"], "start");
    assert_eq!(
        details[1]["changes"],
        serde_json::json!([
            {"key": "routing.budget", "from": "2s", "to": "3s"},
            {"key": "twilio.auth_token[0]", "from": null, "to": null, "secret": true},
        ])
    );
    assert!(!format!("{details:?}").contains("made-up-other-token"));
}

#[tokio::test]
async fn who_cannot_be_read_is_not_on_this_machine_and_malformed_webhooks_are_counted_by_cause() {
    let place = Place::new();
    place.reconfigure(
        "listen = \"127.0.0.1:0\"",
        "listen = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1/32\"]",
    );
    let served = Served::start(&place).await;
    for (body, target) in [
        (about("1", "&1=x"), "/webhooks/twilio"),
        (about("1", "&1=x"), "/webhooks/twilio/status"),
        (about("1", ""), "/webhooks/twilio/dial"),
    ] {
        let reply = Request::signed(target, body.as_bytes())
            .send(served.address)
            .await;
        assert_eq!(reply.status, 200, "{target}");
    }
    let metrics = |forwarded: &[u8]| {
        Request::new("GET", "/metrics").raw_header(b"X-Forwarded-For", forwarded)
    };
    for stranger in [
        b"\xff".as_slice(),
        b"unknown",
        b"",
        b"127.0.0.1\xff",
        b"198.51.100.1",
    ] {
        let status = metrics(stranger).send(served.address).await.status;
        assert_eq!(status, 403, "{}", stranger.escape_ascii());
    }
    let text = metrics(b"127.0.0.1").send(served.address).await.text();
    for (cause, n) in [("field_name", 2), ("step_missing", 1)] {
        let line = format!("switchboard_webhooks_malformed_total{{cause=\"{cause}\"}} {n}\n");
        assert!(text.contains(&line), "{text}");
    }
    served.signal("TERM");
    let (code, lines) = served.end().await;
    assert_eq!(code, Some(0));
    assert_clean(&lines);
}

#[tokio::test]
async fn a_call_in_hand_is_finished_before_the_process_ends() {
    let place = Place::new();
    let served = Served::start(&place).await;
    place
        .outside
        .braze
        .faults()
        .standing(Fault::Delay(Duration::from_millis(700)));
    let twilio = &place.outside.twilio;
    let fields = twilio.inbound_fields("CA00000000000000000000000000000001", HOT, CALLED);
    let (answer, ()) = tokio::join!(twilio.post("/webhooks/twilio", &fields), async {
        place.outside.braze.requests().reached(1).await;
        served.signal("TERM");
    });
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains(DIALFIRE_LINE), "{}", answer.body);
    let (code, lines) = served.end().await;
    assert_eq!(code, Some(0));
    assert_clean(&lines);

    let database = rusqlite::Connection::open(place.path("switchboard.db")).unwrap();
    let kinds = "SELECT group_concat(kind) FROM audit_records WHERE kind IN ('call_decided', 'call_answered', 'service_stopped')";
    let kinds: String = database.query_row(kinds, [], |row| row.get(0)).unwrap();
    assert_eq!(kinds, "call_decided,call_answered,service_stopped");
}

#[tokio::test]
async fn an_occupied_port_is_a_temporary_failure_and_so_is_a_database_in_use() {
    let place = Place::new();
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupied.local_addr().unwrap().to_string();
    place.reconfigure(
        "listen = \"127.0.0.1:0\"",
        &format!("listen = \"{address}\""),
    );
    let ran = place.run(&["serve"]).await.exits(75);
    assert!(ran.stderr.contains(&address), "{}", ran.stderr);
    drop(occupied);
    place.reconfigure(&address, "127.0.0.1:0");

    let served = Served::start(&place).await;
    let second = place.run(&["serve"]).await.exits(75);
    assert!(
        second.stderr.contains("switchboard.db"),
        "{}",
        second.stderr
    );
    let down = place.run(&["migrate", "down", "--to", "0"]).await;
    assert_ne!(down.code, Some(0), "{down:?}");
    served.signal("INT");
    let (code, _) = served.end().await;
    assert_eq!(code, Some(0));
}

#[tokio::test]
async fn secrets_stay_out_of_the_most_talkative_log() {
    let place = Place::new();
    place.reconfigure("[storage]", "[logging]\nlevel = \"trace\"\n[storage]");
    let mut served = Served::start(&place).await;
    let call = switchboard_simulator::twilio::Call::new(HOT, CALLED);
    let result = place.outside.twilio.call(call).await;
    assert_eq!(result.violations, Vec::<String>::new());
    served.event("call.received", 1).await;
    served.event("call.completed", 1).await;
    served.signal("TERM");
    let (code, lines) = served.end().await;
    assert_eq!(code, Some(0));
    assert!(
        lines
            .iter()
            .any(|line| line.contains("\"level\":\"trace\"")),
        "{lines:#?}"
    );
    for line in &lines {
        assert_no_secret(line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_how_long_records_are_kept() {
    let place = Place::new();
    place.reconfigure("[storage]", "[storage]\nretention = \"200d\"");
    let mut served = Served::start(&place).await;
    place.reconfigure("\"200d\"", "\"90d\"");
    let prune = ["prune", "--dry-run", "--older-than", "100d"];
    let refused = place.run(&prune).await.exits(1);
    assert!(refused.stderr.contains("200 days"), "{refused:?}");
    served.signal("HUP");
    served.event("config.reloaded", 1).await;
    place.run(&prune).await.exits(0);
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
}

//! What the product answers, byte for byte: TwiML, the API, exports, mails and the command line, of one morning that is always the same.
//!
//! The files lie in `snapshots/`. Whoever means to change an answer runs `INSTA_UPDATE=always cargo test --test it golden::` and reads the difference.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use switchboard::clock::Clock;
use switchboard::http::keys::DrawnKey;
use switchboard_simulator::faults::{Fault, Route};
use switchboard_simulator::twilio::{Call, CallResult, LineBehaviour};

use crate::world::{CALLED, COLD, DIALFIRE_LINE, HOT, LAST_RESORT, STRANGER, Settings, World};

/// What differs from run to run, and what stands for it.
const DRAWN: [(&str, &str); 11] = [
    (r"([?&;]p=)[A-Za-z0-9_-]+", "$1<passport>"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:<port>"),
    (r"\b(swb_)?[0-9a-f]{16,}\b", "<hex>"),
    (r"(CA|DL|AC)[0-9a-f]{32}", "$1<sid>"),
    (r"\b[A-Za-z0-9+/]{42,}={0,2}", "<base64>"),
    (
        r#"(""?([a-z0-9_]*(_ms|_s|_bytes)|id|records|bytes|reset)""?): ?[0-9.]+"#,
        "$1: <n>",
    ),
    (r"(?m)^\d+,<time>", "<n>,<time>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
    (r"\b\d+ ms\b", "<n> ms"),
    (r"/tmp/[^/ ]+", "<directory>"),
    (r#"("version"|"commit"): "[^"]*""#, "$1: <version>"),
];

fn compare(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_filters(DRAWN.to_vec());
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// One morning: its calls, one after the other, on a clock that stands still.
struct Morning {
    world: World,
    key: String,
    twiml: String,
}

impl Morning {
    async fn begin() -> Self {
        let key = DrawnKey::draw().unwrap();
        let sections = format!(
            "[[auth.keys]]\nname = \"ops\"\nrole = \"admin\"\nhash = \"{}\"\n\
             [alerts.email]\nto = [\"ops@example.com\"]\nfrom = \"switchboard@example.com\"\nsmtp = \"smtp://MAIL_SERVER\"",
            key.hash.to_hex()
        );
        let world = World::with(Settings {
            clock: Clock::stopped("2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap()),
            sections,
            ..Settings::default()
        })
        .await;
        Self {
            world,
            key: key.key,
            twiml: String::new(),
        }
    }

    async fn call(&mut self, what: &str, n: u32, from: &str) -> CallResult {
        let call = Call::new(from, CALLED)
            .call_sid(&format!("CA{n:032x}"))
            .patience(Duration::from_mins(1));
        let result = self.world.outside.twilio.call(call).await;
        writeln!(self.twiml, "# {what}").unwrap();
        for step in &result.steps {
            let field = |name| step.field(name).unwrap_or("-");
            let status = step.status.unwrap_or_default();
            writeln!(
                self.twiml,
                "{} {} {}: {status} {}",
                step.path,
                field("CallStatus"),
                field("DialCallStatus"),
                step.body
            )
            .unwrap();
        }
        self.world.stored(&result).await;
        result
    }

    async fn ask(&self, method: &Method, path: &str, body: Option<&Value>) -> String {
        let url = format!("http://{}{path}", self.world.running().address);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client
            .request(method.clone(), url)
            .header("X-API-Key", &self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        let shown = serde_json::from_str::<Value>(&text)
            .map_or(text, |json| serde_json::to_string_pretty(&json).unwrap());
        format!("# {method} {path}: {status}\n{shown}\n")
    }
}

async fn calls_of_the_morning(morning: &mut Morning) {
    let post = || Route::method("POST");
    morning.call("a hot lead", 1, HOT).await;
    morning.call("a cold lead", 2, COLD).await;
    morning
        .call("a caller whom nobody knows", 3, STRANGER)
        .await;
    morning
        .call("a caller who withholds the number", 4, "anonymous")
        .await;
    morning
        .call("a caller by SIP", 5, "sip:anna@example.com")
        .await;

    let lines = &morning.world.outside.twilio;
    lines.set_line(DIALFIRE_LINE, LineBehaviour::Busy);
    morning.call("the first line is busy", 6, HOT).await;
    let lines = &morning.world.outside.twilio;
    lines.set_line("", LineBehaviour::Busy);
    morning.call("every line is busy", 7, HOT).await;
    let lines = &morning.world.outside.twilio;
    lines.set_line(
        DIALFIRE_LINE,
        LineBehaviour::answer(Duration::from_secs(30)),
    );
    lines.set_line("", LineBehaviour::answer(Duration::from_secs(30)));

    let dialfire = morning.world.outside.dialfire.clone();
    dialfire.faults().standing_on(post(), Fault::status(500));
    morning.call("the first dialer answers 500", 8, HOT).await;
    dialfire.faults().clear();

    for faults in [dialfire.faults(), morning.world.outside.zendesk.faults()] {
        faults.standing_on(post(), Fault::status(503));
    }
    morning.call("no dialer takes the call", 9, HOT).await;
    morning.call("no dialer takes the next one", 10, COLD).await;
}

#[tokio::test]
async fn twiml_api_and_exports_are_what_they_were() {
    let mut morning = Morning::begin().await;
    calls_of_the_morning(&mut morning).await;
    compare("twiml", &morning.twiml);

    let first = format!("CA{:032x}", 1);
    let (failed_over, held) = (format!("CA{:032x}", 8), format!("CA{:032x}", 9));
    let mut api = String::new();
    let route = json!({ "caller": HOT, "called": CALLED, "external_id": "one" });
    let (get, post) = (Method::GET, Method::POST);
    for (method, path, body) in [
        (&get, "/calls?page_size=50", None),
        (&get, "/calls/active", None),
        (&get, &*format!("/calls/{first}"), None),
        (&get, &format!("/calls/{failed_over}"), None),
        (&get, &format!("/logs/{first}"), None),
        (&get, &format!("/logs/{failed_over}?reveal=true"), None),
        (&get, "/logs?kind=ruleset_loaded", None),
        (&get, "/calls/metrics", None),
        (&get, "/dialers", None),
        (&get, "/dialers/status", None),
        (&get, "/dialers/dialfire", None),
        (&get, "/lookup", None),
        (&get, "/settings", None),
        (&get, "/settings/changes", None),
        (&get, &format!("/customers/{HOT}"), None),
        (&post, "/routing/explain", Some(json!({ "caller": HOT }))),
        (&post, "/routing/explain", Some(json!({ "score": 55 }))),
        (&post, "/calls", Some(route.clone())),
        (&post, "/calls", Some(json!({ "caller": "0" }))),
        (&get, "/calls/CA0", None),
        (&get, "/nowhere", None),
        (&post, "/dialers/zendesk/drain", None),
        (&post, "/dialers/zendesk/resume", None),
        (&get, "/calls?status=wrong", None),
    ] {
        let path = format!("/api/v1{path}");
        api += &morning.ask(method, &path, body.as_ref()).await;
    }
    compare("api", &api);

    let mut lines = String::new();
    for arguments in [
        &["audit", "export", "--format", "csv", "--call", &first] as &[_],
        &[
            "audit",
            "export",
            "--format",
            "jsonl",
            "--call",
            &failed_over,
        ],
        &[
            "audit", "export", "--format", "jsonl", "--call", &held, "--reveal",
        ],
        &["check-config"],
        &["explain", "--from", HOT],
        &["explain", "--score", "55"],
        &["explain", "--score", "55", "--json"],
        &["replay", &first],
        &["replay", "--all"],
        &["retry", "dialfire"],
        &["erase", LAST_RESORT],
        &["test-dialer", "zendesk"],
        &["key", "new"],
    ] {
        let output = morning.world.command(arguments).await;
        writeln!(
            lines,
            "$ switchboard {}\n{}{}exit code {}\n",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            output.status.code().unwrap()
        )
        .unwrap();
    }
    compare("command_line", &lines);
}

//! What the running program shows. Secrets are marked and stand everywhere; then everything is asked for that can be asked for, by everybody who may
//! ask, well and badly, and every answer and every line of the log is searched.

use std::fs;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use switchboard::http::keys::DrawnKey;
use switchboard_simulator::faults::{Fault, Garbage, Route};
use switchboard_simulator::made_up;
use switchboard_simulator::smtp::{SmtpFault, Stage};
use switchboard_simulator::twilio::Call;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::serve::{PATIENCE, Served};
use super::{Place, SECRETS};
use crate::wire::{Request, about};
use crate::world::{CALLED, COLD, HOT, PUSH_SECRET, STRANGER};

const MAIL_PASSWORD: &str = "marked-password-of-the-mail-server";
const ALERT_SECRET: &str = "marked-secret-of-the-alert-webhook";
const DIALER_KEY: &str = "marked-key-of-the-http-dialer";
const SHARED_KEY: &str = "marked-shared-key-of-twilio";
const REST_SECRET: &str = "marked-secret-of-twilios-rest-api";
/// A caller whose dialers all refuse, with the number in their answers.
const UNLUCKY: &str = "+491700000055";
/// What people type who try.
const HOSTILE: [&str; 9] = [
    "'",
    "1' OR '1'='1",
    "x\"; DROP TABLE calls; --",
    "../../../../etc/passwd",
    "%00",
    "%FF%FE",
    "<script>alert(1)</script>",
    "-1",
    "99999999999999999999999999",
];
/// What only a database says.
const SQL: [&str; 14] = [
    "SELECT ",
    "INSERT INTO",
    "DELETE FROM",
    "UPDATE calls",
    "FROM calls",
    "FROM audit_records",
    "PRAGMA",
    "sqlite",
    "SQLITE_",
    "no such column",
    "no such table",
    "constraint failed",
    "syntax error",
    "database is locked",
];

/// The program, its keys, and everything that was heard of it.
struct Exposed {
    place: Place,
    served: Served,
    client: reqwest::Client,
    admin: String,
    viewer: String,
    /// Each answer, with what was asked.
    heard: Vec<(String, String)>,
    /// What must never be shown.
    secrets: Vec<String>,
}

fn key_lines(name: &str, role: &str, drawn: &DrawnKey) -> String {
    let hash = drawn.hash.to_hex();
    format!("[[auth.keys]]\nname = \"{name}\"\nrole = \"{role}\"\nhash = \"{hash}\"\n")
}

fn furnish(place: &Place, keys: &str) {
    let with = |from: &str, more: &str| place.reconfigure(from, &format!("{more}\n{from}"));
    place.reconfigure(
        "path = \"switchboard.db\"",
        "path = \"switchboard.db\"\nspool = \"kept.spool\"",
    );
    with(
        "[braze]",
        &format!(
            "shared_keys = [{{ id = \"webhooks_sharedkey_1\", secret = \"{SHARED_KEY}\" }}]\n\
             api_key_sid = \"SK00000000000000000000000000000001\"\napi_key_secret = \"{REST_SECRET}\"\n"
        ),
    );
    place.reconfigure(
        &format!("token = \"{}\"", made_up::CAMPAIGN_TOKEN),
        &format!(
            "token = \"{}\"\ntenant = \"{}\"\ntenant_token = \"{}\"",
            made_up::CAMPAIGN_TOKEN,
            made_up::TENANT,
            made_up::TENANT_TOKEN
        ),
    );
    let smtp = place.outside.smtp.url();
    let url = place.outside.http_dialer.calls_url();
    let sections = format!(
        "[dialers.other]\nkind = \"http\"\nconnect = \"{line}\"\nurl = \"{url}\"\nprobe_every = \"1h\"\n\
         headers = {{ X-API-Key = \"{DIALER_KEY}\" }}\nbody = {{ phone_number = \"{{caller}}\", call_sid = \"{{call_sid}}\" }}\n\
         [logging]\nlevel = \"debug\"\n[alerts]\nfailure_rate_percent = 5\n\
         [alerts.email]\nto = [\"ops@example.com\"]\nfrom = \"switchboard@example.com\"\nsmtp = \"{smtp}\"\nusername = \"ops\"\npassword = \"{MAIL_PASSWORD}\"\n\
         [alerts.webhook]\nurl = \"{url}\"\nsecret = \"{ALERT_SECRET}\"\n{keys}",
        line = made_up::HTTP_DIALER_LINE,
    );
    place.configure(&format!("{}\n{sections}", place.text()));
    place
        .outside
        .smtp
        .set_credentials(Some(("ops", MAIL_PASSWORD)));
    place
        .outside
        .http_dialer
        .require_header("X-API-Key", DIALER_KEY);
}

impl Exposed {
    async fn start() -> Self {
        let place = Place::new();
        let (admin, viewer) = (DrawnKey::draw().unwrap(), DrawnKey::draw().unwrap());
        let keys = key_lines("ops", "admin", &admin) + &key_lines("desk", "viewer", &viewer);
        furnish(&place, &keys);
        // By its whole path, so that it could be told.
        let config = place.path("config.toml");
        let mut command = place.command(&[]);
        command.arg("--config").arg(config).arg("serve");
        let served = Served::of(&place, command).await;
        let mut secrets: Vec<String> = SECRETS.map(str::to_owned).to_vec();
        secrets.extend(
            [
                MAIL_PASSWORD,
                ALERT_SECRET,
                DIALER_KEY,
                SHARED_KEY,
                REST_SECRET,
                made_up::TENANT_TOKEN,
            ]
            .map(str::to_owned),
        );
        secrets.extend([admin.key.clone(), viewer.key.clone()]);
        for file in ["switchboard.db.secret", "switchboard.db.signing"] {
            let text = fs::read_to_string(place.path(file)).unwrap();
            secrets.extend(
                text.lines()
                    .filter(|line| line.len() >= 16)
                    .map(str::to_owned),
            );
        }
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            place,
            served,
            client,
            admin: admin.key,
            viewer: viewer.key,
            heard: Vec::new(),
            secrets,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.served.address)
    }

    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&str>,
    ) -> u16 {
        let method: Method = method.parse().unwrap();
        let mut request = self.client.request(method.clone(), self.url(path));
        if let Some(key) = key {
            request = request.header("X-API-Key", key);
        }
        if let Some(body) = body {
            request = request.body(body.to_owned());
        }
        let response = request.send().await.unwrap();
        self.hear(format!("{method} {path}"), response).await
    }

    /// Keeps an answer, of a stream only its beginning.
    async fn hear(&mut self, asked: String, mut response: Response) -> u16 {
        let status = response.status().as_u16();
        let mut text = format!("{status} {:?}\n", response.headers());
        let kind = response.headers().get("content-type");
        if kind.is_some_and(|kind| kind == "text/event-stream") {
            let chunk = response.chunk().await.unwrap();
            text.push_str(&String::from_utf8_lossy(&chunk.unwrap()));
        } else {
            text.push_str(&response.text().await.unwrap());
        }
        self.heard.push((asked, text));
        status
    }

    async fn ring(&self, from: &str) -> String {
        let call = Call::new(from, CALLED);
        self.place.outside.twilio.call(call).await.call_sid
    }
}

/// Every event from the first on, as far as they have come.
fn listen(exposed: &Exposed) -> (JoinSet<()>, watch::Receiver<String>) {
    let request = exposed.client.get(exposed.url("/api/v1/events"));
    let request = request.header("X-API-Key", &exposed.viewer);
    let (said, heard) = watch::channel(String::new());
    let mut listening = JoinSet::new();
    listening.spawn(async move {
        let mut response = request.send().await.unwrap();
        while let Ok(Some(chunk)) = response.chunk().await {
            said.send_modify(|text| text.push_str(&String::from_utf8_lossy(&chunk)));
        }
    });
    (listening, heard)
}

/// Calls that go well and calls that do not, with secrets and numbers in what the services answer.
async fn things_happen(exposed: &mut Exposed) -> String {
    let call = exposed.ring(HOT).await;
    for caller in [
        COLD,
        STRANGER,
        "anonymous",
        "sip:+491700000090@pbx.example.com",
    ] {
        exposed.ring(caller).await;
    }
    let outside = exposed.place.outside.clone();
    let echo = |status, secret: &str| Fault::Status {
        status,
        body: format!("{{\"error\": \"{UNLUCKY} refused, {secret} is no good\"}}"),
        retry_after: None,
    };
    outside.braze.faults().once(echo(401, made_up::BRAZE_KEY));
    let handoffs = Route::method("POST");
    let refuse = |faults: &switchboard_simulator::faults::Faults, secret| {
        faults.standing_on(handoffs.clone(), echo(422, secret));
    };
    refuse(outside.dialfire.faults(), made_up::CAMPAIGN_TOKEN);
    refuse(outside.zendesk.faults(), made_up::ZENDESK_TOKEN);
    refuse(outside.http_dialer.faults(), DIALER_KEY);
    let refused = SmtpFault::Reply(Stage::Recipient, 550, "no such recipient".to_owned());
    outside.smtp.once(refused);
    let admin = exposed.admin.clone();
    let routed = json!({ "caller": UNLUCKY, "called": CALLED, "external_id": "unlucky" });
    let status = exposed
        .ask(
            "POST",
            "/api/v1/calls",
            Some(&admin),
            Some(&routed.to_string()),
        )
        .await;
    assert_eq!(status, 201);
    for (faults, garbage) in [
        (outside.dialfire.faults(), Garbage::Html),
        (outside.zendesk.faults(), Garbage::NotUtf8),
        (outside.http_dialer.faults(), Garbage::NotJson),
    ] {
        faults.clear();
        faults.once_on(handoffs.clone(), Fault::Garbage(garbage));
    }
    let routed = json!({ "caller": HOT, "called": CALLED, "external_id": "garbled" });
    exposed
        .ask(
            "POST",
            "/api/v1/calls",
            Some(&admin),
            Some(&routed.to_string()),
        )
        .await;
    call
}

/// Webhooks that are forged or broken, keys that are wrong, a file that cannot be read.
async fn things_go_wrong(exposed: &mut Exposed) {
    let to = exposed.served.address;
    let number = HOT.replace('+', "%2B");
    let form = about("1", &format!("&From={number}&To={number}"));
    let push = |secret: &str, body: &str| {
        Request::new("POST", "/webhooks/braze")
            .header("Authorization", &format!("Bearer {secret}"))
            .body(body.as_bytes())
    };
    let pushed = json!({ "external_id": "e-1", "phone": HOT, "lead_score": 91 }).to_string();
    let requests = [
        Request::form("/webhooks/twilio", form.as_bytes()),
        Request::signed_by("another-token", "/webhooks/twilio", form.as_bytes()),
        Request::signed("/webhooks/twilio", b"From=%FF%FE&CallSid=%00"),
        Request::signed("/webhooks/twilio", form.as_bytes()),
        Request::signed(
            "/webhooks/twilio/dial?attempt=x%27&dialer=%27",
            form.as_bytes(),
        ),
        Request::signed("/webhooks/twilio/status", form.as_bytes()),
        Request::signed("/webhooks/twilio/hold", b""),
        Request::signed("/webhooks/twilio/nothing", form.as_bytes()),
        Request::new("POST", "/webhooks/twilio").body(&vec![0xFF; 70_000]),
        push("wrong", &pushed),
        push(PUSH_SECRET, &pushed),
        push(PUSH_SECRET, "{\"phone\": \"+491700000090\", "),
    ];
    for request in requests {
        let reply = request.send(to).await;
        let asked = String::from_utf8_lossy(&request.head()).into_owned();
        let twiml = reply.text();
        // What a caller hears or is connected to is for Twilio alone, who said the number.
        let shown = if reply.complaints().is_empty() {
            ""
        } else {
            &twiml
        };
        exposed
            .heard
            .push((asked, format!("{} {shown}", reply.status)));
    }
    let admin = exposed.admin.clone();
    let longer = format!("{admin}x");
    for key in [None, Some(""), Some("swb_wrong"), Some(longer.as_str())] {
        for path in ["/api/v1/calls", "/api/v1/settings", "/metrics"] {
            exposed.ask("GET", path, key, None).await;
        }
    }
    let in_the_query = format!("/api/v1/calls?key={admin}&X-API-Key={admin}");
    assert_eq!(exposed.ask("GET", &in_the_query, None, None).await, 401);
    for (key, status) in [(longer.as_str(), 401), (admin.as_str(), 204)] {
        let request = exposed.client.post(exposed.url("/api/v1/session"));
        let body = json!({ "key": key }).to_string();
        let response = request.body(body).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        if let Some(set) = response.headers().get("set-cookie") {
            // The one answer that carries it.
            let (_, cookie) = set.to_str().unwrap().split_once('=').unwrap();
            let cookie = cookie.split(';').next().unwrap();
            assert!(cookie.len() >= 40, "{cookie}");
            exposed.secrets.push(cookie.to_owned());
        } else {
            exposed.hear("a wrong key".to_owned(), response).await;
        }
    }

    let text = exposed.place.text();
    let broken = [
        // A secret that ends nowhere, one of the wrong kind, one under a key that there is not, and one whose file is missing.
        text.replace(&format!("\"{DIALER_KEY}\""), &format!("\"{DIALER_KEY}")),
        text.replace(
            &format!("\"{ALERT_SECRET}\""),
            &format!("[\"{ALERT_SECRET}\"]"),
        ),
        text.replace("webhook_secret = ", "webhook_secret_ = "),
        text.replace(
            &format!("\"{MAIL_PASSWORD}\""),
            "{ file = \"missing/secret\" }",
        ),
    ];
    let logs = exposed.place.path("elsewhere/logs");
    fs::create_dir_all(&logs).unwrap();
    // What a file said before and says now is shown to who asks who changed what.
    let directory = format!("[logging]\ndirectory = \"{}\"", logs.display());
    let good = text.replace("[logging]", &directory);
    for (text, expected) in broken.iter().map(|text| (text, 400)).chain([(&good, 200)]) {
        exposed.place.configure(text);
        let status = exposed
            .ask("POST", "/api/v1/settings/reload", Some(&admin), None)
            .await;
        assert_eq!(status, expected);
    }
}

/// As a part of an address.
fn typed(text: &str) -> String {
    if text.starts_with('%') {
        return text.to_owned();
    }
    let escaped = |byte: u8| format!("%{byte:02X}");
    text.bytes().map(escaped).collect()
}

/// Every route that is described, with what it wants, and with what it does not.
async fn everything_is_asked_for(exposed: &mut Exposed, call: &str) {
    let document = switchboard::http::document();
    let keys = [exposed.admin.clone(), exposed.viewer.clone()];
    let good = json!({
        "caller": COLD, "called": CALLED, "external_id": "walked", "from": COLD, "score": 50, "key": "swb_walked", "number": COLD,
    });
    let mut n_routes = 0;
    for (pattern, item) in document["paths"].as_object().unwrap() {
        let filled = pattern
            .replace("{call_id}", call)
            .replace("{name}", "dialfire")
            .replace("{id}", "9f86d081884c7d65")
            .replace("{version}", "0123456789ab")
            .replace("{a}", "0123456789ab")
            .replace("{b}", "ba9876543210")
            .replace("{phone_number}", COLD);
        assert!(
            !filled.contains('{'),
            "what stands for a parameter of {pattern}?"
        );
        for (method, operation) in item.as_object().unwrap() {
            n_routes += 1;
            let method = method.to_uppercase();
            let body = operation.get("requestBody").map(|_| good.to_string());
            for key in &keys {
                exposed
                    .ask(&method, &filled, Some(key), body.as_deref())
                    .await;
            }
            exposed.ask(&method, &filled, None, body.as_deref()).await;
            for (n, hostile) in HOSTILE.into_iter().enumerate() {
                let key = keys[n % 2].clone();
                let typed = typed(hostile);
                let mut addresses = Vec::new();
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    let name = parameter["name"].as_str().unwrap();
                    match parameter["in"].as_str().unwrap() {
                        "path" => addresses.push(pattern.replace(&format!("{{{name}}}"), &typed)),
                        "query" => addresses.push(format!("{filled}?{name}={typed}")),
                        // Of the stream alone, whose number it is.
                        other => assert_eq!(other, "header", "{pattern}"),
                    }
                }
                for address in addresses {
                    exposed
                        .ask(&method, &address, Some(&key), body.as_deref())
                        .await;
                }
                if body.is_some() {
                    let mut worse = good.clone();
                    for value in worse.as_object_mut().unwrap().values_mut() {
                        *value = json!(hostile);
                    }
                    for body in [hostile.to_owned(), worse.to_string()] {
                        exposed.ask(&method, &filled, Some(&key), Some(&body)).await;
                    }
                }
            }
        }
    }
    assert!(n_routes >= 25, "{n_routes}");
    let number = HOT.replace('+', "%2B");
    let admin = exposed.admin.clone();
    let more = [
        format!("/api/v1/calls?q={number}"),
        format!("/api/v1/logs?q={number}&page_size=200"),
        format!("/api/v1/customers/{number}"),
        "/api/v1/logs?page_size=200".to_owned(),
        "/api/v1/logs?page_size=200&page=2".to_owned(),
        "/api/v1/logs/api-unlucky".to_owned(),
        "/api/v1/logs/api-garbled".to_owned(),
        "/api/v1/settings/changes?page_size=200".to_owned(),
        "/api/v1/alerts/history?page_size=200".to_owned(),
        "/api/v1/nothing".to_owned(),
        "/openapi.json".to_owned(),
        "/docs".to_owned(),
        "/metrics".to_owned(),
        "/health".to_owned(),
        "/ready".to_owned(),
        "/".to_owned(),
        "/login".to_owned(),
        "/login?next=//example.com".to_owned(),
        "/../../etc/passwd".to_owned(),
        "/assets/..%2F..%2Fetc%2Fpasswd".to_owned(),
    ];
    for path in more {
        exposed.ask("GET", &path, Some(&admin), None).await;
    }
}

/// What of `text` must not be shown; nothing where all is well.
fn exposures(text: &str, secrets: &[String], numbers: &[&str], paths: &[String]) -> Vec<String> {
    // The example of the document, which happens to be made of the same digits as the token.
    let text = text.replace("CA0123456789abcdef0123456789abcdef", "");
    let mut found = Vec::new();
    for secret in secrets {
        let (one, other) = secret.split_at(secret.len() / 2);
        if [secret, one, other].iter().any(|part| text.contains(*part)) {
            found.push(format!("secret {secret}"));
        }
    }
    for number in numbers {
        // With its country code or without.
        if text.contains(&number[3..]) {
            found.push(format!("number {number}"));
        }
    }
    for sql in SQL {
        if text.contains(sql) {
            found.push(format!("SQL {sql}"));
        }
    }
    for path in paths {
        if text.contains(path.as_str()) {
            found.push(format!("path {path}"));
        }
    }
    found
}

#[test]
fn what_must_not_be_shown_is_found() {
    let secrets = ["marked-secret-of-somebody".to_owned()];
    let paths = ["/srv/calls".to_owned()];
    let found = |text: &str| exposures(text, &secrets, &[HOT], &paths).len();
    for text in [
        "Bearer marked-secret-of-somebody",
        "marked-secre…",
        "…t-of-somebody",
        "tel:+491700000090",
        "0170 1700000090",
        "SELECT id FROM callers",
        "no such column: x",
        "cannot open /srv/calls/switchboard.db",
    ] {
        assert_eq!(found(text), 1, "{text}");
    }
    assert_eq!(found("{\"caller\": \"+**********90\"}"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_and_no_line_of_the_log_shows_a_secret_a_number_a_query_or_a_path() {
    let mut exposed = Exposed::start().await;
    let (mut stream, mut events) = listen(&exposed);
    let call = things_happen(&mut exposed).await;
    things_go_wrong(&mut exposed).await;
    everything_is_asked_for(&mut exposed, &call).await;
    // Incidents are found by looking, twice a second, and the log has them before the stream.
    for awaited in ["event: call\n", "event: alert\n"] {
        let told = events.wait_for(|text| text.contains(awaited));
        let told = timeout(PATIENCE, told).await.is_ok_and(|told| told.is_ok());
        assert!(told, "no {awaited}: {}", *events.borrow());
    }
    let folder = exposed.place.directory.path().to_str().unwrap().to_owned();
    exposed.served.signal("TERM");
    stream.join_next().await.unwrap().unwrap();
    let events = events.borrow().clone();
    exposed
        .heard
        .push(("the stream of events".to_owned(), events));

    let paths = [
        folder,
        env!("CARGO_MANIFEST_DIR").to_owned(),
        ".cargo/registry".to_owned(),
        "/src/".to_owned(),
        ".rs:".to_owned(),
        // The beginning of a file that is everywhere.
        "root:x:0:".to_owned(),
    ];
    let callers = [HOT, COLD, STRANGER, UNLUCKY];
    let everybody = [HOT, COLD, STRANGER, UNLUCKY, CALLED];
    let mut wrong = Vec::new();
    for (asked, text) in &exposed.heard {
        let numbers = match asked.as_str() {
            // Who routes a call says what was called, and is told so.
            "POST /api/v1/calls" => &callers[..],
            // Its examples are nobody's.
            "GET /openapi.json" => &[],
            _ => &everybody[..],
        };
        let paths = match asked.as_str() {
            // Records stand there byte for byte, or their hashes would prove nothing; where files lie is in those of the configuration.
            "GET /api/v1/logs/export" => &[],
            _ => &paths[..],
        };
        let found = exposures(text, &exposed.secrets, numbers, paths);
        if !found.is_empty() {
            wrong.push(format!("{asked}: {found:?}\n  {text}"));
        }
        assert!(!text.starts_with("500"), "{asked}: {text}");
    }
    let n_answers = exposed.heard.len();
    assert!(n_answers > 500, "{n_answers}");
    let secrets = exposed.secrets.clone();
    let (code, lines) = exposed.served.end().await;
    assert_eq!(code, Some(0));
    assert!(lines.len() > 50, "{lines:#?}");
    for line in &lines {
        let read: Value = serde_json::from_str(line).unwrap();
        // Numbers are masked above this level.
        let numbers = if read["level"] == "debug" {
            &[]
        } else {
            &everybody[..]
        };
        let found = exposures(line, &secrets, numbers, &paths);
        if !found.is_empty() {
            wrong.push(format!("log: {found:?}\n  {line}"));
        }
        assert!(
            read["event"].is_string() || read["message"].is_string(),
            "{line}"
        );
    }
    let n = wrong.len();
    let shown: Vec<String> = wrong.into_iter().take(20).collect();
    assert!(
        n == 0,
        "{n} exposures in {n_answers} answers and {} lines:\n{}",
        lines.len(),
        shown.join("\n")
    );
}

//! A whole day of the real binary, hour by hour and compressed: whatever happens, what it logs is JSON, line by line, and tells no number and no
//! secret.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use switchboard::clock::Clock;
use switchboard::http::keys::DrawnKey;
use switchboard_simulator::braze::Profile;
use switchboard_simulator::faults::{Fault, Garbage, Route};
use switchboard_simulator::made_up;
use switchboard_simulator::smtp::{SmtpFault, Stage};
use switchboard_simulator::twilio::{Call, CallResult, Duplicate, LineBehaviour};
use tokio::task::JoinSet;

use super::Place;
use super::serve::PATIENCE;
use super::shift::Shift;
use crate::wire::{Request, about, sign};
use crate::world::{CALLED, PUSH_SECRET, Settings, everything_outside};

const HOT: &str = "+4915171234983";
const WARM: &str = "+4916092345871";
const COLD: &str = "+4917683456712";
const STRANGER: &str = "+4915794567823";
const FORGOTTEN: &str = "+4915205678934";
const NATIONAL: &str = "03056789123";
const OVER_SIP: &str = "+4915735566778";
const ELSEWHERE: &str = "+4915156677889";
const PUSHED: &str = "+4916267788990";
const LOOKED_UP: &str = "+4917078899001";
const CUT_OFF: &str = "+4915799887766";

/// Whoever calls, is looked up, pushed or forgotten in the course of the day, and the number they call.
const NUMBERS: [&str; 12] = [
    HOT, WARM, COLD, STRANGER, FORGOTTEN, NATIONAL, OVER_SIP, ELSEWHERE, PUSHED, LOOKED_UP,
    CUT_OFF, CALLED,
];

const OLD_TOKEN: &str = "fedcba9876543210fedcba9876543210";
const SHARED_KEY: &str = "made-up-shared-key-of-webhooks";
const API_KEY_SECRET: &str = "made-up-api-key-secret-of-twilio";
const HTTP_TOKEN: &str = "made-up-http-dialer-token";
const MAIL_LOGIN: (&str, &str) = ("mailer", "made-up-smtp-password");
const ALERT_SECRET: &str = "made-up-alert-webhook-secret";
/// Chat services put their key into the path.
const ALERT_PATH: &str = "services-T0000-made-up-path";
const NEXT_TOKEN: &str = "made-up-token-after-the-rotation";

/// Secrets, as they are and as they travel.
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn new() -> Self {
        let plain = [
            made_up::AUTH_TOKEN,
            made_up::BRAZE_KEY,
            made_up::CAMPAIGN_TOKEN,
            made_up::TENANT_TOKEN,
            made_up::ZENDESK_TOKEN,
            PUSH_SECRET,
            OLD_TOKEN,
            SHARED_KEY,
            API_KEY_SECRET,
            HTTP_TOKEN,
            MAIL_LOGIN.1,
            ALERT_SECRET,
            ALERT_PATH,
            NEXT_TOKEN,
        ];
        let mut secrets = Self(Vec::new());
        for secret in plain {
            secrets.add(secret, secret.as_bytes());
        }
        // What goes over the wire of each.
        for (name, login) in [
            (
                "Twilio's login",
                format!("{}:{}", made_up::ACCOUNT_SID, made_up::AUTH_TOKEN),
            ),
            (
                "Zendesk's login",
                format!(
                    "{}/token:{}",
                    made_up::ZENDESK_EMAIL,
                    made_up::ZENDESK_TOKEN
                ),
            ),
            (
                "the mail server's login",
                format!("\0{}\0{}", MAIL_LOGIN.0, MAIL_LOGIN.1),
            ),
        ] {
            let packed = STANDARD_NO_PAD.encode(login);
            secrets.0.push((name.to_owned(), packed));
        }
        secrets
    }

    /// Adds a secret: as text where it is text, its halves, and as base64 and hexadecimal.
    fn add(&mut self, name: &str, bytes: &[u8]) {
        if let Ok(text) = std::str::from_utf8(bytes)
            && text.chars().all(|c| c.is_ascii_graphic())
        {
            let (half, rest) = text.split_at(text.len() / 2);
            // Of a short secret a half may be a word of its own.
            let parts = [text, half, rest];
            let kept = parts
                .into_iter()
                .filter(|part| part.len() >= 12 || *part == text);
            self.0
                .extend(kept.map(|part| (name.to_owned(), part.to_owned())));
        }
        for packed in [
            STANDARD_NO_PAD.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
            hex::encode(bytes),
        ] {
            self.0.push((name.to_owned(), packed));
        }
    }

    #[track_caller]
    fn assert_absent(&self, line: &str) {
        for (name, part) in &self.0 {
            assert!(!line.contains(part.as_str()), "{name} ({part}) in: {line}");
        }
    }
}

/// A number, or what could be one: as it was sent, without its country, or any other in international form.
fn number_in(line: &str) -> Option<String> {
    for number in NUMBERS {
        let digits = number.trim_start_matches('+');
        let national = digits.strip_prefix("49").unwrap_or(digits);
        if line.contains(national.trim_start_matches('0')) {
            return Some(number.to_owned());
        }
    }
    let lower = line.to_ascii_lowercase().replace("%2b", "+");
    lower.match_indices('+').find_map(|(at, _)| {
        // Within a word it is part of a key.
        let is_in_word = lower[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        let digits: String = lower[at + 1..]
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        (digits.len() >= 7 && !is_in_word).then(|| format!("+{digits}"))
    })
}

/// Reads a line of the log; fails where it is not what CONTRACTS say, or tells what it must not.
#[track_caller]
fn checked(line: &str, secrets: &Secrets) -> Value {
    secrets.assert_absent(line);
    let object: Value = serde_json::from_str(line).unwrap_or(Value::Null);
    assert!(object.is_object(), "no JSON object: {line}");
    let at: Result<Timestamp, _> = object["timestamp"].as_str().unwrap_or_default().parse();
    assert!(at.is_ok(), "no time: {line}");
    let level = object["level"].as_str().unwrap_or_default();
    assert!(
        ["error", "warn", "info", "debug", "trace"].contains(&level),
        "no level: {line}"
    );
    let target = object["target"].as_str().unwrap_or_default();
    assert!(!target.is_empty(), "no target: {line}");
    if ["error", "warn", "info"].contains(&level) {
        assert_eq!(number_in(line), None, "a number in: {line}");
        if target.starts_with("switchboard") {
            let event = object["event"].as_str().unwrap_or_default();
            let is_name =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_');
            assert!(
                !event.is_empty() && event.chars().all(is_name),
                "no event: {line}"
            );
            assert!(
                object["message"].as_str().is_some_and(|m| !m.is_empty()),
                "no sentence: {line}"
            );
        }
    }
    let event = object["event"].as_str().unwrap_or_default();
    if ["call.received", "call.routed"].contains(&event) {
        for field in ["call_sid", "request_id"] {
            let has_one = object[field].as_str().is_some_and(|id| !id.is_empty());
            assert!(has_one, "no {field}: {line}");
        }
    }
    if event == "call.routed" {
        assert!(object["duration_ms"].is_number(), "no duration_ms: {line}");
    }
    object
}

/// The town in which the day passes.
struct Town {
    place: Place,
    client: reqwest::Client,
    admin: DrawnKey,
    viewer: DrawnKey,
    secrets: Secrets,
}

impl Town {
    fn new() -> Self {
        let (outside, tasks) = everything_outside(7);
        for (phone, score) in [
            (HOT, 91),
            (WARM, 55),
            (COLD, 12),
            (FORGOTTEN, 88),
            (OVER_SIP, 85),
            (ELSEWHERE, 97),
            (LOOKED_UP, 64),
        ] {
            outside
                .braze
                .add(Profile::new(phone).with("lead_score", score));
        }
        outside.smtp.set_credentials(Some(MAIL_LOGIN));
        outside
            .http_dialer
            .require_header("X-Dialer-Key", HTTP_TOKEN);
        let place = Place {
            directory: tempfile::tempdir().unwrap(),
            outside,
            _tasks: tasks,
        };
        let (admin, viewer) = (DrawnKey::draw().unwrap(), DrawnKey::draw().unwrap());
        let mut secrets = Secrets::new();
        secrets.add("the admin's key", admin.key.as_bytes());
        secrets.add("the viewer's key", viewer.key.as_bytes());
        Self {
            place,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            admin,
            viewer,
            secrets,
        }
    }

    /// Every secret that a configuration can hold, and every way of telling.
    fn configure(&self, logging: &str, server: &str, routing: &str) {
        let settings = Settings {
            server: server.to_owned(),
            credentials: format!(
                "auth_token = [\"{}\", \"{OLD_TOKEN}\"]\n\
                 shared_keys = [{{ id = \"webhooks_sharedkey_1\", secret = \"{SHARED_KEY}\" }}]",
                made_up::AUTH_TOKEN
            ),
            routing: routing.to_owned(),
            braze: "open_for = \"1s\"".to_owned(),
            dialers: "probe_every = \"1s\"\nopen_for = \"1s\"".to_owned(),
            sections: format!(
                "[dialers.web]\nkind = \"http\"\nconnect = \"{}\"\nurl = \"HTTP_SERVER/calls\"\nhealth_url = \"HTTP_SERVER/health\"\n\
                 headers = {{ X-Dialer-Key = \"{HTTP_TOKEN}\" }}\nbody = {{ phone_number = \"{{caller}}\", request_id = \"{{request_id}}\" }}\n\
                 [alerts]\nmin_calls = 1\n\
                 [alerts.email]\nto = [\"ops@example.com\"]\nfrom = \"switchboard@example.com\"\nsmtp = \"smtp://MAIL_SERVER\"\n\
                 username = \"{}\"\npassword = \"{}\"\n\
                 [alerts.webhook]\nurl = \"HTTP_SERVER/{ALERT_PATH}\"\nsecret = \"{ALERT_SECRET}\"\n\
                 [logging]\n{logging}\n{}{}",
                made_up::HTTP_DIALER_LINE,
                MAIL_LOGIN.0,
                MAIL_LOGIN.1,
                key_lines("ops", "admin", &self.admin),
                key_lines("desk", "viewer", &self.viewer),
            ),
            ..Settings::default()
        };
        let text = settings.configuration(&self.place.outside).replace(
            "campaign = ",
            &format!(
                "tenant = \"{}\"\ntenant_token = \"{}\"\ncampaign = ",
                made_up::TENANT,
                made_up::TENANT_TOKEN
            ),
        );
        self.place.configure(&text);
    }

    async fn call(&self, from: &str) -> CallResult {
        self.call_like(Call::new(from, CALLED)).await
    }

    async fn call_like(&self, call: Call) -> CallResult {
        let result = self.place.outside.twilio.call(call).await;
        assert_eq!(result.violations, Vec::<String>::new());
        result
    }

    async fn ask(
        &self,
        shift: &Shift,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Response {
        self.ask_as(shift, &self.admin.key, method, path, body)
            .await
    }

    async fn ask_as(
        &self,
        shift: &Shift,
        key: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Response {
        let url = format!("http://{}/api/v1{path}", shift.address);
        let mut request = self.client.request(method, url).header("x-api-key", key);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        request.send().await.unwrap()
    }

    /// Everybody calls while all is well.
    async fn an_ordinary_morning(&self) {
        for caller in [HOT, WARM, COLD, STRANGER, FORGOTTEN, NATIONAL, HOT] {
            self.call(caller).await;
        }
        for caller in [
            "anonymous".to_owned(),
            format!("sip:{OVER_SIP}@pbx.example.com"),
            "client:jane".to_owned(),
        ] {
            self.call(&caller).await;
        }
        for duplicate in [
            Duplicate::AtOnce,
            Duplicate::AfterAnswer,
            Duplicate::AfterEnd,
        ] {
            self.call_like(Call::new(COLD, CALLED).duplicate(duplicate))
                .await;
        }
        self.call_like(Call::new(WARM, CALLED).patience(Duration::from_secs(1)))
            .await;
        let talk = Duration::from_secs(5);
        for line in [
            LineBehaviour::Busy,
            LineBehaviour::NoAnswer,
            LineBehaviour::Failed,
            LineBehaviour::CallerHangsUpRinging { after: talk },
            LineBehaviour::AnswerThenCallerHangsUp { after: talk, talk },
        ] {
            self.call_like(Call::new(HOT, CALLED).lines([line.clone(), line]))
                .await;
        }
    }

    /// Somebody whom no cache knows calls.
    async fn call_of_somebody_new(&self) {
        let n = self.place.outside.braze.requests().count();
        self.call(&format!("+49151700{n:05}")).await;
    }

    /// People whom no cache knows call until the log tells of this event.
    async fn calls_until(&self, shift: &Shift, event: &str) {
        let clock = Clock::system();
        let began = clock.instant();
        while !shift.text().contains(&format!("\"event\":\"{event}\"")) {
            assert!(clock.instant().duration_since(began) < PATIENCE, "{event}");
            self.call_of_somebody_new().await;
            clock.wait(Duration::from_millis(50)).await;
        }
    }

    /// Dialers and Braze fail, and are well again.
    async fn failures_outside(&self, shift: &Shift) {
        let outside = &self.place.outside;
        let faults = outside.braze.faults();
        for fault in [
            Fault::Garbage(Garbage::NotJson),
            Fault::Garbage(Garbage::NotUtf8),
            Fault::Reset,
            Fault::Redirect("http://127.0.0.1:9/x".to_owned()),
            Fault::status(500),
        ] {
            faults.clear();
            faults.standing(fault);
            self.call_of_somebody_new().await;
        }
        self.calls_until(shift, "lookup.opened").await;
        faults.clear();
        self.calls_until(shift, "lookup.closed").await;
        for faults in [
            outside.dialfire.faults(),
            outside.zendesk.faults(),
            outside.http_dialer.faults(),
        ] {
            for fault in [
                Fault::status(503),
                Fault::Reset,
                Fault::ResetAfterAccept,
                Fault::Garbage(Garbage::Html),
                Fault::too_many_requests(None),
            ] {
                faults.standing_on(Route::method("POST"), fault);
                self.call(HOT).await;
                faults.clear();
            }
        }
        let faults = outside.dialfire.faults();
        faults.standing_on(Route::method("POST"), Fault::Hang);
        self.call(HOT).await;
        faults.clear();
        outside
            .braze
            .faults()
            .once(Fault::too_many_requests(Some(1)));
        self.call_of_somebody_new().await;
    }

    /// Keys are refused, and the answers repeat them.
    async fn refused_keys(&self, shift: &Shift) {
        let outside = &self.place.outside;
        let echo = |secret: &str| Fault::Status {
            status: 401,
            body: format!("{{\"message\":\"Invalid API key: {secret}\",\"phone\":\"{HOT}\"}}"),
            retry_after: None,
        };
        for (faults, token) in [
            (outside.dialfire.faults(), made_up::CAMPAIGN_TOKEN),
            (outside.zendesk.faults(), made_up::ZENDESK_TOKEN),
            (outside.http_dialer.faults(), HTTP_TOKEN),
            (outside.braze.faults(), made_up::BRAZE_KEY),
        ] {
            faults.standing(echo(token));
        }
        self.calls_until(shift, "lookup.unauthorized").await;
    }

    /// No dialer takes a call: callers are held, and then it is over for them.
    async fn nobody_takes_calls(&self, shift: &Shift) {
        let outside = &self.place.outside;
        let all = [
            outside.dialfire.faults(),
            outside.zendesk.faults(),
            outside.http_dialer.faults(),
        ];
        for faults in all {
            faults.standing(Fault::status(503));
        }
        for caller in [HOT, COLD, STRANGER, WARM] {
            let patience = Duration::from_secs(12);
            self.call_like(Call::new(caller, CALLED).patience(patience))
                .await;
        }
        shift.event("alert.opened", 1).await;
        for faults in all {
            faults.clear();
        }
    }

    /// The mail server refuses, hangs up, does not like the password; then it takes what waits.
    async fn a_mail_outage(&self, shift: &Shift) {
        let smtp = &self.place.outside.smtp;
        shift.event("alert.sent", 1).await;
        smtp.standing(SmtpFault::RefuseConnections);
        self.ask(shift, Method::POST, "/alerts/test", None).await;
        shift.event("alert.delayed", 1).await;
        smtp.clear();
        let refused = format!(
            "5.7.8 {} may not send; password {} is wrong",
            MAIL_LOGIN.0, MAIL_LOGIN.1
        );
        smtp.once(SmtpFault::Reply(Stage::Auth, 535, refused));
        smtp.once(SmtpFault::Reset(Stage::Mail));
        self.ask(shift, Method::POST, "/alerts/test", None).await;
    }

    /// People and programs use the API, rightly and wrongly.
    async fn office_hours(&mut self, shift: &Shift) {
        let known = self.call(HOT).await.call_sid;
        let plus = |number: &str| number.replace('+', "%2B");
        let (hot, looked_up) = (plus(HOT), plus(LOOKED_UP));
        for path in [
            "/calls".to_owned(),
            "/calls/active".to_owned(),
            "/calls/metrics?window=1h".to_owned(),
            format!("/calls?q={hot}"),
            format!("/calls/{known}?reveal=true"),
            format!("/calls/{HOT}"),
            format!("/customers/{looked_up}"),
            format!("/customers/{LOOKED_UP}"),
            "/customers/not-a-number".to_owned(),
            format!("/logs?q={hot}&severity=warning"),
            format!("/logs/{known}"),
            "/dialers".to_owned(),
            "/alerts/active".to_owned(),
            "/alerts/history".to_owned(),
            "/settings".to_owned(),
            "/settings/changes".to_owned(),
            format!("/nothing/{hot}"),
        ] {
            for key in [
                self.viewer.key.clone(),
                "a-wrong-key".to_owned(),
                // Half of a right one, as after a slip with the mouse.
                self.admin.key[..self.admin.key.len() / 2].to_owned(),
            ] {
                self.ask_as(shift, &key, Method::GET, &path, None).await;
            }
        }
        let door = |caller: &str, id: &str| json!({ "caller": caller, "called": CALLED, "external_id": id });
        for body in [
            door(ELSEWHERE, "pbx-1"),
            door(ELSEWHERE, "pbx-1"),
            door(&format!("{ELSEWHERE}x"), "pbx-2"),
            json!({ "caller": HOT }),
        ] {
            self.ask(shift, Method::POST, "/calls", Some(body)).await;
        }
        let explain = json!({ "from": WARM, "score": 80 });
        self.ask(shift, Method::POST, "/routing/explain", Some(explain))
            .await;
        for (method, path) in [
            (Method::POST, "/dialers/dialfire/test".to_owned()),
            (Method::POST, "/dialers/dialfire/drain".to_owned()),
            (Method::POST, "/dialers/dialfire/resume".to_owned()),
            (Method::DELETE, format!("/customers/{looked_up}")),
            (Method::POST, "/alerts/test".to_owned()),
        ] {
            self.ask(shift, method, &path, None).await;
        }
        for key in [
            json!({ "key": "a-wrong-key" }),
            json!({ "key": self.viewer.key }),
            json!({ "key": self.admin.key, "note": HOT }),
            json!(self.admin.key),
        ] {
            let answer = self.ask(shift, Method::POST, "/session", Some(key)).await;
            for cookie in answer.headers().get_all("set-cookie") {
                let cookie = cookie.to_str().unwrap();
                let value = cookie.split(';').next().unwrap();
                let (_, value) = value.split_once('=').unwrap();
                self.secrets.add("a session's cookie", value.as_bytes());
            }
        }
    }

    /// What is sent by who is not Twilio, and by a Twilio that is set up wrongly.
    async fn strangers_and_mistakes(&mut self, shift: &Shift) {
        let (from, to) = (HOT.replace('+', "%2B"), CALLED.replace('+', "%2B"));
        let fields = about("a stranger", &format!("&From={from}&To={to}"));
        let body = fields.as_bytes();
        let url = format!("{}/webhooks/twilio", made_up::PUBLIC_URL);
        // What would have been right must not be told.
        let expected = sign(made_up::AUTH_TOKEN, &url, body);
        self.secrets
            .add("the expected signature", expected.as_bytes());
        let forged = Request::form("/webhooks/twilio", body);
        let elsewhere = sign(made_up::AUTH_TOKEN, &format!("{url}/"), body);
        for request in [
            forged.clone(),
            forged.clone().header("X-Twilio-Signature", "AAAA"),
            forged.clone().header("X-Twilio-Signature", &elsewhere),
            Request::signed_by("another-token", "/webhooks/twilio", body),
            Request::form(&format!("/webhooks/twilio?From={}", &HOT[1..]), body),
            Request::new("GET", &format!("/{}", &HOT[1..])),
            Request::new("GET", "/webhooks/twilio"),
            Request::new("TRACE", "/"),
            Request::new("GET", "/\r\nX: y"),
            Request::form("/webhooks/twilio", &vec![b'x'; 80_000]),
        ] {
            drop(crate::wire::exchange(shift.address, &request.to_bytes()).await);
        }
        drop(crate::wire::exchange(shift.address, b"\x16\x03\x01\x02\x00\x01\x00").await);
        // Signed, and of no use: no call is named, or nothing is served there.
        let odd = format!("From={from}&To={to}");
        for path in ["/webhooks/twilio/nothing", "/webhooks/twilio/fallback"] {
            assert_eq!(shift.send(Request::signed(path, body)).await, 200, "{path}");
        }
        for path in [
            "/webhooks/twilio",
            "/webhooks/twilio/dial?attempt=1",
            "/webhooks/twilio/hold",
            "/webhooks/twilio/status",
            "/webhooks/twilio/fallback?ErrorCode=11200",
        ] {
            let status = shift.send(Request::signed(path, odd.as_bytes())).await;
            assert_eq!(status, 200, "{path}");
        }
        let push = |secret: &str, body: &str| {
            Request::new("POST", "/webhooks/braze")
                .header("Authorization", &format!("Bearer {secret}"))
                .body(body.as_bytes())
        };
        let profile = json!({
            "external_id": "ext-1", "phone": PUSHED, "lead_score": 70, "sent_at": "2026-11-23T09:00:00Z",
        });
        for (secret, body, status) in [
            (PUSH_SECRET, profile.to_string(), 204),
            (PUSH_SECRET, format!("{{\"phone\": \"{PUSHED}\", "), 400),
            (PUSH_SECRET, json!({ "phone": PUSHED }).to_string(), 0),
            ("a-wrong-secret", profile.to_string(), 401),
            (&PUSH_SECRET[1..], profile.to_string(), 401),
        ] {
            let got = shift.send(push(secret, &body)).await;
            assert!(status == 0 || got == status, "{body}: {got}");
        }
    }

    /// Commands beside the running server, each with its own output.
    async fn chores(&self) -> Vec<String> {
        let mut said = Vec::new();
        for arguments in [
            &["erase", "--caller", FORGOTTEN][..],
            &["prune", "--dry-run"],
            &["audit", "head"],
            &["backup", "copy.db"],
            &["audit", "export", "--format", "jsonl"],
            &["doctor"],
            &["test-dialer", "--all"],
            &["explain", "--from", WARM, "--lookup"],
        ] {
            let output = self.place.command(arguments);
            let ran = super::Ran::of(output).await;
            assert!(
                matches!(ran.code, Some(0 | 1 | 75)),
                "{arguments:?}: {ran:?}"
            );
            said.push(ran.stdout);
            said.push(ran.stderr);
        }
        said
    }

    /// Files that can be used, and files that cannot, with a secret in the very place of the mistake.
    async fn reloads(&self, shift: &Shift) {
        let good = self.place.text();
        let token = made_up::AUTH_TOKEN;
        for (n, (from, to)) in [
            ("score_attribute", "score_atribute".to_owned()),
            // The string is not closed.
            (&*format!("\"{token}\""), format!("\"{token}")),
            (&*format!("\"{token}\""), token.to_owned()),
            (
                &*format!("password = \"{}\"", MAIL_LOGIN.1),
                format!("password = [\"{}\", 1]", MAIL_LOGIN.1),
            ),
            (
                "last_resort_number",
                format!("x = \"{HOT}\"\nlast_resort_number"),
            ),
        ]
        .into_iter()
        .enumerate()
        {
            assert!(good.contains(from), "{from}");
            self.place.configure(&good.replace(from, &to));
            shift.signal("HUP");
            shift.event("config.refused", n + 1).await;
        }
        let rotated = good.replace(OLD_TOKEN, NEXT_TOKEN).replace(
            "dialers = [\"dialfire\", \"zendesk\"]",
            "dialers = [\"zendesk\", \"dialfire\"]",
        );
        self.place.configure(&rotated);
        shift.signal("HUP");
        shift.event("config.reloaded", 1).await;
        self.place.configure(&good);
        self.ask(shift, Method::POST, "/settings/reload", None)
            .await;
        shift.event("config.reloaded", 2).await;
        self.call(HOT).await;
    }

    /// More calls at once than are taken in hand, while Braze hangs.
    async fn a_burst(&self, shift: &Shift) {
        self.place.outside.braze.faults().standing(Fault::Hang);
        let mut calls = JoinSet::new();
        for n in 0..12 {
            let twilio = self.place.outside.twilio.clone();
            let call = Call::new(&format!("+49151733{n:05}"), CALLED);
            calls.spawn(async move { twilio.call(call).await });
        }
        calls.join_all().await;
        self.place.outside.braze.faults().clear();
        shift.event("calls.shed", 1).await;
    }

    /// The process is killed while one caller is on hold and a dialer is being told of another.
    async fn killed_in_the_middle(&self, shift: Shift) -> String {
        let outside = &self.place.outside;
        let twilio = &outside.twilio;
        let dialers = [
            outside.dialfire.faults(),
            outside.zendesk.faults(),
            outside.http_dialer.faults(),
        ];
        let all_fail = |fault: &Fault| {
            for faults in dialers {
                faults.clear();
                faults.standing_on(Route::method("POST"), fault.clone());
            }
        };
        all_fail(&Fault::status(503));
        let arrive = async |from: &str| {
            let fields = twilio.inbound_fields(&twilio.new_sid("CA"), from, CALLED);
            let answer = twilio.post("/webhooks/twilio", &fields).await;
            answer.map_or_else(|gone| gone, |answer| answer.body)
        };
        // On a busy machine a refusal may come too late, and the caller is connected.
        let until_held = async { while !arrive(HOT).await.contains("/webhooks/twilio/hold") {} };
        tokio::time::timeout(PATIENCE, until_held).await.unwrap();
        all_fail(&Fault::Hang);
        let is_told = || {
            let told = [
                outside.dialfire.requests(),
                outside.zendesk.requests(),
                outside.http_dialer.requests(),
            ];
            told.iter().any(|told| !told.mentioning(CUT_OFF).is_empty())
        };
        let clock = Clock::system();
        let until_told = async {
            while !is_told() {
                clock.wait(Duration::from_millis(5)).await;
            }
        };
        let calling = async {
            // Whoever calls while all circuits are open is held; the next one is handed off.
            loop {
                arrive(CUT_OFF).await;
                clock.wait(Duration::from_millis(200)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                () = until_told => {}
                () = calling => {}
            }
        });
        waited.await.unwrap();
        let said = shift.end("KILL").await;
        for faults in dialers {
            faults.clear();
        }
        said
    }
}

fn key_lines(name: &str, role: &str, key: &DrawnKey) -> String {
    let hash = key.hash.to_hex();
    format!("[[auth.keys]]\nname = \"{name}\"\nrole = \"{role}\"\nhash = \"{hash}\"\n")
}

/// The names of events that were told, each line of which is as it must be.
fn events_of(text: &str, secrets: &Secrets) -> BTreeSet<String> {
    assert!(text.ends_with('\n'), "the last line is cut: {text}");
    let events = text.lines().map(|line| checked(line, secrets));
    events
        .filter_map(|line| line["event"].as_str().map(str::to_owned))
        .collect()
}

#[expect(
    clippy::print_stdout,
    reason = "a figure for who runs it with --nocapture"
)]
fn say(line: &str) {
    println!("{line}");
}

/// Secrets that the appliance has made for itself.
fn made_beside(database: &Path) -> Vec<(String, Vec<u8>)> {
    [".secret", ".signing"]
        .into_iter()
        .map(|end| {
            let path = format!("{}{end}", database.display());
            (format!("the file {end}"), fs::read(path).unwrap())
        })
        .collect()
}

/// What the day must have brought: without it the test looks at too little.
const EVENTS: [&str; 32] = [
    "alert.delayed",
    "alert.opened",
    "alert.sent",
    "alert.still_open",
    "alert.tested",
    "audit.key",
    "auth.logged_in",
    "auth.refused",
    "call.completed",
    "call.on_fallback",
    "call.received",
    "call.repeated",
    "call.routed",
    "call.waiting",
    "calls.shed",
    "config.refused",
    "config.reloaded",
    "config.warning",
    "dialer.changed",
    "handoff.failed",
    "handoff.interrupted",
    "health.changed",
    "lifecycle.draining",
    "lookup.closed",
    "lookup.opened",
    "lookup.push_refused",
    "lookup.unauthorized",
    "service.started",
    "service.stopped",
    "webhook.malformed",
    "webhook.rejected",
    "webhook.unusable",
];

#[tokio::test]
async fn a_day_of_everything_is_logged_as_json_without_a_number_or_a_secret() {
    let mut town = Town::new();

    // From midnight to noon into files, at the level that is usual.
    town.configure(
        "directory = \"logs\"",
        "",
        &format!("last_resort_number = \"{}\"", made_up::LAST_RESORT),
    );
    let morning = Shift::start(&town.place, "morning", Some("logs")).await;
    town.an_ordinary_morning().await;
    town.nobody_takes_calls(&morning).await;
    town.a_mail_outage(&morning).await;
    town.office_hours(&morning).await;
    town.strangers_and_mistakes(&morning).await;
    let printed = town.chores().await;
    town.reloads(&morning).await;
    town.failures_outside(&morning).await;
    let dropped = Request::new("GET", "/metrics").send(morning.address).await;
    assert!(
        dropped
            .text()
            .contains("switchboard_log_lines_dropped_total 0\n"),
        "no line may be missing here"
    );
    let files = town.killed_in_the_middle(morning).await;
    for end in ["out", "err"] {
        let said = fs::read_to_string(town.place.path(&format!("morning.{end}")));
        assert_eq!(
            said.unwrap(),
            "",
            "with log files, the terminal stays empty"
        );
    }

    // From noon to evening to standard error: few calls are taken in hand, and no last resort is left.
    town.configure("level = \"info\"", "calls_in_hand = 3", "max_hold = \"0s\"");
    let afternoon = Shift::start(&town.place, "afternoon", None).await;
    town.a_burst(&afternoon).await;
    town.an_ordinary_morning().await;
    town.nobody_takes_calls(&afternoon).await;
    afternoon.event("alert.sent", 1).await;
    let terminal = afternoon.end("TERM").await;

    // At night somebody searches for a fault, with everything told: numbers may stand in debug lines, secrets nowhere.
    town.configure("level = \"trace\"", "", "");
    let night = Shift::start(&town.place, "night", None).await;
    town.an_ordinary_morning().await;
    town.office_hours(&night).await;
    town.strangers_and_mistakes(&night).await;
    town.nobody_takes_calls(&night).await;
    town.refused_keys(&night).await;
    let talkative = night.end("TERM").await;
    assert!(talkative.contains("\"level\":\"trace\""));

    for (name, bytes) in made_beside(&town.place.path("switchboard.db")) {
        town.secrets.add(&name, &bytes);
    }
    let mut seen = BTreeSet::new();
    let mut n_lines = 0;
    for text in [files, terminal, talkative] {
        n_lines += text.lines().count();
        seen.extend(events_of(&text, &town.secrets));
    }
    say(&format!(
        "{n_lines} lines with {} events, {} parts of secrets looked for in each",
        seen.len(),
        town.secrets.0.len()
    ));
    for text in printed {
        town.secrets.assert_absent(&text);
    }
    let missing: Vec<_> = EVENTS
        .iter()
        .filter(|name| !seen.contains(**name))
        .collect();
    assert!(missing.is_empty(), "not seen: {missing:?}; seen: {seen:?}");
}

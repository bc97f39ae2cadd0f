//! Alerts over real sockets: from a call that fails to a mail that a mail server has taken.

mod channels;
mod credentials;
mod day;
mod mails;
mod outage;
mod quiet;
mod signs;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use switchboard::clock::Clock;
use switchboard_simulator::smtp::{Message, SmtpFault, Stage, TlsFrom};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::world::{DIALFIRE_LINE, HOT, Settings, World, dialled};

const LOGIN: (&str, &str) = ("switchboard", "made-up-mail-password");
const KEY: &str = "made-up-admin-key";
/// Long enough for the busiest machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// A certificate for the mail server, and the PEM of who vouches for it.
fn certificate() -> (TlsAcceptor, String) {
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), certificate.pem())
}

/// How the mail server protects its connections.
#[derive(Clone, Copy, PartialEq)]
enum Server {
    Plain,
    StartTls,
    Tls,
}

/// A world whose mail server wants a login, and whose administrator has a key.
struct Office {
    world: World,
    _authority: tempfile::TempDir,
}

impl Office {
    async fn new(server: Server) -> Self {
        Self::with(server, &["ops@example.com"], "", Clock::system()).await
    }

    async fn with(server: Server, to: &[&str], alerts: &str, clock: Clock) -> Self {
        Self::in_a_world(server, to, alerts, |settings| Settings {
            clock,
            ..settings
        })
        .await
    }

    /// As [`Office::with`], where the rest of the configuration is another one, too.
    async fn in_a_world(
        server: Server,
        to: &[&str],
        alerts: &str,
        change: impl FnOnce(Settings) -> Settings,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = directory.path().join("ca.pem");
        let (acceptor, pem) = certificate();
        std::fs::write(&authority, pem).unwrap();
        let scheme = if server == Server::Tls {
            "smtps"
        } else {
            "smtp"
        };
        let ca = match server {
            Server::Plain => String::new(),
            Server::StartTls | Server::Tls => format!("ca = \"{}\"", authority.display()),
        };
        let (user, password) = LOGIN;
        let settings = change(Settings {
            // A failed call ends in goodbye.
            routing: String::new(),
            // Messages are tried again after seconds, by the same clock.
            machine_is_faster: 3,
            sections: format!(
                "[alerts]\n{alerts}\n[alerts.email]\nto = {to:?}\nfrom = \"switchboard@example.com\"\n\
                 smtp = \"{scheme}://MAIL_SERVER\"\nusername = {user:?}\npassword = {password:?}\n{ca}\n{}",
                admin_key()
            ),
            ..Settings::default()
        });
        let world = World::with(settings).await;
        let smtp = &world.outside.smtp;
        smtp.set_credentials(Some(LOGIN));
        match server {
            Server::Plain => {}
            Server::StartTls => smtp.set_tls(acceptor, TlsFrom::StartTls),
            Server::Tls => smtp.set_tls(acceptor, TlsFrom::FirstByte),
        }
        Self {
            world,
            _authority: directory,
        }
    }

    /// Both dialers' lines are busy: the call comes to goodbye, and counts as failed.
    async fn failing_call(&self) -> String {
        let busy = switchboard_simulator::twilio::LineBehaviour::Busy;
        self.world.outside.twilio.set_line("", busy);
        self.world.call(HOT).await.call_sid
    }

    async fn mails(&self, count: u64) -> Vec<Message> {
        let reached = self.world.outside.smtp.reached(count);
        let has_arrived = timeout(PATIENCE, reached).await.is_ok();
        let history = self.get("/api/v1/alerts/history").await;
        assert!(has_arrived, "{history:#}");
        self.world.outside.smtp.messages()
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(reqwest::Method::GET, path).await.1
    }

    async fn ask(&self, method: reqwest::Method, path: &str) -> (u16, Value) {
        let url = format!("http://{}{path}", self.world.running().address);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.request(method, url).header("x-api-key", KEY);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

fn admin_key() -> String {
    use sha2::{Digest, Sha256};
    let hash = hex::encode(Sha256::digest(KEY.as_bytes()));
    format!("[[auth.keys]]\nname = \"ops\"\nrole = \"admin\"\nhash = \"{hash}\"")
}

#[tokio::test]
async fn a_call_that_fails_is_mailed() {
    for server in [Server::Plain, Server::StartTls, Server::Tls] {
        let office = Office::new(server).await;
        let call_sid = office.failing_call().await;
        let mails = office.mails(1).await;
        let mail = &mails[0];
        assert_eq!(mail.user.as_deref(), Some(LOGIN.0));
        assert_eq!(mail.to, ["ops@example.com"]);
        assert_eq!(mail.subject(), "[Switchboard] Calls fail");
        let [text, html] = &mail.parts()[..] else {
            panic!("{mail:?}");
        };
        assert!(
            text.contains("100 % of the calls of the last 5 min failed (1 of 1)"),
            "{text}"
        );
        assert!(text.contains("1 × all legs failed"), "{text}");
        assert!(text.contains(&format!("/logs/{call_sid}")), "{text}");
        assert!(html.contains(&format!("/logs/{call_sid}\"")), "{html}");
        assert!(text.contains("*90"), "{text}");
        for part in [text, html] {
            assert!(
                !part.contains(HOT) && !part.contains("1700000090"),
                "{part}"
            );
        }
    }
}

/// The messages of the newest incident, as the API tells of them.
async fn messages(office: &Office) -> Vec<Value> {
    let history = office.get("/api/v1/alerts/history").await;
    let messages = history.pointer("/data/0/messages");
    let messages = messages.and_then(Value::as_array);
    messages.cloned().unwrap_or_default()
}

/// Waits until the API says so of the newest incident's messages.
async fn messages_when(office: &Office, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let clock = Clock::system();
    for _ in 0..1_800 {
        let messages = messages(office).await;
        if !messages.is_empty() && is_so(&messages) {
            return messages;
        }
        clock.wait(Duration::from_millis(100)).await;
    }
    let messages = messages(office).await;
    assert!(!messages.is_empty() && is_so(&messages), "{messages:#?}");
    messages
}

fn all_sent(messages: &[Value]) -> bool {
    messages.iter().all(|message| message["state"] == "sent")
}

#[tokio::test]
async fn the_api_tells_of_an_incident_its_calls_and_who_was_told() {
    let office = Office::new(Server::Plain).await;
    let call_sid = office.failing_call().await;
    office.mails(1).await;
    messages_when(&office, all_sent).await;
    for path in [
        "/api/v1/alerts/active",
        "/api/v1/alerts/history?page=1&page_size=10",
    ] {
        let list = office.get(path).await;
        assert_eq!(
            (&list["total"], &list["page"]),
            (&1.into(), &1.into()),
            "{list}"
        );
        let incident = &list["data"][0];
        assert_eq!(incident["kind"], "routing_failure_rate");
        assert_eq!(incident["status"], "open");
        assert_eq!(incident["calls"], 1);
        assert_eq!(incident["call_ids"][0], call_sid.as_str());
        assert_eq!(incident["reasons"][0]["reason"], "all_legs_failed");
        let message = &incident["messages"][0];
        assert_eq!(message["recipient"], "email:ops@example.com");
        assert_eq!(message["state"], "sent");
        assert!(message["sent_at"].is_string(), "{message}");
    }
    let (status, _) = office
        .ask(reqwest::Method::GET, "/api/v1/alerts/history?page_size=0")
        .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_test_message_says_whether_it_arrived() {
    let office = Office::new(Server::StartTls).await;
    let post = || office.ask(reqwest::Method::POST, "/api/v1/alerts/test");
    let (status, tested) = post().await;
    assert_eq!(status, 200, "{tested}");
    assert_eq!(tested["data"]["messages"][0]["state"], "sent");
    let mails = office.mails(1).await;
    assert_eq!(mails[0].subject(), "[Switchboard] Test message");
    let smtp = &office.world.outside.smtp;
    smtp.set_credentials(Some(("somebody", "else")));
    let (_, tested) = post().await;
    let message = &tested["data"]["messages"][0];
    assert_eq!(message["state"], "waiting");
    assert!(
        message["error"].as_str().unwrap().contains("535"),
        "{message}"
    );
}

#[tokio::test]
async fn a_mail_server_that_was_away_gets_the_mail_once_when_it_is_back() {
    let office = Office::new(Server::Plain).await;
    let smtp = office.world.outside.smtp.clone();
    smtp.standing(SmtpFault::RefuseConnections);
    office.failing_call().await;
    messages_when(&office, |messages| {
        messages[0]["attempts"].as_u64() >= Some(2)
    })
    .await;
    assert_eq!(smtp.count(), 0);
    smtp.clear();
    office.mails(1).await;
    messages_when(&office, all_sent).await;
    // Two more looks at the outbox, and still one mail.
    Clock::system().wait(Duration::from_secs(2)).await;
    assert_eq!(smtp.count(), 1);
}

#[tokio::test]
async fn greylisting_and_a_lost_answer_cost_a_second_attempt_with_the_same_message_id() {
    let office = Office::new(Server::Plain).await;
    let smtp = office.world.outside.smtp.clone();
    let later = "4.2.0 Greylisted, try again later".to_owned();
    smtp.once(SmtpFault::Reply(Stage::Recipient, 451, later));
    // At the second attempt the message is taken, and the answer lost: as when the process dies before it can mark it.
    smtp.once(SmtpFault::Reset(Stage::Kept));
    office.failing_call().await;
    let mails = office.mails(2).await;
    let ids: Vec<_> = mails.iter().map(|mail| mail.header("Message-ID")).collect();
    assert!(ids[0].is_some());
    assert_eq!(ids[0], ids[1], "a mail system knows it as the same");
    let messages = messages_when(&office, all_sent).await;
    assert_eq!(messages[0]["attempts"], 3);
    Clock::system().wait(Duration::from_secs(2)).await;
    assert_eq!(smtp.count(), 2);
}

/// 550 is about a recipient only where it answers the naming of one. A sender's quota is used up for an hour, and not for good.
#[tokio::test]
async fn a_550_to_the_sender_or_to_the_message_is_tried_again() {
    let office = Office::new(Server::Plain).await;
    let smtp = office.world.outside.smtp.clone();
    for stage in [Stage::Mail, Stage::Data, Stage::Message] {
        let quota = "5.4.5 Daily user sending quota exceeded".to_owned();
        smtp.once(SmtpFault::Reply(stage, 550, quota));
    }
    office.failing_call().await;
    office.mails(1).await;
    let messages = messages_when(&office, all_sent).await;
    assert_eq!(messages[0]["attempts"], 4);
    assert_eq!(smtp.count(), 1);
}

#[tokio::test]
async fn one_refused_recipient_of_three_keeps_the_mail_from_nobody_else() {
    let to = ["a@example.com", "gone@example.com", "c@example.com"];
    let office = Office::with(Server::Plain, &to, "", Clock::system()).await;
    office
        .world
        .outside
        .smtp
        .refuse("gone@example.com", Some(550));
    office.failing_call().await;
    let mails = office.mails(2).await;
    let reached: Vec<_> = mails.iter().flat_map(|mail| &mail.to).collect();
    assert_eq!(reached, ["a@example.com", "c@example.com"]);
    let messages = messages_when(&office, |messages| {
        messages.iter().all(|message| message["state"] != "waiting")
    })
    .await;
    let states: Vec<_> = messages
        .iter()
        .map(|m| m["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["sent", "dead", "sent"]);
    assert!(
        messages[1]["error"].as_str().unwrap().contains("550"),
        "{messages:?}"
    );
}

#[tokio::test]
async fn three_recipients_get_one_mail_when_all_is_well() {
    let to = ["a@example.com", "b@example.com", "c@example.com"];
    let office = Office::with(Server::Tls, &to, "", Clock::system()).await;
    office.failing_call().await;
    assert_eq!(office.mails(1).await[0].to, to);
    messages_when(&office, all_sent).await;
    assert_eq!(office.world.outside.smtp.count(), 1);
}

#[tokio::test]
async fn a_mail_server_that_hangs_anywhere_delays_no_call() {
    let office = Office::new(Server::Plain).await;
    let smtp = office.world.outside.smtp.clone();
    for stage in [Stage::Connect, Stage::Hello, Stage::Auth, Stage::Message] {
        smtp.standing(SmtpFault::Hang(stage));
    }
    office.failing_call().await;
    let result = office.world.call(HOT).await;
    assert_eq!(dialled(&result).first(), Some(&DIALFIRE_LINE));
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_gets_no_mail() {
    let office = Office::with(Server::Tls, &["ops@example.com"], "", Clock::system()).await;
    // The same server with another certificate.
    let (stranger, _) = certificate();
    let smtp = office.world.outside.smtp.clone();
    smtp.set_tls(stranger, TlsFrom::FirstByte);
    office.failing_call().await;
    let messages = messages_when(&office, |m| m[0]["attempts"].as_u64() >= Some(1)).await;
    assert_eq!(smtp.count(), 0);
    let error = messages[0]["error"].as_str().unwrap().to_lowercase();
    assert!(
        error.contains("certificate") || error.contains("tls"),
        "{error}"
    );
}

//! The process is killed, and calls go on: the real binary, `kill -9`, the same database.
#![expect(clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use switchboard::audit::{ChainLink, Kind};
use switchboard::call::{CallId, Disposition, Status};
use switchboard::clock::Clock;
use switchboard::store::{self, KeyRing, Store, StoredCall, StoredLeg, StoredRecord};
use switchboard_simulator::faults::{Fault, Faults, Route};
use switchboard_simulator::requests::Requests;
use switchboard_simulator::{World as Outside, made_up};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::world::{CALLED, COLD, DIALFIRE_LINE, HOT, Settings, ZENDESK_LINE, everything_outside};

type Fields = Vec<(String, String)>;

/// A debug build on a busy machine takes its time.
const START_PATIENCE: Duration = Duration::from_mins(3);
/// Another program may take the free port before the appliance does.
const PORTS_TO_TRY: u32 = 5;
const CALL: &str = "CA000000000000000000000000000000aa";

/// The binary, its directory, and everything outside.
struct Appliance {
    outside: Outside,
    _tasks: JoinSet<()>,
    directory: tempfile::TempDir,
    process: Option<Process>,
    log: Arc<Mutex<Vec<String>>>,
}

/// Killed where a test stops early.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it is gone already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Appliance {
    async fn new() -> Self {
        let (outside, tasks) = everything_outside(1);
        let mut appliance = Self {
            outside,
            _tasks: tasks,
            directory: tempfile::tempdir().unwrap(),
            process: None,
            log: Arc::default(),
        };
        appliance.start().await;
        appliance
    }

    async fn start(&mut self) {
        for _ in 0..PORTS_TO_TRY {
            let address = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap();
            let mut child = self.spawn(address);
            let is_up = follow(child.stderr.take().unwrap(), Arc::clone(&self.log));
            self.process = Some(Process(child));
            // Its log ends without the word where it does not start.
            if timeout(START_PATIENCE, is_up).await.unwrap().is_ok() {
                assert!(is_healthy(address).await.unwrap(), "{}", self.log());
                let base = format!("http://{address}");
                self.outside.connect(&base, made_up::PUBLIC_URL);
                return;
            }
        }
        panic!("it does not start: {}", self.log());
    }

    fn spawn(&self, address: SocketAddr) -> Child {
        let text = Settings::default().configuration(&self.outside);
        let listen = format!("listen = \"{address}\"");
        let text = text.replacen("listen = \"127.0.0.1:0\"", &listen, 1);
        assert!(text.contains(&listen));
        let config = self.directory.path().join("config.toml");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options
            .open(&config)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .arg("--config")
            .arg(&config)
            .arg("serve")
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// `kill -9`.
    fn kill(&mut self) {
        drop(self.process.take());
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    async fn post(&self, webhook: &Webhook) -> String {
        let answer = self
            .outside
            .twilio
            .post(&webhook.path, &webhook.fields)
            .await;
        let answer = answer.unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        assert_eq!(answer.status, 200, "{webhook:?}");
        answer.body
    }

    /// Sends a webhook, kills the process while `dialer` has the `n`th handoff in hand, starts it again and sends the webhook once more.
    async fn interrupt(&mut self, webhook: &Webhook, dialer: &Requests, n: usize) -> String {
        let mut cut_off = JoinSet::new();
        let twilio = self.outside.twilio.clone();
        let Webhook { path, fields } = webhook.clone();
        cut_off.spawn(async move { twilio.post(&path, &fields).await });
        loop {
            let seen = dialer.count();
            let asked = dialer.all().iter().filter(|r| r.method == "POST").count();
            if asked >= n {
                break;
            }
            dialer.reached(seen + 1).await;
        }
        self.kill();
        let answer = cut_off.join_next().await.unwrap().unwrap();
        assert!(
            answer.is_err(),
            "answered before it was killed: {:?}",
            answer.map(|answer| answer.body)
        );
        self.start().await;
        self.post(webhook).await
    }

    /// What the database holds. The process is killed first: the database belongs to one at a time.
    async fn ledger(&mut self) -> Ledger {
        self.kill();
        let path = self.directory.path().join("switchboard.db");
        let secret = std::fs::read_to_string(path.with_extension("db.secret")).unwrap();
        let key_ring = KeyRing::new(secret.trim().as_bytes());
        let options = store::Options::new(path, Clock::system(), key_ring).unhurried();
        let store = Store::open(&options).unwrap();
        let call = CallId::parse(CALL).unwrap();
        let n_starts = check_chain(&store).await;
        let ledger = Ledger {
            n_starts,
            call: store.call(&call).await.unwrap().unwrap(),
            legs: store.legs(&call).await.unwrap(),
            records: store.records_of_call(&call).await.unwrap(),
        };
        store.close().await;
        ledger
    }
}

/// Keeps what the process logs, and tells when calls can come.
fn follow(stderr: ChildStderr, log: Arc<Mutex<Vec<String>>>) -> oneshot::Receiver<()> {
    let (up, is_up) = oneshot::channel();
    let mut up = Some(up);
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if line.contains("service.started")
                && let Some(up) = up.take()
            {
                // Whoever waits may have lost patience.
                up.send(()).unwrap_or_default();
            }
            log.lock().unwrap().push(line);
        }
    });
    is_up
}

async fn is_healthy(address: SocketAddr) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect(address).await?;
    connection
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

/// Every record follows on the one before it, and its hash is the hash of what it holds. Counts how often the service was started.
async fn check_chain(store: &Store) -> usize {
    let records = store.raw_records(0, u32::MAX).await.unwrap();
    assert!(!records.is_empty());
    let mut link = ChainLink::GENESIS;
    for record in &records {
        assert_eq!(record.id, link.id + 1);
        assert_eq!(record.previous_hash, link.hash, "record {}", record.id);
        link = link.append(&record.content());
        assert_eq!(record.hash, link.hash, "record {}", record.id);
    }
    assert_eq!(store.head().await.unwrap(), link);
    let starts = records
        .iter()
        .filter(|record| record.kind == Kind::ServiceStarted.as_str());
    starts.count()
}

/// What is on disk of the call.
struct Ledger {
    n_starts: usize,
    call: StoredCall,
    legs: Vec<StoredLeg>,
    records: Vec<StoredRecord>,
}

impl Ledger {
    fn kinds(&self) -> Vec<Kind> {
        self.records.iter().map(|record| record.kind).collect()
    }

    /// What became of the handoff requests, in order: the dialer, the outcome, the kind of failure.
    fn outcomes(&self) -> Vec<(String, String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let events = self.records.iter().map(|record| record.event().unwrap());
        events
            .filter_map(|event| {
                let detail = serde_json::to_value(event.attempt()?).unwrap();
                Some((
                    text(&detail["dialer"]),
                    text(&detail["outcome"]),
                    text(&detail["kind"]),
                ))
            })
            .collect()
    }

    /// All of it but the times.
    fn essence(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let call = &self.call;
        let leg = |leg: &StoredLeg| {
            (
                (leg.leg.clone(), leg.parent.clone(), leg.dialer.clone()),
                (leg.step, leg.status, leg.sequence, leg.duration_s),
            )
        };
        (
            (call.status, call.disposition, call.reason),
            (call.dialer.clone(), call.failed_over, call.held),
            call.state.step(),
            self.legs.iter().map(leg).collect::<Vec<_>>(),
            self.kinds(),
        )
    }
}

/// One webhook of the call.
#[derive(Clone, Debug)]
struct Webhook {
    path: String,
    fields: Fields,
}

/// What the line does that is dialled next.
#[derive(Clone, Copy)]
enum Line {
    Busy,
    Answers,
}

/// Twilio's side of the call, one webhook after another.
struct Phone<'a> {
    appliance: &'a mut Appliance,
    /// Whether the process is killed before every webhook but the first.
    killed: bool,
    before: Option<(Webhook, String)>,
    answers: Vec<String>,
    n_legs: u32,
}

impl<'a> Phone<'a> {
    fn new(appliance: &'a mut Appliance, killed: bool) -> Self {
        Self {
            appliance,
            killed,
            before: None,
            answers: Vec::new(),
            n_legs: 0,
        }
    }

    /// Plays the whole call and gives all answers.
    async fn play(mut self, lines: &[Line]) -> Vec<String> {
        let mut lines = lines.iter();
        let mut body = self
            .post(inbound(&self.appliance.outside, HOT, "ringing"))
            .await;
        loop {
            body = if body.contains("<Dial") {
                self.dial(&body, *lines.next().unwrap()).await
            } else if body.contains("<Redirect") {
                let ask_again = redirect(&self.appliance.outside, &body);
                self.post(ask_again).await
            } else {
                break;
            };
        }
        assert!(lines.next().is_none(), "a line was not dialled");
        let mut end = inbound(&self.appliance.outside, HOT, "completed");
        "/webhooks/twilio/status".clone_into(&mut end.path);
        end.fields.extend(pairs(&[("CallDuration", "40")]));
        self.post(end).await;
        self.answers
    }

    async fn dial(&mut self, body: &str, line: Line) -> String {
        self.n_legs += 1;
        let leg = format!("CA{:032}", self.n_legs);
        let (progress, end): (&[&str], &str) = match line {
            Line::Busy => (&["initiated", "ringing"], "busy"),
            Line::Answers => (&["initiated", "ringing", "in-progress"], "completed"),
        };
        for (sequence, status) in progress.iter().chain([&end]).enumerate() {
            let sequence = sequence.to_string();
            let mut fields = pairs(&[
                ("CallSid", &leg),
                ("ParentCallSid", CALL),
                ("AccountSid", made_up::ACCOUNT_SID),
                ("Direction", "outbound-dial"),
                ("CallStatus", status),
                ("SequenceNumber", &sequence),
            ]);
            if *status == "completed" {
                fields.extend(pairs(&[("CallDuration", "30")]));
            }
            let path = local(&attribute(body, "statusCallback"));
            self.post(Webhook { path, fields }).await;
        }
        let ended = dial_ended(&self.appliance.outside, body, &leg, end);
        self.post(ended).await
    }

    async fn post(&mut self, webhook: Webhook) -> String {
        if let (true, Some((before, answer))) = (self.killed, &self.before) {
            self.appliance.kill();
            self.appliance.start().await;
            let again = self.appliance.post(before).await;
            assert_eq!(again, *answer, "a repeat of {before:?}");
        }
        let answer = self.appliance.post(&webhook).await;
        self.answers.push(answer.clone());
        self.before = Some((webhook, answer.clone()));
        answer
    }
}

/// A webhook of the caller's own leg.
fn inbound(outside: &Outside, from: &str, status: &str) -> Webhook {
    let mut fields = outside.twilio.inbound_fields(CALL, from, CALLED);
    for (name, value) in &mut fields {
        if name == "CallStatus" {
            status.clone_into(value);
        }
    }
    Webhook {
        path: "/webhooks/twilio".to_owned(),
        fields,
    }
}

/// The end of the dial that `body` ordered.
fn dial_ended(outside: &Outside, body: &str, leg: &str, status: &str) -> Webhook {
    let mut ended = inbound(outside, HOT, "in-progress");
    ended.path = local(&attribute(body, "action"));
    ended
        .fields
        .extend(pairs(&[("DialCallStatus", status), ("DialCallSid", leg)]));
    if status == "completed" {
        ended.fields.extend(pairs(&[("DialCallDuration", "30")]));
    }
    ended
}

/// The request that a hold answer leads to.
fn redirect(outside: &Outside, body: &str) -> Webhook {
    let (_, rest) = body.split_once("<Redirect").unwrap();
    let (_, rest) = rest.split_once('>').unwrap();
    let (url, _) = rest.split_once("</Redirect>").unwrap();
    Webhook {
        path: local(&url.replace("&amp;", "&")),
        ..inbound(outside, HOT, "in-progress")
    }
}

fn attribute(body: &str, name: &str) -> String {
    let (_, rest) = body.split_once(&format!(" {name}=\"")).unwrap();
    let (value, _) = rest.split_once('"').unwrap();
    value.replace("&amp;", "&")
}

/// Path and query of a URL of ours.
fn local(url: &str) -> String {
    let path = url.strip_prefix(made_up::PUBLIC_URL).unwrap();
    path.split('#').next().unwrap().to_owned()
}

fn pairs(fields: &[(&str, &str)]) -> Fields {
    fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn next_handoffs(faults: &Faults, n: usize, fault: &Fault) {
    for _ in 0..n {
        faults.once_on(Route::method("POST"), fault.clone());
    }
}

/// Passports differ by the secret and by the time.
fn without_passports(answers: &[String]) -> Vec<String> {
    let bare = |answer: &String| {
        let mut parts = answer.split("&amp;p=");
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |text, part| {
            let end = part.find(['&', '#']).unwrap();
            text + &part[end..]
        })
    };
    answers.iter().map(bare).collect()
}

/// Plays a call twice, undisturbed and with a kill before every webhook, and compares everything.
async fn assert_kills_change_nothing(prepare: impl Fn(&Outside), lines: &[Line]) -> Ledger {
    let mut undisturbed = Appliance::new().await;
    prepare(&undisturbed.outside);
    let expected = Phone::new(&mut undisturbed, false).play(lines).await;
    let mut killed = Appliance::new().await;
    prepare(&killed.outside);
    let answers = Phone::new(&mut killed, true).play(lines).await;
    assert_eq!(without_passports(&answers), without_passports(&expected));
    let handoffs = |outside: &Outside| {
        [
            outside.dialfire.handoffs().count_of(CALL),
            outside.zendesk.handoffs().count_of(CALL),
        ]
    };
    assert_eq!(handoffs(&killed.outside), handoffs(&undisturbed.outside));
    let ledger = killed.ledger().await;
    assert_eq!(ledger.n_starts, answers.len());
    assert_eq!(ledger.essence(), undisturbed.ledger().await.essence());
    assert_eq!(ledger.call.status, Status::Ended);
    assert_eq!(ledger.call.disposition, Some(Disposition::Answered));
    ledger
}

#[tokio::test]
async fn a_call_that_fails_over_survives_a_kill_before_every_webhook() {
    let lines = [Line::Busy, Line::Busy, Line::Answers];
    let ledger = assert_kills_change_nothing(|_| {}, &lines).await;
    assert!(ledger.call.failed_over);
    assert_eq!(ledger.legs.len(), 4);
}

#[tokio::test]
async fn a_held_call_survives_a_kill_before_every_webhook() {
    let two_rounds = |outside: &Outside| {
        next_handoffs(outside.dialfire.faults(), 4, &Fault::status(500));
        next_handoffs(outside.zendesk.faults(), 4, &Fault::status(500));
    };
    let ledger = assert_kills_change_nothing(two_rounds, &[Line::Answers]).await;
    assert!(ledger.call.held);
    assert_eq!(ledger.call.dialer.unwrap().as_str(), "dialfire");
}

#[tokio::test]
async fn a_handoff_cut_off_by_a_kill_has_an_outcome_and_its_call_an_answer() {
    let mut appliance = Appliance::new().await;
    let dialfire = appliance.outside.dialfire.clone();
    next_handoffs(dialfire.faults(), 1, &Fault::Hang);
    let webhook = inbound(&appliance.outside, HOT, "ringing");
    let answer = appliance.interrupt(&webhook, dialfire.requests(), 1).await;
    assert!(answer.contains(DIALFIRE_LINE), "{answer}");
    let ledger = appliance.ledger().await;
    assert_eq!(
        ledger.outcomes(),
        [
            outcome("dialfire", "unknown", "interrupted"),
            outcome("dialfire", "accepted", "")
        ]
    );
    assert_eq!(ledger.call.status, Status::Dialing);
}

#[tokio::test]
async fn a_failover_cut_off_by_a_kill_has_an_outcome_and_its_call_an_answer() {
    let mut appliance = Appliance::new().await;
    let zendesk = appliance.outside.zendesk.clone();
    next_handoffs(zendesk.faults(), 1, &Fault::Hang);
    let webhook = inbound(&appliance.outside, HOT, "ringing");
    let answer = appliance.post(&webhook).await;
    let busy = dial_ended(
        &appliance.outside,
        &answer,
        &made_up::call_sid("first leg"),
        "busy",
    );
    let answer = appliance.post(&busy).await;
    let busy = dial_ended(
        &appliance.outside,
        &answer,
        &made_up::call_sid("second leg"),
        "busy",
    );
    let answer = appliance.interrupt(&busy, zendesk.requests(), 1).await;
    assert!(answer.contains(ZENDESK_LINE), "{answer}");
    let ledger = appliance.ledger().await;
    assert_eq!(
        ledger.outcomes(),
        [
            outcome("dialfire", "accepted", ""),
            outcome("zendesk", "unknown", "interrupted"),
            outcome("zendesk", "accepted", "")
        ]
    );
    assert!(ledger.call.failed_over);
}

#[tokio::test]
async fn a_handoff_of_a_held_call_cut_off_by_a_kill_has_an_outcome_and_its_call_an_answer() {
    let mut appliance = Appliance::new().await;
    let dialfire = appliance.outside.dialfire.clone();
    next_handoffs(dialfire.faults(), 2, &Fault::status(500));
    next_handoffs(dialfire.faults(), 1, &Fault::Hang);
    next_handoffs(appliance.outside.zendesk.faults(), 2, &Fault::status(500));
    let webhook = inbound(&appliance.outside, HOT, "ringing");
    let answer = appliance.post(&webhook).await;
    let ask_again = redirect(&appliance.outside, &answer);
    let answer = appliance
        .interrupt(&ask_again, dialfire.requests(), 3)
        .await;
    assert!(answer.contains(DIALFIRE_LINE), "{answer}");
    let outcomes = appliance.ledger().await.outcomes();
    assert_eq!(
        outcomes.last_chunk().unwrap(),
        &[
            outcome("dialfire", "unknown", "interrupted"),
            outcome("dialfire", "accepted", "")
        ]
    );
}

#[tokio::test]
async fn a_handoff_that_took_effect_before_the_kill_is_found_again_after_it() {
    let mut appliance = Appliance::new().await;
    let zendesk = appliance.outside.zendesk.clone();
    let late = Fault::Delay(Duration::from_mins(1));
    next_handoffs(zendesk.faults(), 1, &late);
    let webhook = inbound(&appliance.outside, COLD, "ringing");
    let answer = appliance.interrupt(&webhook, zendesk.requests(), 1).await;
    assert!(answer.contains(ZENDESK_LINE), "{answer}");
    assert_eq!(zendesk.n_tickets(), 1);
    let outcomes = appliance.ledger().await.outcomes();
    assert_eq!(
        outcomes,
        [
            outcome("zendesk", "unknown", "interrupted"),
            outcome("zendesk", "accepted", "")
        ]
    );
}

fn outcome(dialer: &str, outcome: &str, kind: &str) -> (String, String, String) {
    (dialer.to_owned(), outcome.to_owned(), kind.to_owned())
}

//! Logs that cannot be written: files that vanish, a full disk, a terminal that nobody reads. Calls do not notice.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use switchboard::clock::Clock;
use switchboard_simulator::twilio::Call;

use super::Place;
use super::serve::{PATIENCE, connect, slowed};
use super::shift::Shift;
use crate::wire::Request;
use crate::world::{CALLED, DIALFIRE_LINE, HOT, dialled};

/// A call that goes as calls do: one that waited for the log would never end. Gives its id.
async fn call(place: &Place) -> String {
    let result = place.outside.twilio.call(Call::new(HOT, CALLED)).await;
    assert_eq!(result.violations, Vec::<String>::new());
    assert_eq!(dialled(&result), [DIALFIRE_LINE]);
    result.call_sid
}

/// Asks again and again until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let clock = Clock::system();
    let began = clock.instant();
    while !is_so().await {
        assert!(clock.instant().duration_since(began) < PATIENCE, "{what}");
        clock.wait(Duration::from_millis(100)).await;
    }
}

async fn lines_dropped(address: SocketAddr) -> u64 {
    let text = Request::new("GET", "/metrics").send(address).await.text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("switchboard_log_lines_dropped_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn log_files_that_vanish_hurt_no_call_and_are_made_anew() {
    let place = Place::new();
    place.reconfigure("[storage]", "[logging]\ndirectory = \"logs\"\n[storage]");
    let shift = Shift::start(&place, "vanishing", Some("logs")).await;
    call(&place).await;
    shift.event("call.routed", 1).await;
    for _ in 0..2 {
        fs::remove_dir_all(place.path("logs")).unwrap();
        until("log files again", async || {
            let call_sid = call(&place).await;
            shift.text().contains(&call_sid)
        })
        .await;
    }
    let end = shift.end("TERM").await;
    assert!(end.contains("service.stopped"), "{end}");
}

#[tokio::test]
async fn a_full_disk_of_logs_hurts_no_call_and_is_counted() {
    let place = Place::new();
    // Nothing says where it listens: the port is chosen beforehand.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    place.reconfigure(
        "listen = \"127.0.0.1:0\"",
        &format!("listen = \"{address}\""),
    );
    place.reconfigure("[storage]", "[logging]\ndirectory = \"logs\"\n[storage]");
    fs::create_dir(place.path("logs")).unwrap();
    let now = Clock::system().now();
    let files = [0, 24].map(|hours| {
        let day = now + jiff::SignedDuration::from_hours(hours);
        place.path(&format!(
            "logs/switchboard.{}.log",
            day.strftime("%Y-%m-%d")
        ))
    });
    for file in &files {
        symlink("/dev/full", file).unwrap();
    }
    let served = Process::start(place.command(&["serve"]).stderr(Stdio::null()));
    until("it listens", async || {
        tokio::net::TcpStream::connect(address).await.is_ok()
    })
    .await;
    connect(&place, address);
    for _ in 0..5 {
        call(&place).await;
    }
    // What is counted is published every five seconds.
    until("lines are counted that were not written", async || {
        lines_dropped(address).await >= 15
    })
    .await;

    // There is room again.
    for file in &files {
        fs::remove_file(file).unwrap();
    }
    until("lines again", async || {
        let call_sid = call(&place).await;
        let written = files
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok());
        written.into_iter().any(|text| text.contains(&call_sid))
    })
    .await;
    drop(served);
}

#[tokio::test]
async fn a_terminal_that_nobody_reads_hurts_no_call() {
    let place = Place::new();
    place.reconfigure("[storage]", "[logging]\nlevel = \"trace\"\n[storage]");
    let mut served = Process::start(place.command(&["serve"]).stderr(Stdio::piped()));
    let mut unread = BufReader::new(served.0.stderr.take().unwrap());
    let mut line = String::new();
    let started = loop {
        line.clear();
        assert_ne!(unread.read_line(&mut line).unwrap(), 0, "it has ended");
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["event"] == "service.started" {
            break line;
        }
    };
    let address: SocketAddr = started["address"].as_str().unwrap().parse().unwrap();
    connect(&place, address);
    // From here on nobody reads.
    for _ in 0..40 {
        call(&place).await;
    }
    served.signal("TERM");
    until("it ends", async || served.0.try_wait().unwrap().is_some()).await;
    let mut rest = Vec::new();
    unread.read_to_end(&mut rest).unwrap();
    assert!(
        rest.len() >= 60_000,
        "the pipe was not full: {}",
        rest.len()
    );
}

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(slowed(command).stdout(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.0.id());
        let status = Command::new("sh").args(["-c", &line]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing to end where it has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

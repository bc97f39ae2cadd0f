//! `serve` under a service manager: what it is told, and the socket that it keeps.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixDatagram};

use super::Place;
use super::serve::{PATIENCE, Served};

/// What the service manager hears.
struct Heard {
    socket: UnixDatagram,
    said: Vec<String>,
}

impl Heard {
    fn at(place: &Place) -> Self {
        let socket = UnixDatagram::bind(place.path("notify")).unwrap();
        Self {
            socket,
            said: Vec::new(),
        }
    }

    /// Waits for the next message that holds this line; returns the message.
    async fn line(&mut self, line: &str) -> String {
        let heard = tokio::time::timeout(PATIENCE, async {
            let mut buffer = vec![0; 4096];
            loop {
                let n = self.socket.recv(&mut buffer).await.unwrap();
                let message = String::from_utf8(buffer[..n].to_vec()).unwrap();
                self.said.push(message.clone());
                if message.lines().any(|found| found.starts_with(line)) {
                    return message;
                }
            }
        })
        .await;
        assert!(heard.is_ok(), "no {line}: {:#?}", self.said);
        heard.unwrap()
    }
}

fn notified(place: &Place) -> Command {
    let mut command = place.command(&["serve"]);
    command
        .env("NOTIFY_SOCKET", place.path("notify"))
        .env("WATCHDOG_USEC", "2000000");
    command
}

#[tokio::test]
async fn the_service_manager_hears_of_start_life_reload_and_stop() {
    let place = Place::new();
    let mut heard = Heard::at(&place);
    let served = Served::of(&place, notified(&place)).await;
    heard.line("EXTEND_TIMEOUT_USEC=30000000").await;
    let ready = heard.line("READY=1").await;
    assert!(ready.contains("STATUS=answering; 0 calls"), "{ready}");
    heard.line("WATCHDOG=1").await;
    heard.line("WATCHDOG=1").await;

    served.signal("HUP");
    let reloading = heard.line("RELOADING=1").await;
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    heard.line("READY=1").await;
    place.configure("nonsense");
    served.signal("HUP");
    heard.line("RELOADING=1").await;
    heard.line("READY=1").await;

    served.signal("TERM");
    heard.line("STOPPING=1").await;
    assert_eq!(served.end().await.0, Some(0));
}

#[tokio::test]
async fn a_failing_disk_is_told_and_is_no_reason_to_be_killed() {
    let place = Place::new();
    let mut heard = Heard::at(&place);
    let served = Served::of(&place, notified(&place)).await;
    heard.line("READY=1").await;
    let stranger = Connection::open(place.path("switchboard.db")).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    heard
        .line("STATUS=failing: the disk has failed since")
        .await;
    for _ in 0..8 {
        heard.line("WATCHDOG=1").await;
    }
    stranger.execute_batch("ROLLBACK").unwrap();
    heard.line("STATUS=answering").await;
    served.signal("TERM");
    assert_eq!(served.end().await.0, Some(0));
}

/// `serve` on a socket that the test keeps, as a service manager does.
fn activated(place: &Place, listener: &TcpListener) -> Command {
    let mut command = Command::new("sh");
    let run = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve";
    let socket: OwnedFd = listener.try_clone().unwrap().into();
    command
        .args(["-c", run, env!("CARGO_BIN_EXE_switchboard")])
        .current_dir(place.directory.path())
        .env_remove("SWITCHBOARD_CONFIG")
        .stdin(Stdio::from(socket));
    command
}

#[tokio::test]
async fn who_calls_between_two_runs_is_answered_by_the_second() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let first = Served::of(&place, activated(&place, &listener)).await;
    assert_eq!(first.address, address, "the given socket is served");
    first.signal("TERM");
    assert_eq!(first.end().await.0, Some(0));

    let mut waiting = TcpStream::connect(address).await.unwrap();
    waiting
        .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let second = Served::of(&place, activated(&place, &listener)).await;
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_mins(3), waiting.read_to_string(&mut answer));
    read.await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    second.signal("TERM");
    assert_eq!(second.end().await.0, Some(0));
}

#[tokio::test]
async fn a_given_socket_must_not_open_what_the_configuration_keeps_private() {
    let place = Place::new();
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let mut command = activated(&place, &listener);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let refused = super::Ran::of(command).await.exits(78);
    assert!(
        refused
            .stderr
            .contains("plain HTTP is served on a loopback address only"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_process_that_holds_secrets_leaves_no_core() {
    let place = Place::new();
    let served = Served::start(&place).await;
    let limits = format!("/proc/{}/limits", served.pid());
    let limits = std::fs::read_to_string(limits).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let figures: Vec<&str> = core.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(figures, ["0", "0"]);
}

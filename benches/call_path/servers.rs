//! The two servers under load, each a process of its own.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::load::{Caller, Measured};

pub(crate) const PUBLIC_URL: &str = "https://calls.example.com";
pub(crate) const AUTH_TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PUSH_SECRET: &str = "bench-push-secret";

/// A server process; ends with this value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Server {
    /// `switchboard serve` with its database in `directory`, telling the dialer at `upstream`.
    pub(crate) async fn product(directory: &Path, upstream: SocketAddr) -> Self {
        let address = free_address();
        let config = directory.join("config.toml");
        std::fs::write(&config, configuration(address, upstream, directory)).unwrap();
        restrict(&config);
        let process = Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .arg("--config")
            .arg(&config)
            .args(["serve", "-q"])
            .stderr(std::fs::File::create(directory.join("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { address, process };
        server.answers_health().await;
        server
    }

    /// This binary once more, as the bare handler.
    pub(crate) fn bare(upstream: SocketAddr) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--bare", &upstream.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .trim_start_matches("listening on ")
            .parse()
            .unwrap();
        Self { address, process }
    }

    async fn answers_health(&self) {
        for _ in 0..200 {
            if let Ok(answer) = self
                .exchange("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .await
                && answer.starts_with("HTTP/1.1 200")
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("switchboard does not answer");
    }

    /// Puts every caller into the cache by the profile webhook.
    pub(crate) async fn warm(&self) {
        for i in 0..Caller::COUNT {
            let body = format!(
                r#"{{"external_id":"c{i}","phone":"{}","lead_score":90}}"#,
                Caller::number(i)
            );
            let request = format!(
                "POST /webhooks/braze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {PUSH_SECRET}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = self.exchange(&request).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        }
    }

    async fn exchange(&self, request: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// A counter of the product, over all its labels; 0 before it counts.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let answer = self.exchange(request).await.unwrap();
        let lines = answer.lines().filter(|line| line.starts_with(name));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        values.sum()
    }

    pub(crate) fn resident_mib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            / 1_024
    }

    /// Every answered call has its decision and its answer on disk.
    pub(crate) fn check_records(directory: &Path, runs: &[&Measured]) {
        let database = rusqlite::Connection::open(directory.join("switchboard.db")).unwrap();
        let count = |sql: &str| {
            database
                .query_row(sql, [], |row| row.get::<_, i64>(0))
                .unwrap()
        };
        let answered = count("SELECT count(*) FROM calls WHERE status <> 'routing'");
        let records = count("SELECT count(*) FROM audit_records");
        println!("on disk: {answered} answered calls, {records} audit records");
        let seen: u64 = runs.iter().map(|run| run.answered).sum();
        assert!(
            answered >= i64::try_from(seen).unwrap(),
            "{answered} answered calls on disk for {seen} answers"
        );
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn configuration(address: SocketAddr, upstream: SocketAddr, directory: &Path) -> String {
    format!(
        r#"
[server]
listen = "{address}"
public_url = "{PUBLIC_URL}"

[storage]
path = "{}"

[twilio]
account_sid = "AC00000000000000000000000000000001"
auth_token = "{AUTH_TOKEN}"

[braze]
base_url = "http://127.0.0.1:9"
api_key = "bench"
score_attribute = "lead_score"
webhook_secret = "{PUSH_SECRET}"

[routing]
default_dialer = "dialfire"

[[routing.tiers]]
name = "hot"
min_score = 80

[[routing.rules]]
name = "hot leads"
tier = ["hot"]
dialers = ["dialfire"]

[dialers.dialfire]
kind = "dialfire"
connect = "+4930555000"
campaign = "AB12CD34EF56GH78"
task = "inbound_hot"
token = "bench"
base_url = "http://{upstream}"
probe_every = "1h"
"#,
        directory.join("switchboard.db").display()
    )
}

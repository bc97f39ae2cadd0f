//! The load generator: signed webhooks with distinct `CallSid`s, closed loop and open loop, over kept connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use hdrhistogram::Histogram;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::servers::{AUTH_TOKEN, PUBLIC_URL, Server};

static NEXT_CALL: AtomicU64 = AtomicU64::new(1);

/// The callers of the bench, all known to the cache.
pub(crate) struct Caller;

impl Caller {
    pub(crate) const COUNT: u64 = 1_000;

    pub(crate) fn number(i: u64) -> String {
        format!("+49151{:08}", i % Self::COUNT)
    }
}

/// What a run came to.
pub(crate) struct Measured {
    pub(crate) answered: u64,
    pub(crate) elapsed: Duration,
    /// Microseconds from the moment at which a call should have started.
    pub(crate) latency: Histogram<u64>,
    /// Microseconds from the moment at which it was sent: without the time it waited in a generator that has no processor left.
    pub(crate) service: Histogram<u64>,
}

impl Measured {
    #[expect(clippy::cast_precision_loss, reason = "a count of calls")]
    pub(crate) fn per_second(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64()
    }
}

pub(crate) fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// `connections` callers, each calling again as soon as it was answered.
pub(crate) async fn closed_loop(server: &Server, connections: usize, length: Duration) -> Measured {
    let started = Instant::now();
    let ends = started + length;
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let mut connection = Connection::open(server).await;
        tasks.push(tokio::spawn(async move {
            let (mut latency, mut service) = (histogram(), histogram());
            while Instant::now() < ends {
                let sent = Instant::now();
                connection.call(&next_request()).await;
                record(&mut latency, sent);
                record(&mut service, sent);
            }
            (latency, service)
        }));
    }
    collect(tasks, started).await
}

/// Calls at a constant rate whether answered or not; latency counts from the moment at which a call should have started.
pub(crate) async fn open_loop(
    server: &Server,
    rate: u64,
    length: Duration,
    workers: usize,
) -> Measured {
    let n_calls = rate * length.as_secs();
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now() + Duration::from_millis(50);
    let mut tasks = Vec::new();
    for _ in 0..workers {
        let mut connection = Connection::open(server).await;
        let next = Arc::clone(&next);
        tasks.push(tokio::spawn(async move {
            let (mut latency, mut service) = (histogram(), histogram());
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= n_calls {
                    return (latency, service);
                }
                let due = started + Duration::from_micros(i * 1_000_000 / rate);
                let request = next_request();
                tokio::time::sleep_until(due.into()).await;
                let sent = Instant::now();
                connection.call(&request).await;
                record(&mut latency, due);
                record(&mut service, sent);
            }
        }));
    }
    collect(tasks, started).await
}

async fn collect(
    tasks: Vec<tokio::task::JoinHandle<(Histogram<u64>, Histogram<u64>)>>,
    started: Instant,
) -> Measured {
    let (mut latency, mut service) = (histogram(), histogram());
    for task in tasks {
        let (one_latency, one_service) = task.await.unwrap();
        latency.add(one_latency).unwrap();
        service.add(one_service).unwrap();
    }
    Measured {
        answered: latency.len(),
        elapsed: started.elapsed(),
        latency,
        service,
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).unwrap()
}

fn record(latency: &mut Histogram<u64>, since: Instant) {
    latency.saturating_record(u64::try_from(since.elapsed().as_micros()).unwrap().max(1));
}

/// One signed webhook of a call that was never seen, as Twilio sends it.
fn next_request() -> Vec<u8> {
    let i = NEXT_CALL.fetch_add(1, Ordering::Relaxed);
    let from = Caller::number(i);
    let sid = format!("CA{i:032x}");
    let mut fields = vec![
        ("AccountSid", "AC00000000000000000000000000000001"),
        ("ApiVersion", "2010-04-01"),
        ("CallSid", &sid),
        ("CallStatus", "ringing"),
        ("Called", "+4930555000"),
        ("CalledCity", ""),
        ("CalledCountry", "DE"),
        ("CalledState", ""),
        ("CalledZip", ""),
        ("Caller", &from),
        ("CallerCity", ""),
        ("CallerCountry", "DE"),
        ("CallerState", ""),
        ("CallerZip", ""),
        ("Direction", "inbound"),
        ("From", &from),
        ("FromCity", ""),
        ("FromCountry", "DE"),
        ("FromState", ""),
        ("FromZip", ""),
        ("To", "+4930555000"),
        ("ToCity", ""),
        ("ToCountry", "DE"),
        ("ToState", ""),
        ("ToZip", ""),
    ];
    fields.sort_unstable();
    let mut signed = format!("{PUBLIC_URL}/webhooks/twilio");
    let mut body = String::with_capacity(600);
    for (name, value) in fields {
        signed.push_str(name);
        signed.push_str(value);
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        body.push_str(&value.replace('+', "%2B"));
    }
    let mut mac = Hmac::<Sha1>::new_from_slice(AUTH_TOKEN.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    format!(
        "POST /webhooks/twilio HTTP/1.1\r\nHost: calls.example.com\r\nContent-Type: application/x-www-form-urlencoded\r\nX-Twilio-Signature: {signature}\r\nUser-Agent: TwilioProxy/1.1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A kept HTTP/1.1 connection.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::with_capacity(8_192),
        }
    }

    /// Sends a webhook and checks that TwiML comes back.
    async fn call(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.unwrap();
        self.buffer.clear();
        loop {
            let n = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(n > 0, "the server closed the connection");
            if let Some(body) = complete_body(&self.buffer) {
                assert!(
                    self.buffer.starts_with(b"HTTP/1.1 200"),
                    "{}",
                    String::from_utf8_lossy(&self.buffer)
                );
                // Connected, or on hold where the load has made the dialer look dead.
                assert!(
                    body.ends_with(b"</Response>"),
                    "{}",
                    String::from_utf8_lossy(body)
                );
                return;
            }
        }
    }
}

/// The body of an answer, once all of it is there.
fn complete_body(answer: &[u8]) -> Option<&[u8]> {
    let head_end = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(answer.get(..head_end)?).unwrap();
    let length = head
        .lines()
        .find_map(|line| {
            line.split_once(':')
                .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        })
        .map(|(_, value)| value.trim().parse::<usize>().unwrap())
        .unwrap();
    answer.get(head_end..head_end + length)
}

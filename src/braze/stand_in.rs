//! A stand-in for Braze on a real socket: counts requests and does with them what the test says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What it does with a request.
#[derive(Clone)]
pub(super) enum Act {
    Say(String),
    SayBytes(Vec<u8>),
    /// Waits for a permit first, then writes this and closes.
    SayWhenLet(Arc<Semaphore>, String),
    Hang,
    /// Writes this, then nothing more.
    Stall(String),
    /// Writes this a byte at a time, without end.
    Drip(String),
    /// Writes this, then resets the connection.
    Reset(String),
}

pub(super) struct StandIn {
    pub(super) url: String,
    act: Arc<Mutex<Act>>,
    n_requests: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
    _serving: JoinSet<()>,
}

pub(super) fn answer(status: u16, headers: &str, body: &str) -> String {
    let n = body.len();
    format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {n}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}

impl StandIn {
    pub(super) async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let act = Arc::new(Mutex::new(act));
        let n_requests = Arc::new(AtomicUsize::new(0));
        let last = Arc::new(Mutex::new(String::new()));
        let mut serving = JoinSet::new();
        let (does, counts, keeps) = (Arc::clone(&act), Arc::clone(&n_requests), Arc::clone(&last));
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let (does, counts, keeps) =
                    (Arc::clone(&does), Arc::clone(&counts), Arc::clone(&keeps));
                connections.spawn(async move {
                    let request = read_request(&mut socket).await;
                    counts.fetch_add(1, Ordering::SeqCst);
                    *keeps.lock().unwrap() = request;
                    let act = does.lock().unwrap().clone();
                    perform(socket, act).await;
                });
            }
        });
        Self {
            url,
            act,
            n_requests,
            last,
            _serving: serving,
        }
    }

    pub(super) async fn saying(status: u16, body: &str) -> Self {
        Self::start(Act::Say(answer(status, "", body))).await
    }

    pub(super) fn now_does(&self, act: Act) {
        *self.act.lock().unwrap() = act;
    }

    pub(super) fn n_requests(&self) -> usize {
        self.n_requests.load(Ordering::SeqCst)
    }

    pub(super) fn last_request(&self) -> String {
        self.last.lock().unwrap().clone()
    }
}

async fn read_request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |n| n.parse().unwrap()) {
                return text;
            }
        }
        match socket.read(&mut buffer).await {
            Ok(n @ 1..) => request.extend_from_slice(&buffer[..n]),
            Ok(0) | Err(_) => return text,
        }
    }
}

/// The client may be gone at any time; that is its good right.
async fn perform(mut socket: TcpStream, act: Act) {
    match act {
        Act::Say(text) => drop(socket.write_all(text.as_bytes()).await),
        Act::SayBytes(bytes) => drop(socket.write_all(&bytes).await),
        Act::SayWhenLet(gate, text) => {
            gate.acquire().await.unwrap().forget();
            drop(socket.write_all(text.as_bytes()).await);
        }
        Act::Hang => std::future::pending().await,
        Act::Stall(text) => {
            drop(socket.write_all(text.as_bytes()).await);
            std::future::pending::<()>().await;
        }
        Act::Drip(text) => {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            for byte in text.bytes().chain(std::iter::repeat(b' ')) {
                tick.tick().await;
                if socket.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        }
        Act::Reset(text) => {
            drop(socket.write_all(text.as_bytes()).await);
            socket.set_zero_linger().unwrap();
        }
    }
}

//! Over real sockets: what a stranger can and cannot do to the listener.

use std::net::IpAddr;
use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::http::Request;
use axum::routing::{get, post};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsConnector;

use super::*;
use crate::clock::Clock;
use crate::lifecycle::{Signals, Verdict};

/// Long enough for a slow machine, short enough to fail a test in time.
const SOON: Duration = Duration::from_secs(10);

struct TestServer {
    address: SocketAddr,
    lifecycle: Lifecycle,
    entered: Arc<Notify>,
    leave: Arc<Notify>,
}

fn brief() -> Limits {
    Limits {
        head: Duration::from_millis(50),
        handshake: Duration::from_millis(50),
        body: Duration::from_millis(50),
        answer: Duration::from_millis(50),
        answer_bytes_a_second: u64::MAX,
        ..Limits::default()
    }
}

async fn open(limits: Limits) -> TestServer {
    open_with(limits, None).await
}

async fn open_with(limits: Limits, tls: Option<Arc<Certificates>>) -> TestServer {
    let entered = Arc::new(Notify::new());
    let leave = Arc::new(Notify::new());
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/who", get(who))
        .route("/webhooks/twilio", get(|| async { "a call" }))
        .route("/echo", post(echo))
        .route("/panic", get(panics))
        .route(
            "/endless",
            get(|| async { Body::from(vec![b'x'; 64 << 20]) }),
        )
        .route(
            "/slow",
            get({
                let (entered, leave) = (entered.clone(), leave.clone());
                || async move {
                    entered.notify_one();
                    leave.notified().await;
                    "done"
                }
            }),
        );
    let server = BoundListener::bind(([127, 0, 0, 1], 0).into())
        .await
        .unwrap();
    let address = server.local_addr().unwrap();
    let lifecycle = Lifecycle::new(SOON);
    lifecycle.spawn("http", server.run(app, tls, limits, lifecycle.clone()));
    TestServer {
        address,
        lifecycle,
        entered,
        leave,
    }
}

async fn who(
    Extension(PeerAddr(peer)): Extension<PeerAddr>,
    Extension(id): Extension<RequestId>,
) -> String {
    format!("{} {id}", peer.ip())
}

async fn panics() -> &'static str {
    panic!("in a handler")
}

/// Whether reading a body failed because the client was too slow: 408, as opposed to a broken body (400).
fn body_timed_out(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.any(<dyn std::error::Error>::is::<request::BodyTimedOut>)
}

async fn echo(request: Request<Body>) -> (hyper::StatusCode, Vec<u8>) {
    match request.into_body().collect().await {
        Ok(body) => (hyper::StatusCode::OK, body.to_bytes().to_vec()),
        Err(error) if body_timed_out(&error) => (hyper::StatusCode::REQUEST_TIMEOUT, vec![]),
        Err(_) => (hyper::StatusCode::BAD_REQUEST, vec![]),
    }
}

impl TestServer {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends the text and reads until the other side closes.
    async fn say(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await
    }
}

/// What comes until the connection is closed, gracefully or not; waiting in vain fails the test.
async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes));
    if let Err(error) = read.await.expect("the connection stayed open") {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer whose body ends in the given text, leaving the connection open.
async fn read_answer(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = String::new();
    let mut chunk = [0; 1024];
    while !text.ends_with(end) {
        let read = tokio::time::timeout(SOON, stream.read(&mut chunk));
        let n = read.await.expect("no answer").unwrap();
        assert_ne!(n, 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
    }
    text
}

const CLOSING: &str = "Host: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_request_is_answered_with_its_sender_and_an_id() {
    let server = open(Limits::default()).await;
    let answer = server.say(&format!("GET /who HTTP/1.1\r\n{CLOSING}")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let id = body.strip_prefix("127.0.0.1 ").unwrap();
    assert_eq!(id.len(), 32);
    assert!(head.contains(&format!("x-request-id: {id}")), "{head}");
    assert!(!head.to_lowercase().contains("\r\nserver:"), "{head}");
}

#[tokio::test]
async fn a_harmless_id_is_kept_and_another_is_replaced() {
    let server = open(Limits::default()).await;
    let ask = |id: &str| format!("GET /who HTTP/1.1\r\nX-Request-ID: {id}\r\n{CLOSING}");
    let kept = server.say(&ask("web-7")).await;
    assert!(kept.contains("x-request-id: web-7\r\n"), "{kept}");
    assert!(kept.ends_with(" web-7"), "{kept}");
    let replaced = server.say(&ask("a b<script>")).await;
    assert!(!replaced.contains("script"), "{replaced}");
    let missing = format!("GET /nothing HTTP/1.1\r\n{CLOSING}");
    assert!(server.say(&missing).await.contains("x-request-id: "));
}

#[tokio::test]
async fn half_a_request_head_is_closed_by_the_timer() {
    let server = open(brief()).await;
    assert_eq!(server.say("").await, "");
    assert_eq!(server.say("GET / HTTP/1.1\r\nHost: a\r\n").await, "");
}

#[tokio::test]
async fn half_a_second_head_is_closed_long_before_the_idle_time() {
    let server = open(brief()).await;
    let answers = server
        .say("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT")
        .await;
    assert!(answers.ends_with("hello"), "{answers}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_idle_time() {
    let idle = Duration::from_millis(50);
    let server = open(Limits {
        idle,
        ..Limits::default()
    })
    .await;
    let answer = server.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn waiting_connections_must_hurry_when_it_becomes_crowded() {
    let server = open(Limits {
        connections: 5,
        head_when_crowded: Duration::from_millis(50),
        idle_when_crowded: Duration::from_millis(50),
        head: SOON * 9,
        idle: SOON * 9,
        ..Limits::default()
    })
    .await;
    let mut idle = server.connect().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    idle.write_all(request.as_bytes()).await.unwrap();
    read_answer(&mut idle, "hello").await;
    let _others = [
        server.connect().await,
        server.connect().await,
        server.connect().await,
    ];
    assert_eq!(read_to_end(&mut idle).await, "");
}

#[tokio::test]
async fn who_connects_and_asks_nothing_gives_way_when_it_becomes_crowded() {
    let server = open(Limits {
        connections: 5,
        head_when_crowded: Duration::from_millis(50),
        idle_when_crowded: SOON * 9,
        head: SOON * 9,
        idle: SOON * 9,
        ..Limits::default()
    })
    .await;
    let mut silent = server.connect().await;
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut other = server.connect().await;
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        other.write_all(request.as_bytes()).await.unwrap();
        read_answer(&mut other, "hello").await;
        others.push(other);
    }
    assert_eq!(read_to_end(&mut silent).await, "");
}

#[tokio::test]
async fn a_slow_body_is_cut() {
    let server = open(brief()).await;
    for head in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let request = format!("POST /echo HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n");
        let answer = server.say(&request).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut() {
    let server = open(brief()).await;
    let mut stream = server.connect().await;
    let request = "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let running = server.lifecycle.clone();
    let gone = async {
        // The listener itself is the one task that stays.
        while running.running() != 1 {
            tokio::task::yield_now().await;
        }
    };
    stream.readable().await.unwrap();
    tokio::time::timeout(SOON, gone).await.expect("still held");
}

#[tokio::test]
async fn a_client_that_takes_a_large_answer_bit_by_bit_is_cut_before_its_end() {
    let server = open(Limits {
        answer: Duration::from_millis(200),
        ..brief()
    })
    .await;
    let mut stream = server.connect().await;
    let request = "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut taken = 0;
    // Far longer than the limit for all of it, and far shorter for what makes room in the buffers.
    let mut bit = vec![0; 1024 * 1024];
    let takes = async {
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            match stream.read(&mut bit).await {
                Ok(n) if n > 0 => taken += n,
                _ => return,
            }
        }
    };
    tokio::time::timeout(SOON * 3, takes).await.unwrap();
    assert!(taken < 64 << 20, "all of it was taken");
}

#[tokio::test]
async fn who_reads_slowly_gives_way_when_it_becomes_crowded() {
    let server = open(Limits {
        connections: 5,
        answer: SOON * 9,
        answer_when_crowded: Duration::from_millis(50),
        head_when_crowded: SOON * 9,
        idle_when_crowded: SOON * 9,
        ..Limits::default()
    })
    .await;
    let mut slow = server.connect().await;
    let request = "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n";
    slow.write_all(request.as_bytes()).await.unwrap();
    slow.readable().await.unwrap();
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut other = server.connect().await;
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        other.write_all(request.as_bytes()).await.unwrap();
        // From its answer on it is one of those who have come.
        read_answer(&mut other, "hello").await;
        others.push(other);
    }
    let gone = async {
        // The listener and the three others are the tasks that stay.
        while server.lifecycle.running() != 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("still held");
}

#[tokio::test]
async fn the_last_fifth_of_the_connections_is_for_webhooks() {
    let server = open(Limits {
        connections: 5,
        head_when_crowded: SOON * 9,
        idle_when_crowded: SOON * 9,
        ..Limits::default()
    })
    .await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut kept = Vec::new();
    for _ in 0..4 {
        let mut stream = server.connect().await;
        stream.write_all(request("/").as_bytes()).await.unwrap();
        read_answer(&mut stream, "hello").await;
        kept.push(stream);
    }
    let refused = server.say(&request("/")).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("connection: close"), "{refused}");
    let mut twilio = server.connect().await;
    for _ in 0..2 {
        let webhook = request("/webhooks/twilio");
        twilio.write_all(webhook.as_bytes()).await.unwrap();
        read_answer(&mut twilio, "a call").await;
    }
    kept[0].write_all(request("/").as_bytes()).await.unwrap();
    read_answer(&mut kept[0], "hello").await;
}

#[tokio::test]
async fn who_comes_when_all_places_are_taken_is_served_when_somebody_leaves() {
    let server = open(Limits {
        connections: 5,
        head_when_crowded: SOON,
        idle_when_crowded: SOON,
        ..Limits::default()
    })
    .await;
    let webhook = "GET /webhooks/twilio HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut taken = Vec::new();
    for _ in 0..5 {
        let mut stream = server.connect().await;
        stream.write_all(webhook.as_bytes()).await.unwrap();
        read_answer(&mut stream, "a call").await;
        taken.push(stream);
    }
    let mut next = server.connect().await;
    next.write_all(webhook.as_bytes()).await.unwrap();
    // The listener has accepted it, and has no place for it.
    tokio::task::yield_now().await;
    taken.pop();
    read_answer(&mut next, "a call").await;
}

#[tokio::test]
async fn requests_of_one_connection_are_answered_in_order() {
    let server = open(Limits::default()).await;
    let mut stream = server.connect().await;
    for _ in 0..2 {
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        read_answer(&mut stream, "hello").await;
    }
    let pipelined = format!(
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n{CLOSING}"
    );
    stream.write_all(pipelined.as_bytes()).await.unwrap();
    let answers = read_to_end(&mut stream).await;
    let (first, second) = answers.split_once("abcHTTP/1.1 200").unwrap();
    assert!(first.starts_with("HTTP/1.1 200"), "{answers}");
    assert!(second.ends_with("hello"), "{answers}");
}

#[tokio::test]
async fn a_head_too_large_or_too_long_is_refused() {
    let server = open(Limits::default()).await;
    let large = format!("X: {}\r\n", "y".repeat(20_000));
    let many = "X: y\r\n".repeat(70);
    for headers in [large, many] {
        let request = format!("GET / HTTP/1.1\r\n{headers}{CLOSING}");
        let mut stream = server.connect().await;
        // The answer may come, and the connection end, while we are still sending.
        drop(stream.write_all(request.as_bytes()).await);
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn a_length_beside_an_encoding_is_refused_and_closed() {
    let server = open(Limits::default()).await;
    let length = "Content-Length: 5\r\n";
    let encoding = "Transfer-Encoding: chunked\r\n";
    for headers in [format!("{length}{encoding}"), format!("{encoding}{length}")] {
        let smuggled = "0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let request = format!("POST /echo HTTP/1.1\r\nHost: a\r\n{headers}\r\n{smuggled}");
        let answer = server.say(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_chunked_body_alone_is_fine_and_ends_the_connection() {
    let server = open(Limits::default()).await;
    let answer = server
        .say("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("abc"), "{answer}");
}

#[tokio::test]
async fn an_address_over_its_share_is_closed_at_once() {
    let server = open(Limits {
        connections_per_address: 1,
        uncapped: vec![],
        ..Limits::default()
    })
    .await;
    let mut first = server.connect().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    first.write_all(request.as_bytes()).await.unwrap();
    read_answer(&mut first, "hello").await;
    assert_eq!(server.say("").await, "");
    first.write_all(request.as_bytes()).await.unwrap();
    read_answer(&mut first, "hello").await;
}

#[tokio::test]
async fn a_panic_in_a_handler_is_a_500_and_others_go_on() {
    let server = open(Limits::default()).await;
    let answer = server.say("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(answer.contains("x-request-id: "), "{answer}");
    assert!(answer.contains("InternalServerError"), "{answer}");
    let next = server.say(&format!("GET / HTTP/1.1\r\n{CLOSING}")).await;
    assert!(next.ends_with("hello"), "{next}");
    assert_eq!(server.lifecycle.failed(), None);
}

#[tokio::test]
async fn shutdown_finishes_a_running_request_and_refuses_new_ones() {
    let server = open(Limits {
        head_when_crowded: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    let mut idle = server.connect().await;
    let mut stream = server.connect().await;
    let request = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    server.entered.notified().await;
    let (_sender, receiver) = mpsc::channel(1);
    server.lifecycle.stop();
    let stopped = server
        .lifecycle
        .run_until_stopped(Signals::from_channel(receiver));
    let clients = async {
        assert_eq!(read_to_end(&mut idle).await, "");
        let refused = TcpStream::connect(server.address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        server.leave.notify_one();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.ends_with("done"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    };
    let (verdict, ()) = tokio::join!(stopped, clients);
    assert_eq!(verdict, Verdict::Clean);
}

#[tokio::test]
async fn who_connected_before_shutdown_is_still_answered() {
    let server = open(Limits {
        head_when_crowded: SOON,
        ..Limits::default()
    })
    .await;
    // Not a single await: the listener has seen neither of them when it is told to stop.
    let mut streams = Vec::new();
    for _ in 0..2 {
        let stream = std::net::TcpStream::connect(server.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        streams.push(TcpStream::from_std(stream).unwrap());
    }
    server.lifecycle.stop();
    for stream in &mut streams {
        tokio::task::yield_now().await;
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_to_end(stream).await;
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
    }
}

struct Issued {
    _directory: tempfile::TempDir,
    certificate: PathBuf,
    private_key: PathBuf,
}

impl Issued {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            certificate: directory.path().join("fullchain.pem"),
            private_key: directory.path().join("privkey.pem"),
            _directory: directory,
        }
    }

    /// Writes a new certificate and returns a client that trusts this one only.
    fn issue(&self) -> TlsConnector {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["calls.test".to_owned()];
        let params = rcgen::CertificateParams::new(names).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(&self.certificate, certificate.pem()).unwrap();
        std::fs::write(&self.private_key, key.serialize_pem()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    fn load(&self) -> Arc<Certificates> {
        Arc::new(Certificates::load(&self.certificate, &self.private_key).unwrap())
    }
}

impl TestServer {
    async fn say_securely(&self, client: &TlsConnector, text: &str) -> io::Result<String> {
        let name = "calls.test".try_into().unwrap();
        let mut stream = client.connect(name, self.connect().await).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        stream.write_all(text.as_bytes()).await?;
        Ok(read_to_end(&mut stream).await)
    }
}

#[tokio::test]
async fn a_reload_swaps_the_certificate_and_a_bad_one_keeps_the_old() {
    let files = Issued::new();
    let first = files.issue();
    let certificates = files.load();
    let server = open_with(Limits::default(), Some(certificates.clone())).await;
    let request = format!("GET /who HTTP/1.1\r\n{CLOSING}");
    let answer = server.say_securely(&first, &request).await.unwrap();
    assert!(answer.contains("127.0.0.1 "), "{answer}");

    let now = Clock::system().now();
    let second = files.issue();
    assert!(certificates.reload_if_changed(now).unwrap());
    let refused = server.say_securely(&first, &request).await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
    server.say_securely(&second, &request).await.unwrap();

    std::fs::write(&files.private_key, "junk").unwrap();
    certificates.reload_if_changed(now).unwrap_err();
    let answer = server.say_securely(&second, &request).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_stalled_or_senseless_handshake_is_closed() {
    let files = Issued::new();
    files.issue();
    let server = open_with(brief(), Some(files.load())).await;
    assert_eq!(server.say("").await, "");
    assert_eq!(server.say("\u{16}\u{3}\u{1}").await, "");
    let alert = server.say("GET / HTTP/1.1\r\n\r\n").await;
    assert!(!alert.contains("HTTP"), "{alert}");
}

#[tokio::test]
async fn loopback_is_exempt_by_default_and_documented_numbers_hold() {
    let limits = Limits::default();
    let loopback: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
    assert!(crate::http::client_address::is_in(
        loopback,
        &limits.uncapped
    ));
    assert_eq!(limits.connections, 10_000);
    assert_eq!((limits.head_bytes, limits.headers), (16_384, 64));
}

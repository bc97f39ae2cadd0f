//! Connections against peers on real sockets that fail in the ways that a pool does not see.

use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

/// Longer than anything here takes, however slow the machine.
const GENEROUS: Duration = Duration::from_mins(1);
const HOST: &str = "service.test";

/// What leads the name to an address.
#[derive(Clone)]
struct Zone(Arc<Mutex<SocketAddr>>);

impl Zone {
    fn of(address: SocketAddr) -> Self {
        Self(Arc::new(Mutex::new(address)))
    }

    fn moves_to(&self, address: SocketAddr) {
        *self.0.lock().unwrap() = address;
    }
}

impl Resolve for Zone {
    fn resolve(&self, _: Name) -> Resolving {
        let address = *self.0.lock().unwrap();
        let addresses: Addrs = Box::new(std::iter::once(address));
        Box::pin(async move { Ok(addresses) })
    }
}

fn connections(zone: &Zone, is_http2: bool, clock: &Clock) -> Connections {
    drop(rustls::crypto::ring::default_provider().install_default());
    let zone = zone.clone();
    let make = move || {
        let client = Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .dns_resolver(Arc::new(zone.clone()));
        let client = if is_http2 {
            client.http2_prior_knowledge()
        } else {
            client
        };
        pinging(client).build()
    };
    Connections::new(Arc::new(make), clock.clone()).unwrap()
}

fn stopped() -> Clock {
    Clock::stopped(Timestamp::UNIX_EPOCH)
}

async fn send(connections: &Connections, again: Again<'_>) -> reqwest::Result<u16> {
    let request = |client: &Client| client.post(format!("http://{HOST}/")).body("{}");
    let sent = timeout(GENEROUS, connections.send(request, again));
    let response = sent.await.expect("neither an answer nor an error")?;
    let status = response.status().as_u16();
    response.bytes().await?;
    Ok(status)
}

/// What a peer does on each connection, by its number from 1.
struct Peer {
    address: SocketAddr,
    n_requests: Arc<AtomicUsize>,
    n_connections: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Peer {
    async fn start<F>(
        serve: impl Fn(TcpStream, usize, Arc<AtomicUsize>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Option<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let n_requests = Arc::new(AtomicUsize::new(0));
        let n_connections = Arc::new(AtomicUsize::new(0));
        let (requests, number) = (n_requests.clone(), n_connections.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = number.fetch_add(1, Ordering::SeqCst) + 1;
                let served = serve(stream, number, requests.clone());
                connections.spawn(async move {
                    served.await;
                });
            }
        });
        Self {
            address,
            n_requests,
            n_connections,
            _serving: serving,
        }
    }

    fn n_requests(&self) -> usize {
        self.n_requests.load(Ordering::SeqCst)
    }

    fn n_connections(&self) -> usize {
        self.n_connections.load(Ordering::SeqCst)
    }

    /// HTTP/1.1: answers with this status.
    async fn answering(status: u16) -> Self {
        Self::start(move |stream, _, n| http1(stream, n, usize::MAX, status)).await
    }

    /// HTTP/1.1: resets the first connection when a request comes after so many, and answers all others.
    async fn resetting_after(n_answers: usize) -> Self {
        Self::start(move |stream, number, n| {
            let n_answers = if number == 1 { n_answers } else { usize::MAX };
            http1(stream, n, n_answers, 200)
        })
        .await
    }
}

async fn http1(
    mut stream: TcpStream,
    n_requests: Arc<AtomicUsize>,
    n_answers: usize,
    status: u16,
) -> Option<()> {
    for answered in 0.. {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n{}") {
            if stream.read_buf(&mut request).await.ok()? == 0 {
                return None;
            }
        }
        n_requests.fetch_add(1, Ordering::SeqCst);
        if answered == n_answers {
            stream.set_zero_linger().ok()?;
            return None;
        }
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
    None
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// HTTP/2, frame by frame: answers so many requests with 200. Then it says goodbye to all that came later and closes, or falls silent.
async fn http2(
    mut stream: TcpStream,
    n_requests: Arc<AtomicUsize>,
    n_answers: usize,
    then_silent: bool,
) -> Option<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.ok()?;
    stream.write_all(&frame(4, 0, 0, &[])).await.ok()?;
    let mut answered = 0;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.ok()?;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], head[4]) {
            (4, 0) => stream.write_all(&frame(4, 1, 0, &[])).await.ok()?,
            (6, 0) => stream.write_all(&frame(6, 1, 0, &payload)).await.ok()?,
            // The end of a request's body.
            (0, flags) if flags & 1 == 1 => {
                n_requests.fetch_add(1, Ordering::SeqCst);
                answered += 1;
                let head = frame(1, 4, id, &[0x88]);
                let body = frame(0, 1, id, b"{}");
                stream.write_all(&[head, body].concat()).await.ok()?;
                if answered < n_answers {
                    continue;
                }
                if then_silent {
                    return std::future::pending().await;
                }
                // Data may not overtake the close: everything was answered that the goodbye names.
                let goodbye = [id.to_be_bytes(), 0_u32.to_be_bytes()].concat();
                stream.write_all(&frame(7, 0, 0, &goodbye)).await.ok()?;
                stream.shutdown().await.ok()?;
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.ok()?;
                return None;
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_kept_connection_that_its_peer_resets_is_replaced_within_the_same_request() {
    let peer = Peer::resetting_after(1).await;
    let connections = connections(&Zone::of(peer.address), false, &stopped());
    assert_eq!(send(&connections, Again::Always).await.unwrap(), 200);
    assert_eq!(send(&connections, Again::Always).await.unwrap(), 200);
    assert_eq!((peer.n_requests(), peer.n_connections()), (3, 2));
}

#[tokio::test]
async fn what_may_have_taken_effect_is_not_sent_again() {
    let peer = Peer::resetting_after(1).await;
    let connections = connections(&Zone::of(peer.address), false, &stopped());
    assert_eq!(send(&connections, Again::Always).await.unwrap(), 200);
    let has_left = || true;
    send(&connections, Again::Unless(&has_left))
        .await
        .unwrap_err();
    assert_eq!(peer.n_requests(), 2);
}

#[tokio::test]
async fn a_new_connection_that_is_reset_is_a_failure_of_the_service() {
    let peer = Peer::resetting_after(0).await;
    let connections = connections(&Zone::of(peer.address), false, &stopped());
    send(&connections, Again::Always).await.unwrap_err();
    assert_eq!((peer.n_requests(), peer.n_connections()), (1, 1));
}

#[tokio::test]
async fn a_peer_that_fails_is_asked_over_a_new_connection_once_the_old_one_is_not_new() {
    let peer = Peer::answering(503).await;
    let clock = stopped();
    let connections = connections(&Zone::of(peer.address), false, &clock);
    for (passes, n_connections) in [(0, 1), (0, 1), (1, 2), (0, 2), (1, 3)] {
        clock.advance(Duration::from_secs(passes));
        connections.answered(503);
        assert_eq!(send(&connections, Again::Always).await.unwrap(), 503);
        assert_eq!(peer.n_connections(), n_connections);
    }
    clock.advance(Duration::from_secs(5));
    connections.answered(200);
    connections.answered(422);
    send(&connections, Again::Always).await.unwrap();
    assert_eq!(peer.n_connections(), 3, "it is well");
}

#[tokio::test]
async fn a_name_that_moves_is_followed_although_the_old_address_still_answers() {
    for status in [200, 404, 503] {
        let (old, new) = (Peer::answering(status).await, Peer::answering(201).await);
        let clock = stopped();
        let zone = Zone::of(old.address);
        let connections = connections(&zone, false, &clock);
        assert_eq!(send(&connections, Again::Always).await.unwrap(), status);
        zone.moves_to(new.address);
        assert_eq!(send(&connections, Again::Always).await.unwrap(), status);
        clock.advance(LIFE);
        assert_eq!(send(&connections, Again::Always).await.unwrap(), 201);
    }
}

#[tokio::test]
async fn a_silent_connection_is_replaced_after_the_first_request_that_gets_no_answer() {
    let peer = Peer::start(|stream, number, n| {
        http2(stream, n, if number == 1 { 1 } else { usize::MAX }, true)
    })
    .await;
    let clock = stopped();
    let connections = connections(&Zone::of(peer.address), true, &clock);
    assert_eq!(send(&connections, Again::Always).await.unwrap(), 200);
    clock.advance(YOUNG);
    let unanswered = send(&connections, Again::Always);
    let patience = Duration::from_millis(100);
    timeout(patience, unanswered).await.unwrap_err();
    connections.failed();
    assert_eq!(send(&connections, Again::Always).await.unwrap(), 200);
    assert_eq!(peer.n_connections(), 2);
}

/// Nobody has to fail first: a PING that is not answered closes the connection, and a request that waits on it is sent over a new one.
#[tokio::test]
async fn a_silent_connection_is_found_out_by_itself() {
    let peer = Peer::start(|stream, number, n| {
        http2(stream, n, if number == 1 { 1 } else { usize::MAX }, true)
    })
    .await;
    let connections = connections(&Zone::of(peer.address), true, &stopped());
    assert_eq!(send(&connections, Again::Always).await.unwrap(), 200);
    assert_eq!(send(&connections, Again::Always).await.unwrap(), 200);
    assert_eq!(peer.n_connections(), 2);
}

#[tokio::test]
async fn no_request_is_lost_where_the_peer_says_goodbye_after_every_seventh() {
    const AT_A_TIME: usize = 8;
    const ROUNDS: usize = 30;
    let peer = Peer::start(|stream, _, n| http2(stream, n, 7, false)).await;
    let connections = connections(&Zone::of(peer.address), true, &Clock::system());
    let mut callers = JoinSet::new();
    for caller in 0..AT_A_TIME {
        let connections = connections.clone();
        callers.spawn(async move {
            let has_left = || true;
            for round in 0..ROUNDS {
                let again = if caller % 2 == 0 {
                    Again::Always
                } else {
                    Again::Unless(&has_left)
                };
                let sent = send(&connections, again).await;
                assert_eq!(sent.expect("a request is lost"), 200, "round {round}");
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    assert_eq!(
        peer.n_requests(),
        AT_A_TIME * ROUNDS,
        "none is answered twice"
    );
    assert!(peer.n_connections() >= AT_A_TIME * ROUNDS / 7);
}

mod content {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn read(coding: &str, body: Vec<u8>, limit: usize) -> Result<Vec<u8>, String> {
        let response = axum::http::Response::builder()
            .header("content-encoding", coding)
            .body(body)
            .unwrap();
        let whole = Content::of(response.into(), limit).whole().await;
        whole.map_err(|unreadable| unreadable.to_string())
    }

    #[tokio::test]
    async fn packed_answers_are_unpacked_and_plain_ones_are_left_alone() {
        let text = br#"{"users":[]}"#.to_vec();
        for coding in ["gzip", "x-gzip", " GZIP "] {
            assert_eq!(read(coding, gzip(&text), 100).await, Ok(text.clone()));
        }
        for coding in ["", "identity"] {
            assert_eq!(read(coding, text.clone(), 100).await, Ok(text.clone()));
        }
        let two = [gzip(b"ab"), gzip(b"cd")].concat();
        assert_eq!(read("gzip", two, 100).await, Ok(b"abcd".to_vec()));
        assert_eq!(read("gzip", Vec::new(), 100).await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn neither_the_packed_nor_the_unpacked_answer_may_be_longer_than_the_limit() {
        let zeros = vec![0; 100_000];
        let packed = gzip(&zeros);
        assert!(packed.len() < 1_000);
        let too_long = Err("the answer is longer than 1 KiB".to_owned());
        assert_eq!(read("gzip", packed.clone(), 1_024).await, too_long);
        assert_eq!(read("gzip", packed, 100_000).await, Ok(zeros));
        let nothing = gzip(b"").repeat(100);
        assert_eq!(read("gzip", nothing, 1_024).await, too_long);
        assert_eq!(read("", vec![0; 1_025], 1_024).await, too_long);
        assert_eq!(read("", vec![0; 1_024], 1_024).await, Ok(vec![0; 1_024]));
    }

    #[tokio::test]
    async fn what_cannot_be_unpacked_is_said_to_be() {
        let packed = gzip(b"{\"users\":[]}");
        let cut = packed[..packed.len() - 6].to_vec();
        for (coding, body) in [
            ("gzip", b"{}".to_vec()),
            ("gzip", cut),
            ("br", b"{}".to_vec()),
            ("gzip, gzip", packed),
        ] {
            let expected = Err("the answer is packed in a way that cannot be read".to_owned());
            assert_eq!(read(coding, body, 1_000).await, expected, "{coding}");
        }
    }
}

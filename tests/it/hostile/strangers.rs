//! What strangers may cost: however often they ask, genuine calls are answered, none is turned away, and the log does not grow with them.

use std::net::SocketAddr;

use serde_json::{Value, json};
use switchboard::audit::{Access, Event};
use switchboard::clock::Clock;
use switchboard::http::keys::DrawnKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::wire::Request;
use crate::world::{DIALFIRE_LINE, HOT, PUSH_SECRET, Settings, World, dialled};

struct House {
    world: World,
    admin: String,
    viewer: String,
}

impl House {
    /// With two keys, behind a proxy that says where everybody comes from.
    async fn new() -> Self {
        Self::at(Clock::system()).await
    }

    async fn at(clock: Clock) -> Self {
        let (admin, viewer) = (DrawnKey::draw().unwrap(), DrawnKey::draw().unwrap());
        let key = |name: &str, role: &str, drawn: &DrawnKey| {
            let hash = drawn.hash.to_hex();
            format!("[[auth.keys]]\nname = \"{name}\"\nrole = \"{role}\"\nhash = \"{hash}\"\n")
        };
        let sections = key("ops", "admin", &admin) + &key("desk", "viewer", &viewer);
        let world = World::with(Settings {
            server: "trusted_proxies = [\"127.0.0.0/8\"]".to_owned(),
            sections,
            clock,
            ..Settings::default()
        })
        .await;
        Self {
            world,
            admin: admin.key,
            viewer: viewer.key,
        }
    }

    fn to(&self) -> SocketAddr {
        self.world.running().address
    }

    async fn asked(&self, request: Request) -> u16 {
        request.send(self.to()).await.status
    }

    async fn log_in(&self, source: &str, key: &str) -> u16 {
        let body = json!({ "key": key }).to_string();
        let request = Request::new("POST", "/api/v1/session").header("X-Forwarded-For", source);
        self.asked(request.body(body.as_bytes())).await
    }

    /// A whole call that nobody is in the way of.
    async fn calls(&self, n: usize) {
        for _ in 0..n {
            let result = self.world.call(HOT).await;
            assert_eq!(dialled(&result), [DIALFIRE_LINE]);
        }
        assert_eq!(self.world.running().calls_shed(), 0);
    }

    /// Who was refused, as written down: source, how often, and for what.
    async fn refused(&self) -> Vec<(String, u64, Value)> {
        let records = self.world.running().store.records(0, 10_000).await.unwrap();
        let refused = records.iter().filter_map(|record| {
            let Event::Accessed(Access::Refused {
                source,
                times,
                reasons,
                ..
            }) = record.event().unwrap()
            else {
                return None;
            };
            Some((source, times, json!(reasons)))
        });
        refused.collect()
    }
}

/// Connections that say what they want to send and send nothing of it.
async fn silent(to: SocketAddr, n: usize, head: &Request) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..n {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(&head.head()).await.unwrap();
        streams.push(stream);
    }
    streams
}

#[tokio::test]
async fn wrong_keys_of_a_whole_network_leave_one_record_a_minute_and_right_ones_pass() {
    // However long it takes, it is one moment.
    let clock = Clock::stopped("2026-11-26T12:00:00Z".parse().unwrap());
    let mut house = House::at(clock).await;
    let wrong = DrawnKey::draw().unwrap().key;
    let mut statuses = Vec::new();
    for n in 0..60 {
        let source = format!("2001:db8:7:{n:x}::1");
        statuses.push(house.log_in(&source, &wrong).await);
    }
    assert_eq!(statuses[..10], [401; 10]);
    assert_eq!(statuses[10..], [429; 50]);
    assert_eq!(house.log_in("2001:db8:7:1::1", &house.admin).await, 204);
    assert_eq!(house.log_in("198.51.100.1", &wrong).await, 401);
    house.world.stop().await;
    house.world.start().await;
    let refused = house.refused().await;
    let of_network = refused
        .iter()
        .filter(|(source, ..)| source.starts_with("2001:db8:7:"));
    let times: Vec<u64> = of_network.map(|(_, times, _)| *times).collect();
    assert_eq!(times, [1, 59], "the first, and the others at the end");
    let single = ("198.51.100.1".to_owned(), 1, json!({ "log_in": 1 }));
    assert!(refused.contains(&single), "{refused:?}");
    assert_eq!(refused[1].0, "198.51.100.1");
    assert_eq!(refused[2].0, "2001:db8:7::/48");
}

#[tokio::test]
async fn who_is_refused_at_whatever_door_leaves_a_record_of_source_and_reason() {
    let house = House::new().await;
    let from = |request: Request, source: &str| request.header("X-Forwarded-For", source);
    let get = |path: &str| Request::new("GET", path);
    let cases = [
        (
            get("/api/v1/dialers").header("X-API-Key", "wrong"),
            401,
            "unknown",
        ),
        (
            Request::new("POST", "/api/v1/dialers/zendesk/drain")
                .header("X-API-Key", &house.viewer),
            403,
            "role",
        ),
        (
            Request::new("POST", "/webhooks/braze")
                .header("Authorization", &format!("Bearer not-{PUSH_SECRET}"))
                .body(b"{}"),
            401,
            "braze_secret",
        ),
        (Request::form("/login", b"key=wrong"), 401, "log_in"),
        (
            Request::form("/login", b"key=wrong").header("Origin", "https://evil.example"),
            403,
            "other_site",
        ),
    ];
    for (n, (request, status, reason)) in cases.into_iter().enumerate() {
        let source = format!("198.51.{n}.9");
        assert_eq!(
            house.asked(from(request, &source)).await,
            status,
            "{reason}"
        );
        let last = house.refused().await.pop().unwrap();
        assert_eq!(last, (source, 1, json!({ reason: 1 })));
    }
    // Without a key nobody was refused: it is how a browser learns that it has to sign in.
    let before = house.refused().await.len();
    let nobody = from(get("/api/v1/dialers"), "198.51.99.9");
    assert_eq!(house.asked(nobody).await, 401);
    assert_eq!(house.refused().await.len(), before);
}

#[tokio::test]
async fn who_asks_for_the_same_file_again_and_again_costs_its_bytes_and_no_call() {
    let house = House::new().await;
    let bundle = || {
        let request = Request::new("GET", "/docs/swagger-ui-bundle.js");
        request.header("Accept-Encoding", "gzip")
    };
    let first = bundle().send(house.to()).await;
    assert_eq!(first.header("Content-Encoding"), Some("gzip"));
    let tag = first.header("ETag").unwrap();
    let again = bundle().header("If-None-Match", tag).send(house.to()).await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let mut strangers = JoinSet::new();
    for _ in 0..4 {
        let (request, to) = (bundle(), house.to());
        let expected = first.body.clone();
        strangers.spawn(async move {
            for _ in 0..10 {
                assert!(request.send(to).await.body == expected);
            }
        });
    }
    house.calls(10).await;
    assert_eq!(strangers.join_all().await.len(), 4);
}

#[tokio::test]
async fn nothing_is_compressed_for_strangers_but_files_that_are_compressed_once() {
    let house = House::new().await;
    for path in [
        "/api/v1/dialers",
        "/api/v1/nothing",
        "/login",
        "/health",
        "/nothing",
    ] {
        let request = Request::new("GET", path).header("Accept-Encoding", "gzip");
        let reply = request.send(house.to()).await;
        assert_eq!(reply.header("Content-Encoding"), None, "{path}");
    }
    for path in [
        "/openapi.json",
        "/docs",
        "/assets/app.css",
        "/assets/js/app.js",
    ] {
        let request = Request::new("GET", path).header("Accept-Encoding", "gzip");
        let reply = request.send(house.to()).await;
        assert_eq!(
            (reply.status, reply.header("Content-Encoding")),
            (200, Some("gzip")),
            "{path}"
        );
        assert!(reply.header("ETag").is_some(), "{path}");
    }
}

#[tokio::test]
async fn who_sends_a_body_slowly_is_in_nobodys_way() {
    let house = House::new().await;
    let post = |path: &str| Request::new("POST", path).header("Content-Length", "100");
    let explain = post("/api/v1/routing/explain");
    let heads = [
        explain.clone(),
        post("/api/v1/session"),
        post("/login"),
        // With a key, which is right: a place is for who has sent all.
        explain.header("X-API-Key", &house.viewer),
    ];
    let mut held = Vec::new();
    for head in &heads {
        held.extend(silent(house.to(), 24, head).await);
    }
    let first = &mut held[0];
    let mut answer = [0; 12];
    first.read_exact(&mut answer).await.unwrap();
    assert_eq!(
        &answer, b"HTTP/1.1 401",
        "without a key nothing is waited for"
    );
    for _ in 0..10 {
        let request = Request::new("GET", "/api/v1/dialers").header("X-API-Key", &house.viewer);
        assert_eq!(house.asked(request).await, 200);
        assert_eq!(house.log_in("192.0.2.1", &house.admin).await, 204);
    }
    house.calls(5).await;
    drop(held);
}

#[tokio::test]
async fn who_reads_large_answers_slowly_is_in_no_callers_way() {
    let house = House::new().await;
    let bundle = Request::new("GET", "/docs/swagger-ui-bundle.js");
    let held = silent(house.to(), 40, &bundle).await;
    for stream in &held {
        stream.readable().await.unwrap();
    }
    house.calls(10).await;
    drop(held);
}

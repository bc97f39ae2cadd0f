//! Browsers, as they come: through a proxy, with cookies, with a stream open all day.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use jiff::SignedDuration;
use reqwest::header::{ACCEPT, COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use reqwest::{Method, Response, StatusCode};
use serde_json::json;
use switchboard::clock::Clock;
use switchboard::http::keys::DrawnKey;

use crate::world::{HOT, Settings, World};

/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_mins(1);

/// The appliance with one key, and a client that follows no redirect.
struct House {
    world: World,
    client: reqwest::Client,
    key: String,
}

fn key_lines(drawn: &DrawnKey) -> String {
    let hash = drawn.hash.to_hex();
    format!("[[auth.keys]]\nname = \"ops\"\nrole = \"admin\"\nhash = \"{hash}\"\n")
}

impl House {
    async fn with(settings: Settings) -> Self {
        let drawn = DrawnKey::draw().unwrap();
        let sections = key_lines(&drawn);
        let world = World::with(Settings {
            sections,
            ..settings
        })
        .await;
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            world,
            client,
            key: drawn.key,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.world.running().address)
    }

    async fn ask(&self, method: Method, path: &str, headers: &HeaderMap) -> Response {
        let request = self.client.request(method, self.url(path));
        request.headers(headers.clone()).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path, &HeaderMap::new()).await
    }

    /// Sends the form of the page to sign in, as from a page of this origin.
    async fn sign_in(&self, next: &str, origin: &str) -> Response {
        let form = format!("key={}&next={}", self.key, next.replace('/', "%2F"));
        let request = self.client.post(self.url("/login"));
        let request = request.header("Origin", origin);
        let kind = "application/x-www-form-urlencoded";
        let request = request.header("Content-Type", kind).body(form);
        request.send().await.unwrap()
    }

    /// What a browser sends of the session that begins.
    async fn session(&self) -> HeaderMap {
        let answer = self.sign_in("/", &self.url("")).await;
        let set = answer.headers()[SET_COOKIE].to_str().unwrap();
        sent(set.split(';').next().unwrap())
    }

    /// An event stream of the session.
    async fn stream(&self, session: &HeaderMap) -> Response {
        let mut headers = session.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        let stream = self.ask(Method::GET, "/api/v1/events", &headers).await;
        assert_eq!(stream.status(), StatusCode::OK);
        stream
    }

    /// Waits for the end of the stream while calls come all the time.
    async fn ends_amid_calls(&self, mut stream: Response) {
        let ends = async { while let Ok(Some(_)) = stream.chunk().await {} };
        let calls = async {
            loop {
                self.world.call(HOT).await;
            }
        };
        let first = async {
            tokio::select! {
                () = ends => {}
                () = calls => {}
            }
        };
        let ended = tokio::time::timeout(PATIENCE, first).await;
        assert!(ended.is_ok(), "the stream goes on");
    }
}

fn sent(cookie: &str) -> HeaderMap {
    let cookie = HeaderValue::from_str(cookie).unwrap();
    [(COOKIE, cookie)].into_iter().collect()
}

fn origin(origin: &str, session: &HeaderMap) -> HeaderMap {
    let mut headers = session.clone();
    headers.insert("origin", HeaderValue::from_str(origin).unwrap());
    headers
}

#[tokio::test]
async fn the_cookie_is_as_safe_as_the_public_address_whatever_the_last_hop_is() {
    let cases = [
        (
            "https://calls.example.com",
            "__Host-switchboard_session",
            true,
        ),
        ("http://127.0.0.1", "switchboard_session", false),
    ];
    for (public_url, name, is_secure) in cases {
        let house = House::with(Settings {
            public_url: public_url.to_owned(),
            ..Settings::default()
        })
        .await;
        let answer = house.sign_in("/", public_url).await;
        let set = answer.headers()[SET_COOKIE].to_str().unwrap();
        assert!(set.starts_with(&format!("{name}=")), "{set}");
        assert_eq!(set.contains("; Secure"), is_secure, "{set}");
        let is_told = answer.headers().contains_key("strict-transport-security");
        assert_eq!(is_told, is_secure, "{public_url}");
        let pair = set.split(';').next().unwrap();
        let token = pair.split_once('=').unwrap().1;
        for sent_as in ["__Host-switchboard_session", "switchboard_session"] {
            let cookie = sent(&format!("{sent_as}={token}"));
            let answer = house.ask(Method::GET, "/api/v1/dialers", &cookie).await;
            let opens = answer.status() == StatusCode::OK;
            assert_eq!(opens, sent_as == name, "{sent_as} at {public_url}");
        }
    }
}

#[tokio::test]
async fn behind_a_proxy_that_writes_its_own_host_people_sign_in_and_act_and_other_sites_do_not() {
    let house = House::with(Settings::default()).await;
    let public = "https://calls.example.com";
    let signed_in = house.sign_in("/", public).await;
    assert_eq!(signed_in.status(), StatusCode::SEE_OTHER);
    let set = signed_in.headers()[SET_COOKIE].to_str().unwrap();
    let session = sent(set.split(';').next().unwrap());
    let act = |from: &'static str| {
        let headers = origin(from, &session);
        async {
            let headers = headers;
            let drain = "/api/v1/dialers/zendesk/drain";
            house.ask(Method::POST, drain, &headers).await.status()
        }
    };
    assert_eq!(act(public).await, StatusCode::OK);
    for foreign in [
        "https://evil.example",
        "http://calls.example.com",
        "https://calls.example.com:8443",
        "null",
    ] {
        assert_eq!(act(foreign).await, StatusCode::FORBIDDEN, "{foreign}");
        let refused = house.sign_in("/", foreign).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{foreign}");
        assert!(!refused.headers().contains_key(SET_COOKIE), "{foreign}");
    }
}

/// Every address in the attributes of a page.
fn addresses(page: &str) -> Vec<String> {
    let attributes = ["href=\"", "src=\"", "action=\""];
    let found = attributes.iter().flat_map(|attribute| {
        let rest = page.split(attribute).skip(1);
        rest.map(|rest| rest.split('"').next().unwrap().to_owned())
    });
    found.collect()
}

#[tokio::test]
async fn a_path_in_the_public_address_begins_every_link_redirect_and_file_of_the_pages() {
    let house = House::with(Settings {
        public_url: "https://calls.example.com/voice".to_owned(),
        ..Settings::default()
    })
    .await;
    let to = |answer: &Response| answer.headers()[LOCATION].to_str().unwrap().to_owned();
    let first = house.get("/logs/CA0123?x=1").await;
    assert_eq!(to(&first), "/voice/login?next=%2Flogs%2FCA0123%3Fx%3D1");
    let signed_in = house.sign_in("/logs", "https://calls.example.com").await;
    assert_eq!(to(&signed_in), "/voice/logs");
    let set = signed_in.headers()[SET_COOKIE].to_str().unwrap();
    assert!(set.contains("; Path=/;"), "{set}");
    let session = sent(set.split(';').next().unwrap());

    let mut seen = 0;
    for page in ["/login", "/", "/logs"] {
        let answer = house.ask(Method::GET, page, &session).await;
        for address in addresses(&answer.text().await.unwrap()) {
            seen += 1;
            let path = address.strip_prefix("/voice").unwrap();
            // Through the proxy, which takes the path away, and by who comes to the listener itself.
            for path in [path, &address] {
                let answer = house.ask(Method::GET, path, &session).await;
                assert_eq!(answer.status(), StatusCode::OK, "{path} of {page}");
            }
        }
    }
    assert!(seen > 10, "{seen} addresses");
    let start = house.ask(Method::GET, "/voice", &session).await;
    assert_eq!(start.status(), StatusCode::OK);
    let none = house.ask(Method::GET, "/voicemail", &session).await;
    assert_eq!(none.status(), StatusCode::NOT_FOUND);
    let document: serde_json::Value = house.get("/openapi.json").await.json().await.unwrap();
    assert_eq!(document["servers"], json!([{ "url": "/voice/" }]));
}

#[tokio::test]
async fn a_stream_ends_with_its_session_while_calls_come() {
    let house = House::with(Settings::default()).await;
    let session = house.session().await;
    let stream = house.stream(&session).await;
    let own = origin(&house.url(""), &session);
    let gone = house.ask(Method::DELETE, "/api/v1/session", &own).await;
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    house.ends_amid_calls(stream).await;
}

#[tokio::test]
async fn a_stream_ends_with_its_key_while_calls_come() {
    let mut house = House::with(Settings::default()).await;
    let key = HeaderValue::from_str(&house.key).unwrap();
    let key = [(HeaderName::from_static("x-api-key"), key)];
    let by_key = house.stream(&key.into_iter().collect()).await;
    let by_session = house.stream(&house.session().await).await;
    let settings = Settings {
        sections: key_lines(&DrawnKey::draw().unwrap()),
        ..house.world.settings()
    };
    house.world.reload(settings).await;
    house.ends_amid_calls(by_key).await;
    house.ends_amid_calls(by_session).await;
}

#[tokio::test]
async fn a_stream_that_nobody_looks_at_ends_after_the_idle_time_while_calls_come() {
    let start = "2026-11-26T12:00:00Z".parse().unwrap();
    let clock = Clock::manual(start);
    let house = House::with(Settings {
        clock: clock.clone(),
        ..Settings::default()
    })
    .await;
    let session = house.session().await;
    let stream = house.stream(&session).await;
    // What the page asks by itself is no use of it either.
    for hour in 1..=8 {
        clock.set(start + SignedDuration::from_hours(hour));
        let mut by_itself = session.clone();
        by_itself.insert("x-unattended", HeaderValue::from_static("true"));
        let answer = house.ask(Method::GET, "/api/v1/dialers", &by_itself).await;
        assert_eq!(answer.status(), StatusCode::OK, "hour {hour}");
    }
    clock.set(start + SignedDuration::from_hours(8) + SignedDuration::from_secs(1));
    house.ends_amid_calls(stream).await;
    let answer = house.ask(Method::GET, "/api/v1/dialers", &session).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

//! A dialer for tests: listens on a real socket, keeps what it was sent, and answers by script, well or badly.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::redirect::Policy;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::dialfire::{DialfireApi, Tenant};
use super::http::HttpApi;
use super::zendesk_talk::ZendeskTalkApi;
use super::{Api, Dialer, DialerSettings, HandedOff, HandoffPayload};
use crate::call::CallId;
use crate::clock::Clock;
use crate::lead::{LeadScore, TierName};
use crate::outbound::Connections;
use crate::phone::Caller;
use crate::routing::DialerId;
use crate::secret::Secret;
use crate::twiml::Connect;

pub(super) const NUMBER: &str = "+4930123450";
pub(super) const TOKEN: &str = "MarkerToken4711";
pub(super) const EMAIL: &str = "router-marker@acme.example";
pub(super) const KEY: &[u8] = b"installation secret for tests";
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What the stand-in does with one request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Answers; the header lines, if any, end with CRLF each.
    Answer(u16, &'static str, String),
    /// Answers 200 with a body that is packed with gzip.
    Packed(&'static [u8]),
    Hang,
    /// Resets the connection without an answer.
    Reset,
    /// Closes the connection without an answer.
    Close,
    /// Sends these bytes, then nothing more.
    Stall(&'static str),
    /// Sends these bytes, then resets.
    Break(&'static str),
    /// Sends these bytes, then closes.
    Raw(&'static str),
    /// Sends the head of an answer, then one byte every 20 ms.
    Drip,
    /// Sends a 200 that never ends.
    Endless,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) connection: usize,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Clone)]
pub(super) struct StandIn {
    pub(super) base: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl StandIn {
    /// Answers request after request as the script says; its last line goes for all that follow.
    #[expect(
        clippy::disallowed_methods,
        reason = "a stand-in lives and dies with its test"
    )]
    pub(super) async fn start(script: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: VecDeque<Act> = script.into_iter().collect();
        let script = Arc::new(Mutex::new(script));
        let served = seen.clone();
        tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connection += 1;
                tokio::spawn(serve(stream, connection, script.clone(), served.clone()));
            }
        });
        Self { base, seen }
    }

    pub(super) async fn answering(status: u16, body: &str) -> Self {
        Self::start([answer(status, body)]).await
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

pub(super) fn answer(status: u16, body: &str) -> Act {
    Act::Answer(status, "", body.to_owned())
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    script: Arc<Mutex<VecDeque<Act>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    while let Some(mut request) = read(&mut stream).await {
        request.connection = connection;
        seen.lock().unwrap().push(request);
        let act = {
            let mut script = script.lock().unwrap();
            if script.len() > 1 {
                script.pop_front().unwrap()
            } else {
                script.front().cloned().unwrap()
            }
        };
        if perform(act, &mut stream).await.is_err() {
            return;
        }
    }
}

/// An error ends the connection.
async fn perform(act: Act, stream: &mut TcpStream) -> std::io::Result<()> {
    let ended = || Err(std::io::ErrorKind::ConnectionAborted.into());
    match act {
        Act::Answer(status, headers, body) => {
            let text = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{body}",
                body.len()
            );
            stream.write_all(text.as_bytes()).await
        }
        Act::Packed(body) => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n\r\n"
            );
            stream.write_all(&[head.as_bytes(), body].concat()).await
        }
        Act::Hang => std::future::pending().await,
        Act::Reset => {
            stream.set_zero_linger()?;
            ended()
        }
        Act::Close => ended(),
        Act::Stall(text) => {
            stream.write_all(text.as_bytes()).await?;
            std::future::pending().await
        }
        Act::Break(text) => {
            stream.write_all(text.as_bytes()).await?;
            stream.set_zero_linger()?;
            ended()
        }
        Act::Raw(text) => {
            stream.write_all(text.as_bytes()).await?;
            ended()
        }
        Act::Drip => {
            let head = b"HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\n";
            stream.write_all(head).await?;
            let mut drip = tokio::time::interval(Duration::from_millis(20));
            loop {
                drip.tick().await;
                stream.write_all(b" ").await?;
            }
        }
        Act::Endless => {
            let head = b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head).await?;
            loop {
                stream.write_all(b"400\r\n").await?;
                stream.write_all(&[b' '; 1024]).await?;
                stream.write_all(b"\r\n").await?;
            }
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_len = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_len].to_vec()).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, n)| n.parse().unwrap());
    while bytes.len() < head_len + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen {
        line,
        headers,
        body: bytes[head_len..].to_vec(),
        connection: 0,
    })
}

pub(super) fn payload() -> HandoffPayload {
    HandoffPayload {
        call_id: CallId::parse("CA0f11").unwrap(),
        request_id: "01J8".to_owned(),
        caller: Caller::classify(NUMBER),
        called: Some("+4930888899".to_owned()),
        tier: Some(TierName::new("hot")),
        score: LeadScore::new(87.0),
        urgent: true,
        attempt: 1,
        task: None,
    }
}

/// As the app builds it, but without limits on connecting and without trust in anybody, because reading the system's certificates takes long.
pub(super) fn client() -> Connections {
    connections(&Clock::system(), || ())
}

/// The same; whenever new connections are prepared, `prepared` is called.
pub(super) fn connections(
    clock: &Clock,
    prepared: impl Fn() + Send + Sync + 'static,
) -> Connections {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let make = move || {
        prepared();
        reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .tls_certs_only([])
            .build()
    };
    Connections::new(Arc::new(make), clock.clone()).unwrap()
}

pub(super) fn dialer_of(api: Api) -> Dialer {
    dialer_over(client(), Clock::system(), api)
}

pub(super) fn dialer_over(connections: Connections, clock: Clock, api: Api) -> Dialer {
    let settings = DialerSettings {
        id: DialerId::new("first"),
        connect: Connect::parse("+4930555555").unwrap(),
        timeout: Duration::from_millis(700),
        probe_every: Duration::from_secs(15),
        open_for: Duration::from_secs(15),
        api,
    };
    Dialer::new(settings, connections, clock, KEY, KEY).unwrap()
}

/// A help desk of this name behind a SIP line: nobody answers its API.
pub(crate) fn sip_line(name: &str) -> Dialer {
    let settings = DialerSettings {
        id: DialerId::new(name),
        connect: Connect::parse(&format!("sip:{name}@acme.sip.twilio.com")).unwrap(),
        timeout: Duration::from_millis(50),
        probe_every: Duration::from_secs(15),
        open_for: Duration::from_secs(15),
        api: Api::new(zendesk_api("http://127.0.0.1:9")),
    };
    Dialer::new(settings, client(), Clock::system(), KEY, KEY).unwrap()
}

pub(super) fn dialfire_api(base: &str) -> DialfireApi {
    DialfireApi {
        base_url: base.to_owned(),
        campaign: "AB12CD34EF56GH78".to_owned(),
        task: "inbound_hot".to_owned(),
        token: Secret::new(TOKEN),
        tenant: None,
    }
}

pub(super) fn tenant() -> Tenant {
    Tenant {
        id: "0a1b2c3d".to_owned(),
        token: Secret::new("MarkerTenantToken"),
    }
}

pub(super) fn dialfire(base: &str) -> Dialer {
    dialer_of(Api::new(dialfire_api(base)))
}

pub(super) fn zendesk_api(base: &str) -> ZendeskTalkApi {
    ZendeskTalkApi {
        base_url: base.to_owned(),
        email: EMAIL.to_owned(),
        token: Secret::new(TOKEN),
        min_agents: 1,
        max_waiting: 20,
    }
}

pub(super) fn zendesk(base: &str) -> Dialer {
    dialer_of(Api::new(zendesk_api(base)))
}

pub(super) fn http_api(base: &str) -> HttpApi {
    let body = [
        ("phone_number", "{caller}"),
        ("lead_score", "{score}"),
        ("tier", "{tier}"),
        ("call_sid", "{call_sid}"),
        ("request_id", "{request_id}"),
        ("line", "{called}"),
        ("account", "MarkerAccountKey"),
    ];
    HttpApi {
        url: format!("{base}/calls?key=MarkerQueryKey"),
        health_url: Some(format!("{base}/health")),
        headers: vec![("X-API-Key".to_owned(), Secret::new(TOKEN))],
        body: body.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
    }
}

pub(super) fn http(base: &str) -> Dialer {
    dialer_of(Api::new(http_api(base)))
}

pub(super) fn all_kinds(base: &str) -> [Dialer; 3] {
    [dialfire(base), zendesk(base), http(base)]
}

/// Hands off and makes sure that nothing secret or personal comes back.
pub(super) async fn hand_off(dialer: &Dialer, timeout: Duration) -> HandedOff {
    let handed = dialer.hand_off(&payload(), timeout).await;
    assert_clean(&format!("{handed:?}"));
    for exchange in &handed.exchanges {
        assert_clean(&serde_json::to_string(exchange).unwrap());
        assert_eq!(exchange.service, "first");
    }
    handed
}

pub(super) fn assert_clean(text: &str) {
    for secret in [
        "Marker",
        "marker",
        "4930123450",
        "30123450",
        "4930888899",
        "cm91dGVy",
    ] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

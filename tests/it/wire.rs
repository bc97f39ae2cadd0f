//! The bare wire: requests byte by byte, and a service that answers with whatever bytes it is told.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use switchboard_simulator::made_up;
use switchboard_simulator::twilio::Twilio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::signature::reference;

/// Whatever is sent, the connection must be answered or closed within this time.
const PATIENCE: Duration = Duration::from_mins(3);

pub(crate) const FORM: &str = "application/x-www-form-urlencoded; charset=UTF-8";

/// The body of a webhook of our account: about the call of this name, with these fields.
pub(crate) fn about(call: &str, fields: &str) -> String {
    let (sid, account) = (made_up::call_sid(call), made_up::ACCOUNT_SID);
    format!("CallSid={sid}&AccountSid={account}{fields}")
}

/// These fields as the body of a form.
pub(crate) fn encoded<T: AsRef<str>>(fields: &[(T, T)]) -> String {
    let escape = |text: &T| -> String {
        let digits = text.as_ref().bytes().map(|byte| hex::encode([byte]));
        digits.flat_map(|two| ["%".to_owned(), two]).collect()
    };
    let pairs = fields
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// What `X-Twilio-Signature` must say for a form, by the second implementation.
pub(crate) fn sign(token: &str, url: &str, body: &[u8]) -> String {
    let message = [url.as_bytes().to_vec(), reference::suffix(body)].concat();
    STANDARD.encode(reference::hmac::<Sha1>(token.as_bytes(), &message))
}

/// A request that is written as it stands: nothing is checked, nothing is corrected.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    /// Asks for an end of the connection, so that the answer ends too. States no length.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
        .header("Host", "calls.example.com")
        .header("Connection", "close")
    }

    /// A form, with its length and without a signature.
    pub(crate) fn form(target: &str, body: &[u8]) -> Self {
        Self::new("POST", target)
            .header("Content-Type", FORM)
            .body(body)
    }

    /// A form that Twilio signed.
    pub(crate) fn signed(target: &str, body: &[u8]) -> Self {
        Self::signed_by(made_up::AUTH_TOKEN, target, body)
    }

    /// A form signed with this token.
    pub(crate) fn signed_by(token: &str, target: &str, body: &[u8]) -> Self {
        let url = format!("{}{target}", made_up::PUBLIC_URL);
        Self::form(target, body).header("X-Twilio-Signature", &sign(token, &url, body))
    }

    /// A GET that Twilio signed; its fields are those of the query.
    pub(crate) fn signed_get(target: &str) -> Self {
        let url = format!("{}{target}", made_up::PUBLIC_URL);
        let signature = sign(made_up::AUTH_TOKEN, &url, b"");
        Self::new("GET", target).header("X-Twilio-Signature", &signature)
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        self.raw_header(name.as_bytes(), value.as_bytes())
    }

    pub(crate) fn raw_header(mut self, name: &[u8], value: &[u8]) -> Self {
        self.headers.push((name.to_vec(), value.to_vec()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name.as_bytes()));
        self
    }

    /// With this body and its length.
    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.header("Content-Length", &body.len().to_string())
    }

    /// The same body in chunks of this size instead of with its length.
    pub(crate) fn chunked(self, size: usize) -> Self {
        let mut chunked = Vec::new();
        for chunk in self.body.chunks(size) {
            chunked.extend(format!("{:x}\r\n", chunk.len()).bytes());
            chunked.extend(chunk);
            chunked.extend(b"\r\n");
        }
        chunked.extend(b"0\r\n\r\n");
        let mut request = self
            .without("Content-Length")
            .header("Transfer-Encoding", "chunked");
        request.body = chunked;
        request
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            head.extend(name);
            head.extend(b": ");
            head.extend(value);
            head.extend(b"\r\n");
        }
        head.extend(b"\r\n");
        head
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [self.head(), self.body.clone()].concat()
    }

    /// Sends it and reads its one answer.
    pub(crate) async fn send(&self, to: SocketAddr) -> Reply {
        let mut replies = exchange(to, &self.to_bytes()).await;
        assert_eq!(replies.len(), 1, "{self:?} got {replies:?}");
        replies.remove(0)
    }
}

/// One answer, interim ones included.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value.as_str()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What is wrong with this answer to a signed webhook; nothing where it is 200 and TwiML that Twilio takes.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut complaints = Twilio::complaints(self.header("Content-Type"), &self.body);
        if self.status != 200 {
            complaints.push(format!("status {}", self.status));
        }
        if self.header("Content-Type") != Some("application/xml; charset=utf-8") {
            complaints.push("another Content-Type".to_owned());
        }
        if self.text().matches("<?xml").count() != 1 {
            complaints.push("not one XML declaration".to_owned());
        }
        complaints
    }
}

/// Sends the bytes and reads every answer until the other side closes.
pub(crate) async fn exchange(to: SocketAddr, bytes: &[u8]) -> Vec<Reply> {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let mut answer = Vec::new();
    let talk = async {
        // A refusal may come, and the connection end, before all is sent.
        let write = async { drop(writer.write_all(bytes).await) };
        let read = async { drop(reader.read_to_end(&mut answer).await) };
        tokio::join!(write, read);
    };
    let ended = tokio::time::timeout(PATIENCE, talk).await;
    assert!(
        ended.is_ok(),
        "neither answered nor closed: {}",
        bytes.escape_ascii()
    );
    replies(&answer)
}

/// Reads whole answers with a stated length, one after another; anything else is a failure of the test.
pub(crate) fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let shown = bytes.escape_ascii().to_string();
        let end = find(bytes, b"\r\n\r\n").expect(&shown);
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").expect(line))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut reply = Reply {
            status: status.parse().unwrap(),
            headers,
            body: Vec::new(),
        };
        let stated = reply.header("Content-Length").map(|n| n.parse().unwrap());
        let length: usize = stated.unwrap_or(0);
        bytes = &bytes[end + 4..];
        assert!(bytes.len() >= length, "an answer broke off: {shown}");
        reply.body = bytes[..length].to_vec();
        bytes = &bytes[length..];
        replies.push(reply);
    }
    replies
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|w| w == wanted)
}

/// Answers every request with the same bytes, whatever they are, and closes the connection.
#[derive(Debug)]
pub(crate) struct Parrot {
    address: SocketAddr,
    says: Arc<Mutex<Vec<u8>>>,
    asked: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Parrot {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (says, asked) = (
            Arc::<Mutex<Vec<u8>>>::default(),
            Arc::<AtomicUsize>::default(),
        );
        let mut serving = JoinSet::new();
        let (words, count) = (says.clone(), asked.clone());
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(answer_once(stream, words.clone(), count.clone()));
            }
        });
        Self {
            address,
            says,
            asked,
            _serving: serving,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn say(&self, bytes: &[u8]) {
        *self.says.lock().unwrap() = bytes.to_vec();
    }

    /// How many requests came so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

async fn answer_once(mut stream: TcpStream, says: Arc<Mutex<Vec<u8>>>, asked: Arc<AtomicUsize>) {
    if !took_request(&mut stream).await {
        return;
    }
    asked.fetch_add(1, Relaxed);
    let answer = says.lock().unwrap().clone();
    // The other side may have seen enough.
    if stream.write_all(&answer).await.is_ok() {
        drop(stream.shutdown().await);
    }
}

/// Reads a whole request; false where the other side goes before its end.
async fn took_request(stream: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return false,
            Ok(n) => request.extend(&piece[..n]),
        }
        let Some(end) = find(&request, b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        if request.len() >= end + 4 + length {
            return true;
        }
    }
}

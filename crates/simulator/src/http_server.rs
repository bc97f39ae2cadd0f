//! The HTTP/1.1 server under every stand-in: real sockets, a script of faults, a record of every request.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

use super::faults::{Fault, Faults};
use super::port::{self, Open, Port};
use super::requests::{Request, Requests};

/// No API that is imitated here takes a longer body.
const LONGEST_BODY: usize = 1024 * 1024;

/// What a service answers when nothing goes wrong.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json; charset=utf-8".to_owned())],
            body: body.to_string().into(),
        }
    }

    pub(super) fn text(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: vec![("content-type", "text/plain; charset=utf-8".to_owned())],
            body: body.to_owned().into(),
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A running service, without what it knows: address, faults, requests.
#[derive(Clone, Debug)]
pub(super) struct HttpServer {
    port: Arc<Port>,
    pub(super) faults: Faults,
    pub(super) requests: Requests,
}

impl HttpServer {
    pub(super) fn bind(address: &str) -> io::Result<Self> {
        let port = Arc::new(Port::bind(address)?);
        Ok(Self {
            faults: Faults::new(Arc::clone(&port)),
            requests: Requests::new(),
            port,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Serves until dropped. `answer` is called once for every request that takes effect.
    pub(super) fn serve<F>(&self, answer: F) -> impl Future<Output = ()> + Send + 'static + use<F>
    where
        F: Fn(&Request) -> Answer + Send + Sync + 'static,
    {
        let server = self.clone();
        let answer = Arc::new(answer);
        let open = Open::new(&self.port);
        async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    stream = open.port().accept() => {
                        if server.faults.take_refusal() {
                            port::reset(stream);
                        } else {
                            connections.spawn(connection(server.clone(), Arc::clone(&answer), stream));
                        }
                    }
                    Some(_ended) = connections.join_next() => {}
                }
            }
        }
    }

    /// Reads the request, records it, and answers as the script of faults says.
    async fn respond<F>(
        &self,
        incoming: hyper::Request<Incoming>,
        answer: &F,
        valve: &Arc<Valve>,
    ) -> Response<Content>
    where
        F: Fn(&Request) -> Answer,
    {
        let (head, body) = incoming.into_parts();
        let Ok(body) = Limited::new(body, LONGEST_BODY).collect().await else {
            return response(
                413,
                Vec::new(),
                Content::whole("413 - the body is too large"),
            );
        };
        let target = head.uri.path_and_query().map_or("/", |text| text.as_str());
        let fault = self.faults.take(head.method.as_str(), head.uri.path());
        let request = self.requests.record(Request {
            number: 0,
            method: head.method.to_string(),
            target: target.to_owned(),
            headers: head
                .headers
                .iter()
                .map(|(name, value)| {
                    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                    (name.as_str().to_owned(), text)
                })
                .collect(),
            // A copy: the bytes as they came hold on to the whole buffer of their connection, for as long as the request is kept.
            body: Bytes::copy_from_slice(&body.to_bytes()),
            at: Instant::now().into_std(),
            fault: fault.clone(),
            status: None,
        });
        let response = respond_with(fault, || answer(&request), valve).await;
        self.requests
            .answered(request.number, response.status().as_u16());
        response
    }
}

async fn connection<F>(server: HttpServer, answer: Arc<F>, stream: TcpStream)
where
    F: Fn(&Request) -> Answer + Send + Sync + 'static,
{
    let mut refusing = server.port.watch_refusing();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a stand-in answers with delay");
    }
    let valve = Arc::new(Valve::default());
    let wire = Wire {
        stream,
        valve: Arc::clone(&valve),
        pause: None,
    };
    let service = {
        let valve = Arc::clone(&valve);
        service_fn(move |request| {
            let (server, answer, valve) = (server.clone(), Arc::clone(&answer), Arc::clone(&valve));
            async move { Ok::<_, Infallible>(server.respond(request, answer.as_ref(), &valve).await) }
        })
    };
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(wire), service);
    loop {
        tokio::select! {
            biased;
            _ended = &mut connection => return,
            () = valve.reset.notified() => break,
            // The head of the answer is written by now, so the client learns nothing of the close.
            () = valve.close.notified() => Pin::new(&mut connection).graceful_shutdown(),
            () = port::refusing(&mut refusing) => break,
        }
    }
    port::reset(connection.into_parts().io.into_inner().stream);
}

async fn respond_with(
    fault: Option<Fault>,
    answer: impl FnOnce() -> Answer,
    valve: &Arc<Valve>,
) -> Response<Content> {
    let mut fault = fault;
    while let Some(Fault::After(pause, inner)) = fault {
        tokio::time::sleep(pause).await;
        fault = Some(*inner);
    }
    match fault {
        None | Some(Fault::RefuseConnections | Fault::After(..)) => whole(answer()),
        Some(Fault::Delay(pause)) => {
            let answer = answer();
            tokio::time::sleep(pause).await;
            whole(answer)
        }
        Some(Fault::Hang) => pending().await,
        Some(Fault::Reset) => {
            valve.reset.notify_one();
            pending().await
        }
        Some(Fault::ResetAfterAccept) => {
            answer();
            valve.reset.notify_one();
            pending().await
        }
        Some(Fault::ResetMidAnswer) => {
            let answer = answer();
            let content = Content::Half {
                bytes: answer.body,
                sent: false,
                valve: Arc::clone(valve),
            };
            response(answer.status, answer.headers, content)
        }
        Some(Fault::Status {
            status,
            body,
            retry_after,
        }) => {
            let mut response = whole(Answer::text(status, &body));
            if let Some(seconds) = retry_after {
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            response
        }
        Some(Fault::Garbage(garbage)) => {
            let (content_type, body) = garbage.content();
            let headers = vec![("content-type", content_type.to_owned())];
            response(200, headers, Content::whole(body))
        }
        Some(Fault::SlowDrip(pause)) => {
            valve.drip(pause);
            whole(answer())
        }
        Some(Fault::HugeBody(least)) => {
            let headers = vec![("content-type", "application/json".to_owned())];
            response(200, headers, Content::Huge { left: least })
        }
        Some(Fault::CloseAfterAnswer) => {
            valve.close.notify_one();
            whole(answer())
        }
        Some(Fault::Redirect(url)) => {
            let mut response = whole(Answer::text(307, ""));
            if let Ok(location) = HeaderValue::from_str(&url) {
                response.headers_mut().insert(LOCATION, location);
            }
            response
        }
    }
}

fn whole(answer: Answer) -> Response<Content> {
    response(
        answer.status,
        answer.headers,
        Content::Whole(Some(answer.body)),
    )
}

fn response(
    status: u16,
    headers: Vec<(&'static str, String)>,
    content: Content,
) -> Response<Content> {
    let mut response = Response::new(content);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
    }
    if !response.headers().contains_key(CONTENT_TYPE) {
        let plain = HeaderValue::from_static("text/plain");
        response.headers_mut().insert(CONTENT_TYPE, plain);
    }
    response
}

/// The body of an answer.
enum Content {
    Whole(Option<Bytes>),
    /// Announces all of `bytes`, sends half of them, then resets the connection.
    Half {
        bytes: Bytes,
        sent: bool,
        valve: Arc<Valve>,
    },
    /// JSON text that goes on for `left` more bytes.
    Huge {
        left: usize,
    },
}

impl Content {
    fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(
                bytes
                    .take()
                    .filter(|bytes| !bytes.is_empty())
                    .map(|bytes| Ok(Frame::data(bytes))),
            ),
            Self::Half {
                sent: true, valve, ..
            } => {
                valve.reset.notify_one();
                Poll::Pending
            }
            Self::Half { bytes, sent, .. } => {
                *sent = true;
                let half = bytes.slice(..bytes.len() / 2);
                Poll::Ready(Some(Ok(Frame::data(half))))
            }
            Self::Huge { left: 0 } => Poll::Ready(None),
            Self::Huge { left } => {
                const PIECE: &[u8] = &[b' '; 16 * 1024];
                *left = left.saturating_sub(PIECE.len());
                let piece = if *left == 0 {
                    Bytes::from_static(b"{}")
                } else {
                    Bytes::from_static(PIECE)
                };
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None) | Self::Huge { left: 0 })
    }

    fn size_hint(&self) -> SizeHint {
        let exact = |bytes: &Bytes| SizeHint::with_exact(bytes.len().try_into().unwrap_or(0));
        match self {
            Self::Whole(Some(bytes)) | Self::Half { bytes, .. } => exact(bytes),
            Self::Whole(None) => SizeHint::with_exact(0),
            Self::Huge { .. } => SizeHint::default(),
        }
    }
}

/// What the answering side tells the connection to do.
#[derive(Debug, Default)]
struct Valve {
    reset: Notify,
    close: Notify,
    drip_nanos: AtomicU64,
}

impl Valve {
    fn drip(&self, pause: Duration) {
        let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
        self.drip_nanos.store(nanos.max(1), Ordering::Release);
    }
}

/// The connection's socket, which can be slowed down to one byte at a time.
struct Wire {
    stream: TcpStream,
    valve: Arc<Valve>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let nanos = self.valve.drip_nanos.load(Ordering::Acquire);
        if nanos == 0 {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
        }
        let one = bytes.get(..1).unwrap_or(bytes);
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, one));
        self.pause = Some(Box::pin(tokio::time::sleep(Duration::from_nanos(nanos))));
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;
    use crate::faults::{Garbage, Route};
    use crate::testing::{client, in_background};

    const SOON: Duration = Duration::from_millis(150);

    /// A service that counts the requests that took effect.
    struct Counter {
        server: HttpServer,
        effects: Arc<AtomicU64>,
        client: reqwest::Client,
        _running: JoinSet<()>,
    }

    impl Counter {
        fn start() -> Self {
            let server = HttpServer::bind("127.0.0.1:0").unwrap();
            let effects = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&effects);
            let serve = server.serve(move |_| {
                let n = count.fetch_add(1, Ordering::SeqCst) + 1;
                Answer::text(200, &format!("effect number {n}"))
            });
            Self {
                server,
                effects,
                client: client(),
                _running: in_background(serve),
            }
        }

        async fn get(&self) -> reqwest::Result<(u16, Vec<u8>)> {
            let answer = self.client.get(self.server.url()).send().await?;
            let status = answer.status().as_u16();
            Ok((status, answer.bytes().await?.to_vec()))
        }

        fn effects(&self) -> u64 {
            self.effects.load(Ordering::SeqCst)
        }
    }

    fn says_reset(error: &reqwest::Error) -> bool {
        let mut source = error.source();
        while let Some(inner) = source {
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                return io.kind() == io::ErrorKind::ConnectionReset;
            }
            source = inner.source();
        }
        false
    }

    #[tokio::test]
    async fn without_a_fault_every_request_is_answered_and_recorded() {
        let service = Counter::start();
        let url = format!("{}/a/b?x=1%202", service.server.url());
        let answer = service
            .client
            .post(&url)
            .header("X-Test", "yes")
            .body("{\"id\":7}")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.text().await.unwrap(), "effect number 1");
        let request = service.server.requests.last().unwrap();
        assert_eq!(request.method, "POST");
        assert_eq!(request.path(), "/a/b");
        assert_eq!(request.query("x").as_deref(), Some("1 2"));
        assert_eq!(request.header("x-test"), Some("yes"));
        assert_eq!(request.json().unwrap()["id"], 7);
        assert_eq!(request.status, Some(200));
        assert!(request.mentions("a/b"));
    }

    #[tokio::test]
    async fn a_delayed_request_takes_effect_before_its_answer() {
        let service = Counter::start();
        service
            .server
            .faults
            .once(Fault::Delay(Duration::from_mins(10)));
        assert!(timeout(SOON, service.get()).await.is_err());
        assert_eq!(service.effects(), 1);
    }

    #[tokio::test]
    async fn a_hanging_request_is_read_but_takes_no_effect() {
        let service = Counter::start();
        service.server.faults.once(Fault::Hang);
        let arrived = service.server.requests.reached(1);
        tokio::select! {
            answer = service.get() => panic!("answered {answer:?}"),
            () = arrived => {}
        }
        assert_eq!(service.effects(), 0);
        assert_eq!(service.get().await.unwrap().0, 200);
    }

    #[tokio::test]
    async fn a_reset_is_seen_as_a_reset_with_or_without_effect() {
        let service = Counter::start();
        service.server.faults.once(Fault::Reset);
        assert!(says_reset(&service.get().await.unwrap_err()));
        assert_eq!(service.effects(), 0);
        service.server.faults.once(Fault::ResetAfterAccept);
        assert!(says_reset(&service.get().await.unwrap_err()));
        assert_eq!(service.effects(), 1);
        service.server.faults.once(Fault::ResetMidAnswer);
        assert!(service.get().await.is_err());
        assert_eq!(service.effects(), 2);
    }

    #[tokio::test]
    async fn statuses_redirects_and_garbage_take_no_effect() {
        let service = Counter::start();
        let faults = &service.server.faults;
        faults.once(Fault::too_many_requests(Some(3)));
        let answer = service
            .client
            .get(service.server.url())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()[RETRY_AFTER], "3");
        faults.once(Fault::Redirect("http://127.0.0.1:9/elsewhere".to_owned()));
        assert_eq!(service.get().await.unwrap().0, 307);
        for garbage in [
            Garbage::Html,
            Garbage::NotJson,
            Garbage::TruncatedJson,
            Garbage::NotUtf8,
            Garbage::Empty,
        ] {
            faults.once(Fault::Garbage(garbage));
            let (status, body) = service.get().await.unwrap();
            assert_eq!(status, 200);
            assert!(serde_json::from_slice::<Value>(&body).is_err());
        }
        faults.once(Fault::After(
            Duration::from_millis(5),
            Box::new(Fault::status(503)),
        ));
        assert_eq!(service.get().await.unwrap().0, 503);
        assert_eq!(service.effects(), 0);
        assert_eq!(faults.pending(), 0);
    }

    #[tokio::test]
    async fn a_slow_drip_arrives_whole_in_the_end_and_far_too_late() {
        let service = Counter::start();
        let faults = &service.server.faults;
        faults.once(Fault::SlowDrip(Duration::from_nanos(1)));
        assert_eq!(service.get().await.unwrap().1, b"effect number 1");
        faults.once(Fault::SlowDrip(Duration::from_mins(1)));
        assert!(timeout(SOON, service.get()).await.is_err());
    }

    #[tokio::test]
    async fn a_refusing_service_comes_back_when_its_faults_are_cleared() {
        let service = Counter::start();
        assert!(service.get().await.is_ok());
        service.server.faults.standing(Fault::RefuseConnections);
        for _ in 0..3 {
            assert!(service.get().await.is_err());
        }
        service.server.faults.clear();
        assert_eq!(service.get().await.unwrap().0, 200);
        assert_eq!(service.effects(), 2);
    }

    #[tokio::test]
    async fn one_refused_connection_leaves_the_next_alone() {
        let service = Counter::start();
        service.server.faults.once(Fault::RefuseConnections);
        assert!(service.get().await.is_err());
        assert!(service.get().await.is_ok());
    }

    #[tokio::test]
    async fn a_huge_body_is_as_long_as_asked_for_and_still_json() {
        let service = Counter::start();
        service.server.faults.once(Fault::HugeBody(3_000_000));
        let (_, body) = service.get().await.unwrap();
        assert!(body.len() > 2_900_000, "{}", body.len());
        assert!(serde_json::from_slice::<Value>(&body).is_ok());
    }

    #[tokio::test]
    async fn a_connection_closed_after_the_answer_was_promised_to_stay() {
        let service = Counter::start();
        service.server.faults.once(Fault::CloseAfterAnswer);
        let mut stream = TcpStream::connect(service.server.port.address())
            .await
            .unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("effect number 1"), "{answer}");
        assert!(
            !answer.to_lowercase().contains("connection: close"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn faults_go_to_their_route_and_one_shots_go_first() {
        let service = Counter::start();
        let faults = &service.server.faults;
        faults.standing_on(Route::path("/b"), Fault::status(500));
        faults.once_on(Route::path("/b").and_method("POST"), Fault::status(418));
        let url = service.server.url();
        let status = async |method: reqwest::Method, path: &str| {
            let request = service.client.request(method, format!("{url}{path}"));
            request.send().await.unwrap().status().as_u16()
        };
        assert_eq!(status(reqwest::Method::GET, "/a").await, 200);
        assert_eq!(status(reqwest::Method::GET, "/b").await, 500);
        assert_eq!(status(reqwest::Method::POST, "/b").await, 418);
        assert_eq!(status(reqwest::Method::POST, "/b").await, 500);
        faults.clear();
        assert_eq!(status(reqwest::Method::POST, "/b").await, 200);
    }
}

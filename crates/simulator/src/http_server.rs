//! The HTTP/1.1 server under every stand-in: real sockets, a script of faults, a record of every request.

use std::error::Error;
use std::future::{Future, pending, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::faults::{Fault, Faults};
use super::port::{End, Port};
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
    fn of(status: u16, kind: &str, body: Bytes) -> Self {
        Self {
            status,
            headers: vec![("content-type", kind.to_owned())],
            body,
        }
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        let kind = "application/json; charset=utf-8";
        Self::of(status, kind, body.to_string().into())
    }

    pub(super) fn text(status: u16, body: &str) -> Self {
        Self::of(status, "text/plain; charset=utf-8", body.to_owned().into())
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
        self.port
            .serve(move |stream| connection(server.clone(), Arc::clone(&answer), stream))
    }

    /// Reads the request, records it, and answers as the script of faults says.
    async fn respond<F>(
        &self,
        incoming: hyper::Request<Incoming>,
        answer: &F,
        drip_nanos: &AtomicU64,
    ) -> Result<Response<Content>, Cut>
    where
        F: Fn(&Request) -> Answer,
    {
        let (head, body) = incoming.into_parts();
        let Ok(body) = Limited::new(body, LONGEST_BODY).collect().await else {
            return Ok(whole(&Answer::text(413, "413 - the body is too large")));
        };
        let target = head.uri.path_and_query().map_or("/", |text| text.as_str());
        let fault = self.faults.next(head.method.as_str(), head.uri.path());
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
        let response = respond_with(fault, || answer(&request), drip_nanos).await?;
        self.requests
            .answered(request.number, response.status().as_u16());
        Ok(response)
    }
}

async fn connection<F>(server: HttpServer, answer: Arc<F>, stream: TcpStream) -> End
where
    F: Fn(&Request) -> Answer + Send + Sync + 'static,
{
    if server.faults.is_refused_once() {
        return End::Reset;
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a stand-in answers with delay");
    }
    let drip = Arc::new(AtomicU64::new(0));
    let wire = Wire {
        stream,
        drip_nanos: Arc::clone(&drip),
        pause: None,
    };
    let service = service_fn(move |request| {
        let (server, answer, drip) = (server.clone(), Arc::clone(&answer), Arc::clone(&drip));
        async move { server.respond(request, answer.as_ref(), &drip).await }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(wire), service);
    match connection.await {
        Err(error) if error.is_user() => End::Reset,
        Ok(()) | Err(_) => End::Orderly,
    }
}

/// The connection is to be reset instead of answered, or in the middle of its answer.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a scripted reset")
    }
}

impl Error for Cut {}

type Content = UnsyncBoxBody<Bytes, Cut>;

async fn respond_with(
    fault: Option<Fault>,
    answer: impl FnOnce() -> Answer,
    drip_nanos: &AtomicU64,
) -> Result<Response<Content>, Cut> {
    let mut fault = fault;
    while let Some(Fault::After(pause, inner)) = fault {
        tokio::time::sleep(pause).await;
        fault = Some(*inner);
    }
    let answer = match fault {
        None | Some(Fault::RefuseConnections | Fault::After(..)) => answer(),
        Some(Fault::Delay(pause)) => {
            let answer = answer();
            tokio::time::sleep(pause).await;
            answer
        }
        Some(Fault::Hang) => pending().await,
        Some(Fault::Reset) => return Err(Cut),
        Some(Fault::ResetAfterAccept) => {
            answer();
            return Err(Cut);
        }
        Some(Fault::ResetMidAnswer) => {
            let answer = answer();
            let length = answer.body.len();
            let half = answer.body.slice(..length / 2);
            let answer = answer.with("content-length", length.to_string());
            return Ok(response(&answer, half_of(half)));
        }
        Some(Fault::Status {
            status,
            body,
            retry_after: Some(seconds),
        }) => Answer::text(status, &body).with("retry-after", seconds.to_string()),
        Some(Fault::Status { status, body, .. }) => Answer::text(status, &body),
        Some(Fault::Garbage(garbage)) => {
            let (kind, body) = garbage.content();
            Answer::of(200, kind, Bytes::from_static(body))
        }
        Some(Fault::SlowDrip(pause)) => {
            let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
            drip_nanos.store(nanos.max(1), Ordering::Release);
            answer()
        }
        Some(Fault::HugeBody(least)) => {
            let answer = Answer::of(200, "application/json", Bytes::new());
            return Ok(response(&answer, huge(least)));
        }
        Some(Fault::Redirect(url)) => Answer::text(307, "").with("location", url),
    };
    Ok(whole(&answer))
}

fn whole(answer: &Answer) -> Response<Content> {
    let content = Full::new(answer.body.clone()).map_err(|never| match never {});
    response(answer, content.boxed_unsync())
}

fn response(answer: &Answer, content: Content) -> Response<Content> {
    let mut response = Response::new(content);
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &answer.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            let name = HeaderName::from_static(name);
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// These bytes, then a reset: once they have left, which they have when the next are asked for a second time.
fn half_of(bytes: Bytes) -> Content {
    let frames = stream::once(ready(Ok(Frame::data(bytes)))).chain(stream::once(async {
        tokio::task::yield_now().await;
        Err(Cut)
    }));
    StreamBody::new(frames).boxed_unsync()
}

/// JSON text of at least so many bytes.
fn huge(least: usize) -> Content {
    const PIECE: &[u8] = &[b' '; 16 * 1024];
    let pieces = std::iter::repeat_n(PIECE, least / PIECE.len()).chain([b"{}".as_slice()]);
    let frames = pieces.map(|piece| Ok(Frame::data(Bytes::from_static(piece))));
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

/// The connection's socket, which can be slowed down to one byte at a time.
struct Wire {
    stream: TcpStream,
    /// How long to wait between two bytes; 0 for not at all.
    drip_nanos: Arc<AtomicU64>,
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
        let nanos = self.drip_nanos.load(Ordering::Acquire);
        if nanos == 0 {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        if let Some(pause) = &mut self.pause {
            task::ready!(pause.as_mut().poll(context));
        }
        let one = bytes.get(..1).unwrap_or(bytes);
        let written = task::ready!(Pin::new(&mut self.stream).poll_write(context, one));
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
    use hyper::header::RETRY_AFTER;
    use tokio::task::JoinSet;
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

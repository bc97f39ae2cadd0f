//! The verifying extractor: nothing behind it sees a webhook that Twilio did not sign.
//!
//! The order is: source, size, signature, account, structure. A refusal says nothing of what was expected; what went wrong is counted,
//! logged at a bounded rate and kept for the doctor.
//!
//! The signature covers the path as received, so the routes under `/webhooks/twilio` are written out in full: `Router::nest` would cut it.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::body::{BodyError, collect};
use super::diagnose::Hosts;
use super::edge::{Edge, EdgeSettings, RefusalReason};
use super::form::Form;
use super::signature::{BodyKind, SignedRequest};
use super::structure::{Flaw, MAX_FIELDS, SignedParts, count_fields};
use crate::call::CallId;

/// The largest body of a webhook; real ones have about 1 KiB.
pub const BODY_LIMIT: usize = 64 * 1024;

/// A body is read within this time, or not at all.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// The header with Twilio's signature.
pub const SIGNATURE: &str = "x-twilio-signature";
const SETTINGS: &str = "x-twilio-webhooks-signature-settings";
const FORWARDED_HOST: &str = "x-forwarded-host";

/// Where a request comes from, proxies taken into account. The listener puts it into the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceAddress(pub IpAddr);

/// A webhook that Twilio signed, and whose structure is what the signed text alone says.
#[derive(Debug, Clone)]
pub struct SignedWebhook {
    pub path: String,
    /// `CallSid`: the leg that it is about.
    pub call_id: CallId,
    /// The fields of the query: those that we put into our own URLs.
    pub query: Form,
    /// The fields of the webhook: of the body, or of the query for a GET.
    pub form: Form,
    pub source: Option<IpAddr>,
}

/// A webhook that is signed and cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    pub path: String,
    /// What is wrong with it.
    pub flaw: Flaw,
    /// Its fields. Nothing in them can be relied upon.
    pub form: Form,
}

/// A webhook that does not come through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookRefusal {
    /// It is not believed. The answer is the same whatever the reason behind its status.
    Rejected(RefusalReason),
    /// Twilio signed it, and it does not fit together.
    Malformed(Box<Malformed>),
}

impl IntoResponse for RefusalReason {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Source | Self::Signature | Self::Account | Self::TooManyFields => {
                (StatusCode::FORBIDDEN, "forbidden\n")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"),
            Self::TimedOut => (StatusCode::REQUEST_TIMEOUT, "the body came too late\n"),
            Self::Broken => (StatusCode::BAD_REQUEST, "the body broke off\n"),
        };
        (status, text).into_response()
    }
}

impl SignedWebhook {
    /// Reads a request and lets it in if Twilio signed it and it fits together.
    pub async fn admit(request: Request, edge: &Edge) -> Result<Self, WebhookRefusal> {
        let settings = edge.settings();
        let (parts, body) = request.into_parts();
        let source = parts
            .extensions
            .get()
            .map(|SourceAddress(address)| *address);
        let refuse = |reason| {
            edge.refuse(reason, source, parts.uri.path(), || None);
            WebhookRefusal::Rejected(reason)
        };
        if !settings.admits(source) {
            return Err(refuse(RefusalReason::Source));
        }
        let body = if has_form_in_query(&parts.method) {
            Bytes::new()
        } else {
            collect(body, BODY_LIMIT, BODY_TIMEOUT)
                .await
                .map_err(|error| refuse(reason_of(error)))?
        };
        let received = Received {
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
            body: &body,
        };
        // To look through so many fields is work that a stranger could ask for.
        if received.has_too_many_fields() && !edge.spares_time_for_many_fields() {
            return Err(refuse(RefusalReason::TooManyFields));
        }
        received.admit(edge, &settings, source)
    }
}

/// A GET has its fields in the query, where the signature covers them; a body of one is not read.
fn has_form_in_query(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn reason_of(error: BodyError) -> RefusalReason {
    match error {
        BodyError::TooLarge => RefusalReason::TooLarge,
        BodyError::TimedOut => RefusalReason::TimedOut,
        BodyError::Broken => RefusalReason::Broken,
    }
}

/// A request that has been read and not yet believed.
pub(super) struct Received<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

impl Received<'_> {
    pub(super) fn admit(
        &self,
        edge: &Edge,
        settings: &EdgeSettings,
        source: Option<IpAddr>,
    ) -> Result<SignedWebhook, WebhookRefusal> {
        let form = match BodyKind::of(self.content_type(), self.body) {
            BodyKind::Form => Form::parse(self.body),
            BodyKind::Json | BodyKind::Other => Form::default(),
        };
        if settings.verify_signature {
            let request = self.signed(&form);
            if let Err(error) = settings.verifier.verify(&request) {
                edge.refuse(RefusalReason::Signature, source, self.uri.path(), || {
                    let diagnose = || settings.verifier.diagnose(&request, &self.hosts(), error);
                    (!self.has_too_many_fields()).then(diagnose)
                });
                return Err(WebhookRefusal::Rejected(RefusalReason::Signature));
            }
        }
        let query = Form::parse(self.query());
        let body = (!has_form_in_query(self.method)).then_some(&form);
        let parts = SignedParts {
            target: self.target(),
            query: &query,
            body,
        };
        let path = self.uri.path();
        let named = match parts.account_sid() {
            Ok(account) if !settings.owns(account) => {
                edge.refuse(RefusalReason::Account, source, path, || None);
                return Err(WebhookRefusal::Rejected(RefusalReason::Account));
            }
            named => named.and_then(|_| parts.call()),
        };
        let (path, form) = (path.to_owned(), body.unwrap_or(&query).clone());
        match named {
            Ok(call_id) => Ok(SignedWebhook {
                path,
                call_id,
                query,
                form,
                source,
            }),
            Err(flaw) => Err(WebhookRefusal::Malformed(Box::new(Malformed {
                path,
                flaw,
                form,
            }))),
        }
    }

    fn has_too_many_fields(&self) -> bool {
        count_fields(self.body) > MAX_FIELDS || count_fields(self.query()) > MAX_FIELDS
    }

    fn query(&self) -> &[u8] {
        self.uri.query().unwrap_or_default().as_bytes()
    }

    fn target(&self) -> &str {
        self.uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
    }

    fn signed<'a>(&'a self, form: &'a Form) -> SignedRequest<'a> {
        SignedRequest {
            path_and_query: self.target(),
            signature: self.bytes(SIGNATURE),
            settings: self.bytes(SETTINGS),
            content_type: self.content_type(),
            body: self.body,
            form,
        }
    }

    /// The type of the body. A GET has none, whatever it says.
    fn content_type(&self) -> Option<&str> {
        (!has_form_in_query(self.method))
            .then(|| self.text(header::CONTENT_TYPE.as_str()))
            .flatten()
    }

    fn hosts(&self) -> Hosts<'_> {
        Hosts {
            host: self.text(header::HOST.as_str()),
            forwarded: self.text(FORWARDED_HOST),
        }
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(HeaderValue::as_bytes)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::{Body, to_bytes};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit, Mac};
    use hyper::body::Frame;
    use proptest::prelude::*;
    use sha1::Sha1;

    use super::*;
    use crate::clock::Clock;
    use crate::twilio::{Deviation, Verifier, VerifierSettings};

    const PUBLIC: &str = "https://calls.example.com";
    const CALL: &str = "CA00000000000000000000000000000001";
    const ACCOUNT: &str = "AC00000000000000000000000000000001";
    const BODY: &str = "CallSid=CA00000000000000000000000000000001&From=%2B14155550100&AccountSid=AC00000000000000000000000000000001";
    const FIELDS: &str = "AccountSidAC00000000000000000000000000000001CallSidCA00000000000000000000000000000001From+14155550100";

    fn sign(token: &str, signed: &str) -> String {
        let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(token.as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }

    fn settings(networks: &[&str], tokens: &[&str]) -> EdgeSettings {
        EdgeSettings {
            verifier: Verifier::new(VerifierSettings {
                public_url: PUBLIC.to_owned(),
                auth_tokens: tokens.iter().map(|token| token.as_bytes().into()).collect(),
                shared_keys: Vec::new(),
            })
            .unwrap(),
            verify_signature: true,
            allowed_networks: networks.iter().map(|n| n.parse().unwrap()).collect(),
            accounts: vec![ACCOUNT.to_owned()],
        }
    }

    fn edge() -> Edge {
        Edge::new(settings(&[], &["token"]), Clock::system())
    }

    fn post(target: &str, signature: &str, body: impl Into<Body>) -> Request {
        Request::post(target)
            .header(
                "Content-Type",
                "application/x-www-form-urlencoded; charset=UTF-8",
            )
            .header("X-Twilio-Signature", signature)
            .body(body.into())
            .unwrap()
    }

    fn genuine() -> Request {
        let target = "/webhooks/twilio/dial?dialer=dialfire&step=1";
        post(
            target,
            &sign("token", &format!("{PUBLIC}{target}{FIELDS}")),
            BODY,
        )
    }

    /// What a handler sees, as text, or what a stranger does.
    async fn send(edge: &Edge, request: Request) -> (u16, String) {
        let reason = match SignedWebhook::admit(request, edge).await {
            Ok(webhook) => {
                let step = webhook.query.text("step");
                let seen = format!(
                    "{} step {} call {} source {:?}",
                    webhook.path,
                    step.unwrap_or("-".into()),
                    webhook.call_id,
                    webhook.source
                );
                return (200, seen);
            }
            Err(WebhookRefusal::Malformed(malformed)) => {
                return (0, malformed.flaw.as_str().to_owned());
            }
            Err(WebhookRefusal::Rejected(reason)) => reason,
        };
        let response = reason.into_response();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Sends chunks without saying how many, then ends, breaks or hangs.
    struct Chunked(Vec<Bytes>, BodyEnd);

    enum BodyEnd {
        Hangs,
        Breaks,
    }

    impl hyper::body::Body for Chunked {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            match (self.0.pop(), &self.1) {
                (Some(chunk), _) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
                (None, BodyEnd::Hangs) => Poll::Pending,
                (None, BodyEnd::Breaks) => {
                    Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
                }
            }
        }
    }

    #[tokio::test]
    async fn a_signed_webhook_comes_through_with_its_fields() {
        let edge = edge();
        let mut request = genuine();
        request
            .extensions_mut()
            .insert(SourceAddress([192, 0, 2, 1].into()));
        let expected = format!("/webhooks/twilio/dial step 1 call {CALL} source Some(192.0.2.1)");
        assert_eq!(send(&edge, request).await, (200, expected));
        let other = CALL.replace("01", "02");
        let target = format!(
            "/webhooks/twilio?CallSid={other}&step=7&From=sip%3Aa%40b&AccountSid={ACCOUNT}"
        );
        let request = Request::get(&target)
            .header(
                "X-Twilio-Signature",
                sign("token", &format!("{PUBLIC}{target}")),
            )
            .header("Content-Type", "application/json")
            .body(Body::from(BODY))
            .unwrap();
        let expected = format!("/webhooks/twilio step 7 call {other} source None");
        assert_eq!(send(&edge, request).await, (200, expected));
        assert_eq!(edge.rejected(), []);
    }

    #[tokio::test]
    async fn a_head_is_read_as_a_get() {
        let edge = edge();
        let target = format!("/webhooks/twilio?{BODY}");
        let request = |body: Body| {
            Request::head(&target)
                .header(SIGNATURE, sign("token", &format!("{PUBLIC}{target}")))
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(body)
                .unwrap()
        };
        let expected = format!("/webhooks/twilio step - call {CALL} source None");
        for body in [Body::empty(), Body::from("CallSid=CA1")] {
            assert_eq!(send(&edge, request(body)).await, (200, expected.clone()));
        }
    }

    #[tokio::test]
    async fn where_there_is_no_body_its_type_says_nothing() {
        let edge = edge();
        let request = |body: &'static str| {
            Request::post("/w")
                .header(SIGNATURE, sign("token", &format!("{PUBLIC}/w")))
                .header("Content-Type", "text/plain")
                .body(Body::from(body))
                .unwrap()
        };
        // It is signed; what it lacks is found behind the signature.
        let flaw = (0, "account_sid_missing".to_owned());
        assert_eq!(send(&edge, request("")).await, flaw);
        assert_eq!(send(&edge, request("a")).await.0, 403);
    }

    #[tokio::test]
    async fn a_forged_webhook_is_refused_without_a_hint() {
        let edge = edge();
        let real = sign("token", &format!("{PUBLIC}/w{FIELDS}"));
        let unsigned = Request::post("/w").body(Body::from(BODY)).unwrap();
        let requests = [
            unsigned,
            post("/w", "", BODY),
            post("/w", "AAAA", BODY),
            post("/w", &sign("other", &format!("{PUBLIC}/w{FIELDS}")), BODY),
            post("/w", &real, BODY.replace("5550100", "5550101")),
            post("/w?step=2", &real, BODY),
        ];
        for request in requests {
            assert_eq!(send(&edge, request).await, (403, "forbidden\n".to_owned()));
        }
        assert_eq!(edge.n_refused(RefusalReason::Signature), 6);
        let json = Request::post("/w")
            .header("Content-Type", "application/json")
            .header("X-Twilio-Signature", real)
            .body(Body::from(BODY))
            .unwrap();
        assert_eq!(send(&edge, json).await.0, 403);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_and_looked_into_once_a_second() {
        let edge = edge();
        let explained = sign("token", &format!("http://calls.example.com/w{FIELDS}"));
        send(&edge, post("/w?From=secret", "AAAA", BODY)).await;
        for _ in 0..200 {
            send(&edge, post("/w", &explained, BODY)).await;
        }
        assert_eq!(
            (
                edge.n_refused(RefusalReason::Signature),
                edge.rejected().len()
            ),
            (201, 1)
        );
        assert_eq!(edge.explained(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        send(&edge, post("/w", &explained, BODY)).await;
        for _ in 0..40 {
            tokio::time::advance(Duration::from_secs(1)).await;
            send(&edge, post("/w", "AAAA", BODY)).await;
        }
        assert_eq!(
            (
                edge.n_refused(RefusalReason::Signature),
                edge.rejected().len()
            ),
            (242, 32)
        );
        let explained = edge.explained().unwrap();
        let diagnosis = explained.diagnosis.as_ref().unwrap();
        assert_eq!(diagnosis.would_match, [Deviation::Scheme("http://")]);
        assert_eq!(diagnosis.parameters, ["AccountSid", "CallSid", "From"]);
        let shown = format!("{:?}{explained:?}", edge.rejected());
        assert!(
            !shown.contains("4155550100") && !shown.contains("secret"),
            "{shown}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_bounded_in_size_and_time() {
        let edge = edge();
        let declared = post("/w", "AAAA", vec![b'a'; BODY_LIMIT + 1]);
        assert_eq!(send(&edge, declared).await.0, 413);
        let chunks =
            |n: usize, end| Body::new(Chunked(vec![Bytes::from(vec![b'a'; 1_024]); n], end));
        assert_eq!(
            send(&edge, post("/w", "AAAA", chunks(65, BodyEnd::Hangs)))
                .await
                .0,
            413
        );
        assert_eq!(
            send(&edge, post("/w", "AAAA", chunks(64, BodyEnd::Hangs)))
                .await
                .0,
            408
        );
        assert_eq!(
            send(&edge, post("/w", "AAAA", chunks(3, BodyEnd::Breaks)))
                .await
                .0,
            400
        );
        let value = "b".repeat(BODY_LIMIT - BODY.len() - 3);
        let largest = format!("{BODY}&a={value}");
        let signature = sign("token", &format!("{PUBLIC}/w{FIELDS}a{value}"));
        assert_eq!(send(&edge, post("/w", &signature, largest)).await.0, 200);
        let refused = [
            RefusalReason::TooLarge,
            RefusalReason::TimedOut,
            RefusalReason::Broken,
        ]
        .map(|reason| edge.n_refused(reason));
        assert_eq!(refused, [2, 1, 1]);
    }

    #[tokio::test]
    async fn only_listed_sources_are_heard() {
        let edge = Edge::new(
            settings(&["192.0.2.0/24", "2001:db8::/32"], &["token"]),
            Clock::system(),
        );
        let cases = [
            (Some("192.0.2.7"), 200),
            (Some("::ffff:192.0.2.7"), 200),
            (Some("2001:db8::1"), 200),
            (Some("198.51.100.1"), 403),
            (None, 403),
        ];
        for (source, status) in cases {
            let mut request = genuine();
            if let Some(source) = source {
                request
                    .extensions_mut()
                    .insert(SourceAddress(source.parse().unwrap()));
            }
            assert_eq!(send(&edge, request).await.0, status, "{source:?}");
        }
        assert_eq!(edge.n_refused(RefusalReason::Source), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn forms_with_more_fields_than_any_webhook_are_looked_through_seldom() {
        let edge = edge();
        let many = |n: usize| format!("{BODY}{}", "&a=b".repeat(n));
        let signature = sign("token", &format!("{PUBLIC}/w{FIELDS}ab"));
        assert_eq!(send(&edge, post("/w", &signature, many(197))).await.0, 200);
        let flaw = (0, "too_many_fields".to_owned());
        assert_eq!(send(&edge, post("/w", &signature, many(198))).await, flaw);
        for _ in 0..200 {
            assert_eq!(send(&edge, post("/w", "AAAA", many(16_000))).await.0, 403);
        }
        // Fifteen at once, the first signed one among them.
        assert_eq!(edge.n_refused(RefusalReason::Signature), 14);
        assert_eq!(edge.n_refused(RefusalReason::TooManyFields), 186);
        let target = format!("/w?{}", "a&".repeat(201));
        assert_eq!(send(&edge, post(&target, "AAAA", BODY)).await.0, 403);
        assert_eq!(edge.n_refused(RefusalReason::TooManyFields), 187);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            send(&edge, post("/w", &signature, many(16_000))).await,
            flaw
        );
        assert_eq!(send(&edge, post("/w", &signature, many(197))).await.0, 200);
    }

    #[tokio::test]
    async fn a_reload_replaces_the_keys() {
        let edge = edge();
        edge.replace(settings(&[], &["new"]));
        assert_eq!(send(&edge, genuine()).await.0, 403);
        edge.replace(settings(&[], &["new", "token"]));
        assert_eq!(send(&edge, genuine()).await.0, 200);
        edge.replace(EdgeSettings {
            verify_signature: false,
            ..settings(&[], &["new"])
        });
        let unsigned = Request::post("/w").body(Body::from(BODY)).unwrap();
        let expected = format!("/w step - call {CALL} source None");
        assert_eq!(send(&edge, unsigned).await, (200, expected));
    }

    #[test]
    fn every_refusal_has_a_status_of_its_own_kind() {
        let status = |reason: RefusalReason| reason.into_response().status().as_u16();
        assert_eq!(
            status(RefusalReason::Source),
            status(RefusalReason::Signature)
        );
        assert_eq!(
            status(RefusalReason::Account),
            status(RefusalReason::Signature)
        );
        assert_eq!(RefusalReason::Broken.as_str(), "broken");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..crate::property::seeded() })]

        #[test]
        fn nothing_that_is_sent_panics(
            body in prop::collection::vec(any::<u8>(), 0..200),
            headers in prop::collection::vec(("[!-~]{0,30}", prop::collection::vec(32_u8.., 0..40)), 5),
            method in prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "BREW"]),
            query in "[!-~]{0,30}",
        ) {
            const NAMES: [&str; 5] = ["content-type", "x-twilio-signature", "x-twilio-webhooks-signature-settings", "host", "x-forwarded-host"];
            let mut request = Request::builder().method(method).uri(format!("/w?{}", query.replace(['"', '<', '>', '\\', '^', '`', '{', '|', '}', '#'], "")));
            for (name, (text, bytes)) in NAMES.iter().zip(&headers) {
                let value = if bytes.len() % 2 == 0 { text.as_bytes() } else { bytes };
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    request = request.header(*name, value);
                }
            }
            let request = request.body(Body::from(body)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (status, _) = runtime.block_on(send(&edge(), request));
            prop_assert_eq!(status, 403);
        }
    }
}

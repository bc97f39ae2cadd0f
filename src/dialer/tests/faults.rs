//! What can go wrong between two machines, and what each says of the request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::clock::Clock;
use crate::dialer::Api;
use crate::dialer::stand_in::{
    Act, PATIENCE, StandIn, all_kinds, answer, connections, dialer_over, dialfire, dialfire_api,
    hand_off, http, zendesk,
};
use crate::handoff::{Failure, FailureKind, Outcome};

/// Long enough for loopback, short enough for a test.
const SHORT: Duration = Duration::from_millis(150);
/// How far beyond its timeout an attempt may end on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

fn not_sent() -> Outcome {
    Outcome::Retryable {
        failure: Failure::of(FailureKind::Connect),
        retry_after_ms: None,
    }
}

fn unknown(kind: FailureKind, status: Option<u16>) -> Outcome {
    let failure = Failure { kind, status };
    Outcome::Unknown { failure }
}

/// Every kind of dialer ends like this, in time.
async fn check(act: Act, timeout: Duration, expected: &Outcome) {
    for dialer in all_kinds(&StandIn::start([act.clone()]).await.base) {
        let clock = Clock::system();
        let started = clock.instant();
        let handed = hand_off(&dialer, timeout).await;
        let elapsed = clock.instant().duration_since(started);
        assert_eq!(&handed.outcome, expected, "{act:?} at {dialer:?}");
        assert!(elapsed < timeout + SLACK, "{act:?} took {elapsed:?}");
        assert_eq!(handed.exchanges.len(), 1);
    }
}

#[tokio::test]
async fn every_status_has_its_class() {
    let refused = |kind, status| Outcome::Refused {
        failure: Failure::with_status(kind, status),
    };
    let retryable = |kind, status| Outcome::Retryable {
        failure: Failure::with_status(kind, status),
        retry_after_ms: None,
    };
    for status in [300, 301, 302, 304, 400, 402, 404, 405, 410, 413, 418, 422] {
        let expected = refused(FailureKind::Rejected, status);
        check(answer(status, "no"), PATIENCE, &expected).await;
    }
    for status in [401, 403] {
        let expected = refused(FailureKind::Unauthorized, status);
        check(answer(status, "MarkerToken4711"), PATIENCE, &expected).await;
    }
    for status in [408, 425, 500, 502, 503, 504, 599] {
        let expected = retryable(FailureKind::ServerError, status);
        check(answer(status, "+4930123450"), PATIENCE, &expected).await;
    }
}

#[tokio::test]
async fn retry_after_is_read_in_seconds() {
    for (status, kind) in [
        (429, FailureKind::RateLimited),
        (503, FailureKind::ServerError),
    ] {
        let act = Act::Answer(status, "retry-after: 3600\r\n", String::new());
        let expected = Outcome::Retryable {
            failure: Failure::with_status(kind, status),
            retry_after_ms: Some(3_600_000),
        };
        check(act, PATIENCE, &expected).await;
    }
    for text in ["retry-after: soon\r\n", "retry-after: -1\r\n", ""] {
        let peer = StandIn::start([Act::Answer(429, text, String::new())]).await;
        let handed = hand_off(&dialfire(&peer.base), PATIENCE).await;
        assert_eq!(handed.outcome.retry_after(), None, "{text}");
    }
}

#[tokio::test]
async fn retry_after_is_read_as_a_date() {
    let now = Clock::system().now();
    let at = now
        .checked_add(jiff::SignedDuration::from_secs(3_600))
        .unwrap();
    let date = at.strftime("retry-after: %a, %d %b %Y %H:%M:%S GMT\r\n");
    let date: &'static str = date.to_string().leak();
    for status in [429, 503] {
        let peer = StandIn::start([Act::Answer(status, date, String::new())]).await;
        for dialer in all_kinds(&peer.base) {
            let wish = hand_off(&dialer, PATIENCE).await.outcome.retry_after();
            let wish = wish.unwrap();
            let hour = Duration::from_hours(1);
            assert!(wish <= hour && wish > hour / 2, "{wish:?} of {dialer:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_packed_unasked_is_read() {
    // printf '{"ticket":{"id":35436},"data":{"$id":"C0NTACT1"},"id":"call-1"}' | gzip -9n
    let packed: &'static [u8] = include_bytes!("packed.gz");
    let peer = StandIn::start([Act::Packed(packed)]).await;
    let references = ["C0NTACT1", "35436", "call-1"];
    for (dialer, reference) in all_kinds(&peer.base).into_iter().zip(references) {
        let handed = hand_off(&dialer, PATIENCE).await;
        let reference = Some(reference.to_owned());
        assert_eq!(handed.outcome, Outcome::Accepted { reference });
    }
    let asked = peer.seen();
    let codings: Vec<_> = asked
        .iter()
        .map(|seen| seen.header("accept-encoding"))
        .collect();
    assert_eq!(codings, [Some("gzip"); 3]);
}

/// The connection may be of no use, or its name may lead elsewhere by now.
#[tokio::test]
async fn after_a_failure_a_dialer_is_asked_over_new_connections() {
    let broken = Act::Break("HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\n{");
    for (act, renewed) in [
        (answer(200, "{}"), 0),
        (answer(422, "no"), 0),
        (answer(503, "no"), 1),
        (answer(401, "no"), 1),
        (Act::Reset, 1),
        (broken, 1),
    ] {
        let peer = StandIn::start([act.clone()]).await;
        let clock = Clock::stopped(jiff::Timestamp::UNIX_EPOCH);
        let n_prepared = Arc::new(AtomicUsize::new(0));
        let counted = n_prepared.clone();
        let connections = connections(&clock, move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let api = Api::new(dialfire_api(&peer.base));
        let dialer = dialer_over(connections, clock.clone(), api);
        clock.advance(Duration::from_secs(1));
        hand_off(&dialer, PATIENCE).await;
        assert_eq!(n_prepared.load(Ordering::SeqCst), 1 + renewed, "{act:?}");
    }
}

/// The server's idle limit at the pace of calls: the next request meets a connection that is being closed.
#[tokio::test]
async fn a_kept_connection_that_is_reset_costs_no_retry_where_a_repeat_is_known() {
    for which in 0..3 {
        let body = r#"{"ticket":{"id":35436}}"#;
        let peer = StandIn::start([answer(200, body), Act::Reset, answer(200, body)]).await;
        let dialer = &all_kinds(&peer.base)[which];
        for _ in 0..2 {
            let handed = hand_off(dialer, PATIENCE).await;
            assert_eq!(handed.exchanges.len(), 1);
            if peer.seen().len() == 1 || dialer.kind() != "http" {
                assert!(
                    matches!(handed.outcome, Outcome::Accepted { .. }),
                    "{handed:?}"
                );
            } else {
                assert_eq!(handed.outcome, unknown(FailureKind::Reset, None));
            }
        }
        let expected = if dialer.kind() == "http" { 2 } else { 3 };
        assert_eq!(peer.seen().len(), expected, "{dialer:?}");
        let probed = dialer.probe(PATIENCE).await;
        assert!(probed.latency.is_some(), "{probed:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for dialer in all_kinds(&base) {
        let handed = hand_off(&dialer, PATIENCE).await;
        assert_eq!(handed.outcome, not_sent());
        let error = handed.exchanges[0].error.clone().unwrap();
        assert!(error.starts_with("no connection: "), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_sent_nothing() {
    for dialer in all_kinds("http://no-such-host.invalid") {
        let handed = hand_off(&dialer, PATIENCE).await;
        assert_eq!(handed.outcome, not_sent());
    }
}

/// A full accept queue: the kernel drops every further connection request, as a black hole does.
#[tokio::test]
async fn a_black_hole_sent_nothing() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        queue.push(stream.unwrap());
    }
    for dialer in all_kinds(&format!("http://{address}")) {
        let clock = Clock::system();
        let started = clock.instant();
        let handed = hand_off(&dialer, SHORT).await;
        assert_eq!(handed.outcome, not_sent());
        assert!(clock.instant().duration_since(started) < SHORT + SLACK);
        assert_eq!(
            handed.exchanges[0].error.as_deref(),
            Some("no connection in time; nothing was sent")
        );
    }
    drop((queue, listener));
}

/// TLS is spoken to a server that does not speak it: the connection fails before the request.
#[tokio::test]
async fn failed_tls_sent_nothing() {
    let peer = StandIn::start([Act::Raw("no TLS here")]).await;
    let base = peer.base.replace("http:", "https:");
    for dialer in [dialfire(&base), zendesk(&base), http(&base)] {
        let handed = hand_off(&dialer, SHORT).await;
        assert_eq!(handed.outcome, not_sent());
    }
    assert!(peer.seen().is_empty());
}

/// A certificate of nobody's is refused, and the record says that it was the certificate.
#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "a stand-in lives and dies with its test"
)]
async fn an_untrusted_certificate_sent_nothing() {
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            acceptor.accept(stream).await.ok();
        }
    });
    for dialer in all_kinds(&format!("https://localhost:{port}")) {
        let handed = hand_off(&dialer, PATIENCE).await;
        assert_eq!(handed.outcome, not_sent());
        let error = handed.exchanges[0].error.clone().unwrap();
        assert!(error.contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn silence_after_the_request_leaves_the_outcome_unknown() {
    check(Act::Hang, SHORT, &unknown(FailureKind::Timeout, None)).await;
    let half_a_head = Act::Stall("HTTP/1.1 200 X\r\ncontent-le");
    check(half_a_head, SHORT, &unknown(FailureKind::Timeout, None)).await;
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_leaves_the_outcome_unknown() {
    for act in [
        Act::Reset,
        Act::Close,
        Act::Break("HTTP/1.1 200 X\r\ncontent-le"),
        Act::Raw("HTTP/1.1 200"),
    ] {
        check(act, PATIENCE, &unknown(FailureKind::Reset, None)).await;
    }
}

#[tokio::test]
async fn what_is_no_http_leaves_the_outcome_unknown() {
    let garbage = Act::Raw("SSH-2.0-OpenSSH_9.9\r\n\r\n\r\n");
    check(garbage, PATIENCE, &unknown(FailureKind::Malformed, None)).await;
}

/// An answer that does not end: no more time than the whole attempt has, and none at all where its head says enough.
#[tokio::test]
async fn a_2xx_whose_body_does_not_come_is_unknown_unless_the_status_suffices() {
    const HEAD: &str = "HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n{\"da";
    let accepted = Outcome::Accepted { reference: None };
    for (act, timeout, kind) in [
        (Act::Drip, SHORT, FailureKind::Timeout),
        (Act::Stall(HEAD), SHORT, FailureKind::Timeout),
        (Act::Break(HEAD), PATIENCE, FailureKind::Reset),
        (Act::Raw(HEAD), PATIENCE, FailureKind::Reset),
    ] {
        let [dialfire, zendesk, http] = all_kinds(&StandIn::start([act.clone()]).await.base);
        for (dialer, expected) in [
            (dialfire, accepted.clone()),
            (zendesk, unknown(kind, Some(200))),
            (http, accepted.clone()),
        ] {
            let clock = Clock::system();
            let started = clock.instant();
            let handed = hand_off(&dialer, timeout).await;
            assert_eq!(handed.outcome, expected, "{act:?} at {dialer:?}");
            assert!(clock.instant().duration_since(started) < timeout + SLACK);
        }
    }
}

#[tokio::test]
async fn a_refusal_whose_body_does_not_come_is_a_refusal_at_once() {
    let act = Act::Stall("HTTP/1.1 503 X\r\ncontent-length: 100\r\n\r\nx");
    let expected = Outcome::Retryable {
        failure: Failure::with_status(FailureKind::ServerError, 503),
        retry_after_ms: None,
    };
    let clock = Clock::system();
    let started = clock.instant();
    check(act, PATIENCE, &expected).await;
    assert!(clock.instant().duration_since(started) < Duration::from_secs(5));
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    const HUGE: &str = "HTTP/1.1 200 X\r\ncontent-length: 1000000000\r\n\r\n{";
    for act in [Act::Endless, Act::Stall(HUGE)] {
        let peer = StandIn::start([act]).await;
        for (dialer, expected) in [
            (dialfire(&peer.base), Outcome::Accepted { reference: None }),
            (
                zendesk(&peer.base),
                Outcome::Refused {
                    failure: Failure::with_status(FailureKind::Malformed, 200),
                },
            ),
        ] {
            let handed = hand_off(&dialer, PATIENCE).await;
            assert_eq!(handed.outcome, expected);
            assert_eq!(
                handed.exchanges[0].error.as_deref(),
                Some("the answer is longer than 256 KiB")
            );
        }
    }
}

/// All steps of an attempt share one deadline.
#[tokio::test]
async fn the_second_step_has_what_the_first_left() {
    let peer = StandIn::start([answer(409, ""), Act::Hang]).await;
    let clock = Clock::system();
    let started = clock.instant();
    let handed = hand_off(&dialfire(&peer.base), SHORT).await;
    assert!(clock.instant().duration_since(started) < SHORT + SLACK);
    assert_eq!(handed.outcome, unknown(FailureKind::Timeout, None));
    assert_eq!(handed.exchanges.len(), 2);
}

#[tokio::test]
async fn without_time_nothing_is_sent() {
    let peer = StandIn::answering(200, "{}").await;
    let handed = hand_off(&dialfire(&peer.base), Duration::ZERO).await;
    assert_eq!(handed.outcome, not_sent());
    assert!(peer.seen().is_empty());
}

/// A peer that closes after every answer may do so just as the next request is written. Whatever happens then, no handoff is lost: it
/// is accepted, or it says that nothing was sent, or that the outcome is unknown; and it is never sent twice unseen.
#[tokio::test]
async fn a_connection_closed_between_two_requests_is_safe() {
    const ANSWER: &str = "HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\n{}";
    let peer = StandIn::start([Act::Raw(ANSWER)]).await;
    let dialer = dialfire(&peer.base);
    let mut n_accepted = 0;
    for n in 1..=200 {
        let handed = hand_off(&dialer, PATIENCE).await;
        match handed.outcome {
            Outcome::Accepted { .. } => n_accepted += 1,
            Outcome::Unknown { failure } => assert_eq!(failure.kind, FailureKind::Reset),
            other @ (Outcome::Refused { .. } | Outcome::Retryable { .. }) => panic!("{other:?}"),
        }
        assert!(peer.seen().len() <= n);
    }
    assert!(n_accepted >= 100, "{n_accepted}");
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_refusal() {
    let peer = StandIn::start([answer(422, "oops"), answer(200, "{}")]).await;
    let dialer = dialfire(&peer.base);
    hand_off(&dialer, PATIENCE).await;
    hand_off(&dialer, PATIENCE).await;
    let connections: Vec<_> = peer.seen().iter().map(|s| s.connection).collect();
    assert_eq!(connections, [1, 1]);
}

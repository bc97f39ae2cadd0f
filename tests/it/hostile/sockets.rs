//! HTTP as it is not meant to be spoken: two lengths, several requests at once, half of one.

use proptest::prelude::*;
use switchboard::call::CallId;
use switchboard_simulator::made_up;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{check, is_good_twiml, records};
use crate::panics::Panics;
use crate::wire::{Reply, Request, about, exchange, find, replies};
use crate::world::World;

const CALL: &str = "CA00000000000000000000000000000001";
const BODY: &[u8] = b"CallSid=CA00000000000000000000000000000001&AccountSid=AC00000000000000000000000000000001&From=%2B491700000090";

/// The appliance still answers, and has never heard of this call.
async fn assert_well_without_call(world: &World, call: &str) {
    let reply = Request::new("GET", "/health")
        .send(world.running().address)
        .await;
    assert_eq!(reply.status, 200);
    let id = CallId::parse(call).unwrap();
    assert_eq!(world.running().store.call(&id).await.unwrap(), None);
}

#[tokio::test]
async fn a_request_with_two_lengths_is_refused_and_the_connection_closed() {
    let world = World::new().await;
    let to = world.running().address;
    let before = records(&world).await;
    let signed = Request::signed("/webhooks/twilio", BODY).without("Connection");
    let length = BODY.len().to_string();
    let smuggled = Request::signed("/webhooks/twilio", about("smuggled", "").as_bytes()).to_bytes();
    let two_lengths = [
        signed.clone().header("Transfer-Encoding", "chunked"),
        signed
            .clone()
            .without("Content-Length")
            .header("Transfer-Encoding", "chunked")
            .header("Content-Length", &length),
        signed
            .clone()
            .header("transfer-encoding", "identity, chunked"),
        signed.clone().header("Transfer-Encoding", "xchunked"),
        signed.clone().header("Content-Length", "1"),
        signed
            .clone()
            .without("Content-Length")
            .header("Content-Length", &format!("{length}, 1")),
        signed
            .clone()
            .without("Content-Length")
            .header("Content-Length", &format!("+{length}")),
        signed
            .clone()
            .without("Content-Length")
            .header("Content-Length", "-1"),
        signed
            .clone()
            .without("Content-Length")
            .header("Content-Length", "99999999999999999999"),
    ];
    for request in two_lengths {
        let bytes = [request.to_bytes(), b"0\r\n\r\n".to_vec(), smuggled.clone()].concat();
        let answers = exchange(to, &bytes).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [400], "{}", request.head().escape_ascii());
    }
    assert_eq!(records(&world).await, before);
    assert_well_without_call(&world, CALL).await;
    assert_well_without_call(&world, &made_up::call_sid("smuggled")).await;
}

#[tokio::test]
async fn a_head_that_is_no_head_is_refused_and_the_connection_closed() {
    let world = World::new().await;
    let to = world.running().address;
    let before = records(&world).await;
    let signed = Request::signed("/webhooks/twilio", BODY).without("Connection");
    let head = |line: &str| format!("{line}\r\nHost: a\r\n\r\n").into_bytes();
    let mut many = signed.clone();
    for n in 0..70 {
        many = many.header(&format!("X-{n}"), "x");
    }
    let long = signed.clone().header("X-Long", &"x".repeat(20_000));
    let cases: [(Vec<u8>, u16); 12] = [
        (many.to_bytes(), 431),
        (long.to_bytes(), 431),
        (signed.clone().raw_header(b"X-Nul", b"a\0b").to_bytes(), 400),
        (signed.clone().raw_header(b"X Blank", b"a").to_bytes(), 400),
        (
            signed
                .clone()
                .raw_header(b"Transfer-Encoding ", b"chunked")
                .to_bytes(),
            400,
        ),
        (
            signed
                .clone()
                .raw_header(b"X-Folded", b"a\r\n Content-Length: 3")
                .to_bytes(),
            400,
        ),
        (
            signed
                .clone()
                .raw_header(b"X-Bare", b"a\rContent-Length: 3")
                .to_bytes(),
            400,
        ),
        (
            signed
                .clone()
                .raw_header("X-\u{e4}".as_bytes(), b"a")
                .to_bytes(),
            400,
        ),
        (head("GET /health HTTP/9.9"), 400),
        (head("GET /health"), 400),
        (head("GET  /health HTTP/1.1"), 400),
        (
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            400,
        ),
    ];
    for (bytes, status) in cases {
        let shown = bytes[..bytes.len().min(300)].escape_ascii().to_string();
        let answers = exchange(to, &bytes).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [status], "{shown}");
    }
    let preface = exchange(to, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(preface.is_empty(), "HTTP/2 is not spoken here: {preface:?}");
    assert_eq!(records(&world).await, before);
    assert_well_without_call(&world, CALL).await;
}

#[tokio::test]
async fn a_body_in_broken_chunks_is_refused() {
    let world = World::new().await;
    let to = world.running().address;
    let before = records(&world).await;
    let head = Request::signed("/webhooks/twilio", BODY)
        .without("Content-Length")
        .header("Transfer-Encoding", "chunked")
        .head();
    for body in [
        "zz\r\n",
        "fffffffffffffffff\r\n",
        "-5\r\nabcde\r\n",
        "3\r\nabcdef\r\n0\r\n\r\n",
    ] {
        let answers = exchange(to, &[head.clone(), body.as_bytes().to_vec()].concat()).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [400], "{body:?}");
    }
    assert_eq!(records(&world).await, before);
}

#[tokio::test]
async fn a_body_in_chunks_is_taken() {
    let world = World::new().await;
    for size in [1, 7, 1_000] {
        let reply = Request::signed("/webhooks/twilio", BODY)
            .chunked(size)
            .send(world.running().address)
            .await;
        assert_eq!(reply.complaints(), Vec::<String>::new(), "{size}");
    }
}

#[tokio::test]
async fn a_target_in_absolute_form_is_the_path_that_was_signed() {
    let world = World::new().await;
    for authority in [
        "http://calls.example.com",
        "https://evil.example:81",
        "http://127.0.0.1",
    ] {
        let signed = Request::signed("/webhooks/twilio?x=1", BODY).to_bytes();
        let line = format!("POST {authority}/webhooks/twilio?x=1 HTTP/1.1\r\n");
        let end = find(&signed, b"\r\n").unwrap() + 2;
        let bytes = [line.as_bytes(), &signed[end..]].concat();
        let answers = exchange(world.running().address, &bytes).await;
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].complaints(), Vec::<String>::new(), "{authority}");
    }
}

#[tokio::test]
async fn who_expects_to_be_told_to_continue_is_told_and_answered() {
    let world = World::new().await;
    let request = Request::signed("/webhooks/twilio", BODY).header("Expect", "100-continue");
    let mut stream = TcpStream::connect(world.running().address).await.unwrap();
    stream.write_all(&request.head()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(BODY).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answers = replies(&answer);
    assert_eq!(answers[0].complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn who_expects_to_continue_with_too_much_is_refused_before_the_body() {
    let world = World::new().await;
    let request = Request::signed("/webhooks/twilio", BODY)
        .without("Content-Length")
        .header("Content-Length", "1000000")
        .header("Expect", "100-continue");
    let answers = exchange(world.running().address, &request.head()).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [413]);
}

#[tokio::test]
async fn half_a_request_leaves_nothing_behind() {
    let panics = Panics::watch();
    let world = World::new().await;
    let before = records(&world).await;
    let whole = Request::signed("/webhooks/twilio", BODY).to_bytes();
    for length in (0..whole.len()).step_by(9).chain([whole.len() - 1]) {
        let mut stream = TcpStream::connect(world.running().address).await.unwrap();
        stream.write_all(&whole[..length]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // Closed in order or reset: either way no answer that means anything.
        drop(stream.read_to_end(&mut answer).await);
        let statuses: Vec<u16> = replies(&answer).iter().map(|reply| reply.status).collect();
        assert!(
            statuses.is_empty() || statuses == [400],
            "{length}: {statuses:?}"
        );
    }
    assert_eq!(records(&world).await, before);
    assert_well_without_call(&world, CALL).await;
    assert_eq!(panics.of_the_product(), Vec::<String>::new());
}

#[tokio::test]
async fn who_hangs_up_before_the_answer_still_has_the_call_recorded_once() {
    let world = World::new().await;
    let delay = std::time::Duration::from_millis(200);
    world
        .outside
        .braze
        .faults()
        .standing(switchboard_simulator::faults::Fault::Delay(delay));
    let mut stream = TcpStream::connect(world.running().address).await.unwrap();
    let whole = Request::signed("/webhooks/twilio", BODY).to_bytes();
    stream.write_all(&whole).await.unwrap();
    world.outside.braze.requests().reached(1).await;
    drop(stream);
    // The same webhook again gets the answer of the first, whose work went on.
    let reply = Request::signed("/webhooks/twilio", BODY)
        .send(world.running().address)
        .await;
    assert_eq!(reply.complaints(), Vec::<String>::new());
    assert_eq!(world.asked_dialfire(), 1);
}

#[tokio::test]
async fn who_closes_their_side_after_the_request_gets_the_answer() {
    let world = World::new().await;
    let delay = std::time::Duration::from_millis(100);
    world
        .outside
        .braze
        .faults()
        .standing(switchboard_simulator::faults::Fault::Delay(delay));
    for request in [
        Request::signed("/webhooks/twilio", BODY).without("Connection"),
        Request::new("GET", "/health").without("Connection"),
    ] {
        let mut stream = TcpStream::connect(world.running().address).await.unwrap();
        stream.write_all(&request.to_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let statuses: Vec<u16> = replies(&answer).iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [200], "{request:?}");
    }
    assert_eq!(world.asked_dialfire(), 1);
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    let world = World::new().await;
    let to = world.running().address;
    let before = records(&world).await;
    let signed = || Request::signed("/webhooks/twilio", BODY);
    let refused = [
        signed().without("Host"),
        signed().header("Host", "calls.example.com"),
        signed().header("host", "other.example"),
        signed().header("Host", ""),
        Request::new("GET", "/health").without("Host"),
    ];
    for request in refused {
        // What follows is not answered.
        let kept = request.clone().without("Connection").to_bytes();
        let bytes = [kept, signed().to_bytes()].concat();
        let answers = exchange(to, &bytes).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [400], "{request:?}");
    }
    assert_eq!(records(&world).await, before);
    for (head, status) in [
        ("GET /health HTTP/1.0\r\n\r\n", 200),
        ("GET /health HTTP/1.0\r\nHost: a\r\n\r\n", 200),
        ("GET /health HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (
            "GET /health HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n",
            200,
        ),
    ] {
        let answers = exchange(to, head.as_bytes()).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [status], "{head:?}");
    }
}

#[test]
fn requests_in_one_stream_are_answered_in_order_however_it_is_cut() {
    // Each names itself, so that an answer to another request shows.
    let request = |n: usize, kind: u8| match kind {
        0 => Request::signed(
            "/webhooks/twilio",
            about(&n.to_string(), "&From=anonymous").as_bytes(),
        ),
        1 => Request::form("/webhooks/twilio", BODY).header("X-Twilio-Signature", "no"),
        2 => Request::new("GET", "/health"),
        _ => Request::new("GET", "/nothing"),
    };
    let status = |kind| match kind {
        0 | 2 => 200,
        1 => 403,
        _ => 404,
    };
    let input = (
        prop::collection::vec(0..4_u8, 1..8),
        prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    );
    check(30, &input, async |(kinds, cuts)| {
        let world = World::new().await;
        let mut bytes = Vec::new();
        for (n, kind) in kinds.iter().enumerate() {
            let mut request = request(n, *kind).header("X-Request-ID", &format!("n-{n}"));
            if n + 1 < kinds.len() {
                request = request.without("Connection");
            }
            bytes.extend(request.to_bytes());
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        let mut stream = TcpStream::connect(world.running().address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            stream.write_all(&bytes[from..cut]).await.unwrap();
            // The other side reads what there is before the next piece comes.
            tokio::task::yield_now().await;
            from = cut;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answers = replies(&answer);
        prop_assert_eq!(answers.len(), kinds.len());
        for (n, (answer, kind)) in answers.iter().zip(&kinds).enumerate() {
            prop_assert_eq!(answer.status, status(*kind));
            let expected = format!("n-{n}");
            prop_assert_eq!(answer.header("X-Request-ID"), Some(expected.as_str()));
            if *kind == 0 {
                is_good_twiml(answer)?;
            }
        }
        Ok(())
    });
}

#[test]
fn noise_gets_whole_answers_or_none_and_makes_no_call() {
    let noise = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..300),
        "(GET|POST|[A-Z]{1,9}) (/webhooks/twilio|[!-~]{0,9}) HTTP/1\\.[01]\r\n([A-Za-z-]{0,9}:[ -~]{0,9}\r\n){0,4}\r\n[ -~]{0,30}"
            .prop_map(String::into_bytes),
    ]
    .prop_filter("its answer states a length and has no body", |noise| {
        !noise.starts_with(b"HEAD ")
    });
    check(50, &noise, async |noise| {
        let world = World::new().await;
        let mut stream = TcpStream::connect(world.running().address).await.unwrap();
        drop(stream.write_all(&noise).await);
        drop(stream.shutdown().await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        // Some of the noise is a request, and may be answered as one.
        let failed = |reply: &Reply| reply.status >= 500 && reply.status != 503;
        let answers = replies(&answer);
        prop_assert!(!answers.iter().any(failed), "{answers:?}");
        let counts = world.running().store.counts().await.unwrap();
        prop_assert_eq!(counts.calls, 0);
        Ok(())
    });
}

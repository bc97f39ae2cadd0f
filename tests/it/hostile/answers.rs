//! Arbitrary answers of Braze and of the dialers, byte by byte.

use proptest::prelude::*;
use switchboard::audit::Kind;
use switchboard::call::CallId;
use switchboard_simulator::made_up;

use super::{check, header_value, is_good_twiml};
use crate::wire::{Parrot, Reply, Request, about};
use crate::world::{HOT, Settings, World};

/// Texts that look like an answer, then less and less.
fn json() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "0",
        "-1e308",
        "1e999",
        "18446744073709551616",
        "\"\"",
        "\"success\"",
        "\"90\"",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "\"+491700000090\"",
        "\"2026-01-02T03:04:05Z\"",
    ])
    .prop_map(str::to_owned);
    let key = prop::sample::select(vec![
        "users",
        "message",
        "external_id",
        "custom_attributes",
        "lead_score",
        "ticket",
        "id",
        "$id",
        "error",
        "errors",
        "data",
    ]);
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let member = (key.clone(), inner.clone()).prop_map(|(k, v)| format!("\"{k}\":{v}"));
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 0..6)
                .prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
    .prop_map(String::into_bytes)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => json(),
        1 => (json(), any::<prop::sample::Index>()).prop_map(|(mut json, cut)| {
            json.truncate(cut.index(json.len() + 1));
            json
        }),
        1 => (json(), any::<prop::sample::Index>(), 0x80..=0xff_u8).prop_map(|(mut json, at, byte)| {
            json.insert(at.index(json.len() + 1), byte);
            json
        }),
        1 => (1_000..5_000_usize, prop::sample::select(vec!["[", "{\"users\":", "{\"users\":[{\"a\":"]))
            .prop_map(|(depth, opening)| opening.repeat(depth).into_bytes()),
        1 => (250_000..400_000_usize).prop_map(|length| {
            format!("{{\"users\":[],\"message\":\"{}\"}}", "x".repeat(length)).into_bytes()
        }),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ]
}

/// How the end of the body is told.
#[derive(Clone, Copy, Debug)]
enum Length {
    True,
    TooLong,
    TooShort,
    Unsaid,
    Chunked,
    BrokenChunk,
    Nonsense,
}

fn framed(length: Length, body: &[u8]) -> (String, Vec<u8>) {
    let stated = |n: usize| format!("Content-Length: {n}\r\n");
    let chunked = "Transfer-Encoding: chunked\r\n".to_owned();
    let plain = body.to_vec();
    let in_chunk = |end: &str| {
        let start = format!("{:x}\r\n", body.len()).into_bytes();
        [start, body.to_vec(), end.as_bytes().to_vec()].concat()
    };
    match length {
        Length::True => (stated(body.len()), plain),
        Length::TooLong => (stated(body.len() + 7), plain),
        Length::TooShort => (stated(body.len() / 2), plain),
        Length::Unsaid => (String::new(), plain),
        Length::Chunked => (chunked, in_chunk("\r\n0\r\n\r\n")),
        Length::BrokenChunk => (chunked, in_chunk("zz")),
        Length::Nonsense => (
            "Content-Length: -1\r\nContent-Length: 1e3\r\n".to_owned(),
            plain,
        ),
    }
}

fn answer() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![
        5 => Just(200_u16),
        2 => Just(201_u16),
        2 => prop::sample::select(vec![100, 101, 103, 204, 205, 206, 301, 307, 304, 400, 401, 407, 408, 409, 413, 421, 422, 425, 429, 500, 502, 503, 511, 599, 600, 999]),
        1 => 100..1000_u16,
    ];
    let length = prop::sample::select(vec![
        Length::True,
        Length::True,
        Length::TooLong,
        Length::TooShort,
        Length::Unsaid,
        Length::Chunked,
        Length::BrokenChunk,
        Length::Nonsense,
    ]);
    let name = prop::sample::select(vec![
        "Retry-After",
        "X-RateLimit-Remaining",
        "X-RateLimit-Limit",
        "X-RateLimit-Reset",
        "Content-Type",
        "Content-Encoding",
        "Location",
        "Date",
        "Set-Cookie",
        "Connection",
        "X-Request-ID",
    ]);
    let value = prop_oneof![
        2 => header_value(),
        3 => prop::sample::select(vec!["0", "-1", "1", "99999999999999999999", "NaN", "application/json", "gzip", "http://169.254.169.254/", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "keep-alive"])
            .prop_map(|value| value.as_bytes().to_vec()),
    ];
    let headers = prop::collection::vec((name, value), 0..6);
    let http = (status, headers, length, body()).prop_map(|(status, headers, length, body)| {
        let (framing, body) = framed(length, &body);
        let mut answer = format!("HTTP/1.1 {status} Odd\r\n").into_bytes();
        for (name, value) in headers {
            answer.extend([name.as_bytes(), b": ", &value, b"\r\n"].concat());
        }
        answer.extend(framing.bytes());
        answer.extend(b"\r\n");
        answer.extend(body);
        answer
    });
    prop_oneof![
        9 => http,
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::sample::select(vec![
            "",
            "HTTP/1.1",
            "HTTP/1.1 200",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.0 200 OK\r\n\r\n{}",
            "HTTP/2 200\r\n\r\n{}",
            "HTTP/1.1 20x OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n{}",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "220 mail.example.com ESMTP\r\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

/// The call that is made while everything at `parrot` answers like this.
async fn call_while(world: &World, parrot: &Parrot, answer: &[u8]) -> Result<Reply, TestCaseError> {
    parrot.say(answer);
    let before = parrot.asked();
    let body = about("1", "&From=%2B491700000090");
    let reply = Request::signed("/webhooks/twilio", body.as_bytes())
        .send(world.running().address)
        .await;
    prop_assert!(parrot.asked() > before, "nobody was asked");
    is_good_twiml(&reply)?;
    let id = CallId::parse(&made_up::call_sid("1")).unwrap();
    let records = world.running().store.records_of_call(&id).await.unwrap();
    let count = |kind| records.iter().filter(|record| record.kind == kind).count();
    prop_assert_eq!(
        (count(Kind::CallDecided), count(Kind::CallAnswered)),
        (1, 1)
    );
    Ok(reply)
}

#[test]
fn whatever_braze_answers_the_caller_reaches_a_dialer() {
    check(25, &answer(), async |answer| {
        let parrot = Parrot::bind().await;
        let world = World::with(Settings {
            braze_url: Some(parrot.url()),
            ..Settings::default()
        })
        .await;
        let reply = call_while(&world, &parrot, &answer).await?;
        prop_assert!(reply.text().contains("<Dial"), "{}", reply.text());
        Ok(())
    });
}

#[test]
fn whatever_the_dialers_answer_the_caller_hears_something_useful() {
    check(25, &answer(), async |answer| {
        let parrot = Parrot::bind().await;
        let world = World::with(Settings {
            dialers_url: Some(parrot.url()),
            ..Settings::default()
        })
        .await;
        let reply = call_while(&world, &parrot, &answer).await?;
        let text = reply.text();
        let is_useful =
            text.contains("<Dial") || (text.contains("<Say") && text.contains("<Redirect"));
        prop_assert!(is_useful, "{text}");
        Ok(())
    });
}

/// The rule that a hot caller meets while Braze says this of the caller's attributes.
async fn rule_while_attributes_are(attributes: &str) -> Option<String> {
    let parrot = Parrot::bind().await;
    let body = format!(
        r#"{{"users":[{{"external_id":"a","custom_attributes":{attributes}}}],"message":"success"}}"#
    );
    let head = format!(
        "HTTP/1.1 201 Created\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    parrot.say(format!("{head}{body}").as_bytes());
    let world = World::with(Settings {
        braze_url: Some(parrot.url()),
        ..Settings::default()
    })
    .await;
    let result = world.call(HOT).await;
    assert_eq!(parrot.asked(), 1);
    world.stored(&result).await.rule
}

#[tokio::test]
async fn a_score_is_read_beside_what_makes_no_sense_and_nothing_else_is_taken_for_one() {
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    let objects = format!("{}0{}", r#"{"a":"#.repeat(1_000), "}".repeat(1_000));
    let long = "y".repeat(300_000);
    let too_long = "y".repeat(4 << 20);
    let cases = [
        // Otherwise the properties above would hold for an appliance that never reads an answer.
        (r#"{"lead_score":90}"#.to_owned(), true),
        (format!(r#"{{"x":{deep},"lead_score":90}}"#), true),
        (format!(r#"{{"lead_score":90,"x":{objects}}}"#), true),
        (format!(r#"{{"lead_score":{deep}}}"#), false),
        (format!(r#"{{"lead_score":{objects}}}"#), false),
        (r#"{"lead_score":[90]}"#.to_owned(), false),
        (r#"{"lead_score":1e999}"#.to_owned(), false),
        (r#"{"lead_score":"NaN"}"#.to_owned(), false),
        (r#"{"lead_score":true}"#.to_owned(), false),
        (r#""lead_score""#.to_owned(), false),
        (deep.clone(), false),
        (format!(r#"{{"lead_score":90,"x":"{long}"}}"#), true),
        // More than is read of any answer.
        (format!(r#"{{"lead_score":90,"x":"{too_long}"}}"#), false),
    ];
    for (attributes, is_hot) in cases {
        let rule = rule_while_attributes_are(&attributes).await;
        let shown: String = attributes.chars().take(80).collect();
        assert_eq!(rule.is_some(), is_hot, "{shown}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (trap, parrot) = (Parrot::bind().await, Parrot::bind().await);
    let world = World::with(Settings {
        braze_url: Some(parrot.url()),
        dialers_url: Some(parrot.url()),
        ..Settings::default()
    })
    .await;
    let redirect = format!(
        "HTTP/1.1 307 Moved\r\nLocation: {}/x\r\nContent-Length: 0\r\n\r\n",
        trap.url()
    );
    parrot.say(redirect.as_bytes());
    world.call(HOT).await;
    assert!(parrot.asked() >= 3, "Braze and both dialers were asked");
    assert_eq!(trap.asked(), 0);
}

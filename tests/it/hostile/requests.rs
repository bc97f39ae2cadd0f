//! Arbitrary requests.

use std::cell::Cell;

use proptest::prelude::*;
use switchboard::audit::Kind;
use switchboard::store::StoredRecord;
use switchboard_simulator::made_up;

use super::{check, header_value, is_good_twiml, records};
use crate::wire::{Request, about};
use crate::world::{PUSH_SECRET, Settings, World};

/// Names that mean something, and some that do not.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "CallSid",
        "ParentCallSid",
        "DialCallSid",
        "From",
        "To",
        "Direction",
        "CallStatus",
        "DialCallStatus",
        "DialBridged",
        "DialCallDuration",
        "CallDuration",
        "SequenceNumber",
        "SipResponseCode",
        "StirVerstat",
        "ForwardedFrom",
        "ErrorCode",
        "ErrorUrl",
    ]);
    prop_oneof![
        9 => known.prop_map(|name| name.as_bytes().to_vec()),
        1 => encoded(),
    ]
}

/// Values as Twilio sends them, and as it never would.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let usual = prop::sample::select(vec![
        "CA00000000000000000000000000000001",
        "CA0000000000000000000000000000000a",
        "%2B491700000090",
        "%2B491700000010",
        "%2B0",
        "%2B266696687",
        "anonymous",
        "sip%3Aalice%40pbx.example.com",
        "sip%3A%22%3E%3CDial%3E%40x",
        "client%3Aa%26b",
        "inbound",
        "outbound-dial",
        "ringing",
        "in-progress",
        "completed",
        "busy",
        "no-answer",
        "canceled",
        "true",
        "-1",
        "4294967296",
        "99999999999999999999999999",
        "NaN",
        "%3C%2FNumber%3E%3CHangup%2F%3E",
        "%00",
        "%FF%FE",
        "%EF%BF%BE%ED%A0%80",
        "%",
        "%2",
        "%zz",
        "%u0041",
        "++",
    ]);
    prop_oneof![
        6 => usual.prop_map(|value| value.as_bytes().to_vec()),
        2 => encoded(),
        1 => "\\PC{0,20}".prop_map(String::into_bytes),
    ]
}

/// Anything that may stand between two `&`.
fn encoded() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..12)
}

fn form() -> impl Strategy<Value = Vec<u8>> {
    let field = (name(), value()).prop_map(|(name, value)| [name, b"=".to_vec(), value].concat());
    let fields = prop::collection::vec(field, 0..14)
        .prop_map(|fields| fields.join(&b'&'))
        .boxed();
    let of_a_call = fields
        .clone()
        .prop_map(|fields| [about("1", "&").into_bytes(), fields].concat());
    prop_oneof![
        6 => of_a_call,
        2 => fields,
        1 => prop::collection::vec(any::<u8>(), 0..400),
        // One value that fills the body.
        1 => (0..64_000_usize, any::<u8>())
            .prop_map(|(length, byte)| [about("2", "&From=").into_bytes(), vec![byte; length]].concat()),
    ]
}

const PATHS: [&str; 5] = [
    "/webhooks/twilio",
    "/webhooks/twilio/dial",
    "/webhooks/twilio/hold",
    "/webhooks/twilio/status",
    "/webhooks/twilio/fallback",
];

fn target() -> impl Strategy<Value = String> {
    let query = prop_oneof![
        2 => Just(String::new()),
        3 => "\\?(step=[0-9-]{0,11}&?|dialer=(dialfire|zendesk|[a-z%]{0,4})&?|n=[0-9]{1,10}&?|[a-z%=&+'@:]{0,6}){0,4}",
    ];
    (prop::sample::select(PATHS.to_vec()), query).prop_map(|(path, query)| format!("{path}{query}"))
}

#[test]
fn a_signed_webhook_gets_twiml_whatever_its_body() {
    check(80, &(target(), form()), async |(target, body)| {
        let world = World::new().await;
        let request = Request::signed(&target, &body);
        let reply = request.send(world.running().address).await;
        is_good_twiml(&reply)
    });
}

#[test]
fn a_signed_get_gets_twiml_whatever_its_query() {
    // What a request line cannot hold is escaped by every client, and refused by the listener.
    let query = "(CallSid=(CA[0-9a-f]{32}|[a-zA-Z0-9%&=+;:@'/?_-]{0,5})|From=(%2B49170000009[0-9]|[a-z%&=+@]{0,9})|step=[0-9]{0,2}|[a-z%&=+'@:|^~-]{0,9})(&CallStatus=[a-z-]{0,9}|&%FF=%00){0,2}";
    let input = (prop::sample::select(PATHS.to_vec()), query);
    check(40, &input, async |(path, query)| {
        let world = World::new().await;
        let target = format!("{path}?AccountSid={}&{query}", made_up::ACCOUNT_SID);
        let request = Request::signed_get(&target);
        let reply = request.send(world.running().address).await;
        is_good_twiml(&reply)
    });
}

#[test]
fn headers_of_any_kind_change_no_answer() {
    let name = prop_oneof![
        "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}",
        prop::sample::select(vec![
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
            "Forwarded",
            "X-Request-ID",
            "I-Twilio-Idempotency-Token",
            "Cookie",
            "Authorization",
            "Accept",
            "Accept-Encoding",
            "Content-Encoding",
            "Upgrade",
            "User-Agent",
        ])
        .prop_map(str::to_owned),
    ]
    .prop_filter("means something else than it says", |name| {
        ![
            "content-length",
            "content-type",
            "transfer-encoding",
            "connection",
            "expect",
            "host",
        ]
        .iter()
        .any(|reserved| name.eq_ignore_ascii_case(reserved))
            && !name.to_ascii_lowercase().starts_with("x-twilio-")
    });
    let headers = prop::collection::vec((name, header_value()), 0..40);
    check(40, &headers, async |headers| {
        let world = World::with(Settings {
            server: "trusted_proxies = [\"127.0.0.0/8\"]".to_owned(),
            ..Settings::default()
        })
        .await;
        let body = about("1", "&From=%2B491700000090");
        let mut request = Request::signed("/webhooks/twilio", body.as_bytes());
        for (name, value) in &headers {
            request = request.raw_header(name.as_bytes(), value);
        }
        let reply = request.send(world.running().address).await;
        is_good_twiml(&reply)?;
        let id = reply.header("X-Request-ID").unwrap_or_default();
        let is_plain = id.bytes().all(|b| b.is_ascii_graphic());
        prop_assert!(!id.is_empty() && is_plain, "{id:?}");
        Ok(())
    });
}

#[test]
fn what_says_how_it_was_signed_may_be_odd_and_is_then_refused() {
    let input = (
        prop::sample::select(vec![
            "X-Twilio-Signature",
            "X-Twilio-Webhooks-Signature-Settings",
            "X-Twilio-SettingsX",
        ]),
        header_value(),
        prop::option::of("[a-z/+;= -]{0,30}"),
    );
    check(40, &input, async |(header, value, content_type)| {
        let world = World::new().await;
        let before = records(&world).await;
        let mut request = Request::form("/webhooks/twilio", about("1", "").as_bytes())
            .raw_header(header.as_bytes(), &value);
        if let Some(content_type) = content_type {
            request = request
                .without("Content-Type")
                .header("Content-Type", &content_type);
        }
        let reply = request.send(world.running().address).await;
        prop_assert_eq!(reply.status, 403);
        prop_assert_eq!(reply.text(), "forbidden\n");
        prop_assert_eq!(records(&world).await, before);
        Ok(())
    });
}

#[test]
fn a_stranger_gets_a_refusal_below_the_prefix_whatever_path_and_method() {
    let method = prop_oneof![
        3 => prop::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"])
            .prop_map(str::to_owned),
        1 => "[A-Z][A-Z_-]{0,12}".prop_filter("its answer has no body", |m| m != "HEAD" && m != "CONNECT"),
    ];
    let path = prop_oneof![
        "/webhooks/twilio(/[!-~&&[^#? ]]{0,12}){0,4}(\\?[!-~&&[^# ]]{0,12})?",
        "/webhooks/twilio/(%[0-9A-F]{2}|\\.\\./|//){0,5}",
    ];
    check(50, &(method, path), async |(method, path)| {
        let world = World::new().await;
        let before = records(&world).await;
        let request = Request::new(&method, &path);
        let reply = request.send(world.running().address).await;
        let is_uri = !path.contains(['"', '<', '>', '`', '\\', '^', '{', '|', '}']);
        let expected = match method.as_str() {
            "GET" | "POST" => 403,
            // A method that no route has tells nothing.
            _ => 405,
        };
        let is_refused = reply.status == expected || (!is_uri && reply.status == 400);
        prop_assert!(is_refused, "{method} {path}: {}", reply.status);
        prop_assert_eq!(records(&world).await, before);
        Ok(())
    });
}

#[test]
fn a_profile_push_is_taken_or_refused_whatever_its_body() {
    let json = prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            "-0",
            "1e999",
            "1e-999",
            "80",
            "\"80\"",
            "\"NaN\"",
            "[]",
            "{}",
            "\"\\u0000\"",
            "\"\\ud800\"",
            "\"2026-01-02T03:04:05Z\"",
            "-9223372036854775809",
            "\"+491700000090\"",
            "\"\u{202e}x\"",
        ])
        .prop_map(str::to_owned),
        "\"[ -~&&[^\"\\\\]]{0,20}\"",
    ];
    let field = (
        prop::sample::select(vec![
            "phone",
            "phone",
            "external_id",
            "lead_score",
            "lead_tier",
            "sent_at",
            "x",
        ]),
        json,
    )
        .prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let body = prop_oneof![
        4 => (prop::bool::weighted(0.7), prop::collection::vec(field, 0..6)).prop_map(|(usable, mut fields)| {
            if usable {
                fields.retain(|field| !field.starts_with("\"phone\""));
                fields.push("\"phone\":\"+491700000090\"".to_owned());
            }
            format!("{{{}}}", fields.join(",")).into_bytes()
        }),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (0..3_000_usize).prop_map(|depth| "[".repeat(depth).into_bytes()),
    ];
    let taken = Cell::new(0);
    check(40, &body, async |body| {
        let world = World::new().await;
        let request = Request::new("POST", "/webhooks/braze")
            .header("Authorization", &format!("Bearer {PUSH_SECRET}"))
            .body(&body);
        let reply = request.send(world.running().address).await;
        prop_assert!(
            [204, 400].contains(&reply.status),
            "{}: {}",
            reply.status,
            reply.text()
        );
        let records = world.running().store.records(0, 100).await.unwrap();
        let is_pushed = |record: &StoredRecord| record.kind == Kind::ProfilePushed;
        let pushed = records.iter().any(is_pushed);
        prop_assert!(reply.status == 204 || !pushed, "recorded and refused");
        taken.set(taken.get() + usize::from(pushed));
        Ok(())
    });
    assert!(taken.get() > 0, "some of them were taken");
}

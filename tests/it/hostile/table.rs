//! Bad input, case by case: what it is answered with, and what is left of it.

use std::time::Duration;

use switchboard::audit::Kind;
use switchboard::clock::Clock;
use switchboard_simulator::faults::Fault;
use switchboard_simulator::made_up;

use super::records;
use crate::wire::{Request, about, encoded, sign};
use crate::world::{
    DIALFIRE_LINE, HOT, LAST_RESORT, PUSH_SECRET, STRANGER, Settings, World, ZENDESK_LINE, dialled,
};

const BODY: &[u8] = b"CallSid=CA00000000000000000000000000000001&AccountSid=AC00000000000000000000000000000001&From=%2B491700000090";
const LIMIT: usize = 64 * 1024;

async fn answered(world: &World, request: Request) -> u16 {
    request.send(world.running().address).await.status
}

/// A form of exactly this length.
fn form_of(length: usize) -> Vec<u8> {
    let start = about("1", "&x=").into_bytes();
    let rest = vec![b'y'; length - start.len()];
    [start, rest].concat()
}

#[tokio::test]
async fn without_a_genuine_signature_the_answer_is_403_and_nothing_is_stored() {
    let world = World::new().await;
    let before = records(&world).await;
    let good = sign(
        made_up::AUTH_TOKEN,
        &format!("{}/webhooks/twilio", made_up::PUBLIC_URL),
        BODY,
    );
    let mut flipped = good.clone().into_bytes();
    flipped[3] ^= 1;
    let unsigned = || Request::form("/webhooks/twilio", BODY);
    let signed_as = |signature: &str| unsigned().header("X-Twilio-Signature", signature);
    let cases = [
        ("missing", unsigned()),
        ("empty", signed_as("")),
        (
            "wrong",
            unsigned().raw_header(b"X-Twilio-Signature", &flipped),
        ),
        ("cut", signed_as(&good[..good.len() - 1])),
        (
            "in the query",
            Request::form(&format!("/webhooks/twilio?X-Twilio-Signature={good}"), BODY),
        ),
        (
            "of another path",
            Request::form("/webhooks/twilio/dial?step=1", BODY).header("X-Twilio-Signature", &good),
        ),
        (
            "of another body",
            Request::form("/webhooks/twilio", about("2", "").as_bytes())
                .header("X-Twilio-Signature", &good),
        ),
        (
            "of another token",
            Request::signed_by("other", "/webhooks/twilio", BODY),
        ),
        (
            "the second of two",
            signed_as("no").header("X-Twilio-Signature", &good),
        ),
        (
            "of an unconfigured key",
            signed_as(&good).header(
                "X-Twilio-Webhooks-Signature-Settings",
                "key=k,algorithm=HMAC_SHA256",
            ),
        ),
        (
            "unknown subpath",
            Request::form("/webhooks/twilio/unknown", BODY),
        ),
        (
            "the prefix with a slash",
            Request::form("/webhooks/twilio/", BODY),
        ),
        (
            "a GET",
            Request::new("GET", &format!("/webhooks/twilio?{}", about("1", ""))),
        ),
    ];
    for (case, request) in cases {
        assert_eq!(answered(&world, request).await, 403, "{case}");
    }
    assert_eq!(records(&world).await, before);
    assert_eq!(answered(&world, signed_as(&good)).await, 200);
    assert!(records(&world).await > before);
}

#[tokio::test]
async fn a_call_at_a_path_where_nothing_is_served_reaches_the_last_resort_and_is_recorded() {
    let world = World::new().await;
    let paths = [
        "/webhooks/twilio/unknown",
        "/webhooks/twilio/dial/x",
        "/webhooks/twilio//",
    ];
    for path in paths {
        let reply = Request::signed(path, about(path, "&CallStatus=ringing").as_bytes())
            .send(world.running().address)
            .await;
        assert_eq!(reply.complaints(), Vec::<String>::new(), "{path}");
        assert!(reply.text().contains(LAST_RESORT), "{path}");
    }
    assert_eq!(
        unusable(&world).await,
        paths.map(|path| (path.to_owned(), "unknown_path".to_owned()))
    );
    // Nobody waits for the answer to a report, and no call is lost with it.
    for report in [
        "&CallStatus=completed",
        "&CallStatus=ringing&Direction=outbound-dial",
    ] {
        let reply = Request::signed(paths[0], about("3", report).as_bytes())
            .send(world.running().address)
            .await;
        assert_eq!(reply.complaints(), Vec::<String>::new(), "{report}");
    }
    assert_eq!(unusable(&world).await.len(), paths.len());
    assert_eq!(world.asked_dialfire() + world.asked_zendesk(), 0);
}

#[tokio::test]
async fn a_call_at_any_other_path_of_ours_is_told_as_well_and_a_stranger_learns_nothing() {
    let world = World::new().await;
    let body = about("1", "&CallStatus=ringing");
    let paths = [
        "/",
        "/webhooks",
        "/webhooks/twilioo",
        "/twilio",
        "/api/v1/calls",
        "/health",
    ];
    for path in paths {
        let signed = Request::signed(path, about(path, "&CallStatus=ringing").as_bytes());
        let reply = signed.send(world.running().address).await;
        assert_eq!(reply.complaints(), Vec::<String>::new(), "{path}");
        assert!(reply.text().contains(LAST_RESORT), "{path}");
        let forged = Request::form(path, body.as_bytes()).header("X-Twilio-Signature", "AAAA");
        assert_eq!(answered(&world, forged).await, 403, "{path}");
    }
    let get = format!("/?{}", about("get", "&CallStatus=ringing"));
    let reply = Request::signed_get(&get)
        .send(world.running().address)
        .await;
    assert!(reply.text().contains(LAST_RESORT), "{}", reply.text());
    let told: Vec<String> = unusable(&world)
        .await
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert_eq!(told, [paths.as_slice(), &["/"]].concat());
    assert_eq!(world.asked_dialfire() + world.asked_zendesk(), 0);
}

#[tokio::test]
async fn the_query_of_a_callback_may_come_in_another_order_than_it_was_signed_in() {
    let world = World::new().await;
    let result = world.call(HOT).await;
    let dial = result.steps_to("/webhooks/twilio/dial")[0].clone();
    let (_, query) = dial.path.split_once('?').unwrap();
    let parts: Vec<&str> = query.split('&').collect();
    let [dialer, passport, step] = parts[..] else {
        panic!("{query}");
    };
    assert!(
        dialer.starts_with("dialer=") && passport.starts_with("p=") && step.starts_with("step="),
        "{query}"
    );
    let orders = [query.to_owned(), format!("{step}&{passport}&{dialer}")];
    let body = encoded(&dial.fields);
    for signed in &orders {
        for sent in &orders {
            let url = format!("{}/webhooks/twilio/dial?{signed}", made_up::PUBLIC_URL);
            let signature = sign(made_up::AUTH_TOKEN, &url, body.as_bytes());
            let request = Request::form(&format!("/webhooks/twilio/dial?{sent}"), body.as_bytes())
                .header("X-Twilio-Signature", &signature);
            let reply = request.send(world.running().address).await;
            assert_eq!(
                (reply.status, reply.text()),
                (200, dial.body.clone()),
                "{signed} as {sent}"
            );
        }
    }
}

#[tokio::test]
async fn a_slash_at_the_end_of_the_console_url_is_no_other_path() {
    let world = World::new().await;
    let reply = Request::signed("/webhooks/twilio/", BODY)
        .send(world.running().address)
        .await;
    assert_eq!(reply.complaints(), Vec::<String>::new());
    assert!(reply.text().contains(DIALFIRE_LINE), "{}", reply.text());
    let again = Request::signed("/webhooks/twilio", BODY)
        .send(world.running().address)
        .await;
    assert_eq!(again.text(), reply.text(), "it is the same call");
    assert_eq!(world.asked_dialfire(), 1);
}

/// Path and reason of every webhook that was recorded as unusable.
async fn unusable(world: &World) -> Vec<(String, String)> {
    let records = world.running().store.records(0, 1_000).await.unwrap();
    let of_kind = records
        .iter()
        .filter(|record| record.kind == Kind::WebhookUnusable);
    of_kind
        .map(|record| serde_json::from_str::<serde_json::Value>(&record.detail).unwrap())
        .map(|detail| {
            let text = |key| detail.get(key).unwrap().as_str().unwrap().to_owned();
            (text("path"), text("reason"))
        })
        .collect()
}

#[tokio::test]
async fn another_method_is_405_and_an_unsigned_request_to_nowhere_404() {
    let world = World::new().await;
    let before = records(&world).await;
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"] {
        for path in [
            "/webhooks/twilio",
            "/webhooks/twilio/dial",
            "/webhooks/braze",
            "/health",
        ] {
            assert_eq!(
                answered(&world, Request::new(method, path)).await,
                405,
                "{method} {path}"
            );
        }
    }
    assert_eq!(
        answered(&world, Request::new("GET", "/webhooks/braze")).await,
        405
    );
    assert_eq!(
        answered(&world, Request::new("GET", "/webhooks/twilioo")).await,
        404
    );
    assert_eq!(answered(&world, Request::new("GET", "/health")).await, 200);
    assert_eq!(records(&world).await, before);
}

#[tokio::test]
async fn a_body_up_to_the_limit_is_taken_and_one_byte_more_is_413() {
    let world = World::new().await;
    let request = |length| Request::signed("/webhooks/twilio", &form_of(length));
    assert_eq!(answered(&world, request(LIMIT)).await, 200);
    assert_eq!(answered(&world, request(LIMIT).chunked(1_000)).await, 200);
    let before = records(&world).await;
    assert_eq!(answered(&world, request(LIMIT + 1)).await, 413);
    assert_eq!(
        answered(&world, request(LIMIT + 1).chunked(1_000)).await,
        413
    );
    assert_eq!(
        answered(
            &world,
            Request::form("/webhooks/twilio", &form_of(1_000_000))
        )
        .await,
        413
    );
    assert_eq!(records(&world).await, before);
}

/// Target, body.
fn malformed() -> Vec<(&'static str, String)> {
    let inbound = "/webhooks/twilio";
    let account = format!("AccountSid={}", made_up::ACCOUNT_SID);
    let sid = made_up::call_sid("1");
    let call = format!("CallSid={sid}&{account}");
    let with = |more: &str| format!("{call}{more}");
    let called = |sid: &str| format!("{account}&CallSid={sid}");
    let other = made_up::call_sid("2");
    vec![
        (inbound, String::new()),
        (inbound, account.clone()),
        (inbound, called("")),
        (inbound, format!("{account}&callsid={sid}")),
        (inbound, format!("{call}&CallSid={sid}")),
        (inbound, format!("{call}&CallSid={other}")),
        ("/webhooks/twilio?CallSid=x", call.clone()),
        (inbound, called("CA1")),
        (inbound, called(&sid[1..])),
        (inbound, called(&format!("{sid}0"))),
        (inbound, called(&sid.replace("CA", "ca"))),
        (inbound, called(&sid.replace("CA", "SM"))),
        (inbound, called(&format!("{}g", &sid[..33]))),
        (inbound, called(&format!("+{sid}"))),
        (inbound, called("..%2Fx&From=%00")),
        (inbound, called("%FF%FE")),
        (inbound, format!("CallSid={sid}")),
        (inbound, with(&format!("&{account}"))),
        (inbound, with("&ParentCallSid=CA1")),
        (inbound, with("&ParentCallSid=")),
        (inbound, with("&DialCallSid=x")),
        (
            inbound,
            with(&format!("&ParentCallSid={other}&ParentCallSid={other}")),
        ),
        (inbound, with("&=x")),
        (inbound, with("&1st=x")),
        (inbound, with("&_a=x")),
        (inbound, with("&%2Fstatus%3Fstep=x")),
        (inbound, with("&a%20b=x")),
        (inbound, with("&a%26b=x")),
        (inbound, with("&b%C3%A4r=x")),
        (inbound, with("&a%00=x")),
        (inbound, with(&format!("&a{}=x", "b".repeat(64)))),
        (inbound, with(&format!("&SipHeader_{}=x", "b".repeat(247)))),
        (inbound, with(&"&a=b".repeat(199))),
        (inbound, with(&format!("&ApiVersion=CallSid{other}"))),
        ("/webhooks/twilio/dial", call.clone()),
        ("/webhooks/twilio/dial?dialer=dialfire", call.clone()),
        ("/webhooks/twilio/dial?dialer=dialfire&step=", call.clone()),
        ("/webhooks/twilio/dial?step=-1", call.clone()),
        ("/webhooks/twilio/dial?step=1&step=1", call.clone()),
        ("/webhooks/twilio/dial?step=1", account.clone()),
        ("/webhooks/twilio/hold", call.clone()),
        ("/webhooks/twilio/hold?n=1x", call.clone()),
        ("/webhooks/twilio/hold?n=1", called("%00")),
        ("/webhooks/twilio/unknown", called("CA1")),
        ("/webhooks/twilio/fallback", called("CA1")),
    ]
}

#[tokio::test]
async fn what_is_signed_and_does_not_fit_together_gets_the_safe_answer_and_leaves_nothing() {
    let world = World::new().await;
    let before = records(&world).await;
    for (target, body) in malformed() {
        let reply = Request::signed(target, body.as_bytes())
            .send(world.running().address)
            .await;
        assert_eq!(reply.complaints(), Vec::<String>::new(), "{target} {body}");
        let text = reply.text();
        assert!(text.contains(LAST_RESORT), "{target} {body}: {text}");
    }
    // Nobody listens to the answer to a report.
    for (target, body) in [
        (
            "/webhooks/twilio/status",
            about("1", "&ParentCallSid=x&CallStatus=completed"),
        ),
        ("/webhooks/twilio/status", about("1", "")),
        (
            "/webhooks/twilio/status?step=x",
            about("1", "&CallStatus=completed"),
        ),
    ] {
        let reply = Request::signed(target, body.as_bytes())
            .send(world.running().address)
            .await;
        assert_eq!(reply.complaints(), Vec::<String>::new(), "{target} {body}");
        assert!(reply.text().contains("<Response/>"), "{target} {body}");
    }
    let counts = world.running().store.counts().await.unwrap();
    assert_eq!(counts.calls, 0);
    assert_eq!(world.asked_dialfire() + world.asked_zendesk(), 0);
    assert_eq!(world.outside.braze.requests().count(), 0);
    // One incident opens for all of them; nothing else is written.
    let mut written = Vec::new();
    for _ in 0..200 {
        written = world.running().store.records(before, 1_000).await.unwrap();
        if !written.is_empty() {
            break;
        }
        Clock::system().wait(Duration::from_millis(50)).await;
    }
    let kinds: Vec<Kind> = written.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::IncidentOpened]);
    let opened = &written[0].detail;
    assert!(opened.contains(r#""webhooks_malformed""#), "{opened}");
}

#[tokio::test]
async fn names_and_numbers_of_fields_within_their_bounds_are_taken() {
    let world = World::new().await;
    let bounds = [
        "&a=b".repeat(197),
        format!("&a{}=x", "b".repeat(63)),
        format!("&SipHeader_{}=x", "b".repeat(246)),
        "&SipHeader_X-Queue.2=x&Digits=1&Digits=2&ToZip=&&".to_owned(),
        format!(
            "&ParentCallSid={}",
            made_up::call_sid("parent").to_uppercase()
        ),
    ];
    for (n, more) in bounds.into_iter().enumerate() {
        let body = about(&n.to_string(), &format!("{more}&From=%2B491700000090"));
        let reply = Request::signed("/webhooks/twilio", body.as_bytes())
            .send(world.running().address)
            .await;
        assert_eq!(reply.complaints(), Vec::<String>::new());
        assert!(
            reply.text().contains(DIALFIRE_LINE),
            "{body}: {}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn a_foreign_account_is_403_and_a_subaccount_that_is_listed_is_ours() {
    let world = World::with(Settings {
        twilio: format!("subaccounts = [\"{}\"]", account("2")),
        ..Settings::default()
    })
    .await;
    let before = records(&world).await;
    let of_account = |account: &str| {
        let sid = made_up::call_sid("1");
        format!("CallSid={sid}&AccountSid={account}&From=%2B491700000090")
    };
    for foreign in [
        account("3").as_str(),
        "AC1",
        "",
        "ac00000000000000000000000000000001",
    ] {
        for path in [
            "",
            "/dial?step=1",
            "/hold?n=1",
            "/status",
            "/fallback",
            "/unknown",
        ] {
            let target = format!("/webhooks/twilio{path}");
            let request = Request::signed(&target, of_account(foreign).as_bytes());
            assert_eq!(answered(&world, request).await, 403, "{target} {foreign}");
        }
    }
    assert_eq!(records(&world).await, before);
    let request = Request::signed("/webhooks/twilio", of_account(&account("2")).as_bytes());
    assert_eq!(answered(&world, request).await, 200);
    assert_eq!(world.asked_dialfire(), 1);
}

fn account(digit: &str) -> String {
    format!("AC{digit:0>32}")
}

#[tokio::test]
async fn json_in_place_of_a_form_is_a_webhook_without_fields() {
    use sha2::{Digest, Sha256};
    let world = World::new().await;
    let body = br#"{"CallSid":"CA00000000000000000000000000000001","AccountSid":"AC00000000000000000000000000000001"}"#;
    let digest = hex::encode(Sha256::digest(body));
    let target = format!("/webhooks/twilio?bodySHA256={digest}");
    let signature = sign(
        made_up::AUTH_TOKEN,
        &format!("{}{target}", made_up::PUBLIC_URL),
        b"",
    );
    let request = |body: &[u8]| {
        Request::new("POST", &target)
            .header("Content-Type", "application/json")
            .header("X-Twilio-Signature", &signature)
            .body(body)
    };
    let reply = request(body).send(world.running().address).await;
    assert_eq!(reply.complaints(), Vec::<String>::new());
    assert!(reply.text().contains(LAST_RESORT));
    assert_eq!(
        answered(&world, request(b"{}")).await,
        403,
        "another body than was signed"
    );
}

// ── Profile pushes ────────────────────────────────────────────────────────────────────────

fn push(secret: Option<&str>, body: &str) -> Request {
    let request = Request::new("POST", "/webhooks/braze").body(body.as_bytes());
    match secret {
        Some(secret) => request.header("Authorization", secret),
        None => request,
    }
}

fn profile(phone: &str, score: &str, sent_at: &str) -> Request {
    let body = format!(
        r#"{{"external_id":"a","phone":"{phone}","lead_score":{score},"sent_at":"{sent_at}"}}"#
    );
    push(Some(&format!("Bearer {PUSH_SECRET}")), &body)
}

#[tokio::test]
async fn a_profile_push_is_refused_without_its_secret_and_when_it_cannot_be_read() {
    let world = World::new().await;
    let before = records(&world).await;
    let bearer = format!("Bearer {PUSH_SECRET}");
    let good = r#"{"phone":"+491700000001","lead_score":95}"#;
    let large = format!(
        r#"{{"phone":"+491700000001","x":"{}"}}"#,
        "y".repeat(20_000)
    );
    let deep = "[".repeat(5_000);
    let cases = [
        ("no secret", push(None, good), 401),
        (
            "another secret",
            push(Some("Bearer made-up-push-secreT"), good),
            401,
        ),
        ("a part of it", push(Some("Bearer made-up-push"), good), 401),
        (
            "another scheme",
            push(Some(&format!("Basic {PUSH_SECRET}")), good),
            401,
        ),
        ("bare", push(Some(PUSH_SECRET), good), 401),
        ("no secret, too large", push(None, &large), 401),
        ("empty", push(Some(&bearer), ""), 400),
        ("broken", push(Some(&bearer), r#"{"phone":"+4917"#), 400),
        ("a list", push(Some(&bearer), "[]"), 400),
        ("no number", push(Some(&bearer), "{}"), 400),
        ("deep", push(Some(&bearer), &deep), 400),
        ("too large", push(Some(&bearer), &large), 413),
        (
            "too large in chunks",
            push(Some(&bearer), &large).chunked(1_000),
            413,
        ),
    ];
    // The first leaves a record of its source, and those after it one a minute.
    let cases_refused = 6;
    for (case, request, status) in cases {
        assert_eq!(answered(&world, request).await, status, "{case}");
    }
    let refusals = records(&world).await - before;
    assert!(
        (1..=cases_refused).contains(&refusals),
        "{refusals} records of refusals"
    );
    let result = world.call(STRANGER).await;
    assert_eq!(dialled(&result), [ZENDESK_LINE]);
}

#[tokio::test]
async fn a_pushed_profile_decides_the_next_call_and_an_older_one_loses() {
    let world = World::new().await;
    let later = "2026-01-02T00:00:00Z";
    assert_eq!(answered(&world, profile(STRANGER, "95", later)).await, 204);
    let result = world.call(STRANGER).await;
    assert_eq!(dialled(&result), [DIALFIRE_LINE]);
    assert_eq!(world.outside.braze.requests().count(), 0, "the cache knew");

    assert_eq!(
        answered(&world, profile(STRANGER, "5", "2026-01-01T00:00:00Z")).await,
        204
    );
    assert_eq!(
        dialled(&world.call(STRANGER).await),
        [DIALFIRE_LINE],
        "the older push loses"
    );

    assert_eq!(
        answered(&world, profile(STRANGER, "5", "2026-01-03T00:00:00Z")).await,
        204
    );
    assert_eq!(
        dialled(&world.call(STRANGER).await),
        [ZENDESK_LINE],
        "the newer one wins"
    );
}

#[tokio::test]
async fn a_push_counts_however_its_number_is_written_and_one_of_nobody_drops_what_is_known() {
    let world = World::new().await;
    let phones = [
        "+49 170 0000001",
        "491700000001",
        "0049 170 0000001",
        "+49 (0)170/000-0001",
    ];
    for (day, phone) in (1..).zip(phones) {
        let (score, line) = match day % 2 {
            1 => ("95", DIALFIRE_LINE),
            _ => ("5", ZENDESK_LINE),
        };
        let request = profile(phone, score, &format!("2026-01-0{day}T00:00:00Z"));
        assert_eq!(answered(&world, request).await, 204, "{phone}");
        assert_eq!(dialled(&world.call(STRANGER).await), [line], "{phone}");
    }
    let asked = || world.outside.braze.requests().count();
    assert_eq!(asked(), 0, "the cache knew");
    // Whose number that is nobody says; Braze does not repeat it, so the old score may not stay.
    let request = profile("0170 0000001", "95", "2026-01-05T00:00:00Z");
    assert_eq!(answered(&world, request).await, 204);
    world.call(STRANGER).await;
    assert_eq!(asked(), 1, "Braze is asked");
}

#[tokio::test]
async fn a_push_without_routing_fields_drops_the_profile() {
    let world = World::new().await;
    world.call(HOT).await;
    assert_eq!(world.outside.braze.requests().count(), 1);
    let nothing = format!(r#"{{"phone":"{HOT}"}}"#);
    let request = push(Some(&format!("Bearer {PUSH_SECRET}")), &nothing);
    assert_eq!(answered(&world, request).await, 204);
    world.call(HOT).await;
    assert_eq!(
        world.outside.braze.requests().count(),
        2,
        "Braze is asked again"
    );
}

// ── The fallback URL ──────────────────────────────────────────────────────────────────────

#[tokio::test]
async fn the_fallback_answers_with_dialers_braze_and_store_gone() {
    let world = World::new().await;
    for faults in [
        world.outside.braze.faults(),
        world.outside.dialfire.faults(),
        world.outside.zendesk.faults(),
    ] {
        faults.standing(Fault::RefuseConnections);
    }
    world.running().store.close().await;
    let whole = about(
        "1",
        "&From=%2B491700000090&ErrorCode=11200&ErrorUrl=https%3A%2F%2Fx",
    );
    for body in [whole.as_bytes(), b"", b"CallSid=%FF&From=%00"] {
        let reply = Request::signed("/webhooks/twilio/fallback", body)
            .send(world.running().address)
            .await;
        assert_eq!(reply.complaints(), Vec::<String>::new());
        assert!(reply.text().contains(LAST_RESORT), "{}", reply.text());
    }
    // A call that arrives meanwhile is answered too.
    let reply = Request::signed("/webhooks/twilio", BODY)
        .send(world.running().address)
        .await;
    assert_eq!(reply.complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn without_a_last_resort_the_fallback_rings_the_default_dialer() {
    let world = World::with(Settings {
        routing: String::new(),
        ..Settings::default()
    })
    .await;
    let reply = Request::signed("/webhooks/twilio/fallback", b"")
        .send(world.running().address)
        .await;
    assert_eq!(reply.complaints(), Vec::<String>::new());
    assert!(
        reply.text().contains("sip:k3v9tq@acme.sip.twilio.com"),
        "{}",
        reply.text()
    );
}

// ── Who may send, and how it is signed ────────────────────────────────────────────────────

#[tokio::test]
async fn only_listed_networks_may_send_webhooks() {
    let with = |networks: &str, server: &str| Settings {
        twilio: format!("allowed_networks = [{networks}]"),
        server: server.to_owned(),
        ..Settings::default()
    };
    let request = || Request::signed("/webhooks/twilio", BODY);
    let world = World::with(with("\"192.0.2.0/24\"", "")).await;
    let before = records(&world).await;
    assert_eq!(answered(&world, request()).await, 403);
    let claimed = request().header("X-Forwarded-For", "192.0.2.1");
    assert_eq!(
        answered(&world, claimed).await,
        403,
        "nobody vouches for that header"
    );
    assert_eq!(records(&world).await, before);

    let world = World::with(with("\"127.0.0.0/8\"", "")).await;
    assert_eq!(answered(&world, request()).await, 200);

    let world = World::with(with(
        "\"192.0.2.0/24\"",
        "trusted_proxies = [\"127.0.0.1/32\"]",
    ))
    .await;
    assert_eq!(answered(&world, request()).await, 403);
    for (forwarded, status) in [
        ("192.0.2.1", 200),
        ("198.51.100.1", 403),
        ("192.0.2.1, 198.51.100.1", 403),
        ("nonsense", 403),
    ] {
        let request = request().header("X-Forwarded-For", forwarded);
        assert_eq!(answered(&world, request).await, status, "{forwarded}");
    }
    // The proxy itself would be let in; who cannot be read is not the proxy.
    let world = World::with(with(
        "\"127.0.0.0/8\"",
        "trusted_proxies = [\"127.0.0.1/32\"]",
    ))
    .await;
    let unreadable = request().raw_header(b"X-Forwarded-For", b"\xff");
    assert_eq!(answered(&world, unreadable).await, 403);
    assert_eq!(answered(&world, request()).await, 200);
}

#[tokio::test]
async fn a_shared_key_signs_for_itself_and_the_auth_token_not_in_its_place() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use crate::signature::reference;

    const KEY: &str = "webhooks_sharedkey_1";
    let world = World::with(Settings {
        twilio: format!("shared_keys = [{{ id = \"{KEY}\", secret = \"made-up-shared-key\" }}]"),
        ..Settings::default()
    })
    .await;
    let url = format!("{}/webhooks/twilio", made_up::PUBLIC_URL);
    let message = [url.as_bytes().to_vec(), reference::suffix(BODY)].concat();
    let sha256 =
        |key: &str| STANDARD.encode(reference::hmac::<sha2::Sha256>(key.as_bytes(), &message));
    let settings = format!("key={KEY},algorithm=HMAC_SHA256");
    let request = |signature: &str| {
        Request::form("/webhooks/twilio", BODY)
            .header("X-Twilio-Signature", signature)
            .header("X-Twilio-Webhooks-Signature-Settings", &settings)
    };
    let before = records(&world).await;
    assert_eq!(
        answered(&world, request(&sha256(made_up::AUTH_TOKEN))).await,
        403
    );
    assert_eq!(
        answered(&world, request(&sign(made_up::AUTH_TOKEN, &url, BODY))).await,
        403
    );
    assert_eq!(
        answered(&world, request(&sign("made-up-shared-key", &url, BODY))).await,
        403,
        "SHA-1"
    );
    let without = Request::form("/webhooks/twilio", BODY)
        .header("X-Twilio-Signature", &sha256("made-up-shared-key"));
    assert_eq!(answered(&world, without).await, 403, "its key is not named");
    assert_eq!(records(&world).await, before);
    assert_eq!(
        answered(&world, request(&sha256("made-up-shared-key"))).await,
        200
    );
    assert_eq!(
        answered(&world, Request::signed("/webhooks/twilio", BODY)).await,
        200,
        "the token signs beside it"
    );
}

#[tokio::test]
async fn the_second_auth_token_of_the_list_is_accepted_and_a_third_is_not() {
    let world = World::with(Settings {
        credentials: format!(
            "auth_token = [\"the-next-token\", \"{}\"]",
            made_up::AUTH_TOKEN
        ),
        ..Settings::default()
    })
    .await;
    for (token, status) in [
        ("the-next-token", 200),
        (made_up::AUTH_TOKEN, 200),
        ("a-third-token", 403),
    ] {
        let request = Request::signed_by(token, "/webhooks/twilio", BODY);
        assert_eq!(answered(&world, request).await, status, "{token}");
    }
}

#[tokio::test]
async fn a_path_in_the_public_url_is_part_of_every_signed_url() {
    for public_url in [
        "https://calls.example.com/voice",
        "https://calls.example.com/voice/",
    ] {
        let world = World::with(Settings {
            public_url: public_url.to_owned(),
            ..Settings::default()
        })
        .await;
        // A proxy takes the path off: the stand-in signs with it and sends without it.
        let result = world.call(HOT).await;
        assert_eq!(dialled(&result), [DIALFIRE_LINE]);
        assert!(
            result.steps[0]
                .body
                .contains("https://calls.example.com/voice/webhooks/twilio/dial?"),
            "{}",
            result.steps[0].body
        );
        assert!(!result.steps_to("/webhooks/twilio/dial").is_empty());
        assert_eq!(
            answered(&world, Request::signed("/webhooks/twilio", BODY)).await,
            403,
            "signed without the path"
        );
    }
}

#[tokio::test]
async fn health_is_told_to_everybody() {
    let world = World::new().await;
    let reply = Request::new("GET", "/health")
        .send(world.running().address)
        .await;
    assert_eq!(reply.status, 200);
    let health: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(health["status"], "ok");
    assert_eq!(
        answered(&world, Request::new("GET", "/metrics")).await,
        404,
        "no recorder in this process"
    );
}

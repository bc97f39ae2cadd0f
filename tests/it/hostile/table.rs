//! Bad input, case by case: what it is answered with, and what is left of it.

use switchboard::audit::Kind;
use switchboard::simulator::faults::Fault;
use switchboard::simulator::made_up;

use crate::wire::{Request, sign};
use crate::world::{
    DIALFIRE_LINE, HOT, LAST_RESORT, PUSH_SECRET, STRANGER, Settings, World, ZENDESK_LINE, dialled,
};

const BODY: &[u8] = b"CallSid=CA1&From=%2B491700000090";
const LIMIT: usize = 64 * 1024;

async fn records(world: &World) -> i64 {
    world.running().store.counts().await.unwrap().records
}

async fn answered(world: &World, request: Request) -> u16 {
    request.send(world.running().address).await.status
}

/// A form of exactly this length.
fn form_of(length: usize) -> Vec<u8> {
    let start = b"CallSid=CA1&x=";
    [start.as_slice(), &vec![b'y'; length - start.len()]].concat()
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
            Request::form("/webhooks/twilio", b"CallSid=CA2").header("X-Twilio-Signature", &good),
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
        ("a GET", Request::new("GET", "/webhooks/twilio?CallSid=CA1")),
    ];
    for (case, request) in cases {
        assert_eq!(answered(&world, request).await, 403, "{case}");
    }
    assert_eq!(records(&world).await, before);
    assert_eq!(answered(&world, signed_as(&good)).await, 200);
    assert!(records(&world).await > before);
}

#[tokio::test]
async fn a_signed_request_to_nowhere_is_404_and_another_method_405() {
    let world = World::new().await;
    let before = records(&world).await;
    for path in [
        "/webhooks/twilio/unknown",
        "/webhooks/twilio/dial/x",
        "/webhooks/twilio/",
        "/webhooks/twilio//",
    ] {
        assert_eq!(
            answered(&world, Request::signed(path, BODY)).await,
            404,
            "{path}"
        );
    }
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

#[tokio::test]
async fn without_a_usable_call_sid_the_caller_reaches_the_last_resort_and_the_reason_is_recorded() {
    let world = World::new().await;
    let cases = [
        ("/webhooks/twilio", "", "call_sid_missing"),
        (
            "/webhooks/twilio",
            "CallSid=&From=%2B491700000090",
            "call_sid_missing",
        ),
        ("/webhooks/twilio", "callsid=CA1", "call_sid_missing"),
        ("/webhooks/twilio", "CallSid=CA+1", "call_sid_odd"),
        ("/webhooks/twilio", "CallSid=%FF%FE", "call_sid_odd"),
        (
            "/webhooks/twilio",
            "CallSid=..%2Fx&From=%00",
            "call_sid_odd",
        ),
        (
            "/webhooks/twilio/dial?step=1",
            "From=anonymous",
            "call_sid_missing",
        ),
        ("/webhooks/twilio/dial", "CallSid=CA1", "step_missing"),
        (
            "/webhooks/twilio/dial?step=-1",
            "CallSid=CA1",
            "step_missing",
        ),
        ("/webhooks/twilio/hold?n=1", "CallSid=%00", "call_sid_odd"),
    ];
    let mut expected = Vec::new();
    for (target, body, reason) in cases {
        let reply = Request::signed(target, body.as_bytes())
            .send(world.running().address)
            .await;
        assert_eq!(reply.complaints(), Vec::<String>::new(), "{target} {body}");
        assert!(
            reply.text().contains(LAST_RESORT),
            "{target} {body}: {}",
            reply.text()
        );
        let path = target.split('?').next().unwrap();
        expected.push((path.to_owned(), reason.to_owned()));
    }
    let records = world.running().store.records(0, 1_000).await.unwrap();
    let unusable: Vec<(String, String)> = records
        .iter()
        .filter(|record| record.kind == Kind::WebhookUnusable)
        .map(|record| serde_json::from_str::<serde_json::Value>(&record.detail).unwrap())
        .map(|detail| {
            (
                detail["path"].as_str().unwrap().to_owned(),
                detail["reason"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert_eq!(unusable, expected);
    assert_eq!(world.running().store.counts().await.unwrap().calls, 0);
}

#[tokio::test]
async fn json_in_place_of_a_form_is_a_webhook_without_fields() {
    use sha2::{Digest, Sha256};
    let world = World::new().await;
    let body = br#"{"CallSid":"CA1"}"#;
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
    for (case, request, status) in cases {
        assert_eq!(answered(&world, request).await, status, "{case}");
    }
    assert_eq!(records(&world).await, before);
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
    let body = b"CallSid=CA1&From=%2B491700000090&ErrorCode=11200&ErrorUrl=https%3A%2F%2Fx";
    for body in [body.as_slice(), b"", b"CallSid=%FF&From=%00"] {
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

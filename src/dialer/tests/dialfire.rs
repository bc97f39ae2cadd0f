use serde_json::json;

use crate::dialer::stand_in::{
    PATIENCE, StandIn, TOKEN, all_kinds, answer, dialer_of, dialfire, dialfire_api, hand_off,
    payload,
};
use crate::dialer::{Api, Dialer, DialerSettings};
use crate::handoff::{Failure, FailureKind, Outcome};
use crate::phone::Caller;

// HMAC-SHA256 of "caller", NUL and the number under the tests' secret, computed with Python's hmac module.
const REF: &str = "sb-a6cf216553bef3bcc3b87cff757b1ad7";

fn accepted(reference: Option<&str>) -> Outcome {
    Outcome::Accepted {
        reference: reference.map(str::to_owned),
    }
}

#[tokio::test]
async fn a_call_becomes_a_contact_of_the_task() {
    let peer = StandIn::answering(200, r#"{"data":{"$id":"C0NTACT1","$version":"7"}}"#).await;
    let handed = hand_off(&dialfire(&peer.base), PATIENCE).await;
    assert_eq!(handed.outcome, accepted(Some("C0NTACT1")));
    let seen = peer.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        seen[0].line,
        "POST /api/campaigns/AB12CD34EF56GH78/tasks/inbound_hot/contacts/create HTTP/1.1"
    );
    assert_eq!(
        seen[0].header("authorization").unwrap(),
        format!("Bearer {TOKEN}")
    );
    assert_eq!(
        seen[0].header("content-type").unwrap(),
        "application/json; charset=utf-8"
    );
    assert_eq!(seen[0].header("accept").unwrap(), "application/json");
    let length = seen[0].body.len().to_string();
    assert_eq!(seen[0].header("content-length").unwrap(), length);
    assert_eq!(seen[0].header("transfer-encoding"), None);
    let body = json!({
        "$ref": REF,
        "$phone": "+4930123450",
        "lead_score": 87,
        "tier": "hot",
        "router_call_sid": "CA0f11",
        "request_id": "01J8",
        "source": "switchboard",
    });
    assert_eq!(seen[0].json(), body);

    let exchange = &handed.exchanges[0];
    assert_eq!(exchange.status, Some(200));
    assert_eq!(exchange.request.as_ref().unwrap()["$phone"], "+********50");
    assert_eq!(exchange.response, Some(json!({"$id": "C0NTACT1"})));
    assert_eq!(exchange.error, None);
}

#[tokio::test]
async fn a_known_contact_is_updated() {
    let conflict = answer(409, "409 - Conflict contacts/ABC123 +4930123450");
    let peer = StandIn::start([conflict, answer(200, "")]).await;
    let handed = hand_off(&dialfire(&peer.base), PATIENCE).await;
    assert_eq!(handed.outcome, accepted(None));
    let seen = peer.seen();
    assert_eq!(
        seen[1].line,
        format!("POST /api/campaigns/AB12CD34EF56GH78/contacts/{REF}/update HTTP/1.1")
    );
    let body = json!({
        "lead_score": 87,
        "tier": "hot",
        "router_call_sid": "CA0f11",
        "request_id": "01J8",
    });
    assert_eq!(seen[1].json(), body);
    let statuses: Vec<_> = handed.exchanges.iter().map(|e| e.status).collect();
    assert_eq!(statuses, [Some(409), Some(200)]);
}

#[tokio::test]
async fn an_update_that_fails_is_the_outcome() {
    let peer = StandIn::start([answer(409, ""), answer(503, "")]).await;
    let handed = hand_off(&dialfire(&peer.base), PATIENCE).await;
    let failure = Failure::with_status(FailureKind::ServerError, 503);
    assert_eq!(
        handed.outcome,
        Outcome::Retryable {
            failure,
            retry_after_ms: None
        }
    );
    let peer = StandIn::answering(409, "").await;
    let handed = hand_off(&dialfire(&peer.base), PATIENCE).await;
    let failure = Failure::with_status(FailureKind::Rejected, 409);
    assert_eq!(handed.outcome, Outcome::Refused { failure });
    assert_eq!(peer.seen().len(), 2);
}

#[tokio::test]
async fn an_id_is_welcome_and_not_required() {
    for (body, id) in [
        ("", None),
        (" \n", None),
        ("{}", None),
        (r#"{"$id":"TOP"}"#, Some("TOP")),
        (r#"{"data":{"$id":null}}"#, None),
        (r#"{"data":[1,2]}"#, None),
        (r#"{"data":{"$id":"<script>"}}"#, None),
    ] {
        let peer = StandIn::answering(200, body).await;
        let handed = hand_off(&dialfire(&peer.base), PATIENCE).await;
        assert_eq!(handed.outcome, accepted(id), "{body}");
    }
    let peer = StandIn::answering(204, "").await;
    let handed = hand_off(&dialfire(&peer.base), PATIENCE).await;
    assert_eq!(handed.outcome, accepted(None));
}

#[tokio::test]
async fn a_2xx_means_dial_whatever_it_says_unless_that_is_an_error() {
    let deep = "[".repeat(1_000);
    let nested = format!(r#"{{"data":{deep}"#);
    for body in [
        "200 - OK",
        "<html>Login</html>",
        r#"{"data":{"$id":"C0"#,
        "[]",
        "null",
        &nested,
        r#"{"error":null,"errors":[],"success":true}"#,
        r#"{"$error":"of an earlier dial","$status":"failed"}"#,
        r#"{"data":{"error":"a field of the contact"}}"#,
    ] {
        let peer = StandIn::answering(200, body).await;
        let handed = hand_off(&dialfire(&peer.base), PATIENCE).await;
        assert_eq!(handed.outcome, accepted(None), "{body}");
        assert_eq!(handed.exchanges[0].error, None, "{body}");
    }
    for body in [
        r#"{"error":"unknown task"}"#,
        r#"{"error":{"code":17}}"#,
        r#"{"errors":["$phone"]}"#,
        r#"{"success":false}"#,
        r#"{"status":"error","message":"no"}"#,
    ] {
        let peer = StandIn::answering(200, body).await;
        let handed = hand_off(&dialfire(&peer.base), PATIENCE).await;
        let failure = Failure::with_status(FailureKind::Rejected, 200);
        assert_eq!(handed.outcome, Outcome::Refused { failure }, "{body}");
        assert_eq!(
            handed.exchanges[0].error.as_deref(),
            Some("the answer says an error")
        );
    }
}

#[tokio::test]
async fn a_caller_without_a_number_is_a_contact_of_its_own() {
    let peer = StandIn::answering(200, "{}").await;
    let dialer = dialfire(&peer.base);
    for (call, caller) in [("CA1", "anonymous"), ("CA2", "anonymous"), ("CA2", "03012")] {
        let mut note = payload();
        note.call_id = crate::call::CallId::parse(call).unwrap();
        note.caller = Caller::classify(caller);
        note.score = None;
        note.tier = None;
        dialer.hand_off(&note, PATIENCE).await;
    }
    let seen = peer.seen();
    let references: Vec<_> = seen.iter().map(|s| s.json()["$ref"].clone()).collect();
    assert_ne!(references[0], references[1]);
    assert_eq!(references[1], references[2]);
    for body in seen.iter().map(crate::dialer::stand_in::Seen::json) {
        for key in ["$phone", "lead_score", "tier"] {
            assert!(body.get(key).is_none(), "{key}");
        }
    }
}

#[tokio::test]
async fn path_parts_are_encoded() {
    let peer = StandIn::answering(200, "{}").await;
    let mut api = dialfire_api(&format!("{}/proxy/", peer.base));
    api.task = "hot leads/ä?".to_owned();
    hand_off(&dialer_of(Api::new(api)), PATIENCE).await;
    assert_eq!(
        peer.seen()[0].line,
        "POST /proxy/api/campaigns/AB12CD34EF56GH78/tasks/hot%20leads%2F%C3%A4%3F/contacts/create HTTP/1.1"
    );
}

#[test]
fn settings_that_cannot_work_are_refused_without_showing_secrets() {
    let check = |change: fn(&mut crate::dialer::dialfire::DialfireApi), key: &str| {
        let mut api = dialfire_api("https://api.dialfire.com");
        change(&mut api);
        let [known, ..] = all_kinds("http://127.0.0.1:1");
        let settings = DialerSettings {
            api: Api::new(api),
            ..known.settings().clone()
        };
        let client = crate::dialer::stand_in::client();
        let error =
            Dialer::new(settings, client, crate::clock::Clock::system(), b"k", b"k").unwrap_err();
        assert_eq!(error.key, key);
        assert!(!error.to_string().contains("Marker"), "{error}");
    };
    check(
        |api| api.base_url = "api.dialfire.com".to_owned(),
        "base_url",
    );
    check(|api| api.campaign = String::new(), "campaign");
    check(|api| api.task = "..".to_owned(), "task");
    check(
        |api| api.token = crate::secret::Secret::new("Marker\nToken"),
        "token",
    );
}

use serde_json::json;

use crate::dialer::stand_in::{Act, PATIENCE, StandIn, answer, hand_off, payload, zendesk};
use crate::handoff::{Failure, FailureKind, Outcome};
use crate::phone::Caller;

#[tokio::test]
async fn a_call_becomes_a_ticket_and_its_id_goes_into_the_sip_leg() {
    let created = Act::Answer(
        201,
        "x-idempotency-lookup: miss\r\n",
        r#"{"ticket":{"id":35436,"requester":"+4930123450"}}"#.to_owned(),
    );
    let peer = StandIn::start([created]).await;
    let dialer = zendesk(&peer.base);
    let handed = hand_off(&dialer, PATIENCE).await;
    let reference = Some("35436".to_owned());
    assert_eq!(handed.outcome, Outcome::Accepted { reference });
    assert_eq!(
        dialer.sip_headers(Some("35436")),
        [("X-Zendesk-Ticket-Id", "35436".to_owned())]
    );
    assert!(dialer.sip_headers(None).is_empty());
    let seen = peer.seen();
    assert_eq!(seen[0].line, "POST /api/v2/tickets HTTP/1.1");
    // router-marker@acme.example/token:MarkerToken4711
    assert_eq!(
        seen[0].header("authorization").unwrap(),
        "Basic cm91dGVyLW1hcmtlckBhY21lLmV4YW1wbGUvdG9rZW46TWFya2VyVG9rZW40NzEx"
    );
    assert_eq!(seen[0].header("content-type").unwrap(), "application/json");
    assert_eq!(seen[0].header("accept").unwrap(), "application/json");
    assert_eq!(seen[0].header("idempotency-key").unwrap(), "sb-CA0f11-zd");
    let body = json!({"ticket": {
        "via_id": 34,
        "external_id": "CA0f11",
        "subject": "Inbound call, tier hot",
        "priority": "urgent",
        "tags": ["switchboard", "tier_hot"],
        "comment": {
            "body": "Lead score 87 (tier hot). Call CA0f11.",
            "public": false,
        },
        "requester": {"name": "Caller +49…50", "phone": "+4930123450"},
    }});
    assert_eq!(seen[0].json(), body);
    let exchange = &handed.exchanges[0];
    assert_eq!(
        exchange.response,
        Some(json!({"ticket_id": "35436", "idempotency": "miss"}))
    );
    assert_eq!(
        exchange.request.as_ref().unwrap()["ticket"]["requester"]["phone"],
        "+********50"
    );
}

#[tokio::test]
async fn a_repeat_is_the_same_bytes_under_the_same_key() {
    let peer = StandIn::start([Act::Reset, answer(201, r#"{"ticket":{"id":1}}"#)]).await;
    let dialer = zendesk(&peer.base);
    let mut note = payload();
    dialer.hand_off(&note, PATIENCE).await;
    note.attempt = 2;
    dialer.hand_off(&note, PATIENCE).await;
    let seen = peer.seen();
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!(
        seen[0].header("idempotency-key"),
        seen[1].header("idempotency-key")
    );
}

#[tokio::test]
async fn a_caller_without_a_number_is_left_to_the_sip_header() {
    let peer = StandIn::answering(201, r#"{"ticket":{"id":1}}"#).await;
    let mut note = payload();
    note.caller = Caller::Withheld;
    note.score = None;
    note.tier = None;
    note.urgent = false;
    zendesk(&peer.base).hand_off(&note, PATIENCE).await;
    let ticket = &peer.seen()[0].json()["ticket"];
    assert!(ticket.get("requester").is_none());
    assert_eq!(ticket["subject"], "Inbound call");
    assert_eq!(ticket["priority"], "normal");
    assert_eq!(ticket["tags"], json!(["switchboard"]));
}

#[tokio::test]
async fn a_2xx_without_a_numeric_id_is_refused() {
    for body in [
        "",
        "{}",
        "<html>",
        r#"{"ticket":{"id":"35436"}}"#,
        r#"{"ticket":{"id":null}}"#,
        r#"{"ticket":{"id":-3}}"#,
        r#"{"ticket":[]}"#,
        r#"[{"ticket":{"id":1}}]"#,
        r#"{"ticket":{"id":1}"#,
    ] {
        let peer = StandIn::answering(201, body).await;
        let handed = hand_off(&zendesk(&peer.base), PATIENCE).await;
        let failure = Failure::with_status(FailureKind::Malformed, 201);
        assert_eq!(handed.outcome, Outcome::Refused { failure }, "{body}");
        assert!(handed.exchanges[0].error.is_some());
    }
}

#[tokio::test]
async fn a_conflict_and_a_bare_429_say_how_long_to_wait() {
    for (status, kind, ms) in [
        (409, FailureKind::Rejected, 300),
        (429, FailureKind::RateLimited, 10_000),
    ] {
        let peer = StandIn::answering(status, "Number of allowed API requests exceeded").await;
        let handed = hand_off(&zendesk(&peer.base), PATIENCE).await;
        assert_eq!(
            handed.outcome,
            Outcome::Retryable {
                failure: Failure::with_status(kind, status),
                retry_after_ms: Some(ms),
            }
        );
    }
}

#[tokio::test]
async fn of_an_error_only_known_names_are_kept() {
    let body = r#"{"error":"RecordInvalid","description":"+4930123450 MarkerToken4711",
        "details":{"phone":[{"description":"+4930123450 is bad"}],"+4930123450":[]}}"#;
    let peer = StandIn::answering(422, body).await;
    let handed = hand_off(&zendesk(&peer.base), PATIENCE).await;
    let failure = Failure::with_status(FailureKind::Rejected, 422);
    assert_eq!(handed.outcome, Outcome::Refused { failure });
    assert_eq!(
        handed.exchanges[0].response,
        Some(json!({"error": "RecordInvalid", "fields": ["phone"]}))
    );
    let peer = StandIn::answering(401, r#"{"error":"MarkerToken4711"}"#).await;
    let handed = hand_off(&zendesk(&peer.base), PATIENCE).await;
    assert_eq!(handed.exchanges[0].response, None);
}

/// An extension is short: a ticket's number holds its digits now and then.
#[tokio::test]
async fn a_ticket_whose_number_holds_the_callers_digits_is_a_ticket_and_is_hidden_in_the_record() {
    let peer = StandIn::answering(201, r#"{"ticket":{"id":9123451}}"#).await;
    for caller in ["12345", "sip:12345@10.0.0.1", "12-345"] {
        let mut note = payload();
        note.caller = Caller::classify(caller);
        let handed = zendesk(&peer.base).hand_off(&note, PATIENCE).await;
        let reference = Some("9123451".to_owned());
        assert_eq!(handed.outcome, Outcome::Accepted { reference });
        let shown = serde_json::to_string(&handed.recorded_outcome(&note.caller)).unwrap();
        let recorded = serde_json::to_string(&handed.exchanges).unwrap();
        for text in [shown, recorded] {
            assert!(
                text.contains("*****51") && !text.contains("12345"),
                "{text}"
            );
        }
        assert!(crate::dialer::names_caller("9123451", &note.caller));
    }
    let other = Caller::classify("1234");
    assert!(
        !crate::dialer::names_caller("9123451", &other),
        "too short to tell anybody"
    );
}

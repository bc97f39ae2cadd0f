use serde_json::json;

use crate::dialer::stand_in::{
    Act, NUMBER, PATIENCE, StandIn, TOKEN, all_kinds, dialer_of, hand_off, http, http_api, payload,
};
use crate::dialer::{Api, Dialer, DialerSettings};
use crate::handoff::{Failure, FailureKind, Outcome};
use crate::lead::TierName;
use crate::phone::Caller;
use crate::secret::Secret;

#[tokio::test]
async fn the_configured_post_is_sent() {
    let peer = StandIn::answering(202, r#"{"call_id":"c-17"}"#).await;
    let handed = hand_off(&http(&peer.base), PATIENCE).await;
    let reference = Some("c-17".to_owned());
    assert_eq!(handed.outcome, Outcome::Accepted { reference });
    let seen = peer.seen();
    assert_eq!(seen[0].line, "POST /calls?key=MarkerQueryKey HTTP/1.1");
    assert_eq!(seen[0].header("x-api-key"), Some(TOKEN));
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    assert_eq!(seen[0].header("idempotency-key"), Some("CA0f11"));
    let body = json!({
        "phone_number": NUMBER,
        "lead_score": "87",
        "tier": "hot",
        "call_sid": "CA0f11",
        "request_id": "01J8",
        "line": "+4930888899",
        "account": "MarkerAccountKey",
    });
    assert_eq!(seen[0].json(), body);
    let exchange = &handed.exchanges[0];
    assert_eq!(exchange.url, format!("{}/calls", peer.base));
    let shown = json!({
        "phone_number": "+********50",
        "lead_score": "87",
        "tier": "hot",
        "call_sid": "CA0f11",
        "request_id": "01J8",
        "line": "+********99",
        "account": "…",
    });
    assert_eq!(exchange.request, Some(shown));
}

#[tokio::test]
async fn what_is_put_in_cannot_break_out_of_its_place() {
    let peer = StandIn::answering(200, "").await;
    let odd = "a\"},{\\\u{1}\n\u{2028}é{tier}";
    let mut note = payload();
    note.caller = Caller::Unreadable(odd.to_owned());
    note.tier = Some(TierName::new(odd));
    http(&peer.base).hand_off(&note, PATIENCE).await;
    let body = peer.seen()[0].json();
    assert_eq!(body["tier"], odd);
    assert_eq!(
        body["phone_number"], "",
        "what is no number is not passed on"
    );
    assert_eq!(body.as_object().unwrap().len(), 7);
}

#[tokio::test]
async fn any_2xx_is_an_acceptance_whatever_its_body() {
    for (body, reference) in [
        ("", None),
        ("OK", None),
        ("<html>", None),
        (r#"{"id":"A1"}"#, Some("A1")),
        (r#"{"id":17}"#, Some("17")),
        (r#"{"id":{},"reference":"R"}"#, Some("R")),
        (r#"{"id":"+4930123450"}"#, None),
    ] {
        let peer = StandIn::answering(200, body).await;
        let handed = hand_off(&http(&peer.base), PATIENCE).await;
        let reference = reference.map(str::to_owned);
        assert_eq!(handed.outcome, Outcome::Accepted { reference }, "{body}");
    }
    let peer = StandIn::start([Act::Endless]).await;
    let handed = hand_off(&http(&peer.base), PATIENCE).await;
    assert_eq!(handed.outcome, Outcome::Accepted { reference: None });
}

#[tokio::test]
async fn configured_headers_win() {
    let peer = StandIn::answering(200, "").await;
    let mut api = http_api(&peer.base);
    for (name, value) in [
        ("Content-Type", "application/vnd.api+json"),
        ("idempotency-key", "x"),
    ] {
        api.headers.push((name.to_owned(), Secret::new(value)));
    }
    hand_off(&dialer_of(Api::new(api)), PATIENCE).await;
    let seen = peer.seen();
    assert_eq!(
        seen[0].header("content-type"),
        Some("application/vnd.api+json")
    );
    assert_eq!(seen[0].header("idempotency-key"), Some("x"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let trap = StandIn::answering(200, "").await;
    let location: &'static str = format!("location: {}/trap\r\n", trap.base).leak();
    let peer = StandIn::start([Act::Answer(307, location, String::new())]).await;
    for dialer in all_kinds(&peer.base) {
        let handed = hand_off(&dialer, PATIENCE).await;
        let failure = Failure::with_status(FailureKind::Rejected, 307);
        assert_eq!(handed.outcome, Outcome::Refused { failure });
    }
    assert!(trap.seen().is_empty());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let check = |change: fn(&mut crate::dialer::http::HttpApi), key: &str| {
        let mut api = http_api("https://dialer.example");
        change(&mut api);
        let [_, _, known] = all_kinds("http://127.0.0.1:1");
        let settings = DialerSettings {
            api: Api::new(api),
            ..known.settings().clone()
        };
        let client = crate::dialer::stand_in::client();
        let error =
            Dialer::new(settings, client, crate::clock::Clock::system(), b"k", b"k").unwrap_err();
        assert_eq!(error.key, key);
    };
    check(|api| api.url = "ftp://dialer.example".to_owned(), "url");
    check(
        |api| api.health_url = Some("/health".to_owned()),
        "health_url",
    );
    check(
        |api| api.headers = vec![("Content-Length".to_owned(), Secret::new("1"))],
        "headers",
    );
    check(
        |api| api.headers = vec![("X-Key".to_owned(), Secret::new("a\r\nb: c"))],
        "headers",
    );
}

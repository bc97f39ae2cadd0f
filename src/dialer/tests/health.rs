use std::time::Duration;

use serde_json::json;

use crate::dialer::stand_in::{
    Act, PATIENCE, StandIn, TOKEN, all_kinds, answer, assert_clean, dialer_of, dialfire,
    dialfire_api, http, http_api, tenant, zendesk,
};
use crate::dialer::{Api, Dialer, ProbeHealth, TestReport};
use crate::handoff::{Failure, FailureKind};
use crate::routing::Availability;

const QUEUE: &str = r#"{"current_queue_activity":{"agents_online":2,"calls_waiting":0}}"#;

fn with_tenant(base: &str) -> Dialer {
    let mut api = dialfire_api(base);
    api.tenant = Some(tenant());
    dialer_of(Api::new(api))
}

async fn failure_of(dialer: &Dialer) -> Failure {
    let probe = dialer.probe(Duration::from_millis(150)).await;
    assert_clean(&format!("{probe:?}"));
    assert_eq!(probe.availability, Availability::Unknown);
    match probe.health {
        ProbeHealth::Failing { failure, .. } => failure,
        other @ (ProbeHealth::Healthy | ProbeHealth::Unknown { .. }) => panic!("{other:?}"),
    }
}

fn check<'a>(report: &'a TestReport, name: &str) -> &'a crate::dialer::DialerCheck {
    assert_clean(&serde_json::to_string(report).unwrap());
    let found = report.checks.iter().find(|c| c.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {report:?}"))
}

#[tokio::test]
async fn a_probe_asks_each_kind_its_own_question() {
    let peer = StandIn::answering(200, QUEUE).await;
    for dialer in all_kinds(&peer.base) {
        let probe = dialer.probe(PATIENCE).await;
        assert_eq!(probe.health, ProbeHealth::Healthy);
        assert!(probe.latency.is_some());
    }
    with_tenant(&peer.base).probe(PATIENCE).await;
    let seen = peer.seen();
    let lines: Vec<_> = seen.iter().map(|s| s.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "GET /api/campaigns/AB12CD34EF56GH78 HTTP/1.1",
            "GET /api/v2/channels/voice/stats/current_queue_activity HTTP/1.1",
            "GET /health HTTP/1.1",
            "GET /api/tenants/0a1b2c3d/lines/stats HTTP/1.1",
        ]
    );
    assert_eq!(seen[2].header("x-api-key"), Some(TOKEN));
    assert_eq!(
        seen[3].header("authorization"),
        Some("Bearer MarkerTenantToken")
    );
}

#[tokio::test]
async fn refused_credentials_are_tried_by_one_request_that_uses_them() {
    let peer = StandIn::answering(200, QUEUE).await;
    let [_, zendesk, http] = all_kinds(&peer.base);
    for dialer in [with_tenant(&peer.base), zendesk, http] {
        assert!(dialer.probes_credentials());
        let probe = dialer.try_credentials(PATIENCE).await;
        assert_eq!(probe.health, ProbeHealth::Healthy);
    }
    let seen = peer.seen();
    let lines: Vec<_> = seen.iter().map(|s| s.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "GET /api/campaigns/AB12CD34EF56GH78 HTTP/1.1",
            "GET /api/v2/channels/voice/stats/current_queue_activity HTTP/1.1",
            "GET /health HTTP/1.1",
        ]
    );
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(seen[0].header("authorization"), Some(bearer.as_str()));
    assert_eq!(seen[2].header("x-api-key"), Some(TOKEN));
    for health_url in [None, Some("http://127.0.0.1:1/health".to_owned())] {
        let mut api = http_api(&peer.base);
        api.health_url = health_url;
        assert!(!dialer_of(Api::new(api)).probes_credentials());
    }
}

#[tokio::test]
async fn queue_figures_become_availability() {
    let body = r#"{"current_queue_activity":{"agents_online":0,"calls_waiting":3}}"#;
    let peer = StandIn::answering(200, body).await;
    let probe = zendesk(&peer.base).probe(PATIENCE).await;
    let why = "0 agents online, 1 needed".to_owned();
    assert_eq!(probe.availability, Availability::Unavailable { why });
    for (body, status) in [("<html>", 200), ("[]", 200), ("{}", 200)] {
        let peer = StandIn::answering(status, body).await;
        let failure = failure_of(&zendesk(&peer.base)).await;
        assert_eq!(failure, Failure::with_status(FailureKind::Malformed, 200));
    }
}

#[tokio::test]
async fn refused_line_statistics_leave_the_word_to_the_campaign() {
    let peer = StandIn::start([answer(404, "404 - Not Found"), answer(200, "{}")]).await;
    let probe = with_tenant(&peer.base).probe(PATIENCE).await;
    assert_eq!(probe.health, ProbeHealth::Healthy);
    assert_eq!(peer.seen().len(), 2);
    let peer = StandIn::answering(403, "403 - Forbidden").await;
    let failure = failure_of(&with_tenant(&peer.base)).await;
    assert_eq!(failure.kind, FailureKind::Unauthorized);
}

#[tokio::test]
async fn a_probe_names_its_failure() {
    for (act, kind) in [
        (answer(500, ""), FailureKind::ServerError),
        (answer(401, ""), FailureKind::Unauthorized),
        (answer(404, ""), FailureKind::Rejected),
        (Act::Hang, FailureKind::Timeout),
        (Act::Reset, FailureKind::Reset),
    ] {
        let peer = StandIn::start([act]).await;
        for dialer in all_kinds(&peer.base) {
            assert_eq!(failure_of(&dialer).await.kind, kind, "{dialer:?}");
        }
    }
    for dialer in all_kinds("http://127.0.0.1:1") {
        assert_eq!(failure_of(&dialer).await.kind, FailureKind::Connect);
    }
}

#[tokio::test]
async fn keys_do_not_go_to_another_host() {
    let peer = StandIn::answering(200, "").await;
    let mut api = http_api("http://127.0.0.1:1");
    api.health_url = Some(format!("{}/health", peer.base));
    let probe = dialer_of(Api::new(api)).probe(PATIENCE).await;
    assert_eq!(probe.health, ProbeHealth::Healthy);
    assert_eq!(peer.seen()[0].header("x-api-key"), None);
}

#[tokio::test]
async fn without_a_health_url_nothing_is_claimed() {
    let mut api = http_api("http://127.0.0.1:1");
    api.health_url = None;
    let dialer = dialer_of(Api::new(api));
    let probe = dialer.probe(PATIENCE).await;
    let why = "no health_url configured".to_owned();
    assert_eq!(probe.health, ProbeHealth::Unknown { why });
    let report = dialer.test().await;
    assert!(!report.ok);
    assert_eq!((report.latency_ms, report.availability), (None, "unknown"));
    assert!(
        check(&report, "reachability")
            .message
            .contains("health_url")
    );
}

#[tokio::test]
async fn a_test_of_dialfire_looks_for_the_task() {
    let tasks = r#"[{"data":{"name":"other"}},{"data":{"name":"inbound_hot"}},7]"#;
    let peer = StandIn::start([answer(200, "{}"), answer(200, tasks)]).await;
    let report = dialfire(&peer.base).test().await;
    assert!(report.ok, "{report:?}");
    let names: Vec<_> = report.checks.iter().map(|c| c.name).collect();
    assert_eq!(
        names,
        [
            "reachability",
            "credentials",
            "task",
            "availability",
            "latency"
        ]
    );
    assert_eq!(
        peer.seen()[1].line,
        "GET /api/campaigns/AB12CD34EF56GH78/tasks/ HTTP/1.1"
    );
    let tasks = r#"[{"data":{"name":"inbound_cold"}}]"#;
    let peer = StandIn::start([answer(200, "{}"), answer(200, tasks)]).await;
    let report = dialfire(&peer.base).test().await;
    assert!(!report.ok);
    assert_eq!(
        check(&report, "task").message,
        "the campaign has no task `inbound_hot`; it has `inbound_cold`. Set `task` to one of them"
    );
}

#[tokio::test]
async fn a_test_of_zendesk_reads_lines_and_queue() {
    let lines = r#"{"lines":[{"id":1}],"count":1}"#;
    let peer = StandIn::start([answer(200, lines), answer(200, QUEUE)]).await;
    let report = zendesk(&peer.base).test().await;
    assert_eq!(
        peer.seen()[0].line,
        "GET /api/v2/channels/voice/lines?minimal_mode=true HTTP/1.1"
    );
    let mut document = serde_json::to_value(&report).unwrap();
    for message in ["/checks/0/message", "/checks/4/message", "/latency_ms"] {
        *document.pointer_mut(message).unwrap() = json!("varies");
    }
    let passed = |name: &str, message: &str| json!({"name": name, "ok": true, "message": message});
    assert_eq!(
        document,
        json!({
            "dialer": "first",
            "ok": true,
            "latency_ms": "varies",
            "availability": "available",
            "checks": [
                passed("reachability", "varies"),
                passed("credentials", "accepted"),
                passed("lines", "Talk is on, with 1 line"),
                passed("availability", "it can take calls"),
                passed("latency", "varies"),
            ],
        })
    );
}

#[tokio::test]
async fn a_failed_test_says_what_to_do() {
    let peer = StandIn::answering(401, "MarkerToken4711").await;
    for dialer in [dialfire(&peer.base), zendesk(&peer.base), http(&peer.base)] {
        let report = dialer.test().await;
        assert!(!report.ok);
        assert!(check(&report, "reachability").ok);
        let credentials = check(&report, "credentials");
        assert!(!credentials.ok);
        assert!(credentials.message.contains('`'), "{credentials:?}");
    }
    let report = zendesk("http://127.0.0.1:1").test().await;
    assert!(!check(&report, "reachability").ok);
    assert_eq!(report.latency_ms, None);
}

#[tokio::test]
async fn a_url_that_only_stores_a_record_is_pointed_out() {
    let peer = StandIn::answering(200, "").await;
    let mut api = http_api(&peer.base);
    api.url = "https://acme.zendesk.com/api/v2/calls.json".to_owned();
    let report = dialer_of(Api::new(api)).test().await;
    assert!(!check(&report, "url").ok);
}

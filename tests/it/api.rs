//! The API: who may do what, the JSON door, and the dialers by hand.

use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchboard::audit::{Event, Kind, Record};
use switchboard::call::{CallId, Disposition, Status};
use switchboard::clock::Clock;
use switchboard::http::keys::DrawnKey;
use switchboard::phone::E164;
use switchboard_simulator::faults::{Fault, Route};
use switchboard_simulator::twilio::{Call, LineBehaviour};
use tokio::task::JoinSet;

use crate::locked::Lock;
use crate::world::{
    CALLED, COLD, DIALFIRE_LINE, HOT, LAST_RESORT, STRANGER, Settings, World, ZENDESK_LINE, dialled,
};

/// The appliance with a key of each role, and a client of its API.
pub(crate) struct Api {
    pub(crate) world: World,
    client: reqwest::Client,
    pub(crate) admin: String,
    pub(crate) operator: String,
    pub(crate) viewer: String,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn error_type(&self) -> String {
        let kind = self.json().pointer("/error/type").cloned();
        serde_json::from_value(kind.unwrap()).unwrap()
    }

    /// What every answer of the API carries.
    #[track_caller]
    fn assert_well_formed(&self, what: &str) {
        assert_eq!(self.header("cache-control"), Some("no-store"), "{what}");
        assert_eq!(
            self.header("x-content-type-options"),
            Some("nosniff"),
            "{what}"
        );
        let is_json = self.header("content-type") == Some("application/json");
        let is_empty = self.status == StatusCode::NO_CONTENT;
        assert!(
            is_json || is_empty,
            "{what}: {:?}",
            self.header("content-type")
        );
        let request_id = self.header("x-request-id").unwrap();
        if !self.status.is_success() {
            let json = self.json();
            let part = |name: &str| json.pointer(&format!("/error/{name}")).unwrap();
            assert!(
                part("message")
                    .as_str()
                    .is_some_and(|text| text.ends_with('.')),
                "{what}: {json}"
            );
            assert!(part("details").is_object(), "{what}: {json}");
            assert_eq!(*part("request_id"), request_id, "{what}");
        }
    }
}

fn key_lines(name: &str, role: &str, key: &DrawnKey) -> String {
    let hash = key.hash.to_hex();
    format!("[[auth.keys]]\nname = \"{name}\"\nrole = \"{role}\"\nhash = \"{hash}\"\n")
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let [admin, operator, viewer] = [(); 3].map(|()| DrawnKey::draw().unwrap());
        let sections = [
            key_lines("ops", "admin", &admin),
            key_lines("shift", "operator", &operator),
            key_lines("desk", "viewer", &viewer),
            settings.sections.clone(),
        ]
        .concat();
        let world = World::with(Settings {
            sections,
            ..settings
        })
        .await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            world,
            client,
            admin: admin.key,
            operator: operator.key,
            viewer: viewer.key,
        }
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<String>,
    ) -> Answer {
        let url = format!("http://{}/api/v1{path}", self.world.running().address);
        let mut request = self.client.request(method, url);
        if let Some(key) = key {
            request = request.header("X-API-Key", key);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, Some(&self.viewer), None).await
    }

    async fn post(&self, path: &str, body: Option<String>) -> Answer {
        self.ask(Method::POST, path, Some(&self.admin), body).await
    }

    pub(crate) async fn route(&self, caller: &str, external_id: &str) -> Answer {
        let body = json!({ "caller": caller, "called": CALLED, "external_id": external_id });
        self.post("/calls", Some(body.to_string())).await
    }
}

/// Every route: method, pattern, a path of it, the role it takes, and the status that an admin gets.
const ROUTES: [(&str, &str, &str, &str, u16); 56] = [
    ("GET", "/alerts/active", "/alerts/active", "viewer", 200),
    ("GET", "/alerts/history", "/alerts/history", "viewer", 200),
    ("POST", "/alerts/test", "/alerts/test", "admin", 409),
    ("GET", "/alerts/{id}", "/alerts/none-1", "viewer", 404),
    (
        "POST",
        "/alerts/{id}/acknowledge",
        "/alerts/none-1/acknowledge",
        "operator",
        404,
    ),
    ("GET", "/alerts/mutes", "/alerts/mutes", "viewer", 200),
    ("POST", "/alerts/mutes", "/alerts/mutes", "operator", 400),
    (
        "DELETE",
        "/alerts/mutes/{id}",
        "/alerts/mutes/mute-1",
        "operator",
        404,
    ),
    ("POST", "/calls", "/calls", "admin", 201),
    ("GET", "/calls", "/calls", "viewer", 200),
    ("GET", "/calls/active", "/calls/active", "viewer", 200),
    ("GET", "/calls/metrics", "/calls/metrics", "viewer", 200),
    ("GET", "/events", "/events", "viewer", 200),
    ("POST", "/session", "/session", "nobody", 400),
    ("DELETE", "/session", "/session", "nobody", 204),
    ("GET", "/calls/{call_id}", "/calls/CA0", "viewer", 404),
    ("GET", "/callers/{id}", "/callers/0", "viewer", 404),
    ("DELETE", "/callers/{id}", "/callers/0", "admin", 404),
    (
        "POST",
        "/calls/{call_id}/ended",
        "/calls/CA0/ended",
        "admin",
        400,
    ),
    (
        "GET",
        "/customers/{phone_number}",
        "/customers/+491700000090",
        "viewer",
        200,
    ),
    (
        "DELETE",
        "/customers/{phone_number}",
        "/customers/+491700000090",
        "admin",
        204,
    ),
    ("GET", "/dialers", "/dialers", "viewer", 200),
    ("GET", "/dialers/status", "/dialers/status", "viewer", 200),
    ("GET", "/dialers/{name}", "/dialers/zendesk", "viewer", 200),
    (
        "POST",
        "/dialers/{name}/drain",
        "/dialers/zendesk/drain",
        "operator",
        200,
    ),
    (
        "POST",
        "/dialers/{name}/resume",
        "/dialers/zendesk/resume",
        "operator",
        200,
    ),
    (
        "POST",
        "/dialers/{name}/test",
        "/dialers/zendesk/test",
        "admin",
        200,
    ),
    (
        "POST",
        "/dialers/{name}/retry",
        "/dialers/zendesk/retry",
        "operator",
        200,
    ),
    ("GET", "/lookup", "/lookup", "viewer", 200),
    ("GET", "/quality", "/quality", "viewer", 200),
    ("POST", "/lookup/retry", "/lookup/retry", "operator", 200),
    ("GET", "/logs", "/logs", "viewer", 200),
    ("GET", "/logs/{call_id}", "/logs/CA0", "viewer", 404),
    ("GET", "/completeness", "/completeness", "viewer", 200),
    ("GET", "/logs/export", "/logs/export?to=x", "viewer", 400),
    ("GET", "/settings", "/settings", "viewer", 200),
    (
        "GET",
        "/settings/changes",
        "/settings/changes",
        "viewer",
        200,
    ),
    ("POST", "/settings/reload", "/settings/reload", "admin", 409),
    ("GET", "/routing/rules", "/routing/rules", "viewer", 200),
    (
        "GET",
        "/routing/rulesets",
        "/routing/rulesets",
        "viewer",
        200,
    ),
    (
        "GET",
        "/routing/rulesets/{version}",
        "/routing/rulesets/000000000000",
        "viewer",
        404,
    ),
    (
        "GET",
        "/routing/rulesets/{a}/diff/{b}",
        "/routing/rulesets/0/diff/0",
        "viewer",
        404,
    ),
    ("GET", "/routing/draft", "/routing/draft", "operator", 409),
    ("PUT", "/routing/draft", "/routing/draft", "operator", 409),
    (
        "DELETE",
        "/routing/draft",
        "/routing/draft",
        "operator",
        409,
    ),
    (
        "GET",
        "/routing/draft/differences",
        "/routing/draft/differences",
        "viewer",
        404,
    ),
    ("POST", "/routing/publish", "/routing/publish", "admin", 400),
    (
        "POST",
        "/routing/explain",
        "/routing/explain",
        "viewer",
        200,
    ),
    ("GET", "/keys", "/keys", "viewer", 200),
    ("POST", "/keys", "/keys", "admin", 400),
    ("DELETE", "/keys/{id}", "/keys/0", "admin", 404),
    ("GET", "/reveals", "/reveals", "viewer", 200),
    ("GET", "/routing/lists", "/routing/lists", "viewer", 200),
    (
        "GET",
        "/routing/lists/{name}/entries",
        "/routing/lists/vip/entries",
        "viewer",
        404,
    ),
    (
        "POST",
        "/routing/lists/{name}/entries",
        "/routing/lists/vip/entries",
        "operator",
        404,
    ),
    (
        "DELETE",
        "/routing/lists/{name}/entries/{id}",
        "/routing/lists/vip/entries/0",
        "operator",
        404,
    ),
];

/// Whether a role may what takes another one.
fn may(role: &str, wanted: &str) -> bool {
    let size = |role| {
        ["viewer", "operator", "admin"]
            .iter()
            .position(|one| *one == role)
    };
    size(role) >= size(wanted)
}

fn method(name: &str) -> Method {
    name.parse().unwrap()
}

/// A body that every route that takes one can read.
fn body_for(method: &str, path: &str) -> Option<String> {
    if path.ends_with("/drain") {
        return Some("{}".to_owned());
    }
    let body = json!({ "caller": HOT, "called": CALLED, "external_id": "pbx-1", "from": HOT, "number": HOT });
    (method == "POST").then(|| body.to_string())
}

#[tokio::test]
async fn every_route_is_closed_without_a_key_and_to_a_role_that_is_too_small() {
    let api = Api::new().await;
    let foreign = DrawnKey::draw().unwrap().key;
    for (verb, _, path, role, expected) in ROUTES {
        if role == "nobody" || path == "/events" {
            // Logging in takes no key beforehand; a stream does not end by itself. Both have tests of their own.
            continue;
        }
        let gets = |who| if may(who, role) { expected } else { 403 };
        let cases = [
            ("no key", None, 401),
            ("a wrong key", Some(foreign.as_str()), 401),
            ("an empty key", Some(""), 401),
            ("a viewer", Some(api.viewer.as_str()), gets("viewer")),
            ("an operator", Some(&*api.operator), gets("operator")),
            ("an admin", Some(api.admin.as_str()), gets("admin")),
        ];
        for (who, key, expected) in cases {
            let what = format!("{verb} {path} as {who}");
            let answer = api.ask(method(verb), path, key, body_for(verb, path)).await;
            assert_eq!(answer.status.as_u16(), expected, "{what}: {}", answer.text);
            answer.assert_well_formed(&what);
            match expected {
                401 => assert_eq!(answer.error_type(), "AuthenticationError", "{what}"),
                403 => assert_eq!(answer.error_type(), "PermissionError", "{what}"),
                404 => assert_eq!(answer.error_type(), "NotFoundError", "{what}"),
                409 => assert_eq!(answer.error_type(), "ConflictError", "{what}"),
                _ => {}
            }
            if let Some(key) = key.filter(|key| !key.is_empty()) {
                assert!(!answer.text.contains(key), "{what}");
            }
        }
    }
}

#[test]
fn no_route_is_missing_in_the_table_above() {
    let document = switchboard::http::document();
    let mut written: Vec<(String, String)> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.strip_prefix("/api/v1").unwrap_or(path);
        let verbs = item.as_object().unwrap().keys();
        written.extend(verbs.map(|verb| (verb.to_uppercase(), path.to_owned())));
    }
    let mut tested: Vec<(String, String)> = ROUTES
        .iter()
        .map(|&(verb, pattern, ..)| (verb.to_owned(), pattern.to_owned()))
        .collect();
    written.sort();
    tested.sort();
    assert_eq!(written, tested);
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_in_the_shape_of_the_api() {
    let api = Api::new().await;
    let large = format!("{{\"caller\": \"{}\"}}", "1".repeat(17_000));
    let get = Method::GET;
    let cases = [
        (&get, "/nothing", None, 404, "NotFoundError"),
        (&get, "", None, 404, "NotFoundError"),
        (&get, "/calls/CA%00", None, 404, "NotFoundError"),
        (&get, "/calls/%FF", None, 400, "ValidationError"),
        (&get, "/dialers/nobody", None, 404, "NotFoundError"),
        (
            &get,
            "/calls/active?page_size=0",
            None,
            400,
            "ValidationError",
        ),
        (
            &get,
            "/calls/active?page_size=201",
            None,
            400,
            "ValidationError",
        ),
        (&get, "/calls/active?page=x", None, 400, "ValidationError"),
        (&Method::DELETE, "/dialers", None, 405, "MethodNotAllowed"),
        (&Method::PUT, "/calls", None, 405, "MethodNotAllowed"),
        (
            &get,
            "/dialers/zendesk/drain",
            None,
            405,
            "MethodNotAllowed",
        ),
        (
            &Method::POST,
            "/dialers/nobody/drain",
            None,
            404,
            "NotFoundError",
        ),
        (
            &Method::POST,
            "/dialers/nobody/test",
            None,
            404,
            "NotFoundError",
        ),
        (&Method::POST, "/calls", Some(large), 413, "PayloadTooLarge"),
        (
            &Method::POST,
            "/calls",
            Some("{\"a\": }".to_owned()),
            400,
            "ValidationError",
        ),
        (
            &Method::POST,
            "/calls",
            Some("[]".to_owned()),
            400,
            "ValidationError",
        ),
        (&Method::POST, "/calls", None, 400, "ValidationError"),
    ];
    for (method, path, body, status, kind) in cases {
        let what = format!("{method} {path}");
        let answer = api.ask(method.clone(), path, Some(&api.admin), body).await;
        assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text);
        assert_eq!(answer.error_type(), kind, "{what}");
        answer.assert_well_formed(&what);
        assert_eq!(answer.header("allow").is_some(), status == 405, "{what}");
    }
    let broken = api
        .post("/calls", Some("{\"a\": }".to_owned()))
        .await
        .json();
    assert_eq!(
        broken["error"]["details"],
        json!({ "line": 1, "column": 7 })
    );
}

#[tokio::test]
async fn a_call_from_elsewhere_is_routed_to_the_number_of_a_dialer() {
    let api = Api::new().await;
    let answer = api.route(HOT, "pbx-4711").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let mut call = answer.json()["data"].clone();
    assert!(call["routing_ms"].as_u64().is_some_and(|ms| ms < 2_000));
    call["routing_ms"] = json!(0);
    let expected = json!({
        "call_id": "api-pbx-4711",
        "caller": "+**********90",
        "called": CALLED,
        "status": "dialing",
        "tier": "hot",
        "score": 90,
        "rule": "sales floor",
        "reason": "rule_matched",
        "dialer": "dialfire",
        "certainty": "confirmed",
        "connect": { "kind": "number", "value": DIALFIRE_LINE, "headers": {} },
        "plan": ["dialfire", "zendesk"],
        "routing_ms": 0,
    });
    assert_eq!(call, expected);

    let refusing = Fault::status(422);
    for faults in [
        api.world.outside.dialfire.faults(),
        api.world.outside.zendesk.faults(),
    ] {
        faults.standing_on(Route::method("POST"), refusing.clone());
    }
    let refused = api.route(HOT, "pbx-4712").await.json()["data"].clone();
    assert_eq!(refused["certainty"], "unannounced");
    assert_eq!(refused["connect"]["value"], DIALFIRE_LINE);
    api.world.outside.clear_faults();

    let again = api.route(HOT, "pbx-4711").await;
    assert_eq!((again.status, &again.text), (answer.status, &answer.text));
    assert_eq!(api.world.asked_dialfire(), 2);

    let shown = api.get("/calls/api-pbx-4711").await.json()["data"].clone();
    assert_eq!(shown["status"], "dialing");
    assert_eq!(shown["caller"], "+**********90");
    assert_eq!(shown["called"], "+********00");
    assert_eq!(shown["legs"], json!([]));
    let id = CallId::parse("api-pbx-4711").unwrap();
    let records = api
        .world
        .running()
        .store
        .records_of_call(&id)
        .await
        .unwrap();
    let kinds: Vec<Kind> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::CallDecided, Kind::CallAnswered]);
    assert!(records[0].detail.contains("\"door\":\"api\""));
}

#[tokio::test]
async fn a_call_from_elsewhere_is_routed_to_a_sip_line_with_the_ticket_of_its_handoff() {
    let api = Api::new().await;
    let answer = api.route(COLD, "a call/with spaces").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let call = answer.json()["data"].clone();
    let connect = &call["connect"];
    assert_eq!(
        (&connect["kind"], &connect["value"]),
        (&json!("sip"), &json!(ZENDESK_LINE))
    );
    let id = CallId::parse(call["call_id"].as_str().unwrap()).unwrap();
    assert!(id.as_str().starts_with("apih-"), "{id}");
    let stored = api.world.running().store.call(&id).await.unwrap().unwrap();
    let ticket = stored.state.reference().unwrap();
    assert_eq!(connect["headers"], json!({ "X-Zendesk-Ticket-Id": ticket }));
}

#[tokio::test]
async fn the_same_call_at_the_same_time_is_handed_off_once_and_answered_alike() {
    let api = Api::new().await;
    let url = format!("http://{}/api/v1/calls", api.world.running().address);
    let body = json!({ "caller": HOT, "called": CALLED, "external_id": "twenty" }).to_string();
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        let request = api
            .client
            .post(&url)
            .header("X-API-Key", &api.admin)
            .body(body.clone());
        requests.spawn(async move { request.send().await.unwrap().text().await.unwrap() });
    }
    let mut answers = requests.join_all().await;
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(api.world.asked_dialfire(), 1);
}

#[tokio::test]
async fn every_wrong_field_is_told_what_is_wrong_with_it() {
    let api = Api::new().await;
    let good = json!({ "caller": HOT, "called": CALLED, "external_id": "x" });
    let long = "x".repeat(300);
    let cases = [
        ("caller", Value::Null, "is missing"),
        ("caller", json!(4_917_000), "must be a string"),
        ("caller", json!("  "), "is empty"),
        (
            "caller",
            json!("030 123456"),
            "must have its country code, as in +4930123456",
        ),
        (
            "caller",
            json!("nobody"),
            "must be a number like +4930123456, a SIP address, or anonymous",
        ),
        (
            "caller",
            json!("client:alice"),
            "must be a number like +4930123456, a SIP address, or anonymous",
        ),
        ("caller", json!(long), "is longer than 256 characters"),
        ("called", Value::Null, "is missing"),
        ("called", json!(["+4930"]), "must be a string"),
        (
            "called",
            json!("anonymous"),
            "must be a number like +4930123456 or a SIP address",
        ),
        (
            "called",
            json!("200"),
            "must be a number like +4930123456 or a SIP address",
        ),
        ("external_id", Value::Null, "is missing"),
        ("external_id", json!(4711), "must be a string"),
        ("external_id", json!(""), "is empty"),
        ("external_id", json!("a\nb"), "contains control characters"),
        ("external_id", json!(long), "is longer than 128 characters"),
    ];
    for (field, value, expected) in cases {
        let mut body = good.clone();
        body[field] = value.clone();
        let answer = api.post("/calls", Some(body.to_string())).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{field}: {value}");
        let details = &answer.json()["error"]["details"];
        assert_eq!(*details, json!({ field: expected }), "{value}");
    }
    let all = api.post("/calls", Some("{}".to_owned())).await.json();
    assert_eq!(all["error"]["details"].as_object().unwrap().len(), 3);
    assert_eq!(api.world.running().store.counts().await.unwrap().calls, 0);

    for caller in ["anonymous", "sip:alice@pbx.example.com"] {
        let answer = api.route(caller, caller).await;
        assert_eq!(
            answer.status,
            StatusCode::CREATED,
            "{caller}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn where_no_dialer_takes_the_call_the_last_resort_is_named_or_nobody() {
    for (routing, status) in [(Settings::default().routing, 201), (String::new(), 503)] {
        let api = Api::with(Settings {
            routing,
            ..Settings::default()
        })
        .await;
        for faults in [
            api.world.outside.dialfire.faults(),
            api.world.outside.zendesk.faults(),
        ] {
            faults.standing_on(Route::method("POST"), Fault::status(500));
        }
        let answer = api.route(HOT, "refused").await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
        let asked = (api.world.asked_dialfire(), api.world.asked_zendesk());
        let again = api.route(HOT, "refused").await;
        assert_eq!(again.status.as_u16(), status);
        assert_eq!(
            (api.world.asked_dialfire(), api.world.asked_zendesk()),
            asked
        );

        let id = CallId::parse("api-refused").unwrap();
        let stored = api.world.running().store.call(&id).await.unwrap().unwrap();
        assert_eq!(stored.reason.as_str(), "all_dialers_refused");
        let answer = answer.json();
        if status == 201 {
            let call = &answer["data"];
            assert_eq!(call["connect"]["value"], LAST_RESORT);
            assert_eq!(call["reason"], "all_dialers_refused");
            assert_eq!(
                (&call["certainty"], &call["dialer"]),
                (&Value::Null, &Value::Null)
            );
            assert_eq!(stored.status, Status::Dialing);
        } else {
            assert_eq!(answer["error"]["type"], "Unavailable");
            let details = json!({ "call_id": "api-refused", "reason": "all_dialers_refused" });
            assert_eq!(answer["error"]["details"], details);
            assert_eq!(stored.disposition, Some(Disposition::Failed));
        }
    }
}

#[tokio::test]
async fn a_dialer_that_is_taken_out_gets_no_call_until_it_is_put_back() {
    let api = Api::new().await;
    let drained = api.post("/dialers/dialfire/drain", None).await;
    assert_eq!(drained.status, StatusCode::OK);
    let dialer = drained.json()["data"].clone();
    assert_eq!(
        (&dialer["state"], &dialer["reason"]),
        (&json!("drained"), &json!("taken out by ops"))
    );
    assert_eq!(dialer["drained"]["by"], "ops");
    assert!(!drained.text.contains("token"), "{}", drained.text);
    // Once more is no change.
    api.post("/dialers/dialfire/drain", None).await;

    let result = api.world.call(HOT).await;
    assert_eq!(dialled(&result), [ZENDESK_LINE]);
    let decided = api.world.details(&result, Kind::CallDecided).await;
    let skipped = &decided[0]["decision"]["skipped"][0];
    assert_eq!(
        (&skipped["dialer"], &skipped["reason"]),
        (&json!("dialfire"), &json!("drained"))
    );
    assert_eq!(api.world.asked_dialfire(), 0);

    let resumed = api.post("/dialers/dialfire/resume", None).await.json();
    assert_eq!(resumed["data"]["state"], "closed");
    assert_eq!(resumed["data"]["drained"], Value::Null);
    let result = api.world.call(HOT).await;
    assert_eq!(dialled(&result), [DIALFIRE_LINE]);

    let records = api.world.running().store.records(0, 1_000).await.unwrap();
    let changes: Vec<Value> = records
        .iter()
        .filter(|record| record.kind == Kind::HealthChanged)
        .map(|record| serde_json::from_str(&record.detail).unwrap())
        .map(|mut change: Value| {
            // What outlives the process is for the restart to prove.
            change.as_object_mut().unwrap().remove("standing");
            change
        })
        .collect();
    let change =
        |from, to, cause| json!({ "service": "dialfire", "from": from, "to": to, "cause": cause });
    let expected = [
        change("closed", "drained", "taken out by ops"),
        change("drained", "closed", "put back by ops"),
    ];
    assert_eq!(changes, expected);
}

#[tokio::test]
async fn dialers_are_shown_with_their_state_and_without_their_secrets() {
    let api = Api::new().await;
    let list = api.get("/dialers").await;
    let names: Vec<Value> = list.json()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["name"].clone())
        .collect();
    assert_eq!(names, ["dialfire", "zendesk"]);
    assert_eq!(list.json()["total"], 2);
    assert!(!list.text.contains("token"), "{}", list.text);
    let zendesk = api.get("/dialers/zendesk").await.json()["data"].clone();
    assert_eq!(zendesk["kind"], "zendesk_talk");
    assert_eq!(
        zendesk["connect"],
        json!({ "kind": "sip", "value": ZENDESK_LINE })
    );
    assert_eq!(
        (&zendesk["state"], &zendesk["breaker"]),
        (&json!("closed"), &json!("closed"))
    );

    let fault = Fault::status(401);
    api.world
        .outside
        .dialfire
        .faults()
        .standing_on(Route::method("POST"), fault);
    api.world.call(HOT).await;
    let dialfire = api.get("/dialers/dialfire").await.json()["data"].clone();
    assert_eq!(
        (&dialfire["state"], &dialfire["breaker"]),
        (&json!("open"), &json!("open"))
    );
    assert!(
        dialfire["since"].is_string() && dialfire["reason"].is_string(),
        "{dialfire}"
    );

    let report = api.post("/dialers/zendesk/test", None).await.json()["data"].clone();
    assert_eq!(
        (&report["dialer"], &report["ok"]),
        (&json!("zendesk"), &json!(true)),
        "{report}"
    );
}

#[tokio::test]
async fn calls_are_shown_with_their_legs_and_masked_numbers() {
    let api = Api::new().await;
    let result = api.world.call(HOT).await;
    let shown = api.get(&format!("/calls/{}", result.call_sid)).await;
    for number in [HOT, CALLED] {
        assert!(!shown.text.contains(number), "{}", shown.text);
    }
    let call = shown.json()["data"].clone();
    assert_eq!(
        (&call["status"], &call["disposition"]),
        (&json!("ended"), &json!("answered"))
    );
    let legs = call["legs"].as_array().unwrap();
    let child = legs
        .iter()
        .find(|leg| leg["direction"] == "outbound_dial")
        .unwrap();
    assert_eq!(
        (&child["dialer"], &child["end_reason"]),
        (&json!("dialfire"), &json!("completed"))
    );

    let mut arrived = Vec::new();
    for _ in 0..3 {
        let twilio = &api.world.outside.twilio;
        let sid = twilio.new_sid("CA");
        let fields = twilio.inbound_fields(&sid, STRANGER, CALLED);
        twilio.post("/webhooks/twilio", &fields).await.unwrap();
        arrived.push(sid);
    }
    api.route(STRANGER, "not-on-our-line").await;
    let active = api.get("/calls/active?page=2&page_size=2").await.json();
    assert_eq!(
        (&active["total"], &active["page"], &active["page_size"]),
        (&json!(3), &json!(2), &json!(2))
    );
    assert_eq!(active["data"].as_array().unwrap().len(), 1);
    assert_eq!(active["data"][0]["call_id"], *arrived[0]);
}

fn data_of(answer: &Answer) -> Value {
    answer.json().get("data").cloned().unwrap_or_default()
}

impl Api {
    async fn end(&self, call_id: &str, body: &Value) -> Answer {
        let path = format!("/calls/{call_id}/ended");
        self.post(&path, Some(body.to_string())).await
    }

    async fn shown(&self, call_id: &str) -> Value {
        data_of(&self.get(&format!("/calls/{call_id}")).await)
    }

    async fn calls_of_five_minutes(&self) -> Value {
        data_of(&self.get("/calls/metrics?window=5m").await)
    }
}

#[tokio::test]
async fn whoever_brought_a_call_says_how_it_ended_and_the_first_word_stands() {
    let api = Api::new().await;
    let outcomes = ["answered", "no_answer", "busy", "failed", "abandoned"];
    for outcome in outcomes {
        let call = format!("api-{outcome}");
        assert_eq!(api.route(HOT, outcome).await.status, StatusCode::CREATED);
        let end = json!({ "outcome": outcome, "talked_s": 190 });
        for _ in 0..2 {
            let answer = api.end(&call, &end).await;
            assert_eq!(
                (answer.status, answer.text.as_str()),
                (StatusCode::NO_CONTENT, ""),
                "{outcome}"
            );
        }
        let shown = api.shown(&call).await;
        assert_eq!(
            (&shown["status"], &shown["disposition"], &shown["dialer"]),
            (&json!("ended"), &json!(outcome), &json!("dialfire"))
        );
        assert_eq!(shown["answered_at"].is_string(), outcome == "answered");
        for other in outcomes.iter().filter(|other| **other != outcome) {
            let answer = api.end(&call, &json!({ "outcome": other })).await;
            assert_eq!(answer.status, StatusCode::CONFLICT, "{outcome}, {other}");
            assert_eq!(answer.error_type(), "ConflictError");
            answer.assert_well_formed(other);
        }
        assert_eq!(api.shown(&call).await["disposition"], outcome);
        let id = CallId::parse(&call).unwrap();
        let records = api.world.running().store.records_of_call(&id).await;
        let ends = records.unwrap();
        let ends = ends.iter().filter(|record| record.kind == Kind::CallEnded);
        assert_eq!(ends.count(), 1);
    }
    let metrics = api.calls_of_five_minutes().await;
    assert_eq!(metrics["calls"]["active"], 0);
    let counted = metrics["by_outcome"].as_array().unwrap().iter();
    let counted: Vec<&Value> = counted.map(|one| &one["calls"]).collect();
    assert_eq!(counted, [&json!(1); 5], "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_from_elsewhere_of_somebody_who_was_erased_is_not_routed_anew() {
    let api = Api::new().await;
    let first = api.route(HOT, "one").await;
    api.end("api-one", &json!({ "outcome": "answered" })).await;
    assert_eq!(
        api.route(HOT, "one").await.text,
        first.text,
        "over, and known"
    );
    let erased = api.world.command(&["erase", "--caller", HOT]).await;
    assert!(erased.status.success());
    let again = api.route(HOT, "one").await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.text);
    again.assert_well_formed("after an erasure");
    assert_eq!(api.world.asked_dialfire(), 1);
}

#[tokio::test]
async fn the_end_of_a_call_from_elsewhere_is_refused_where_it_makes_no_sense() {
    let api = Api::new().await;
    api.route(HOT, "one").await;
    let result = api.world.call(HOT).await;
    let good = json!({ "outcome": "answered", "talked_s": 1.0 });
    let unknown = api.end("api-two", &good).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let twilios = api.end(&result.call_sid, &good).await;
    assert_eq!(twilios.status, StatusCode::CONFLICT, "{}", twilios.text);
    let wrong = [
        (json!({}), "outcome"),
        (json!({ "outcome": 1 }), "outcome"),
        (json!({ "outcome": "Answered" }), "outcome"),
        (json!({ "outcome": "unknown" }), "outcome"),
        (json!({ "outcome": "busy", "talked_s": -1 }), "talked_s"),
        (json!({ "outcome": "busy", "talked_s": "9" }), "talked_s"),
        (json!({ "outcome": "busy", "talked_s": 1.5 }), "talked_s"),
        (json!({ "outcome": "busy", "talked_s": 86_401 }), "talked_s"),
    ];
    for (body, field) in wrong {
        let answer = api.end("api-one", &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        let details = answer.json()["error"]["details"].clone();
        assert!(details[field].is_string(), "{body}: {details}");
        answer.assert_well_formed(&body.to_string());
    }
    assert_eq!(api.shown("api-one").await["status"], "dialing");
}

#[tokio::test]
async fn a_call_from_elsewhere_whose_end_nobody_tells_is_unknown_until_somebody_does() {
    let clock = Clock::manual(Timestamp::from_second(1_790_000_000).unwrap());
    let api = Api::with(Settings {
        clock: clock.clone(),
        routing: "api_calls_end_after = \"10m\"".to_owned(),
        ..Settings::default()
    })
    .await;
    api.route(HOT, "one").await;
    let pass = |seconds| clock.advance(Duration::from_secs(seconds));
    let reconciler = &api.world.running().reconciler;
    pass(599);
    assert_eq!(reconciler.round().await.active, Some(0));
    assert_eq!(api.shown("api-one").await["status"], "dialing");
    assert_eq!(api.get("/calls/active").await.json()["total"], 0);
    pass(1);
    reconciler.round().await;
    let shown = api.shown("api-one").await;
    assert_eq!(
        (&shown["status"], &shown["disposition"]),
        (&json!("ended"), &json!("unknown"))
    );
    assert_eq!(api.world.outside.twilio.requests().count(), 0);

    let end = json!({ "outcome": "busy", "talked_s": 0 });
    for _ in 0..2 {
        let answer = api.end("api-one", &end).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
    }
    let shown = api.shown("api-one").await;
    assert_eq!(
        (&shown["status"], &shown["disposition"]),
        (&json!("ended"), &json!("busy"))
    );
    let answered = api.end("api-one", &json!({ "outcome": "answered" })).await;
    assert_eq!(answered.status, StatusCode::CONFLICT);
    let logged = api.get("/logs?kind=call_corrected").await.json();
    assert_eq!(
        (
            &logged["data"][0]["detail"]["from"],
            &logged["data"][0]["detail"]["to"]
        ),
        (&json!("unknown"), &json!("busy"))
    );
}

#[tokio::test]
async fn the_last_resort_stands_where_the_names_of_dialers_stand() {
    let api = Api::new().await;
    for line in [DIALFIRE_LINE, ZENDESK_LINE] {
        let busy = LineBehaviour::Busy;
        api.world.outside.twilio.set_line(line, busy);
    }
    let rescued = api.world.call(HOT).await;
    api.world
        .outside
        .twilio
        .set_line("", LineBehaviour::answer(Duration::from_secs(30)));
    let masked = E164::parse(LAST_RESORT).unwrap().masked();
    let shown = api.shown(&rescued.call_sid).await;
    assert_eq!(
        (&shown["dialer"], &shown["last_resort"]),
        (&Value::Null, &json!(masked))
    );
    let legs = shown["legs"].as_array().unwrap();
    let of_last: Vec<&Value> = legs.iter().filter(|leg| leg["step"] == 5).collect();
    assert_eq!(of_last.len(), 1);
    assert_eq!(
        (&of_last[0]["dialer"], &of_last[0]["last_resort"]),
        (&Value::Null, &shown["last_resort"])
    );
    let others = legs.iter().filter(|leg| leg["step"] != 5);
    for leg in others {
        assert_eq!(leg["last_resort"], Value::Null, "{leg}");
    }
    for (filter, n) in [("last_resort", 1), ("dialfire", 0), ("zendesk", 0)] {
        let listed = api.get(&format!("/calls?dialer={filter}")).await.json();
        assert_eq!(listed["total"], n, "{filter}");
    }
    let metrics = api.calls_of_five_minutes().await;
    let dialers = metrics["by_dialer"].as_array().unwrap().iter();
    let calls: Vec<(&str, &Value, &Value)> = dialers
        .map(|one| {
            (
                one["dialer"].as_str().unwrap(),
                &one["calls"],
                &one["failed"],
            )
        })
        .collect();
    assert_eq!(
        calls,
        [
            ("dialfire", &json!(0), &json!(0)),
            ("last_resort", &json!(1), &json!(1)),
            ("zendesk", &json!(0), &json!(0)),
        ]
    );
    let trace = api.get(&format!("/logs/{}", rescued.call_sid)).await;
    assert!(!trace.text.contains(LAST_RESORT), "masked as others are");
}

#[tokio::test]
async fn a_reload_replaces_the_keys() {
    let mut api = Api::new().await;
    assert_eq!(api.get("/dialers").await.status, StatusCode::OK);
    let new = DrawnKey::draw().unwrap();
    let settings = Settings {
        sections: key_lines("new", "viewer", &new),
        ..Settings::default()
    };
    api.world.reload(settings).await;
    assert_eq!(api.get("/dialers").await.status, StatusCode::UNAUTHORIZED);
    api.viewer = new.key;
    assert_eq!(api.get("/dialers").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_key_made_by_the_command_line_opens_the_door_that_its_lines_describe() {
    let program = env!("CARGO_BIN_EXE_switchboard");
    let run = |arguments: &[&str]| {
        let output = Command::new(program)
            .args(["key", "new"])
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, text) = run(&["--name", "ops", "--role", "admin"]);
    assert_eq!(code, Some(0));
    let (key, lines) = text.split_once("\n\n").unwrap();
    let key = key.rsplit(' ').next().unwrap();
    let settings = Settings {
        sections: lines.to_owned(),
        ..Settings::default()
    };
    let mut api = Api::new().await;
    api.world.reload(settings).await;
    key.clone_into(&mut api.admin);
    assert_eq!(
        api.post("/dialers/zendesk/drain", None).await.status,
        StatusCode::OK
    );

    let (code, text) = run(&["--json", "--name", "desk", "--role", "viewer"]);
    assert_eq!(code, Some(0));
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&document["name"], &document["role"]),
        (&json!("desk"), &json!("viewer"))
    );
    assert_eq!(document["hash"].as_str().unwrap().len(), 64);
    for wrong in [
        &["--name", "ops"][..],
        &["--name", "", "--role", "admin"],
        &["--name", "x", "--role", "root"],
    ] {
        assert_eq!(run(wrong).0, Some(2), "{wrong:?}");
    }
}

#[tokio::test]
async fn calls_are_found_by_what_they_are_and_paged_by_number_and_by_cursor() {
    let clock = Clock::stopped("2026-11-23T09:00:00Z".parse().unwrap());
    let api = Api::with(Settings {
        clock: clock.clone(),
        ..Settings::default()
    })
    .await;
    let hot = api.world.call(HOT).await;
    for n in 0..5 {
        clock.advance(Duration::from_secs(1));
        api.route(COLD, &format!("n-{n}")).await;
    }
    let ids = |answer: &Answer| -> Vec<String> {
        let rows = answer.json()["data"].as_array().unwrap().clone();
        rows.iter()
            .map(|row| row["call_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = api.get("/calls").await;
    assert_eq!(all.json()["total"], 6, "{}", all.text);
    assert_eq!(all.json()["total_is_exact"], true);
    assert_eq!(all.json()["next_cursor"], Value::Null);
    assert_eq!(ids(&all)[0], "api-n-4");
    assert_eq!(ids(&all)[5], hot.call_sid);
    for number in [HOT, COLD, CALLED] {
        assert!(!all.text.contains(number), "{}", all.text);
    }

    let start = all.json()["data"][0]["started_at"]
        .as_str()
        .unwrap()
        .to_owned();
    let cases = [
        ("status=ended".to_owned(), 1),
        ("status=dialing".to_owned(), 5),
        ("disposition=answered".to_owned(), 1),
        ("disposition=busy".to_owned(), 0),
        ("dialer=zendesk".to_owned(), 5),
        ("tier=hot".to_owned(), 1),
        ("tier=hot&dialer=zendesk".to_owned(), 0),
        (format!("q={}", hot.call_sid), 1),
        (format!("q={}", &hot.call_sid[..12]), 1),
        ("q=api-n-".to_owned(), 5),
        ("q=api-n-3".to_owned(), 1),
        (format!("q=%2B{}", &HOT[1..]), 1),
        (format!("q={}", HOT.replace('+', "00")), 1),
        ("q=%2B491700000099".to_owned(), 0),
        (format!("from={start}"), 1),
        (format!("to={start}"), 5),
        (
            "from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z".to_owned(),
            0,
        ),
    ];
    for (query, expected) in cases {
        let found = api.get(&format!("/calls?{query}")).await;
        assert_eq!(ids(&found).len(), expected, "{query}: {}", found.text);
        assert_eq!(found.json()["total"], expected, "{query}");
    }

    let second = api.get("/calls?page=2&page_size=2").await;
    assert_eq!(ids(&second), ["api-n-2", "api-n-1"]);
    let first = api.get("/calls?page_size=4").await;
    // Rows that arrive meanwhile do not move the next page.
    api.route(COLD, "late").await;
    let cursor = first.json()["next_cursor"].as_str().unwrap().to_owned();
    let next = api
        .get(&format!("/calls?page_size=4&cursor={cursor}"))
        .await;
    assert_eq!(ids(&next), ["api-n-0".to_owned(), hot.call_sid.clone()]);
    assert_eq!(next.json()["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_filter_that_cannot_be_read_is_named() {
    let api = Api::new().await;
    let cases = [
        ("/calls?status=gone", "status"),
        ("/calls?disposition=gone", "disposition"),
        ("/calls?dialer=a%20b", "dialer"),
        ("/calls?from=yesterday", "from"),
        ("/calls?to=2026-11-26", "to"),
        ("/calls?q=%27%3B--", "q"),
        ("/calls?cursor=x", "cursor"),
        ("/calls?reveal=maybe", "reveal"),
        ("/calls?page_size=0", "page_size"),
        ("/calls/active?page=0", "page"),
        ("/logs?kind=gossip", "kind"),
        ("/logs?severity=fatal", "severity"),
        ("/logs?call_id=a%20b", "call_id"),
        ("/logs?cursor=7", "cursor"),
        ("/settings/changes?page_size=201", "page_size"),
        ("/customers/nobody", "phone_number"),
    ];
    for (path, field) in cases {
        let answer = api.get(path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(answer.error_type(), "ValidationError", "{path}");
        let details = answer.json()["error"]["details"].clone();
        assert!(details[field].is_string(), "{path}: {details}");
    }
}

#[tokio::test]
async fn numbers_are_shown_in_full_only_when_asked_for_and_that_is_written_down() {
    let api = Api::new().await;
    let result = api.world.call(HOT).await;
    let path = format!("/calls/{}?reveal=true", result.call_sid);
    let shown = api.get(&path).await.json();
    assert_eq!(shown["data"]["caller"], HOT);
    assert_eq!(shown["data"]["called"], CALLED);
    assert_eq!(
        api.get("/calls?reveal=true").await.json()["data"][0]["caller"],
        HOT
    );
    let written = api.get("/logs?kind=accessed").await.json();
    assert_eq!(written["total"], 2, "{written}");
    let detail = &written["data"][1]["detail"];
    assert_eq!(detail["is"], "numbers_revealed");
    assert_eq!(
        (&detail["by"], &detail["calls"]),
        (&json!("desk"), &json!(1))
    );
}

#[tokio::test]
async fn the_trace_of_a_call_tells_all_of_it() {
    let api = Api::new().await;
    let result = api.world.call(HOT).await;
    let trace = api.get(&format!("/logs/{}", result.call_sid)).await;
    assert!(!trace.text.contains(HOT), "{}", trace.text);
    let trace = trace.json()["data"].clone();
    assert_eq!(trace["call"]["disposition"], "answered");
    assert_eq!(
        trace["decisions"][0]["plan"],
        json!(["dialfire", "zendesk"])
    );
    assert!(
        trace["decisions"][0]["trace"][0]["text"].is_string(),
        "{trace}"
    );
    let services: Vec<&Value> = trace["exchanges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["service"])
        .collect();
    assert_eq!(services, ["braze", "dialfire"]);
    assert_eq!(trace["handoffs"][0]["outcome"]["outcome"], "accepted");
    assert_eq!(trace["answers"][0]["budget_ms"], 2_000);
    assert_eq!(trace["answers"][0]["within_budget"], true);
    let records = api
        .get(&format!("/logs?call_id={}", result.call_sid))
        .await
        .json();
    assert_eq!(
        records["total"].as_u64().unwrap(),
        trace["records"].as_array().unwrap().len() as u64
    );
    let warnings = api.get("/logs?severity=error").await.json();
    assert_eq!(warnings["data"], json!([]));
    let by_number = api.get(&format!("/logs?q=%2B{}", &HOT[1..])).await.json();
    assert_eq!(by_number["total"], records["total"]);
}

#[tokio::test]
async fn the_log_is_searched_for_all_calls_of_a_number() {
    let api = Api::new().await;
    let mut of_hot = 0;
    for caller in [HOT, COLD, HOT, STRANGER, HOT] {
        let result = api.world.call(caller).await;
        if caller == HOT {
            of_hot += api.world.records(&result).await.len();
        }
    }
    let number = HOT.replace('+', "%2B");
    let found = api.get(&format!("/logs?q={number}")).await.json();
    assert_eq!(found["total"], of_hot);
    assert_eq!(found["total_is_exact"], true);
    let calls = |found: &Value| {
        let rows = found["data"].as_array().unwrap();
        let ids = rows.iter().map(|row| row["call_id"].to_string());
        ids.collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(calls(&found), 3);
    let decided = format!("/logs?q={number}&kind=call_decided");
    assert_eq!(api.get(&decided).await.json()["total"], 3);
    let nobody = api.get("/logs?q=%2B491700000002").await.json();
    assert_eq!(nobody["total"], 0);
}

#[tokio::test]
async fn customers_are_looked_up_and_forgotten() {
    let api = Api::new().await;
    let path = format!("/customers/{HOT}");
    let known = api.get(&path).await.json()["data"].clone();
    assert_eq!(
        (&known["known"], &known["score"]),
        (&json!(true), &json!(90))
    );
    assert_eq!(
        (&known["tier"], &known["source"]),
        (&json!("hot"), &json!("fetched"))
    );
    assert_eq!(
        api.get("/customers/0049-170 000 0090").await.json()["data"]["source"],
        "fresh"
    );
    let written = api.get("/logs?kind=accessed&page_size=1").await.json();
    let detail = &written["data"][0]["detail"];
    assert_eq!(
        (&detail["is"], &detail["by"], &detail["phone"]),
        (
            &json!("customer_shown"),
            &json!("desk"),
            &json!("+**********90")
        )
    );
    let gone = api.ask(Method::DELETE, &path, Some(&api.admin), None).await;
    assert_eq!(
        (gone.status, gone.text.as_str()),
        (StatusCode::NO_CONTENT, "")
    );
    let written = api.get("/logs?kind=accessed&page_size=1").await.json();
    let detail = &written["data"][0]["detail"];
    assert_eq!(
        (&detail["is"], &detail["by"], &detail["phone"]),
        (
            &json!("customer_forgotten"),
            &json!("ops"),
            &json!("+**********90")
        )
    );
    assert_eq!(api.get(&path).await.json()["data"]["source"], "fetched");
    let stranger = api.get(&format!("/customers/{STRANGER}")).await.json();
    assert_eq!(stranger["data"]["known"], false);
    api.world
        .outside
        .braze
        .faults()
        .standing_on(Route::method("POST"), Fault::status(500));
    let failed = api.get("/customers/+491700000077").await;
    assert_eq!(failed.status, StatusCode::BAD_GATEWAY);
    assert_eq!(failed.error_type(), "IntegrationError");
}

#[tokio::test]
async fn what_braze_calls_a_person_is_hidden_unless_asked_for_which_is_written_down() {
    let api = Api::new().await;
    let profile = switchboard_simulator::braze::Profile::new("+491700000055")
        .with("lead_score", 55)
        .with_field("external_id", "customer-00017");
    api.world.outside.braze.add(profile);
    let path = "/customers/+491700000055";
    let shown = api.get(path).await.json()["data"]["external_id"].clone();
    assert_eq!(shown, "••••••••••••17");
    let full = api.get(&format!("{path}?reveal=true")).await.json();
    assert_eq!(full["data"]["external_id"], "customer-00017");
    let written = api.get("/logs?kind=accessed").await.json();
    let revealed: Vec<&Value> = written["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["detail"]["revealed"])
        .collect();
    assert_eq!(revealed, [true, false]);
    let wrong = api.get(&format!("{path}?reveal=yes")).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn people_who_look_up_leave_braze_to_callers() {
    let api = Api::with(Settings {
        braze: "requests_per_minute = 8".to_owned(),
        ..Settings::default()
    })
    .await;
    let mut statuses = Vec::new();
    for n in 0..10 {
        let answer = api.get(&format!("/customers/+49170000010{n}")).await;
        statuses.push(answer.status.as_u16());
    }
    let explained = api
        .post(
            "/routing/explain",
            Some(json!({ "from": "+491700000199", "lookup": true }).to_string()),
        )
        .await;
    // Two requests at once, one of them for people.
    assert_eq!(statuses[0], 200);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(explained.status, StatusCode::OK);
    let asked = api.world.outside.braze.requests().all().len();
    assert!(asked < 10, "{asked} requests");
    let call = api.world.call(HOT).await;
    assert_eq!(dialled(&call), [DIALFIRE_LINE], "its score was asked for");
}

#[tokio::test]
async fn the_rules_in_force_are_shown_in_the_order_in_which_they_are_tried() {
    let api = Api::new().await;
    let answer = api.ask(Method::GET, "/routing/rules", Some(&api.viewer), None);
    let rules = answer.await.json()["data"].clone();
    let in_force = api.get("/settings").await.json()["data"]["ruleset"].clone();
    let expected = json!({
        "version": in_force,
        "tiers": [
            { "name": "hot", "min_score": 80 },
            { "name": "warm", "min_score": 40 },
            { "name": "cold", "min_score": 0 },
        ],
        "rules": [
            { "name": "sales floor", "when": { "tier": ["hot", "warm"] }, "dialers": ["dialfire", "zendesk"] },
        ],
        "default_order": ["zendesk", "dialfire"],
        "tests": [],
        "lint": ["routing.rules[0] (\"sales floor\") has no test"],
        "hours": [],
        "draft": null,
    });
    assert_eq!(rules, expected);
}

#[tokio::test]
async fn the_tests_of_the_rules_and_what_should_be_looked_at_are_shown_with_them() {
    let rules = r#"
[[routing.rules]]
name = "as the one after it"
when = { tier = ["hot", "warm"] }
dialers = ["zendesk"]
[[routing.tests]]
name = "a hot lead"
given = { score = 85 }
expect = { first = "zendesk" }
"#;
    let api = Api::with(Settings {
        routing: rules.to_owned(),
        ..Settings::default()
    })
    .await;
    let rules = api.get("/routing/rules").await.json()["data"].clone();
    let test = json!({ "name": "a hot lead", "ok": true, "message": null });
    assert_eq!(rules["tests"], json!([test]));
    let lint = rules["lint"].to_string();
    assert!(
        lint.contains("(\\\"sales floor\\\") never matches"),
        "{lint}"
    );
}

/// A world with a list of one number and one beginning, and a list of nobody.
async fn with_lists() -> Api {
    let lists =
        "[routing.lists.vip]\nnumbers = [\"+4930123456\", \"+44207*\"]\n[routing.lists.blocked]\n";
    Api::with(Settings {
        sections: lists.to_owned(),
        ..Settings::default()
    })
    .await
}

#[tokio::test]
async fn a_number_that_was_put_on_a_list_while_the_database_is_locked_counts_and_comes_off_again() {
    let api = with_lists().await;
    let entries = "/routing/lists/blocked/entries";
    let body = json!({ "number": HOT, "why": "asked for it" });
    let is_blocked = |api: &Api| {
        let now = Clock::system().now();
        let caller = switchboard::phone::Caller::classify(HOT);
        !api.world.running().lists().of(&caller, now).is_empty()
    };
    let lock = Lock::on(&api.world);
    let operator = Some(api.operator.as_str());
    let added = api
        .ask(Method::POST, entries, operator, Some(body.to_string()))
        .await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.text);
    assert!(is_blocked(&api));
    let id = added.json()["data"]["id"].clone();
    let path = format!("{entries}/{}", id.as_str().unwrap());
    let removed = api.ask(Method::DELETE, &path, operator, None).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT, "{}", removed.text);
    assert!(!is_blocked(&api));
    lock.release(&api.world).await;

    assert_eq!(api.get(entries).await.json()["data"], json!([]));
    let records = api.get("/logs?kind=list_changed").await.json();
    let change = |n: usize| &records["data"][n]["detail"]["change"];
    assert_eq!((change(0), change(1)), (&json!("removed"), &json!("added")));
}

#[tokio::test]
async fn a_number_is_put_on_a_list_renewed_and_taken_off_and_nobody_sees_it_unrecorded() {
    let mut api = with_lists().await;
    let lists = api.get("/routing/lists").await.json();
    let list = |name: &str, numbers: u32, entries: u32| json!({ "name": name, "numbers": numbers, "file": null, "entries": entries });
    assert_eq!(
        lists["data"],
        json!([list("blocked", 0, 0), list("vip", 2, 0)])
    );

    let entries = "/routing/lists/vip/entries";
    let add = |body: Value| Some(body.to_string());
    let operator = api.operator.clone();
    let post = |body| api.ask(Method::POST, entries, Some(&operator), add(body));
    let added = post(json!({ "number": "+49 170 0000090", "why": "asked for it" })).await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.text);
    let first = added.json()["data"].clone();
    assert_eq!(first["number"], "+**********90");
    assert_eq!(
        (&first["by"], &first["why"]),
        (&json!("shift"), &json!("asked for it"))
    );
    assert_eq!(first["until"], Value::Null);
    let until = "2126-12-01T00:00:00Z";
    let renewed = post(json!({ "number": HOT, "until": until })).await;
    assert_eq!(renewed.status, StatusCode::OK, "{}", renewed.text);
    let renewed = renewed.json()["data"].clone();
    assert_eq!(
        (&renewed["id"], &renewed["why"]),
        (&first["id"], &Value::Null)
    );
    assert_eq!(renewed["until"], until);
    assert_eq!(renewed["created_at"], first["created_at"]);

    for (body, field) in [
        (json!({}), "number"),
        (json!({ "number": "0170" }), "number"),
        (json!({ "number": HOT, "why": 7 }), "why"),
        (json!({ "number": HOT, "why": "x".repeat(501) }), "why"),
        (
            json!({ "number": HOT, "until": "2020-12-01T00:00:00Z" }),
            "until",
        ),
        (json!({ "number": HOT, "until": "soon" }), "until"),
    ] {
        let refused = post(body.clone()).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{body}");
        let details = refused.json()["error"]["details"].clone();
        assert!(details.get(field).is_some(), "{body}: {details}");
    }

    let page = api.get(entries).await;
    assert!(!page.text.contains("1700000090"), "{}", page.text);
    assert_eq!(page.json()["data"], json!([renewed]));
    let full = api.get(&format!("{entries}?reveal=true")).await.json();
    assert_eq!(full["data"][0]["number"], HOT);
    let caller = |number: &str| switchboard::phone::Caller::classify(number);
    let on = |api: &Api, number: &str| {
        let now = Clock::system().now();
        let lists = api.world.running().lists().of(&caller(number), now);
        lists.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(on(&api, HOT), ["vip"]);
    assert_eq!(on(&api, "+442071234567"), ["vip"]);
    assert_eq!(on(&api, COLD), [""; 0]);

    // What was added outlives a restart and a reload; the log says who did what, and never to whom.
    api.world.stop().await;
    api.world.start().await;
    assert_eq!(on(&api, HOT), ["vip"]);
    let id = first["id"].as_str().unwrap();
    let path = format!("{entries}/{id}");
    let remove = async |path: &str| {
        api.ask(Method::DELETE, path, Some(&api.operator), None)
            .await
    };
    assert_eq!(remove(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(remove(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(on(&api, HOT), [""; 0]);
    let records = api.get("/logs?kind=list_changed").await;
    assert!(!records.text.contains("1700000090"), "{}", records.text);
    assert!(!records.text.contains("asked for it"), "{}", records.text);
    let records = records.json()["data"].clone();
    let changes: Vec<&Value> = (0..3).map(|n| &records[n]["detail"]["change"]).collect();
    assert_eq!(changes, ["removed", "added", "added"]);
    assert_eq!(records[0]["detail"]["entry"], first["id"]);
    assert_eq!(records[0]["detail"]["by"], "shift");
    assert_eq!(records[0]["caller"], "+**********90");
    let seen = api.get("/logs?kind=accessed").await.json();
    assert_eq!(
        seen["data"][0]["detail"]["route"],
        "/routing/lists/{name}/entries"
    );
}

#[tokio::test]
async fn settings_are_shown_with_their_sources_and_without_secrets() {
    let mut api = Api::new().await;
    let answer = api.get("/settings").await;
    let settings = answer.json()["data"].clone();
    let find = |key: &str| {
        let all = settings["settings"].as_array().unwrap();
        all.iter()
            .find(|setting| setting["key"] == key)
            .unwrap()
            .clone()
    };
    assert_eq!(
        find("routing.budget"),
        json!({ "key": "routing.budget", "value": "2s", "source": "default", "line": null })
    );
    assert_eq!(find("routing.default_dialer")["source"], "file");
    assert!(find("routing.default_dialer")["line"].is_number());
    assert_eq!(find("braze.api_key")["value"], "(secret)");
    assert_eq!(
        settings["keys"][0],
        json!({ "name": "ops", "role": "admin" })
    );
    for secret in ["made-up", "/tmp/"] {
        assert!(!answer.text.contains(secret), "{secret}: {}", answer.text);
    }
    let mut stream = Stream::open(&api, None).await;
    let new = DrawnKey::draw().unwrap();
    let settings = Settings {
        sections: api.world.settings().sections + &key_lines("new", "viewer", &new),
        ..Settings::default()
    };
    api.world.reload(settings).await;
    api.viewer = new.key;
    let (_, told) = stream.next("settings").await;
    let now = api.get("/settings").await.json()["data"].clone();
    assert_eq!(
        (&told["version"], &told["keys"], &told["backup"]),
        (&now["version"], &now["keys"], &Value::Null)
    );
    let keys = told["keys"].as_array().unwrap();
    assert_eq!(keys.last().unwrap()["name"], "new");
    assert!(
        told["database"]["records"].as_i64().is_some_and(|n| n > 0),
        "{told}"
    );
    let changes = api.get("/settings/changes").await;
    // The first record says what the appliance was started with.
    assert_eq!(changes.json()["total"], 2, "{}", changes.text);
    assert!(!changes.text.contains("/tmp/"), "{}", changes.text);
    assert_eq!(changes.json()["data"][0]["kind"], "config_changed");
}

#[tokio::test]
async fn a_call_is_explained_by_the_rules_and_dialers_as_they_are() {
    let api = Api::new().await;
    let ask = |body: Value| {
        let api = &api;
        async move {
            api.ask(
                Method::POST,
                "/routing/explain",
                Some(&api.viewer),
                Some(body.to_string()),
            )
            .await
        }
    };
    let hot = ask(json!({ "from": HOT, "score": 90 })).await.json()["data"].clone();
    assert_eq!(
        (&hot["tier"], &hot["plan"]),
        (&json!("hot"), &json!(["dialfire", "zendesk"]))
    );
    let asked = ask(json!({ "from": HOT, "lookup": true })).await.json()["data"].clone();
    assert_eq!(asked["score"], 90);
    api.post("/dialers/dialfire/drain", None).await;
    let drained = ask(json!({ "from": HOT, "score": 90 })).await.json()["data"].clone();
    assert_eq!(drained["skipped"][0]["reason"], "drained");
    let wrong = json!({ "from": "1 2", "score": "x", "lookup": 1, "at": "soon" });
    let wrong = ask(wrong).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        wrong.json()["error"]["details"].as_object().unwrap().len(),
        4
    );
}

/// A session of the dashboard, as a browser keeps it.
struct Browser<'a> {
    api: &'a Api,
    cookie: String,
}

impl<'a> Browser<'a> {
    async fn log_in(api: &'a Api, key: &str) -> Self {
        let body = json!({ "key": key }).to_string();
        let answer = api.ask(Method::POST, "/session", None, Some(body)).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
        let set = answer.header("set-cookie").unwrap().to_owned();
        for part in [
            "switchboard_session=",
            "HttpOnly",
            "SameSite=Strict",
            "Path=/",
            "Max-Age=",
        ] {
            assert!(set.contains(part), "{set}");
        }
        assert!(!set.contains(key), "{set}");
        let cookie = set.split(';').next().unwrap().to_owned();
        Self { api, cookie }
    }

    async fn ask(&self, verb: &str, path: &str, from: &[(&str, &str)]) -> Answer {
        let url = format!("http://{}/api/v1{path}", self.api.world.running().address);
        let mut request = self.api.client.request(method(verb), url);
        request = request.header("Cookie", &self.cookie);
        for (name, value) in from {
            request = request.header(*name, *value);
        }
        if let Some(body) = body_for(verb, path) {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }
}

/// Where a request comes from, by which headers, and whether that is one of our own pages.
type Whence<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);

#[tokio::test]
async fn a_session_may_what_its_key_may_and_changes_things_from_our_own_pages_only() {
    let api = Api::new().await;
    let address = api.world.running().address.to_string();
    let own = format!("http://{address}");
    let browsers = [
        ("admin", Browser::log_in(&api, &api.admin).await),
        ("operator", Browser::log_in(&api, &api.operator).await),
        ("viewer", Browser::log_in(&api, &api.viewer).await),
    ];
    let origins: [Whence<'_>; 6] = [
        ("our page", &[("Sec-Fetch-Site", "same-origin")], true),
        ("our page, by its origin", &[("Origin", &own)], true),
        (
            "another site",
            &[
                ("Sec-Fetch-Site", "cross-site"),
                ("Origin", "https://evil.example"),
            ],
            false,
        ),
        (
            "another site, by its origin",
            &[("Origin", "https://evil.example")],
            false,
        ),
        ("a sandboxed page", &[("Origin", "null")], false),
        ("nothing said", &[], false),
    ];
    for (verb, _, path, role, expected) in ROUTES {
        if role == "nobody" || path == "/events" {
            continue;
        }
        for (who, browser) in &browsers {
            for (whence, headers, is_own) in &origins {
                let changes = verb != "GET";
                let expected = if may(who, role) && (!changes || *is_own) {
                    expected
                } else {
                    403
                };
                let answer = browser.ask(verb, path, headers).await;
                let what = format!("{verb} {path} as {who} from {whence}: {}", answer.text);
                assert_eq!(answer.status.as_u16(), expected, "{what}");
            }
        }
    }
}

fn kept_by<'a>(api: &'a Api, cookie: &str) -> Browser<'a> {
    let cookie = cookie.to_owned();
    Browser { api, cookie }
}

#[tokio::test]
async fn a_session_ends_by_log_out_by_its_key_and_outlives_a_restart() {
    let mut api = Api::new().await;
    let own = [("Sec-Fetch-Site", "same-origin")];
    let (admin, viewer) = (api.admin.clone(), api.viewer.clone());
    let cookies = {
        let gone = Browser::log_in(&api, &admin).await;
        let kept = Browser::log_in(&api, &viewer).await;
        assert_eq!(
            gone.ask("DELETE", "/session", &[]).await.status,
            StatusCode::FORBIDDEN
        );
        let answer = gone.ask("DELETE", "/session", &own).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
        assert_eq!(
            gone.ask("GET", "/dialers", &[]).await.status,
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(
            kept.ask("GET", "/dialers", &[]).await.status,
            StatusCode::OK
        );
        kept.cookie
    };
    api.world.stop().await;
    api.world.start().await;
    assert_eq!(
        kept_by(&api, &cookies)
            .ask("GET", "/dialers", &[])
            .await
            .status,
        StatusCode::OK
    );

    let written = api.get("/logs?kind=accessed").await.json();
    let kinds: Vec<&Value> = written["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["detail"]["is"])
        .collect();
    // One was asked to end from who knows where.
    assert_eq!(kinds, ["logged_out", "refused", "logged_in", "logged_in"]);

    let new = DrawnKey::draw().unwrap();
    let settings = Settings {
        sections: key_lines("new", "viewer", &new),
        ..Settings::default()
    };
    api.world.reload(settings).await;
    assert_eq!(
        kept_by(&api, &cookies)
            .ask("GET", "/dialers", &[])
            .await
            .status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn wrong_keys_are_written_down_and_told_to_wait_and_webhooks_are_not() {
    let api = Api::new().await;
    let wrong = json!({ "key": DrawnKey::draw().unwrap().key }).to_string();
    let mut statuses = Vec::new();
    for _ in 0..15 {
        let answer = api
            .ask(Method::POST, "/session", None, Some(wrong.clone()))
            .await;
        answer.assert_well_formed("a wrong key");
        statuses.push(answer.status.as_u16());
    }
    assert_eq!(statuses[0], 401);
    assert_eq!(statuses[14], 429, "{statuses:?}");
    let written = api.get("/logs?kind=accessed&page_size=200").await.json();
    assert_eq!(written["total"], 1, "the others are summed up later");
    assert_eq!(
        written["data"][0]["detail"],
        json!({ "is": "refused", "source": "127.0.0.1", "times": 1, "reasons": { "log_in": 1 } })
    );
    let result = api.world.call(HOT).await;
    assert_eq!(dialled(&result), [DIALFIRE_LINE]);
    assert_eq!(api.get("/dialers").await.status, StatusCode::OK);
}

#[tokio::test]
async fn figures_agree_with_the_calls() {
    let api = Api::new().await;
    for caller in [HOT, HOT, COLD, STRANGER] {
        api.world.call(caller).await;
    }
    api.route(COLD, "open").await;
    for window in ["5m", "1h", "24h", "7d"] {
        let answer = api.get(&format!("/calls/metrics?window={window}")).await;
        let metrics = answer.json()["data"].clone();
        assert_eq!(metrics["window"], window);
        let calls = json!({ "total": 5, "active": 0, "talking": 0, "on_hold": 0, "on_hold_since": null, "answered": 4, "failed": 0, "failed_over": 0, "held": 0, "abandoned": 0 });
        assert_eq!(metrics["calls"], calls, "{metrics}");
        assert_eq!(
            (&metrics["success_rate"], &metrics["failure_rate"]),
            (&json!(1.0), &json!(0.0))
        );
        let dialers: Vec<(&Value, &Value)> = metrics["by_dialer"]
            .as_array()
            .unwrap()
            .iter()
            .map(|d| (&d["dialer"], &d["calls"]))
            .collect();
        assert_eq!(
            dialers,
            [
                (&json!("dialfire"), &json!(2)),
                (&json!("zendesk"), &json!(3))
            ]
        );
        let cache = &metrics["cache"];
        assert_eq!(
            (&cache["hit"], &cache["miss"]),
            (&json!(2), &json!(3)),
            "{cache}"
        );
        for stage in ["routing", "lookup", "handoff", "commit"] {
            assert!(
                metrics["latency"][stage]["p99_ms"].is_number(),
                "{stage}: {metrics}"
            );
        }
        let series: i64 = metrics["series"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["calls"].as_i64().unwrap())
            .sum();
        assert_eq!(series, 5, "{window}");
    }
    let wrong = api.get("/calls/metrics?window=2m").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let dialfire = api.get("/dialers/dialfire").await.json()["data"].clone();
    assert_eq!(
        (&dialfire["handoffs"], &dialfire["success_rate"]),
        (&json!(2), &json!(1.0))
    );
}

/// The figures of the last five minutes.
async fn figures(api: &Api) -> Value {
    let answer = api.get("/calls/metrics?window=5m").await;
    answer.json().pointer("/data").cloned().unwrap_or_default()
}

#[tokio::test]
async fn who_hangs_up_is_no_failure_and_no_success_and_reasons_add_up() {
    let api = Api::new().await;
    let none = figures(&api).await;
    assert_eq!(
        (&none["success_rate"], &none["failure_rate"]),
        (&Value::Null, &Value::Null)
    );
    let leaves = LineBehaviour::CallerHangsUpRinging {
        after: Duration::from_secs(2),
    };
    let twilio = &api.world.outside.twilio;
    for _ in 0..3 {
        twilio
            .call(Call::new(HOT, CALLED).lines([leaves.clone()]))
            .await;
    }
    let only_hung_up = figures(&api).await;
    assert_eq!(only_hung_up["calls"]["abandoned"], 3, "{only_hung_up}");
    assert_eq!(only_hung_up["calls"]["failed"], 0);
    assert_eq!(only_hung_up["success_rate"], Value::Null, "{only_hung_up}");
    api.world.call(HOT).await;
    api.world.call(STRANGER).await;
    let well = figures(&api).await;
    assert_eq!(well["success_rate"], 1.0, "{well}");
    assert_eq!(well["failure_rate"], 0.0, "{well}");
    // Reasons of calls that went well are none of a failure.
    assert_eq!(well["by_reason"], json!([]));
    twilio.set_line("", LineBehaviour::Busy);
    let busy = api.world.call(HOT).await;
    let bad = figures(&api).await;
    assert_eq!(bad["calls"]["failed"], 1, "{bad}");
    assert_eq!(bad["success_rate"], 0.6667, "{bad}");
    assert_eq!(bad["failure_rate"], 0.3333, "{bad}");
    assert_eq!(
        bad["by_reason"],
        json!([{ "reason": "all_legs_failed", "calls": 1 }])
    );
    assert_eq!(bad["calls"]["total"], 6);
    assert_eq!(bad["calls"]["answered"], 2);

    // What is counted is what is listed: the incident leads to its calls, and to no others.
    let mut incident = Value::Null;
    for _ in 0..600 {
        let open = api.get("/alerts/active").await.json();
        let list = open["data"].as_array().unwrap();
        let found = list
            .iter()
            .find(|one| one["kind"] == "routing_failure_rate");
        if let Some(found) = found {
            incident = found.clone();
            break;
        }
        Clock::system().wait(Duration::from_millis(50)).await;
    }
    assert_eq!(incident["calls"], 1, "{incident}");
    let id = incident["id"].as_str().unwrap();
    let listed = api.get(&format!("/calls?incident={id}")).await.json();
    assert_eq!(listed["total"], 1, "{listed}");
    assert_eq!(listed["data"][0]["call_id"], busy.call_sid);
    let other = api
        .get(&format!("/calls?incident={id}&disposition=answered"))
        .await;
    assert_eq!(other.json()["total"], 0);
    let unknown = api.get("/calls?incident=routing_failure_rate-1").await;
    assert_eq!(unknown.json()["total"], 0);
    assert_eq!(api.get("/calls").await.json()["total"], 6);
}

#[tokio::test]
async fn one_record_is_had_by_its_number() {
    let api = Api::new().await;
    api.world.call(HOT).await;
    let all = api.get("/logs?page_size=200").await.json();
    for record in all["data"].as_array().unwrap() {
        let one = api
            .get(&format!("/logs?record={}", record["id"]))
            .await
            .json();
        assert_eq!(one["data"], json!([record]));
        assert_eq!(one["total"], 1);
    }
    let none = api.get("/logs?record=100000").await.json();
    assert_eq!((&none["data"], &none["total"]), (&json!([]), &json!(0)));
    let wrong = api.get("/logs?record=0").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let severe = api.get("/logs?record=1&severity=error").await.json();
    assert_eq!(severe["total"], 0);
}

#[tokio::test]
async fn an_address_that_leads_nowhere_is_said_so_by_a_page_of_ours() {
    let api = Api::new().await;
    let root = format!("http://{}", api.world.running().address);
    let page = |cookie: Option<String>| {
        let mut request = api
            .client
            .get(format!("{root}/nope"))
            .header("accept", "text/html,application/xhtml+xml");
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        request.send()
    };
    let stranger = page(None).await.unwrap();
    assert_eq!(stranger.status(), StatusCode::NOT_FOUND);
    assert!(stranger.headers().contains_key("content-security-policy"));
    let text = stranger.text().await.unwrap();
    assert!(text.contains("There is no such page"), "{text}");

    let key = json!({ "key": api.viewer }).to_string();
    let begun = api.ask(Method::POST, "/session", None, Some(key)).await;
    let cookie = begun.header("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let signed_in = page(Some(cookie)).await.unwrap();
    assert_eq!(signed_in.status(), StatusCode::NOT_FOUND);
    let text = signed_in.text().await.unwrap();
    assert!(text.contains("/assets/js/app.js"), "{text}");

    // The page knows every kind of record and every way to end, from the lists of the program.
    for kind in Kind::ALL.iter().map(|kind| kind.as_str()) {
        let named = text
            .split('"')
            .any(|list| list.split(' ').any(|word| word == kind));
        assert!(named, "{kind}");
    }
    for end in Disposition::ALL.iter().map(|end| end.as_str()) {
        assert!(text.contains(end), "{end}");
    }
    // A program gets the bare status.
    let program = api.client.get(format!("{root}/nope")).send().await.unwrap();
    assert_eq!(program.status(), StatusCode::NOT_FOUND);
    assert_eq!(program.text().await.unwrap(), "");
}

/// A stream of events, read piece by piece.
struct Stream(reqwest::Response, String);

impl Stream {
    async fn open(api: &Api, last: Option<&str>) -> Self {
        let url = format!("http://{}/api/v1/events", api.world.running().address);
        let mut request = api.client.get(url).header("X-API-Key", &api.viewer);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(!response.headers().contains_key("content-encoding"));
        Self(response, String::new())
    }

    /// The next event of this name: its id and its data.
    async fn next(&mut self, name: &str) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.1.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.1 = rest;
                let field = |field: &str| {
                    let lines = event.lines().filter_map(|line| line.split_once(": "));
                    lines
                        .clone()
                        .find(|(found, _)| *found == field)
                        .map(|(_, value)| value.to_owned())
                };
                if field("event").as_deref() == Some(name) {
                    let data = serde_json::from_str(&field("data").unwrap()).unwrap();
                    return (field("id").unwrap(), data);
                }
                continue;
            }
            let chunk = self.0.chunk().await.unwrap().unwrap();
            self.1.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn changes_are_told_as_they_happen_and_again_to_who_missed_them() {
    let mut api = Api::new().await;
    let nobody = api.ask(Method::GET, "/events", None, None).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    let mut stream = Stream::open(&api, None).await;
    api.route(HOT, "watched").await;
    let (first, call) = stream.next("call").await;
    assert_eq!(
        (&call["call_id"], &call["caller"]),
        (&json!("api-watched"), &json!("+**********90"))
    );
    let (_, metrics) = stream.next("metrics").await;
    assert_eq!(metrics["calls"]["total"], 1);
    api.post("/dialers/dialfire/drain", None).await;
    let (_, dialer) = stream.next("dialer").await;
    assert_eq!(
        (&dialer["name"], &dialer["state"]),
        (&json!("dialfire"), &json!("drained"))
    );

    let mut again = Stream::open(&api, Some(&first)).await;
    let (id, dialer) = again.next("dialer").await;
    assert_eq!(dialer["state"], "drained");
    assert!(id.parse::<u64>().unwrap() > first.parse::<u64>().unwrap());
    let mut late = Stream::open(&api, Some("1")).await;
    late.next("reset").await;
    let wrong = api
        .client
        .get(format!(
            "http://{}/api/v1/events",
            api.world.running().address
        ))
        .header("X-API-Key", &api.viewer)
        .header("Last-Event-ID", "x")
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);

    // Open streams do not hold the process up.
    api.world.stop().await;
    while let Ok(Some(_)) = stream.0.chunk().await {}
}

#[tokio::test]
async fn an_incident_is_told_as_the_list_shows_it_when_it_opens_and_when_somebody_is_reminded() {
    let api = Api::with(Settings {
        // A failed call ends in goodbye.
        routing: String::new(),
        ..Settings::default()
    })
    .await;
    let mut stream = Stream::open(&api, None).await;
    api.world.outside.twilio.set_line("", LineBehaviour::Busy);
    let call = api.world.call(HOT).await;
    let (_, opened) = stream.next("alert").await;
    assert_eq!(opened["kind"], "routing_failure_rate");
    assert_eq!(opened["status"], "open");
    assert_eq!(opened["call_ids"], json!([call.call_sid]));
    let listed = api.get("/alerts/active").await.json()["data"][0].clone();
    let names = |incident: &Value| -> Vec<String> {
        let fields = incident.as_object().unwrap();
        fields.keys().cloned().collect()
    };
    assert_eq!(names(&opened), names(&listed));
    assert_eq!(opened["id"], listed["id"]);

    let store = &api.world.running().store;
    let records = store.records(0, 1_000).await.unwrap();
    let notice = records.iter().find_map(|record| match record.event() {
        Ok(Event::IncidentOpened(notice)) => Some(notice),
        _ => None,
    });
    let reminder = Event::IncidentReminded(notice.unwrap());
    let record = Record::of_service(Clock::system().now(), reminder);
    store.append(vec![record]).await.unwrap();
    let (_, reminded) = stream.next("alert").await;
    assert_eq!(reminded["id"], opened["id"]);
    assert_eq!(
        (&opened["reminders"], &reminded["reminders"]),
        (&json!(0), &json!(1))
    );
}

#[tokio::test]
async fn every_answer_tells_browsers_what_it_is() {
    let api = Api::new().await;
    let root = format!("http://{}", api.world.running().address);
    for path in [
        "/health",
        "/ready",
        "/openapi.json",
        "/docs",
        "/nothing",
        "/api/v1/dialers",
        "/webhooks/twilio",
    ] {
        let answer = api
            .client
            .get(format!("{root}{path}"))
            .send()
            .await
            .unwrap();
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(header(name).as_deref(), Some(value), "{path}");
        }
        assert!(
            header("content-security-policy")
                .unwrap()
                .contains("frame-ancestors 'none'"),
            "{path}"
        );
        assert!(
            header("x-request-id").is_some() && header("cache-control").is_some(),
            "{path}"
        );
        // By the public address: a proxy speaks TLS in front of us.
        let year = header("strict-transport-security");
        assert_eq!(year.as_deref(), Some("max-age=31536000"), "{path}");
    }
}

#[tokio::test]
async fn the_description_of_the_api_is_served_without_a_key_and_works_offline() {
    let api = Api::new().await;
    let root = format!("http://{}", api.world.running().address);
    let document: Value = api
        .client
        .get(format!("{root}/openapi.json"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(document, switchboard::http::document());
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(document["components"]["schemas"]["Error"].is_object());
    let page = api
        .client
        .get(format!("{root}/docs"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(!page.contains("http"), "{page}");
    for asset in page.split('"').filter(|part| part.starts_with("docs/")) {
        let answer = api
            .client
            .get(format!("{root}/{asset}"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{asset}");
    }
    assert_eq!(
        api.client
            .get(format!("{root}/docs/nothing"))
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::NOT_FOUND
    );
    let closed = Api::with(Settings {
        server: "docs = false".to_owned(),
        ..Settings::default()
    })
    .await;
    let root = format!("http://{}", closed.world.running().address);
    assert_eq!(
        closed
            .client
            .get(format!("{root}/openapi.json"))
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn pages_of_other_origins_read_answers_only_where_they_are_configured() {
    let settings = |server: &str| Settings {
        server: server.to_owned(),
        ..Settings::default()
    };
    for (server, allowed) in [
        ("", None),
        (
            "cors_origins = [\"https://wall.example\"]",
            Some("https://wall.example"),
        ),
    ] {
        let api = Api::with(settings(server)).await;
        let url = format!("http://{}/api/v1/dialers", api.world.running().address);
        let ask = |verb: Method, origin: &'static str| {
            let request = api.client.request(verb, &url).header("Origin", origin);
            request
                .header("X-API-Key", &api.viewer)
                .header("Access-Control-Request-Method", "GET")
                .send()
        };
        let answer = ask(Method::GET, "https://wall.example").await.unwrap();
        let header = answer
            .headers()
            .get("access-control-allow-origin")
            .map(|value| value.to_str().unwrap());
        assert_eq!(header, allowed);
        let asked = ask(Method::OPTIONS, "https://wall.example").await.unwrap();
        assert_eq!(
            asked.status().as_u16(),
            if allowed.is_some() { 204 } else { 405 }
        );
        let evil = ask(Method::GET, "https://evil.example").await.unwrap();
        assert_eq!(evil.headers().get("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn long_answers_are_compressed_for_who_can_read_them() {
    let api = Api::new().await;
    let url = format!("http://{}/api/v1/settings", api.world.running().address);
    let request = api.client.get(url).header("X-API-Key", &api.viewer);
    let answer = request
        .header("Accept-Encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
}

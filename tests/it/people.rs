//! People who sign in at the provider, and what a wrong answer of it comes to. What a real one does is tried in `.ci/oidc`.
#![expect(
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise, and a key has one story"
)]

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Response, StatusCode, Url};
use serde_json::{Value, json};
use switchboard::http::keys::DrawnKey;
use switchboard_simulator::faults::Fault;
use switchboard_simulator::identity_provider::IdentityProvider;
use tokio::task::JoinSet;

use crate::world::{Settings, World};

struct Office {
    world: World,
    provider: IdentityProvider,
    client: reqwest::Client,
    key: String,
    _serving: JoinSet<()>,
}

/// An attempt at the provider: what the browser holds, and what it was sent there with.
struct Attempt {
    cookie: String,
    state: String,
    nonce: String,
}

impl Office {
    async fn new() -> Self {
        let (provider, serve) = IdentityProvider::bind("127.0.0.1:0").unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(serve);
        let drawn = DrawnKey::draw().unwrap();
        let sections = format!(
            "[[auth.keys]]\nname = \"ops\"\nrole = \"admin\"\nhash = \"{}\"
             [auth.oidc]\nissuer = \"{}\"\nclient_id = \"switchboard\"\nclient_secret = \"made-up\"
             role_claim = \"realm_access.roles\"
             roles = {{ admin = [\"boss\"], operator = [\"floor\"], viewer = [\"sales\"] }}\n",
            drawn.hash.to_hex(),
            provider.url(),
        );
        let world = World::with(Settings {
            sections,
            public_url: "http://127.0.0.1".to_owned(),
            ..Settings::default()
        })
        .await;
        let client = reqwest::Client::builder().no_proxy();
        let client = client.redirect(reqwest::redirect::Policy::none());
        Self {
            world,
            provider,
            client: client.build().unwrap(),
            key: drawn.key,
            _serving: serving,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.world.running().address)
    }

    async fn begin(&self, next: &str) -> Attempt {
        let path = format!("/login/provider?next={next}");
        let answer = self.client.get(self.url(&path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let set = answer.headers()[SET_COOKIE].to_str().unwrap();
        for part in ["; HttpOnly", "; SameSite=Lax", "; Max-Age=600"] {
            assert!(set.contains(part), "{set}");
        }
        let address = Url::parse(answer.headers()[LOCATION].to_str().unwrap()).unwrap();
        let asked = |name: &str| {
            let mut pairs = address.query_pairs();
            pairs
                .find(|(known, _)| known == name)
                .unwrap()
                .1
                .into_owned()
        };
        assert_eq!(asked("redirect_uri"), "http://127.0.0.1/login/callback");
        assert_eq!(
            (asked("code_challenge_method"), asked("response_type")),
            ("S256".into(), "code".into())
        );
        Attempt {
            cookie: set.split(';').next().unwrap().to_owned(),
            state: asked("state"),
            nonce: asked("nonce"),
        }
    }

    async fn come_back(&self, attempt: &Attempt, state: &str, code: &str) -> Response {
        let path = format!("/login/callback?code={code}&state={state}");
        let request = self
            .client
            .get(self.url(&path))
            .header(COOKIE, &attempt.cookie);
        request.send().await.unwrap()
    }

    /// Comes back with what the provider says of a person, in answer to the right nonce unless it says another.
    async fn sign_in(&self, code: &str, mut claims: Value) -> (StatusCode, Vec<String>, String) {
        let attempt = self.begin("/").await;
        if claims.get("nonce").is_none() {
            claims["nonce"] = json!(attempt.nonce);
        }
        self.provider.says(claims);
        let answer = self.come_back(&attempt, &attempt.state, code).await;
        let cookies = answer.headers().get_all(SET_COOKIE).iter();
        let cookies = cookies
            .map(|set| set.to_str().unwrap().to_owned())
            .collect();
        (answer.status(), cookies, answer.text().await.unwrap())
    }

    async fn accesses(&self) -> Vec<Value> {
        let url = self.url("/api/v1/logs?kind=accessed");
        let answer = self
            .client
            .get(url)
            .header("x-api-key", &self.key)
            .send()
            .await;
        let page: Value = answer.unwrap().json().await.unwrap();
        let records = page["data"].as_array().unwrap().iter();
        records.map(|record| record["detail"].clone()).collect()
    }
}

fn ada(role: &str) -> Value {
    json!({ "sub": "248289", "name": "Ada (Lovelace)", "realm_access": { "roles": ["cook", role] } })
}

#[tokio::test]
async fn a_person_gets_the_highest_role_that_the_claim_gives_and_stands_in_the_log() {
    let office = Office::new().await;
    let attempt = office.begin("/dialers%3Fx=1").await;
    let mut claims = ada("floor");
    claims["nonce"] = json!(attempt.nonce);
    office.provider.says(claims);
    let answer = office.come_back(&attempt, &attempt.state, "c1").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let sets: Vec<String> = answer
        .headers()
        .get_all(SET_COOKIE)
        .iter()
        .map(|set| set.to_str().unwrap().to_owned())
        .collect();
    assert!(
        sets[0].contains("SameSite=Strict") && sets[0].contains("Max-Age=43200"),
        "{sets:?}"
    );
    assert!(
        sets[1].starts_with("switchboard_sign_in=;") && sets[1].ends_with("Max-Age=0"),
        "{sets:?}"
    );
    let text = answer.text().await.unwrap();
    assert!(text.contains("content=\"0;url=/dialers?x=1\""), "{text}");
    let session = sets[0].split(';').next().unwrap();
    let page = office.client.get(office.url("/")).header(COOKIE, session);
    let page = page.send().await.unwrap().text().await.unwrap();
    assert!(
        page.contains("data-user=\"Ada Lovelace (oidc 248289)\" data-role=\"operator\""),
        "{page}"
    );
    assert_eq!(
        office.accesses().await[0]["by"],
        "Ada Lovelace (oidc 248289)"
    );
}

#[tokio::test]
async fn whatever_does_not_hold_begins_no_session() {
    let office = Office::new().await;
    let (right, other) = (office.begin("/").await, office.begin("/").await);
    let mut claims = ada("boss");
    claims["nonce"] = json!(right.nonce);
    office.provider.says(claims);
    for state in ["", "made-up", &other.state] {
        let answer = office.come_back(&right, state, "c1").await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{state}");
    }
    let with = |name: &str, value: Value| {
        let mut claims = ada("boss");
        claims[name] = value;
        claims
    };
    for (code, claims) in [
        ("c2", with("nonce", json!("made-up"))),
        ("c3", with("aud", json!("another"))),
        ("c4", with("iss", json!("https://login.example.com"))),
        ("c5", with("exp", json!(1_700_000_000))),
        ("expired", ada("boss")),
    ] {
        let (status, cookies, text) = office.sign_in(code, claims).await;
        assert_eq!(
            (status, cookies.len()),
            (StatusCode::FORBIDDEN, 1),
            "{code}"
        );
        assert!(text.contains("Begin again"), "{text}");
    }
    let (status, cookies, text) = office.sign_in("c6", ada("waiter")).await;
    assert_eq!((status, cookies.len()), (StatusCode::FORBIDDEN, 1));
    assert!(
        text.contains("Ada Lovelace (oidc 248289) has no role here. Ask an administrator"),
        "{text}"
    );
    // What was refused is summed up by the minute; the first is there at once.
    assert_eq!(office.accesses().await[0]["is"], "refused");
}

#[tokio::test]
async fn a_provider_that_is_down_is_told_and_keeps_no_key_out() {
    let office = Office::new().await;
    office.provider.faults().standing(Fault::status(503));
    let answer = office
        .client
        .get(office.url("/login/provider"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert!(answer.text().await.unwrap().contains("does not answer"));
    let sign_in = office
        .client
        .post(office.url("/login"))
        .header("origin", office.url(""));
    let answer = sign_in
        .body(format!("key={}", office.key))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_key_is_made_once_seen_once_and_revoked_with_its_sessions() {
    let mut office = Office::new().await;
    let ask = async |office: &Office, method: &str, path: &str, key: &str, body: Option<Value>| {
        let method = method.parse().unwrap();
        let request = office
            .client
            .request(method, office.url(&format!("/api/v1{path}")));
        let mut request = request.header("x-api-key", key);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let admin = office.key.clone();
    let wanted = json!({ "name": "wall board", "role": "viewer" });
    let (status, made) = ask(&office, "POST", "/keys", &admin, Some(wanted.clone())).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    let key = made["data"]["key"].as_str().unwrap().to_owned();
    assert_eq!(status, 201);
    for (body, expected) in [
        (wanted.clone(), 409),
        (json!({ "name": "ops", "role": "viewer" }), 409),
        (json!({ "name": "Ada (oidc 1)", "role": "viewer" }), 400),
        (json!({ "name": "x", "role": "god" }), 400),
        (json!({ "name": "x", "role": null }), 400),
        (json!({ "name": "x", "role": "viewer", "hash": "y" }), 400),
    ] {
        let (status, text) = ask(&office, "POST", "/keys", &admin, Some(body)).await;
        assert_eq!(status, expected, "{text}");
    }
    assert_eq!(
        ask(&office, "POST", "/keys", &key, Some(wanted)).await.0,
        403
    );
    // It outlives a restart.
    office.world.stop().await;
    office.world.start().await;
    assert_eq!(ask(&office, "GET", "/calls", &key, None).await.0, 200);
    let (_, listed) = ask(&office, "GET", "/keys", &key, None).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let of = |n: usize, name: &str| listed["data"][n][name].clone();
    assert_eq!(
        (of(0, "name"), of(0, "by"), of(0, "id")),
        (json!("ops"), Value::Null, Value::Null)
    );
    assert_eq!(
        (of(1, "name"), of(1, "by"), of(1, "role")),
        (json!("wall board"), json!("ops"), json!("viewer"))
    );
    assert!(of(1, "used_at").is_string() && !listed.to_string().contains(&key));
    let sign_in = office
        .client
        .post(office.url("/login"))
        .header("origin", office.url(""));
    let answer = sign_in.body(format!("key={key}")).send().await.unwrap();
    let session = answer.headers()[SET_COOKIE]
        .to_str()
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let stream = office
        .client
        .get(office.url("/api/v1/events"))
        .header(COOKIE, &session);
    let mut stream = stream.send().await.unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    let id = of(1, "id").as_str().unwrap().to_owned();
    assert_eq!(
        ask(&office, "DELETE", &format!("/keys/{id}"), &key, None)
            .await
            .0,
        403
    );
    assert_eq!(
        ask(&office, "DELETE", &format!("/keys/{id}"), &admin, None)
            .await
            .0,
        204
    );
    assert_eq!(
        ask(&office, "DELETE", &format!("/keys/{id}"), &admin, None)
            .await
            .0,
        404
    );
    while let Ok(Some(_)) = stream.chunk().await {}
    assert_eq!(ask(&office, "GET", "/calls", &key, None).await.0, 401);
    let page = office
        .client
        .get(office.url("/api/v1/calls"))
        .header(COOKIE, session);
    assert_eq!(
        page.send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    let (_, records) = ask(&office, "GET", "/logs?kind=key_changed", &admin, None).await;
    let records: Value = serde_json::from_str(&records).unwrap();
    let said = |n: usize| {
        let detail = &records["data"][n]["detail"];
        (
            detail["change"].clone(),
            detail["name"].clone(),
            detail["by"].clone(),
        )
    };
    assert_eq!(
        said(0),
        (json!("revoked"), json!("wall board"), json!("ops"))
    );
    assert_eq!(said(1), (json!("made"), json!("wall board"), json!("ops")));
}

#[tokio::test]
async fn who_saw_numbers_in_full_is_a_list_by_person_and_period() {
    let office = Office::new().await;
    office.world.call(crate::world::HOT).await;
    let ask = async |path: &str| {
        let request = office.client.get(office.url(&format!("/api/v1{path}")));
        let answer = request
            .header("x-api-key", &office.key)
            .send()
            .await
            .unwrap();
        answer.json::<Value>().await.unwrap()
    };
    assert_eq!(ask("/reveals").await["data"], json!([]));
    ask("/calls?reveal=true").await;
    ask("/calls?reveal=true").await;
    let found = ask("/reveals").await["data"][0].clone();
    let figures = ["by", "times", "numbers", "exports"].map(|name| found[name].clone());
    assert_eq!(figures, [json!("ops"), json!(2), json!(2), json!(0)]);
    assert_eq!(
        ask("/reveals?to=2020-01-01T00:00:00Z").await["data"],
        json!([])
    );
}

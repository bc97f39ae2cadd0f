//! The versions of the rules: which were in force, drafts beside them, publishing and going back.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchboard::http::keys::DrawnKey;

use crate::world::{Settings, World};

/// The appliance, and a key of each role.
struct Office {
    world: World,
    client: reqwest::Client,
    admin: String,
    operator: String,
    viewer: String,
}

/// What an office adds to the configuration, its keys beside it.
fn settings_of(office: Settings) -> (Settings, [String; 3]) {
    let roles = ["admin", "operator", "viewer"];
    let keys = [(); 3].map(|()| DrawnKey::draw().unwrap());
    let lines: Vec<String> = roles
        .iter()
        .zip(&keys)
        .map(|(role, key)| {
            let hash = key.hash.to_hex();
            format!("[[auth.keys]]\nname = \"{role}\"\nrole = \"{role}\"\nhash = \"{hash}\"\n")
        })
        .collect();
    let sections = format!("{}\n{}", office.sections, lines.concat());
    let settings = Settings { sections, ..office };
    (settings, keys.map(|key| key.key))
}

impl Office {
    async fn with(settings: Settings) -> Self {
        let (settings, [admin, operator, viewer]) = settings_of(settings);
        Self {
            world: World::with(settings).await,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            admin,
            operator,
            viewer,
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: String,
    ) -> (StatusCode, Value) {
        let url = format!("http://{}/api/v1{path}", self.world.running().address);
        let request = self.client.request(method, url).header("X-API-Key", key);
        let response = request.body(body).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self
            .ask(Method::GET, path, &self.viewer, String::new())
            .await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }
}

/// The rules of the test configuration, and one more before them.
const NIGHT: &str = r#"
[[routing.rules]]
name = "night"
when = { called = ["+4940*"] }
number = "+493055555"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn each_time_of_a_rule_set_stands_in_the_history_once_and_says_who_brought_it() {
    let mut office = Office::with(Settings::default()).await;
    let first = office.world.settings();
    let mut second = first.clone();
    second.routing = format!("{}\n{NIGHT}", second.routing);
    office.world.reload(second.clone()).await;
    // What changes no rule brings no version.
    second.braze = "timeout = \"1200ms\"".to_owned();
    office.world.reload(second.clone()).await;
    // A restart goes on with the same one, and says so once more in the log.
    office.world.stop().await;
    office.world.start().await;
    office.world.reload(first).await;

    let history = office.get("/routing/rulesets").await;
    let rows = history["data"].as_array().unwrap();
    assert_eq!(history["total"], 3);
    let by: Vec<_> = rows.iter().map(|row| row["by"].as_str().unwrap()).collect();
    assert_eq!(by, ["a test", "a test", "start"]);
    let rules: Vec<_> = rows
        .iter()
        .map(|row| row["rules"].as_u64().unwrap())
        .collect();
    assert_eq!(rules, [1, 2, 1]);
    assert_eq!(rows[0]["version"], rows[2]["version"], "it came back");
    assert_eq!(rows[0]["last_at"], Value::Null);
    assert_eq!(rows[1]["last_at"], rows[0]["first_at"]);
    assert_eq!(rows[2]["last_at"], rows[1]["first_at"]);

    let page = office.get("/routing/rulesets?page_size=1").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let path = format!("/routing/rulesets?page_size=2&cursor={cursor}");
    let rest = office.get(&path).await;
    assert_eq!(rest["data"].as_array().unwrap(), &rows[1..]);
    assert_eq!(rest["next_cursor"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_set_of_before_is_had_whole_and_compared() {
    let mut office = Office::with(Settings::default()).await;
    let before = office.get("/routing/rules").await["data"]["version"].clone();
    let mut settings = office.world.settings();
    settings.routing = format!("{}\n{NIGHT}", settings.routing);
    office.world.reload(settings).await;
    let now = office.get("/routing/rules").await["data"]["version"].clone();
    let [before, now] = [before, now].map(|version| version.as_str().unwrap().to_owned());

    let whole = office.get(&format!("/routing/rulesets/{before}")).await["data"].clone();
    assert_eq!(whole["version"], before);
    assert_eq!(whole["rules"][0]["name"], "sales floor");
    assert_eq!(whole["default_dialer"], "zendesk");

    let diff = office
        .get(&format!("/routing/rulesets/{before}/diff/{now}"))
        .await;
    let changes = &diff["data"]["changes"];
    let expected = json!({
        "of": "rule", "name": "night", "change": "added", "from": null, "text": "Rule \"night\" is new.",
        "to": { "when": { "called": ["+4940*"] }, "number": "+493055555" },
    });
    assert_eq!(*changes, json!([expected]));

    for (arguments, expected) in [
        (vec!["rules", "history"], now.clone()),
        (vec!["rules", "show", &before], "\"sales floor\"".to_owned()),
        (
            vec!["rules", "diff", &before, &now],
            "Rule \"night\" is new.".to_owned(),
        ),
    ] {
        let ran = office.world.command(&arguments).await;
        let text = String::from_utf8(ran.stdout).unwrap();
        assert!(
            ran.status.success() && text.contains(&expected),
            "{arguments:?}: {text}"
        );
    }
    let ran = office
        .world
        .command(&["rules", "show", "000000000000"])
        .await;
    assert_eq!(ran.status.code(), Some(1));
    let ran = office.world.command(&["rules", "show", "current"]).await;
    assert_eq!(ran.status.code(), Some(2));
    let ran = office
        .world
        .command(&["rules", "diff", &before, &now, "--json"])
        .await;
    let document: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(document["changes"], *changes);
}

//! The versions of the rules: which were in force, drafts beside them, publishing and going back.
#![expect(clippy::indexing_slicing, reason = "helpers of tests")]

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchboard::audit::Kind;
use switchboard::clock::Clock;
use switchboard::http::keys::DrawnKey;

use crate::world::{COLD, DIALFIRE_LINE, HOT, STRANGER, Settings, World, ZENDESK_LINE, dialled};

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

/// A server that may write `[routing]`, and reads its configuration for whoever asks.
async fn editable(settings: Settings) -> Office {
    let office = Office::with(Settings {
        routing_file: true,
        server: "edit_rules = true".to_owned(),
        twilio: "may_dial = \"+49\"".to_owned(),
        ..settings
    })
    .await;
    office.world.serve_reloads();
    office
}

impl Office {
    /// The text of `[routing]` as it lies on the disk.
    fn rules(&self) -> String {
        std::fs::read_to_string(self.world.file("routing.toml")).unwrap()
    }

    async fn version(&self) -> String {
        let rules = self.get("/routing/rules").await;
        rules["data"]["version"].as_str().unwrap().to_owned()
    }

    async fn publish(&self, body: Value) -> (StatusCode, Value) {
        let path = "/routing/publish";
        self.ask(Method::POST, path, &self.admin, body.to_string())
            .await
    }

    async fn save_draft(&self, text: &str) -> (StatusCode, Value) {
        let path = "/routing/draft";
        self.ask(Method::PUT, path, &self.operator, text.to_owned())
            .await
    }

    /// What came of the draft, once it has decided so many calls.
    async fn differences(&self, calls: u64) -> Value {
        loop {
            let found = self.get("/routing/draft/differences").await;
            if found["calls"].as_u64().unwrap() >= calls {
                return found;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_that_is_the_same_sends_no_call_elsewhere_and_another_one_says_which() {
    let office = editable(Settings::default()).await;
    let (status, saved) = office.save_draft(&office.rules()).await;
    assert_eq!(status, StatusCode::OK, "{saved}");
    assert_eq!(saved["data"]["version"], office.version().await);
    for n in 0..100 {
        let caller = [HOT, COLD, STRANGER][n % 3];
        office.world.call(caller).await;
    }
    let same = office.differences(100).await;
    assert_eq!(
        (&same["calls"], &same["different"]),
        (&json!(100), &json!(0))
    );
    assert_eq!(same["data"], json!([]));

    let other = office.rules().replace(
        "dialers = [\"dialfire\", \"zendesk\"]",
        "dialers = [\"zendesk\", \"dialfire\"]",
    );
    office.save_draft(&other).await;
    let hot = office.world.call(HOT).await;
    office.world.call(COLD).await;
    let found = office.differences(2).await;
    assert_eq!(
        (&found["calls"], &found["different"]),
        (&json!(2), &json!(1))
    );
    let text = found["text"].as_str().unwrap();
    assert!(text.starts_with("1 of 2 calls since 20"), "{text}");
    let one = &found["data"][0];
    assert_eq!(one["call_id"], hot.call_sid);
    assert_eq!(one["live"]["plan"], json!(["dialfire", "zendesk"]));
    assert_eq!(one["draft"]["plan"], json!(["zendesk", "dialfire"]));
    assert_eq!(
        one["draft"]["trace"][2]["text"],
        "Rule \"sales floor\" matches."
    );
    assert_eq!(
        one["live"]["trace"][2]["text"],
        "Rule \"sales floor\" matches."
    );
    assert_eq!(dialled(&hot), [DIALFIRE_LINE], "the rules in force decide");
    let differs = office.world.details(&hot, Kind::DraftDiffers).await;
    assert_eq!(differs[0]["version"], found["version"]);
    assert_eq!(differs[0]["rule"], "sales floor");

    let path = "/routing/draft";
    let asked = office.ask(Method::GET, path, &office.operator, String::new());
    let (status, read) = asked.await;
    assert_eq!(status, StatusCode::OK);
    assert!(read["data"]["text"].as_str().unwrap().contains("[routing]"));
    assert_eq!(read["data"]["draft"], found["version"]);
    assert_ne!(read["data"]["changes"], serde_json::json!([]));

    let (status, _) = office
        .ask(
            Method::DELETE,
            "/routing/draft",
            &office.operator,
            String::new(),
        )
        .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = office
        .ask(
            Method::GET,
            "/routing/draft/differences",
            &office.viewer,
            String::new(),
        )
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_has_its_own_hours_and_limits_and_a_look_up_that_only_it_needs() {
    let mut settings = Settings::default();
    // The rules in force decide without asking Braze.
    settings.routing = format!(
        "{}\n[[routing.rules]]\nname = \"all\"\nwhen = {{ called = [\"+*\", \"+4*\"] }}\ndialers = [\"zendesk\"]\n",
        settings.routing
    )
    .replace("\"+*\", ", "");
    let office = editable(settings).await;
    let (before, rest) = office
        .rules()
        .split_once("[[routing.rules]]")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let draft = format!(
        "{before}[routing.limits.dialfire]\nmax_active = 0\n[routing.hours.never]\nclosed = [\"2020-01-01\"]\n\
         [[routing.rules]]\nname = \"night\"\nwhen = {{ hours = \"never\" }}\nreject = \"busy\"\n\
         [[routing.rules]]\nname = \"hot\"\nwhen = {{ tier = \"hot\" }}\ndialers = [\"dialfire\", \"zendesk\"]\n[[routing.rules]]{rest}"
    );
    let asked = |office: &Office| office.world.outside.braze.requests().all().len();
    office.world.call(HOT).await;
    assert_eq!(asked(&office), 0);
    let (status, saved) = office.save_draft(&draft).await;
    assert_eq!(status, StatusCode::OK, "{saved}");
    let hot = office.world.call(HOT).await;
    assert_eq!(dialled(&hot), [ZENDESK_LINE]);
    assert_eq!(asked(&office), 1, "the draft wants to know the tier");
    let found = office.differences(1).await;
    // Full at 0 calls: the dialer is skipped, and the call goes where it went.
    assert_eq!(found["different"], 0, "{found}");
    let draft = draft.replace("max_active = 0", "max_active = 1");
    office.save_draft(&draft).await;
    office.world.call(HOT).await;
    let found = office.differences(1).await;
    assert_eq!(found["different"], 1);
    assert_eq!(found["data"][0]["draft"]["rule"], "hot");
    assert_eq!(found["data"][0]["live"]["rule"], "all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_with_a_mistake_is_refused_and_one_that_is_saved_outlives_a_restart() {
    let mut office = editable(Settings::default()).await;
    let wrong = office
        .rules()
        .replace("tier = [\"hot\", \"warm\"]", "tier = \"hto\"");
    let (status, answer) = office.save_draft(&wrong).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let problem = &answer["error"]["details"]["problems"][0];
    assert_eq!(problem["key"], "routing.rules[0].tier");
    assert_eq!(
        (&problem["file"], &problem["hint"]),
        (&json!("draft"), &json!("did you mean hot?"))
    );
    let (status, _) = office
        .ask(
            Method::PUT,
            "/routing/draft",
            &office.viewer,
            office.rules(),
        )
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);

    // Its text may name callers in comments: it is sealed.
    let draft = format!(
        "# not for +491701234567\n{}",
        office.rules().replace("\"hot\", ", "")
    );
    let (_, saved) = office.save_draft(&draft).await;
    office.world.stop().await;
    let database = std::fs::read(office.world.database()).unwrap();
    let holds = |text: &str| {
        database
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(holds("draft_changed") && !holds("+491701234567"));
    office.world.start().await;
    office.world.serve_reloads();
    let version = loop {
        let path = "/routing/draft/differences";
        let (status, found) = office
            .ask(Method::GET, path, &office.viewer, String::new())
            .await;
        if status == StatusCode::OK {
            break found["version"].clone();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(version, saved["data"]["version"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_published_with_their_comments_and_taken_back() {
    let office = editable(Settings::default()).await;
    let (first, before) = (office.version().await, office.rules());
    let text = format!("# by the sales team\n{before}\n{NIGHT}");
    let (status, answer) = office
        .publish(json!({ "text": text, "based_on": first }))
        .await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let second = office.version().await;
    assert_eq!(answer["data"]["ruleset"], second);
    assert_ne!(first, second);
    assert_eq!(office.rules(), text);
    let former = std::fs::read_to_string(office.world.file("routing.toml.former")).unwrap();
    assert_eq!(former, before);
    let history = office.get("/routing/rulesets").await;
    assert_eq!(history["data"][0]["by"], "key admin");
    let changes = office.get("/settings/changes").await;
    assert_eq!(changes["data"][0]["detail"]["by"], "key admin");

    // Whoever started from rules that are gone is told so.
    let (status, answer) = office
        .publish(json!({ "text": before, "based_on": first }))
        .await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    let wrong = text.replace("+493055555", "+882131234567");
    let (status, answer) = office
        .publish(json!({ "text": wrong, "based_on": second }))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let problem = &answer["error"]["details"]["problems"][0];
    assert_eq!(
        (&problem["key"], &problem["file"]),
        (&json!("routing.rules[1].number"), &json!("routing.toml"))
    );
    assert_eq!(office.rules(), text, "nothing is written");

    // So it is where a test of the file's own fails.
    let test = "[[routing.tests]]\nname = \"hot\"\ngiven = { score = 90 }\nexpect = { first = \"zendesk\" }\n";
    let failing = format!("{text}\n{test}");
    let (status, answer) = office
        .publish(json!({ "text": failing, "based_on": second }))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let problem = &answer["error"]["details"]["problems"][0];
    let key = problem["key"].as_str().unwrap();
    assert!(key.starts_with("routing.tests[0]"), "{answer}");
    assert_eq!(office.rules(), text, "nothing is written");

    // The text of before lies beside the file.
    let (status, answer) = office
        .publish(json!({ "version": first, "based_on": second }))
        .await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!((office.rules(), office.version().await), (before, first));

    // An edit by hand is in the way until it is read.
    let edited = format!("{}\n# by hand\n", office.rules());
    std::fs::write(office.world.file("routing.toml"), &edited).unwrap();
    let now = office.version().await;
    let (status, answer) = office
        .publish(json!({ "text": text, "based_on": now }))
        .await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    assert_eq!(office.rules(), edited);
    let ran = office.world.command(&["reload"]).await;
    assert!(ran.status.success(), "{ran:?}");
    std::fs::write(office.world.file("next.toml"), &text).unwrap();
    let ran = office
        .world
        .command(&["rules", "publish", "next.toml", "--based-on", &now])
        .await;
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(office.version().await, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_text_is_not_kept_is_written_into_the_present_one() {
    let office = editable(Settings::default()).await;
    let rich = r#"
[[routing.rules]]   # from the handbook
name = "campaign"
when = { called = ["+4940*"], score = { from = 20, below = 40.5 }, called_before_within = "30d", attribute = { plan = ["gold"] } }
dialers = [{ dialfire = 70, zendesk = 30 }]
prefer = { last_answered_within = "2d" }
goodbye_message = "Bis bald."

[routing.hours.office]
open = "mon-fri 08:00-18:00"

[routing.limits.zendesk]
hours = "office"
max_per_day = 7
"#;
    let start = office.rules();
    let start = start.replace("[routing]\n", "[routing]\nattributes = [\"plan\"]\n");
    let mut versions = vec![office.version().await];
    let texts = [
        format!("{start}\n{rich}"),
        format!("# kept\n{start}\n{NIGHT}"),
        format!("# kept\n{start}\n{}", NIGHT.replace("night", "late")),
    ];
    for text in &texts {
        let body = json!({ "text": text, "based_on": versions.last() });
        let (status, answer) = office.publish(body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        versions.push(office.version().await);
    }
    let ran = office
        .world
        .command(&["rules", "rollback", &versions[1]])
        .await;
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(office.version().await, versions[1]);
    let written = office.rules();
    assert!(written.starts_with("# kept\n"), "{written}");
    let sales_floor = written.split("name = \"sales floor\"").count();
    assert_eq!(sales_floor, 2, "{written}");
    // The way back over everything that was rich.
    let ran = office
        .world
        .command(&["rules", "rollback", &versions[0]])
        .await;
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(office.version().await, versions[0]);
    let ran = office
        .world
        .command(&["rules", "rollback", "000000000000"])
        .await;
    assert_eq!(ran.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_or_the_permission_nothing_is_published_and_the_answer_says_what_to_do() {
    for (routing_file, edit_rules, expected, says) in [
        (true, "", StatusCode::FORBIDDEN, "edit_rules = true"),
        (
            false,
            "edit_rules = true",
            StatusCode::CONFLICT,
            "file = \"/var/lib/switchboard/routing.toml\"",
        ),
    ] {
        let office = Office::with(Settings {
            routing_file,
            server: edit_rules.to_owned(),
            ..Settings::default()
        })
        .await;
        office.world.serve_reloads();
        let now = office.version().await;
        let (status, answer) = office.publish(json!({ "text": "", "based_on": now })).await;
        assert_eq!(status, expected);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(
            message.contains(says) && message.contains("switchboard reload"),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_publishes_only_right_after_its_sign_in() {
    let clock = Clock::manual(jiff::Timestamp::from_second(1_790_000_000).unwrap());
    let office = editable(Settings {
        clock: clock.clone(),
        ..Settings::default()
    })
    .await;
    let base = format!("http://{}/api/v1", office.world.running().address);
    let body = json!({ "key": office.admin }).to_string();
    let begun = office
        .client
        .post(format!("{base}/session"))
        .body(body)
        .send()
        .await
        .unwrap();
    let cookie = begun.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let body = json!({ "text": office.rules(), "based_on": office.version().await }).to_string();
    let ask = || {
        let request = office.client.post(format!("{base}/routing/publish"));
        let request = request
            .header("cookie", &cookie)
            .header("sec-fetch-site", "same-origin");
        request.body(body.clone()).send()
    };
    assert_eq!(ask().await.unwrap().status(), StatusCode::OK);
    clock.advance(std::time::Duration::from_secs(301));
    let answer = ask().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert!(answer.text().await.unwrap().contains("log in again"));
}

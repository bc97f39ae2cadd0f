//! Three configurations, drilled over real sockets.

use std::collections::BTreeMap;

use switchboard_simulator::scorecard::Score;

use super::*;
use crate::config;

const GOOD: &str = r#"
[server]
listen = "127.0.0.1:8080"
public_url = "https://calls.example.com"
[storage]
path = "switchboard.db"
[twilio]
account_sid = "AC00000000000000000000000000000002"
auth_token = "another-token"
[braze]
base_url = "https://rest.example.com"
api_key = "another-key"
[routing]
default_dialer = "zendesk"
last_resort_number = "+4930999999"
[[routing.tiers]]
name = "hot"
min_score = 80
[[routing.tiers]]
name = "cold"
min_score = 0
[[routing.rules]]
name = "hot leads"
tier = ["hot"]
dialers = ["dialfire", "zendesk"]
[dialers.dialfire]
kind = "dialfire"
connect = "+4930111111"
campaign = "AB12CD34EF56GH78"
task = "inbound_hot"
token = "another-token"
[dialers.zendesk]
kind = "zendesk_talk"
connect = "sip:k3v9tq@acme.sip.twilio.com"
subdomain = "acme"
email = "router@acme.example"
token = "another-token"
[alerts.email]
to = ["ops@example.com"]
from = "switchboard@example.com"
smtp = "smtps://mail.example.com"
"#;

/// What each fault came to.
async fn drilled(text: &str) -> BTreeMap<String, Score> {
    let context = config::Context::in_directory("/nowhere");
    let config = config::parse(text, &context).unwrap().config;
    let only = ["dialfire_down", "all_dialers_down"].map(str::to_owned);
    let at = "2026-11-30T09:00:00Z".parse().unwrap();
    let report = drill(&config, &only, at, 20).await.unwrap().unwrap();
    let drills = report.drills.into_iter();
    drills.map(|score| (score.fault.clone(), score)).collect()
}

fn heard(score: &Score) -> Vec<(&str, usize)> {
    let heard = score.heard.iter();
    heard.map(|(what, n)| (what.as_str(), *n)).collect()
}

fn kinds(score: &Score) -> Vec<&str> {
    score.incidents.iter().map(|one| one.kind).collect()
}

/// A stranger and one of each tier, and one of each rule that some call reaches, twice.
#[tokio::test(flavor = "multi_thread")]
async fn three_configurations_differ_where_they_should() {
    let no_last_resort = GOOD.replace("last_resort_number = \"+4930999999\"\n", "");
    let one_dialer = GOOD.replace("[\"dialfire\", \"zendesk\"]", "[\"dialfire\"]");
    let (good, no_last_resort, one_dialer) = tokio::join!(
        drilled(GOOD),
        drilled(&no_last_resort),
        drilled(&one_dialer)
    );
    for drills in [&good, &no_last_resort, &one_dialer] {
        let nothing = &drills["nothing"];
        assert!(nothing.ok, "{nothing:?}");
        assert_eq!(heard(nothing), [("dialfire", 4), ("zendesk", 6)]);
        assert!(kinds(&drills["all_dialers_down"]).contains(&"all_dialers_down"));
    }

    let (down, all) = (&good["dialfire_down"], &good["all_dialers_down"]);
    assert!(down.ok && all.ok, "{down:?} {all:?}");
    assert_eq!(heard(down), [("zendesk", 10)]);
    assert_eq!(kinds(down), ["dialer_down"]);
    assert_eq!(heard(all), [("hold, then the last resort", 10)]);

    let all = &no_last_resort["all_dialers_down"];
    assert_eq!(heard(all), [("hold, then goodbye", 10)]);
    assert_eq!(
        all.broken,
        ["callers heard hold, then goodbye and reached nobody"]
    );
    assert!(no_last_resort["dialfire_down"].ok);

    let down = &one_dialer["dialfire_down"];
    assert!(down.ok, "{down:?}");
    assert_eq!(
        heard(down),
        [("hold, then the last resort", 4), ("zendesk", 6)]
    );
    assert!(kinds(down).contains(&"callers_waiting"), "{down:?}");
}

#[tokio::test]
async fn where_nobody_is_told_a_promise_is_broken() {
    let (silent, _) = GOOD.split_once("[alerts.email]").unwrap();
    let all = &drilled(silent).await["all_dialers_down"];
    assert_eq!(all.broken[0], "nobody was told of it", "{all:?}");
}

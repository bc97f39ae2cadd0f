//! What came of calls, by what they have in common: every figure is the number of its rows; and what old scores cost.
#![expect(
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use switchboard::audit::Kind;
use switchboard::clock::Clock;
use switchboard_simulator::faults::Fault;
use switchboard_simulator::twilio::{Call, LineBehaviour};

use crate::api::Api;
use crate::world::{CALLED, COLD, HOT, STRANGER, Settings};

async fn figures(api: &Api, query: &str) -> Value {
    let answer = api.get(&format!("/quality?{query}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()["data"].clone()
}

/// The calls that a filter gives.
async fn calls(api: &Api, query: &str) -> Vec<Value> {
    let answer = api.get(&format!("/calls?{query}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let document = answer.json();
    assert_eq!(document["total_is_exact"], true);
    document["data"].as_array().unwrap().clone()
}

fn ms(call: &Value, name: &str) -> i64 {
    let at: jiff::Timestamp = call[name].as_str().unwrap().parse().unwrap();
    at.as_millisecond()
}

/// Mean of what lies between two times of calls, in seconds.
fn mean(calls: &[&Value], from: &str, to: &str) -> Value {
    let sum: i64 = calls.iter().map(|call| ms(call, to) - ms(call, from)).sum();
    let n = i64::try_from(calls.len()).unwrap();
    if n == 0 {
        return Value::Null;
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful of calls")]
    let mean = sum as f64 / n as f64;
    json!(mean.round() / 1_000.0)
}

#[tokio::test]
async fn every_figure_is_that_of_the_calls_it_leads_to() {
    let api = Api::new().await;
    let twilio = &api.world.outside.twilio;
    let leaves = LineBehaviour::CallerHangsUpRinging {
        after: Duration::from_secs(2),
    };
    for caller in [HOT, HOT, COLD, STRANGER] {
        api.world.call(caller).await;
    }
    twilio.call(Call::new(COLD, CALLED).lines([leaves])).await;
    twilio.set_line("", LineBehaviour::Busy);
    api.world.call(HOT).await;
    api.route(COLD, "elsewhere").await;

    for (by, filter) in [
        ("rule", "rule"),
        ("tier", "tier"),
        ("number", "called_id"),
        ("dialer", "dialer"),
        ("day", ""),
    ] {
        let found = figures(&api, &format!("by={by}")).await;
        let rows = found["rows"].as_array().unwrap();
        let sum: i64 = rows.iter().map(|row| row["calls"].as_i64().unwrap()).sum();
        assert_eq!(sum, 7, "{by}: {found}");
        for row in rows {
            let value = row["called_id"].as_str().or(row["name"].as_str());
            let query = match (by, value) {
                ("dialer" | "number", None) => continue,
                ("day", _) => format!(
                    "from={}&to={}",
                    row["from"].as_str().unwrap(),
                    row["to"].as_str().unwrap()
                ),
                (_, value) => format!("{filter}={}", value.unwrap_or("none")),
            };
            let rows_of = calls(&api, &query).await;
            let with = |name: &str, value: &str| -> Vec<&Value> {
                rows_of.iter().filter(|call| call[name] == value).collect()
            };
            let (answered, abandoned) = (
                with("disposition", "answered"),
                with("disposition", "abandoned"),
            );
            assert_eq!(row["calls"], rows_of.len(), "{query}: {row}");
            let ended = with("status", "ended");
            assert_eq!(row["ended"], ended.len(), "{query}: {row}");
            assert_eq!(row["answered"], answered.len(), "{query}: {row}");
            assert_eq!(row["abandoned"], abandoned.len(), "{query}: {row}");
            assert_eq!(
                row["mean_talk_s"],
                mean(&answered, "answered_at", "ended_at"),
                "{query}: {row}"
            );
            assert_eq!(
                row["mean_answer_s"],
                mean(&answered, "started_at", "answered_at"),
                "{query}: {row}"
            );
            assert_eq!(
                row["mean_abandon_s"],
                mean(&abandoned, "started_at", "ended_at"),
                "{query}: {row}"
            );
            assert_eq!(row["is_sparse"], true, "{row}");
        }
    }
    let answer = api.get("/quality?by=tier&format=csv").await;
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("text/csv; charset=utf-8"));
    let lines: Vec<&str> = answer.text.lines().collect();
    assert!(
        lines[0].starts_with("name,called_id,from,to,calls,ended,answered,answer_seizure_ratio"),
        "{}",
        lines[0]
    );
    assert!(
        lines.iter().any(|line| line.starts_with("hot,,,,3,")),
        "{}",
        answer.text
    );

    // The rules' cards have figures of a day, and these are rows as well.
    let metrics = api.get("/calls/metrics?window=24h").await.json()["data"].clone();
    for rule in metrics["rules"].as_array().unwrap() {
        let name = rule["rule"].as_str().unwrap();
        let from = metrics["from"].as_str().unwrap();
        let rows = calls(&api, &format!("rule={name}&from={from}")).await;
        assert_eq!(rule["calls"], rows.len(), "{rule}");
    }
    assert_eq!(metrics["rules"].as_array().unwrap().len(), 2, "{metrics}");
    for wrong in ["by=week", "from=yesterday", "format=xml", "by="] {
        let answer = api.get(&format!("/quality?{wrong}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_score_is_decided_once_more_when_the_score_comes() {
    let clock = Clock::manual("2026-11-26T12:00:00Z".parse().unwrap());
    let api = Api::with(Settings {
        clock: clock.clone(),
        ..Settings::default()
    })
    .await;
    let faults = api.world.outside.braze.faults();
    faults.standing(Fault::status(500));
    let hot = api.world.call(HOT).await;
    let cold = api.world.call(COLD).await;
    faults.clear();
    let before = figures(&api, "by=rule").await["staleness"][0].clone();
    assert_eq!(
        (&before["calls"], &before["fresh"]),
        (&json!(2), &json!(0)),
        "{before}"
    );
    // Braze is asked nothing for it: the next calls of the same people bring the scores.
    clock.advance(Duration::from_secs(20));
    for caller in [HOT, COLD] {
        api.world.call(caller).await;
    }
    clock.advance(Duration::from_mins(1));
    let found = loop {
        let found = figures(&api, "by=rule").await["staleness"].clone();
        if found[0]["fresh"] == 2 {
            break found;
        }
    };
    let all = json!([{ "cause": "server_error", "calls": 2, "fresh": 2, "elsewhere": 1 }]);
    assert_eq!(found, all);
    let of_hot = api.world.details(&hot, Kind::ScoreRefreshed).await;
    assert_eq!(of_hot.len(), 1);
    assert_eq!(of_hot[0]["elsewhere"], true);
    assert_eq!(of_hot[0]["rule"], "sales floor");
    assert_eq!(of_hot[0]["plan"], json!(["dialfire", "zendesk"]));
    assert_eq!(of_hot[0]["lookup"]["profile"]["score"], 90.0);
    let of_cold = api.world.details(&cold, Kind::ScoreRefreshed).await;
    assert_eq!(of_cold[0]["elsewhere"], false);
}

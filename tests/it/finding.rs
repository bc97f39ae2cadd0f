//! Finding calls: every filter by what it fits, figures by their rows, digits by who asks, and what an auditor takes away.
#![expect(
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use switchboard::clock::Clock;
use switchboard_simulator::twilio::{Call, LineBehaviour};

use crate::api::{Answer, Api};
use crate::world::{CALLED, COLD, HOT, STRANGER, Settings};

fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let document = answer.json();
    let rows = document["data"].as_array().unwrap().iter();
    rows.map(|row| row["call_id"].as_str().unwrap().to_owned())
        .collect()
}

/// Calls of every kind, by name: two that were answered, one that hung up, one that nobody took, and one that came through the API.
async fn of_every_kind() -> (Api, Vec<(&'static str, String)>) {
    let api = Api::with(Settings {
        sections: "[routing.lists.vip]\nnumbers = []\n".to_owned(),
        ..Settings::default()
    })
    .await;
    let mut calls = Vec::new();
    let leaves = LineBehaviour::CallerHangsUpRinging {
        after: Duration::from_secs(2),
    };
    let twilio = &api.world.outside.twilio;
    let gone = twilio.call(Call::new(COLD, CALLED).lines([leaves])).await;
    calls.push(("gone", gone.call_sid));
    calls.push(("hot", api.world.call(HOT).await.call_sid));
    calls.push(("stranger", api.world.call(STRANGER).await.call_sid));
    api.route(COLD, "elsewhere").await;
    calls.push(("open", "api-elsewhere".to_owned()));
    twilio.set_line("", LineBehaviour::Busy);
    calls.push(("busy", api.world.call(HOT).await.call_sid));
    (api, calls)
}

#[tokio::test]
async fn every_filter_finds_the_calls_that_it_fits_and_no_others() {
    let (api, calls) = of_every_kind().await;
    let number = |text: &str| text.replace('+', "%2B");
    let cases = [
        ("outcome=answered".to_owned(), "hot stranger"),
        ("outcome=failed".to_owned(), "busy"),
        ("outcome=abandoned".to_owned(), "gone"),
        ("outcome=unreached".to_owned(), "busy gone"),
        ("failure=all_legs_failed".to_owned(), "busy"),
        ("failure=over_budget".to_owned(), ""),
        ("rule=sales%20floor".to_owned(), "busy hot"),
        ("rule=(default)".to_owned(), "gone open stranger"),
        ("tier=none".to_owned(), "stranger"),
        ("failed_over=true".to_owned(), "busy"),
        ("failed_over=false&tier=hot".to_owned(), "hot"),
        ("held=true".to_owned(), ""),
        ("held=false&outcome=answered".to_owned(), "hot stranger"),
        ("slower_than=600000".to_owned(), ""),
        ("caller=90".to_owned(), "busy hot"),
        ("caller=10".to_owned(), "gone open"),
        (format!("caller={}", number(HOT)), "busy hot"),
        (format!("caller={}&q=api-", number(COLD)), "open"),
        (
            format!("called={}", number(CALLED)),
            "busy gone hot open stranger",
        ),
        (format!("called={}&caller=01", &CALLED[3..]), "stranger"),
        ("called=99999".to_owned(), ""),
    ];
    for (query, expected) in cases {
        let path = format!("/calls?{query}");
        let answer = api.ask(Method::GET, &path, Some(&api.operator), None).await;
        let found: BTreeSet<String> = ids(&answer).into_iter().collect();
        let names = calls.iter().filter(|(_, id)| found.contains(id));
        let names: BTreeSet<&str> = names.map(|(name, _)| *name).collect();
        let expected: BTreeSet<&str> = expected.split_whitespace().collect();
        assert_eq!(names, expected, "{query}: {}", answer.text);
        assert_eq!(found.len(), expected.len(), "{query}");
        assert_eq!(answer.json()["total"], expected.len(), "{query}");
    }
    for wrong in [
        "outcome=great",
        "failure=",
        "rule=",
        "held=yes",
        "slower_than=-1",
        "slower_than=0.5",
        "slower_than=600001",
        "caller=9",
        "caller=0.5",
        "caller=%2B0491700",
        "caller=1234567890123456",
        "called=x",
        "caller_id=0",
        "caller_id=017",
    ] {
        let answer = api.get(&format!("/calls?{wrong}")).await;
        assert_eq!(
            answer.status,
            StatusCode::BAD_REQUEST,
            "{wrong}: {}",
            answer.text
        );
    }
    // One page after the other holds the same rows as all at once.
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api
            .get(&format!("/calls?called=00&page_size=1{cursor}"))
            .await;
        paged.extend(ids(&page));
        let Value::String(next) = page.json()["next_cursor"].clone() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    let all = ids(&api.get("/calls?called=00").await);
    assert_eq!(paged, all);
    assert_eq!(all.len(), 5);

    let shown = api
        .world
        .command(&["calls", "outcome=failed", "--json"])
        .await;
    let said = String::from_utf8_lossy(&shown.stderr);
    assert!(shown.status.success(), "{said}");
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown[0]["call_id"], calls[4].1, "{shown}");
    assert_eq!(shown.as_array().unwrap().len(), 1);
    assert_eq!(shown[0]["caller"], "+**********90");
    let refused = api.world.command(&["calls", "caller=0090"]).await;
    assert_eq!(refused.status.code(), Some(2));
}

#[tokio::test]
async fn every_figure_is_the_number_of_the_rows_behind_it() {
    let (api, _) = of_every_kind().await;
    let figures = api.get("/calls/metrics?window=1h").await.json()["data"].clone();
    let from = figures["from"].as_str().unwrap();
    let mut behind = vec![
        (figures["calls"]["total"].clone(), String::new()),
        (
            figures["calls"]["failed"].clone(),
            "outcome=failed".to_owned(),
        ),
        (
            figures["calls"]["answered"].clone(),
            "outcome=answered".to_owned(),
        ),
        (
            figures["calls"]["abandoned"].clone(),
            "outcome=abandoned".to_owned(),
        ),
        (figures["calls"]["held"].clone(), "held=true".to_owned()),
        (
            figures["calls"]["failed_over"].clone(),
            "failed_over=true".to_owned(),
        ),
    ];
    for (list, name, filter) in [
        ("by_dialer", "dialer", "dialer"),
        ("by_tier", "tier", "tier"),
        ("by_reason", "reason", "failure"),
        ("by_outcome", "disposition", "disposition"),
    ] {
        let rows = figures[list].as_array().unwrap();
        assert!(!rows.is_empty(), "{list}");
        for row in rows {
            let value = row[name].as_str().unwrap_or("none");
            behind.push((row["calls"].clone(), format!("{filter}={value}")));
            if let Some(failed) = row.get("failed") {
                behind.push((failed.clone(), format!("{filter}={value}&outcome=failed")));
            }
        }
    }
    for (figure, query) in behind {
        let rows = api.get(&format!("/calls?from={from}&{query}")).await;
        assert_eq!(ids(&rows).len(), figure, "{query}: {figures}");
    }
}

#[tokio::test]
async fn more_than_two_last_digits_are_for_operators_written_down_and_few_a_minute() {
    let clock = Clock::stopped("2026-11-23T09:00:00Z".parse().unwrap());
    let api = Api::with(Settings {
        clock: clock.clone(),
        ..Settings::default()
    })
    .await;
    let hot = api.world.call(HOT).await.call_sid;
    let search = async |key: &str, digits: &str| {
        let path = format!("/calls?caller={digits}");
        api.ask(Method::GET, &path, Some(key), None).await
    };
    let searched = async || {
        let written = api.get("/logs?kind=accessed").await.json();
        let rows = written["data"].as_array().unwrap().clone();
        let of_search = rows
            .iter()
            .filter(|row| row["detail"]["is"] == "numbers_searched");
        of_search
            .map(|row| row["detail"]["by"].clone())
            .collect::<Vec<_>>()
    };
    // The masked number says its last two digits, and who has the whole number has it.
    for open in ["90".to_owned(), HOT.replace('+', "%2B")] {
        assert_eq!(
            ids(&search(&api.viewer, &open).await),
            std::slice::from_ref(&hot)
        );
    }
    assert_eq!(
        search(&api.viewer, "090").await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(searched().await, Vec::<Value>::new());
    // The last digits, the national form, the international form without its plus.
    for digits in ["090", "01700000090", "00491700000090", "491700000090"] {
        assert_eq!(
            ids(&search(&api.operator, digits).await),
            std::slice::from_ref(&hot),
            "{digits}"
        );
    }
    // The same number once more is the same question.
    assert_eq!(
        ids(&search(&api.operator, "090").await),
        std::slice::from_ref(&hot)
    );
    assert_eq!(
        ids(&search(&api.operator, "190").await),
        Vec::<String>::new()
    );
    assert_eq!(searched().await, vec![json!("shift"); 4]);
    for n in 0..26 {
        let answer = search(&api.operator, &format!("{}", 200 + n)).await;
        assert_eq!(answer.status, StatusCode::OK, "{n}");
    }
    assert_eq!(
        search(&api.operator, "300").await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(search(&api.operator, "090").await.status, StatusCode::OK);
    assert_eq!(search(&api.admin, "300").await.status, StatusCode::OK);
    clock.advance(Duration::from_secs(61));
    assert_eq!(search(&api.operator, "300").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_caller_is_shown_listed_and_erased_without_a_number_in_an_address() {
    let (api, calls) = of_every_kind().await;
    let call = api.get(&format!("/calls/{}", calls[1].1)).await.json();
    let id = call["data"]["caller_id"].as_str().unwrap().to_owned();
    let path = format!("/callers/{id}");
    let shown = api.get(&path).await;
    assert!(!shown.text.contains(&HOT[1..]), "{}", shown.text);
    let caller = shown.json()["data"].clone();
    let expected = json!({ "caller": "+**********90", "calls": 2, "answered": 1, "last_dialer": "dialfire", "lists": [], "score": 90, "tier": "hot" });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&caller[name], value, "{name}: {caller}");
    }
    let theirs = ids(&api.get(&format!("/calls?caller_id={id}")).await);
    assert_eq!(theirs, [calls[4].1.clone(), calls[1].1.clone()]);

    let body = json!({ "number": format!("caller:{id}"), "why": "asked for it" }).to_string();
    let entries = "/routing/lists/vip/entries";
    let put = api
        .ask(Method::POST, entries, Some(&api.operator), Some(body))
        .await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", put.text);
    let listed = api.get(&path).await.json()["data"]["lists"].clone();
    assert_eq!(listed[0]["name"], "vip");
    assert_eq!(listed[0]["entry"], put.json()["data"]["id"]);

    for key in [&api.viewer, &api.operator] {
        let refused = api.ask(Method::DELETE, &path, Some(key), None).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
    }
    let erased = api.ask(Method::DELETE, &path, Some(&api.admin), None).await;
    assert_eq!(erased.status, StatusCode::NO_CONTENT, "{}", erased.text);
    assert_eq!(api.get(&path).await.status, StatusCode::NOT_FOUND);
    let left = api.get(&format!("/calls/{}", calls[1].1)).await.json();
    assert_eq!(left["data"]["caller_id"], Value::Null);
    let who = api.get("/logs?kind=accessed").await.json();
    let detail = &who["data"][0]["detail"];
    assert_eq!(
        (&detail["is"], &detail["by"]),
        (&json!("caller_erased"), &json!("ops"))
    );
}

#[tokio::test]
async fn what_an_auditor_takes_from_the_page_verifies_by_itself() {
    let (api, calls) = of_every_kind().await;
    let mut report = Value::Null;
    for _ in 0..600 {
        let slice = api.get("/logs/export?from=2020-01-01T00:00:00Z").await;
        assert!(!slice.text.contains(&HOT[1..]));
        let file = api.world.file("slice.jsonl");
        std::fs::write(&file, &slice.text).unwrap();
        let ran = api
            .world
            .command(&[
                "audit",
                "verify",
                "--json",
                "--export",
                file.to_str().unwrap(),
            ])
            .await;
        if slice.status == StatusCode::OK {
            report = serde_json::from_slice(&ran.stdout).unwrap();
            // The end of the log is signed a moment later.
            if slice.text.contains(&calls[4].1) {
                break;
            }
        }
        Clock::system().wait(Duration::from_millis(50)).await;
    }
    assert_eq!(report["ok"], true, "{report}");
    assert_eq!(report["records"], report["signed"], "{report}");
    let none = api.get("/logs/export?to=2020-01-01T00:00:00Z").await;
    assert_eq!(none.status, StatusCode::OK, "{}", none.text);
    assert!(!none.text.contains("\"record\""), "{}", none.text);
}

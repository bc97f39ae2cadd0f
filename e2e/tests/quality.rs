//! Figures of calls beside a second computation, how long they take, and the page that shows them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use switchboard_e2e::calls::{by_sql, called};
use switchboard_e2e::seed::Served;
use switchboard_e2e::{Chromium, Tab};

use crate::common::{SETTLED, examine, no_complaints, sign_in};

/// What rows are grouped by, and the same in SQL.
const GROUPINGS: [(&str, &str); 6] = [
    ("rule", "coalesce(rule, '(default)')"),
    ("dialer", "dialer"),
    ("tier", "tier"),
    ("number", "called_id"),
    (
        "hour",
        "substr('sunmontuewedthufrisat', 3 * strftime('%w', started_at / 1000, 'unixepoch') + 1, 3)
             || strftime(' %H', started_at / 1000, 'unixepoch')",
    ),
    ("day", "date(started_at / 1000, 'unixepoch')"),
];
const NAMES: [&str; 7] = [
    "calls",
    "ended",
    "answered",
    "abandoned",
    "mean_talk_s",
    "mean_answer_s",
    "mean_abandon_s",
];

/// Writes calls, and holds the API's figures against those of SQL; gives what the page shows them with.
async fn equal(calls: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let started = Instant::now();
    called(folder.path(), calls).await?;
    let took = started.elapsed().as_secs_f64();
    println!("{calls} calls written in {took:.0} s");
    let second = GROUPINGS.iter().map(|(_, key)| by_sql(folder.path(), key));
    let second = second.collect::<Result<Vec<_>, _>>()?;
    let served = Served::start(folder.path(), "").await?;
    let chromium = Chromium::start().await?;
    let tab = chromium.tab().await?;
    sign_in(&tab, &served, "/quality").await?;
    for ((by, _), expected) in GROUPINGS.iter().zip(second) {
        let script = format!(
            "(async () => {{
                const times = [];
                let text;
                for (let i = 0; i < 20; i += 1) {{
                    const started = performance.now();
                    text = await (await fetch('/api/v1/quality?by={by}&from=2000-01-01T00:00:00Z')).text();
                    times.push(performance.now() - started);
                }}
                return JSON.stringify({{ times: times.sort((a, b) => a - b), data: JSON.parse(text).data }});
            }})()"
        );
        let found: Value = serde_json::from_str(&tab.text(&script).await?)?;
        let rows = found["data"]["rows"].as_array().context("no rows")?;
        let (ours, theirs) = (rows.len(), expected.len());
        ensure!(ours == theirs, "{by}: {ours} rows, {theirs} by SQL");
        for row in rows {
            let name = row["called_id"].as_str().or(row["name"].as_str());
            let figures = expected.get(name.unwrap_or_default());
            let figures = figures.with_context(|| format!("{by}: {row}"))?;
            for (name, figure) in NAMES.iter().zip(figures) {
                let unit = if name.starts_with("mean") {
                    1_000.0
                } else {
                    1.0
                };
                let theirs = figure.map_or(-1.0, |figure| figure / unit);
                let ours = row[name].as_f64().unwrap_or(-1.0);
                ensure!(
                    (ours - theirs).abs() < 0.000_6,
                    "{by}: {name} is {theirs} by SQL: {row}"
                );
            }
        }
        let (half, most) = (&found["times"][9], &found["times"][19]);
        println!("by {by}: {ours} rows equal; asked 20 times: {half} ms, at most {most} ms");
        if *by == "rule" {
            println!("staleness: {}", found["data"]["staleness"]);
        }
    }
    tab.until(&format!(
        "{SETTLED} && document.querySelectorAll('.heat td').length === 168"
    ))
    .await?;
    examine(&tab, "quality").await?;
    if let Some(folder) = std::env::var_os("PICTURES") {
        pictures(&tab, Path::new(&folder)).await?;
    }
    no_complaints(&tab, "quality").await?;
    chromium.stop().await;
    served.stop().await;
    Ok(())
}

async fn pictures(tab: &Tab, folder: &Path) -> anyhow::Result<()> {
    for scheme in ["light", "dark"] {
        tab.prefer(scheme).await?;
        for (name, width) in [("wide", 1_280), ("narrow", 360)] {
            tab.size(width, 900).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            std::fs::write(
                folder.join(format!("quality-{name}-{scheme}.png")),
                tab.picture(true).await?,
            )?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_of_quality_are_those_that_sql_finds() -> anyhow::Result<()> {
    equal(3_000).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn the_figures_of_a_million_calls_are_those_that_sql_finds() -> anyhow::Result<()> {
    let calls = std::env::var("CALLS").ok().and_then(|n| n.parse().ok());
    equal(calls.unwrap_or(1_000_000)).await
}

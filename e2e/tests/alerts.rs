//! What an operator does about alerts, in a real Chromium against the real demo: the clicks are counted.
use std::time::Duration;

use anyhow::ensure;
use switchboard_e2e::{Chromium, Demo, Tab};

use crate::common::{SETTLED, fits};

/// Long enough for an outage to be found.
const OUTAGE: Duration = Duration::from_secs(60);

/// Clicks what fits a selector and has these words, as soon as it is there; counts it.
async fn click(tab: &Tab, clicks: &mut u32, selector: &str, words: &str) -> anyhow::Result<()> {
    let found = format!(
        "[...document.querySelectorAll({selector:?})].find((one) => !one.hidden && one.textContent === {words:?})"
    );
    tab.until(&format!("Boolean({found})")).await?;
    tab.js(&format!("{found}.click(), true")).await?;
    *clicks += 1;
    Ok(())
}

/// What is asked of the API is so.
async fn answers(tab: &Tab, path: &str, is_so: &str) -> anyhow::Result<()> {
    let asked =
        format!("fetch('/api/v1{path}').then((r) => r.json()).then(({{ data }}) => {is_so})");
    tab.until_within(OUTAGE, &asked).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_a_dialer_out_and_muting_alerts_cost_two_clicks_each() -> anyhow::Result<()> {
    let demo = Demo::start(300, &["--open-faults", "both-down"]).await?;
    let chromium = Chromium::start().await?;
    let tab = chromium.tab().await?;
    tab.open(&demo.link).await?;
    tab.until(SETTLED).await?;
    // Who waits, for how long, and why, in words.
    tab.until_within(
        OUTAGE,
        "/^No dialer takes calls \\([0-9]+, longest [0-9:]+\\)$/.test(document.querySelector('.state strong').textContent)",
    )
    .await?;
    tab.until("document.querySelector('.state .why').textContent.includes('answer HTTP 500')")
        .await?;

    let mut clicks = 0;
    click(&tab, &mut clicks, "main button", "Mute").await?;
    tab.until("document.activeElement.name === 'reason'")
        .await?;
    tab.write("the carrier works").await?;
    fits(&tab, "the question what to mute", &[360, 1440]).await?;
    click(&tab, &mut clicks, "dialog button", "Mute").await?;
    answers(
        &tab,
        "/alerts/mutes",
        "data.length === 1 && data[0].reason === 'the carrier works' && Date.parse(data[0].until) - Date.parse(data[0].from) === 3600000",
    )
    .await?;
    ensure!(clicks <= 2, "muting costs {clicks} clicks");

    tab.open(&format!("{}/alerts", demo.url)).await?;
    tab.until(
        "document.body.innerText.includes('All incidents') && document.querySelector('th.what a')",
    )
    .await?;
    tab.until("document.body.innerText.includes('Nobody is told, by')")
        .await?;
    fits(&tab, "/alerts", &[360, 1440]).await?;
    let mut clicks = 0;
    click(&tab, &mut clicks, "main button", "Acknowledge").await?;
    tab.until("document.body.innerText.includes('Acknowledged by')")
        .await?;
    // From the incident to a call that it met.
    answers(&tab, "/alerts/active", "data.some((one) => one.calls > 0)").await?;
    tab.js("[...document.querySelectorAll('th.what a')].find((a) => a.textContent.includes('No dialer')).click(), true")
        .await?;
    tab.until("location.pathname.startsWith('/alerts/all_dialers_down-') && document.body.innerText.includes('Who was told')")
        .await?;
    tab.shows("Callers are held, then put through to the last resort")
        .await?;
    fits(&tab, "/alerts/{id}", &[360, 1440]).await?;
    tab.js("document.querySelector('main a[href*=\"/logs/CA\"]').click(), true")
        .await?;
    tab.until("location.pathname.startsWith('/logs/CA') && document.querySelector('.fall')")
        .await?;

    tab.open(&format!("{}/", demo.url)).await?;
    tab.until(SETTLED).await?;
    let mut clicks = 0;
    click(
        &tab,
        &mut clicks,
        "button[aria-label='Take out dialfire']",
        "Take out",
    )
    .await?;
    tab.until("document.activeElement.name === 'reason'")
        .await?;
    tab.write("new firmware").await?;
    click(&tab, &mut clicks, "dialog button", "Take out").await?;
    answers(
        &tab,
        "/dialers/dialfire",
        "data.state === 'drained' && data.drained.reason === 'new firmware'",
    )
    .await?;
    ensure!(clicks <= 2, "taking out costs {clicks} clicks");

    // The other one is the last: the question says so, once it takes calls.
    tab.open(&format!("{}/dialers", demo.url)).await?;
    tab.until("document.querySelector('#demo-faults [name=both_down]')")
        .await?;
    tab.js("document.querySelector('#demo-faults [name=both_down]').click(), true")
        .await?;
    answers(&tab, "/dialers/zendesk", "data.state === 'closed'").await?;
    tab.until("[...document.querySelectorAll('.cards .chip')].some((one) => one.textContent === 'Taking calls')")
        .await?;
    tab.shows(": new firmware").await?;
    fits(&tab, "/dialers", &[360, 1440]).await?;
    let zendesk = "section[aria-labelledby='dialer-zendesk'] button";
    click(&tab, &mut clicks, zendesk, "Take out").await?;
    tab.shows("this is the last one that takes calls").await?;
    let complaints = tab.complaints().await?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    chromium.stop().await;
    demo.stop().await;
    Ok(())
}

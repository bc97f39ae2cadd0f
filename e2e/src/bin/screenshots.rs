//! Takes the pictures of `docs/screenshots/`: `cargo run -p switchboard-e2e --bin screenshots -- docs/screenshots`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use switchboard_e2e::{Chromium, Demo, Tab};

/// Time for callers to come before the first picture.
const WARM_UP: Duration = Duration::from_secs(75);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(
        arguments
            .next()
            .context("say where to: screenshots FOLDER [WORD]")?,
    );
    // Only pictures whose name contains this.
    let only = arguments.next().unwrap_or_default();
    std::fs::create_dir_all(&folder)?;
    let demo = Demo::start(150, &["--history", "2h"]).await?;
    let chromium = Chromium::start().await?;
    let tab = chromium.tab().await?;
    tab.open(&format!("{}/login", demo.url)).await?;
    let login = [("login", 1440, 900), ("login-narrow", 360, 740)];
    for (name, width, height) in login {
        take(&tab, &folder, &only, name, width, height).await?;
    }
    tab.open(&demo.link).await?;
    tab.until("document.querySelector('h1')").await?;
    if only.is_empty() {
        tokio::time::sleep(WARM_UP).await;
    } else {
        tokio::time::sleep(WARM_UP / 5).await;
    }
    let call = tab
        .text("fetch('/api/v1/calls?page_size=50&disposition=answered').then(r => r.json()).then(d => (d.data.find((c) => c.failed_over) ?? d.data[0]).call_id)")
        .await?;
    let pages = [
        ("live", "/".to_owned()),
        ("logs", "/logs".to_owned()),
        ("trace", format!("/logs/{call}")),
        ("dialers", "/dialers".to_owned()),
        ("rules", "/rules".to_owned()),
        ("settings", "/settings".to_owned()),
    ];
    for (name, path) in &pages {
        tab.open(&format!("{}{path}", demo.url)).await?;
        settle(&tab).await?;
        take(&tab, &folder, &only, name, 1440, 900).await?;
        take(&tab, &folder, &only, &format!("{name}-narrow"), 360, 740).await?;
    }
    // No dialer answers any more: callers are held, and somebody is told.
    tab.js("document.querySelector('#demo-faults [name=both_down]').click()")
        .await?;
    const OPEN: &str =
        "fetch('/api/v1/alerts/active').then(r => r.json()).then(d => d.data[0]?.id ?? '')";
    tab.until_within(Duration::from_secs(60), OPEN).await?;
    tokio::time::sleep(WARM_UP / 5).await;
    let incident = tab.text(OPEN).await?;
    let pages = [
        ("crisis", "/".to_owned()),
        ("alerts", "/alerts".to_owned()),
        ("incident", format!("/alerts/{incident}")),
    ];
    for (name, path) in &pages {
        tab.open(&format!("{}{path}", demo.url)).await?;
        settle(&tab).await?;
        take(&tab, &folder, &only, name, 1440, 900).await?;
        take(&tab, &folder, &only, &format!("{name}-narrow"), 360, 740).await?;
    }
    chromium.stop().await;
    demo.stop().await;
    Ok(())
}

async fn settle(tab: &Tab) -> anyhow::Result<()> {
    tab.until("document.querySelector('h1') && !document.querySelector('[aria-busy=true]')")
        .await?;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    Ok(())
}

async fn take(
    tab: &Tab,
    folder: &std::path::Path,
    only: &str,
    name: &str,
    width: i64,
    height: i64,
) -> anyhow::Result<()> {
    if !name.contains(only) {
        return Ok(());
    }
    for scheme in ["light", "dark"] {
        // A picture of the whole page sets the size back.
        tab.size(width, height).await?;
        tab.prefer(scheme).await?;
        tokio::time::sleep(Duration::from_millis(400)).await;
        let path = folder.join(format!("{name}-{scheme}.png"));
        std::fs::write(&path, tab.picture(true).await?)?;
        println!("{}", path.display());
    }
    tab.size(1440, 900).await?;
    Ok(())
}

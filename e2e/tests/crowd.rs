//! Three hundred calls on the line, with names as long as they may be: the live page stays small and fits.
//!
//! Needs what `dashboard.rs` needs, and `curl` and `openssl`. With `PICTURES` naming a folder, what was seen is kept there.
use std::path::Path;
use std::process::Stdio;

use anyhow::ensure;
use switchboard_e2e::Chromium;
use switchboard_e2e::seed::{ACCOUNT, Served, TOKEN, long_names, willing_dialer};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::common::{SETTLED, fits, no_complaints, sign_in};

const CALLS: usize = 300;

/// Callers ring, eight at a time; nobody hangs up.
async fn ring(served: &Served, token: &Path) -> anyhow::Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/signed-call");
    let mut ringing = JoinSet::new();
    for n in 0..CALLS {
        let mut call = Command::new(&script);
        call.arg(&served.url).arg(token).arg(ACCOUNT);
        call.arg(format!("+4917012{n:05}"));
        call.env("no_proxy", "127.0.0.1");
        let call = call.stdout(Stdio::null()).kill_on_drop(true).status();
        ringing.spawn(call);
        if ringing.len() >= 8
            && let Some(rung) = ringing.join_next().await
        {
            ensure!(rung??.success(), "a call was not taken");
        }
    }
    for rung in ringing.join_all().await {
        ensure!(rung?.success(), "a call was not taken");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_three_hundred_calls_on_the_line_the_live_page_stays_small_and_fits()
-> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let url = willing_dialer().await?;
    let served = Served::with(folder.path(), "", &long_names(&url)).await?;
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN)?;
    let chromium = Chromium::start().await?;
    let tab = chromium.tab().await?;
    tab.before_every_page("window.longest = 0; new PerformanceObserver((list) => { for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration); }).observe({ type: 'longtask', buffered: true });").await?;
    sign_in(&tab, &served, "/").await?;
    ring(&served, &token).await?;
    let all = format!(
        "[...document.querySelectorAll('.kpi')].find((one) => one.firstChild.textContent === 'On the line')?.children[1].textContent === '{CALLS}' && document.body.innerText.includes('and 275 more')"
    );
    for arrival in ["as they arrive", "all at once"] {
        tab.until(&all).await?;
        let elements = tab.number("document.querySelectorAll('*').length").await?;
        let rows = tab
            .number("document.querySelectorAll('table.calls tbody tr').length")
            .await?;
        let longest = tab.number("window.longest").await?;
        println!("{CALLS} calls, {arrival}: {elements} elements, longest task {longest} ms");
        ensure!(
            rows <= 50.0 && elements < 2_500.0,
            "{rows} rows, {elements} elements"
        );
        tab.open(&format!("{}/", served.url)).await?;
        tab.until(SETTLED).await?;
    }
    tab.until(&all).await?;
    fits(&tab, "/ with 300 calls", &[360, 768, 1024, 1440]).await?;
    if let Ok(pictures) = std::env::var("PICTURES") {
        for width in [360, 1440] {
            tab.size(width, 900).await?;
            let picture = tab.picture(true).await?;
            std::fs::write(format!("{pictures}/crowd-{width}.png"), picture)?;
        }
    }
    no_complaints(&tab, "/ with 300 calls").await?;
    chromium.stop().await;
    served.stop().await;
    Ok(())
}

//! What the tests of several pages need: signing in, and what is wrong with a page.
use anyhow::{Context as _, ensure};
use switchboard_e2e::seed::Served;
use switchboard_e2e::{Chromium, Demo, Tab};

pub(crate) const PAGES: [&str; 8] = [
    "/",
    "/logs",
    "/logs?view=records",
    "/dialers",
    "/rules",
    "/quality",
    "/alerts",
    "/settings",
];
/// A page is there, and nothing of it is still being loaded.
pub(crate) const SETTLED: &str =
    "document.querySelector('main h1') && !document.querySelector('[aria-busy=true]')";

/// A demo, and a tab that is signed in.
pub(crate) async fn signed_in(calls_per_minute: u32) -> anyhow::Result<(Demo, Chromium, Tab)> {
    let demo = Demo::start(calls_per_minute, &[]).await?;
    let chromium = Chromium::start().await?;
    let tab = chromium.tab().await?;
    tab.open(&demo.link).await?;
    tab.until(SETTLED).await?;
    Ok((demo, chromium, tab))
}

pub(crate) async fn no_complaints(tab: &Tab, of: &str) -> anyhow::Result<()> {
    let complaints = tab.complaints().await?;
    ensure!(complaints.is_empty(), "{of}: {complaints:#?}");
    Ok(())
}

/// What axe-core finds wrong, where it is at hand.
pub(crate) async fn examine(tab: &Tab, of: &str) -> anyhow::Result<()> {
    let nameless = tab.nameless_controls().await?;
    ensure!(
        nameless.is_empty(),
        "{of}: controls without a name: {nameless:?}"
    );
    let Ok(path) = std::env::var("AXE") else {
        return Ok(());
    };
    let axe = std::fs::read_to_string(path).context("cannot read axe-core")?;
    tab.js(&format!("{axe}; true")).await?;
    let found = tab
        .text(
            "axe.run(document, { resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'], rules: { 'label-content-name-mismatch': { enabled: true } } })
             .then((r) => r.violations.map((v) => `${v.id} (${v.impact}): ${v.nodes.slice(0, 4).map((n) => n.target.join(' ') + ' ' + (n.any[0]?.message ?? n.all[0]?.message ?? n.none[0]?.message ?? '')).join(' | ')}`).join('\\n'))",
        )
        .await?;
    ensure!(found.is_empty(), "{of}: axe-core finds\n{found}");
    Ok(())
}

/// Signs in at a served program, and goes to a page.
pub(crate) async fn sign_in(tab: &Tab, served: &Served, next: &str) -> anyhow::Result<()> {
    let next = next
        .replace('/', "%2F")
        .replace('?', "%3F")
        .replace('=', "%3D");
    tab.open(&format!("{}/login?next={next}", served.url))
        .await?;
    tab.tab_to_selector("#key").await?;
    tab.write(&served.key).await?;
    tab.press("Enter").await?;
    tab.until(&format!(
        "!location.pathname.endsWith('/login') && {SETTLED}"
    ))
    .await
}

/// Nothing is wider than the window at these widths; then what [`examine`] finds.
pub(crate) async fn fits(tab: &Tab, of: &str, widths: &[i64]) -> anyhow::Result<()> {
    let wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    for width in widths {
        tab.size(*width, 900).await?;
        tab.until(&format!("{wide} <= 0"))
            .await
            .with_context(|| format!("{of} at {width} px"))?;
    }
    examine(tab, of).await
}

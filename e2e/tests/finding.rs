//! Finding, in a real browser: how many clicks the tasks of an operator take, and that every figure leads to as many rows.

use anyhow::ensure;
use switchboard_e2e::{Demo, Tab};

use crate::common::{SETTLED, fits, no_complaints, signed_in};

const WIDTHS: [i64; 3] = [360, 1024, 1440];

async fn open(demo: &Demo, tab: &Tab, page: &str) -> anyhow::Result<()> {
    tab.open(&format!("{}{page}", demo.url)).await?;
    tab.until(SETTLED).await
}

/// Clicks what a selector finds, once it is there.
async fn click(tab: &Tab, selector: &str) -> anyhow::Result<()> {
    let there = format!("document.querySelector({selector:?})");
    tab.until(&there).await?;
    tab.js(&format!("{there}.click()")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_leads_to_as_many_rows() -> anyhow::Result<()> {
    let (demo, chromium, tab) = signed_in(120).await?;
    tab.until("document.querySelectorAll('.kpi a[href], .bars th a[href]').length > 6")
        .await?;
    tab.until("[...document.querySelectorAll('.bars tbody')].every((body, i) => i > 1 || body.rows.length)")
        .await?;
    // Calls go on meanwhile: the figure and the rows are the same at some moment.
    let behind = "async (link) => {
        const query = new URL(link.href).search;
        let [rows, cursor] = [0, ''];
        do {
            const page = await fetch(`/api/v1/calls${query}&page_size=200${cursor}`).then((r) => r.json());
            rows += page.data.length;
            cursor = page.next_cursor ? `&cursor=${page.next_cursor}` : '';
        } while (cursor);
        const row = link.closest('tr');
        const said = row ? row.cells[2].textContent : link.textContent;
        return rows === Number(/[0-9,]+/.exec(said)[0].replaceAll(',', ''));
    }";
    let links = "[...document.querySelectorAll('.kpi a[href*=from], .bars th a[href]')].filter((a) => /[0-9]/.test(a.closest('tr')?.textContent ?? a.textContent))";
    tab.until(&format!("{links}.length >= 8")).await?;
    let n = tab.number(&format!("{links}.length")).await?;
    let mut at = 0.0;
    while at < n {
        tab.until(&format!(
            "(() => {{ const link = {links}[{at}]; return !link || ({behind})(link); }})()"
        ))
        .await?;
        at += 1.0;
    }
    chromium.stop().await;
    demo.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_of_an_operator_take_as_many_clicks_as_they_may() -> anyhow::Result<()> {
    let (demo, chromium, tab) = signed_in(120).await?;
    let call = "fetch('/api/v1/calls?page_size=1&disposition=answered&tier=hot').then((r) => r.json()).then((d) => d.data[0])";
    tab.until(&format!("{call}.then(Boolean)")).await?;
    let id = tab.text(&format!("{call}.then((c) => c.call_id)")).await?;
    let number = tab
        .text(&format!("fetch('/api/v1/calls/{id}?reveal=true').then((r) => r.json()).then((d) => d.data.caller)"))
        .await?;

    // Why did the call of this number go there? The Logs page, the number as people write it, and a click.
    open(&demo, &tab, "/logs").await?;
    tab.js("document.querySelector('#search').focus()").await?;
    tab.write(&number.replacen("+49", "0", 1)).await?;
    tab.press("Enter").await?;
    // Only calls of that number are left.
    tab.until(&format!("document.querySelector(\"a[href='/logs/{id}']\")"))
        .await?;
    click(&tab, &format!("a[href='/logs/{id}']")).await?;
    tab.shows("The decision").await?;
    // All calls of the caller: one more.
    click(&tab, ".facts a[href^='/callers/']").await?;
    tab.shows("Their last calls").await?;
    ensure!(
        !tab.address()
            .await?
            .contains(number.trim_start_matches('+')),
        "a number is in the address"
    );
    fits(&tab, "a caller", &WIDTHS).await?;
    no_complaints(&tab, "a caller").await?;

    // Back leads to the row that was left.
    open(&demo, &tab, "/logs?span=24h").await?;
    tab.until("document.querySelector('sb-log tbody a.row-link')?.getAttribute('href')")
        .await?;
    // Read and clicked at once: calls go on meanwhile, and rows move.
    let row = "document.querySelectorAll('sb-log tbody a.row-link')[3]";
    let left = tab
        .text(&format!("(() => {{ const row = {row}; const href = row.getAttribute('href'); row.click(); return href; }})()"))
        .await?;
    tab.at(&left).await?;
    tab.js("history.back()").await?;
    tab.until(&format!(
        "document.activeElement.getAttribute('href') === {left:?}"
    ))
    .await?;

    // Which calls failed in the last hour, and why: the figure is the link.
    open(&demo, &tab, "/?window=1h").await?;
    tab.until("document.querySelector('a.figure[href*=\"outcome=failed\"]')")
        .await?;
    click(&tab, "a.figure[href*='outcome=failed']").await?;
    tab.until("location.search.includes('outcome=failed')")
        .await?;

    // p95 of each dialer over a day: the page of dialers, sorted by it.
    open(&demo, &tab, "/dialers").await?;
    tab.until("document.querySelector('th[aria-sort=descending]')?.textContent === 'p95'")
        .await?;
    tab.js("[...document.querySelectorAll('th button.sort')].find((b) => b.textContent === 'Calls').click()").await?;
    tab.until("document.querySelector('th[aria-sort=descending]').textContent === 'Calls'")
        .await?;
    fits(&tab, "/dialers", &WIDTHS).await?;
    no_complaints(&tab, "/dialers").await?;

    // Last week for the auditor: the time, and the link.
    open(&demo, &tab, "/logs?view=records&span=7d").await?;
    let first = "fetch(document.querySelector('a[download]').href).then((r) => r.text()).then((t) => t.split('\\n')[0])";
    tab.until(&format!(
        "{first}.then((line) => line.includes('switchboard-audit-export'))"
    ))
    .await?;

    open(&demo, &tab, "/logs").await?;
    click(&tab, ".filters button[aria-expanded=false]").await?;
    tab.until("document.querySelector('.filters button[aria-expanded=true]')")
        .await?;
    fits(&tab, "/logs with its filters", &WIDTHS).await?;
    no_complaints(&tab, "/logs with its filters").await?;
    open(&demo, &tab, "/logs?view=records").await?;
    click(&tab, "sb-log tbody a.row-link").await?;
    tab.until("document.querySelector('dialog[open]')").await?;
    fits(&tab, "/logs?view=records with a record", &WIDTHS).await?;
    no_complaints(&tab, "/logs?view=records with a record").await?;
    open(&demo, &tab, "/").await?;
    fits(&tab, "/", &WIDTHS).await?;
    no_complaints(&tab, "/").await?;
    chromium.stop().await;
    demo.stop().await;
    Ok(())
}

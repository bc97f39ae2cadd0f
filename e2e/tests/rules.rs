//! The page of the rules in a real Chromium: what it costs to change who takes which call, and to ask where a call would go.
//!
//! Needs what `dashboard.rs` needs. With `PICTURES` naming a folder, what was seen is kept there.
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use switchboard_e2e::seed::{Served, long_name};
use switchboard_e2e::{Chromium, Tab};

use crate::common::{SETTLED, examine, sign_in};

const DIALERS: &str = r#"
[dialers.dialfire]
kind = "http"
connect = "+4930333333"
url = "http://127.0.0.1:9/calls"
health_url = "http://127.0.0.1:9/health"
[dialers.zendesk]
kind = "http"
connect = "+4930444444"
url = "http://127.0.0.1:9/calls"
health_url = "http://127.0.0.1:9/health"
"#;
const RULES: &str = r#"[routing]
default_dialer = "zendesk"
time_zone = "Europe/Berlin"
closed_message = "We are closed."
# The floor's hours.
[routing.hours.office]
open = ["mon-fri 08:00-18:00", "sat 09:00-13:00"]
closed = ["2126-12-24..2126-12-26"]
[routing.lists.vip]
numbers = ["+491700000077"]
[[routing.tiers]]
name = "hot"
min_score = 80
[[routing.tiers]]
name = "warm"
min_score = 40
# Who buys.
[[routing.rules]]
name = "night"
when = { not_hours = "office" }
message = "Call tomorrow."
[[routing.rules]]
name = "hot and warm leads"
tier = ["hot", "warm"]
dialers = ["dialfire", "zendesk"]
[[routing.tests]]
name = "hot leads go to the floor"
given = { score = 85 }
expect = { first = "dialfire" }
"#;

/// Clicks what is shown with these words, counts it, and waits for what follows.
async fn click(tab: &Tab, clicks: &mut u32, words: &str) -> anyhow::Result<()> {
    let found = format!(
        "[...document.querySelectorAll('dialog[open] button, dialog[open] a')].concat(document.querySelector('dialog[open]') ? [] : [...document.querySelectorAll('nav a, main button, main a, main summary')]).find((one) => one.textContent.trim().startsWith({words:?}) && one.checkVisibility())"
    );
    tab.until(&found).await?;
    tab.js(&format!("{found}.click()")).await?;
    *clicks += 1;
    // A question stands before the page, which is busy until it is answered.
    tab.until(&format!(
        "document.querySelector('dialog[open]') || ({SETTLED})"
    ))
    .await
}

async fn fill(tab: &Tab, selector: &str, value: &str) -> anyhow::Result<()> {
    tab.js(&format!(
        "(() => {{ const one = document.querySelector({selector:?}); one.focus(); one.select(); }})()"
    ))
    .await?;
    tab.write(value).await
}

async fn picture(tab: &Tab, name: &str) -> anyhow::Result<()> {
    if let Ok(folder) = std::env::var("PICTURES") {
        std::fs::write(format!("{folder}/{name}.png"), tab.picture(true).await?)?;
    }
    Ok(())
}

/// What is wider than the window or lies over something else, by its words.
const MISFITS: &str = "(() => { const wrong = []; const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) wrong.push(`${root.scrollWidth - root.clientWidth} px too wide`);
  const all = [...document.querySelectorAll('main :is(strong, p, a, button, input, td, th, h2, h3, .chip, summary, label)')].filter((one) => one.checkVisibility() && !one.closest('.unseen, .seg') && !one.matches('.checks a'));
  const boxes = all.map((one) => [one, one.getBoundingClientRect()]).filter(([, box]) => box.width && box.height);
  for (const [one, box] of boxes) { if ((box.right > innerWidth + 1 || box.left < -1) && !one.closest('.scroll-x, pre')) wrong.push(`outside: ${one.textContent.slice(0, 40)}`);
    for (const [two, other] of boxes) if (one !== two && !one.contains(two) && !two.contains(one) && Math.min(box.right, other.right) - Math.max(box.left, other.left) > 2 && Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top) > 2) wrong.push(`over: ${one.textContent.slice(0, 30)} / ${two.textContent.slice(0, 30)}`); }
  return wrong.slice(0, 6).join('\\n'); })()";

fn rules_apart(folder: &Path, text: &str) -> anyhow::Result<()> {
    let file = folder.join("routing.toml");
    std::fs::write(&file, text)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_leads_go_to_zendesk_from_now_on_and_a_score_is_asked_about_on_one_page()
-> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    rules_apart(folder.path(), RULES)?;
    let routing = format!("[routing]\nfile = \"routing.toml\"\n{DIALERS}");
    let served = Served::with(folder.path(), "", &routing).await?;
    let chromium = Chromium::start().await?;
    let tab = chromium.tab().await?;
    sign_in(&tab, &served, "/").await?;
    let mut clicks = 0;
    click(&tab, &mut clicks, "Rules").await?;
    fill(&tab, "#explain [name=score]", "55").await?;
    fill(&tab, "#explain [name=at]", "2126-11-26 19:00").await?;
    tab.press("Enter").await?;
    tab.until("document.querySelector('#explain .note')?.textContent.includes('told the message')")
        .await?;
    ensure!(
        clicks == 1,
        "where score 55 goes at 19:00 took {clicks} clicks"
    );
    fill(&tab, "#explain [name=at]", "2126-11-26 12:00").await?;
    tab.press("Enter").await?;
    tab.until(
        "document.querySelector('#explain .note')?.textContent.includes('dialfire, then zendesk')",
    )
    .await?;
    examine(&tab, "the page").await?;
    picture(&tab, "rules").await?;

    click(&tab, &mut clicks, "Edit the draft").await?;
    click(&tab, &mut clicks, "Add a rule").await?;
    fill(&tab, ".edits details[open] [name=name]", "warm leads").await?;
    fill(&tab, ".edits details[open] [name=tier]", "warm").await?;
    fill(&tab, ".edits details[open] [name=dialers]", "nobody").await?;
    click(&tab, &mut clicks, "Save and check").await?;
    tab.until("/Line \\d+/.test(document.querySelector('main .note[data-tone=bad]')?.innerText)")
        .await?;
    // The refusal is a 400, which the browser notes.
    tab.complaints().await?;
    let before = clicks;
    click(&tab, &mut clicks, "Line ").await?;
    tab.until("getSelection().toString().includes('nobody') || document.activeElement.value?.slice(document.activeElement.selectionStart, document.activeElement.selectionEnd).includes('nobody')").await?;
    tab.js("document.querySelector('input[value=Forms]').click()")
        .await?;
    tab.js("document.querySelectorAll('.edits details')[0].open = true")
        .await?;
    clicks = before - 1;
    fill(&tab, ".edits details[open] [name=dialers]", "zendesk").await?;
    click(&tab, &mut clicks, "Save and check").await?;
    tab.shows("its tests pass").await?;
    examine(&tab, "the draft").await?;
    picture(&tab, "draft").await?;
    tab.size(360, 740).await?;
    picture(&tab, "draft-360").await?;
    tab.size(1440, 900).await?;
    click(&tab, &mut clicks, "Publish").await?;
    tab.until("document.querySelector('dialog[open]')").await?;
    click(&tab, &mut clicks, "Publish").await?;
    tab.until("document.querySelector('#rule-1 strong')?.textContent === 'warm leads'")
        .await?;
    println!("warm leads to zendesk: {clicks} clicks");
    ensure!(clicks <= 7, "it took {clicks} clicks");
    let written = std::fs::read_to_string(folder.path().join("routing.toml"))?;
    ensure!(
        written.contains("# Who buys.\n[[routing.rules]]\nname = \"night\"")
            && written
                .contains("name = \"warm leads\"\ntier = [\"warm\"]\ndialers = [\"zendesk\"]"),
        "{written}"
    );

    click(&tab, &mut clicks, "Compare").await?;
    tab.shows("warm leads").await?;
    click(&tab, &mut clicks, "Roll back to").await?;
    tab.until("document.querySelector('dialog[open]')").await?;
    click(&tab, &mut clicks, "Roll back").await?;
    tab.until("document.querySelector('#rule-1 strong')?.textContent === 'night'")
        .await?;
    let complaints = tab.complaints().await?;
    let wrong: Vec<_> = complaints
        .iter()
        .filter(|one| !one.contains("404"))
        .collect();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    chromium.stop().await;
    served.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_rules_with_the_longest_names_fit_and_publishing_by_hand_is_explained()
-> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let names: Vec<String> = (0..12).map(|n| long_name(&format!("d{n}"), 32)).collect();
    let first = names.first().context("no name")?;
    let tier = long_name("tier", 64);
    let mut routing = format!(
        "[routing]\ndefault_dialer = {first:?}\n[[routing.tiers]]\nname = {tier:?}\nmin_score = 0\n"
    );
    for n in 0..20 {
        let name = long_name(&format!("rule{n}"), 64);
        routing += &format!(
            "[[routing.rules]]\nname = {name:?}\ntier = [{tier:?}]\ndialers = {names:?}\n"
        );
    }
    let list = long_name("list", 64);
    routing += &format!("[routing.lists.{list}]\nnumbers = []\n");
    let hours = long_name("hours", 64);
    routing += &format!("[routing.hours.{hours}]\nopen = [\"mon-fri 08:00-12:00 13:00-18:00\"]\n");
    for name in &names {
        routing += &format!(
            "[dialers.{name}]\nkind = \"http\"\nconnect = \"+4930333333\"\nurl = \"http://127.0.0.1:9/calls\"\nhealth_url = \"http://127.0.0.1:9/health\"\n"
        );
    }
    let served = Served::with(folder.path(), "", &routing).await?;
    let chromium = Chromium::start().await?;
    let tab = chromium.tab().await?;
    sign_in(&tab, &served, "/").await?;
    let mut clicks = 0;
    click(&tab, &mut clicks, "Rules").await?;
    click(&tab, &mut clicks, "Edit the draft").await?;
    click(&tab, &mut clicks, "How to publish").await?;
    tab.until("document.querySelector('main pre')?.textContent.startsWith('[routing]') && !document.querySelector('main pre').textContent.includes('made-up')").await?;
    tab.shows("switchboard reload").await?;
    tab.js("document.querySelectorAll('main details').forEach((one) => { one.open = true; })")
        .await?;
    tab.until(SETTLED).await?;
    for scheme in ["light", "dark"] {
        tab.prefer(scheme).await?;
        for width in [360, 768, 1024, 1440] {
            tab.size(width, 900).await?;
            tab.js("new Promise((done) => setTimeout(() => done(true), 150))")
                .await?;
            let wrong = tab.text(MISFITS).await?;
            picture(&tab, &format!("long-{scheme}-{width}")).await?;
            ensure!(wrong.is_empty(), "{width} px, {scheme}:\n{wrong}");
        }
        examine(&tab, scheme).await?;
    }
    chromium.stop().await;
    served.stop().await;
    Ok(())
}

//! Nothing is green without a fresh answer: behind a proxy that fails as the ways to a server fail.
//!
//! Needs what `dashboard.rs` needs.
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Context as _;
use switchboard_e2e::seed::{Served, willing_dialer};
use switchboard_e2e::{Chromium, Tab};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{PAGES, sign_in};

const PASS: u8 = 0;
/// Every request to the API is answered 500.
const FAIL: u8 = 1;
/// The event stream ends, and cannot be opened again.
const CUT: u8 = 2;

/// What says that all is well, on any page.
const GREEN: &str = "(document.querySelector('.state')?.dataset.state === 'routing' || /Nothing is wrong|no incident is open/.test(document.body.innerText))";
const LIVE: &str = "document.querySelector('main h1') && document.querySelector('sb-connection').dataset.state === 'live'";

/// A way to `target` that fails as it is told to. Every connection carries one request, so that each is judged by itself.
async fn way_to(target: String, mode: Arc<AtomicU8>) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((browser, _)) = listener.accept().await {
            let (target, mode) = (target.clone(), Arc::clone(&mode));
            tokio::spawn(async move { carry(browser, &target, &mode).await.ok() });
        }
    });
    Ok(format!("http://{address}"))
}

async fn carry(mut browser: TcpStream, target: &str, mode: &AtomicU8) -> anyhow::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 4_096];
        let read = browser.read(&mut part).await?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(part.get(..read).unwrap_or_default());
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let is_stream = path.starts_with("/api/v1/events");
    let fails =
        |mode: u8| (mode == FAIL && path.starts_with("/api/")) || (mode == CUT && is_stream);
    if fails(mode.load(Ordering::SeqCst)) {
        let answer =
            "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        browser.write_all(answer.as_bytes()).await?;
        return Ok(());
    }
    let text = text.replacen("\r\nConnection: keep-alive", "\r\nConnection: close", 1);
    let mut server = TcpStream::connect(target).await?;
    server.write_all(text.as_bytes()).await?;
    let cut = async {
        while !(is_stream && mode.load(Ordering::SeqCst) != PASS) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        carried = tokio::io::copy_bidirectional(&mut browser, &mut server) => { carried?; }
        () = cut => {}
    }
    Ok(())
}

/// The program, a tab that is signed in, and a way to the program; cookies know no ports.
async fn behind_a_way() -> anyhow::Result<(
    tempfile::TempDir,
    Served,
    Chromium,
    Tab,
    String,
    Arc<AtomicU8>,
)> {
    let folder = tempfile::tempdir()?;
    let dialer = willing_dialer().await?;
    let rules = format!(
        "[routing]\ndefault_dialer = \"other\"\n[[routing.tiers]]\nname = \"hot\"\nmin_score = 80\n\
         [dialers.other]\nkind = \"http\"\nconnect = \"+4930333333\"\nurl = \"{dialer}/calls\"\nhealth_url = \"{dialer}/health\"\n"
    );
    let served = Served::with(folder.path(), "", &rules).await?;
    let chromium = Chromium::start().await?;
    let tab = chromium.tab().await?;
    sign_in(&tab, &served, "/").await?;
    let mode = Arc::new(AtomicU8::new(PASS));
    let target = served.url.trim_start_matches("http://").to_owned();
    let way = way_to(target, Arc::clone(&mode)).await?;
    Ok((folder, served, chromium, tab, way, mode))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_green_while_the_api_answers_500() -> anyhow::Result<()> {
    let (_folder, served, chromium, tab, way, mode) = behind_a_way().await?;
    for page in PAGES {
        mode.store(PASS, Ordering::SeqCst);
        tab.open(&format!("{way}{page}")).await?;
        tab.until(LIVE).await.with_context(|| page.to_owned())?;
        if page == "/" || page == "/alerts" {
            tab.until(GREEN)
                .await
                .with_context(|| format!("{page} is green at first"))?;
        }
        mode.store(FAIL, Ordering::SeqCst);
        tab.until(&format!("!{GREEN}"))
            .await
            .with_context(|| format!("{page}: it was green without an answer"))?;
        tab.until("document.querySelector('sb-connection').dataset.state !== 'live'")
            .await?;
        // A page that is opened now has nothing to say, either.
        tab.open(&format!("{way}{page}")).await?;
        tab.until("document.querySelector('main h1')").await?;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        tab.until(&format!("!{GREEN}"))
            .await
            .with_context(|| format!("{page}: it is green, and was never answered"))?;
    }
    served.stop().await;
    chromium.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_stream_pages_ask_by_themselves_and_say_so() -> anyhow::Result<()> {
    let (_folder, served, chromium, tab, way, mode) = behind_a_way().await?;
    for page in ["/", "/alerts"] {
        mode.store(PASS, Ordering::SeqCst);
        tab.open(&format!("{way}{page}")).await?;
        tab.until(LIVE).await.with_context(|| page.to_owned())?;
        mode.store(CUT, Ordering::SeqCst);
        tab.until("document.querySelector('sb-connection').dataset.state === 'polling' && document.querySelector('.lost-bar').hidden")
            .await
            .with_context(|| page.to_owned())?;
    }
    // What happens is seen all the same.
    tab.open(&format!("{way}/dialers")).await?;
    tab.until("document.querySelector('main h1') && !document.querySelector('[aria-busy=true]')")
        .await?;
    tab.js("fetch('/api/v1/dialers/other/drain', { method: 'POST', headers: { origin: location.origin } })").await?;
    served.stop().await;
    tab.until("document.querySelector('sb-connection').dataset.state === 'lost'")
        .await?;
    tab.until(&format!("!{GREEN}")).await?;
    chromium.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_an_hour_off_makes_nothing_old_or_new() -> anyhow::Result<()> {
    let (_folder, served, chromium, tab, _, _) = behind_a_way().await?;
    for hours in [1, -1] {
        tab.before_every_page(&format!(
            "(() => {{ const real = Date, off = {hours} * 3600e3; const now = () => real.now() + off;
               globalThis.Date = class extends real {{ constructor(...given) {{ given.length ? super(...given) : super(now()); }} static now() {{ return now(); }} }}; }})();"
        ))
        .await?;
        for page in ["/", "/alerts"] {
            tab.open(&format!("{}{page}", served.url)).await?;
            tab.until(LIVE).await.with_context(|| page.to_owned())?;
            tab.until(GREEN).await?;
            // Longer than a server may be silent.
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            tab.until(&format!(
                "{LIVE} && document.querySelector('.lost-bar').hidden"
            ))
            .await?;
        }
    }
    served.stop().await;
    tab.until(&format!("!{GREEN}")).await?;
    chromium.stop().await;
    Ok(())
}

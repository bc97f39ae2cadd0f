//! A real browser and the real demo, for tests of the dashboard, its screenshots and its memory.

pub mod calls;
pub mod seed;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use chromiumoxide::browser::{Browser, BrowserConfig};
use chromiumoxide::cdp::browser_protocol::accessibility::GetFullAxTreeParams;
use chromiumoxide::cdp::browser_protocol::emulation::{
    MediaFeature, SetDeviceMetricsOverrideParams, SetEmulatedMediaParams,
    SetScriptExecutionDisabledParams,
};
use chromiumoxide::cdp::browser_protocol::input::{
    DispatchKeyEventParams, DispatchKeyEventType, InsertTextParams,
};
use chromiumoxide::cdp::browser_protocol::log;
use chromiumoxide::cdp::js_protocol::runtime::{
    EvaluateParams, EventConsoleApiCalled, EventExceptionThrown,
};
use chromiumoxide::page::ScreenshotParams;
use futures_util::StreamExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long anything on a page may take to appear, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The program under test: `SWITCHBOARD_BIN`, or the one that was built beside this one.
pub fn program() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("SWITCHBOARD_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let beside = own.ancestors().skip(1).take(2);
    beside
        .map(|folder| folder.join("switchboard"))
        .find(|path| path.is_file())
        .context("build the program first: cargo build, or set SWITCHBOARD_BIN")
}

/// A running demo.
#[derive(Debug)]
pub struct Demo {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// Opens the dashboard once.
    pub link: String,
    /// An admin's key.
    pub key: String,
    /// Everything it has printed, line by line.
    pub printed: Arc<Mutex<Vec<String>>>,
    child: Child,
}

impl Demo {
    /// Starts the demo on a free port.
    pub async fn start(calls_per_minute: u32, more: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(program()?)
            .args([
                "demo",
                "--listen",
                "127.0.0.1:0",
                "--for",
                "2h",
                "--seed",
                "7",
            ])
            .args(["--calls-per-minute", &calls_per_minute.to_string()])
            // A past of its own is what a test asks for.
            .args(if more.contains(&"--history") {
                &[][..]
            } else {
                &["--history", "0s"][..]
            })
            .args(more)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the demo")?;
        let printed = Arc::new(Mutex::new(Vec::new()));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        tokio::spawn(keep(stdout.context("no output")?, Arc::clone(&printed)));
        tokio::spawn(keep(stderr.context("no output")?, Arc::clone(&printed)));
        let find = |mark: &str| {
            let lines = printed.lock().ok()?;
            let line = lines.iter().find(|line| line.contains(mark))?;
            Some(line.split(mark).nth(1)?.trim().to_owned())
        };
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if let (Some(url), Some(link), Some(key)) = (
                find("dashboard: "),
                find("log in once: "),
                find("API key: "),
            ) {
                return Ok(Self {
                    url: url.trim_end_matches('/').to_owned(),
                    link,
                    key,
                    printed,
                    child,
                });
            }
            if let Some(status) = child.try_wait()? {
                bail!("the demo ended with {status}: {:?}", printed.lock());
            }
            ensure!(
                Instant::now() < until,
                "the demo says no link: {:?}",
                printed.lock()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.child.kill().await.ok();
    }
}

async fn keep(output: impl tokio::io::AsyncRead + Unpin, lines: Arc<Mutex<Vec<String>>>) {
    let mut output = BufReader::new(output).lines();
    while let Ok(Some(line)) = output.next_line().await {
        if let Ok(mut lines) = lines.lock() {
            // Callers go on for hours: what was printed at first is what counts.
            if lines.len() < 5_000 {
                lines.push(line);
            }
        }
    }
}

/// A headless Chromium with a profile of its own.
#[derive(Debug)]
pub struct Chromium {
    browser: Browser,
    _profile: TempDir,
}

impl Chromium {
    /// Starts it.
    pub async fn start() -> anyhow::Result<Self> {
        let profile = tempfile::tempdir()?;
        let executable =
            std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
        ensure!(
            Path::new(&executable).exists(),
            "{executable} is not installed"
        );
        let config = BrowserConfig::builder()
            .chrome_executable(executable)
            .no_sandbox()
            .user_data_dir(profile.path())
            .request_timeout(Duration::from_secs(60))
            .viewport(None)
            .args([
                "disable-gpu",
                "disable-background-networking",
                "disable-component-update",
                "disable-sync",
                "disable-dev-shm-usage",
                "enable-precise-memory-info",
                "lang=en-US",
            ])
            .build()
            .map_err(anyhow::Error::msg)?;
        let (browser, mut handler) = Browser::launch(config).await?;
        // Events that this version of the protocol does not know are no reason to stop listening.
        tokio::spawn(async move { while handler.next().await.is_some() {} });
        Ok(Self {
            browser,
            _profile: profile,
        })
    }

    /// A new tab.
    pub async fn tab(&self) -> anyhow::Result<Tab> {
        let page = self.browser.new_page("about:blank").await?;
        page.execute(log::EnableParams::default()).await?;
        page.enable_runtime().await?;
        let complaints: Complaints = Arc::default();
        listen::<log::EventEntryAdded>(&page, &complaints, |event| {
            let entry = &event.entry;
            let is_bad = matches!(
                entry.level,
                log::LogEntryLevel::Error | log::LogEntryLevel::Warning
            );
            is_bad.then(|| format!("{:?}: {} {:?}", entry.source, entry.text, entry.url))
        })
        .await?;
        listen::<EventConsoleApiCalled>(&page, &complaints, |event| {
            let kind = event.r#type.as_ref().to_owned();
            matches!(kind.as_str(), "error" | "warning" | "assert").then(|| {
                format!(
                    "console.{kind}: {:?}",
                    event.args.first().map(|arg| &arg.value)
                )
            })
        })
        .await?;
        listen::<EventExceptionThrown>(&page, &complaints, |event| {
            let details = &event.exception_details;
            let thrown = details.exception.as_ref();
            Some(format!(
                "exception: {} {:?}",
                details.text,
                thrown.and_then(|thrown| thrown.description.as_ref())
            ))
        })
        .await?;
        // A violation of the policy may be caught by a script and never reach the console.
        page.evaluate_on_new_document(
            "window.violations = []; addEventListener('securitypolicyviolation', (e) => window.violations.push(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`));",
        )
        .await?;
        let tab = Tab { page, complaints };
        tab.size(1440, 900).await?;
        Ok(tab)
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.browser.close().await.ok();
        self.browser.wait().await.ok();
    }
}

type Complaints = Arc<Mutex<Vec<String>>>;

async fn listen<E>(
    page: &chromiumoxide::Page,
    complaints: &Complaints,
    read: fn(&E) -> Option<String>,
) -> anyhow::Result<()>
where
    E: chromiumoxide::cdp::IntoEventKind + Unpin + Send + Sync + 'static,
{
    let mut events = page.event_listener::<E>().await?;
    let complaints = Arc::clone(complaints);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let (Some(complaint), Ok(mut list)) = (read(&event), complaints.lock()) {
                list.push(complaint);
            }
        }
    });
    Ok(())
}

/// One tab, and everything that its console has complained of.
#[derive(Debug)]
pub struct Tab {
    page: chromiumoxide::Page,
    complaints: Complaints,
}

impl Tab {
    /// Runs a script before those of every page that is opened from now on.
    pub async fn before_every_page(&self, script: &str) -> anyhow::Result<()> {
        self.page.evaluate_on_new_document(script).await?;
        Ok(())
    }

    /// Opens an address and waits until it is there.
    pub async fn open(&self, url: &str) -> anyhow::Result<()> {
        self.page.goto(url).await?;
        self.until("document.readyState === 'complete'").await
    }

    /// What an expression of JavaScript gives; a promise is waited for.
    pub async fn js(&self, expression: &str) -> anyhow::Result<Value> {
        let asked = EvaluateParams::builder()
            .expression(expression)
            .await_promise(true)
            .return_by_value(true)
            .build()
            .map_err(anyhow::Error::msg)?;
        let answer = self.page.execute(asked).await?;
        if let Some(thrown) = &answer.exception_details {
            let what = thrown
                .exception
                .as_ref()
                .and_then(|e| e.description.clone());
            bail!("{expression}: {} {}", thrown.text, what.unwrap_or_default());
        }
        Ok(answer.result.result.value.clone().unwrap_or(Value::Null))
    }

    /// The same as a number; NaN where it is none.
    pub async fn number(&self, expression: &str) -> anyhow::Result<f64> {
        Ok(self.js(expression).await?.as_f64().unwrap_or(f64::NAN))
    }

    /// The same as a text.
    pub async fn text(&self, expression: &str) -> anyhow::Result<String> {
        Ok(self
            .js(expression)
            .await?
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// Waits until an expression is true.
    pub async fn until(&self, expression: &str) -> anyhow::Result<()> {
        self.until_within(PATIENCE, expression).await.map(|_| ())
    }

    /// The same within a time; gives how long it took.
    pub async fn until_within(
        &self,
        patience: Duration,
        expression: &str,
    ) -> anyhow::Result<Duration> {
        let started = Instant::now();
        loop {
            // A page that is just being left answers nothing.
            if let Ok(Value::Bool(true)) = self
                .js(&format!("Promise.resolve({expression}).then(Boolean)"))
                .await
            {
                return Ok(started.elapsed());
            }
            if started.elapsed() > patience {
                let shown = self.text("document.body?.innerText.slice(0, 2000)").await;
                bail!(
                    "not within {patience:?}: {expression}\nat {:?}\nthe page says: {}\ncomplaints: {:?}",
                    self.text("location.href").await,
                    shown.unwrap_or_default(),
                    self.complaints.lock()
                );
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Presses a key, as `Tab`, `Enter`, `g` or `Shift+Tab`.
    pub async fn press(&self, key: &str) -> anyhow::Result<()> {
        let (shift, key) = match key.strip_prefix("Shift+") {
            Some(key) => (true, key),
            None => (false, key),
        };
        let (code, number, text) = match key {
            "Enter" => ("Enter".to_owned(), 13, Some("\r".to_owned())),
            "Tab" => ("Tab".to_owned(), 9, None),
            "Escape" => ("Escape".to_owned(), 27, None),
            "Space" => ("Space".to_owned(), 32, Some(" ".to_owned())),
            "ArrowDown" => ("ArrowDown".to_owned(), 40, None),
            "ArrowUp" => ("ArrowUp".to_owned(), 38, None),
            "ArrowRight" => ("ArrowRight".to_owned(), 39, None),
            "ArrowLeft" => ("ArrowLeft".to_owned(), 37, None),
            "End" => ("End".to_owned(), 35, None),
            "Home" => ("Home".to_owned(), 36, None),
            one => (
                format!("Key{}", one.to_uppercase()),
                i64::from(one.to_uppercase().bytes().next().unwrap_or(0)),
                Some(one.to_owned()),
            ),
        };
        let name = if key == "Space" { " " } else { key };
        for kind in [DispatchKeyEventType::KeyDown, DispatchKeyEventType::KeyUp] {
            let mut event = DispatchKeyEventParams::builder()
                .r#type(kind.clone())
                .key(name)
                .code(code.clone())
                .windows_virtual_key_code(number)
                .modifiers(if shift { 8 } else { 0 });
            if let (DispatchKeyEventType::KeyDown, Some(text)) = (kind, &text) {
                event = event.text(text.clone());
            }
            self.page
                .execute(event.build().map_err(anyhow::Error::msg)?)
                .await?;
        }
        Ok(())
    }

    /// Types into what has the focus.
    pub async fn write(&self, text: &str) -> anyhow::Result<()> {
        self.page.execute(InsertTextParams::new(text)).await?;
        Ok(())
    }

    /// Presses Tab until an expression over `el`, the focused element, is true.
    pub async fn tab_to(&self, expression: &str) -> anyhow::Result<()> {
        for _ in 0..150 {
            let is_there = format!(
                "(() => {{ const el = document.activeElement; return Boolean(el && ({expression})); }})()"
            );
            if self.js(&is_there).await? == Value::Bool(true) {
                return Ok(());
            }
            self.press("Tab").await?;
        }
        bail!("the Tab key never comes to {expression}")
    }

    /// The same for a selector, also where the page runs no scripts.
    pub async fn tab_to_selector(&self, selector: &str) -> anyhow::Result<()> {
        self.tab_to(&format!("el.matches({selector:?})")).await
    }

    /// Lets pages run scripts of their own, or none.
    pub async fn scripts(&self, on: bool) -> anyhow::Result<()> {
        let disable = SetScriptExecutionDisabledParams::new(!on);
        self.page.execute(disable).await?;
        Ok(())
    }

    /// The address that is shown.
    pub async fn address(&self) -> anyhow::Result<String> {
        self.text("location.href").await
    }

    /// Waits until a path with its query is shown.
    pub async fn at(&self, path: &str) -> anyhow::Result<()> {
        self.until(&format!("location.pathname + location.search === {path:?}"))
            .await
    }

    /// Waits until the page says something.
    pub async fn shows(&self, words: &str) -> anyhow::Result<()> {
        self.until(&format!("document.body?.innerText.includes({words:?})"))
            .await
    }

    /// Gives the window a size.
    pub async fn size(&self, width: i64, height: i64) -> anyhow::Result<()> {
        let mobile = width < 500;
        let metrics = SetDeviceMetricsOverrideParams::new(width, height, 1.0, mobile);
        self.page.execute(metrics).await?;
        Ok(())
    }

    /// Lets the system prefer light or dark.
    pub async fn prefer(&self, scheme: &str) -> anyhow::Result<()> {
        let features = vec![
            MediaFeature::new("prefers-color-scheme", scheme),
            MediaFeature::new("prefers-reduced-motion", "reduce"),
        ];
        let media = SetEmulatedMediaParams::builder().features(features).build();
        self.page.execute(media).await?;
        Ok(())
    }

    /// A picture of what is seen, or of the whole page, as PNG.
    pub async fn picture(&self, whole: bool) -> anyhow::Result<Vec<u8>> {
        let params = ScreenshotParams::builder().full_page(whole).build();
        Ok(self.page.screenshot(params).await?)
    }

    /// The controls that have no accessible name.
    pub async fn nameless_controls(&self) -> anyhow::Result<Vec<String>> {
        const CONTROLS: [&str; 14] = [
            "button",
            "link",
            "textbox",
            "searchbox",
            "checkbox",
            "radio",
            "combobox",
            "listbox",
            "switch",
            "slider",
            "spinbutton",
            "menuitem",
            "tab",
            "DateTime",
        ];
        let tree = self.page.execute(GetFullAxTreeParams::default()).await?;
        let word =
            |value: &Option<chromiumoxide::cdp::browser_protocol::accessibility::AxValue>| {
                let value = value.as_ref().and_then(|value| value.value.as_ref());
                value.and_then(Value::as_str).unwrap_or_default().to_owned()
            };
        let nodes = tree.result.nodes.iter().filter(|node| !node.ignored);
        let nameless = nodes
            .filter(|node| CONTROLS.contains(&word(&node.role).as_str()))
            .filter(|node| word(&node.name).trim().is_empty());
        Ok(nameless
            .map(|node| format!("{} {:?}", word(&node.role), node.backend_dom_node_id))
            .collect())
    }

    /// What the console and the policy have complained of since the last time.
    pub async fn complaints(&self) -> anyhow::Result<Vec<String>> {
        // What was just logged may still be on its way.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut all = match self.complaints.lock() {
            Ok(mut list) => std::mem::take(&mut *list),
            Err(_) => bail!("a listener has panicked"),
        };
        if let Value::Array(violations) = self.js("window.violations ?? []").await? {
            all.extend(violations.iter().map(|one| format!("policy: {one}")));
        }
        Ok(all)
    }

    /// Bytes of live objects on the heap of JavaScript.
    pub async fn heap(&self) -> anyhow::Result<f64> {
        use chromiumoxide::cdp::js_protocol::heap_profiler::CollectGarbageParams;
        use chromiumoxide::cdp::js_protocol::runtime::GetHeapUsageParams;
        for _ in 0..2 {
            self.page.execute(CollectGarbageParams::default()).await?;
        }
        let usage = self.page.execute(GetHeapUsageParams::default()).await?;
        Ok(usage.result.used_size)
    }

    /// Closes it.
    pub async fn close(self) {
        self.page.close().await.ok();
    }
}

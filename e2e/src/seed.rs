//! A log of any length, and the program that serves it.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use switchboard::audit::{Event, ProfileAction, Record};
use switchboard::clock::Clock;
use switchboard::http::keys::DrawnKey;
use switchboard::store::{KeyRing, Options, Store};
use tokio::process::{Child, Command};

use crate::program;

pub(crate) const DATABASE: &str = "log.db";
const BATCH: usize = 500;
/// The account that the program takes calls of, and the token that they are signed with.
pub const ACCOUNT: &str = "AC00000000000000000000000000000001";
/// See [`ACCOUNT`].
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Writes `records` records in `folder`, seven seconds apart until now; gives the first and the last time.
pub async fn seeded(folder: &Path, records: usize) -> anyhow::Result<(Timestamp, Timestamp)> {
    let clock = Clock::system();
    let apart = SignedDuration::from_secs(7);
    let last = clock.now();
    let first = last - apart * i32::try_from(records)?;
    let store = Store::open(&options(folder, clock)?)?;
    let mut at = first;
    for begin in (0..records).step_by(BATCH) {
        let batch = (begin..records.min(begin + BATCH)).map(|_| {
            at += apart;
            let action = ProfileAction::Replaced;
            Record::of_service(at, Event::ProfilePushed { action })
        });
        append(&store, batch.collect()).await;
    }
    close(store, records).await?;
    Ok((first, last))
}

/// A new database in `folder`, with its secret.
pub(crate) fn options(folder: &Path, clock: Clock) -> anyhow::Result<Options> {
    let secret = DrawnKey::draw()?.hash.to_hex();
    let mut file = std::fs::OpenOptions::new();
    file.write(true).create_new(true).mode(0o600);
    let beside = folder.join(format!("{DATABASE}.secret"));
    file.open(beside)?.write_all(secret.as_bytes())?;
    let mut options = Options::new(
        folder.join(DATABASE),
        clock,
        KeyRing::new(secret.as_bytes()),
    );
    options.patience = Duration::from_secs(60);
    Ok(options)
}

pub(crate) async fn append(store: &Store, records: Vec<Record>) {
    if store.append(records).await.is_err() {
        // A busy disk: the records wait their turn, and so does the next batch.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Closes a store once so many records are in it.
pub(crate) async fn close(store: Store, records: usize) -> anyhow::Result<()> {
    let wanted = i64::try_from(records)?;
    for _ in 0..600 {
        if store.head().await.is_ok_and(|head| head.id >= wanted) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    store.close().await;
    Ok(())
}

/// The program over a seeded log.
#[derive(Debug)]
pub struct Served {
    /// Where it listens.
    pub url: String,
    /// An admin's key.
    pub key: String,
    child: Child,
}

impl Served {
    /// Starts it on the log in `folder`; `path` is what its public address ends in, empty or like `/calls`.
    pub async fn start(folder: &Path, path: &str) -> anyhow::Result<Self> {
        Self::with(folder, path, ONE_DIALER).await
    }

    /// The same with other rules and dialers. Rules that stand in `routing.toml` in the folder may be published.
    pub async fn with(folder: &Path, path: &str, routing: &str) -> anyhow::Result<Self> {
        let drawn = DrawnKey::draw()?;
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let config = folder.join("config.toml");
        std::fs::write(
            &config,
            text(
                port,
                path,
                routing,
                &drawn.hash.to_hex(),
                folder.join("routing.toml").exists(),
            ),
        )?;
        // It holds secrets; the program refuses one that everybody can read.
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600))?;
        let child = Command::new(program()?)
            .arg("--config")
            .arg(&config)
            .arg("serve")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the program")?;
        for _ in 0..600 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Self {
            url: format!("http://127.0.0.1:{port}{path}"),
            key: drawn.key,
            child,
        })
    }

    /// The process.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.child.kill().await.ok();
    }
}

/// Letters for names as long as they may be.
const LETTERS: &str = "wholesale-and-key-accounts-of-the-northern-region-in-copenhagen-and-malmo";

/// A name of `length` letters that begins so.
pub fn long_name(begin: &str, length: usize) -> String {
    format!("{begin}-{LETTERS}").chars().take(length).collect()
}

/// Rules, tiers and dialers with names as long as they may be (64 letters, of dialers 32): twelve dialers at `url`, of which the first refuses everybody.
pub fn long_names(url: &str) -> String {
    let names: Vec<String> = (0..12).map(|n| long_name(&format!("d{n}"), 32)).collect();
    let mut text = format!(
        "[routing]\ndefault_dialer = {:?}\nmax_hold = \"30s\"\nbudget = \"8s\"\n",
        names.first().map_or("", String::as_str)
    );
    for n in 0..4 {
        let name = long_name(&format!("tier{n}"), 64);
        text += &format!(
            "[[routing.tiers]]\nname = {name:?}\nmin_score = {}\n",
            n * 20
        );
    }
    for n in 0..4 {
        let (name, tier) = (
            long_name(&format!("rule{n}"), 64),
            long_name(&format!("tier{n}"), 64),
        );
        text += &format!(
            "[[routing.rules]]\nname = {name:?}\ntier = [{tier:?}]\ndialers = {names:?}\n"
        );
    }
    for (n, name) in names.iter().enumerate() {
        let path = if n == 0 { "refused" } else { "calls" };
        text += &format!(
            "[dialers.{name}]\nkind = \"http\"\nconnect = \"+4930333333{n:02}\"\nurl = \"{url}/{path}\"\nhealth_url = \"{url}/health\"\n"
        );
    }
    text
}

/// A server on loopback that takes every call, but for those that it is asked to refuse. Gives its address; serves until the runtime ends.
pub async fn willing_dialer() -> anyhow::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = vec![0; 16_384];
                while let Ok(read @ 1..) = stream.read(&mut asked).await {
                    let is_refused = asked
                        .get(..read)
                        .is_some_and(|asked| asked.windows(8).any(|part| part == b"/refused"));
                    let status = if is_refused { "503 Busy" } else { "200 OK" };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
                    );
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok(format!("http://{address}"))
}

const ONE_DIALER: &str = r#"[routing]
default_dialer = "other"
[[routing.tiers]]
name = "hot"
min_score = 80
[dialers.other]
kind = "http"
connect = "+4930333333"
url = "http://127.0.0.1:9/calls"
health_url = "http://127.0.0.1:9/health"
"#;

fn text(port: u16, path: &str, routing: &str, key_hash: &str, edit_rules: bool) -> String {
    let ops = long_name("ops", 64);
    format!(
        r#"
[server]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}{path}"
edit_rules = {edit_rules}
[storage]
path = "{DATABASE}"
[twilio]
account_sid = "{ACCOUNT}"
auth_token = "{TOKEN}"
api_base = "http://127.0.0.1:9"
[braze]
base_url = "http://127.0.0.1:9"
api_key = "made-up"
{routing}
[[auth.keys]]
name = "{ops}"
role = "admin"
hash = "{key_hash}"
"#
    )
}

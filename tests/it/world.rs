//! The world of a test: the appliance in this process, on real sockets and a real database, and stand-ins of everything outside.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use switchboard::app::{self, Running};
use switchboard::audit::Kind;
use switchboard::call::CallId;
use switchboard::clock::Clock;
use switchboard::config;
use switchboard::lifecycle::{Lifecycle, Signals};
use switchboard::store::{StoredCall, StoredRecord};
use switchboard_simulator::requests::Requests;
use switchboard_simulator::twilio::{Call, CallResult, LineBehaviour};
use switchboard_simulator::{World as Outside, made_up};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(crate) use switchboard_simulator::made_up::{CALLED, DIALFIRE_LINE, LAST_RESORT, ZENDESK_LINE};

/// A caller whom Braze does not know.
pub(crate) const STRANGER: &str = "+491700000001";
/// A caller with score 90: tier hot, so Dialfire first, then Zendesk Talk.
pub(crate) const HOT: &str = "+491700000090";
/// A caller with score 10: tier cold, so the default plan, Zendesk Talk first.
pub(crate) const COLD: &str = "+491700000010";

/// What Braze sends with a profile push.
pub(crate) const PUSH_SECRET: &str = "made-up-push-secret";

/// The appliance and everything outside.
pub(crate) struct World {
    pub(crate) outside: Outside,
    running: Option<Running>,
    pub(crate) lifecycle: Lifecycle,
    /// The stand-ins serve until this is dropped.
    _tasks: JoinSet<()>,
    directory: tempfile::TempDir,
    settings: Settings,
}

/// What a test can change in the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Of all chance in the stand-ins.
    pub(crate) seed: u64,
    /// What stands in Twilio's console.
    pub(crate) public_url: String,
    /// Lines added under `[server]`.
    pub(crate) server: String,
    /// How webhooks are verified and Twilio is asked: the lines of `[twilio]` that hold credentials.
    pub(crate) credentials: String,
    /// The key for Braze.
    pub(crate) braze_key: String,
    /// What tells the appliance the time.
    pub(crate) clock: Clock,
    /// So many times faster than in life is the machine to the appliance: nobody is late because the machine is busy with other things.
    /// A test in which somebody hangs waits as many times longer for it.
    pub(crate) machine_is_faster: u32,
    /// Where Braze is, if not at its stand-in.
    pub(crate) braze_url: Option<String>,
    /// Where both dialers are, if not at their stand-ins.
    pub(crate) dialers_url: Option<String>,
    /// Lines added under `[routing]`.
    pub(crate) routing: String,
    /// Lines added under `[twilio]`.
    pub(crate) twilio: String,
    /// Lines added under `[braze]`.
    pub(crate) braze: String,
    /// Lines added under both dialers.
    pub(crate) dialers: String,
    /// `[routing]` stands in `routing.toml`, with this text once it is written.
    pub(crate) routing_file: bool,
    /// Sections added at the end; `MAIL_SERVER` stands for the address of the mail server, `HTTP_SERVER` for the URL of the HTTP dialer.
    pub(crate) sections: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            public_url: made_up::PUBLIC_URL.to_owned(),
            server: String::new(),
            credentials: format!("auth_token = \"{}\"", made_up::AUTH_TOKEN),
            braze_key: made_up::BRAZE_KEY.to_owned(),
            clock: Clock::system(),
            machine_is_faster: 20,
            braze_url: None,
            dialers_url: None,
            routing: format!("last_resort_number = \"{LAST_RESORT}\""),
            twilio: String::new(),
            braze: String::new(),
            // No probe interferes with what a test counts.
            dialers: "probe_every = \"1h\"".to_owned(),
            routing_file: false,
            sections: String::new(),
        }
    }
}

impl World {
    /// Everything well: both dialers take calls, all lines answer, the callers above are known.
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let (outside, tasks) = everything_outside(settings.seed);
        let mut world = Self {
            outside,
            running: None,
            lifecycle: Lifecycle::default(),
            _tasks: tasks,
            directory: tempfile::tempdir().unwrap(),
            settings,
        };
        world.start().await;
        world
    }

    /// Starts the appliance on its database.
    pub(crate) async fn start(&mut self) {
        let context = config::Context::in_directory(self.directory.path());
        let text = self.text();
        let config = config::parse(&text, &context).unwrap().config;
        self.lifecycle = Lifecycle::new(Duration::from_secs(5));
        let clock = self.settings.clock.clone();
        let clock = clock.slowed(self.settings.machine_is_faster);
        let running = Box::pin(app::start(&config, &clock, &self.lifecycle, None))
            .await
            .unwrap();
        self.outside.connect(
            &format!("http://{}", running.address),
            &self.settings.public_url,
        );
        let times = self.settings.machine_is_faster;
        self.outside
            .twilio
            .configure(|settings| settings.machine_is_faster = times);
        self.running = Some(running);
    }

    /// The configuration that was read last.
    pub(crate) fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// Changes the configuration that the next start reads.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
    }

    /// Lets the appliance read another configuration, as after SIGHUP.
    pub(crate) async fn reload(&mut self, settings: Settings) {
        self.settings = settings;
        let context = config::Context::in_directory(self.directory.path());
        let text = self.text();
        let config = config::parse(&text, &context).unwrap().config;
        self.running().reload(&config, "a test").await.unwrap();
    }

    /// Stops the appliance in good order.
    pub(crate) async fn stop(&mut self) {
        let (signals, receiver) = mpsc::channel(1);
        self.lifecycle.stop();
        let verdict = self
            .lifecycle
            .run_until_stopped(Signals::from_channel(receiver))
            .await;
        drop(signals);
        if let Some(running) = self.running.take() {
            Box::pin(running.close()).await;
        }
        assert_eq!(verdict, switchboard::lifecycle::Verdict::Clean);
    }

    /// The text of the main file; of `[routing]` in a file of its own, that is written unless it is there.
    fn text(&self) -> String {
        let text = self.settings.configuration(&self.outside);
        if !self.settings.routing_file {
            return text;
        }
        let (before, rest) = text.split_once("[routing]\n").unwrap();
        let (routing, after) = rest.split_once("[dialers.dialfire]").unwrap();
        let file = self.file("routing.toml");
        if !file.exists() {
            std::fs::write(file, format!("[routing]\n{routing}")).unwrap();
        }
        format!("{before}[routing]\nfile = \"routing.toml\"\n\n[dialers.dialfire]{after}")
    }

    /// A file beside the database.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the configuration file.
    pub(crate) fn write(&self) -> std::path::PathBuf {
        let config = self.file("config.toml");
        std::fs::write(&config, self.text()).unwrap();
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
        config
    }

    /// Reads the configuration file for whoever asks, as `serve` does.
    pub(crate) fn serve_reloads(&self) {
        self.running().serve_reloads(&self.lifecycle, self.write());
    }

    /// The database file.
    pub(crate) fn database(&self) -> std::path::PathBuf {
        self.directory.path().join("switchboard.db")
    }

    /// Runs a command of the real binary on this database, beside the appliance where that runs.
    pub(crate) async fn command(&self, arguments: &[&str]) -> std::process::Output {
        self.write();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env_remove("SWITCHBOARD_CONFIG")
            .stdin(std::process::Stdio::null());
        tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap()
    }

    /// How many handoff requests Dialfire got; probes are none.
    pub(crate) fn asked_dialfire(&self) -> usize {
        n_handoffs(self.outside.dialfire.requests())
    }

    /// How many handoff requests Zendesk Talk got; probes are none.
    pub(crate) fn asked_zendesk(&self) -> usize {
        n_handoffs(self.outside.zendesk.requests())
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// A whole phone call, as Twilio sees it. Its answers must be valid TwiML.
    pub(crate) async fn call(&self, from: &str) -> CallResult {
        let result = self.outside.twilio.call(Call::new(from, CALLED)).await;
        assert_eq!(result.violations, Vec::<String>::new());
        result
    }

    /// Waits until the database holds what was recorded: on a busy machine, some of it takes the way of a late commit.
    async fn settled(&self) {
        let store = &self.running().store;
        if store.append(Vec::new()).await.is_err() {
            store
                .health_when(|health| health.failing_since.is_none() && health.backlog == 0)
                .await;
        }
    }

    /// The call as the store holds it.
    pub(crate) async fn stored(&self, result: &CallResult) -> StoredCall {
        self.settled().await;
        self.running()
            .store
            .call(&id(result))
            .await
            .unwrap()
            .unwrap()
    }

    /// The records of a call.
    pub(crate) async fn records(&self, result: &CallResult) -> Vec<StoredRecord> {
        self.settled().await;
        self.running()
            .store
            .records_of_call(&id(result))
            .await
            .unwrap()
    }

    /// The details of a call's records of one kind.
    pub(crate) async fn details(&self, result: &CallResult, kind: Kind) -> Vec<serde_json::Value> {
        let records = self.records(result).await;
        let of_kind = records.iter().filter_map(|record| {
            let event = record.event().unwrap();
            if kind == Kind::HandoffIntended {
                return Some(serde_json::to_value(event.intended()?).unwrap());
            }
            if kind == Kind::HandoffConcluded {
                return Some(serde_json::to_value(event.attempt()?).unwrap());
            }
            (record.kind == kind).then(|| serde_json::from_str(&record.detail).unwrap())
        });
        of_kind.collect()
    }
}

impl Settings {
    /// The whole file.
    pub(crate) fn configuration(&self, outside: &Outside) -> String {
        let Self {
            public_url,
            server,
            credentials,
            braze_key,
            routing,
            twilio,
            braze,
            dialers,
            sections,
            ..
        } = self;
        let sections = sections
            .replace("MAIL_SERVER", &outside.smtp.address().to_string())
            .replace("HTTP_SERVER", &outside.http_dialer.url());
        let dialer_url = |own: String| self.dialers_url.clone().unwrap_or(own);
        format!(
            r#"
[server]
listen = "127.0.0.1:0"
public_url = "{public_url}"
{server}

[storage]
path = "switchboard.db"

[twilio]
account_sid = "{account_sid}"
{credentials}
api_base = "{twilio_url}"
{twilio}

[braze]
base_url = "{braze_url}"
api_key = "{braze_key}"
score_attribute = "lead_score"
webhook_secret = "{PUSH_SECRET}"
{braze}

[routing]
default_dialer = "zendesk"
{routing}

[[routing.tiers]]
name = "hot"
min_score = 80
[[routing.tiers]]
name = "warm"
min_score = 40
[[routing.tiers]]
name = "cold"
min_score = 0

[[routing.rules]]
name = "sales floor"
tier = ["hot", "warm"]
dialers = ["dialfire", "zendesk"]

[dialers.dialfire]
kind = "dialfire"
connect = "{dialfire_line}"
campaign = "{campaign}"
task = "{task}"
token = "{campaign_token}"
base_url = "{dialfire_url}"
{dialers}

[dialers.zendesk]
kind = "zendesk_talk"
connect = "{zendesk_line}"
base_url = "{zendesk_url}"
email = "{zendesk_email}"
token = "{zendesk_token}"
{dialers}

{sections}
"#,
            account_sid = made_up::ACCOUNT_SID,
            twilio_url = outside.twilio.url(),
            braze_url = self
                .braze_url
                .clone()
                .unwrap_or_else(|| outside.braze.url()),
            dialfire_line = DIALFIRE_LINE,
            campaign = made_up::CAMPAIGN,
            task = made_up::TASK,
            campaign_token = made_up::CAMPAIGN_TOKEN,
            dialfire_url = dialer_url(outside.dialfire.url()),
            zendesk_line = ZENDESK_LINE,
            zendesk_url = dialer_url(outside.zendesk.url()),
            zendesk_email = made_up::ZENDESK_EMAIL,
            zendesk_token = made_up::ZENDESK_TOKEN,
        )
    }
}

/// All stand-ins, serving until the tasks are dropped: every line answers, and the callers above are known.
pub(crate) fn everything_outside(seed: u64) -> (Outside, JoinSet<()>) {
    let (outside, serve) = Outside::bind(seed).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve);
    let score = |phone, score: i64| {
        switchboard_simulator::braze::Profile::new(phone).with("lead_score", score)
    };
    outside.braze.add(score(HOT, 90));
    outside.braze.add(score(COLD, 10));
    outside
        .twilio
        .set_line("", LineBehaviour::answer(Duration::from_secs(30)));
    (outside, tasks)
}

/// The id of a call.
pub(crate) fn id(result: &CallResult) -> CallId {
    CallId::parse(&result.call_sid).unwrap()
}

/// The addresses that were dialled, in order.
pub(crate) fn dialled(result: &CallResult) -> Vec<&str> {
    result
        .dialled
        .iter()
        .map(|leg| leg.address.as_str())
        .collect()
}

fn n_handoffs(requests: &Requests) -> usize {
    requests
        .all()
        .iter()
        .filter(|request| request.method == "POST")
        .count()
}

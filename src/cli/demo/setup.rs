//! The demo's configuration: a real one, read by the real reader, in a directory of its own.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::super::frame::Global;
use crate::config::{self, Config};
use crate::http::keys::DrawnKey;
use crate::telemetry;
use switchboard_simulator::World;
use switchboard_simulator::chance::Chance;
use switchboard_simulator::made_up;
use switchboard_simulator::twilio::LineBehaviour;

/// Where the stand-in of Braze keeps the score.
pub(super) const SCORE_ATTRIBUTE: &str = "lead_score";

/// Real time per phone time: a talk of a minute takes three seconds.
const TIME_SCALE: f64 = 0.05;

/// The file of the rules, beside the configuration, so that drafts can be published.
const RULES: &str = "routing.toml";

#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) config: Config,
    /// Where it stands, to be changed and read again.
    pub(super) file: PathBuf,
    pub(super) database: PathBuf,
    /// An admin's key to the API and the dashboard.
    pub(super) key: String,
    /// What opens the dashboard once.
    pub(super) once: String,
}

impl Setup {
    pub(super) fn new(listen: SocketAddr, world: &World) -> anyhow::Result<Self> {
        let name = format!("switchboard-demo-{:016x}", Chance::fresh_seed());
        let directory = std::env::temp_dir().join(name);
        let created = std::fs::DirBuilder::new().mode(0o700).create(&directory);
        created.with_context(|| format!("cannot create {}", directory.display()))?;
        let file = directory.join("config.toml");
        let draw = || DrawnKey::draw().context("cannot draw an API key");
        let (drawn, once) = (draw()?, draw()?);
        let text = text(listen, world, &drawn.hash.to_hex());
        for (file, text) in [(&file, text), (&directory.join(RULES), rules())] {
            let mut written = std::fs::OpenOptions::new();
            let written = written.write(true).create_new(true).mode(0o600).open(file);
            written.and_then(|mut written| written.write_all(text.as_bytes()))?;
        }
        let loaded = config::load(&file).context("the demo's own configuration")?;
        let database = loaded.config.storage.path.clone();
        Ok(Self {
            config: loaded.config,
            file,
            database,
            key: drawn.key,
            once: once.key,
        })
    }

    /// Tells the stand-ins where the appliance listens, and how their lines behave.
    pub(super) fn furnish(&self, world: &World, address: SocketAddr) {
        world.connect(
            &format!("http://{address}"),
            self.config.server.public_url.as_str(),
        );
        for line in [made_up::DIALFIRE_LINE, made_up::ZENDESK_LINE] {
            world.twilio.set_line(line, busy_line());
        }
        world.twilio.set_line(
            made_up::LAST_RESORT,
            LineBehaviour::answer(Duration::from_secs(20)),
        );
    }
}

/// From now on everybody outside takes their time.
pub(super) fn slow_down(world: &World) {
    world
        .twilio
        .configure(|settings| settings.time_scale = TIME_SCALE);
    let (least, most) = (Duration::from_millis(5), Duration::from_millis(40));
    world.dialfire.faults().set_latency(least, most);
    world.zendesk.faults().set_latency(least, most);
    world
        .braze
        .faults()
        .set_latency(Duration::from_millis(20), Duration::from_millis(120));
}

/// A line as it is in a sales team: mostly answered, sometimes not.
fn busy_line() -> LineBehaviour {
    let s = Duration::from_secs;
    LineBehaviour::OneOf(vec![
        (
            0.82,
            LineBehaviour::Varied {
                ring: (s(2), s(9)),
                talk: (s(15), s(120)),
            },
        ),
        (0.07, LineBehaviour::Busy),
        (0.06, LineBehaviour::NoAnswer),
        (0.05, LineBehaviour::CallerHangsUpRinging { after: s(6) }),
    ])
}

/// Logs for a terminal that shows calls: only what somebody must act on, unless more is asked for.
pub(in super::super) fn telemetry(global: &Global) -> telemetry::Settings {
    let filter = match global.verbose {
        0 => "off",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    telemetry::Settings {
        format: telemetry::LineFormat::Text {
            colors: global.colors(),
        },
        filter: filter.to_owned(),
        directory: None,
    }
}

fn rules() -> String {
    let last_resort = made_up::LAST_RESORT;
    format!(
        r#"
[routing]
default_dialer = "zendesk"
last_resort_number = "{last_resort}"
max_hold = "30s"
language = "en-US"

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
name = "hot and warm leads to the sales floor"
tier = ["hot", "warm"]
dialers = ["dialfire", "zendesk"]
"#
    )
}

fn text(listen: SocketAddr, world: &World, key_hash: &str) -> String {
    format!(
        r#"
[server]
listen = "{listen}"
public_url = "{public_url}"
edit_rules = true

[storage]
path = "switchboard.db"
spool_mib = 4
ballast_mib = 4

[twilio]
account_sid = "{account_sid}"
auth_token = "{auth_token}"
api_base = "{twilio_url}"

[braze]
base_url = "{braze_url}"
api_key = "{braze_key}"
score_attribute = "{SCORE_ATTRIBUTE}"
requests_per_minute = 24000

[routing]
file = "{RULES}"

[dialers.dialfire]
kind = "dialfire"
connect = "{dialfire_line}"
campaign = "{campaign}"
task = "{task}"
token = "{campaign_token}"
tenant = "{tenant}"
tenant_token = "{tenant_token}"
base_url = "{dialfire_url}"
probe_every = "2s"
open_for = "5s"

[dialers.zendesk]
kind = "zendesk_talk"
connect = "{zendesk_line}"
base_url = "{zendesk_url}"
email = "{zendesk_email}"
token = "{zendesk_token}"
probe_every = "2s"
open_for = "5s"

[alerts.email]
to = ["ops@example.com"]
from = "switchboard@example.com"
smtp = "smtp://{mail_server}"

[[auth.keys]]
name = "demo"
role = "admin"
hash = "{key_hash}"
"#,
        // Browsers come to the listener itself, and not encrypted.
        public_url = match listen.port() {
            0 => "http://localhost".to_owned(),
            _ => format!("http://{listen}"),
        },
        account_sid = made_up::ACCOUNT_SID,
        auth_token = made_up::AUTH_TOKEN,
        twilio_url = world.twilio.url(),
        braze_url = world.braze.url(),
        braze_key = made_up::BRAZE_KEY,
        dialfire_line = made_up::DIALFIRE_LINE,
        campaign = made_up::CAMPAIGN,
        task = made_up::TASK,
        campaign_token = made_up::CAMPAIGN_TOKEN,
        tenant = made_up::TENANT,
        tenant_token = made_up::TENANT_TOKEN,
        dialfire_url = world.dialfire.url(),
        zendesk_line = made_up::ZENDESK_LINE,
        zendesk_url = world.zendesk.url(),
        zendesk_email = made_up::ZENDESK_EMAIL,
        zendesk_token = made_up::ZENDESK_TOKEN,
        mail_server = world.smtp.address(),
    )
}

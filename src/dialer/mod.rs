//! The platforms that take calls: one adapter for each kind, one client beneath them, and the state of all of them.
//!
//! An adapter knows which requests make a handoff and how to read the answers; it sends each once. Whether to send again is
//! decided by [`crate::handoff::Run`], whether to send at all by [`Fleet`]. Everything handed out for the record is redacted where it is made:
//! a body is written twice, once with the caller's number and once without.

mod adapter;
mod attempt;
mod client;
mod dialfire;
mod fleet;
mod health;
mod http;
mod sent_flag;
mod settings;
#[cfg(test)]
pub(crate) mod stand_in;
mod template;
#[cfg(test)]
mod tests;
mod zendesk_talk;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::audit::Fingerprint;
use crate::clock::Clock;
use crate::config::section::Section;
use crate::handoff::{Outcome, Repeat};
use crate::outbound::Connections;
use crate::routing::DialerId;
use crate::twiml::Connect;

use adapter::Adapter;
use client::Link;
use health::TEST_TIMEOUT;

pub use crate::audit::Drained;
pub use adapter::{Api, SettingValue};
pub use attempt::{HandedOff, HandoffPayload};
pub use client::names_caller;
pub use fleet::{DialerStatus, Fleet, HealthChange, PROBE_TIMEOUT, ProbeTurn};
pub use health::{DialerCheck, Probe, ProbeHealth, TestReport};
pub use settings::InvalidSettings;

/// Reads what a section of the configuration holds beside the keys that every dialer has.
pub(crate) type ReadSection = fn(&mut Section<'_>) -> Option<Api>;

/// Every kind: its name, as under `kind`, and how its section is read.
pub(crate) const KINDS: [(&str, ReadSection); 3] = [
    (dialfire::KIND, dialfire::read),
    (zendesk_talk::KIND, zendesk_talk::read),
    (http::KIND, http::read),
];

/// `[dialers.*]`: one platform with agents that can take a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialerSettings {
    /// Its key under `[dialers]`, 1 to 32 of `A-Z a-z 0-9 _ -`.
    pub id: DialerId,
    /// Where its inbound line rings.
    pub connect: Connect,
    /// How long one handoff attempt may take; 50 ms to 10 s. Default: 700 ms.
    pub timeout: Duration,
    /// How often its health is probed; 1 s to 1 h. Default: 15 s.
    pub probe_every: Duration,
    /// How long its circuit breaker stays open before it lets one probe pass; 1 s to 1 h. Default: 15 s.
    pub open_for: Duration,
    /// Which API, and how to reach it.
    pub api: Api,
}

/// One configured dialer. Cheap to clone.
#[derive(Clone)]
pub struct Dialer(Arc<DialerInner>);

struct DialerInner {
    settings: DialerSettings,
    link: Link,
    adapter: Box<dyn Adapter>,
    fingerprint: Fingerprint,
}

impl Dialer {
    /// Makes a dialer from its settings. `connections` must not follow redirects; `reference_key` keys the pseudonyms under
    /// which callers are known at a dialer, so that it has to stay the same for good; `installation_secret` keys the fingerprint of the
    /// credentials.
    pub fn new(
        settings: DialerSettings,
        connections: Connections,
        clock: Clock,
        reference_key: &[u8],
        installation_secret: &[u8],
    ) -> Result<Self, InvalidSettings> {
        let adapter = settings.api.section().adapter(reference_key)?;
        let link = Link::new(connections, clock, settings.id.as_str());
        let fingerprint =
            Fingerprint::of(installation_secret, settings.api.section().credentials());
        Ok(Self(Arc::new(DialerInner {
            settings,
            link,
            adapter,
            fingerprint,
        })))
    }

    pub fn id(&self) -> &DialerId {
        &self.0.settings.id
    }

    pub fn connect(&self) -> &Connect {
        &self.0.settings.connect
    }

    /// The longest one attempt may take.
    pub fn timeout(&self) -> Duration {
        self.0.settings.timeout
    }

    /// How often it is probed.
    pub fn probe_every(&self) -> Duration {
        self.0.settings.probe_every
    }

    /// Which credential its handoffs use, and under which keys of the configuration it stands.
    pub fn credential(&self) -> String {
        self.0.adapter.credential(self.id())
    }

    pub fn kind(&self) -> &'static str {
        self.0.settings.api.kind()
    }

    /// When a request to it may be repeated.
    pub fn repeat(&self) -> Repeat {
        self.0.adapter.repeat()
    }

    /// Headers for a SIP leg that tie it to the handoff which the dialer calls `reference`.
    pub fn sip_headers(&self, reference: Option<&str>) -> Vec<(&'static str, String)> {
        reference.map_or_else(Vec::new, |reference| self.0.adapter.sip_headers(reference))
    }

    /// Tells the dialer about a call, once. All requests of the attempt together end within `timeout`, answer bodies included.
    pub async fn hand_off(&self, payload: &HandoffPayload, timeout: Duration) -> HandedOff {
        let link = &self.0.link;
        let started = link.now();
        let deadline = started + timeout;
        let handed = self.0.adapter.hand_off(link, payload, deadline).await;
        self.measure(&handed.outcome, link.now().duration_since(started));
        handed
    }

    /// Asks the dialer how it is, without side effects.
    pub async fn probe(&self, timeout: Duration) -> Probe {
        let link = &self.0.link;
        self.0.adapter.probe(link, link.now() + timeout).await
    }

    /// Whether [`Dialer::try_credentials`] can find out whether the credentials of handoffs are accepted.
    pub fn probes_credentials(&self) -> bool {
        self.0.adapter.probes_credentials()
    }

    /// Asks with the credentials of handoffs, and once.
    pub async fn try_credentials(&self, timeout: Duration) -> Probe {
        let link = &self.0.link;
        let deadline = link.now() + timeout;
        self.0.adapter.try_credentials(link, deadline).await
    }

    /// Tests the dialer for a person: no call is placed and nothing is written.
    pub async fn test(&self) -> TestReport {
        let (checks, probe) = self.0.adapter.test(&self.0.link, TEST_TIMEOUT).await;
        TestReport::new(self.id().clone(), self.timeout(), checks, &probe)
    }

    fn measure(&self, outcome: &Outcome, elapsed: Duration) {
        let dialer = self.id().as_str().to_owned();
        let word = match outcome {
            Outcome::Accepted { .. } => "accepted",
            Outcome::Refused { .. } => "refused",
            Outcome::Retryable { .. } => "retryable",
            Outcome::Unknown { .. } => "unknown",
        };
        metrics::counter!("switchboard_handoff_total", "dialer" => dialer.clone(), "outcome" => word)
            .increment(1);
        metrics::histogram!("switchboard_handoff_seconds", "dialer" => dialer)
            .record(elapsed.as_secs_f64());
    }

    /// What the wall clock shows at an instant of its clock.
    pub fn time_of(&self, instant: Instant) -> Timestamp {
        self.clock().time_of(instant)
    }

    fn clock(&self) -> &Clock {
        self.0.link.clock()
    }

    /// Tells its credentials from others, to whoever has another secret of the installation.
    pub fn fingerprint_under(&self, installation_secret: &[u8]) -> Fingerprint {
        let credentials = self.0.settings.api.section().credentials();
        Fingerprint::of(installation_secret, credentials)
    }

    /// Tells its credentials from others.
    fn fingerprint(&self) -> &Fingerprint {
        &self.0.fingerprint
    }

    fn fails_where_rejected(&self) -> bool {
        self.0.adapter.fails_where_rejected()
    }

    fn settings(&self) -> &DialerSettings {
        &self.0.settings
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialer({}, {})", self.id(), self.kind())
    }
}

//! The platforms that take calls: one adapter for each kind, one client beneath them, and the state of all of them.
//!
//! An adapter knows which requests make a handoff and how to read the answers; it sends each once. Whether to send again is
//! decided by [`crate::handoff::Run`], whether to send at all by [`Fleet`]. Everything handed out for the record is redacted where it is made:
//! a body is written twice, once with the caller's number and once without.

mod adapter;
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

use crate::audit::{Exchange, Fingerprint};
use crate::call::CallId;
use crate::clock::Clock;
use crate::config::section::Section;
use crate::handoff::{Outcome, Repeat};
use crate::lead::{LeadScore, TierName};
use crate::outbound::Connections;
use crate::phone::Caller;
use crate::routing::DialerId;
use crate::twiml::Connect;

use adapter::Adapter;
use client::Link;

pub use crate::audit::Drained;
pub use adapter::{Api, SettingValue};
pub use client::names_caller;
pub use fleet::{DialerStatus, Fleet, HealthChange, PROBE_TIMEOUT, ProbeTurn};
pub use health::{DialerCheck, Probe, ProbeHealth, TestReport};
pub use settings::{DialerSettings, InvalidSettings};

/// Reads what a section of the configuration holds beside the keys that every dialer has.
pub(crate) type ReadSection = fn(&mut Section<'_>) -> Option<Api>;

/// Every kind: its name, as under `kind`, and how its section is read.
pub(crate) const KINDS: [(&str, ReadSection); 3] = [
    (dialfire::KIND, dialfire::read),
    (zendesk_talk::KIND, zendesk_talk::read),
    (http::KIND, http::read),
];

/// What a dialer is told about a call.
#[derive(Clone, Debug)]
pub struct HandoffPayload {
    pub call_id: CallId,
    /// The request that brought the call; the same for every attempt.
    pub request_id: String,
    pub caller: Caller,
    /// The number of ours that was called.
    pub called: Option<String>,
    pub tier: Option<TierName>,
    pub score: Option<LeadScore>,
    /// Whether the caller is of the highest tier.
    pub urgent: bool,
    /// 1, or 2 for the retry. Never part of a request: a repeat has to be the same bytes.
    pub attempt: u8,
}

/// What became of one attempt to hand a call off.
#[derive(Clone, Debug)]
pub struct HandedOff {
    /// What the dialer made of it.
    pub outcome: Outcome,
    /// Every request of the attempt, redacted.
    pub exchanges: Vec<Exchange>,
}

impl HandedOff {
    /// The outcome as it may be recorded.
    pub fn recorded_outcome(&self, caller: &Caller) -> Outcome {
        match &self.outcome {
            Outcome::Accepted {
                reference: Some(id),
            } => Outcome::Accepted {
                reference: Some(client::masked_reference(id, caller)),
            },
            other @ (Outcome::Accepted { .. }
            | Outcome::Refused { .. }
            | Outcome::Retryable { .. }
            | Outcome::Unknown { .. }) => other.clone(),
        }
    }

    /// An attempt that sent nothing.
    pub fn not_sent(outcome: Outcome) -> Self {
        Self {
            outcome,
            exchanges: Vec::new(),
        }
    }
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
    /// Makes a dialer from its settings. `connections` must not follow redirects; `installation_secret` keys the pseudonyms under
    /// which callers are known at a dialer, so that it has to stay the same over restarts.
    pub fn new(
        settings: DialerSettings,
        connections: Connections,
        clock: Clock,
        installation_secret: &[u8],
    ) -> Result<Self, InvalidSettings> {
        let adapter = settings.api.section().adapter(installation_secret)?;
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

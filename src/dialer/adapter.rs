//! What a kind of dialer has to be able to do. A new kind is a file beside this one and a line in [`super::KINDS`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::attempt::{HandedOff, HandoffPayload};
use super::client::Link;
use super::health::{DialerCheck, Probe};
use super::settings::InvalidSettings;
use crate::handoff::Repeat;
use crate::routing::DialerId;
use crate::secret::Secret;

/// The part of `[dialers.*]` that only one kind has.
pub(super) trait AdapterSection: Send + Sync {
    fn kind(&self) -> &'static str;

    /// See [`Api::entries`].
    fn entries(&self) -> Vec<(String, SettingValue)>;

    /// Where requests go and what they authenticate with, in a fixed order.
    fn credentials(&self) -> Vec<&str>;

    /// See [`Api::at`].
    fn at(&self, base: &str, secret: &Secret) -> Api;

    /// The adapter. `secret` keys the pseudonyms of callers, for good.
    fn adapter(&self, secret: &[u8]) -> Result<Box<dyn Adapter>, InvalidSettings>;
}

/// The value of a key, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingValue {
    Plain(String),
    /// An address, whose query may hold a secret.
    Address(String),
    Secret(Secret),
}

/// The API of a dialer as it is configured. Its `Debug` output says no more than the kind.
#[derive(Clone)]
pub struct Api(Arc<dyn AdapterSection>);

impl Api {
    pub(super) fn new(section: impl AdapterSection + 'static) -> Self {
        Self(Arc::new(section))
    }

    pub(super) fn section(&self) -> &dyn AdapterSection {
        &*self.0
    }

    pub fn kind(&self) -> &'static str {
        self.0.kind()
    }

    /// The same API at a stand-in: every request goes to `base`, and `secret` stands for every secret.
    #[must_use]
    pub fn at(&self, base: &str, secret: &Secret) -> Self {
        self.0.at(base, secret)
    }

    /// Every key of its own that has a value, in the order of the documentation.
    pub fn entries(&self) -> Vec<(String, SettingValue)> {
        self.0.entries()
    }
}

impl PartialEq for Api {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.entries() == other.entries()
    }
}

impl Eq for Api {}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Api({})", self.kind())
    }
}

/// Talks to one dialer: knows which requests make a handoff and how to read the answers, and sends each once.
#[async_trait]
pub(super) trait Adapter: Send + Sync {
    /// Which credential handoffs use, and under which keys of the configuration it stands.
    fn credential(&self, dialer: &DialerId) -> String;

    /// When a request may be repeated.
    fn repeat(&self) -> Repeat {
        Repeat::Idempotent
    }

    /// Headers for a SIP leg that tie it to the handoff which the dialer calls `reference`.
    fn sip_headers(&self, _reference: &str) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    async fn hand_off(&self, link: &Link, payload: &HandoffPayload, deadline: Instant)
    -> HandedOff;

    /// Asks how the dialer is, without side effects.
    async fn probe(&self, link: &Link, deadline: Instant) -> Probe;

    /// Whether a probe whose request is rejected says that the dialer is not well; of an API it may be a question that it does not know.
    fn fails_where_rejected(&self) -> bool {
        false
    }

    /// Whether [`Adapter::try_credentials`] can find out whether the credentials of handoffs are accepted.
    fn probes_credentials(&self) -> bool {
        true
    }

    /// Asks with the credentials of handoffs, and once.
    async fn try_credentials(&self, link: &Link, deadline: Instant) -> Probe {
        self.probe(link, deadline).await
    }

    /// Tests the dialer for a person: no call is placed and nothing is written.
    async fn test(&self, link: &Link, timeout: Duration) -> (Vec<DialerCheck>, Probe);
}

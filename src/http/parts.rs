//! Everything the routes are made of, and how a handler gets the parts that it uses.

use std::sync::Arc;

use axum::extract::FromRef;
use ipnet::IpNet;
use metrics_exporter_prometheus::PrometheusHandle;

use super::api::{Customers, Reads, ShownSettings};
use super::demo_door::DemoDoor;
use super::event_hub::Events;
use super::keys::Keys;
use super::overload::Overload;
use super::people::People;
use super::profile_push::ProfilePush;
use super::refusals::RefusalLog;
use super::sessions::Sessions;
use super::voice::Safety;
use crate::alerts::Incidents;
use crate::clock::Clock;
use crate::dialer::Fleet;
use crate::flow::{
    Calls, Canary, Drains, Inbound, ListEntries, MadeKeys, Policies, Recorder, Reloads, Retries,
};
use crate::lifecycle::Lifecycle;
use crate::store::KeyRing;
use crate::twilio::Edge;

/// Handlers take the parts that they use, never the whole.
#[derive(Clone, Debug)]
pub struct RouterParts {
    pub clock: Clock,
    pub edge: Edge,
    pub policies: Policies,
    pub recorder: Recorder,
    pub inbound: Inbound,
    pub profile_push: ProfilePush,
    pub key_ring: KeyRing,
    /// Who may use the API.
    pub keys: Keys,
    /// Those of them that are made while the process runs.
    pub made_keys: MadeKeys,
    pub sessions: Sessions,
    /// Where people sign in besides.
    pub people: People,
    pub refusals: RefusalLog,
    /// Tells of changes as they happen.
    pub events: Events,
    /// Turns fresh calls away when there are too many.
    pub overload: Overload,
    /// Takes dialers out and puts them back.
    pub drains: Drains,
    pub retries: Retries,
    /// Puts numbers on lists of callers and takes them off.
    pub lists: ListEntries,
    /// Knows whether calls can be decided and recorded.
    pub canary: Canary,
    pub reloads: Reloads,
    pub reads: Reads,
    /// Looks numbers up for people.
    pub customers: Customers,
    /// What the configuration in force says.
    pub settings: ShownSettings,
    /// Starts work that has to end.
    pub lifecycle: Lifecycle,
    /// Serves the description of the API.
    pub docs: bool,
    /// Origins whose pages may use the API with a key.
    pub cors_origins: Arc<[String]>,
    /// Networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Renders the metrics; `None` where another part of the process owns them.
    pub metrics: Option<PrometheusHandle>,
    /// What the demo adds; `None` outside of it.
    pub demo: Option<DemoDoor>,
}

/// All parts behind one pointer, so that a request costs one reference count.
pub(super) type SharedParts = Arc<RouterParts>;

/// Lets handlers extract parts with `State`.
macro_rules! extract {
    ($($part:ty: $($field:ident).+;)*) => {
        $(impl FromRef<SharedParts> for $part {
            fn from_ref(parts: &SharedParts) -> Self {
                parts.$($field).+.clone()
            }
        })*
    };
}

extract! {
    Inbound: inbound;
    Calls: inbound.calls;
    ProfilePush: profile_push;
    Keys: keys;
    MadeKeys: made_keys;
    Overload: overload;
    Reads: reads;
    Sessions: sessions;
    Events: events;
    Lifecycle: lifecycle;
    Customers: customers;
    ShownSettings: settings;
    Policies: policies;
    Fleet: drains.fleet;
    Incidents: inbound.calls.incidents;
    Drains: drains;
    Retries: retries;
    ListEntries: lists;
    Reloads: reloads;
    Canary: canary;
    KeyRing: key_ring;
}

impl FromRef<SharedParts> for Safety {
    fn from_ref(parts: &SharedParts) -> Self {
        Self {
            edge: parts.edge.clone(),
            calls: parts.inbound.calls.clone(),
            lifecycle: parts.lifecycle.clone(),
            overload: parts.overload.clone(),
        }
    }
}

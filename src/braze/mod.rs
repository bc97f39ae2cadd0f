//! What Braze knows of a caller: one bounded question per number, answered from the cache wherever that will do.
//!
//! `lookup` is the straight line of a look-up, `single_flight` the requests under way, each of which `request` sends where
//! `admission` lets it. `client` speaks HTTP, `field_filter` and `wire` read the answer, `cache` remembers it, and `push`
//! takes the changes that Braze reports by itself.

mod admission;
mod cache;
mod client;
mod field_filter;
mod lookup;
mod push;
mod request;
mod settings;
mod single_flight;
mod wire;

#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod tests;

pub use admission::{BreakerChange, LookupStatus};
pub use cache::{CachedProfile, Stats};
pub use client::ProbeReport;
pub use lookup::{Braze, LookedUp};
pub use push::{Push, PushError, authorized};
pub use request::Spawn;
pub use settings::{BrazeSettings, SettingsError};

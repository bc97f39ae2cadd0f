//! What Braze knows of a caller: one bounded question per number, answered from the cache wherever that will do.
//!
//! `lookup` is the straight line of a look-up, `single_flight` the requests under way, `worker` sends them, `admission` decides whether Braze may be asked
//! now, `cache` holds what it said, `client` sends one request, `wire` reads the answer, and `push` takes the changes that
//! Braze reports by itself.

mod admission;
mod cache;
mod client;
mod lookup;
mod push;
mod settings;
mod sieve;
mod single_flight;
mod wire;
mod worker;

#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod tests;

pub use admission::{BreakerChange, LookupStatus};
pub use cache::{CachedProfile, Stats};
pub use client::ProbeReport;
pub use lookup::{Braze, LookedUp};
pub use push::{Push, PushError, authorized};
pub use settings::{Settings, SettingsError};

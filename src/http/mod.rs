//! The doors: everything that arrives over HTTP.

mod api;
mod assets;
mod auth;
pub mod client_address;
mod cors;
mod demo_door;
mod docs;
mod error;
mod event_feed;
mod event_hub;
pub mod keys;
mod limit;
pub mod listener;
mod overload;
mod pages;
mod parts;
mod people;
mod probes;
mod profile_push;
mod refusals;
mod router;
mod sessions;
mod sign_in;
mod voice;

pub use api::{Customers, Reads, Setting, SettingsDocument, SettingsKey, ShownSettings};
pub use demo_door::{DemoDoor, OneTimeLink};
pub use event_feed::EventSources;
pub use event_hub::Events;
pub use overload::Overload;
pub use parts::RouterParts;
pub use people::{CONFIRM_EVERY, People};
pub use probes::same_secret_question;
pub use profile_push::ProfilePush;
pub use refusals::RefusalLog;
pub use router::{document, router};
pub use sessions::{Sessions, Site};

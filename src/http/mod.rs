//! The doors: everything that arrives over HTTP.

mod api;
mod assets;
pub mod auth;
pub mod client_address;
mod cors;
mod docs;
mod error;
mod events;
mod limit;
mod openapi;
mod overload;
mod pages;
mod profile_push;
mod ready;
mod refusals;
mod router;
pub mod server;
mod sessions;
mod site;
pub mod tls;
mod voice;

pub use api::{Customers, Reads, Setting, SettingsDocument, SettingsKey, ShownSettings};
pub use events::{Events, Sources};
pub use overload::Overload;
pub use pages::{DemoDoor, OneTimeLink};
pub use profile_push::ProfilePush;
pub use refusals::Refusals;
pub use router::{Parts, document, router};
pub use sessions::Sessions;
pub use site::Site;

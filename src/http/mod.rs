//! The doors: everything that arrives over HTTP.

pub mod client_address;
pub mod server;
pub mod tls;

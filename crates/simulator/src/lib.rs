//! Stand-ins for the outside world, over real sockets: Twilio, Braze, Dialfire, Zendesk Talk, any HTTP dialer, a mail
//! server, the services that alerts are sent to, and people who call.
//!
//! They serve `switchboard demo` and the integration tests. They share nothing with the product: own signatures, own forms,
//! own reading of `TwiML`, so that one mistake cannot hide in both.
//!
//! Every stand-in is a handle that is cheap to clone, and a future that serves until it is dropped. What goes wrong is
//! scripted through [`faults`]; what was asked is kept in [`requests`] and, for dialers, in [`handoffs`].

pub mod alert_channels;
pub mod alone;
pub mod any_dialer;
pub mod braze;
pub mod callers;
pub mod chance;
mod client;
pub mod dialfire;
pub mod drill;
pub mod faults;
mod form;
pub mod handoffs;
pub mod http_dialer;
mod http_server;
pub mod identity_provider;
mod number;
mod port;
pub mod requests;
pub mod scorecard;
pub mod smtp;
#[cfg(test)]
mod testing;
pub mod twilio;
mod world;
pub mod zendesk_talk;

pub use world::{World, made_up};

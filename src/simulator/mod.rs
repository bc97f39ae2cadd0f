//! Stand-ins for the outside world.
pub mod braze;
pub mod chance;
mod client;
pub mod dialfire;
pub mod faults;
mod form;
pub mod handoffs;
pub mod http_dialer;
mod http_server;
mod port;
pub mod requests;
#[cfg(test)]
mod testing;
pub mod twilio;
pub mod zendesk_talk;

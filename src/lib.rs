//! Switchboard answers the phone for Twilio: it looks the caller up in Braze, decides which dialer takes the call, tells
//! that dialer, records why, and connects the call.
//!
//! Modules stand in reading order. The first half is the functional core: values in, values out, no clock, no I/O. The
//! second half is the shell around it. Dependencies point inwards: the shell uses the core, never the other way round,
//! and the clients (`twilio`, `braze`, `dialer`, `store`) do not know each other; they share the connections of `outbound`, and meet in `flow`.

pub mod audit;
pub mod call;
pub mod deadline;
pub mod handoff;
pub mod lead;
pub mod phone;
#[cfg(test)]
mod property;
pub mod resilience;
pub mod routing;
pub mod secret;
pub mod twiml;

pub mod admin;
pub mod alerts;
pub mod app;
pub mod braze;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dialer;
pub mod files;
pub mod flow;
pub mod http;
pub mod jobs;
pub mod lifecycle;
pub mod oidc;
pub mod outbound;
pub mod store;
pub mod telemetry;
pub mod twilio;

//! The integration tests: one binary, the outside world as a model.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

/// Says that a test was skipped, past the harness, which keeps what a test prints to itself where it passes.
fn skipped(test: &str, why: &str) {
    use std::io::Write as _;
    drop(std::io::stderr().write_all(format!("skipped: {test}: {why}\n").as_bytes()));
}

mod admin;
mod adopted;
mod alerts;
mod api;
mod assets;
mod broken_signatures;
mod browsers;
mod cli;
mod completeness;
mod deadlines;
mod disorder;
mod docs;
mod failover;
mod finding;
mod golden;
mod hold;
mod hostile;
mod inbound;
mod locked;
mod matrix;
mod overload;
mod panics;
mod people;
#[path = "../../src/property.rs"]
mod property;
mod quality;
mod ready;
mod reap;
mod recipes;
mod replay;
mod replays;
mod reports;
mod restart;
mod restored;
mod rules;
mod signature;
mod tidy;
mod versions;
mod wire;
mod world;

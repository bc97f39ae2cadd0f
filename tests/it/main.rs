//! The integration tests: one binary, the outside world as a model.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod admin;
mod alerts;
mod api;
mod assets;
mod cli;
mod deadlines;
mod disorder;
mod docs;
mod failover;
mod hold;
mod hostile;
mod inbound;
mod locked;
mod matrix;
mod overload;
mod panics;
mod ready;
mod reap;
mod replay;
mod replays;
mod reports;
mod restart;
mod restored;
mod signature;
mod tidy;
mod wire;
mod world;

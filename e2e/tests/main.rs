//! The dashboard in a real browser.

mod alerts;
mod common;
mod crowd;
mod dashboard;
mod finding;
mod quality;
mod rules;
mod truth;

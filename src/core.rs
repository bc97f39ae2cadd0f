//! The pure core by itself, as a crate root of its own: values in, values out. It builds in seconds, so that every small
//! change of it can be tried against its tests (`mutants/Cargo.toml`). The product's crate root is `lib.rs`.

/// The pure half of `alerts`; the other half is the shell around it.
pub mod alerts {
    pub mod counters;
    pub mod kinds;
    pub mod mutes;
    pub mod notification;
    pub mod policy;
    pub mod signals;
    pub mod tracker;
}
pub mod call;
pub mod deadline;
pub mod handoff;
pub mod lead;
pub mod phone;
#[cfg(test)]
mod property;
pub mod resilience;
pub mod routing;
pub mod twiml;

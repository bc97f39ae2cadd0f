//! The pure core by itself, as a crate root of its own: values in, values out. It builds in seconds, so that every small
//! change of it can be tried against its tests (`mutants/Cargo.toml`). The product's crate root is `lib.rs`.

pub mod alert;
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

//! The schema: its first version, and the steps that lead from it to later ones. A step that was released never changes; a new one is
//! added below it.
//!
//! No version was released, so that there is no step: `schema.sql` is version 1 and is edited in place. With the first step, version 1
//! becomes a file of its own, and `schema.sql` stays what all of them add up to.

/// The first version, as a whole.
pub(super) const FIRST: MigrationStep = MigrationStep {
    version: 1,
    name: "the whole schema",
    up: include_str!("../../schema.sql"),
    down: "",
};

/// One step of the schema, there and back.
pub(super) struct MigrationStep {
    /// The version that the step leads to; `up` starts from the one before.
    pub(super) version: u32,
    /// What it does, in words.
    pub(super) name: &'static str,
    /// From the version before to this one.
    pub(super) up: &'static str,
    /// Back again; what the step added is lost. Empty for the first: the way back from there takes everything.
    pub(super) down: &'static str,
}

/// Every step after the first version, in order.
pub(super) const STEPS: &[MigrationStep] = &[];

/// The newest schema version that this program knows.
pub(super) fn latest(steps: &[MigrationStep]) -> u32 {
    steps.last().unwrap_or(&FIRST).version
}

//! What somebody has to be told of: incidents and their lives. Values in, values out.

mod incident;

pub use incident::{Incident, IncidentKind, Opened, Resolved};

//! What somebody has to be told of: incidents and their lives. Values in, values out.
//!
//! `traffic` counts what calls came to, `signs` says what is bad of it and of everything else, and the `board` decides from these findings
//! which incidents open, are reminded of and are resolved. What comes out is a `notice`. A `summary` tells of a day, which ends at the time that
//! `daily` says.

mod board;
mod daily;
mod kind;
mod notice;
mod signs;
mod summary;
mod tally;
mod traffic;

pub use board::{Board, Finding, IncidentStatus, Moment, Symptom, Topic};
pub use daily::{Daily, Day};
pub use kind::{IncidentKind, Severity};
pub use notice::{CALLS_NAMED, Channel, Notice, Occasion, Recipient, Tested};
pub use signs::{DiskRoom, Rules, Signs, findings, length};
pub use summary::{ChangeLine, DayShare, IncidentLine, LINES, Percentiles, Summary};
pub use tally::{Failure, Share, Tally};
pub use traffic::Traffic;

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::{Duration, Instant};

    use crate::call::CallId;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    /// A second of the tests' own time.
    pub(super) fn instant(second: u64) -> Instant {
        *START + Duration::from_secs(second)
    }

    /// A call by its number.
    pub(super) fn call(n: u64) -> CallId {
        CallId::parse(&format!("CA{n:032}")).unwrap()
    }
}

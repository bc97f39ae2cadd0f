//! What is known of how a call went, and how it counts for it.
//!
//! Reports arrive late, twice, in any order, or never. Taking one in only adds to what is known: it commutes with every other and its repeat
//! changes nothing, so that the disposition is a function of what was reported and not of when.

use serde::{Deserialize, Serialize};
use strum::VariantArray as _;

use super::{DialReport, Disposition, EndReason};

/// How far the conversation with a party has come, as far as it was reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Talk {
    #[default]
    None,
    Began,
    /// Somebody picked up, and it is over.
    Over,
}

/// How a call of the JSON door ended, as its asker reports.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum ReportedOutcome {
    /// Caller and agent talked.
    Answered,
    /// Nobody answered in time.
    NoAnswer,
    /// The line was busy.
    Busy,
    /// It could not be connected.
    Failed,
    /// The caller left first.
    Abandoned,
}

impl ReportedOutcome {
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The stable name, as in the API.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    fn counts_as(self, rang_last_resort: bool) -> Disposition {
        match self {
            Self::Answered | Self::Abandoned if rang_last_resort => Disposition::LastResort,
            Self::NoAnswer | Self::Busy if rang_last_resort => Disposition::Failed,
            Self::Answered => Disposition::Answered,
            Self::NoAnswer => Disposition::NoAnswer,
            Self::Busy => Disposition::Busy,
            Self::Failed => Disposition::Failed,
            Self::Abandoned => Disposition::Abandoned,
        }
    }
}

/// Everything that was reported of a call and bears on how it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Reports {
    /// The furthest that any dialer's line got.
    pub(super) dialer: Talk,
    last_resort: Talk,
    /// The last dial has ended.
    dial_over: bool,
    /// The last resort did not answer while the caller was there.
    last_resort_missed: bool,
    /// The caller's own leg has ended.
    caller_gone: bool,
    /// The service ended the call itself, and it counts so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) closed: Option<Disposition>,
    /// What the client of the Calls API reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<ReportedOutcome>,
}

impl Reports {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the shape that serde asks for"
    )]
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What the client of the Calls API reported, or was answered: that no dialer takes the call.
    pub(super) fn outcome(self) -> Option<ReportedOutcome> {
        let nobody = self.closed.map(|_| ReportedOutcome::Failed);
        self.outcome.or(nobody)
    }

    /// Another line starts to ring.
    pub(super) fn dialing(self) -> Self {
        Self {
            dial_over: false,
            ..self
        }
    }

    pub(super) fn talked(self, is_last_resort: bool, talk: Talk) -> Self {
        let further =
            |known: Talk, concerned: bool| if concerned { known.max(talk) } else { known };
        Self {
            dialer: further(self.dialer, !is_last_resort),
            last_resort: further(self.last_resort, is_last_resort),
            ..self
        }
    }

    pub(super) fn dial_ended(self, is_last_resort: bool, report: &DialReport) -> Self {
        let caller_gone = report.caller_gone || report.end == EndReason::Canceled;
        let known = if report.end == EndReason::Completed {
            self.talked(is_last_resort, Talk::Over)
        } else {
            self
        };
        let is_missed = is_last_resort && !caller_gone && report.end != EndReason::Completed;
        Self {
            dial_over: true,
            last_resort_missed: known.last_resort_missed || is_missed,
            caller_gone: known.caller_gone || caller_gone,
            ..known
        }
    }

    pub(super) fn caller_gone(self) -> Self {
        Self {
            caller_gone: true,
            ..self
        }
    }

    /// The first end that the service gave a call stands.
    pub(super) fn closed(self, disposition: Disposition) -> Self {
        Self {
            closed: self.closed.or(Some(disposition)),
            ..self
        }
    }

    /// The first outcome that a client reports stands.
    pub(super) fn with_outcome(self, outcome: ReportedOutcome) -> Self {
        Self {
            outcome: self.outcome.or(Some(outcome)),
            ..self
        }
    }

    /// How a call counts that is over, by all that is known of it.
    pub(super) fn disposition(self, rang_last_resort: bool) -> Disposition {
        if let Some(outcome) = self.outcome {
            return outcome.counts_as(rang_last_resort);
        }
        if self.closed == Some(Disposition::Closed) {
            return Disposition::Closed;
        }
        let is_over = self.dial_over || self.caller_gone || self.closed.is_some();
        let agent_talked = match self.dialer {
            Talk::Over => true,
            Talk::Began => is_over || rang_last_resort,
            Talk::None => false,
        };
        if rang_last_resort && self.last_resort > Talk::None {
            return Disposition::LastResort;
        }
        if agent_talked {
            return Disposition::Answered;
        }
        match (rang_last_resort, self.closed) {
            (true, _) if self.last_resort_missed => Disposition::Failed,
            (true, _) => Disposition::LastResort,
            (false, Some(closed)) => closed,
            (false, None) if self.caller_gone => Disposition::Abandoned,
            (false, None) => Disposition::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_dial_is_not_over_and_what_was_reported_before_stays() {
        let talked = Reports::default().talked(false, Talk::Began);
        assert!(Reports::default().is_empty() && !talked.is_empty());
        let over = Reports {
            dial_over: true,
            ..talked
        };
        assert_eq!(over.dialing(), talked);
    }
}

//! Where a call stands, and how it counts in the end: two closed lists, stable in exports.

use serde::{Deserialize, Serialize};
use strum::VariantArray as _;

/// Where a call stands.
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
pub enum Status {
    /// Being looked up, decided and handed off.
    Routing,
    /// Waiting for a dialer.
    Held,
    /// A dialer's or the last-resort line is ringing.
    Dialing,
    /// Caller and agent can talk.
    Bridged,
    /// Over.
    Ended,
}

impl Status {
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The stable name, as in the API and in exports.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// How an ended call counts.
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
pub enum Disposition {
    /// An agent talked to the caller.
    Answered,
    /// The caller left first.
    Abandoned,
    /// The last leg was not answered, and there is no last resort.
    NoAnswer,
    /// The last leg was busy, and there is no last resort.
    Busy,
    /// No dialer and no last resort reached.
    Failed,
    /// The caller was put through to the last-resort number.
    LastResort,
    /// The goodbye message was spoken.
    Goodbye,
    /// Its end was never reported.
    Unknown,
    /// It came outside opening hours, and the caller was told so or put through to a number for that.
    Closed,
    /// A rule refused it.
    Rejected,
}

impl Disposition {
    /// All of them, in the order of the list.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The stable name, as in the API and in exports.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Whether the call counts as a routing failure: it reached no dialer.
    pub fn is_routing_failure(self) -> bool {
        match self {
            Self::NoAnswer | Self::Busy | Self::Failed | Self::LastResort | Self::Goodbye => true,
            Self::Answered | Self::Abandoned | Self::Unknown | Self::Closed | Self::Rejected => {
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::call::{CarrierAnswer, EndReason, ReportedOutcome};

    #[test]
    fn names_are_those_of_the_json() {
        let statuses = [
            Status::Routing,
            Status::Held,
            Status::Dialing,
            Status::Bridged,
            Status::Ended,
        ];
        for status in statuses {
            assert_eq!(json!(status), status.as_str());
        }
        for disposition in Disposition::ALL {
            assert_eq!(json!(disposition), disposition.as_str());
        }
        for outcome in ReportedOutcome::ALL {
            assert_eq!(json!(outcome), outcome.as_str());
        }
        for end in [EndReason::Completed, EndReason::NoAnswer] {
            assert_eq!(json!(end), end.as_str());
        }
        for found in [CarrierAnswer::NotFound, CarrierAnswer::Unasked] {
            assert_eq!(json!(found)["is"], found.as_str());
        }
    }

    #[test]
    fn a_call_that_reached_no_dialer_counts_as_a_routing_failure() {
        let failures: Vec<&str> = Disposition::ALL
            .iter()
            .filter(|end| end.is_routing_failure())
            .map(|end| end.as_str())
            .collect();
        assert_eq!(
            failures,
            ["no_answer", "busy", "failed", "last_resort", "goodbye"]
        );
    }
}

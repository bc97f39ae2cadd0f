//! Where a call stands, and how it counts in the end: two closed lists, stable in exports.

use serde::{Deserialize, Serialize};

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
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
    /// The stable name, as in the API and in exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Routing => "routing",
            Self::Held => "held",
            Self::Dialing => "dialing",
            Self::Bridged => "bridged",
            Self::Ended => "ended",
        }
    }
}

/// How an ended call counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
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
}

impl Disposition {
    /// All of them, in the order of the list.
    pub const ALL: [Self; 8] = [
        Self::Answered,
        Self::Abandoned,
        Self::NoAnswer,
        Self::Busy,
        Self::Failed,
        Self::LastResort,
        Self::Goodbye,
        Self::Unknown,
    ];

    /// The stable name, as in the API and in exports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Abandoned => "abandoned",
            Self::NoAnswer => "no_answer",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::LastResort => "last_resort",
            Self::Goodbye => "goodbye",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the call counts as a routing failure: it reached no dialer.
    pub fn is_routing_failure(self) -> bool {
        match self {
            Self::NoAnswer | Self::Busy | Self::Failed | Self::LastResort | Self::Goodbye => true,
            Self::Answered | Self::Abandoned | Self::Unknown => false,
        }
    }
}

//! What the carrier says of a call whose end was never reported.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::EndReason;

/// What is known in the end of such a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case", tag = "is")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum CarrierAnswer {
    /// The carrier says that the caller's leg has ended.
    Ended {
        end: EndReason,
        /// How long the leg lasted, in seconds: waiting, ringing and talking together.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration_s: Option<u32>,
        /// When, where the carrier says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
    },
    /// The carrier has no such call.
    NotFound,
    /// The carrier could not be asked for longer than a call may last.
    Unasked,
}

impl CarrierAnswer {
    /// The stable name, as in metrics.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

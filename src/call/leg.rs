//! Call legs as the carrier reports them.

use serde::{Deserialize, Serialize};

use super::CallId;
use crate::routing::DialerId;

/// How a leg ended, as the carrier says.
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
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum EndReason {
    /// Answered, and hung up.
    Completed,
    /// The line was busy.
    Busy,
    /// Nobody answered in time.
    NoAnswer,
    /// It could not be connected.
    Failed,
    /// Taken back before it was answered.
    Canceled,
}

impl EndReason {
    /// The stable name, as in exports.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// Stands for the last-resort number where the names of dialers stand; no dialer may have this name.
pub const LAST_RESORT: &str = "last_resort";

/// Stands for the number of a rule, or that of closed hours, where the names of dialers stand; no dialer may have this name.
pub const RULE_NUMBER: &str = "rule_number";

/// How far a leg has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegStatus {
    Initiated,
    Ringing,
    Answered,
    Ended(EndReason),
}

/// What a `<Dial>` action request says: the dial has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialReport {
    /// Which dial of the call, counted from 1; from the signed query of the action URL.
    pub step: u32,
    /// The dialer that was dialled, likewise; `None` for the last resort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialer: Option<DialerId>,
    pub end: EndReason,
    /// The child leg, where the carrier names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leg: Option<CallId>,
    /// Talk time in seconds, where there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<u32>,
    /// The final SIP answer, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
    /// The caller has hung up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub caller_gone: bool,
}

/// What a status callback says of a leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegReport {
    /// The leg. Equal to the call itself for the caller's own leg.
    pub leg: CallId,
    /// The caller's leg, where this is a child of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<CallId>,
    /// Which dial of the call made this leg; from the signed query of the callback URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
    /// The dialer that was dialled, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialer: Option<DialerId>,
    /// How far it has come.
    pub status: LegStatus,
    /// The carrier's count of events of this leg, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u32>,
    /// Duration in seconds, on the last event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<u32>,
    /// The final SIP answer, on the last event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_code: Option<u16>,
}

impl LegReport {
    /// Whether this is a leg that the dial of the last resort made: one of ours that names no dialer.
    pub fn is_last_resort(&self) -> bool {
        self.parent.is_some() && self.step.is_some() && self.dialer.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leg_of_a_dial_that_names_no_dialer_is_the_last_resorts() {
        let leg = |parent: bool, step: Option<u32>, dialer: Option<&str>| LegReport {
            leg: CallId::parse("CA00000000000000000000000000000002").unwrap(),
            parent: parent.then(|| CallId::parse("CA00000000000000000000000000000001").unwrap()),
            step,
            dialer: dialer.map(DialerId::new),
            status: LegStatus::Ringing,
            sequence: None,
            duration_s: None,
            sip_code: None,
        };
        assert!(leg(true, Some(2), None).is_last_resort());
        assert!(!leg(true, Some(2), Some("dialfire")).is_last_resort());
        assert!(!leg(true, None, None).is_last_resort());
        assert!(!leg(false, Some(2), None).is_last_resort());
    }
}

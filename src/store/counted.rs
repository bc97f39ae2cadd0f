//! What a call adds to the figures of the time in which it arrived.

use crate::call::Disposition;
use crate::routing::Reason;

pub(super) const MINUTE_MS: i64 = 60_000;
pub(super) const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Why a call failed that went well, but late.
const OVERRAN: &str = "over_budget";

/// What a row of `calls` adds to its minute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "columns of a row")]
pub(super) struct Counted {
    pub(super) disposition: Option<String>,
    pub(super) reason: String,
    pub(super) tier: Option<String>,
    pub(super) dialer: Option<String>,
    pub(super) failed_over: bool,
    pub(super) held: bool,
    pub(super) overran: bool,
    /// The last-resort number rings, or somebody there talks.
    pub(super) at_last_resort: bool,
    pub(super) rule: Option<String>,
    /// The number that was called, by its row.
    pub(super) called_id: Option<i64>,
    pub(super) answered_at: Option<i64>,
    pub(super) ended_at: Option<i64>,
}

impl Counted {
    /// Why the call is a routing failure; `None` where it is none, or not yet.
    pub(super) fn failure(&self) -> Option<&'static str> {
        let ended = self.disposition.as_deref();
        let ended = ended.and_then(super::column::word::<Disposition>);
        let ended = ended.filter(|disposition| disposition.is_routing_failure());
        let at_last_resort = self.at_last_resort.then_some(Disposition::LastResort);
        let Some(how) = ended.or(at_last_resort).map(Disposition::as_str) else {
            return self.overran.then_some(OVERRAN);
        };
        let reason = super::column::word::<Reason>(&self.reason);
        Some(reason.map_or(how, |reason| reason.of_failure(how)))
    }

    /// The rule, in the words of filters.
    pub(super) fn rule_name(&self) -> String {
        self.rule.clone().unwrap_or_else(|| "(default)".to_owned())
    }

    pub(super) fn is_answered(&self) -> bool {
        self.disposition.as_deref() == Some(Disposition::Answered.as_str())
    }
}

//! Whether a dialer may take a call now, and if not, why.

use super::{Availability, BreakerView, DialerId, DialerView, SkipReason};

/// Why a dialer cannot take a call now: the reason, the detail, and what would have to change.
pub(super) struct Ineligible {
    pub(super) reason: SkipReason,
    pub(super) detail: String,
    pub(super) change: &'static str,
}

/// Those of `dialers` that may take a call now, in the same order.
pub fn eligible(dialers: Vec<DialerId>, views: &[DialerView]) -> Vec<DialerId> {
    let out = |dialer: &DialerId| {
        views
            .iter()
            .any(|view| view.dialer == *dialer && ineligible(view).is_some())
    };
    dialers.into_iter().filter(|dialer| !out(dialer)).collect()
}

/// `None` where the dialer may take the call.
pub(super) fn ineligible(view: &DialerView) -> Option<Ineligible> {
    if view.drained {
        return Some(Ineligible {
            reason: SkipReason::Drained,
            detail: "taken out by hand".to_owned(),
            change: "resume it",
        });
    }
    if view.breaker == BreakerView::Open {
        return Some(Ineligible {
            reason: SkipReason::BreakerOpen,
            detail: "its requests fail".to_owned(),
            change: "its next probe succeeds",
        });
    }
    match &view.availability {
        Availability::Unavailable { why } => Some(Ineligible {
            reason: SkipReason::Unavailable,
            detail: why.clone(),
            change: "it reports that it can take calls",
        }),
        Availability::Available | Availability::Unknown => None,
    }
}

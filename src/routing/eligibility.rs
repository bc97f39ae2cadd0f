//! Whether a dialer may take a call now, and if not, why.

use super::{Availability, BreakerView, DialerId, DialerView, SkipReason};

/// What a dialer can take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    Nothing,
    OneTrial,
    Calls,
}

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
    if view.breaker == BreakerView::Open && !view.line_only {
        return Some(Ineligible {
            reason: SkipReason::BreakerOpen,
            detail: "its requests fail".to_owned(),
            change: "its next probe succeeds",
        });
    }
    if let Availability::Unavailable { why } = &view.availability {
        return Some(Ineligible {
            reason: SkipReason::Unavailable,
            detail: why.clone(),
            change: "it reports that it can take calls",
        });
    }
    view.callers_first.map(|n| Ineligible {
        reason: SkipReason::CallersFirst,
        detail: format!("it has just recovered; {n} who wait for it come first"),
        change: "their turn is over",
    })
}

/// What the dialer itself can take now, whoever calls.
pub fn intake(view: &DialerView) -> Intake {
    let anybody = DialerView {
        callers_first: None,
        ..view.clone()
    };
    match (ineligible(&anybody), view.breaker) {
        (Some(_), _) => Intake::Nothing,
        (None, BreakerView::HalfOpen) if !view.line_only => Intake::OneTrial,
        (None, _) => Intake::Calls,
    }
}

/// Why a dialer cannot take a call now, in words; `None` where it can.
pub fn why_not(view: &DialerView) -> Option<String> {
    let no = ineligible(view)?;
    let reason = no.reason.as_str().replace('_', " ");
    Some(format!("{reason} ({})", no.detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(breaker: BreakerView) -> DialerView {
        DialerView {
            dialer: DialerId::new("first"),
            drained: false,
            breaker,
            availability: Availability::Unknown,
            callers_first: None,
            line_only: false,
        }
    }

    #[test]
    fn a_half_open_dialer_takes_one_trial_and_others_all_calls_or_none() {
        assert_eq!(intake(&view(BreakerView::Closed)), Intake::Calls);
        assert_eq!(intake(&view(BreakerView::HalfOpen)), Intake::OneTrial);
        assert_eq!(intake(&view(BreakerView::Open)), Intake::Nothing);
        let unavailable = DialerView {
            availability: Availability::Unavailable { why: String::new() },
            ..view(BreakerView::Closed)
        };
        assert_eq!(intake(&unavailable), Intake::Nothing);
        let waited_for = DialerView {
            callers_first: Some(3),
            ..view(BreakerView::HalfOpen)
        };
        assert_eq!(intake(&waited_for), Intake::OneTrial);
    }

    #[test]
    fn a_dialer_that_limits_our_requests_takes_calls_by_its_line() {
        for breaker in [BreakerView::Open, BreakerView::HalfOpen] {
            let limits = DialerView {
                line_only: true,
                ..view(breaker)
            };
            assert_eq!(intake(&limits), Intake::Calls, "{breaker:?}");
            assert_eq!(why_not(&limits), None, "{breaker:?}");
            let drained = DialerView {
                drained: true,
                ..limits
            };
            assert_eq!(intake(&drained), Intake::Nothing, "{breaker:?}");
        }
    }

    #[test]
    fn those_that_take_calls_keep_their_order_and_the_others_say_why_they_do_not() {
        let ids = |names: &[&str]| {
            names
                .iter()
                .map(|name| DialerId::new(name))
                .collect::<Vec<_>>()
        };
        let second = DialerView {
            dialer: DialerId::new("second"),
            drained: true,
            ..view(BreakerView::Closed)
        };
        let views = [view(BreakerView::Closed), second.clone()];
        let kept = eligible(ids(&["third", "second", "first"]), &views);
        assert_eq!(kept, ids(&["third", "first"]));
        assert_eq!(
            why_not(&second).as_deref(),
            Some("drained (taken out by hand)")
        );
    }
}

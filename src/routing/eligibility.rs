//! Whether a dialer may take a call now, and if not, why.

use serde::{Deserialize, Serialize};

use super::{Availability, BreakerView, DialerId, DialerView};

/// What a dialer can take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    Nothing,
    OneTrial,
    Calls,
}

/// Why a dialer does not take a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum SkipReason {
    /// The rule that matched does not name it.
    NotInRule,
    Drained,
    /// Its circuit breaker is open.
    BreakerOpen,
    /// It says it cannot take calls.
    Unavailable,
    /// It has just recovered, and others who wait for it come first.
    CallersFirst,
}

impl SkipReason {
    /// The stable name, as in exports.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// Why a dialer may not take a call now.
#[derive(Debug, PartialEq, Eq)]
pub struct Inadmissible {
    pub reason: SkipReason,
    /// With the figures, where there are any.
    pub detail: String,
    /// What would have to change.
    pub change: &'static str,
}

/// Whether a dialer may take a call now, as the call sees the dialers: the one question of arrival, hold and failover. A dialer of which
/// nothing is known may.
pub fn admissible(dialer: &DialerId, views: &[DialerView]) -> Result<(), Inadmissible> {
    let view = views.iter().find(|view| view.dialer == *dialer);
    view.map_or(Ok(()), is_admissible)
}

fn is_admissible(view: &DialerView) -> Result<(), Inadmissible> {
    let no = |reason, detail: &str, change| {
        Err(Inadmissible {
            reason,
            detail: detail.to_owned(),
            change,
        })
    };
    if view.drained {
        return no(SkipReason::Drained, "taken out by hand", "resume it");
    }
    if view.breaker == BreakerView::Open && !view.line_only {
        let change = "its next probe succeeds";
        return no(SkipReason::BreakerOpen, "its requests fail", change);
    }
    if let Availability::Unavailable { why } = &view.availability {
        let change = "it reports that it can take calls";
        return no(SkipReason::Unavailable, why, change);
    }
    if let Some(n) = view.callers_first {
        let detail = format!("it has just recovered; {n} who wait for it come first");
        return no(SkipReason::CallersFirst, &detail, "their turn is over");
    }
    Ok(())
}

/// What the dialer itself can take now, whoever calls.
pub fn intake(view: &DialerView) -> Intake {
    let anybody = DialerView {
        callers_first: None,
        ..view.clone()
    };
    match (is_admissible(&anybody), view.breaker) {
        (Err(_), _) => Intake::Nothing,
        (Ok(()), BreakerView::HalfOpen) if !view.line_only => Intake::OneTrial,
        (Ok(()), _) => Intake::Calls,
    }
}

/// Why a dialer cannot take a call now, in words; `None` where it can.
pub fn why_not(view: &DialerView) -> Option<String> {
    let no = is_admissible(view).err()?;
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
    fn a_dialer_that_takes_no_calls_says_why_and_one_that_is_not_known_may() {
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
        let may = |dialer: &DialerId| admissible(dialer, &views).is_ok();
        assert_eq!(
            ids(&["third", "second", "first"])
                .iter()
                .map(may)
                .collect::<Vec<_>>(),
            [true, false, true]
        );
        assert_eq!(
            why_not(&second).as_deref(),
            Some("drained (taken out by hand)")
        );
    }
}

//! Whether a dialer may take a call now, and if not, why.

use serde::{Deserialize, Serialize};

use super::{Availability, BreakerView, DialerId, DialerView, LimitPeriod};

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
    /// It is outside its hours.
    Closed,
    Drained,
    /// Its circuit breaker is open.
    BreakerOpen,
    /// It says it cannot take calls.
    Unavailable,
    /// It has as many calls of this hour, day or month as it may have.
    CapReached,
    /// It has as many calls in progress as it may have.
    Full,
    /// Others who wait for it come first.
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
    if let Some(hours) = view.hours.filter(|hours| !hours.is_open) {
        let until = hours.until;
        let detail = until.map_or_else(String::new, |until| format!("it opens at {until}"));
        return no(SkipReason::Closed, &detail, "its hours begin");
    }
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
    if let Some(limit) = view.limits.iter().find(|limit| limit.is_reached()) {
        let (reason, change) = match limit.period {
            LimitPeriod::Active => (SkipReason::Full, "one of its calls ends"),
            LimitPeriod::Hour => (SkipReason::CapReached, "the hour ends"),
            LimitPeriod::Day => (SkipReason::CapReached, "the day ends"),
            LimitPeriod::Month => (SkipReason::CapReached, "the month ends"),
        };
        return no(reason, &limit.described(), change);
    }
    if let Some(n) = view.callers_first {
        let why = match view.room() {
            Some(room) => format!("it has room for {room}"),
            None => "it has just recovered".to_owned(),
        };
        let detail = format!("{why}; {n} who wait for it come first");
        return no(SkipReason::CallersFirst, &detail, "their turn is over");
    }
    Ok(())
}

/// What the dialer itself can take now, whoever calls and however many calls it has.
pub fn intake(view: &DialerView) -> Intake {
    let anybody = DialerView {
        callers_first: None,
        limits: Vec::new(),
        ..view.clone()
    };
    match (is_admissible(&anybody), view.breaker) {
        (Err(_), _) => Intake::Nothing,
        (Ok(()), BreakerView::HalfOpen) if !view.line_only => Intake::OneTrial,
        (Ok(()), _) => Intake::Calls,
    }
}

/// Why none of these dialers takes a call: those outside their hours are left out, and of the others failing counts before full before drained.
/// `None` where one takes it, or where there is none.
pub fn why_nobody(dialers: &[DialerId], views: &[DialerView]) -> Option<SkipReason> {
    let rank = |reason: &SkipReason| match reason {
        SkipReason::BreakerOpen => 6,
        SkipReason::Unavailable => 5,
        SkipReason::CapReached => 4,
        SkipReason::Full => 3,
        SkipReason::CallersFirst => 2,
        SkipReason::Drained => 1,
        SkipReason::Closed | SkipReason::NotInRule => 0,
    };
    let reasons = dialers
        .iter()
        .map(|dialer| Some(admissible(dialer, views).err()?.reason));
    let reasons: Option<Vec<SkipReason>> = reasons.collect();
    reasons?.into_iter().max_by_key(rank)
}

/// Whether all of these dialers are outside their hours: nobody waits for them then.
pub fn all_closed(dialers: &[DialerId], views: &[DialerView]) -> bool {
    why_nobody(dialers, views) == Some(SkipReason::Closed)
}

/// Why a dialer cannot take a call now, in words; `None` where it can.
pub fn why_not(view: &DialerView) -> Option<String> {
    let no = is_admissible(view).err()?;
    let reason = no.reason.as_str().replace('_', " ");
    Some(format!("{reason} ({})", no.detail))
}

#[cfg(test)]
mod tests {
    use super::super::{HoursState, LimitUse};
    use super::*;

    fn view(breaker: BreakerView) -> DialerView {
        DialerView {
            breaker,
            ..DialerView::well(DialerId::new("first"))
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
    #[test]
    fn closed_comes_before_failing_and_a_cap_before_being_full() {
        let limit = |period, used| LimitUse {
            period,
            used,
            of: 40,
        };
        let reason = |view: &DialerView| {
            let no = admissible(&view.dialer, std::slice::from_ref(view)).err();
            no.map(|no| (no.reason.as_str(), no.detail))
        };
        let mut view = view(BreakerView::Open);
        view.hours = Some(HoursState {
            is_open: false,
            until: "2026-12-01T07:00:00Z".parse().ok(),
        });
        view.limits = vec![limit(LimitPeriod::Active, 40), limit(LimitPeriod::Hour, 39)];
        let closed = ("closed", "it opens at 2026-12-01T07:00:00Z".to_owned());
        assert_eq!(reason(&view), Some(closed));
        view.hours = Some(HoursState {
            is_open: true,
            until: None,
        });
        assert_eq!(
            reason(&view).map(|(reason, _)| reason),
            Some("breaker_open")
        );
        view.breaker = BreakerView::Closed;
        let full = ("full", "40 of 40 calls in progress".to_owned());
        assert_eq!(reason(&view), Some(full));
        view.limits = vec![limit(LimitPeriod::Active, 39), limit(LimitPeriod::Hour, 40)];
        let capped = ("cap_reached", "40 of 40 calls of this hour".to_owned());
        assert_eq!(reason(&view), Some(capped));
        view.limits[1].used = 38;
        assert_eq!((reason(&view), view.room()), (None, Some(1)));
    }
}

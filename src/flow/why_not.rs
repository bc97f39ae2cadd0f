//! Why a dialer takes no calls, in words for people.

use crate::dialer::DialerStatus;
use crate::handoff::{Failure, FailureKind};
use crate::routing::{self, DialerView};

/// What ails a dialer, as it is said of one and of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ails {
    one: String,
    several: String,
}

impl Ails {
    fn new(one: impl Into<String>, several: impl Into<String>) -> Self {
        Self {
            one: one.into(),
            several: several.into(),
        }
    }

    /// The sentence about these dialers.
    pub(crate) fn of(&self, names: &[&str]) -> String {
        match names {
            [] => String::new(),
            [one] => format!("{one} {}", self.one),
            [first @ .., last] => format!("{} and {last} {}", first.join(", "), self.several),
        }
    }
}

/// What ails a dialer that has just refused a call so, or was not asked, being so.
pub(crate) fn ails(
    status: Option<&DialerStatus>,
    view: Option<&DialerView>,
    refusal: Option<Failure>,
) -> Ails {
    if let Some(drained) = status.and_then(|status| status.drained.as_ref()) {
        let by = &drained.by;
        return Ails::new(
            format!("was taken out by hand ({by})"),
            format!("were taken out by hand ({by})"),
        );
    }
    let open = status.and_then(|status| status.open_for.as_ref());
    match (refusal, open, view.and_then(routing::why_not)) {
        (Some(failure), _, _) if failure.kind != FailureKind::BreakerOpen => said(failure),
        (_, Some((_, why)), _) => match Failure::parse(why) {
            Some(failure) => said(failure),
            None => takes_none(why),
        },
        (_, None, Some(why)) => takes_none(&why),
        (Some(_), None, None) => Ails::new(
            "is being tried with one call",
            "are being tried with one call each",
        ),
        (None, None, None) => Ails::new("is not configured", "are not configured"),
    }
}

fn takes_none(why: &str) -> Ails {
    Ails::new(
        format!("takes no calls ({why})"),
        format!("take no calls ({why})"),
    )
}

fn said(failure: Failure) -> Ails {
    let status = failure
        .status
        .map_or_else(String::new, |status| format!(" (HTTP {status})"));
    let both = |words: &str| Ails::new(format!("{words}{status}"), format!("{words}{status}"));
    let verb = |one: &str, several: &str, rest: &str| {
        Ails::new(
            format!("{one} {rest}{status}"),
            format!("{several} {rest}{status}"),
        )
    };
    match (failure.kind, failure.status) {
        (FailureKind::ServerError, Some(code)) => Ails::new(
            format!("answers HTTP {code}"),
            format!("answer HTTP {code}"),
        ),
        (FailureKind::ServerError, None) => Ails::new("fails", "fail"),
        (FailureKind::Timeout, _) => verb("does", "do", "not answer in time"),
        (FailureKind::Connect, _) => both("cannot be reached"),
        (FailureKind::Reset, _) => verb("breaks", "break", "the connection off"),
        (FailureKind::Unauthorized, _) => verb("refuses", "refuse", "our credentials"),
        (FailureKind::RateLimited, _) => verb("asks", "ask", "for fewer requests"),
        (FailureKind::Rejected, _) => verb("refuses", "refuse", "the call"),
        (FailureKind::Malformed, _) => verb("answers", "answer", "what cannot be read"),
        (FailureKind::Interrupted | FailureKind::BreakerOpen | FailureKind::NoTime, _) => {
            Ails::new("was not asked in time", "were not asked in time")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_said_of_one_dialer_and_of_several() {
        let of = |kind, status, names: &[&str]| said(Failure { kind, status }).of(names);
        let cases = [
            (
                FailureKind::ServerError,
                Some(500),
                "a answers HTTP 500",
                "a, b and c answer HTTP 500",
            ),
            (FailureKind::ServerError, None, "a fails", "a, b and c fail"),
            (
                FailureKind::Timeout,
                None,
                "a does not answer in time",
                "a, b and c do not answer in time",
            ),
            (
                FailureKind::Connect,
                None,
                "a cannot be reached",
                "a, b and c cannot be reached",
            ),
            (
                FailureKind::Unauthorized,
                Some(401),
                "a refuses our credentials (HTTP 401)",
                "a, b and c refuse our credentials (HTTP 401)",
            ),
            (
                FailureKind::RateLimited,
                Some(429),
                "a asks for fewer requests (HTTP 429)",
                "a, b and c ask for fewer requests (HTTP 429)",
            ),
        ];
        for (kind, status, one, several) in cases {
            assert_eq!(of(kind, status, &["a"]), one);
            assert_eq!(of(kind, status, &["a", "b", "c"]), several);
        }
        assert_eq!(
            of(FailureKind::Connect, None, &["a", "b"]),
            "a and b cannot be reached"
        );
    }
}

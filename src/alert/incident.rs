//! The life of an incident: open, still open, resolved. A value that is told what happened and when.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::routing::DialerId;

/// What an incident is about: a closed list, stable in exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// No dialer of a plan takes calls: callers are held.
    AllDialersDown,
}

impl IncidentKind {
    /// The stable name, as in the API and in exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllDialersDown => "all_dialers_down",
        }
    }
}

impl fmt::Display for IncidentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An incident of one kind: there is one open at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    kind: IncidentKind,
    open: Option<Open>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    since: Timestamp,
    dialers: Vec<DialerId>,
    calls: u64,
}

/// It opened: somebody has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What it is about.
    pub kind: IncidentKind,
    /// Why, in words.
    pub cause: String,
    /// The dialers whose recovery resolves it.
    pub dialers: Vec<DialerId>,
}

/// It is over: somebody has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// What it was about.
    pub kind: IncidentKind,
    /// How long it was open.
    pub lasted: Duration,
    /// How many calls it affected.
    pub calls: u64,
}

impl Incident {
    /// None is open.
    pub fn none(kind: IncidentKind) -> Self {
        Self { kind, open: None }
    }

    /// One that was open before the process began.
    pub fn found_open(
        kind: IncidentKind,
        since: Timestamp,
        dialers: Vec<DialerId>,
        calls: u64,
    ) -> Self {
        let open = Some(Open {
            since,
            dialers,
            calls,
        });
        Self { kind, open }
    }

    /// Whether one is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Trouble at all of `dialers`, with so many `calls` affected already. `None` where it was open before.
    pub fn strike(
        &mut self,
        dialers: &[DialerId],
        cause: impl FnOnce() -> String,
        calls: u64,
        now: Timestamp,
    ) -> Option<Opened> {
        if self.is_open() {
            return None;
        }
        self.open = Some(Open {
            since: now,
            dialers: dialers.to_vec(),
            calls,
        });
        Some(Opened {
            kind: self.kind,
            cause: cause(),
            dialers: dialers.to_vec(),
        })
    }

    /// One more call is affected.
    pub fn affect_another(&mut self) {
        if let Some(open) = &mut self.open {
            open.calls = open.calls.saturating_add(1);
        }
    }

    /// A dialer takes calls again. `None` where nothing was open, or where its dialers are others: they are still down.
    pub fn recovered(&mut self, dialer: &DialerId, now: Timestamp) -> Option<Resolved> {
        let concerned = |open: &mut Open| open.dialers.contains(dialer);
        let open = self.open.take_if(concerned)?;
        let lasted = now.duration_since(open.since);
        Some(Resolved {
            kind: self.kind,
            // The wall clock may have been set back meanwhile.
            lasted: Duration::try_from(lasted).unwrap_or_default(),
            calls: open.calls,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: IncidentKind = IncidentKind::AllDialersDown;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn dialers(names: &[&str]) -> Vec<DialerId> {
        names.iter().map(|name| DialerId::new(name)).collect()
    }

    fn struck(second: i64) -> (Incident, Option<Opened>) {
        let mut incident = Incident::none(KIND);
        let opened = incident.strike(&dialers(&["a", "b"]), || "both hang".into(), 1, at(second));
        (incident, opened)
    }

    #[test]
    fn it_opens_once_however_often_it_strikes() {
        let (mut incident, opened) = struck(10);
        let expected = Opened {
            kind: KIND,
            cause: "both hang".into(),
            dialers: dialers(&["a", "b"]),
        };
        assert_eq!(opened, Some(expected));
        for second in 11..20 {
            let again = incident.strike(&dialers(&["a"]), || "still".into(), 1, at(second));
            assert_eq!(again, None);
        }
        assert!(incident.is_open());
    }

    #[test]
    fn it_is_resolved_once_and_says_how_long_it_lasted_and_whom_it_hit() {
        let (mut incident, _) = struck(10);
        incident.affect_another();
        incident.affect_another();
        let resolved = incident.recovered(&DialerId::new("b"), at(70));
        let expected = Resolved {
            kind: KIND,
            lasted: Duration::from_mins(1),
            calls: 3,
        };
        assert_eq!(resolved, Some(expected));
        assert_eq!(incident.recovered(&DialerId::new("a"), at(71)), None);
        assert!(!incident.is_open());
    }

    #[test]
    fn a_dialer_that_was_never_down_does_not_resolve_it() {
        let (mut incident, _) = struck(10);
        assert_eq!(incident.recovered(&DialerId::new("c"), at(11)), None);
        assert!(incident.is_open());
    }

    #[test]
    fn it_may_strike_again_after_it_was_resolved_and_counts_anew() {
        let (mut incident, _) = struck(10);
        incident.recovered(&DialerId::new("a"), at(20));
        incident.affect_another();
        let again = incident.strike(&dialers(&["a"]), String::new, 5, at(30));
        assert!(again.is_some());
        let resolved = incident.recovered(&DialerId::new("a"), at(31)).unwrap();
        assert_eq!((resolved.calls, resolved.lasted.as_secs()), (5, 1));
    }

    #[test]
    fn one_found_in_the_records_goes_on_where_it_was() {
        let mut incident = Incident::found_open(KIND, at(10), dialers(&["a"]), 7);
        assert_eq!(
            incident.strike(&dialers(&["a"]), String::new, 1, at(20)),
            None
        );
        incident.affect_another();
        let resolved = incident.recovered(&DialerId::new("a"), at(40)).unwrap();
        assert_eq!((resolved.calls, resolved.lasted.as_secs()), (8, 30));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_it_short_and_not_negative() {
        let (mut incident, _) = struck(10);
        let resolved = incident.recovered(&DialerId::new("a"), at(5)).unwrap();
        assert_eq!(resolved.lasted, Duration::ZERO);
    }
}

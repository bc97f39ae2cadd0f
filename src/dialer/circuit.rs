//! The circuit breaker of one dialer: a value that is told what happened and when.
//!
//! Closed: calls pass. Open: none does, until a time or, where credentials were refused, until they change. Half-open: one call at a time may try,
//! on a lease, so that a trial that is never heard of again does not keep the circuit open for good.

use std::time::{Duration, Instant};

use crate::audit::OpenCause;
use crate::routing::BreakerView;

/// So many failures in a row open the circuit; requests and probes are counted apart, because each may fail alone.
const FAILURES_TO_OPEN: u32 = 5;
/// So many good probes in a row close it.
const PROBES_TO_CLOSE: u32 = 2;
/// A dialer that asks to be left alone gets no more than this.
pub(super) const MAX_HOLD: Duration = Duration::from_mins(1);

#[derive(Clone, Debug, Default)]
pub(super) struct Circuit {
    failed_requests: u32,
    failed_probes: u32,
    opened: Option<Opened>,
}

/// How a circuit is open.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) since: Instant,
    pub(super) cause: OpenCause,
    pub(super) why: String,
    /// When a trial may begin; `None` where time alone does not help.
    pub(super) until: Option<Instant>,
    /// When the lease of the trial under way ends.
    trial: Option<Instant>,
    good_probes: u32,
}

/// What a request says of the dialer's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It works, whatever it answered.
    Alive,
    /// It does not work.
    Dead(String),
    /// It refuses our credentials.
    Unauthorized(String),
    /// It wants to be left alone.
    HoldOff(Duration, String),
    /// Nothing either way.
    Nothing,
}

impl Circuit {
    pub(super) fn view(&self, now: Instant) -> BreakerView {
        match &self.opened {
            None => BreakerView::Closed,
            Some(opened) if opened.admits_trial(now) => BreakerView::HalfOpen,
            Some(_) => BreakerView::Open,
        }
    }

    /// How it is open.
    pub(super) fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// Open as an earlier run left it: since `since`, and until `until` or, where that is none, until something else changes.
    pub(super) fn restored(
        cause: OpenCause,
        why: String,
        since: Instant,
        until: Option<Instant>,
    ) -> Self {
        let opened = Some(Opened {
            since,
            cause,
            why,
            until,
            trial: None,
            good_probes: 0,
        });
        Self {
            opened,
            ..Self::default()
        }
    }

    /// Whether a request may be sent now; takes the trial where there is one to take.
    pub(super) fn admit(&mut self, now: Instant, lease: Duration) -> bool {
        match &mut self.opened {
            None => true,
            Some(opened) if opened.admits_trial(now) => {
                opened.trial = Some(now + lease);
                true
            }
            Some(_) => false,
        }
    }

    pub(super) fn request_ended(&mut self, sign: Sign, now: Instant, open_for: Duration) {
        match sign {
            Sign::Alive => {
                self.failed_requests = 0;
                // A late success of a request from before it opened proves nothing.
                if self.opened.as_ref().is_some_and(|o| o.has_waited(now)) {
                    *self = Self::default();
                }
            }
            Sign::Dead(why) => match &mut self.opened {
                Some(opened) if opened.has_waited(now) => opened.open_again(now, open_for, why),
                Some(_) => {}
                None => {
                    self.failed_requests += 1;
                    if self.failed_requests >= FAILURES_TO_OPEN {
                        self.open(now, Some(open_for), OpenCause::Failing, why);
                    }
                }
            },
            Sign::Unauthorized(why) => self.open(now, None, OpenCause::RefusedRequest, why),
            Sign::HoldOff(wish, why) => self.hold_off(now, wish.min(MAX_HOLD), why),
            Sign::Nothing => {
                if let Some(opened) = &mut self.opened {
                    opened.trial = None;
                }
            }
        }
    }

    pub(super) fn probe_ended(&mut self, sign: Sign, now: Instant, open_for: Duration) {
        match sign {
            Sign::Alive => {
                self.failed_probes = 0;
                if let Some(opened) = &mut self.opened {
                    opened.good_probes += 1;
                    if opened.good_probes >= PROBES_TO_CLOSE && opened.closes_by_probes(now) {
                        *self = Self::default();
                    }
                }
            }
            Sign::Dead(why) => {
                if let Some(opened) = &mut self.opened {
                    opened.good_probes = 0;
                    if opened.admits_trial(now) {
                        opened.open_again(now, open_for, why);
                    }
                } else {
                    self.failed_probes += 1;
                    if self.failed_probes >= FAILURES_TO_OPEN {
                        self.open(now, Some(open_for), OpenCause::Failing, why);
                    }
                }
            }
            Sign::Unauthorized(why) => {
                let known = self
                    .opened
                    .as_ref()
                    .is_some_and(|o| o.cause == OpenCause::RefusedRequest);
                if !known {
                    self.open(now, None, OpenCause::RefusedProbe, why);
                }
            }
            Sign::HoldOff(..) | Sign::Nothing => {
                if let Some(opened) = &mut self.opened {
                    opened.good_probes = 0;
                }
            }
        }
    }

    /// Closes a circuit that refused credentials had opened: there are new ones.
    pub(super) fn credentials_changed(&mut self) {
        let refused = |o: &Opened| o.cause.is_refused();
        if self.opened.as_ref().is_some_and(refused) {
            *self = Self::default();
        }
    }

    fn open(&mut self, now: Instant, open_for: Option<Duration>, cause: OpenCause, why: String) {
        let since = self.opened.as_ref().map_or(now, |opened| opened.since);
        self.opened = Some(Opened {
            since,
            cause,
            why,
            until: open_for.map(|time| now + time),
            trial: None,
            good_probes: 0,
        });
    }

    /// Never shortens what is there.
    fn hold_off(&mut self, now: Instant, wish: Duration, why: String) {
        let longer = match &self.opened {
            None => true,
            Some(opened) => opened.until.is_some_and(|until| until < now + wish),
        };
        if longer {
            self.open(now, Some(wish), OpenCause::HeldOff, why);
        }
    }
}

impl Opened {
    fn has_waited(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    fn admits_trial(&self, now: Instant) -> bool {
        self.has_waited(now) && self.trial.is_none_or(|lease| lease <= now)
    }

    fn open_again(&mut self, now: Instant, open_for: Duration, why: String) {
        self.until = Some(now + open_for);
        self.trial = None;
        self.good_probes = 0;
        self.why = why;
        self.cause = OpenCause::Failing;
    }

    /// A probe cannot disprove that a handoff was refused, nor shorten a wish to be left alone.
    fn closes_by_probes(&self, now: Instant) -> bool {
        match self.cause {
            OpenCause::Failing | OpenCause::RefusedProbe => true,
            OpenCause::HeldOff => self.has_waited(now),
            OpenCause::RefusedRequest => false,
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(15);
    const LEASE: Duration = Duration::from_secs(1);

    fn dead() -> Sign {
        Sign::Dead("timeout".to_owned())
    }

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..FAILURES_TO_OPEN {
            assert_eq!(circuit.view(now), BreakerView::Closed);
            circuit.request_ended(dead(), now, OPEN_FOR);
        }
        assert_eq!(circuit.view(now), BreakerView::Open);
        circuit
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        for sign in [dead(), dead(), dead(), dead(), Sign::Alive, dead()] {
            circuit.request_ended(sign, now, OPEN_FOR);
        }
        assert_eq!(circuit.view(now), BreakerView::Closed);
    }

    #[test]
    fn after_its_time_one_call_tries_and_its_success_closes() {
        let start = Instant::now();
        let mut circuit = opened(start);
        assert!(!circuit.admit(start, LEASE));
        let later = start + OPEN_FOR;
        assert_eq!(circuit.view(later), BreakerView::HalfOpen);
        assert!(circuit.admit(later, LEASE));
        assert_eq!(circuit.view(later), BreakerView::Open, "the trial is taken");
        assert!(!circuit.admit(later, LEASE));
        circuit.request_ended(Sign::Alive, later, OPEN_FOR);
        assert_eq!(circuit.view(later), BreakerView::Closed);
    }

    #[test]
    fn a_failed_trial_opens_for_another_time() {
        let start = Instant::now();
        let mut circuit = opened(start);
        let later = start + OPEN_FOR;
        assert!(circuit.admit(later, LEASE));
        circuit.request_ended(dead(), later, OPEN_FOR);
        assert_eq!(circuit.view(later), BreakerView::Open);
        assert!(circuit.admit(later + OPEN_FOR, LEASE));
    }

    #[test]
    fn a_lost_trial_frees_its_place() {
        let start = Instant::now();
        let mut circuit = opened(start);
        let later = start + OPEN_FOR;
        assert!(circuit.admit(later, LEASE));
        assert!(circuit.admit(later + LEASE, LEASE));
    }

    #[test]
    fn a_late_success_from_before_does_not_close() {
        let now = Instant::now();
        let mut circuit = opened(now);
        circuit.request_ended(Sign::Alive, now, OPEN_FOR);
        assert_eq!(circuit.view(now), BreakerView::Open);
    }

    #[test]
    fn two_good_probes_close_and_a_bad_one_between_them_counts_again() {
        let now = Instant::now();
        let mut circuit = opened(now);
        for sign in [Sign::Alive, dead(), Sign::Alive] {
            circuit.probe_ended(sign, now, OPEN_FOR);
            assert_eq!(circuit.view(now), BreakerView::Open);
        }
        circuit.probe_ended(Sign::Alive, now, OPEN_FOR);
        assert_eq!(circuit.view(now), BreakerView::Closed);
    }

    #[test]
    fn bad_probes_alone_open_it_and_good_ones_do_not_hide_failing_requests() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        for _ in 0..FAILURES_TO_OPEN {
            circuit.probe_ended(dead(), now, OPEN_FOR);
        }
        assert_eq!(circuit.view(now), BreakerView::Open);
        let mut circuit = Circuit::default();
        for _ in 0..FAILURES_TO_OPEN {
            circuit.request_ended(dead(), now, OPEN_FOR);
            circuit.probe_ended(Sign::Alive, now, OPEN_FOR);
        }
        assert_eq!(circuit.view(now), BreakerView::Open);
    }

    #[test]
    fn refused_credentials_stay_open_until_they_change() {
        let start = Instant::now();
        let refused = || Sign::Unauthorized("unauthorized (401)".to_owned());
        let mut circuit = Circuit::default();
        circuit.request_ended(refused(), start, OPEN_FOR);
        let much_later = start + OPEN_FOR * 1_000;
        circuit.probe_ended(Sign::Alive, much_later, OPEN_FOR);
        circuit.probe_ended(Sign::Alive, much_later, OPEN_FOR);
        assert!(!circuit.admit(much_later, LEASE));
        circuit.credentials_changed();
        assert!(circuit.admit(much_later, LEASE));
    }

    #[test]
    fn credentials_that_a_probe_found_refused_and_then_accepted_are_good() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        circuit.probe_ended(Sign::Unauthorized(String::new()), now, OPEN_FOR);
        assert_eq!(circuit.view(now), BreakerView::Open);
        circuit.probe_ended(Sign::Alive, now, OPEN_FOR);
        circuit.probe_ended(Sign::Alive, now, OPEN_FOR);
        assert_eq!(circuit.view(now), BreakerView::Closed);
    }

    #[test]
    fn a_wish_to_be_left_alone_is_kept_but_not_for_an_hour() {
        let start = Instant::now();
        let mut circuit = Circuit::default();
        let hour = Duration::from_hours(1);
        circuit.request_ended(Sign::HoldOff(hour, String::new()), start, OPEN_FOR);
        let wish = || Sign::HoldOff(Duration::from_secs(1), String::new());
        circuit.request_ended(wish(), start, OPEN_FOR);
        for _ in 0..PROBES_TO_CLOSE {
            circuit.probe_ended(Sign::Alive, start, OPEN_FOR);
        }
        let before = start + MAX_HOLD.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(circuit.view(before), BreakerView::Open);
        assert_eq!(circuit.view(start + MAX_HOLD), BreakerView::HalfOpen);
    }

    #[test]
    fn changed_credentials_do_not_hide_a_dead_dialer() {
        let now = Instant::now();
        let mut circuit = opened(now);
        circuit.credentials_changed();
        assert_eq!(circuit.view(now), BreakerView::Open);
    }
}

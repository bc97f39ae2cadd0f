//! The circuit breaker of one dialer: a value that is told what happened and when.
//!
//! Closed: calls pass. Open: none does, until a time. Half-open: one call at a time may try, on a lease, so that a trial that is never heard of again
//! does not keep the circuit open for good. Where credentials were refused, a probe tries them in place of a call, if there is one that uses them.

use std::time::{Duration, Instant};

use crate::audit::OpenCause;
use crate::resilience::{Refusals, TriedBy};
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
    refusals: Refusals,
}

/// What the circuit of a dialer goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// How long it stays open before a trial.
    pub(super) open_for: Duration,
    /// What tries refused credentials again.
    pub(super) tried_by: TriedBy,
}

/// How a circuit is open.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) since: Instant,
    pub(super) cause: OpenCause,
    pub(super) why: String,
    /// When a trial may begin.
    pub(super) until: Instant,
    /// By what; a request, unless credentials were refused.
    pub(super) tried_by: TriedBy,
    /// When the lease of the trial under way ends.
    trial: Option<Instant>,
    good_probes: u32,
}

/// What a request says of the dialer's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It works, whatever it answered.
    Alive,
    Dead(String),
    Unauthorized(String),
    /// It fails and wants to be left alone.
    HoldOff(Duration, String),
    /// It limits our requests and is otherwise well.
    Limit(Duration, String),
    Nothing,
}

impl Circuit {
    pub(super) fn view(&self, now: Instant) -> BreakerView {
        match &self.opened {
            None => BreakerView::Closed,
            Some(opened) if opened.admits_trial_by(TriedBy::Request, now) => BreakerView::HalfOpen,
            Some(_) => BreakerView::Open,
        }
    }

    pub(super) fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// How it is open, where credentials were refused, and how often in a row they were.
    pub(super) fn refused(&self) -> Option<(&Opened, u32)> {
        let refused = self.opened.as_ref().filter(|o| o.cause.is_refused());
        refused.map(|opened| (opened, self.refusals.count()))
    }

    /// Whether it is open only because the dialer limits our requests.
    pub(super) fn limits_requests(&self) -> bool {
        self.opened
            .as_ref()
            .is_some_and(|opened| opened.cause == OpenCause::RateLimited)
    }

    /// Open as an earlier run left it.
    pub(super) fn restored(
        (cause, why): (OpenCause, String),
        since: Instant,
        until: Instant,
        tried_by: TriedBy,
        refusals: Refusals,
    ) -> Self {
        let opened = Some(Opened {
            since,
            cause,
            why,
            until,
            tried_by,
            trial: None,
            good_probes: 0,
        });
        Self {
            opened,
            refusals,
            ..Self::default()
        }
    }

    /// Whether a request may be sent now; takes the trial where there is one to take.
    pub(super) fn admit(&mut self, now: Instant, lease: Duration) -> bool {
        self.opened.is_none() || self.take_trial(TriedBy::Request, now, lease)
    }

    /// Whether refused credentials are to be tried now, by one probe: [`Circuit::tried`] has to follow.
    pub(super) fn take_try(&mut self, now: Instant, lease: Duration) -> bool {
        self.take_trial(TriedBy::Probe, now, lease)
    }

    fn take_trial(&mut self, by: TriedBy, now: Instant, lease: Duration) -> bool {
        let admitted = self
            .opened
            .as_mut()
            .filter(|opened| opened.admits_trial_by(by, now));
        let is_admitted = admitted.is_some();
        if let Some(opened) = admitted {
            opened.trial = Some(now + lease);
        }
        is_admitted
    }

    pub(super) fn request_ended(&mut self, sign: Sign, now: Instant, terms: Terms) {
        // A late word of a request from before it opened proves nothing.
        let is_late = self.opened.as_ref().is_some_and(|o| !o.has_waited(now));
        match (sign, self.refused().is_some()) {
            (Sign::Alive, _) => {
                self.failed_requests = 0;
                if !is_late {
                    *self = Self::default();
                }
            }
            (Sign::Unauthorized(why), false) => {
                self.refuse(now, OpenCause::RefusedRequest, why, terms);
            }
            (
                Sign::Unauthorized(why)
                | Sign::Dead(why)
                | Sign::HoldOff(_, why)
                | Sign::Limit(_, why),
                true,
            ) => {
                if !is_late {
                    self.still_refused(now, why, terms);
                }
            }
            (Sign::Dead(why), false) => match &mut self.opened {
                Some(_) if is_late => {}
                Some(opened) => opened.open_again(now, terms.open_for, why),
                None => {
                    self.failed_requests += 1;
                    if self.failed_requests >= FAILURES_TO_OPEN {
                        self.open(now, terms.open_for, OpenCause::Failing, why);
                    }
                }
            },
            (Sign::HoldOff(wish, why), false) => {
                self.hold_off(now, wish, OpenCause::HeldOff, why);
            }
            (Sign::Limit(wish, why), false) => {
                self.hold_off(now, wish, OpenCause::RateLimited, why);
            }
            (Sign::Nothing, _) => {
                if let Some(opened) = &mut self.opened {
                    opened.trial = None;
                }
            }
        }
    }

    /// Learns from a probe at the dialer's own pace. Where credentials are refused, such probes pause, and one that was under way says nothing.
    pub(super) fn probe_ended(&mut self, sign: Sign, now: Instant, terms: Terms) {
        if self.refused().is_some() {
            return;
        }
        match sign {
            Sign::Alive => {
                self.failed_probes = 0;
                if let Some(opened) = &mut self.opened {
                    opened.good_probes += 1;
                    if opened.good_probes >= PROBES_TO_CLOSE && opened.closes_by_probes(now) {
                        self.close();
                    }
                }
            }
            Sign::Dead(why) => {
                if let Some(opened) = &mut self.opened {
                    opened.good_probes = 0;
                    if opened.admits_trial_by(TriedBy::Request, now) {
                        opened.open_again(now, terms.open_for, why);
                    }
                } else {
                    self.failed_probes += 1;
                    if self.failed_probes >= FAILURES_TO_OPEN {
                        self.open(now, terms.open_for, OpenCause::Failing, why);
                    }
                }
            }
            Sign::Unauthorized(why) => self.refuse(now, OpenCause::RefusedProbe, why, terms),
            Sign::HoldOff(..) | Sign::Limit(..) | Sign::Nothing => {
                if let Some(opened) = &mut self.opened {
                    opened.good_probes = 0;
                }
            }
        }
    }

    /// Learns from a probe that tried refused credentials.
    pub(super) fn tried(&mut self, sign: Sign, now: Instant, terms: Terms) {
        if self.refused().is_none() {
            return;
        }
        match sign {
            Sign::Alive => self.close(),
            Sign::Unauthorized(why)
            | Sign::Dead(why)
            | Sign::HoldOff(_, why)
            | Sign::Limit(_, why) => {
                self.still_refused(now, why, terms);
            }
            // The probe has no answer to the question, so a call has to ask it.
            Sign::Nothing => {
                if let Some(opened) = &mut self.opened {
                    opened.tried_by = TriedBy::Request;
                    opened.trial = None;
                }
            }
        }
    }

    /// A test has found the credentials accepted.
    pub(super) fn proven(&mut self) {
        if self.refused().is_some() {
            self.close();
        }
    }

    /// Refused credentials are tried now: the configuration was read again, or somebody asks for it.
    pub(super) fn try_now(&mut self, now: Instant) {
        if let Some(opened) = self.opened.as_mut().filter(|o| o.cause.is_refused()) {
            opened.until = opened.until.min(now);
        }
    }

    /// Closes a circuit that refused credentials had opened: there are new ones.
    pub(super) fn credentials_changed(&mut self) {
        if self.refused().is_some() {
            self.close();
        }
        self.refusals.end();
    }

    /// By a probe or a test: that a request is accepted is still to be seen.
    fn close(&mut self) {
        *self = Self {
            refusals: self.refusals,
            ..Self::default()
        };
    }

    fn refuse(&mut self, now: Instant, cause: OpenCause, why: String, terms: Terms) {
        let pause = self.refusals.begin(now);
        self.open(now, pause, cause, why);
        if let Some(opened) = &mut self.opened {
            opened.tried_by = terms.tried_by;
        }
    }

    fn still_refused(&mut self, now: Instant, why: String, terms: Terms) {
        let pause = self.refusals.again(now);
        if let Some(opened) = &mut self.opened {
            opened.until = now + pause;
            opened.tried_by = terms.tried_by;
            opened.trial = None;
            opened.why = why;
        }
    }

    fn open(&mut self, now: Instant, open_for: Duration, cause: OpenCause, why: String) {
        let since = self.opened.as_ref().map_or(now, |opened| opened.since);
        self.opened = Some(Opened {
            since,
            cause,
            why,
            until: now + open_for,
            tried_by: TriedBy::Request,
            trial: None,
            good_probes: 0,
        });
    }

    /// Never shortens what is there.
    fn hold_off(&mut self, now: Instant, wish: Duration, cause: OpenCause, why: String) {
        let wish = wish.min(MAX_HOLD);
        let longer = self
            .opened
            .as_ref()
            .is_none_or(|opened| opened.until < now + wish);
        if longer {
            self.open(now, wish, cause, why);
        }
    }
}

impl Opened {
    fn has_waited(&self, now: Instant) -> bool {
        self.until <= now
    }

    fn admits_trial_by(&self, by: TriedBy, now: Instant) -> bool {
        self.tried_by == by && self.has_waited(now) && self.trial.is_none_or(|lease| lease <= now)
    }

    fn open_again(&mut self, now: Instant, open_for: Duration, why: String) {
        self.until = now + open_for;
        self.trial = None;
        self.good_probes = 0;
        self.why = why;
        self.cause = OpenCause::Failing;
    }

    /// Probes do not shorten a wish to be left alone.
    fn closes_by_probes(&self, now: Instant) -> bool {
        self.cause == OpenCause::Failing || self.has_waited(now)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(15);
    const LEASE: Duration = Duration::from_secs(1);
    const TERMS: Terms = Terms {
        open_for: OPEN_FOR,
        tried_by: TriedBy::Probe,
    };
    /// No probe uses the credentials.
    const BY_CALL: Terms = Terms {
        tried_by: TriedBy::Request,
        ..TERMS
    };

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn unauthorized() -> Sign {
        Sign::Unauthorized("unauthorized (401)".to_owned())
    }

    fn dead() -> Sign {
        Sign::Dead("timeout".to_owned())
    }

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..FAILURES_TO_OPEN {
            assert_eq!(circuit.view(now), BreakerView::Closed);
            circuit.request_ended(dead(), now, TERMS);
        }
        assert_eq!(circuit.view(now), BreakerView::Open);
        circuit
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        for sign in [dead(), dead(), dead(), dead(), Sign::Alive, dead()] {
            circuit.request_ended(sign, now, TERMS);
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
        circuit.request_ended(Sign::Alive, later, TERMS);
        assert_eq!(circuit.view(later), BreakerView::Closed);
    }

    #[test]
    fn a_failed_trial_opens_for_another_time() {
        let start = Instant::now();
        let mut circuit = opened(start);
        let later = start + OPEN_FOR;
        assert!(circuit.admit(later, LEASE));
        circuit.request_ended(dead(), later, TERMS);
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
        circuit.request_ended(Sign::Alive, now, TERMS);
        assert_eq!(circuit.view(now), BreakerView::Open);
    }

    #[test]
    fn two_good_probes_close_and_a_bad_one_between_them_counts_again() {
        let now = Instant::now();
        let mut circuit = opened(now);
        for sign in [Sign::Alive, dead(), Sign::Alive] {
            circuit.probe_ended(sign, now, TERMS);
            assert_eq!(circuit.view(now), BreakerView::Open);
        }
        circuit.probe_ended(Sign::Alive, now, TERMS);
        assert_eq!(circuit.view(now), BreakerView::Closed);
    }

    #[test]
    fn bad_probes_alone_open_it_and_good_ones_do_not_hide_failing_requests() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        for _ in 0..FAILURES_TO_OPEN {
            circuit.probe_ended(dead(), now, TERMS);
        }
        assert_eq!(circuit.view(now), BreakerView::Open);
        let mut circuit = Circuit::default();
        for _ in 0..FAILURES_TO_OPEN {
            circuit.request_ended(dead(), now, TERMS);
            circuit.probe_ended(Sign::Alive, now, TERMS);
        }
        assert_eq!(circuit.view(now), BreakerView::Open);
    }

    #[test]
    fn refused_credentials_let_no_call_pass_and_are_tried_by_one_probe_at_a_time() {
        let start = Instant::now();
        let mut circuit = Circuit::default();
        circuit.request_ended(unauthorized(), start, TERMS);
        let soon = start + secs(29);
        // Probes at the dialer's own pace pause, and one that was under way says nothing.
        for _ in 0..3 {
            circuit.probe_ended(Sign::Alive, soon, TERMS);
        }
        assert!(!circuit.take_try(soon, LEASE));
        let due = start + secs(30);
        assert!(!circuit.admit(due, LEASE), "no call has to try it");
        assert_eq!(circuit.view(due), BreakerView::Open);
        assert!(circuit.take_try(due, LEASE));
        assert!(!circuit.take_try(due, LEASE), "one request per try");
        circuit.tried(Sign::Alive, due, TERMS);
        assert!(circuit.admit(due, LEASE));
        assert!(!circuit.take_try(due, LEASE), "nothing is refused");
    }

    #[test]
    fn without_a_probe_the_next_call_tries_refused_credentials() {
        let start = Instant::now();
        let mut circuit = Circuit::default();
        circuit.request_ended(unauthorized(), start, BY_CALL);
        assert!(!circuit.admit(start + secs(29), LEASE));
        let due = start + secs(30);
        assert!(!circuit.take_try(due, LEASE));
        assert_eq!(circuit.view(due), BreakerView::HalfOpen);
        assert!(circuit.admit(due, LEASE));
        assert!(!circuit.admit(due, LEASE), "one at a time");
        circuit.request_ended(unauthorized(), due, BY_CALL);
        assert_eq!(circuit.refused().unwrap().1, 2);
        assert!(!circuit.admit(due + secs(59), LEASE));
        assert!(circuit.admit(due + secs(60), LEASE));
        circuit.request_ended(dead(), due + secs(60), BY_CALL);
        assert_eq!(circuit.refused().unwrap().1, 3, "not accepted either");
        assert!(circuit.admit(due + secs(180), LEASE));
        circuit.request_ended(Sign::Alive, due + secs(180), BY_CALL);
        assert_eq!(circuit.view(due + secs(180)), BreakerView::Closed);
    }

    #[test]
    fn a_try_that_does_not_succeed_is_followed_by_a_later_one_for_good() {
        let start = Instant::now();
        let mut circuit = Circuit::default();
        circuit.probe_ended(unauthorized(), start, TERMS);
        let mut now = start + secs(30);
        for (sign, pause) in [
            (unauthorized(), 60),
            (dead(), 120),
            (Sign::HoldOff(secs(1), String::new()), 240),
            (unauthorized(), 300),
            (unauthorized(), 300),
        ] {
            assert!(circuit.take_try(now, LEASE));
            circuit.tried(sign, now, TERMS);
            assert!(!circuit.take_try(now + secs(pause - 1), LEASE));
            now += secs(pause);
        }
        let (opened, count) = circuit.refused().unwrap();
        assert_eq!((opened.since, opened.until, count), (start, now, 6));
        assert_eq!(opened.why, "unauthorized (401)");
    }

    #[test]
    fn a_probe_that_cannot_answer_leaves_the_question_to_the_next_call() {
        let start = Instant::now();
        let mut circuit = Circuit::default();
        circuit.request_ended(unauthorized(), start, TERMS);
        let due = start + secs(30);
        assert!(circuit.take_try(due, LEASE));
        circuit.tried(Sign::Nothing, due, TERMS);
        assert!(circuit.admit(due, LEASE));
        circuit.request_ended(unauthorized(), due, TERMS);
        assert!(!circuit.admit(due + secs(60), LEASE));
        assert!(circuit.take_try(due + secs(60), LEASE));
    }

    #[test]
    fn a_try_that_is_lost_or_asked_for_is_made_anew() {
        let start = Instant::now();
        let mut circuit = Circuit::default();
        circuit.request_ended(unauthorized(), start, TERMS);
        circuit.try_now(start);
        assert!(circuit.take_try(start, LEASE));
        assert!(circuit.take_try(start + LEASE, LEASE));
        circuit.proven();
        assert_eq!(circuit.view(start), BreakerView::Closed);
        let mut failing = opened(start);
        failing.try_now(start);
        failing.proven();
        failing.tried(Sign::Alive, start, TERMS);
        assert_eq!(
            failing.view(start),
            BreakerView::Open,
            "of credentials only"
        );
    }

    #[test]
    fn what_a_probe_has_proven_is_believed_until_a_request_is_refused_again() {
        let start = Instant::now();
        let mut circuit = Circuit::default();
        circuit.request_ended(unauthorized(), start, TERMS);
        circuit.tried(Sign::Alive, start + secs(30), TERMS);
        circuit.request_ended(unauthorized(), start + secs(40), TERMS);
        let (opened, count) = circuit.refused().unwrap();
        assert_eq!((opened.until, count), (start + secs(100), 2));
        circuit.tried(Sign::Alive, start + secs(100), TERMS);
        circuit.request_ended(Sign::Alive, start + secs(101), TERMS);
        circuit.request_ended(unauthorized(), start + secs(102), TERMS);
        assert_eq!(circuit.refused().unwrap().1, 1);
        circuit.credentials_changed();
        assert!(circuit.admit(start + secs(102), LEASE));
    }

    #[test]
    fn a_bad_probe_does_not_prolong_an_opening_whose_time_is_not_over() {
        let start = Instant::now();
        let mut circuit = opened(start);
        circuit.probe_ended(dead(), start + secs(14), TERMS);
        assert_eq!(circuit.view(start + OPEN_FOR), BreakerView::HalfOpen);
        circuit.probe_ended(dead(), start + OPEN_FOR, TERMS);
        assert_eq!(circuit.view(start + secs(29)), BreakerView::Open);
        assert_eq!(circuit.view(start + OPEN_FOR * 2), BreakerView::HalfOpen);
    }

    #[test]
    fn a_late_failure_of_an_older_request_prolongs_no_opening() {
        let start = Instant::now();
        let late = start + secs(5);
        let mut circuit = opened(start);
        circuit.request_ended(dead(), late, TERMS);
        assert_eq!(circuit.view(start + OPEN_FOR), BreakerView::HalfOpen);
        for terms in [TERMS, BY_CALL] {
            let mut circuit = Circuit::default();
            circuit.request_ended(unauthorized(), start, terms);
            let hold_off = Sign::HoldOff(secs(60), String::new());
            for sign in [unauthorized(), dead(), hold_off, Sign::Alive] {
                circuit.request_ended(sign, late, terms);
            }
            let (opened, count) = circuit.refused().unwrap();
            assert_eq!((opened.until, count), (start + secs(30), 1));
        }
    }

    #[test]
    fn credentials_that_are_refused_while_it_is_open_are_told_as_such() {
        let start = Instant::now();
        let mut circuit = opened(start);
        circuit.request_ended(unauthorized(), start + secs(1), TERMS);
        let (opened, _) = circuit.refused().unwrap();
        assert_eq!((opened.since, opened.until), (start, start + secs(31)));
        assert_eq!(opened.cause, OpenCause::RefusedRequest);
    }

    #[test]
    fn a_wish_to_be_left_alone_is_kept_but_not_for_an_hour() {
        let start = Instant::now();
        let mut circuit = Circuit::default();
        let hour = Duration::from_hours(1);
        circuit.request_ended(Sign::HoldOff(hour, String::new()), start, TERMS);
        let wish = || Sign::HoldOff(Duration::from_secs(1), String::new());
        circuit.request_ended(wish(), start, TERMS);
        for _ in 0..PROBES_TO_CLOSE {
            circuit.probe_ended(Sign::Alive, start, TERMS);
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

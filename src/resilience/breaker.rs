//! The circuit breaker: after enough failures a service is left alone for a while, then asked once.
//!
//! Results carry no ticket. A request that was let pass while the breaker was closed and reports while it is half-open is
//! as good evidence as the trial itself; while it is open, late results change nothing. A trial that never reports (its
//! caller hung up, its task was dropped) loses its lease, and the next request becomes the trial.

use std::fmt;
use std::time::{Duration, Instant};

use super::{Refusals, SuccessWindow};
use crate::routing::BreakerView;

/// Changes that nobody has taken are kept up to this number, newest first to stay.
const MAX_UNTAKEN: usize = 32;

/// When a breaker trips and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// How long it stays open before a trial.
    pub open_for: Duration,
    /// So many failures in a row trip it.
    pub consecutive_failures: u32,
    /// A smaller success ratio than this over [`BreakerPolicy::window`] trips it, 0 to 1.
    pub min_success_ratio: f64,
    /// The span of the success ratio.
    pub window: Duration,
    /// The success ratio counts from so many results on.
    pub min_sample: u32,
    /// A trial that has not reported for so long is given up.
    pub trial_lease: Duration,
}

impl BreakerPolicy {
    /// Five failures in a row, or more than half of at least 20 requests in 30 s.
    pub fn new(open_for: Duration) -> Self {
        Self {
            open_for,
            consecutive_failures: 5,
            min_success_ratio: 0.5,
            window: Duration::from_secs(30),
            min_sample: 20,
            trial_lease: Duration::from_secs(5),
        }
    }
}

/// What a failed request says of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// It is not well: no connection, no answer in time, 429, 5xx.
    Retryable,
    /// It refuses our credentials: requests wait until a probe finds them accepted.
    Unauthorized,
    /// It answers, and only this request was wrong: no evidence against its health.
    Permanent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TripReason {
    /// So many failures in a row.
    ConsecutiveFailures(u32),
    /// Too many failures in the window.
    FailureRatio {
        failed: u32,
        total: u32,
    },
    TrialFailed,
    /// The credentials were refused: it closes when a probe finds them accepted, see [`Breaker::take_try`].
    Unauthorized,
}

/// The breaker in full, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    /// Tripped: requests are refused at once.
    Open {
        since: Instant,
        reason: TripReason,
    },
    HalfOpen {
        /// Until when the trial under way may report; `None` where the next request becomes the trial.
        trial_until: Option<Instant>,
    },
}

impl BreakerState {
    fn view(self) -> BreakerView {
        match self {
            Self::Closed => BreakerView::Closed,
            Self::Open { .. } => BreakerView::Open,
            Self::HalfOpen { .. } => BreakerView::HalfOpen,
        }
    }
}

/// Whether a request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Admission {
    Allowed,
    /// It may, and its result decides: report it, or give it back by [`Breaker::abandoned`].
    Trial,
    Refused,
}

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Tripped(TripReason),
    /// It was open long enough.
    TrialDue,
    /// The trial succeeded, or a probe found the service well.
    Recovered,
    /// The credentials were tried again, and are still refused or not accepted.
    StillRefused,
    Reset,
    /// The process was started again, and what opened it may be over.
    Restarted,
}

/// One change of state, for the audit record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: BreakerView,
    pub to: BreakerView,
    pub cause: Cause,
}

/// The state as it is written in records: `closed`, `open`, `half_open`.
pub fn state_name(view: BreakerView) -> &'static str {
    match view {
        BreakerView::Closed => "closed",
        BreakerView::Open => "open",
        BreakerView::HalfOpen => "half_open",
    }
}

#[derive(Clone, Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: BreakerState,
    in_a_row: u32,
    window: SuccessWindow,
    refusals: Refusals,
    next_try: Option<NextTry>,
    untaken: Vec<Transition>,
}

/// When refused credentials are tried again.
#[derive(Clone, Copy, Debug)]
struct NextTry {
    at: Instant,
    /// Until when the try under way may report.
    under_way_until: Option<Instant>,
}

impl Breaker {
    pub fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            state: BreakerState::Closed,
            in_a_row: 0,
            window: SuccessWindow::new(policy.window, policy.min_sample),
            refusals: Refusals::default(),
            next_try: None,
            untaken: Vec::new(),
        }
    }

    /// Asks whether a request may be sent now.
    pub fn admit(&mut self, now: Instant) -> Admission {
        match (self.state, self.view(now)) {
            (_, BreakerView::Closed) => Admission::Allowed,
            (_, BreakerView::Open) => Admission::Refused,
            (before, BreakerView::HalfOpen) => {
                let half_open = BreakerState::HalfOpen {
                    trial_until: Some(now + self.policy.trial_lease),
                };
                if matches!(before, BreakerState::Open { .. }) {
                    self.change(half_open, Cause::TrialDue);
                } else {
                    self.state = half_open;
                }
                Admission::Trial
            }
        }
    }

    /// What [`Breaker::admit`] would say now, without asking for anything: half-open only while a trial is to be had.
    pub fn view(&self, now: Instant) -> BreakerView {
        match self.state {
            BreakerState::Closed => BreakerView::Closed,
            BreakerState::Open {
                reason: TripReason::Unauthorized,
                ..
            } => BreakerView::Open,
            BreakerState::Open { since, .. } => half_open_from(since + self.policy.open_for, now),
            BreakerState::HalfOpen { trial_until: None } => BreakerView::HalfOpen,
            BreakerState::HalfOpen {
                trial_until: Some(until),
            } => half_open_from(until, now),
        }
    }

    /// The state with its details.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    pub fn succeeded(&mut self, now: Instant) {
        match self.state {
            BreakerState::Closed => {
                self.in_a_row = 0;
                self.window.record(now, true);
                self.refusals.end();
            }
            BreakerState::HalfOpen { .. } => {
                self.close(Cause::Recovered);
                self.refusals.end();
            }
            BreakerState::Open { .. } => {}
        }
    }

    pub fn failed(&mut self, now: Instant, class: FailureClass) {
        match (class, self.state) {
            (FailureClass::Permanent, _) => self.succeeded(now),
            (
                FailureClass::Unauthorized,
                BreakerState::Open {
                    reason: TripReason::Unauthorized,
                    ..
                },
            )
            | (FailureClass::Retryable, BreakerState::Open { .. }) => {}
            (FailureClass::Unauthorized, _) => {
                let pause = self.refusals.begin(now);
                self.open(now, TripReason::Unauthorized);
                self.try_again_at(now + pause);
            }
            (FailureClass::Retryable, BreakerState::HalfOpen { .. }) => {
                self.open(now, TripReason::TrialFailed);
            }
            (FailureClass::Retryable, BreakerState::Closed) => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                self.window.record(now, false);
                if let Some(reason) = self.reason_to_trip(now) {
                    self.open(now, reason);
                }
            }
        }
    }

    /// A request that was admitted will never report. A trial is given back; otherwise nothing changes.
    pub fn abandoned(&mut self) {
        if let BreakerState::HalfOpen { trial_until } = &mut self.state {
            *trial_until = None;
        }
    }

    /// A probe, which is sent whatever the breaker says, came back. A good one closes it. A bad one counts while it is closed; it is the try where
    /// credentials are refused, and says nothing new otherwise.
    pub fn probed(&mut self, now: Instant, result: Result<(), FailureClass>) {
        match (result, self.state) {
            (Ok(()) | Err(FailureClass::Permanent), BreakerState::Closed) => self.in_a_row = 0,
            (Ok(()), BreakerState::Open { .. } | BreakerState::HalfOpen { .. }) => {
                self.close(Cause::Recovered);
            }
            (Err(_), _) if self.is_unauthorized() => self.still_refused(now),
            (Err(class @ FailureClass::Retryable), BreakerState::Closed)
            | (Err(class @ FailureClass::Unauthorized), _) => self.failed(now, class),
            (Err(FailureClass::Retryable | FailureClass::Permanent), _) => {}
        }
    }

    fn still_refused(&mut self, now: Instant) {
        let pause = self.refusals.again(now);
        self.try_again_at(now + pause);
        self.change(self.state, Cause::StillRefused);
    }

    fn try_again_at(&mut self, at: Instant) {
        self.next_try = Some(NextTry {
            at,
            under_way_until: None,
        });
    }

    /// Whether refused credentials are to be tried now, by one probe: [`Breaker::probed`] has to follow.
    pub fn is_try_due(&self, now: Instant) -> bool {
        self.next_try.is_some_and(|next| {
            now >= next.at && next.under_way_until.is_none_or(|until| until <= now)
        })
    }

    /// As [`Breaker::is_try_due`], and takes the try where there is one.
    pub fn take_try(&mut self, now: Instant) -> bool {
        let is_due = self.is_try_due(now);
        if let Some(next) = self.next_try.as_mut().filter(|_| is_due) {
            next.under_way_until = Some(now + self.policy.trial_lease);
        }
        is_due
    }

    /// Refused credentials are tried now: the configuration was read again, or somebody asks for it.
    pub fn try_now(&mut self, now: Instant) {
        if let Some(next) = &mut self.next_try {
            next.at = next.at.min(now);
        }
    }

    /// How often in a row the credentials were refused and when they are tried again; `None` where they are not refused.
    pub fn refused(&self) -> Option<(u32, Instant)> {
        self.next_try.map(|next| (self.refusals.count(), next.at))
    }

    /// Closes it: the credentials are others.
    pub fn reset(&mut self) {
        if self.state != BreakerState::Closed {
            self.close(Cause::Reset);
        }
        self.in_a_row = 0;
        self.window.clear();
        self.refusals.end();
    }

    /// Whether it is open because the credentials were refused.
    pub fn is_unauthorized(&self) -> bool {
        matches!(
            self.state,
            BreakerState::Open {
                reason: TripReason::Unauthorized,
                ..
            }
        )
    }

    /// Open since `since` because the credentials were refused, so many times by now, and to be tried at `next_try`, as an earlier run left it. No
    /// change of state: that run announced it.
    pub fn restore_unauthorized(&mut self, since: Instant, refusals: Refusals, next_try: Instant) {
        self.state = BreakerState::Open {
            since,
            reason: TripReason::Unauthorized,
        };
        self.refusals = refusals;
        self.try_again_at(next_try);
    }

    /// Closed, although an earlier run left it as `from`: the end of that is announced.
    pub fn restore_closed(&mut self, from: BreakerView, cause: Cause) {
        if from != BreakerView::Closed {
            self.untaken.push(Transition {
                from,
                to: BreakerView::Closed,
                cause,
            });
        }
    }

    /// Changes the policy; the state stays.
    pub fn set_policy(&mut self, policy: BreakerPolicy) {
        if (policy.window, policy.min_sample) != (self.policy.window, self.policy.min_sample) {
            self.window = SuccessWindow::new(policy.window, policy.min_sample);
        }
        self.policy = policy;
    }

    /// The changes of state since the last call, oldest first.
    pub fn take_transitions(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.untaken)
    }

    fn reason_to_trip(&self, now: Instant) -> Option<TripReason> {
        if self.in_a_row >= self.policy.consecutive_failures {
            return Some(TripReason::ConsecutiveFailures(self.in_a_row));
        }
        let ratio = self.window.success_ratio(now)?;
        let tally = self.window.tally(now);
        (ratio < self.policy.min_success_ratio).then_some(TripReason::FailureRatio {
            failed: tally.failed,
            total: tally.total(),
        })
    }

    fn open(&mut self, since: Instant, reason: TripReason) {
        self.change(BreakerState::Open { since, reason }, Cause::Tripped(reason));
    }

    fn close(&mut self, cause: Cause) {
        self.next_try = None;
        self.change(BreakerState::Closed, cause);
    }

    fn change(&mut self, to: BreakerState, cause: Cause) {
        if self.untaken.len() >= MAX_UNTAKEN {
            self.untaken.remove(0);
        }
        self.untaken.push(Transition {
            from: self.state.view(),
            to: to.view(),
            cause,
        });
        self.state = to;
        self.in_a_row = 0;
        self.window.clear();
    }
}

fn half_open_from(at: Instant, now: Instant) -> BreakerView {
    if now < at {
        BreakerView::Open
    } else {
        BreakerView::HalfOpen
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tripped(TripReason::ConsecutiveFailures(n)) => write!(f, "{n} failures in a row"),
            Self::Tripped(TripReason::FailureRatio { failed, total }) => {
                write!(f, "{failed} of {total} requests failed")
            }
            Self::Tripped(TripReason::TrialFailed) => f.write_str("the trial failed"),
            Self::Tripped(TripReason::Unauthorized) => f.write_str("the credentials were refused"),
            Self::TrialDue => f.write_str("open long enough"),
            Self::Recovered => f.write_str("it answers again"),
            Self::StillRefused => f.write_str("the credentials are still refused"),
            Self::Reset => f.write_str("the configuration changed"),
            Self::Restarted => f.write_str("the process was started again"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(15);

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn opened() -> (Breaker, Instant) {
        let start = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy::new(OPEN_FOR));
        for _ in 0..5 {
            assert_eq!(breaker.admit(start), Admission::Allowed);
            breaker.failed(start, FailureClass::Retryable);
        }
        (breaker, start)
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_trial_closes_it() {
        let (mut breaker, start) = opened();
        assert_eq!(breaker.admit(start + secs(14)), Admission::Refused);
        assert_eq!(breaker.view(start + secs(14)), BreakerView::Open);
        assert_eq!(breaker.view(start + OPEN_FOR), BreakerView::HalfOpen);
        assert_eq!(breaker.admit(start + OPEN_FOR), Admission::Trial);
        assert_eq!(breaker.view(start + OPEN_FOR), BreakerView::Open);
        assert_eq!(breaker.admit(start + OPEN_FOR), Admission::Refused);
        breaker.succeeded(start + secs(16));
        assert_eq!(breaker.admit(start + secs(16)), Admission::Allowed);
        let told: Vec<_> = breaker
            .take_transitions()
            .iter()
            .map(|t| {
                format!(
                    "{} to {}: {}",
                    state_name(t.from),
                    state_name(t.to),
                    t.cause
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "closed to open: 5 failures in a row",
                "open to half_open: open long enough",
                "half_open to closed: it answers again",
            ]
        );
        assert!(breaker.take_transitions().is_empty());
    }

    #[test]
    fn a_success_or_a_permanent_failure_ends_the_row() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy::new(OPEN_FOR));
        for i in 0..12 {
            breaker.failed(now, FailureClass::Retryable);
            if i % 4 == 3 {
                breaker.failed(now, FailureClass::Permanent);
            }
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_failed_trial_opens_it_again_for_the_whole_time() {
        let (mut breaker, start) = opened();
        let tried = start + OPEN_FOR;
        assert_eq!(breaker.admit(tried), Admission::Trial);
        breaker.failed(tried + secs(1), FailureClass::Retryable);
        assert_eq!(breaker.admit(tried + secs(15)), Admission::Refused);
        assert_eq!(breaker.admit(tried + secs(16)), Admission::Trial);
    }

    #[test]
    fn a_trial_that_never_reports_loses_its_lease() {
        let (mut breaker, start) = opened();
        assert_eq!(breaker.admit(start + secs(15)), Admission::Trial);
        assert_eq!(breaker.admit(start + secs(19)), Admission::Refused);
        assert_eq!(breaker.admit(start + secs(20)), Admission::Trial);
        breaker.abandoned();
        assert_eq!(breaker.admit(start + secs(20)), Admission::Trial);
    }

    fn refused() -> (Breaker, Instant) {
        let start = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy::new(OPEN_FOR));
        breaker.failed(start, FailureClass::Unauthorized);
        (breaker, start)
    }

    #[test]
    fn refused_credentials_let_no_request_pass_and_are_tried_by_one_probe_at_a_time() {
        let (mut breaker, start) = refused();
        // Requests from before say nothing.
        breaker.failed(start + secs(1), FailureClass::Unauthorized);
        breaker.succeeded(start + secs(1));
        assert!(breaker.is_unauthorized());
        assert_eq!(breaker.refused(), Some((1, start + secs(30))));
        assert!(!breaker.take_try(start + secs(29)));
        assert!(breaker.take_try(start + secs(30)));
        assert!(!breaker.take_try(start + secs(30)), "one request per try");
        assert_eq!(breaker.admit(start + secs(31)), Admission::Refused);
        breaker.probed(start + secs(31), Ok(()));
        assert_eq!(breaker.admit(start + secs(31)), Admission::Allowed);
        assert_eq!(breaker.refused(), None);
    }

    #[test]
    fn a_try_that_is_refused_or_fails_is_followed_by_a_later_one_and_told() {
        let (mut breaker, start) = refused();
        breaker.take_transitions();
        let mut now = start + secs(30);
        for (class, pause) in [
            (FailureClass::Unauthorized, 60),
            (FailureClass::Retryable, 120),
            (FailureClass::Permanent, 240),
        ] {
            assert!(breaker.take_try(now));
            breaker.probed(now, Err(class));
            assert!(!breaker.take_try(now + secs(pause - 1)));
            now += secs(pause);
        }
        assert_eq!(breaker.refused(), Some((4, now)));
        let told = breaker.take_transitions();
        assert_eq!(told.len(), 3);
        assert_eq!(
            (told[0].from, told[0].to),
            (BreakerView::Open, BreakerView::Open)
        );
        assert_eq!(told[0].cause, Cause::StillRefused);
    }

    #[test]
    fn a_try_that_never_reports_loses_its_lease_and_one_that_is_asked_for_comes_at_once() {
        let (mut breaker, start) = refused();
        breaker.try_now(start + secs(3));
        assert!(breaker.take_try(start + secs(3)));
        assert!(!breaker.take_try(start + secs(7)));
        assert!(breaker.take_try(start + secs(8)));
        let mut well = Breaker::new(BreakerPolicy::new(OPEN_FOR));
        well.try_now(start);
        assert!(!well.take_try(start), "nothing is refused");
    }

    #[test]
    fn what_a_probe_has_proven_is_believed_until_a_request_is_refused_again() {
        let (mut breaker, start) = refused();
        breaker.probed(start + secs(30), Ok(()));
        breaker.failed(start + secs(40), FailureClass::Unauthorized);
        assert_eq!(breaker.refused(), Some((2, start + secs(100))));
        breaker.probed(start + secs(100), Ok(()));
        breaker.succeeded(start + secs(101));
        breaker.failed(start + secs(102), FailureClass::Unauthorized);
        assert_eq!(breaker.refused(), Some((1, start + secs(132))));
        breaker.reset();
        assert_eq!(breaker.admit(start + secs(102)), Admission::Allowed);
    }

    #[test]
    fn a_trial_that_is_refused_tells_of_refused_credentials() {
        let (mut breaker, start) = opened();
        let tried = start + OPEN_FOR;
        assert_eq!(breaker.admit(tried), Admission::Trial);
        breaker.take_transitions();
        breaker.failed(tried, FailureClass::Unauthorized);
        let cause = Cause::Tripped(TripReason::Unauthorized);
        assert_eq!(breaker.take_transitions()[0].cause, cause);
        assert_eq!(breaker.refused(), Some((1, tried + secs(30))));
        // Time alone, which would let another trial pass, does not.
        assert_eq!(breaker.admit(tried + OPEN_FOR * 100), Admission::Refused);
    }

    #[test]
    fn of_too_many_changes_that_nobody_took_the_newest_are_kept() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy::new(OPEN_FOR));
        for _ in 0..20 {
            breaker.failed(now, FailureClass::Unauthorized);
            breaker.reset();
        }
        // Of the 40 changes, half of them ends: the last one is the newest of all.
        breaker.failed(now, FailureClass::Unauthorized);
        let kept = breaker.take_transitions();
        assert_eq!(kept.len(), MAX_UNTAKEN);
        let last = kept.last().unwrap();
        assert_eq!(last.cause, Cause::Tripped(TripReason::Unauthorized));
        assert_eq!(last.to, BreakerView::Open);
        assert_eq!(kept[MAX_UNTAKEN - 2].cause, Cause::Reset);
    }

    #[test]
    fn a_policy_that_leaves_the_window_alone_keeps_what_was_counted() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy::new(OPEN_FOR));
        let mostly_failing = |breaker: &mut Breaker, n| {
            for _ in 0..n {
                breaker.succeeded(now);
                breaker.failed(now, FailureClass::Retryable);
                breaker.failed(now, FailureClass::Retryable);
            }
        };
        mostly_failing(&mut breaker, 6);
        breaker.set_policy(BreakerPolicy::new(OPEN_FOR * 2));
        assert_eq!(breaker.state(), BreakerState::Closed);
        mostly_failing(&mut breaker, 1);
        assert_eq!(breaker.view(now), BreakerView::Open, "20 are counted");

        let mut breaker = Breaker::new(BreakerPolicy::new(OPEN_FOR));
        mostly_failing(&mut breaker, 6);
        breaker.set_policy(BreakerPolicy {
            window: secs(60),
            ..BreakerPolicy::new(OPEN_FOR)
        });
        mostly_failing(&mut breaker, 1);
        assert_eq!(breaker.view(now), BreakerView::Closed, "another window");
    }

    #[test]
    fn refused_credentials_outlast_an_ordinary_opening() {
        let (mut breaker, start) = opened();
        breaker.failed(start, FailureClass::Unauthorized);
        assert_eq!(breaker.admit(start + secs(60)), Admission::Refused);
    }

    #[test]
    fn mostly_failing_trips_it_without_a_row() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy::new(OPEN_FOR));
        for _ in 0..7 {
            breaker.succeeded(now);
            breaker.failed(now, FailureClass::Retryable);
            breaker.failed(now, FailureClass::Retryable);
        }
        assert_eq!(
            breaker.take_transitions(),
            [Transition {
                from: BreakerView::Closed,
                to: BreakerView::Open,
                cause: Cause::Tripped(TripReason::FailureRatio {
                    failed: 13,
                    total: 20
                }),
            }]
        );
    }

    #[test]
    fn a_probe_may_close_it_early() {
        let (mut breaker, start) = opened();
        breaker.probed(start, Err(FailureClass::Retryable));
        assert_eq!(breaker.admit(start), Admission::Refused);
        breaker.probed(start, Ok(()));
        assert_eq!(breaker.admit(start), Admission::Allowed);
    }

    #[test]
    fn bad_probes_open_it_where_nobody_else_asks() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy::new(OPEN_FOR));
        for result in [
            Err(FailureClass::Retryable),
            Ok(()),
            Err(FailureClass::Permanent),
        ] {
            breaker.probed(now, result);
        }
        for _ in 0..5 {
            assert_eq!(breaker.state(), BreakerState::Closed);
            breaker.probed(now, Err(FailureClass::Retryable));
        }
        assert_eq!(breaker.view(now), BreakerView::Open);
        breaker.probed(now, Err(FailureClass::Unauthorized));
        assert!(breaker.is_unauthorized());
    }

    proptest! {
        #![proptest_config(crate::property::seeded())]

        #[test]
        fn it_never_wedges_and_its_view_foretells_its_admission(steps in prop::collection::vec((0_u64..20_000, 0_u8..5), 0..200)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(BreakerPolicy::new(OPEN_FOR));
            for (step_ms, what) in steps {
                now += Duration::from_millis(step_ms);
                match what {
                    0 => breaker.succeeded(now),
                    1 => breaker.failed(now, FailureClass::Retryable),
                    2 => breaker.failed(now, FailureClass::Permanent),
                    3 => breaker.abandoned(),
                    _ => {}
                }
                let foretold = breaker.view(now);
                let expected = match breaker.admit(now) {
                    Admission::Allowed => BreakerView::Closed,
                    Admission::Trial => BreakerView::HalfOpen,
                    Admission::Refused => BreakerView::Open,
                };
                prop_assert_eq!(foretold, expected);
                prop_assert!(breaker.untaken.len() <= MAX_UNTAKEN);
            }
            prop_assert_ne!(breaker.admit(now + OPEN_FOR), Admission::Refused);
        }
    }

    #[test]
    fn a_restart_restores_refused_credentials_in_silence_and_announces_the_end_of_anything_else() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy::new(Duration::from_secs(15)));
        breaker.restore_unauthorized(now, Refusals::restored(2, now), now + secs(60));
        assert_eq!(breaker.take_transitions(), []);
        let later = now + Duration::from_hours(1);
        assert_eq!(breaker.admit(later), Admission::Refused);
        assert!(!breaker.is_try_due(now + secs(59)) && breaker.is_try_due(now + secs(60)));
        assert_eq!(breaker.refused(), Some((2, now + secs(60))));
        breaker.reset();
        assert_eq!(breaker.take_transitions()[0].cause, Cause::Reset);

        let mut breaker = Breaker::new(BreakerPolicy::new(Duration::from_secs(15)));
        breaker.restore_closed(BreakerView::Closed, Cause::Restarted);
        assert_eq!(breaker.take_transitions(), []);
        breaker.restore_closed(BreakerView::Open, Cause::Restarted);
        let announced = Transition {
            from: BreakerView::Open,
            to: BreakerView::Closed,
            cause: Cause::Restarted,
        };
        assert_eq!(breaker.take_transitions(), [announced]);
    }
}

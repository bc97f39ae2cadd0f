//! The circuit breaker of one service: a value that learns what happened and when.
//!
//! Closed: requests pass. Open: none does, until a time. Half-open: one request at a time may try, on a lease, so that a trial that never reports (its
//! caller hung up, its task was dropped) does not keep the circuit open for good. Where credentials were refused, a probe tries them in place of a
//! request, if there is one that uses them.
//!
//! Results carry no ticket. Before the time of an open circuit is over, they belong to requests that were sent before it opened, and change nothing;
//! after it, any result is as good evidence as that of the trial.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::window::FailureWindow;
use super::{LONGEST_PAUSE, RefusalCount, TriedBy};
use crate::routing::BreakerView;

/// So many failures in a row open the circuit.
pub const FAILURES_TO_OPEN: u32 = 5;
/// A longer Retry-After is cut to this.
pub const MAX_BACK_OFF: Duration = Duration::from_mins(1);

/// What the breaker of a service goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// How long it stays open before a trial.
    pub open_for: Duration,
    /// A request on trial that has not reported for so long is lost.
    pub trial_lease: Duration,
    /// The same for a probe that tries refused credentials.
    pub try_lease: Duration,
    /// What tries refused credentials again.
    pub tried_by: TriedBy,
    /// Whether it opens as well where most of the requests of the last 30 s failed.
    pub opens_by_share: bool,
    /// Whether probes are counted apart from requests, because each may fail alone; then two good ones in a row close it, and otherwise the first.
    pub probes_apart: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum OpenCause {
    Failing,
    /// The service failed and named a Retry-After.
    HeldOff,
    /// It limits our requests (429) and is otherwise well.
    RateLimited,
    /// It refused the credentials of a request.
    RefusedRequest,
    /// It refused the credentials of a probe.
    RefusedProbe,
}

impl OpenCause {
    /// The stable name, as in the database.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    pub fn is_refused(self) -> bool {
        match self {
            Self::RefusedRequest | Self::RefusedProbe => true,
            Self::Failing | Self::HeldOff | Self::RateLimited => false,
        }
    }
}

/// How a circuit is open.
#[derive(Clone, Debug)]
pub struct OpenState {
    pub since: Instant,
    /// When it opened for the last time; a trial may have failed in between.
    pub tripped_at: Instant,
    pub cause: OpenCause,
    pub why: String,
    /// When a trial may begin.
    pub until: Instant,
    /// By what; a request, unless credentials were refused.
    pub tried_by: TriedBy,
    /// Whether a request was sent on trial.
    pub is_half_open: bool,
    /// When the lease of the trial under way ends.
    trial: Option<Instant>,
    good_probes: u32,
}

/// What the end of a request or a probe says of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthSignal {
    /// It works, whatever it answered.
    Healthy,
    Failing(String),
    Unauthorized(String),
    /// It fails and names a Retry-After.
    BackOff(Duration, String),
    /// It limits our requests, with a Retry-After, and is otherwise well.
    RateLimited(Duration, String),
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    failed_requests: u32,
    failed_probes: u32,
    window: FailureWindow,
    opened: Option<OpenState>,
    refusals: RefusalCount,
}

impl Breaker {
    pub fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            failed_requests: 0,
            failed_probes: 0,
            window: FailureWindow::default(),
            opened: None,
            refusals: RefusalCount::default(),
        }
    }

    /// Changes the policy; the state stays.
    pub fn set_policy(&mut self, policy: BreakerPolicy) {
        self.policy = policy;
    }

    /// What [`Breaker::admit`] would say now: half-open only while a trial is to be had.
    pub fn view(&self, now: Instant) -> BreakerView {
        match &self.opened {
            None => BreakerView::Closed,
            Some(opened) if opened.admits_trial_by(TriedBy::Request, now) => BreakerView::HalfOpen,
            Some(_) => BreakerView::Open,
        }
    }

    pub fn opened(&self) -> Option<&OpenState> {
        self.opened.as_ref()
    }

    /// How it is open, where credentials were refused, and how often in a row they were.
    pub fn refused(&self) -> Option<(&OpenState, u32)> {
        let refused = self.opened.as_ref().filter(|o| o.cause.is_refused());
        refused.map(|opened| (opened, self.refusals.count()))
    }

    /// Whether it is open only because the service limits our requests.
    pub fn limits_requests(&self) -> bool {
        self.opened
            .as_ref()
            .is_some_and(|opened| opened.cause == OpenCause::RateLimited)
    }

    /// Opens it as an earlier run left it: since so long, and for the rest of its time, but for no longer than that run could have opened it.
    pub fn restore(
        &mut self,
        (cause, why): (OpenCause, String),
        (elapsed, rest): (Duration, Duration),
        refusals: u32,
        now: Instant,
    ) {
        let longest = if cause.is_refused() {
            LONGEST_PAUSE
        } else {
            self.policy.open_for.max(MAX_BACK_OFF)
        };
        self.open(now, rest.min(longest), cause, why);
        self.refusals = RefusalCount::restored(refusals, now);
        if let Some(opened) = &mut self.opened {
            opened.since = now.checked_sub(elapsed).unwrap_or(now);
            opened.tripped_at = opened.since;
        }
    }

    /// Whether a request may be sent now. Takes the trial where there is one to take: its end is to be reported, or [`Breaker::abandoned`].
    pub fn admit(&mut self, now: Instant) -> bool {
        self.opened.is_none() || self.take_trial(TriedBy::Request, now, self.policy.trial_lease)
    }

    /// Whether refused credentials are to be tried now, by one probe.
    pub fn is_try_due(&self, now: Instant) -> bool {
        self.opened
            .as_ref()
            .is_some_and(|opened| opened.admits_trial_by(TriedBy::Probe, now))
    }

    /// As [`Breaker::is_try_due`], and takes the try where there is one: [`Breaker::tried`] has to follow.
    pub fn take_try(&mut self, now: Instant) -> bool {
        self.take_trial(TriedBy::Probe, now, self.policy.try_lease)
    }

    fn take_trial(&mut self, by: TriedBy, now: Instant, lease: Duration) -> bool {
        let admitted = self
            .opened
            .as_mut()
            .filter(|opened| opened.admits_trial_by(by, now));
        let is_admitted = admitted.is_some();
        if let Some(opened) = admitted {
            opened.trial = Some(now + lease);
            opened.is_half_open = by == TriedBy::Request;
        }
        is_admitted
    }

    /// A request that was admitted will never report. A trial is given back; otherwise nothing changes.
    pub fn abandoned(&mut self) {
        if let Some(opened) = self
            .opened
            .as_mut()
            .filter(|o| o.tried_by == TriedBy::Request)
        {
            opened.trial = None;
        }
    }

    pub fn request_ended(&mut self, signal: HealthSignal, now: Instant) {
        let is_late = self.opened.as_ref().is_some_and(|o| !o.has_waited(now));
        let is_refused = self.refused().is_some();
        match signal {
            HealthSignal::Unknown => self.abandoned(),
            HealthSignal::Unauthorized(why) if !is_refused => {
                self.refuse(now, OpenCause::RefusedRequest, why);
            }
            HealthSignal::BackOff(after, why) if !is_refused => {
                self.back_off(now, after, OpenCause::HeldOff, why);
            }
            HealthSignal::RateLimited(after, why) if !is_refused => {
                self.back_off(now, after, OpenCause::RateLimited, why);
            }
            _ if is_late => {}
            HealthSignal::Healthy => {
                if self.opened.is_some() {
                    self.close();
                } else {
                    self.window.record(now, false);
                }
                (self.failed_requests, self.failed_probes) = (0, 0);
                self.refusals.end();
            }
            HealthSignal::Failing(why) if !is_refused => match &mut self.opened {
                Some(opened) => opened.open_again(now, self.policy.open_for, why),
                None => self.count_failure(now, false, why),
            },
            HealthSignal::Unauthorized(why)
            | HealthSignal::Failing(why)
            | HealthSignal::BackOff(_, why)
            | HealthSignal::RateLimited(_, why) => self.still_refused(now, why),
        }
    }

    /// Learns from a probe at the service's own pace. Where credentials are refused, such probes pause, and one that was under way says nothing.
    pub fn probe_ended(&mut self, signal: HealthSignal, now: Instant) {
        if self.refused().is_some() {
            return;
        }
        match (signal, &mut self.opened) {
            (HealthSignal::Unauthorized(why), _) => {
                self.refuse(now, OpenCause::RefusedProbe, why);
            }
            (HealthSignal::Healthy, None) => *self.failures_of_probes() = 0,
            (HealthSignal::Failing(why), None) => self.count_failure(now, true, why),
            (_, None) => {}
            (HealthSignal::Healthy, Some(opened)) => {
                opened.good_probes += 1;
                let enough = if self.policy.probes_apart { 2 } else { 1 };
                if opened.good_probes >= enough && opened.closes_by_probes(now) {
                    self.close();
                }
            }
            (HealthSignal::Failing(why), Some(opened))
                if opened.admits_trial_by(TriedBy::Request, now) =>
            {
                opened.open_again(now, self.policy.open_for, why);
            }
            (_, Some(opened)) => opened.good_probes = 0,
        }
    }

    /// Learns from a probe that tried refused credentials.
    pub fn tried(&mut self, signal: HealthSignal, now: Instant) {
        if self.refused().is_none() {
            return;
        }
        match signal {
            HealthSignal::Healthy => self.close(),
            HealthSignal::Unauthorized(why)
            | HealthSignal::Failing(why)
            | HealthSignal::BackOff(_, why)
            | HealthSignal::RateLimited(_, why) => self.still_refused(now, why),
            // The probe has no answer to the question, so a request has to ask it.
            HealthSignal::Unknown => {
                if let Some(opened) = &mut self.opened {
                    opened.tried_by = TriedBy::Request;
                    opened.trial = None;
                }
            }
        }
    }

    /// A test has found the credentials accepted.
    pub fn proven(&mut self) {
        if self.refused().is_some() {
            self.close();
        }
    }

    /// Refused credentials are tried now: the configuration was read again, or somebody asks for it.
    pub fn try_now(&mut self, now: Instant) {
        if let Some(opened) = self.opened.as_mut().filter(|o| o.cause.is_refused()) {
            opened.until = opened.until.min(now);
        }
    }

    /// Closes a circuit that refused credentials had opened: there are new ones.
    pub fn credentials_changed(&mut self) {
        self.proven();
        self.refusals.end();
    }

    /// What a probe or a test has proven may still be refused to a request; so refusals are counted on.
    fn close(&mut self) {
        *self = Self {
            refusals: self.refusals,
            ..Self::new(self.policy)
        };
    }

    fn failures_of_probes(&mut self) -> &mut u32 {
        if self.policy.probes_apart {
            &mut self.failed_probes
        } else {
            &mut self.failed_requests
        }
    }

    fn count_failure(&mut self, now: Instant, is_probe: bool, why: String) {
        let in_a_row = if is_probe {
            self.failures_of_probes()
        } else {
            &mut self.failed_requests
        };
        *in_a_row += 1;
        let is_row = *in_a_row >= FAILURES_TO_OPEN;
        self.window.record(now, true);
        let share = self.window.mostly_failed(now);
        match share.filter(|_| self.policy.opens_by_share) {
            _ if is_row => self.open(now, self.policy.open_for, OpenCause::Failing, why),
            Some((failed, total)) => {
                let why = format!("{failed} of {total} requests failed");
                self.open(now, self.policy.open_for, OpenCause::Failing, why);
            }
            None => {}
        }
    }

    fn refuse(&mut self, now: Instant, cause: OpenCause, why: String) {
        let pause = self.refusals.begin(now);
        self.open(now, pause, cause, why);
    }

    fn still_refused(&mut self, now: Instant, why: String) {
        let pause = self.refusals.again(now);
        if let Some(opened) = &mut self.opened {
            opened.until = now + pause;
            opened.tried_by = self.policy.tried_by;
            opened.trial = None;
            opened.why = why;
        }
    }

    fn open(&mut self, now: Instant, open_for: Duration, cause: OpenCause, why: String) {
        let since = self.opened.as_ref().map_or(now, |opened| opened.since);
        let tried_by = if cause.is_refused() {
            self.policy.tried_by
        } else {
            TriedBy::Request
        };
        self.opened = Some(OpenState {
            since,
            tripped_at: now,
            cause,
            why,
            until: now + open_for,
            tried_by,
            is_half_open: false,
            trial: None,
            good_probes: 0,
        });
    }

    /// Never shortens what is there.
    fn back_off(&mut self, now: Instant, after: Duration, cause: OpenCause, why: String) {
        let after = after.min(MAX_BACK_OFF);
        let is_longer = |opened: &OpenState| opened.until < now + after;
        if self.opened.as_ref().is_none_or(is_longer) {
            self.open(now, after, cause, why);
        }
    }
}

impl OpenState {
    fn has_waited(&self, now: Instant) -> bool {
        self.until <= now
    }

    fn admits_trial_by(&self, by: TriedBy, now: Instant) -> bool {
        self.tried_by == by && self.has_waited(now) && self.trial.is_none_or(|lease| lease <= now)
    }

    fn open_again(&mut self, now: Instant, open_for: Duration, why: String) {
        self.tripped_at = now;
        self.until = now + open_for;
        self.is_half_open = false;
        self.trial = None;
        self.good_probes = 0;
        self.why = why;
        self.cause = OpenCause::Failing;
    }

    /// Probes do not shorten a Retry-After.
    fn closes_by_probes(&self, now: Instant) -> bool {
        self.cause == OpenCause::Failing || self.has_waited(now)
    }
}

#[cfg(test)]
mod tests;

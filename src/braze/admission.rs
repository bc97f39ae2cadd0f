//! Whether Braze may be asked now: the breaker first, then our own limiter. Both learn from what comes back.

use std::time::{Duration, Instant};

use super::client::BrazeReply;
use super::settings::BrazeSettings;
use crate::audit::{Fingerprint, OpenCause, OpenCircuit};
use crate::clock::Clock;
use crate::resilience::{
    Breaker, BreakerPolicy, CredentialRefusal, FAILURES_TO_OPEN, HealthSignal, TokenBucket, TriedBy,
};
use crate::routing::{BreakerView, LookupUnavailable};

/// After so long without a request, a probe finds out whether Braze is well.
const IDLE: Duration = Duration::from_mins(5);
/// How often a probe does, then and while the circuit is open.
const PROBE_EVERY: Duration = Duration::from_mins(1);
/// Changes of state that were not taken are kept up to this number, newest first to stay.
const MAX_UNTAKEN: usize = 32;

const REFUSED: &str = "the credentials were refused";
const STILL_REFUSED: &str = "the credentials are still refused";
const RECOVERED: &str = "it answers again";
const RECONFIGURED: &str = "the configuration changed";
const TRIAL_DUE: &str = "open long enough";

/// Who asks: a caller on the line, or somebody who takes only what callers leave: a person at the dashboard, or a refresh behind a stale answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookupPurpose {
    Caller,
    Person,
    Refresh,
}

/// A change of the breaker's state, for the audit record: `closed`, `open` or `half_open`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerChange {
    pub from: &'static str,
    pub to: &'static str,
    pub cause: String,
}

/// How it stands with Braze.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupStatus {
    /// Whether it would be asked now.
    pub breaker: BreakerView,
    /// Whether its circuit is open, a trial that is due included.
    pub is_open: bool,
    /// Since when it is open, where that is known.
    pub since: Option<Instant>,
    pub why: Option<String>,
    /// The key, where it refuses it.
    pub refused: Option<CredentialRefusal>,
}

#[derive(Debug)]
pub(super) struct Admission {
    breaker: Breaker,
    bucket: TokenBucket,
    /// When a request was last admitted; at first, when this began.
    requested_at: Instant,
    probed_at: Option<Instant>,
    untaken: Vec<BreakerChange>,
}

impl Admission {
    pub(super) fn new(now: Instant, settings: &BrazeSettings) -> Self {
        Self {
            breaker: Breaker::new(policy(settings)),
            bucket: TokenBucket::new(now, settings.requests_per_minute),
            requested_at: now,
            probed_at: None,
            untaken: Vec::new(),
        }
    }

    /// An open breaker costs no token, and an empty bucket no trial.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        purpose: LookupPurpose,
    ) -> Result<(), LookupUnavailable> {
        if self.breaker.refused().is_some() {
            return Err(LookupUnavailable::Unauthorized);
        }
        if self.breaker.view(now) == BreakerView::Open {
            return Err(LookupUnavailable::BreakerOpen);
        }
        let has_token = match purpose {
            LookupPurpose::Caller => self.bucket.try_take(now),
            LookupPurpose::Person | LookupPurpose::Refresh => self.bucket.try_take_spare(now),
        };
        if !has_token {
            return Err(LookupUnavailable::LimiterEmpty);
        }
        if !self.change(RECOVERED, |breaker| breaker.admit(now)) {
            return Err(LookupUnavailable::BreakerOpen);
        }
        self.requested_at = now;
        Ok(())
    }

    /// A request that was admitted is never sent.
    pub(super) fn abandoned(&mut self) {
        self.breaker.abandoned();
    }

    /// Whether a probe is to be sent now: the try of a refused key that is due, or else one a minute while the circuit is open or no request was sent
    /// for five minutes. It takes what callers leave of the limit, and waits where they leave nothing. [`Admission::report_probe`] has to follow.
    pub(super) fn take_probe(&mut self, now: Instant) -> bool {
        if !self.is_probe_due(now) || !self.bucket.try_take_spare(now) {
            return false;
        }
        self.probed_at = Some(now);
        self.breaker.take_try(now);
        true
    }

    fn is_probe_due(&self, now: Instant) -> bool {
        let has_lasted = |since: Instant, span| now.saturating_duration_since(since) >= span;
        match self.breaker.opened() {
            Some(open) if open.cause.is_refused() => self.breaker.is_try_due(now),
            Some(open) => {
                let last = self.probed_at.map_or(open.since, |at| at.max(open.since));
                has_lasted(last, PROBE_EVERY)
            }
            None => {
                let is_due = |at| has_lasted(at, PROBE_EVERY);
                has_lasted(self.requested_at, IDLE) && self.probed_at.is_none_or(is_due)
            }
        }
    }

    /// A refused key is tried now, because somebody asks for it; whether there is anything to try. [`Admission::report_probe`] has to follow.
    pub(super) fn take_try_now(&mut self, now: Instant) -> bool {
        self.breaker.try_now(now);
        let is_taken = self.breaker.take_try(now);
        if is_taken {
            // A person does not wait for a token, but uses one up.
            self.bucket.try_take(now);
        }
        is_taken
    }

    /// Learns from the end of a request.
    pub(super) fn report<T>(&mut self, now: Instant, reply: &BrazeReply<T>) {
        let signal = match &reply.outcome {
            Ok(_) => HealthSignal::Healthy,
            Err(reason) => self.signal_of(*reason),
        };
        self.learn(now, reply, |breaker| breaker.request_ended(signal, now));
    }

    /// Learns from the end of a probe. A bad one says nothing new of a circuit that is open.
    pub(super) fn report_probe(&mut self, now: Instant, reply: &BrazeReply<()>) {
        let is_refused = self.breaker.refused().is_some();
        let is_open = self.breaker.opened().is_some();
        let signal = match reply.outcome {
            Ok(()) => HealthSignal::Healthy,
            Err(_) if is_refused => HealthSignal::Unauthorized(REFUSED.to_owned()),
            Err(reason) if !is_open || reason == LookupUnavailable::Unauthorized => {
                self.signal_of(reason)
            }
            Err(_) => HealthSignal::Unknown,
        };
        self.learn(now, reply, |breaker| {
            if is_refused {
                breaker.tried(signal, now);
            } else {
                breaker.probe_ended(signal, now);
            }
        });
    }

    /// An answer that could not be read says nothing of Braze's health: it may be one caller's profile.
    fn signal_of(&self, reason: LookupUnavailable) -> HealthSignal {
        match reason {
            LookupUnavailable::Unauthorized => HealthSignal::Unauthorized(REFUSED.to_owned()),
            LookupUnavailable::Rejected | LookupUnavailable::Malformed => HealthSignal::Healthy,
            LookupUnavailable::Timeout
            | LookupUnavailable::RateLimited
            | LookupUnavailable::LimiterEmpty
            | LookupUnavailable::BreakerOpen
            | LookupUnavailable::ServerError
            | LookupUnavailable::Connect
            | LookupUnavailable::NoBudget => HealthSignal::Failing(match self.breaker.opened() {
                None => format!("{FAILURES_TO_OPEN} failures in a row"),
                Some(open) if open.cause.is_refused() => REFUSED.to_owned(),
                Some(_) => "the trial failed".to_owned(),
            }),
        }
    }

    fn learn<T>(&mut self, now: Instant, reply: &BrazeReply<T>, report: impl FnOnce(&mut Breaker)) {
        let before = self.breaker.view(now);
        self.change(RECOVERED, report);
        self.log_change(before, reply.exchange.error.as_deref());
        match reply.rate.is_nearly_used_up() {
            Some(remaining) => self.bucket.throttle(now, remaining),
            None if reply.rate.remaining.is_some() => self.bucket.unthrottle(now),
            None => {}
        }
        if let Some(pause) = reply.pause {
            self.bucket.pause_until(now + pause);
        }
    }

    pub(super) fn reconfigure(
        &mut self,
        now: Instant,
        settings: &BrazeSettings,
        has_new_key: bool,
    ) {
        self.bucket.set_rate(now, settings.requests_per_minute);
        self.change(RECONFIGURED, |breaker| {
            breaker.set_policy(policy(settings));
            if has_new_key && breaker.refused().is_some() {
                breaker.credentials_changed();
            }
            breaker.try_now(now);
        });
    }

    /// Takes up that the key was refused to an earlier run. No change of state: that run announced it.
    pub(super) fn restore(
        &mut self,
        open: &OpenCircuit,
        times: (Duration, Duration),
        now: Instant,
    ) {
        let cause = (open.cause, open.why.clone());
        self.breaker.restore(cause, times, open.refusals, now);
    }

    /// An earlier run left it open, and it is closed now: the end of that is announced.
    pub(super) fn restore_closed(&mut self, has_new_key: bool) {
        let cause = if has_new_key {
            RECONFIGURED
        } else {
            "the process was started again"
        };
        self.announce("open", "closed", cause.to_owned());
    }

    /// That the key is refused, for the next run.
    pub(super) fn refused_key(
        &self,
        clock: &Clock,
        credentials: Fingerprint,
    ) -> Option<OpenCircuit> {
        self.breaker.refused().map(|(open, refusals)| OpenCircuit {
            cause: OpenCause::RefusedRequest,
            why: open.why.clone(),
            since: clock.time_of(open.tripped_at),
            until: Some(clock.time_of(open.until)),
            refusals,
            credentials,
        })
    }

    pub(super) fn status(&self, now: Instant) -> LookupStatus {
        let opened = self.breaker.opened();
        LookupStatus {
            breaker: self.breaker.view(now),
            is_open: opened.is_some(),
            since: opened.filter(|o| !o.is_half_open).map(|o| o.tripped_at),
            why: opened.map(|open| {
                let why = if open.is_half_open {
                    TRIAL_DUE
                } else {
                    &open.why
                };
                why.to_owned()
            }),
            refused: self
                .breaker
                .refused()
                .map(|(open, count)| CredentialRefusal {
                    credential: "the API key (braze.api_key)".to_owned(),
                    why: open.why.clone(),
                    count,
                    next_try: open.until,
                    tried_by: TriedBy::Probe,
                }),
        }
    }

    /// The changes of state since the last call, oldest first.
    pub(super) fn take_changes(&mut self) -> Vec<BreakerChange> {
        std::mem::take(&mut self.untaken)
    }

    /// The state as it is recorded, and how often in a row the key was refused.
    fn recorded_state(&self) -> (&'static str, Option<u32>) {
        let state = match self.breaker.opened() {
            None => "closed",
            Some(open) if open.is_half_open => "half_open",
            Some(_) => "open",
        };
        (state, self.breaker.refused().map(|(_, count)| count))
    }

    /// Lets the breaker change and announces that. `closed_because` holds where it closes.
    fn change<T>(&mut self, closed_because: &str, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let before = self.recorded_state();
        let result = act(&mut self.breaker);
        let after = self.recorded_state();
        if before != after {
            let cause = match self.breaker.opened() {
                None => closed_because,
                Some(open) if open.is_half_open => TRIAL_DUE,
                Some(_) if before.1.is_some() => STILL_REFUSED,
                Some(open) => &open.why,
            };
            let cause = cause.to_owned();
            self.announce(before.0, after.0, cause);
        }
        result
    }

    fn announce(&mut self, from: &'static str, to: &'static str, cause: String) {
        if self.untaken.len() >= MAX_UNTAKEN {
            self.untaken.remove(0);
        }
        self.untaken.push(BreakerChange { from, to, cause });
    }

    fn log_change(&self, before: BreakerView, error: Option<&str>) {
        match self.breaker.opened() {
            Some(open) if before != BreakerView::Open && !open.is_half_open => {
                if open.cause.is_refused() {
                    tracing::error!(
                        event = "lookup.unauthorized",
                        error,
                        "Braze refuses the key; callers go to the default dialer until a further try is accepted"
                    );
                } else {
                    tracing::warn!(
                        event = "lookup.opened",
                        reason = open.why,
                        error,
                        "Braze is left alone for a while"
                    );
                }
            }
            None if before != BreakerView::Closed => {
                tracing::info!(event = "lookup.closed", from = ?before, "Braze answers again");
            }
            _ => {}
        }
    }
}

fn policy(settings: &BrazeSettings) -> BreakerPolicy {
    BreakerPolicy {
        open_for: settings.open_for,
        trial_lease: settings.timeout * 2,
        try_lease: settings.timeout * 2,
        tried_by: TriedBy::Probe,
        opens_by_share: true,
        probes_apart: false,
    }
}

#[cfg(test)]
mod tests;

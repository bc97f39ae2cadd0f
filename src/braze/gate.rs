//! Whether Braze may be asked now: the breaker first, then our own limiter. What comes back teaches both.

use std::time::Instant;

use super::client::Reply;
use super::settings::Settings;
use crate::resilience::{Admission, Breaker, FailureClass, Policy, TokenBucket};
use crate::routing::{BreakerView, LookupUnavailable};

/// Who asks: a caller on the line, or a refresh behind a stale answer, which takes only what callers leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Caller,
    Refresh,
}

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) breaker: Breaker,
    bucket: TokenBucket,
}

impl Gate {
    pub(super) fn new(now: Instant, settings: &Settings) -> Self {
        Self {
            breaker: Breaker::new(policy(settings)),
            bucket: TokenBucket::new(now, settings.requests_per_minute),
        }
    }

    /// An open breaker costs no token, and an empty bucket no trial.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        purpose: Purpose,
    ) -> Result<(), LookupUnavailable> {
        if self.breaker.view(now) == BreakerView::Open {
            return Err(LookupUnavailable::BreakerOpen);
        }
        let has_token = match purpose {
            Purpose::Caller => self.bucket.try_take(now),
            Purpose::Refresh => self.bucket.try_take_spare(now),
        };
        if !has_token {
            return Err(LookupUnavailable::LimiterEmpty);
        }
        match self.breaker.admit(now) {
            Admission::Allowed | Admission::Trial => Ok(()),
            Admission::Refused => Err(LookupUnavailable::BreakerOpen),
        }
    }

    /// Learns from what came back.
    pub(super) fn report<T>(&mut self, now: Instant, reply: &Reply<T>) {
        match &reply.outcome {
            Ok(_) => self.breaker.succeeded(now),
            Err(reason) => self.breaker.failed(now, class(*reason)),
        }
        match reply.rate.is_nearly_used_up() {
            Some(remaining) => self.bucket.throttle(now, remaining),
            None if reply.rate.remaining.is_some() => self.bucket.unthrottle(now),
            None => {}
        }
        if let Some(pause) = reply.pause {
            self.bucket.pause_until(now + pause);
        }
    }

    pub(super) fn reconfigure(&mut self, now: Instant, settings: &Settings, new_key: bool) {
        self.breaker.set_policy(policy(settings));
        self.bucket.set_rate(now, settings.requests_per_minute);
        if new_key && self.breaker.is_unauthorized() {
            self.breaker.reset();
        }
    }
}

fn policy(settings: &Settings) -> Policy {
    Policy {
        trial_lease: settings.timeout * 2,
        ..Policy::new(settings.open_for)
    }
}

/// An answer that could not be read says nothing of Braze's health: it may be one caller's profile.
fn class(reason: LookupUnavailable) -> FailureClass {
    match reason {
        LookupUnavailable::Unauthorized => FailureClass::Unauthorized,
        LookupUnavailable::Rejected | LookupUnavailable::Malformed => FailureClass::Permanent,
        LookupUnavailable::Timeout
        | LookupUnavailable::RateLimited
        | LookupUnavailable::LimiterEmpty
        | LookupUnavailable::BreakerOpen
        | LookupUnavailable::ServerError
        | LookupUnavailable::Connect
        | LookupUnavailable::NoBudget => FailureClass::Retryable,
    }
}

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::client::RateLimit;
    use super::super::tests::settings;
    use super::*;
    use crate::audit::Exchange;
    use crate::clock::Clock;

    fn reply(outcome: Result<(), LookupUnavailable>, remaining: Option<u32>) -> Reply<()> {
        Reply {
            outcome,
            rate: RateLimit {
                limit: Some(250),
                remaining,
                reset: None,
            },
            pause: None,
            exchange: Exchange {
                service: "braze".to_owned(),
                method: "POST".to_owned(),
                url: String::new(),
                status: None,
                error: None,
                elapsed_ms: 0.0,
                request: None,
                response: None,
            },
        }
    }

    fn gate(requests_per_minute: u32) -> (Gate, Instant) {
        let mut settings = settings("https://rest.example.com");
        settings.requests_per_minute = requests_per_minute;
        let now = Clock::system().instant();
        (Gate::new(now, &settings), now)
    }

    fn passes(gate: &mut Gate, now: Instant, purpose: Purpose) -> usize {
        (0..1_000)
            .take_while(|_| gate.admit(now, purpose).is_ok())
            .count()
    }

    #[test]
    fn only_retryable_failures_open_it_and_one_trial_follows() {
        let (mut gate, now) = gate(6_000);
        for reason in [LookupUnavailable::Malformed, LookupUnavailable::Rejected] {
            for _ in 0..10 {
                gate.report(now, &reply(Err(reason), None));
            }
        }
        assert_eq!(gate.admit(now, Purpose::Caller), Ok(()));
        for _ in 0..5 {
            gate.report(now, &reply(Err(LookupUnavailable::Timeout), None));
        }
        let refused = Err(LookupUnavailable::BreakerOpen);
        assert_eq!(gate.admit(now, Purpose::Caller), refused);
        let later = now + Duration::from_secs(15);
        assert_eq!(gate.admit(later, Purpose::Caller), Ok(()));
        assert_eq!(gate.admit(later, Purpose::Caller), refused);
        gate.report(later, &reply(Ok(()), None));
        assert_eq!(gate.admit(later, Purpose::Caller), Ok(()));
    }

    #[test]
    fn refreshes_leave_half_of_the_bucket_to_callers() {
        let (mut gate, now) = gate(200);
        assert_eq!(passes(&mut gate, now, Purpose::Refresh), 25);
        assert_eq!(passes(&mut gate, now, Purpose::Caller), 25);
    }

    #[test]
    fn an_empty_bucket_takes_no_trial() {
        let (mut gate, now) = gate(4);
        gate.report(now, &reply(Err(LookupUnavailable::Connect), None));
        assert_eq!(passes(&mut gate, now, Purpose::Caller), 1);
        for _ in 0..4 {
            gate.report(now, &reply(Err(LookupUnavailable::Connect), None));
        }
        let half_open = now + Duration::from_secs(15);
        assert_eq!(passes(&mut gate, half_open, Purpose::Caller), 1);
        gate.breaker.abandoned();
        assert_eq!(
            gate.admit(half_open, Purpose::Caller),
            Err(LookupUnavailable::LimiterEmpty)
        );
        assert_eq!(gate.breaker.view(half_open), BreakerView::HalfOpen);
    }

    #[test]
    fn it_goes_slower_while_others_use_up_the_limit() {
        let (mut gate, now) = gate(200);
        gate.report(now, &reply(Ok(()), Some(8)));
        assert_eq!(passes(&mut gate, now, Purpose::Caller), 2);
        gate.report(now, &reply(Ok(()), Some(240)));
        let later = now + Duration::from_mins(1);
        assert_eq!(passes(&mut gate, later, Purpose::Caller), 50);
    }
}

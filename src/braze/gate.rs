//! Whether Braze may be asked now: the breaker first, then our own limiter. What comes back teaches both.

use std::time::{Duration, Instant};

use super::client::BrazeReply;
use super::settings::Settings;
use crate::resilience::{
    Admission, Breaker, BreakerPolicy, BreakerState, FailureClass, TokenBucket,
};
use crate::routing::{BreakerView, LookupUnavailable};

/// Where nobody was asked for so long, a probe finds out whether Braze is well.
const IDLE: Duration = Duration::from_mins(5);
/// How often a probe does, then and while the circuit is open.
const PROBE_EVERY: Duration = Duration::from_mins(1);

/// Who asks: a caller on the line, or somebody who takes only what callers leave: a person at the dashboard, or a refresh behind a stale answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Caller,
    Person,
    Refresh,
}

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) breaker: Breaker,
    bucket: TokenBucket,
    /// When somebody was last asked for; at first, when this began.
    asked_at: Instant,
    /// Since when the circuit is not closed, as far as was looked.
    open_since: Option<Instant>,
    probed_at: Option<Instant>,
}

impl Gate {
    pub(super) fn new(now: Instant, settings: &Settings) -> Self {
        Self {
            breaker: Breaker::new(policy(settings)),
            bucket: TokenBucket::new(now, settings.requests_per_minute),
            asked_at: now,
            open_since: None,
            probed_at: None,
        }
    }

    /// An open breaker costs no token, and an empty bucket no trial.
    pub(super) fn admit(&mut self, now: Instant, purpose: Asker) -> Result<(), LookupUnavailable> {
        if self.breaker.is_unauthorized() {
            return Err(LookupUnavailable::Unauthorized);
        }
        if self.breaker.view(now) == BreakerView::Open {
            return Err(LookupUnavailable::BreakerOpen);
        }
        let has_token = match purpose {
            Asker::Caller => self.bucket.try_take(now),
            Asker::Person | Asker::Refresh => self.bucket.try_take_spare(now),
        };
        if !has_token {
            return Err(LookupUnavailable::LimiterEmpty);
        }
        match self.breaker.admit(now) {
            Admission::Allowed | Admission::Trial => {
                self.asked_at = now;
                Ok(())
            }
            Admission::Refused => Err(LookupUnavailable::BreakerOpen),
        }
    }

    /// Whether a probe is to be sent now: the try of a refused key that is due, or else one a minute while the circuit is open or nobody was asked
    /// for five minutes. It takes what callers leave of the limit, and waits where they leave nothing. [`Gate::report_probe`] has to follow.
    pub(super) fn take_probe(&mut self, now: Instant) -> bool {
        let is_due = if self.breaker.is_unauthorized() {
            self.breaker.is_try_due(now)
        } else {
            self.is_probe_due(now)
        };
        if !is_due || !self.bucket.try_take_spare(now) {
            return false;
        }
        self.probed_at = Some(now);
        self.breaker.take_try(now);
        true
    }

    fn is_probe_due(&mut self, now: Instant) -> bool {
        let lasts = |since: Instant| now.saturating_duration_since(since);
        if self.breaker.state() == BreakerState::Closed {
            self.open_since = None;
            return lasts(self.asked_at) >= IDLE
                && self.probed_at.is_none_or(|at| lasts(at) >= PROBE_EVERY);
        }
        let since = *self.open_since.get_or_insert(now);
        lasts(self.probed_at.map_or(since, |at| at.max(since))) >= PROBE_EVERY
    }

    /// A refused key is tried now, because somebody asks for it; whether there is anything to try. [`Gate::report_probe`] has to follow.
    pub(super) fn take_try_now(&mut self, now: Instant) -> bool {
        self.breaker.try_now(now);
        let is_taken = self.breaker.take_try(now);
        if is_taken {
            // A person does not wait for a token, but uses one up.
            self.bucket.try_take(now);
        }
        is_taken
    }

    /// Learns from what came back.
    pub(super) fn report<T>(&mut self, now: Instant, reply: &BrazeReply<T>) {
        match &reply.outcome {
            Ok(_) => self.breaker.succeeded(now),
            Err(reason) => self.breaker.failed(now, class(*reason)),
        }
        self.learn_limit(now, reply);
    }

    /// Learns from what a probe brought.
    pub(super) fn report_probe(&mut self, now: Instant, reply: &BrazeReply<()>) {
        self.breaker.probed(now, reply.outcome.map_err(class));
        self.learn_limit(now, reply);
    }

    fn learn_limit<T>(&mut self, now: Instant, reply: &BrazeReply<T>) {
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
        self.breaker.try_now(now);
    }
}

fn policy(settings: &Settings) -> BreakerPolicy {
    BreakerPolicy {
        trial_lease: settings.timeout * 2,
        ..BreakerPolicy::new(settings.open_for)
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

    fn reply(outcome: Result<(), LookupUnavailable>, remaining: Option<u32>) -> BrazeReply<()> {
        BrazeReply {
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

    fn passes(gate: &mut Gate, now: Instant, purpose: Asker) -> usize {
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
        assert_eq!(gate.admit(now, Asker::Caller), Ok(()));
        for _ in 0..5 {
            gate.report(now, &reply(Err(LookupUnavailable::Timeout), None));
        }
        let refused = Err(LookupUnavailable::BreakerOpen);
        assert_eq!(gate.admit(now, Asker::Caller), refused);
        let later = now + Duration::from_secs(15);
        assert_eq!(gate.admit(later, Asker::Caller), Ok(()));
        assert_eq!(gate.admit(later, Asker::Caller), refused);
        gate.report(later, &reply(Ok(()), None));
        assert_eq!(gate.admit(later, Asker::Caller), Ok(()));
    }

    fn probes(gate: &mut Gate, from: Instant, seconds: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        seconds
            .filter(|second| gate.take_probe(from + Duration::from_secs(*second)))
            .collect()
    }

    #[test]
    fn nobody_is_asked_for_once_a_minute_while_it_is_open_or_after_five_idle_minutes() {
        let (mut gate, now) = gate(200);
        assert_eq!(probes(&mut gate, now, 0..=500), [300, 360, 420, 480]);
        let asked = now + Duration::from_secs(500);
        assert_eq!(gate.admit(asked, Asker::Caller), Ok(()));
        assert_eq!(probes(&mut gate, asked, 0..=370), [300, 360]);
        let open = asked + Duration::from_secs(370);
        assert_eq!(gate.admit(open, Asker::Caller), Ok(()));
        for _ in 0..5 {
            gate.report(open, &reply(Err(LookupUnavailable::Timeout), None));
        }
        // Callers who try it in between make no difference.
        assert_eq!(probes(&mut gate, open, 0..=65), [60]);
        let trial = open + Duration::from_secs(66);
        assert_eq!(gate.admit(trial, Asker::Caller), Ok(()));
        gate.report(trial, &reply(Err(LookupUnavailable::Timeout), None));
        assert_eq!(probes(&mut gate, open, 67..=130), [120]);
        let well = open + Duration::from_secs(130);
        gate.report_probe(well, &reply(Ok(()), None));
        assert_eq!(gate.admit(well, Asker::Caller), Ok(()));
        assert_eq!(probes(&mut gate, well, 0..=299), [0; 0]);
    }

    #[test]
    fn a_probe_takes_what_callers_leave_and_a_token_with_it() {
        let (mut gate, now) = gate(4);
        let idle = now + IDLE;
        assert!(gate.take_probe(idle));
        assert_eq!(passes(&mut gate, idle, Asker::Caller), 0, "of one in all");
        let (mut gate, now) = self::gate(200);
        let idle = now + IDLE;
        assert!(gate.take_probe(idle));
        gate.report_probe(idle, &reply(Ok(()), Some(8)));
        assert_eq!(passes(&mut gate, idle, Asker::Caller), 2, "it slows down");
    }

    #[test]
    fn a_refused_key_is_tried_by_its_own_schedule_and_callers_hear_why() {
        let (mut gate, now) = gate(200);
        gate.report(now, &reply(Err(LookupUnavailable::Unauthorized), None));
        let refused = Err(LookupUnavailable::Unauthorized);
        assert_eq!(gate.admit(now, Asker::Caller), refused);
        assert_eq!(probes(&mut gate, now, 0..=31), [30]);
        let second = Duration::from_secs(1);
        gate.report_probe(now + second * 30, &reply(refused, None));
        assert_eq!(probes(&mut gate, now, 31..=90), [90]);
        gate.report_probe(now + second * 90, &reply(Ok(()), None));
        assert_eq!(gate.admit(now + second * 90, Asker::Caller), Ok(()));
    }

    #[test]
    fn refreshes_leave_half_of_the_bucket_to_callers() {
        let (mut gate, now) = gate(200);
        assert_eq!(passes(&mut gate, now, Asker::Refresh), 25);
        assert_eq!(passes(&mut gate, now, Asker::Person), 0);
        assert_eq!(passes(&mut gate, now, Asker::Caller), 25);
    }

    #[test]
    fn an_empty_bucket_takes_no_trial() {
        let (mut gate, now) = gate(4);
        gate.report(now, &reply(Err(LookupUnavailable::Connect), None));
        assert_eq!(passes(&mut gate, now, Asker::Caller), 1);
        for _ in 0..4 {
            gate.report(now, &reply(Err(LookupUnavailable::Connect), None));
        }
        let half_open = now + Duration::from_secs(15);
        assert_eq!(passes(&mut gate, half_open, Asker::Caller), 1);
        gate.breaker.abandoned();
        assert_eq!(
            gate.admit(half_open, Asker::Caller),
            Err(LookupUnavailable::LimiterEmpty)
        );
        assert_eq!(gate.breaker.view(half_open), BreakerView::HalfOpen);
    }

    #[test]
    fn it_goes_slower_while_others_use_up_the_limit() {
        let (mut gate, now) = gate(200);
        gate.report(now, &reply(Ok(()), Some(8)));
        assert_eq!(passes(&mut gate, now, Asker::Caller), 2);
        gate.report(now, &reply(Ok(()), Some(240)));
        let later = now + Duration::from_mins(1);
        assert_eq!(passes(&mut gate, later, Asker::Caller), 50);
    }
}

//! Performs what the pure handoff run asks for, and writes intent and outcome around every request.

use std::time::{Duration, Instant};

use super::answering::{Answering, Calls};
use super::handoff_result::{HandoffResult, HandoffTarget};
use super::record::Repeated;
use crate::audit::{Attempt, HandoffIntended, Record};
use crate::dialer::{HandedOff, HandoffPayload};
use crate::handoff::{Candidate, Failure, FailureKind, Next, Outcome, Run};
use crate::routing::DialerId;

/// How long an intent may take to reach the disk before the request leaves anyway.
const INTENT_PATIENCE: Duration = Duration::from_millis(100);
/// A request is not sent with less time than this.
const MIN_REQUEST: Duration = Duration::from_millis(10);

impl Calls {
    /// Asks the dialers of `plan` in order until one takes the call.
    pub(super) async fn hand_off(
        &self,
        answering: &mut Answering,
        plan: &[DialerId],
        payload: HandoffPayload,
    ) -> Result<HandoffResult, Repeated> {
        let started = answering.stopwatch.now();
        let result = self.ask_in_order(answering, plan, payload).await;
        answering.stopwatch.handoff_took(started);
        result
    }

    async fn ask_in_order(
        &self,
        answering: &mut Answering,
        plan: &[DialerId],
        mut payload: HandoffPayload,
    ) -> Result<HandoffResult, Repeated> {
        let candidates = plan.iter().filter_map(|dialer| self.candidate(dialer));
        let mut run = Run::new(candidates.collect());
        let mut result = HandoffResult::default();
        let mut next = run.start(answering.stopwatch.remaining());
        loop {
            let (dialer, after, share) = match next {
                Next::Send {
                    dialer,
                    attempt,
                    after,
                    timeout,
                } => {
                    payload.attempt = attempt;
                    (dialer, after, timeout)
                }
                Next::Connect {
                    dialer,
                    certainty,
                    reference,
                } => {
                    result.target = Some(HandoffTarget {
                        dialer,
                        certainty,
                        reference,
                    });
                    return Ok(result);
                }
                Next::GiveUp => return Ok(result),
            };
            let ends_at = answering.stopwatch.now() + after + share;
            if !after.is_zero() {
                self.clock.wait(after).await;
            }
            self.write_intent(answering, &dialer, &payload, share)
                .await?;
            let handed_off = self.ask(&dialer, &payload, ends_at).await;
            result.n_requests += usize::from(!handed_off.exchanges.is_empty());
            if let Some(failure) = handed_off.outcome.failure() {
                result.refusals.retain(|(known, _)| *known != dialer);
                result.refusals.push((dialer.clone(), failure));
            }
            next = run.next(&handed_off.outcome, answering.stopwatch.remaining());
            self.conclude_attempt(answering, dialer, &payload, handed_off);
        }
    }

    fn candidate(&self, dialer: &DialerId) -> Option<Candidate> {
        let dialer = self.fleet.get(dialer)?;
        Some(Candidate {
            dialer: dialer.id().clone(),
            timeout: dialer.timeout(),
            repeat: dialer.repeat(),
            line_only: self
                .fleet
                .may_not_be_asked(dialer.id(), self.clock.instant()),
        })
    }

    /// The intent is on disk before the request leaves; only a store that fails or is late is not waited for.
    async fn write_intent(
        &self,
        answering: &mut Answering,
        dialer: &DialerId,
        payload: &HandoffPayload,
        share: Duration,
    ) -> Result<(), Repeated> {
        let intended = HandoffIntended {
            dialer: dialer.clone(),
            attempt: payload.attempt,
            timeout_ms: u64::try_from(share.as_millis()).unwrap_or(u64::MAX),
        };
        let (now, pending) = (self.clock.now(), &mut answering.pending);
        pending.intend(now, &payload.call_id, intended);
        let patience = INTENT_PATIENCE.min(answering.stopwatch.remaining());
        self.recorder
            .flush(&mut answering.pending, patience)
            .await?;
        Ok(())
    }

    async fn ask(&self, id: &DialerId, payload: &HandoffPayload, ends_at: Instant) -> HandedOff {
        let now = self.clock.instant();
        let timeout = ends_at.saturating_duration_since(now);
        if timeout < MIN_REQUEST {
            return HandedOff::not_sent(Outcome::Retryable {
                failure: Failure::of(FailureKind::NoTime),
                retry_after_ms: None,
            });
        }
        let admitted = self.fleet.get(id).filter(|_| self.fleet.admit(id, now));
        let Some(dialer) = admitted else {
            let kind = if self.fleet.limits_requests(id) {
                FailureKind::RateLimited
            } else {
                FailureKind::BreakerOpen
            };
            return HandedOff::not_sent(Outcome::Refused {
                failure: Failure::of(kind),
            });
        };
        let handed_off = dialer.hand_off(payload, timeout).await;
        if let Some(failure) = handed_off.outcome.failure() {
            tracing::warn!(event = "handoff.failed", dialer = %id, attempt = payload.attempt, reason = %failure, "the dialer did not take the call");
        }
        handed_off
    }

    /// The outcome of an attempt, and how it changed the dialer's health.
    fn conclude_attempt(
        &self,
        answering: &mut Answering,
        dialer: DialerId,
        payload: &HandoffPayload,
        handed_off: HandedOff,
    ) {
        let now = self.clock.now();
        let shown = handed_off.recorded_outcome(&payload.caller);
        let HandedOff { outcome, exchanges } = handed_off;
        let was_asked = !matches!(
            outcome.failure().map(|failure| failure.kind),
            Some(FailureKind::BreakerOpen | FailureKind::NoTime)
        );
        let change = was_asked
            .then(|| self.fleet.report(&dialer, &outcome, self.clock.instant()))
            .flatten();
        let pending = &mut answering.pending;
        pending.conclude(
            now,
            Attempt {
                dialer,
                attempt: payload.attempt,
                outcome: shown,
                exchanges,
            },
        );
        let changed = change.map(|change| Record::of_service(now, change.into_event()));
        pending.records.extend(changed);
    }
}

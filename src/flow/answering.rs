//! The steps that every answer to a webhook of a call has in common: lock the call → hand off → record → answer.

use std::sync::Arc;
use std::time::Duration;

use super::call_answer::{CallAnswer, Voice};
use super::dialer_loads::DialerLoads;
use super::locks::{CallLock, IdempotencyLocks};
use super::missed_calls::MissedCalls;
use super::policy::{Policies, Policy};
use super::record::{ARRIVAL, PendingWrites, Recorded, Recorder, Repeated, call_after};
use super::stopwatch::Stopwatch;
use super::waiting::Waiting;
use crate::alerts::Incidents;
use crate::audit::{Adoption, CallAnswered, Event, Personal, Record};
use crate::call::{CallId, InboundCall};
use crate::clock::Clock;
use crate::dialer::Fleet;
use crate::routing::{DialerView, Lists};
use crate::store::StoredCall;

/// What webhooks of calls are answered with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Calls {
    pub clock: Clock,
    pub policies: Policies,
    /// Which webhook of a call is answered, and which was answered before.
    pub locks: IdempotencyLocks,
    pub fleet: Fleet,
    /// Who waits for a dialer.
    pub waiting: Waiting,
    pub loads: DialerLoads,
    /// Which callers are on which lists.
    pub lists: Lists,
    pub incidents: Incidents,
    /// Callers who reached nobody.
    pub missed: MissedCalls,
    pub recorder: Recorder,
}

/// The answer to one webhook, while it is made.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) policy: Arc<Policy>,
    pub(super) request_id: String,
    pub(super) stopwatch: Stopwatch,
    pub(super) pending: PendingWrites,
    /// The name of this answer among those of the call.
    step: String,
    /// How the call is adopted, should it be.
    pub(super) adoption: Adoption,
    lock: CallLock,
}

impl Answering {
    /// Whether the store did not say if this webhook was answered before.
    pub(super) fn is_unclaimed(&self) -> bool {
        self.lock.is_unclaimed()
    }
}

impl Calls {
    /// Begins to answer the first webhook of a call.
    pub(super) async fn begin_arrival(
        &self,
        policy: Arc<Policy>,
        call_id: &CallId,
        asks_braze: bool,
        request_id: &str,
    ) -> Result<Answering, Repeated> {
        let stopwatch = Stopwatch::starting(&self.clock, policy.budget);
        Ok(Answering {
            policy,
            request_id: request_id.to_owned(),
            stopwatch,
            pending: PendingWrites::opening(call_id),
            step: ARRIVAL.to_owned(),
            adoption: Adoption::Passport,
            lock: self.locks.lock_arrival(call_id, asks_braze).await?,
        })
    }

    /// Begins to answer a later webhook of a call.
    pub(super) async fn begin(
        &self,
        call_id: &CallId,
        step: String,
        adoption: Adoption,
        request_id: &str,
    ) -> Result<Answering, Repeated> {
        let policy = self.policies.current();
        let stopwatch = Stopwatch::starting(&self.clock, policy.budget);
        let lock = self.locks.lock_step(call_id, &step).await?;
        Ok(Answering {
            policy,
            request_id: request_id.to_owned(),
            stopwatch,
            pending: PendingWrites::default(),
            step,
            adoption,
            lock,
        })
    }

    /// Records the answer, with the bytes that go out, and gives these: a repeat gets the same. `talked_s` is for how long caller and agent
    /// talked, in seconds, where that is over.
    pub(super) async fn conclude(
        &self,
        mut answering: Answering,
        call: &InboundCall,
        stored: StoredCall,
        answer: CallAnswer,
        talked_s: Option<u32>,
    ) -> Result<String, Repeated> {
        let CallAnswer {
            body,
            answer,
            state,
            reason,
        } = answer;
        let (step, stopwatch) = (answering.step, answering.stopwatch);
        let now = self.clock.now();
        let after = call_after(&stored, &state, reason, now, talked_s);
        let known = stored.moved_on(&after, now);
        let answered = CallAnswered {
            request_id: answering.request_id,
            step: step.clone(),
            answer,
            stages: stopwatch.stages(),
            within_budget: stopwatch.within_budget(),
            unclaimed: answering.pending.unclaimed,
            attempt: answering.pending.last_attempt(),
        };
        let personal = Personal {
            caller: Some(call.caller.as_text().to_owned()),
            body: Some(body.clone()),
            step: Some(step.clone()),
            ..Personal::default()
        };
        let event = Event::CallAnswered(Box::new(answered));
        answering.pending.records.push(Record {
            personal: Some(personal),
            ..Record::of_call(now, &call.call_id, event).leaving(after)
        });
        let patience = stopwatch.for_the_record();
        let recorded = self
            .recorder
            .flush(&mut answering.pending, patience)
            .await?;
        self.update(recorded, known, Some((&step, &body)));
        if step == ARRIVAL {
            self.locks.remember(&call.call_id, &body);
        }
        Ok(body)
    }

    /// Remembers the call after a record, as [`IdempotencyLocks::update`] does, and how many calls its dialer has.
    pub(super) fn update(
        &self,
        recorded: Recorded,
        call: StoredCall,
        answer: Option<(&str, &str)>,
    ) {
        self.loads.follow(&call);
        self.missed.observe(&call);
        self.locks.update(recorded, call, answer);
    }

    /// The dialers as a call sees them, with their hours and limits.
    pub fn views(&self, policy: &Policy) -> Vec<DialerView> {
        let views = self.fleet.views(self.clock.instant());
        self.loads
            .seen_with_limits(views, &policy.ruleset, self.clock.now())
    }

    /// Renders answers to this call, which stood so; a caller who is held asks again after `pause`.
    pub(super) fn voice<'a>(
        &'a self,
        policy: &'a Policy,
        call: &'a InboundCall,
        stored: &'a StoredCall,
        pause: Duration,
    ) -> Voice<'a> {
        let rule = stored.rule.as_deref();
        Voice {
            policy,
            rule: policy.ruleset.rule(rule),
            spoken: policy.spoken(rule),
            fleet: &self.fleet,
            call,
            stored,
            passport_keys: self.locks.passport_keys(),
            pause,
            clock: &self.clock,
        }
    }

    /// The safe answer, where the store does not hold the call of a webhook, or cannot give it back.
    pub(super) fn answer_to_unknown_call(
        &self,
        policy: &Policy,
        call: &InboundCall,
        somebody_waits: bool,
    ) -> String {
        metrics::counter!("switchboard_unknown_calls_total").increment(1);
        if somebody_waits {
            tracing::warn!(
                event = "call.unknown",
                "a caller waits whose call the store does not hold: safe answer"
            );
            self.incidents
                .undecided(Some(&call.call_id), "call_unknown");
        }
        policy
            .safe_answer(Some(&call.caller), call.called.as_deref())
            .to_xml()
    }
}

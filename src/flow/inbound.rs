//! A call arrives: claim → gather → decide → hand off → record → answer.

use super::claim::{Claim, Claims};
use super::gather::{Gather, Gathered};
use super::hand_off::{HandOff, Handed, HandoffResult, Opening};
use super::last_words::{LastWords, Parties};
use super::note;
use super::policy::{Policies, Policy};
use super::record::{Recorded, Recorder};
use super::stopwatch::Stopwatch;
use crate::audit::{CallAfter, CallDecided, Door, Event, Personal, Record};
use crate::call::CallState;
use crate::clock::Clock;
use crate::dialer::Fleet;
use crate::lead::TierName;
use crate::routing::{self, Decision, DialerId};
use crate::twilio::IncomingCall;

/// The step name of a call's first answer.
const STEP: &str = "inbound";

/// Answers calls that arrive. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// Reads time.
    pub clock: Clock,
    /// What is in force.
    pub policies: Policies,
    /// Who works on which call.
    pub claims: Claims,
    /// Asks Braze and the fleet.
    pub gather: Gather,
    /// Tells the dialers.
    pub hand_off: HandOff,
    /// The dialers.
    pub fleet: Fleet,
    /// Writes it down.
    pub recorder: Recorder,
}

impl Inbound {
    /// Answers a call with TwiML. Infallible: whatever breaks, the caller is put through or told so.
    pub async fn answer(&self, call: IncomingCall, request_id: &str) -> String {
        let policy = self.policies.current();
        let stopwatch = Stopwatch::starting(&self.clock, policy.budget);
        let _in_hand = match self.claims.claim_arrival(&call.call_id).await {
            Claim::Answered(body) => return repeated(body),
            Claim::Ours(in_hand) => in_hand,
        };
        let arrival = Arrival {
            call: &call,
            request_id,
            policy: &policy,
        };
        if let Some(body) = self
            .route(&arrival, stopwatch.clone(), Opening::NewCall)
            .await
        {
            return body;
        }
        if let Some(body) = self.claims.answer(&call.call_id, STEP).await {
            return repeated(body);
        }
        // The process ended before it could answer this call: as if it were new, under the same idempotency keys.
        let body = self.route(&arrival, stopwatch, Opening::KnownCall).await;
        body.unwrap_or_else(|| safe_answer(&arrival))
    }

    /// Gather, decide, hand off, record. `None` where the ledger knows the call although it was to be opened.
    async fn route(
        &self,
        arrival: &Arrival<'_>,
        mut stopwatch: Stopwatch,
        opening: Opening,
    ) -> Option<String> {
        let started = stopwatch.now();
        let gathered = self
            .gather
            .facts(&arrival.call.caller, stopwatch.deadline())
            .await;
        stopwatch.lookup_took(started);
        let decision = routing::decide(&arrival.policy.ruleset, &gathered.facts);

        let note = note::of_decision(
            arrival.call,
            &decision,
            &arrival.policy.ruleset,
            arrival.request_id,
        );
        let decided = self.decided(arrival, gathered, &decision);
        let started = stopwatch.now();
        let plan = &decision.plan.dialers;
        let handed = self
            .hand_off
            .run(plan, &note, &stopwatch, opening, vec![decided])
            .await;
        stopwatch.handoff_took(started);
        if handed.result == HandoffResult::Repeat {
            return None;
        }
        self.conclude(arrival, &decision, handed, &stopwatch).await
    }

    /// Builds, records and returns the answer.
    async fn conclude(
        &self,
        arrival: &Arrival<'_>,
        decision: &Decision,
        handed: Handed,
        stopwatch: &Stopwatch,
    ) -> Option<String> {
        let call = arrival.call;
        let parties = Parties {
            caller: &call.caller,
            called: call.called.as_deref(),
        };
        let state = CallState::routing(decision.plan.dialers.clone());
        let now = self.clock.now();
        let words = LastWords::after_handoff(
            arrival.policy,
            &self.fleet,
            &handed,
            parties,
            state,
            decision.reason,
            now,
        );
        let body = words.response.to_xml();
        report(&words, decision, stopwatch);
        let after = self.after(&words, stopwatch);
        let step = STEP.to_owned();
        let answered = words.record(
            stopwatch,
            &call.call_id,
            arrival.request_id,
            step,
            &body,
            after,
        );
        let mut records = handed.unwritten;
        records.push(answered.unclaimed(handed.unclaimed));
        let recorded = self
            .recorder
            .record(handed.opening, records, stopwatch.for_the_record())
            .await;
        if recorded == Recorded::Repeat {
            return None;
        }
        self.claims.remember(&call.call_id, &body);
        Some(body)
    }

    fn after(&self, words: &LastWords, stopwatch: &Stopwatch) -> CallAfter {
        let ended = words.state.disposition().is_some();
        CallAfter {
            status: words.state.status(),
            disposition: words.state.disposition(),
            reason: words.reason,
            dialer: words.state.dialer().cloned(),
            failed_over: words.state.failed_over(),
            held: words.state.waiting().is_some(),
            answered_at: None,
            ended_at: ended.then(|| self.clock.now()),
            routing_ms: u64::try_from(stopwatch.elapsed().as_millis()).ok(),
            state: words.state.clone(),
        }
    }

    fn decided(&self, arrival: &Arrival<'_>, gathered: Gathered, decision: &Decision) -> Record {
        let call = arrival.call;
        let decided = CallDecided {
            request_id: arrival.request_id.to_owned(),
            door: Door::Twilio,
            caller: call.caller.masked(),
            facts: gathered.facts,
            lookup_exchange: gathered.exchange,
            decision: decision.clone(),
        };
        let personal = Personal {
            caller: Some(call.caller.as_text().to_owned()),
            called: call.called.clone(),
            ..Personal::default()
        };
        Record {
            personal: Some(personal),
            ..Record::of_call(
                self.clock.now(),
                &call.call_id,
                Event::CallDecided(Box::new(decided)),
            )
        }
    }
}

/// What arrived, and by which policy it is answered.
#[derive(Clone, Copy, Debug)]
struct Arrival<'a> {
    call: &'a IncomingCall,
    request_id: &'a str,
    policy: &'a Policy,
}

fn safe_answer(arrival: &Arrival<'_>) -> String {
    let call = arrival.call;
    let safe = arrival
        .policy
        .safe_answer(Some(&call.caller), call.called.as_deref());
    safe.to_xml()
}

fn repeated(body: String) -> String {
    metrics::counter!("switchboard_webhooks_repeated_total").increment(1);
    tracing::info!(
        event = "call.repeated",
        "the same webhook again: the same answer"
    );
    body
}

fn report(words: &LastWords, decision: &Decision, stopwatch: &Stopwatch) {
    let elapsed = stopwatch.elapsed();
    metrics::histogram!("switchboard_routing_seconds").record(elapsed.as_secs_f64());
    if !stopwatch.within_budget() {
        metrics::counter!("switchboard_budget_overruns_total").increment(1);
    }
    tracing::info!(
        event = "call.routed",
        dialer = words.state.dialer().map_or("none", DialerId::as_str),
        tier = decision.tier.as_ref().map_or("none", TierName::as_str),
        reason = words.reason.as_str(),
        duration_ms = stopwatch.stages().total_ms,
        "the call is routed"
    );
}

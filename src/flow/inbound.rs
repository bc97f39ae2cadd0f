//! A call arrives: claim → gather → decide → hand off → record → answer.

use super::claim::{Claim, Claims};
use super::gather::{Gather, Gathered};
use super::hand_off::{HandOff, Handed, HandoffResult};
use super::last_words::{LastWords, Parties};
use super::note;
use super::policy::{Policies, Policy};
use super::record::Recorder;
use super::stopwatch::Stopwatch;
use crate::audit::{CallAfter, CallDecided, Door, Event, Personal, Record};
use crate::call::CallState;
use crate::clock::Clock;
use crate::dialer::Fleet;
use crate::lead::TierName;
use crate::routing::{self, Decision, DialerId};
use crate::store::Opened;
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
        let mut stopwatch = Stopwatch::starting(&self.clock, policy.budget);
        let (_in_hand, opening, unclaimed) = match self.claims.claim(&call.call_id, STEP).await {
            Claim::Answered(body) => return repeated(body),
            Claim::Ours {
                in_hand,
                opening,
                unclaimed,
            } => (in_hand, opening, unclaimed),
        };

        let started = stopwatch.now();
        let gathered = self.gather.facts(&call.caller, stopwatch.deadline()).await;
        stopwatch.lookup_took(started);
        let decision = routing::decide(&policy.ruleset, &gathered.facts);

        let note = note::of_decision(&call, &decision, &policy.ruleset, request_id);
        let decided = self.decided(&call, request_id, gathered, &decision, unclaimed);
        let started = stopwatch.now();
        let plan = &decision.plan.dialers;
        let handed = self
            .hand_off
            .run(plan, &note, &stopwatch, opening, vec![decided])
            .await;
        stopwatch.handoff_took(started);
        if handed.result == HandoffResult::Repeat {
            return self.answer_of_the_first(&call, &policy).await;
        }
        self.conclude(&call, request_id, &policy, &decision, handed, &stopwatch)
            .await
    }

    /// Builds, records and returns the answer.
    async fn conclude(
        &self,
        call: &IncomingCall,
        request_id: &str,
        policy: &Policy,
        decision: &Decision,
        handed: Handed,
        stopwatch: &Stopwatch,
    ) -> String {
        let parties = Parties {
            caller: &call.caller,
            called: call.called.as_deref(),
        };
        let state = CallState::routing(decision.plan.dialers.clone());
        let words = LastWords::after_handoff(
            policy,
            &self.fleet,
            &handed,
            parties,
            state,
            decision.reason,
            self.clock.now(),
        );
        let body = words.response.to_xml();
        let ended = words.state.disposition().is_some();
        let after = CallAfter {
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
        };
        report(&words, decision, stopwatch);
        let record = words.record(
            stopwatch,
            &call.call_id,
            request_id,
            STEP.to_owned(),
            &body,
            after,
        );
        let mut records = handed.unwritten;
        records.push(record);
        match self
            .recorder
            .record(handed.opening, records, stopwatch.until_end())
            .await
        {
            Opened::First => body,
            Opened::Repeat => self.answer_of_the_first(call, policy).await,
        }
    }

    fn decided(
        &self,
        call: &IncomingCall,
        request_id: &str,
        gathered: Gathered,
        decision: &Decision,
        unclaimed: bool,
    ) -> Record {
        let decided = CallDecided {
            request_id: request_id.to_owned(),
            door: Door::Twilio,
            caller: call.caller.masked(),
            facts: gathered.facts,
            lookup_exchange: gathered.exchange,
            decision: decision.clone(),
            unclaimed,
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

    /// The ledger knows this call although no answer was found at first: the first answer may have come meanwhile.
    async fn answer_of_the_first(&self, call: &IncomingCall, policy: &Policy) -> String {
        match self.claims.answer(&call.call_id, STEP).await {
            Some(body) => repeated(body),
            None => policy
                .safe_answer(Some(&call.caller), call.called.as_deref())
                .to_xml(),
        }
    }
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

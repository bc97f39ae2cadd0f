//! A call arrives, through whichever door: claim → gather → decide → hand off → record → answer.
//!
//! The doors share this line and differ in one step: how the outcome is worded. What is worded is what is stored, so that a repeat gets the
//! same bytes.

use super::claim::{Claim, Claims};
use super::gather::{Gather, Gathered};
use super::hand_off::{HandOff, Handed, HandoffResult, Opening};
use super::json_door;
use super::last_words::{LastWords, Parties};
use super::note;
use super::policy::{Policies, Policy};
use super::record::{Recorded, Recorder};
use super::stopwatch::{Stopwatch, stamp};
use super::waiting::Waiting;
use crate::alerts::Incidents;
use crate::audit::{CallAfter, CallDecided, Door, Event, Personal, Record};
use crate::call::{CallId, CallState};
use crate::clock::Clock;
use crate::dialer::Fleet;
use crate::lead::TierName;
use crate::phone::Caller;
use crate::routing::{self, Decision, DialerId, Lookup};
use crate::store::StoredCall;
use crate::twilio::IncomingCall;
use crate::twiml::answer;

/// The step name of a call's first answer.
const STEP: &str = "inbound";

/// A call that wants to be routed, as every door can say it.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) call_id: CallId,
    pub(super) caller: Caller,
    /// The number of ours that was called, as received.
    pub(super) called: Option<String>,
    pub(super) door: Door,
}

/// Answers calls that arrive. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbound {
    pub clock: Clock,
    pub policies: Policies,
    /// Who works on which call.
    pub claims: Claims,
    /// Asks Braze and the fleet.
    pub gather: Gather,
    pub hand_off: HandOff,
    pub fleet: Fleet,
    /// Who waits for a dialer.
    pub waiting: Waiting,
    pub incidents: Incidents,
    pub recorder: Recorder,
}

impl Inbound {
    /// Answers a call of Twilio's with TwiML. Infallible: whatever breaks, the caller is put through or told so.
    pub async fn answer(&self, call: IncomingCall, request_id: &str) -> String {
        let policy = self.policies.current();
        let arrival = Arrival {
            call_id: call.call_id,
            caller: call.caller,
            called: call.called,
            door: Door::Twilio,
        };
        match self.route(&arrival, &policy, request_id).await {
            Routed::Answered(twiml) => twiml,
            Routed::Past => answer::nothing().to_xml(),
            Routed::Unknown => policy
                .safe_answer(Some(&arrival.caller), arrival.called.as_deref())
                .to_xml(),
        }
    }

    /// Routes a call and gives its answer, worded for its door: a new one, or the one given before.
    pub(super) async fn route(&self, call: &Arrival, policy: &Policy, request_id: &str) -> Routed {
        let stopwatch = Stopwatch::starting(&self.clock, policy.budget);
        let _in_hand = match self.claims.claim_arrival(&call.call_id).await {
            Claim::Answered(body) => return Routed::Answered(repeated(body)),
            Claim::Past => return Routed::Past,
            Claim::Ours(in_hand) => in_hand,
        };
        tracing::info!(
            event = "call.received",
            caller = call.caller.masked(),
            "a call arrives"
        );
        let asked = Asked {
            call,
            policy,
            request_id,
        };
        if let Some(body) = self
            .attempt(asked, stopwatch.clone(), Opening::NewCall)
            .await
        {
            return Routed::Answered(body);
        }
        if let Some(body) = self.claims.answer(&call.call_id, STEP).await {
            return Routed::Answered(repeated(body));
        }
        // The process ended before it could answer this call: as if it were new, under the same idempotency keys.
        self.attempt(asked, stopwatch, Opening::KnownCall)
            .await
            .map_or(Routed::Unknown, Routed::Answered)
    }

    /// Gather, decide, hand off, record. `None` where the ledger knows the call although it was to be opened.
    async fn attempt(
        &self,
        asked: Asked<'_>,
        mut stopwatch: Stopwatch,
        opening: Opening,
    ) -> Option<String> {
        let Asked {
            call,
            policy,
            request_id,
        } = asked;
        let started = stopwatch.now();
        let gathered = self.gather.facts(&call.caller, stopwatch.deadline()).await;
        stopwatch.lookup_took(started);
        let decision = routing::decide(&policy.ruleset, &gathered.facts);

        let views = gathered.facts.dialers.clone();
        let note = note::of_decision(call, &decision, &policy.ruleset, request_id);
        let decided = self.decided(asked, gathered, &decision);
        let started = stopwatch.now();
        let plan = &decision.plan.dialers;
        self.waiting.pass(plan);
        let handed = self
            .hand_off
            .run(plan, &note, &stopwatch, opening, vec![decided])
            .await;
        stopwatch.handoff_took(started);
        if handed.result == HandoffResult::Repeat {
            return None;
        }
        let wanted = policy.ruleset.order(decision.rule.as_deref());
        self.incidents.learn(
            &call.call_id,
            (decision.rule.as_deref(), &wanted),
            &views,
            &handed,
        );
        self.conclude(asked, &decision, &wanted, handed, &stopwatch)
            .await
    }

    /// Builds, records and returns the answer.
    async fn conclude(
        &self,
        asked: Asked<'_>,
        decision: &Decision,
        wanted: &[DialerId],
        handed: Handed,
        stopwatch: &Stopwatch,
    ) -> Option<String> {
        let Asked {
            call,
            policy,
            request_id,
        } = asked;
        let routing_ms = u64::try_from(stopwatch.elapsed().as_millis()).ok();
        let words = self.render(call, policy, decision, &handed, routing_ms);
        let after = self.call_after(&words, routing_ms);
        self.waiting
            .follow(&call.call_id, &words.state, wanted, stopwatch.now());
        report(&words, decision, stopwatch);
        let step = STEP.to_owned();
        let body = &words.response;
        let now = stopwatch.time();
        let begun = StoredCall::begun(call.call_id.clone(), personal(call), decision, now);
        let known = begun.moved_on(&after, now);
        let answered = words.record(
            stopwatch,
            (&call.call_id, &call.caller),
            request_id,
            step,
            body,
            after,
        );
        let mut records = handed.unwritten;
        records.push(answered.unclaimed(handed.unclaimed));
        let patience = stopwatch.for_the_record();
        let recorded = self
            .recorder
            .record(handed.opening, records, patience)
            .await;
        if recorded == Recorded::Repeat {
            return None;
        }
        self.claims.update(recorded, known, Some((STEP, body)));
        self.claims.remember(&call.call_id, &words.response);
        Some(words.response)
    }

    /// The outcome in the words of the call's door.
    fn render(
        &self,
        call: &Arrival,
        policy: &Policy,
        decision: &Decision,
        handed: &Handed,
        routing_ms: Option<u64>,
    ) -> LastWords<String> {
        let state = CallState::routing(decision.plan.dialers.clone());
        match call.door {
            Door::Twilio => {
                let parties = Parties {
                    caller: &call.caller,
                    called: call.called.as_deref(),
                };
                let (fleet, now) = (&self.fleet, stamp(&self.clock));
                let reason = decision.reason;
                LastWords::after_handoff(policy, fleet, handed, parties, state, reason, now)
                    .worded(|response| response.to_xml())
            }
            Door::Api => json_door::answer(
                call,
                policy,
                &self.fleet,
                decision,
                handed,
                state,
                routing_ms,
            ),
        }
    }

    fn call_after(&self, words: &LastWords<String>, routing_ms: Option<u64>) -> CallAfter {
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
            routing_ms,
            state: words.state.clone(),
        }
    }

    fn decided(&self, asked: Asked<'_>, gathered: Gathered, decision: &Decision) -> Record {
        let call = asked.call;
        let decided = CallDecided {
            request_id: asked.request_id.to_owned(),
            door: call.door,
            caller: call.caller.masked(),
            facts: gathered.facts,
            lookup_exchange: gathered.exchange,
            decision: decision.clone(),
        };
        Record {
            personal: Some(personal(call)),
            ..Record::of_call(
                self.clock.now(),
                &call.call_id,
                Event::CallDecided(Box::new(decided)),
            )
        }
    }
}

/// What routing a call came to.
#[derive(Debug)]
pub(super) enum Routed {
    /// This answer, given now or before.
    Answered(String),
    /// The call is past, and what it was answered is not kept.
    Past,
    /// The ledger knows the call, and no answer of it can be had.
    Unknown,
}

/// What arrived, and by which policy it is answered.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    call: &'a Arrival,
    policy: &'a Policy,
    request_id: &'a str,
}

/// What of the call identifies somebody.
fn personal(call: &Arrival) -> Personal {
    Personal {
        caller: Some(call.caller.as_text().to_owned()),
        called: call.called.clone(),
        ..Personal::default()
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

fn report(words: &LastWords<String>, decision: &Decision, stopwatch: &Stopwatch) {
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
        lookup = decision.trace.lookup().map_or("none", Lookup::word),
        duration_ms = stopwatch.stages().total_ms,
        "the call is routed"
    );
}

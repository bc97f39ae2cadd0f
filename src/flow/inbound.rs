//! A call arrives, from either ingress: lock → gather → decide → hand off → record → answer.
//!
//! The ingresses share this walk and differ in one step: how the answer is rendered. What is rendered is what is stored, so that a repeat gets
//! the same bytes.

use std::sync::Arc;

use super::answering::Calls;
use super::api_document;
use super::call_answer::CallAnswer;
use super::handoff_result::HandoffResult;
use super::policy::Policy;
use super::record::Repeated;
use super::stopwatch::Stopwatch;
use crate::audit::{CallDecided, Event, Exchange, Ingress, Record};
use crate::braze::Braze;
use crate::call::{CallState, InboundCall};
use crate::deadline::Deadline;
use crate::lead::TierName;
use crate::phone::Caller;
use crate::routing::{self, CallFacts, Decision, DialerId, Lookup};
use crate::store::StoredCall;
use crate::twiml::answer::HOLD_PAUSE;

/// Answers calls that arrive. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbound {
    pub calls: Calls,
    pub braze: Braze,
}

impl Inbound {
    /// Answers a call of Twilio's with TwiML. Infallible: whatever breaks, the caller is put through or told so.
    pub async fn answer(&self, call: InboundCall, request_id: &str) -> String {
        let policy = self.calls.policies.current();
        let answered = self.route(&call, policy, request_id).await;
        answered.unwrap_or_else(Repeated::into_twiml)
    }

    /// Routes a call and gives its answer, rendered for its ingress: a new one, or the one given before.
    pub(super) async fn route(
        &self,
        call: &InboundCall,
        policy: Arc<Policy>,
        request_id: &str,
    ) -> Result<String, Repeated> {
        let answered = self.route_once(call, policy, request_id).await;
        if let Err(Repeated::Answered(_)) = answered {
            metrics::counter!("switchboard_webhooks_repeated_total").increment(1);
            tracing::info!(
                event = "call.repeated",
                "the same webhook again: the same answer"
            );
        }
        answered
    }

    async fn route_once(
        &self,
        call: &InboundCall,
        policy: Arc<Policy>,
        request_id: &str,
    ) -> Result<String, Repeated> {
        let calls = &self.calls;
        let asks_braze = self.braze.would_ask(&call.caller).await;
        let mut answering = calls
            .begin_arrival(policy.clone(), &call.call_id, asks_braze, request_id)
            .await?;
        tracing::info!(
            event = "call.received",
            caller = call.caller.masked(),
            "a call arrives"
        );
        let started = answering.stopwatch.now();
        let deadline = answering.stopwatch.deadline();
        let (facts, exchange) = self.gather(&call.caller, deadline).await;
        answering.stopwatch.lookup_took(started);
        let decision = routing::decide(&policy.ruleset, &facts);

        let views = facts.dialers.clone();
        let decided = self.decided(call, request_id, facts, exchange, &decision);
        answering.pending.records.push(decided);
        let plan = &decision.plan.dialers;
        calls.waiting.bypass(plan);
        let class = (decision.tier.as_ref(), decision.score);
        let payload = call.payload(class, &policy.ruleset, request_id);
        let handed = calls.hand_off(&mut answering, plan, payload).await?;
        let rule = decision.rule.as_deref();
        let wanted = policy.ruleset.order(rule);
        calls
            .incidents
            .learn(&call.call_id, (rule, &wanted), &views, &handed);

        let routing_ms = u64::try_from(answering.stopwatch.elapsed().as_millis()).ok();
        let answer = self.render(call, &policy, &decision, &handed, routing_ms);
        let now = answering.stopwatch.now();
        calls
            .waiting
            .follow(&call.call_id, &answer.state, &wanted, now);
        report(&answer, &decision, &answering.stopwatch);
        let stored = StoredCall {
            routing_ms,
            ..StoredCall::begun(
                call.call_id.clone(),
                call.personal(),
                &decision,
                calls.clock.now(),
            )
        };
        calls.conclude(answering, call, stored, answer, None).await
    }

    /// All reads for one decision. Never fails: a look-up without an answer is a fact with a reason.
    async fn gather(&self, caller: &Caller, deadline: Deadline) -> (CallFacts, Option<Exchange>) {
        let Calls {
            clock,
            fleet,
            waiting,
            ..
        } = &self.calls;
        let looked_up = self.braze.look_up(caller, deadline).await;
        let now = clock.instant();
        let facts = CallFacts {
            at: clock.now(),
            lookup: looked_up.lookup,
            dialers: waiting.seen_by_arrival(fleet.views(now), now),
        };
        (facts, looked_up.exchange)
    }

    fn decided(
        &self,
        call: &InboundCall,
        request_id: &str,
        facts: CallFacts,
        lookup_exchange: Option<Exchange>,
        decision: &Decision,
    ) -> Record {
        let decided = CallDecided {
            request_id: request_id.to_owned(),
            door: call.ingress(),
            caller: call.caller.masked(),
            facts,
            lookup_exchange,
            decision: decision.clone(),
            intended: None,
        };
        let event = Event::CallDecided(Box::new(decided));
        Record {
            personal: Some(call.personal()),
            ..Record::of_call(self.calls.clock.now(), &call.call_id, event)
        }
    }

    fn render(
        &self,
        call: &InboundCall,
        policy: &Policy,
        decision: &Decision,
        handed: &HandoffResult,
        routing_ms: Option<u64>,
    ) -> CallAnswer {
        let state = CallState::routing(decision.plan.dialers.clone());
        match call.ingress() {
            Ingress::Twilio => {
                let voice = self.calls.voice(policy, call, HOLD_PAUSE);
                voice.after_handoff(handed, state, decision.reason)
            }
            Ingress::Api => {
                let fleet = &self.calls.fleet;
                api_document::render(call, policy, fleet, decision, handed, state, routing_ms)
            }
        }
    }
}

fn report(answer: &CallAnswer, decision: &Decision, stopwatch: &Stopwatch) {
    let elapsed = stopwatch.elapsed();
    metrics::histogram!("switchboard_routing_seconds").record(elapsed.as_secs_f64());
    if !stopwatch.within_budget() {
        metrics::counter!("switchboard_budget_overruns_total").increment(1);
    }
    tracing::info!(
        event = "call.routed",
        dialer = answer.state.dialer().map_or("none", DialerId::as_str),
        tier = decision.tier.as_ref().map_or("none", TierName::as_str),
        reason = answer.reason.as_str(),
        lookup = decision.trace.lookup().map_or("none", Lookup::word),
        duration_ms = stopwatch.stages().total_ms,
        "the call is routed"
    );
}

//! A call arrives, from either ingress: lock → gather → decide → hand off → record → answer.
//!
//! The ingresses share this walk and differ in one step: how the answer is rendered. What is rendered is what is stored, so that a repeat gets
//! the same bytes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::answering::Calls;
use super::api_document;
use super::call_answer::CallAnswer;
use super::draft::{Draft, DraftHours};
use super::drafts::{Comparison, Drafts};
use super::fact_source::FactSource;
use super::fresh_scores::{FreshScores, OldDecision};
use super::handoff_result::HandoffResult;
use super::policy::Policy;
use super::record::Repeated;
use super::stopwatch::Stopwatch;
use crate::audit::{CallDecided, Event, Exchange, Ingress, Record};
use crate::braze::Braze;
use crate::call::{CallState, InboundCall};
use crate::deadline::Deadline;
use crate::lead::TierName;
use crate::routing::{
    self, CallFacts, Course, Decision, DialerId, History, Lookup, RulesInForce, SkipReason,
};
use crate::store::StoredCall;
use crate::twiml::answer::HOLD_PAUSE;

/// How long the store may take to give back the caller's calls before this one.
const HISTORY_PATIENCE: Duration = Duration::from_millis(200);

/// Answers calls that arrive. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbound {
    pub calls: Calls,
    pub braze: Braze,
    /// Compares what a draft decides.
    pub drafts: Drafts,
    /// Looks for the scores of callers who were decided by an old one or none.
    pub fresh_scores: FreshScores,
}

/// All that is known of a call when it is decided.
struct Gathered {
    facts: CallFacts,
    exchange: Option<Exchange>,
    /// The draft that decides beside, and the facts as it sees them.
    draft: Option<(Arc<Draft>, CallFacts)>,
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
        let Gathered {
            facts,
            exchange,
            draft,
        } = self.gather(call, &policy, deadline).await;
        answering.stopwatch.lookup_took(started);
        let decision = routing::decide(&policy.ruleset, &facts);

        let views = facts.dialers.clone();
        let rule = decision.rule.as_deref();
        let wanted = policy.ruleset.wanted(rule, &facts.asked);
        let old_facts = facts.lookup.why_not_fresh().map(|_| facts.clone());
        let decided = self.decided(call, request_id, facts, exchange, &decision);
        answering.pending.records.push(decided);
        let mut handed = HandoffResult::default();
        if decision.course == Course::Dialers {
            let plan = &decision.plan.dialers;
            calls.waiting.bypass(plan);
            let class = (decision.tier.as_ref(), decision.score);
            let payload = call.payload(class, &policy.ruleset, request_id);
            handed = calls.hand_off(&mut answering, plan, payload).await?;
            calls
                .incidents
                .learn(&call.call_id, (rule, &wanted), &views, &handed);
        }

        let routing_ms = u64::try_from(answering.stopwatch.elapsed().as_millis()).ok();
        let begun = calls.clock.now();
        let stored = StoredCall {
            routing_ms,
            ..StoredCall::begun(call.call_id.clone(), call.personal(), &decision, begun)
        };
        let state = state_of(&decision, &policy, &wanted);
        let answer = self.render(call, &policy, &decision, &handed, state, &stored);
        let now = answering.stopwatch.now();
        calls
            .waiting
            .follow(&call.call_id, &answer.state, &wanted, now);
        report(&answer, &decision, &answering.stopwatch);
        let answered = calls.conclude(answering, call, stored, answer, None).await;
        if let Some(facts) = old_facts {
            self.fresh_scores.look_for(OldDecision {
                call_id: call.call_id.clone(),
                caller: call.caller.clone(),
                facts,
                policy: Arc::clone(&policy),
                decision: decision.clone(),
            });
        }
        if let Some((draft, facts)) = draft {
            self.drafts.compare(Comparison {
                call_id: call.call_id.clone(),
                draft,
                facts,
                policy,
                decision,
            });
        }
        answered
    }

    /// All reads for one decision. Never fails: a look-up without an answer is a fact with a reason.
    async fn gather(&self, call: &InboundCall, policy: &Policy, deadline: Deadline) -> Gathered {
        let Calls { clock, waiting, .. } = &self.calls;
        let ruleset = &policy.ruleset;
        let mut facts = CallFacts::new(clock.now(), Lookup::not_needed(), Vec::new());
        facts.asked = ruleset.facts(&self.source(call, facts.at), facts.at);
        let draft = policy.draft.as_ref();
        let draft = draft.map(|draft| (draft, draft.rules.hours_at(facts.at)));
        let draft_needs_lookup = |(draft, hours): &(&Arc<Draft>, DraftHours)| {
            draft.rules.needs_lookup(&facts.with_hours(hours.clone()))
        };
        let mut exchange = None;
        let look_up = async {
            if ruleset.needs_lookup(&facts) || draft.as_ref().is_some_and(draft_needs_lookup) {
                Some(self.braze.look_up(&call.caller, deadline).await)
            } else {
                None
            }
        };
        let (looked_up, history) = tokio::join!(look_up, self.history(call, ruleset, deadline));
        if let Some(looked_up) = looked_up {
            facts.lookup = looked_up.lookup;
            exchange = looked_up.exchange;
        }
        facts.asked.history = history;
        facts.at = clock.now();
        facts.dialers = waiting.seen_by_arrival(self.calls.views(policy), clock.instant());
        let draft = draft.map(|(draft, hours)| {
            let facts = draft.facts(&facts, hours, &self.calls.loads);
            (Arc::clone(draft), facts)
        });
        Gathered {
            facts,
            exchange,
            draft,
        }
    }

    /// The caller's calls before this one, where a rule asks for them; `None` also where the store does not say so within the look-up's share.
    async fn history(
        &self,
        call: &InboundCall,
        ruleset: &RulesInForce,
        deadline: Deadline,
    ) -> Option<History> {
        if !ruleset.asked().wants_history() {
            return None;
        }
        let clock = &self.calls.clock;
        let patience = deadline.lookup_share(clock.instant(), HISTORY_PATIENCE);
        self.calls.locks.history(call, patience).await
    }

    fn source<'a>(&'a self, call: &'a InboundCall, at: Timestamp) -> FactSource<'a> {
        FactSource {
            call,
            locks: &self.calls.locks,
            lists: &self.calls.lists,
            at,
        }
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
        state: CallState,
        stored: &StoredCall,
    ) -> CallAnswer {
        match call.ingress() {
            Ingress::Twilio => {
                let voice = self.calls.voice(policy, call, stored, HOLD_PAUSE);
                if decision.course == Course::Dialers {
                    voice.after_handoff(handed, state, decision.reason)
                } else {
                    voice.without_dialers(decision.course, state, decision.reason)
                }
            }
            Ingress::Api => {
                let fleet = &self.calls.fleet;
                let took = stored.routing_ms;
                api_document::render(call, policy, fleet, decision, handed, state, took)
            }
        }
    }
}

/// A call that is decided. It carries the order of its dialers where that is not the one of its rule.
fn state_of(decision: &Decision, policy: &Policy, wanted: &[DialerId]) -> CallState {
    let state = CallState::routing(decision.plan.dialers.clone());
    if policy.ruleset.order(decision.rule.as_deref()) == wanted {
        return state;
    }
    state.in_order(wanted.to_vec())
}

fn report(answer: &CallAnswer, decision: &Decision, stopwatch: &Stopwatch) {
    let elapsed = stopwatch.elapsed();
    let rule = decision.rule.clone().unwrap_or_default();
    metrics::counter!("switchboard_rule_matches_total", "rule" => rule).increment(1);
    for skipped in &decision.plan.skipped {
        if skipped.reason != SkipReason::NotInRule {
            let (dialer, reason) = (skipped.dialer.to_string(), skipped.reason.as_str());
            metrics::counter!("switchboard_dialer_skipped_total", "dialer" => dialer, "reason" => reason).increment(1);
        }
    }
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

//! A caller who waits for a dialer asks again: the plan once more, or the end of patience.

use super::claim::{Claim, Claims};
use super::hand_off::{HandOff, Handed, HandoffResult, Opening};
use super::last_words::{LastWords, Parties};
use super::note;
use super::policy::{Policies, Policy};
use super::record::{Recorder, call_after};
use super::stopwatch::Stopwatch;
use crate::audit::Record;
use crate::call::{CallState, Disposition};
use crate::clock::Clock;
use crate::dialer::Fleet;
use crate::phone::Caller;
use crate::routing;
use crate::store::StoredCall;
use crate::twilio::HeldCall;
use crate::twiml::answer;

/// Answers callers who wait. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Holds {
    /// Reads time.
    pub clock: Clock,
    /// What is in force.
    pub policies: Policies,
    /// Who works on which call.
    pub claims: Claims,
    /// Tells the dialers.
    pub hand_off: HandOff,
    /// The dialers.
    pub fleet: Fleet,
    /// Writes it down.
    pub recorder: Recorder,
}

impl Holds {
    /// Answers with the line of a dialer, more waiting, or the last words. Infallible.
    pub async fn answer(&self, held: HeldCall, request_id: &str) -> String {
        let policy = self.policies.current();
        let mut stopwatch = Stopwatch::starting(&self.clock, policy.budget);
        let step = format!("hold-{}", held.round);
        let _in_hand = match self.claims.claim(&held.call_id, &step).await {
            Claim::Answered(body) => return body,
            Claim::Ours(in_hand) => in_hand,
        };
        let Some(stored) = self.claims.call(&held.call_id).await else {
            metrics::counter!("switchboard_unknown_calls_total").increment(1);
            return policy
                .safe_answer(Some(&held.caller), held.called.as_deref())
                .to_xml();
        };
        let waits = stored
            .state
            .waiting()
            .is_some_and(|(_, round)| round == held.round);
        if !waits {
            tracing::info!(
                event = "call.late_report",
                "the call does not wait in this round; it stays as it was"
            );
            return answer::nothing().to_xml();
        }

        let started = stopwatch.now();
        let (words, mut records) = self
            .next(&policy, &held, &stored, request_id, &stopwatch)
            .await;
        stopwatch.handoff_took(started);
        let body = words.response.to_xml();
        let after = call_after(&stored, &words.state, words.reason, self.clock.now(), None);
        records.push(words.record(&stopwatch, &held.call_id, request_id, step, &body, after));
        self.recorder
            .append(records, stopwatch.for_the_record())
            .await;
        body
    }

    async fn next(
        &self,
        policy: &Policy,
        held: &HeldCall,
        stored: &StoredCall,
        request_id: &str,
        stopwatch: &Stopwatch,
    ) -> (LastWords, Vec<Record>) {
        let state = stored.state.clone();
        if held.caller_gone {
            return (
                LastWords::nothing(state.ended(Disposition::Abandoned), stored.reason),
                Vec::new(),
            );
        }
        let wanted = policy.ruleset.order(stored.rule.as_deref());
        let plan = routing::eligible(wanted, &self.fleet.views(self.clock.instant()));
        let caller = Caller::classify(stored.personal.caller.as_deref().unwrap_or_default());
        let note = note::of_stored(stored, &caller, &policy.ruleset, request_id);
        let handed = self
            .hand_off
            .run(&plan, &note, stopwatch, Opening::KnownCall, Vec::new())
            .await;
        let parties = Parties {
            caller: &caller,
            called: stored.personal.called.as_deref(),
        };
        let words = self.after(policy, &handed, parties, state, stored, plan);
        (words, handed.unwritten)
    }

    fn after(
        &self,
        policy: &Policy,
        handed: &Handed,
        parties: Parties<'_>,
        state: CallState,
        stored: &StoredCall,
        plan: Vec<routing::DialerId>,
    ) -> LastWords {
        let state = match handed.result {
            HandoffResult::Connect { .. } => state.replanned(plan),
            HandoffResult::GiveUp | HandoffResult::Repeat => state,
        };
        LastWords::after_handoff(
            policy,
            &self.fleet,
            handed,
            parties,
            state,
            stored.reason,
            self.clock.now(),
        )
    }
}

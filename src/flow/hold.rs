//! A caller who waits for a dialer asks again: the plan once more if it is their turn, or the end of patience.

use super::claim::{Claim, Claims};
use super::hand_off::{HandOff, Handed, HandoffResult, Opening};
use super::last_words::{LastWords, Parties};
use super::note;
use super::policy::{Policies, Policy};
use super::record::{Recorder, call_after};
use super::stopwatch::{Stopwatch, stamp};
use super::waiting::{Turn, Waiting};
use crate::alerts::Incidents;
use crate::audit::Record;
use crate::call::Disposition;
use crate::clock::Clock;
use crate::dialer::Fleet;
use crate::routing::DialerId;
use crate::store::StoredCall;
use crate::twilio::HeldCall;
use crate::twiml::answer;

/// Answers callers who wait. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Holds {
    pub clock: Clock,
    pub policies: Policies,
    /// Who works on which call.
    pub claims: Claims,
    pub hand_off: HandOff,
    pub fleet: Fleet,
    /// Who waits for a dialer.
    pub waiting: Waiting,
    pub incidents: Incidents,
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
            Claim::Past => return answer::nothing().to_xml(),
            Claim::Ours(in_hand) => in_hand,
        };
        let Some(stored) = self.claims.call(&held.call_id).await else {
            metrics::counter!("switchboard_unknown_calls_total").increment(1);
            self.waiting.leave(&held.call_id);
            if !held.caller_gone {
                tracing::warn!(
                    event = "call.unknown",
                    "a caller waits whose call the store does not hold: safe answer"
                );
                self.incidents
                    .undecided(Some(&held.call_id), "call_unknown");
            }
            return policy
                .safe_answer(Some(&held.caller), held.called.as_deref())
                .to_xml();
        };
        let Some((since, _)) = stored.state.waiting().filter(|(_, n)| *n == held.round) else {
            tracing::info!(
                event = "call.late_report",
                "the call does not wait in this round; it stays as it was"
            );
            return answer::nothing().to_xml();
        };

        let started = stopwatch.now();
        let wanted = policy.ruleset.order(stored.rule.as_deref());
        let (words, mut records) = if held.caller_gone {
            let state = stored.state.clone().ended(Disposition::Abandoned);
            (LastWords::nothing(state, stored.reason), Vec::new())
        } else {
            let views = self.fleet.views(started);
            let turn = self
                .waiting
                .take_turn(&held.call_id, since, &wanted, views, started);
            self.try_plan(&turn, &wanted, &policy, &stored, request_id, &stopwatch)
                .await
        };
        stopwatch.handoff_took(started);
        self.waiting
            .follow(&held.call_id, &words.state, &wanted, stopwatch.now());
        let body = words.response.to_xml();
        let now = self.clock.now();
        let after = call_after(&stored, &words.state, words.reason, now, None);
        let known = stored.clone().moved_on(&after, now);
        let caller = stored.personal.caller();
        records.push(words.record(
            &stopwatch,
            (&held.call_id, &caller),
            request_id,
            step.clone(),
            &body,
            after,
        ));
        let recorded = self
            .recorder
            .append(records, stopwatch.for_the_record())
            .await;
        self.claims.update(recorded, known, Some((&step, &body)));
        body
    }

    /// Asks the dialers whose turn it is; where there are none, that costs nothing.
    async fn try_plan(
        &self,
        turn: &Turn,
        wanted: &[DialerId],
        policy: &Policy,
        stored: &StoredCall,
        request_id: &str,
        stopwatch: &Stopwatch,
    ) -> (LastWords, Vec<Record>) {
        let caller = stored.personal.caller();
        let note = note::of_stored(stored, &caller, &policy.ruleset, request_id);
        let handed = self
            .hand_off
            .run(&turn.plan, &note, stopwatch, Opening::KnownCall, Vec::new())
            .await;
        self.incidents.learn(
            &stored.id,
            (stored.rule.as_deref(), wanted),
            &turn.views,
            &handed,
        );
        let parties = Parties {
            caller: &caller,
            called: stored.personal.called.as_deref(),
        };
        let words = self
            .after(policy, &handed, parties, stored, &turn.plan)
            .asking_again_after(policy, turn.pause);
        (words, handed.unwritten)
    }

    fn after(
        &self,
        policy: &Policy,
        handed: &Handed,
        parties: Parties<'_>,
        stored: &StoredCall,
        plan: &[DialerId],
    ) -> LastWords {
        let state = stored.state.clone();
        let state = match handed.result {
            HandoffResult::Connect { .. } => state.replanned(plan.to_vec()),
            HandoffResult::GiveUp | HandoffResult::Repeat => state,
        };
        LastWords::after_handoff(
            policy,
            &self.fleet,
            handed,
            parties,
            state,
            stored.reason,
            stamp(&self.clock),
        )
    }
}

//! A caller who waits for a dialer asks again: the plan once more if it is their turn, or the end of patience.

use super::adopt::LEDGER_PATIENCE;
use super::answering::{Answering, Calls};
use super::call_answer::CallAnswer;
use super::record::Repeated;
use crate::call::{Disposition, InboundCall, Stamp};
use crate::routing::{self, DialerId, Reason};
use crate::store::StoredCall;
use crate::twilio::HeldCall;
use crate::twiml::answer::{self, HOLD_PAUSE};

impl Calls {
    /// Answers with the line of a dialer, more waiting, or the last resort. Infallible.
    pub async fn held(&self, held: HeldCall, request_id: &str) -> String {
        let answered = self.answer_held(held, request_id).await;
        answered.unwrap_or_else(Repeated::into_twiml)
    }

    async fn answer_held(&self, held: HeldCall, request_id: &str) -> Result<String, Repeated> {
        let step = format!("hold-{}", held.round);
        let mut answering = self
            .begin(&held.call.call_id, step, held.adoption, request_id)
            .await?;
        let passport = held.passport.as_deref();
        let passport = passport.map(|text| (held.passport_use(), text));
        let patience = LEDGER_PATIENCE;
        let stored = self
            .stored_or_adopted(&mut answering, &held.call, passport, patience)
            .await;
        let Some(stored) = stored else {
            self.waiting.leave(&held.call.call_id);
            let somebody_waits = !held.caller_gone;
            return Ok(self.answer_to_unknown_call(&answering.policy, &held.call, somebody_waits));
        };
        let Some((since, _)) = stored.state.waiting().filter(|(_, n)| *n == held.round) else {
            tracing::info!(
                event = "call.late_report",
                "the call does not wait in this round; it stays as it was"
            );
            return Ok(answer::nothing().to_xml());
        };
        let call = InboundCall::of_stored(&stored);
        let wanted = answering.policy.wanted(&stored);
        let answer = if held.caller_gone {
            let state = stored.state.clone().ended(Disposition::Abandoned);
            CallAnswer::nothing(state, stored.reason)
        } else {
            self.try_plan(&mut answering, &call, &stored, since, &wanted)
                .await?
        };
        let now = answering.stopwatch.now();
        self.waiting
            .follow(&call.call_id, &answer.state, &wanted, now);
        self.conclude(answering, &call, stored, answer, None).await
    }

    /// Asks the dialers that this caller may ask now; where there are none, that costs nothing.
    async fn try_plan(
        &self,
        answering: &mut Answering,
        call: &InboundCall,
        stored: &StoredCall,
        since: Stamp,
        wanted: &[DialerId],
    ) -> Result<CallAnswer, Repeated> {
        let now = answering.stopwatch.now();
        let views = self.views(&answering.policy);
        let rule = stored.rule.as_deref();
        if routing::all_closed(wanted, &views) {
            let voice = self.voice(&answering.policy, call, stored, HOLD_PAUSE);
            return Ok(voice.closed(stored.state.clone(), Reason::Closed));
        }
        let slot = self
            .waiting
            .next_slot(&call.call_id, since, wanted, views, now);
        let class = (stored.tier.as_ref(), stored.score);
        let payload = call.payload(class, &answering.policy.ruleset, &answering.request_id);
        let handed = self.hand_off(answering, &slot.plan, payload).await?;
        self.incidents
            .learn(&call.call_id, (rule, wanted), &slot.views, &handed);
        let state = stored.state.clone();
        let state = match handed.target {
            Some(_) => state.replanned(slot.plan),
            None => state,
        };
        let voice = self.voice(&answering.policy, call, stored, slot.pause);
        Ok(voice.after_handoff(&handed, state, stored.reason))
    }
}

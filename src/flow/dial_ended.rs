//! A `<Dial>` has ended: ring again, go to the next dialer of the same plan, to the last resort, or end.

use std::time::Duration;

use super::claim::{Claim, Claims};
use super::hand_off::{HandOff, Handed, HandoffResult};
use super::last_words::{LastWords, Parties};
use super::note;
use super::policy::{Policies, Policy};
use super::record::{Recorder, call_after, reported};
use super::stopwatch::{Stopwatch, stamp};
use crate::alerts::Incidents;
use crate::audit::{Event, Record};
use crate::call::{AfterDial, CallState, DialReport, Disposition, EndReason, Status};
use crate::clock::Clock;
use crate::dialer::Fleet;
use crate::handoff::Certainty;
use crate::routing::{self, DialerId, Reason};
use crate::store::StoredCall;
use crate::twilio::DialEnded;
use crate::twiml::answer;

/// How long the record of a report may take that no caller waits for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers the end of a dial. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DialEnds {
    pub clock: Clock,
    pub policies: Policies,
    /// Who works on which call.
    pub claims: Claims,
    pub hand_off: HandOff,
    pub fleet: Fleet,
    /// Counts what cannot be decided.
    pub incidents: Incidents,
    pub recorder: Recorder,
}

impl DialEnds {
    /// Answers with what comes next. Infallible: whatever breaks, the caller is put through or told so.
    pub async fn answer(&self, ended: DialEnded, request_id: &str) -> String {
        let policy = self.policies.current();
        let mut stopwatch = Stopwatch::starting(&self.clock, policy.budget);
        let step = format!("dial-{}", ended.report.step);
        let _in_hand = match self.claims.claim(&ended.call_id, &step).await {
            Claim::Answered(body) => return body,
            Claim::Past => return answer::nothing().to_xml(),
            Claim::Ours(in_hand) => in_hand,
        };
        let stored = if somebody_waits(&ended) {
            self.claims.call(&ended.call_id).await
        } else {
            let patience = policy.budget;
            self.claims.call_within(&ended.call_id, patience).await
        };
        let Some(stored) = stored else {
            return self.answer_to_unknown_call(&policy, &ended);
        };
        let (state, after) = match stored
            .state
            .clone()
            .dial_ended(&ended.report, &policy.ringing)
        {
            Ok(moved) => moved,
            Err(invalid) => {
                tracing::info!(event = "call.late_report", error = %invalid, "the call stays as it was");
                return answer::nothing().to_xml();
            }
        };
        if stored.status == Status::Ended {
            self.take_late(stored, &state, ended.report).await;
            return answer::nothing().to_xml();
        }
        let dial_ended = self.dial_ended(&stored, &state, &ended.report);

        let started = stopwatch.now();
        let (words, mut records) = self
            .next(
                &policy,
                &stored,
                state,
                after,
                request_id,
                &stopwatch,
                vec![dial_ended],
            )
            .await;
        stopwatch.handoff_took(started);
        let body = words.response.to_xml();
        let now = self.clock.now();
        let after = call_after(
            &stored,
            &words.state,
            words.reason,
            now,
            ended.report.duration_s,
        );
        let known = stored.clone().moved_on(&after, now);
        tracing::info!(
            event = if after.status == Status::Ended {
                "call.completed"
            } else {
                "call.moved"
            },
            status = after.status.as_str(),
            reason = after.reason.as_str(),
            "the dial has ended"
        );
        let caller = stored.personal.caller();
        records.push(words.record(
            &stopwatch,
            (&ended.call_id, &caller),
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

    /// The call is over already: the caller hears nothing any more, and what was said is taken note of.
    async fn take_late(&self, stored: StoredCall, state: &CallState, report: DialReport) {
        if *state == stored.state {
            return;
        }
        let talked_s = report.duration_s;
        let event = |after| Event::DialEnded { report, after };
        let (records, known) = reported(stored, state, self.clock.now(), talked_s, event);
        let recorded = self.recorder.append(records, PATIENCE).await;
        self.claims.update(recorded, known, None);
    }

    fn dial_ended(&self, stored: &StoredCall, state: &CallState, report: &DialReport) -> Record {
        let now = self.clock.now();
        let after = Box::new(call_after(
            stored,
            state,
            stored.reason,
            now,
            report.duration_s,
        ));
        Record::of_call(
            now,
            &stored.id,
            Event::DialEnded {
                report: report.clone(),
                after,
            },
        )
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the step's inputs, each from the step before"
    )]
    async fn next(
        &self,
        policy: &Policy,
        stored: &StoredCall,
        state: CallState,
        after: AfterDial,
        request_id: &str,
        stopwatch: &Stopwatch,
        unwritten: Vec<Record>,
    ) -> (LastWords, Vec<Record>) {
        let caller = stored.personal.caller();
        let parties = Parties {
            caller: &caller,
            called: stored.personal.called.as_deref(),
        };
        match after {
            AfterDial::Over => (LastWords::nothing(state, stored.reason), unwritten),
            AfterDial::RingAgain { dialer } => {
                let words = self.ring_again(policy, &dialer, parties, state, stored.reason);
                (words, unwritten)
            }
            AfterDial::NextDialers { dialers } => {
                let note = note::of_stored(stored, &caller, &policy.ruleset, request_id);
                let plan = self.eligible(dialers);
                let opening = super::hand_off::Opening::KnownCall;
                let handed = self
                    .hand_off
                    .run(&plan, &note, stopwatch, opening, unwritten)
                    .await;
                let words = self.after_failover(policy, stored, &handed, parties, state);
                (words, handed.unwritten)
            }
            AfterDial::PlanExhausted { last } => {
                let words = LastWords::nobody_left(
                    policy,
                    parties,
                    state,
                    Reason::AllLegsFailed,
                    disposition_of(last),
                );
                (words, unwritten)
            }
        }
    }

    fn ring_again(
        &self,
        policy: &Policy,
        dialer: &DialerId,
        parties: Parties<'_>,
        state: CallState,
        reason: Reason,
    ) -> LastWords {
        let reference = state.reference().map(str::to_owned);
        match self.fleet.get(dialer) {
            Some(dialer) => LastWords::connect(
                policy,
                &dialer,
                Certainty::Confirmed,
                reference,
                parties,
                state,
                reason,
            ),
            None => LastWords::nobody_left(
                policy,
                parties,
                state,
                Reason::AllLegsFailed,
                Disposition::Failed,
            ),
        }
    }

    fn after_failover(
        &self,
        policy: &Policy,
        stored: &StoredCall,
        handed: &Handed,
        parties: Parties<'_>,
        state: CallState,
    ) -> LastWords {
        match &handed.result {
            HandoffResult::Connect { .. } => LastWords::after_handoff(
                policy,
                &self.fleet,
                handed,
                parties,
                state,
                stored.reason,
                stamp(&self.clock),
            ),
            HandoffResult::GiveUp | HandoffResult::Repeat => LastWords::nobody_left(
                policy,
                parties,
                state,
                Reason::AllLegsFailed,
                Disposition::Failed,
            ),
        }
    }

    /// The dialers that can take a call now: those that were tripped or taken out since the decision are left out.
    fn eligible(&self, dialers: Vec<DialerId>) -> Vec<DialerId> {
        routing::eligible(dialers, &self.fleet.views(self.clock.instant()))
    }

    /// The store holds no such call, or cannot say: a finished dial is over, any other gets the safe answer.
    fn answer_to_unknown_call(&self, policy: &Policy, ended: &DialEnded) -> String {
        metrics::counter!("switchboard_unknown_calls_total").increment(1);
        if !somebody_waits(ended) {
            return answer::nothing().to_xml();
        }
        tracing::warn!(
            event = "call.unknown",
            "the end of a dial of a call that the store does not hold: safe answer"
        );
        self.incidents
            .undecided(Some(&ended.call_id), "call_unknown");
        policy
            .safe_answer(Some(&ended.caller), ended.called.as_deref())
            .to_xml()
    }
}

/// Whether a caller is on the line who has to hear of somebody else; if not, the end of the call is not given up for being late. A dial
/// without a dialer is the last resort's: nobody comes after it.
fn somebody_waits(ended: &DialEnded) -> bool {
    let report = &ended.report;
    let over = matches!(report.end, EndReason::Completed | EndReason::Canceled);
    report.dialer.is_some() && !report.caller_gone && !over
}

fn disposition_of(last: EndReason) -> Disposition {
    match last {
        EndReason::Busy => Disposition::Busy,
        EndReason::NoAnswer => Disposition::NoAnswer,
        EndReason::Completed | EndReason::Failed | EndReason::Canceled => Disposition::Failed,
    }
}

#[cfg(test)]
mod tests;

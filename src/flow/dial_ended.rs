//! A `<Dial>` has ended: ring again, go to the next dialer of the same plan, to the last resort, or end.

use std::time::Duration;

use super::adopt::LEDGER_PATIENCE;
use super::answering::{Answering, Calls};
use super::call_answer::CallAnswer;
use super::record::{Repeated, call_after, reported};
use crate::audit::{Event, Record};
use crate::call::{AfterDial, CallState, DialReport, Disposition, EndReason, InboundCall, Status};
use crate::handoff::Certainty;
use crate::routing::{self, Reason};
use crate::store::StoredCall;
use crate::twilio::DialEnded;
use crate::twiml::answer::{self, HOLD_PAUSE};

/// How long the record of a report may take that no caller waits for.
const PATIENCE: Duration = Duration::from_secs(2);

impl Calls {
    /// Answers the end of a dial with what comes next. Infallible: whatever breaks, the caller is put through or told so.
    pub async fn dial_ended(&self, ended: DialEnded, request_id: &str) -> String {
        let answered = self.answer_dial_ended(ended, request_id).await;
        answered.unwrap_or_else(Repeated::into_twiml)
    }

    async fn answer_dial_ended(
        &self,
        ended: DialEnded,
        request_id: &str,
    ) -> Result<String, Repeated> {
        let report = ended.report.clone();
        let step = format!("dial-{}", report.step);
        let mut answering = self
            .begin(&ended.call.call_id, step, ended.adoption, request_id)
            .await?;
        let somebody_waits = somebody_waits(&report);
        let patience = if somebody_waits {
            LEDGER_PATIENCE
        } else {
            answering.policy.budget
        };
        let passport = ended.passport.as_deref();
        let passport = passport.map(|text| (ended.passport_use(), text));
        let stored = self
            .stored_or_adopted(&mut answering, &ended.call, passport, patience)
            .await;
        let Some(stored) = stored else {
            let safe = self.answer_to_unknown_call(&answering.policy, &ended.call, somebody_waits);
            return Ok(if somebody_waits {
                safe
            } else {
                answer::nothing().to_xml()
            });
        };
        let before = stored.state.clone();
        let (state, after) = match before.dial_ended(&report, &answering.policy.ringing) {
            Ok(moved) => moved,
            Err(invalid) => {
                tracing::info!(event = "call.late_report", error = %invalid, "the call stays as it was");
                return Ok(answer::nothing().to_xml());
            }
        };
        if stored.status == Status::Ended {
            self.record_late_end(stored, &state, report).await;
            return Ok(answer::nothing().to_xml());
        }
        let talked_s = report.duration_s;
        let (now, call) = (self.clock.now(), InboundCall::of_stored(&stored));
        let moved = call_after(&stored, &state, stored.reason, now, talked_s);
        let dial_ended = Record::of_call(now, &call.call_id, Event::DialEnded { report });
        answering.pending.records.push(dial_ended.leaving(moved));

        let answer = self
            .next(&mut answering, &call, &stored, state, after)
            .await?;
        let status = answer.state.status();
        tracing::info!(
            event = if status == Status::Ended {
                "call.completed"
            } else {
                "call.moved"
            },
            status = status.as_str(),
            reason = answer.reason.as_str(),
            "the dial has ended"
        );
        self.conclude(answering, &call, stored, answer, talked_s)
            .await
    }

    /// The call is over already: the caller hears nothing any more, and the report is recorded.
    async fn record_late_end(&self, stored: StoredCall, state: &CallState, report: DialReport) {
        if *state == stored.state {
            return;
        }
        let talked_s = report.duration_s;
        let event = Event::DialEnded { report };
        let (records, known) = reported(stored, state, self.clock.now(), talked_s, event);
        let recorded = self.recorder.append(records, PATIENCE).await;
        self.update(recorded, known, None);
    }

    async fn next(
        &self,
        answering: &mut Answering,
        call: &InboundCall,
        stored: &StoredCall,
        state: CallState,
        after: AfterDial,
    ) -> Result<CallAnswer, Repeated> {
        let policy = answering.policy.clone();
        let voice = self.voice(&policy, call, stored, HOLD_PAUSE);
        let all_failed =
            |state, otherwise| voice.no_dialer_left(state, Reason::AllLegsFailed, otherwise);
        Ok(match after {
            AfterDial::Over => CallAnswer::nothing(state, stored.reason),
            AfterDial::RingAgain { dialer } => match self.fleet.get(&dialer) {
                Some(dialer) => {
                    let reference = state.reference().map(str::to_owned);
                    let certainty = Certainty::Confirmed;
                    voice.connect(&dialer, certainty, reference, state, stored.reason)
                }
                None => all_failed(state, Disposition::Failed),
            },
            AfterDial::NextDialers { dialers: mut plan } => {
                // Those that were tripped or taken out since the decision are left out.
                let views = self.views(&policy);
                plan.retain(|dialer| routing::admissible(dialer, &views).is_ok());
                let class = (stored.tier.as_ref(), stored.score);
                let payload = call.payload(class, &policy.ruleset, &answering.request_id);
                let handed = self.hand_off(answering, &plan, payload).await?;
                if handed.target.is_some() {
                    voice.after_handoff(&handed, state, stored.reason)
                } else {
                    all_failed(state, Disposition::Failed)
                }
            }
            AfterDial::PlanExhausted { .. } if state.is_at_closed_number() => {
                voice.closed_message(state, stored.reason)
            }
            AfterDial::PlanExhausted { last } => all_failed(state, disposition_of(last)),
        })
    }
}

/// Whether a caller is on the line who has to hear of another dialer; if not, the end of the call is not given up for being late. A dial
/// without a dialer is the last resort's: nothing comes after it.
fn somebody_waits(report: &DialReport) -> bool {
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

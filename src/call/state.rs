//! What the next webhook of a call needs to know, and how webhooks move it on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::reports::{Reports, Talk};
use super::{
    CarrierAnswer, DialReport, Disposition, EndReason, LegReport, LegStatus, ReportedOutcome,
    Stamp, Status,
};
use crate::phone::E164;
use crate::routing::DialerId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Target {
    /// A dialer of the plan.
    Dialer {
        /// Its place in the plan, from 0.
        position: usize,
        /// 1, or 2 when its line is rung once more.
        ring: u8,
    },
    /// The number of the rule, or of closed hours.
    Number {
        closed: bool,
    },
    LastResort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub(super) enum CallPhase {
    Routing,
    Held { since: Stamp, round: u32 },
    Dialing { target: Target, bridged: bool },
    Ended,
}

/// A call under way. Transitions consume the state and return the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallState {
    pub(super) plan: Vec<DialerId>,
    /// The dialers in the order in which this call asks them, where that is not the order of its rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) order: Vec<DialerId>,
    /// How many dials were started; names the current one in callback URLs.
    pub(super) step: u32,
    pub(super) phase: CallPhase,
    /// What the dialer being dialled calls the handoff (a ticket or contact id); its line is rung again with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reference: Option<String>,
    /// The last-resort number, masked, once it was dialled. Nobody is dialled after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_resort: Option<String>,
    /// For how long lines have rung in vain, in milliseconds.
    #[serde(default)]
    pub(super) rung_ms: u64,
    #[serde(default, skip_serializing_if = "Reports::is_empty")]
    pub(super) reports: Reports,
    /// How often another machine, or the same one without its record, went on with it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) epoch: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_zero(epoch: &u32) -> bool {
    *epoch == 0
}

/// What happened cannot happen in this state: late, repeated or out of order. The call stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} does not fit a call that is {state}")]
pub struct InvalidTransition {
    event: &'static str,
    state: &'static str,
}

/// What follows on a dial that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterDial {
    /// The same line is rung once more, without a new handoff.
    RingAgain {
        dialer: DialerId,
    },
    /// The rest of the plan is asked, in order.
    NextDialers {
        /// The dialers that are left.
        dialers: Vec<DialerId>,
    },
    /// Nobody of the plan is left, or no time to ring them; `last` says how the last leg ended.
    PlanExhausted {
        /// How the last leg ended.
        last: EndReason,
    },
    Over,
}

/// For how long the lines of a call may ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ringing {
    pub each: Duration,
    /// All of them together, the last resort included where there is room for it.
    pub total: Duration,
    /// Whether a last-resort number follows on the last dialer.
    pub last_resort: bool,
}

impl Ringing {
    /// A line that may ring for less is not dialled: the carrier knows no shorter time.
    const SHORTEST: Duration = Duration::from_secs(5);

    /// For how long the next line may ring after others have rung for `rung`.
    pub fn next(&self, rung: Duration) -> Duration {
        self.each.min(self.total.saturating_sub(rung))
    }

    /// Whether so many more lines can ring in full.
    fn has_room_for(&self, n_lines: usize, rung: Duration) -> bool {
        let n_lines = u32::try_from(n_lines).unwrap_or(u32::MAX);
        rung.saturating_add(self.each.saturating_mul(n_lines)) <= self.total
    }
}

impl CallState {
    /// A call that is being routed, with the dialers of its plan.
    pub fn routing(plan: Vec<DialerId>) -> Self {
        Self {
            plan,
            order: Vec::new(),
            step: 0,
            phase: CallPhase::Routing,
            reference: None,
            last_resort: None,
            rung_ms: 0,
            reports: Reports::default(),
            epoch: 0,
        }
    }

    pub fn status(&self) -> Status {
        match self.phase {
            CallPhase::Routing => Status::Routing,
            CallPhase::Held { .. } => Status::Held,
            CallPhase::Dialing { bridged: false, .. } => Status::Dialing,
            CallPhase::Dialing { bridged: true, .. } => Status::Bridged,
            CallPhase::Ended => Status::Ended,
        }
    }

    /// How an ended call counts, by all that was reported of it.
    pub fn disposition(&self) -> Option<Disposition> {
        (self.phase == CallPhase::Ended)
            .then(|| self.reports.disposition(self.last_resort.is_some()))
    }

    /// The number of the current dial, from 1; 0 before the first.
    pub fn step(&self) -> u32 {
        self.step
    }

    /// The dialer that is or was dialled last; `None` for the last resort.
    pub fn dialer(&self) -> Option<&DialerId> {
        match self.phase {
            CallPhase::Dialing {
                target: Target::Dialer { position, .. },
                ..
            } => self.plan.get(position),
            CallPhase::Dialing {
                target: Target::LastResort | Target::Number { .. },
                ..
            }
            | CallPhase::Routing
            | CallPhase::Held { .. }
            | CallPhase::Ended => None,
        }
    }

    /// The last-resort number, masked, where the call was put through to it.
    pub fn last_resort(&self) -> Option<&str> {
        self.last_resort.as_deref()
    }

    /// Whether the last-resort number rings, or somebody there talks.
    pub fn is_at_last_resort(&self) -> bool {
        let CallPhase::Dialing { target, .. } = self.phase else {
            return false;
        };
        target == Target::LastResort
    }

    /// What the dialer being dialled calls the handoff.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    /// For how long lines have rung in vain, by the carrier's timeouts.
    pub fn rung(&self) -> Duration {
        Duration::from_millis(self.rung_ms)
    }

    /// The outcome that the client of the Calls API reported; `failed` where it was answered that no dialer takes the call.
    pub fn outcome(&self) -> Option<ReportedOutcome> {
        self.reports.outcome()
    }

    /// True once another dialer than the first of the plan was dialled.
    pub fn failed_over(&self) -> bool {
        match self.phase {
            CallPhase::Dialing {
                target: Target::Dialer { position, .. },
                ..
            } => position > 0,
            CallPhase::Dialing {
                target: Target::LastResort | Target::Number { .. },
                ..
            }
            | CallPhase::Routing
            | CallPhase::Held { .. }
            | CallPhase::Ended => false,
        }
    }

    /// The same without what the dialer calls the handoff, where that must not be recorded.
    pub fn without_reference(self) -> Self {
        Self {
            reference: None,
            ..self
        }
    }

    /// A line of `dialer` starts to ring; `reference` is what the dialer calls the handoff.
    pub fn dialing(self, dialer: &DialerId, reference: Option<String>) -> Self {
        let ring = match self.phase {
            CallPhase::Dialing {
                target: Target::Dialer { position, ring },
                ..
            } if self.plan.get(position) == Some(dialer) => ring + 1,
            CallPhase::Dialing { .. }
            | CallPhase::Routing
            | CallPhase::Held { .. }
            | CallPhase::Ended => 1,
        };
        let position = self
            .plan
            .iter()
            .position(|planned| planned == dialer)
            .unwrap_or(self.plan.len());
        Self {
            reference,
            ..self.dial(Target::Dialer { position, ring })
        }
    }

    /// The dialers in the order in which this call asks them, where that is not the order of its rule; else none.
    pub fn order(&self) -> &[DialerId] {
        &self.order
    }

    /// The same with an order of its own.
    pub fn in_order(self, order: Vec<DialerId>) -> Self {
        Self { order, ..self }
    }

    /// The number of the rule starts to ring, or with `closed` that of closed hours: then the call counts as `closed`, whoever answers.
    pub fn dialing_number(self, closed: bool) -> Self {
        let state = self.dial(Target::Number { closed });
        let reports = if closed {
            state.reports.closed(Disposition::Closed)
        } else {
            state.reports
        };
        Self { reports, ..state }
    }

    /// Whether the number of closed hours was the last to ring.
    pub fn is_at_closed_number(&self) -> bool {
        let CallPhase::Dialing { target, .. } = self.phase else {
            return false;
        };
        target == Target::Number { closed: true }
    }

    /// The last-resort number starts to ring.
    pub fn dialing_last_resort(self, number: &E164) -> Self {
        Self {
            last_resort: Some(number.masked()),
            ..self.dial(Target::LastResort)
        }
    }

    fn dial(self, target: Target) -> Self {
        Self {
            step: self.step + 1,
            phase: CallPhase::Dialing {
                target,
                bridged: false,
            },
            reference: None,
            reports: self.reports.dialing(),
            ..self
        }
    }

    /// The caller waits for a dialer; `now` counts only where the wait begins.
    pub fn held(self, now: Stamp) -> Self {
        let (since, round) = match self.phase {
            CallPhase::Held { since, round } => (since, round + 1),
            CallPhase::Routing | CallPhase::Dialing { .. } | CallPhase::Ended => (now, 1),
        };
        Self {
            phase: CallPhase::Held { since, round },
            ..self
        }
    }

    /// Since when the caller waits, and in which round of the hold loop, from 1.
    pub fn waiting(&self) -> Option<(Stamp, u32)> {
        match self.phase {
            CallPhase::Held { since, round } => Some((since, round)),
            CallPhase::Routing | CallPhase::Dialing { .. } | CallPhase::Ended => None,
        }
    }

    /// Another plan takes the place of the one that found nobody.
    pub fn replanned(self, plan: Vec<DialerId>) -> Self {
        Self { plan, ..self }
    }

    /// How far the call has come: the same state on two machines has the same, and what follows on it has more.
    pub(super) fn progress(&self) -> (u32, u32, u32) {
        let round = self.waiting().map_or(0, |(_, round)| round);
        (self.epoch, self.step, round)
    }

    /// Whether both go to the same line of the same plan.
    pub(super) fn has_course_of(&self, other: &Self) -> bool {
        let target = |state: &Self| match state.phase {
            CallPhase::Dialing { target, .. } => Some(target),
            CallPhase::Routing | CallPhase::Held { .. } | CallPhase::Ended => None,
        };
        self.plan == other.plan && target(self) == target(other)
    }

    /// How often the call was adopted.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The same call where it is adopted. `last_resort` is the number that is dialled there when no dialer is left.
    pub fn adopted(self, last_resort: Option<&E164>) -> Self {
        let rings = self.is_at_last_resort();
        Self {
            last_resort: last_resort.filter(|_| rings).map(E164::masked),
            epoch: self.epoch.saturating_add(1),
            ..self
        }
    }

    /// The service ends the call, or is told that its caller has gone.
    pub fn ended(self, disposition: Disposition) -> Self {
        Self {
            phase: CallPhase::Ended,
            reports: self.reports.closed(disposition),
            ..self
        }
    }

    /// The client of the Calls API reports how the call ended. The first outcome stands.
    pub fn outcome_reported(self, outcome: ReportedOutcome) -> Self {
        Self {
            phase: CallPhase::Ended,
            reports: self.reports.with_outcome(outcome),
            ..self
        }
    }

    /// The current dial has ended. Of a call that is over, that only adds to what is known.
    pub fn dial_ended(
        self,
        report: &DialReport,
        ringing: &Ringing,
    ) -> Result<(Self, AfterDial), InvalidTransition> {
        if report.step == 0 || report.step != self.step {
            return Err(self.refuses("the end of another dial"));
        }
        let is_last_resort = self.last_resort.is_some();
        let reports = self.reports.dial_ended(is_last_resort, report);
        let over = |state: Self| Self {
            phase: CallPhase::Ended,
            reports,
            ..state
        };
        let (target, bridged) = match self.phase {
            CallPhase::Ended => return Ok((over(self), AfterDial::Over)),
            CallPhase::Routing | CallPhase::Held { .. } => {
                return Err(self.refuses("the end of a dial"));
            }
            CallPhase::Dialing { target, bridged } => (target, bridged),
        };
        let is_over = matches!(report.end, EndReason::Completed | EndReason::Canceled);
        if is_over || bridged || report.caller_gone || target == Target::LastResort {
            return Ok((over(self), AfterDial::Over));
        }
        // The carrier measures how long it rang, and lets it ring for as long as it may. What is busy or cannot be reached does not ring.
        let rung = match report.end {
            EndReason::NoAnswer => ringing.next(self.rung()),
            EndReason::Busy | EndReason::Failed | EndReason::Completed | EndReason::Canceled => {
                Duration::ZERO
            }
        };
        let rung_ms = u64::try_from((self.rung() + rung).as_millis()).unwrap_or(u64::MAX);
        let state = Self {
            rung_ms,
            reports,
            ..self
        };
        let after = match target {
            Target::Dialer { position, ring } => {
                state.after_failed_leg(position, ring, report.end, ringing)
            }
            Target::Number { .. } | Target::LastResort => {
                AfterDial::PlanExhausted { last: report.end }
            }
        };
        Ok((state, after))
    }

    /// A line is rung once more where every dialer behind it, and the last resort, can still ring in full.
    fn after_failed_leg(
        &self,
        position: usize,
        ring: u8,
        last: EndReason,
        ringing: &Ringing,
    ) -> AfterDial {
        let behind = self.plan.get(position + 1..).unwrap_or_default();
        let n_lines = 1 + behind.len() + usize::from(ringing.last_resort);
        match self.plan.get(position) {
            Some(dialer) if ring < 2 && ringing.has_room_for(n_lines, self.rung()) => {
                AfterDial::RingAgain {
                    dialer: dialer.clone(),
                }
            }
            Some(_) | None => {
                let is_late = ringing.next(self.rung()) < Ringing::SHORTEST;
                if behind.is_empty() || is_late {
                    AfterDial::PlanExhausted { last }
                } else {
                    AfterDial::NextDialers {
                        dialers: behind.to_vec(),
                    }
                }
            }
        }
    }

    /// A leg made progress. A child leg that is answered bridges the call, and one that is completed was answered, even where nobody told;
    /// the end of the caller's own leg ends it. A call that is over stays so: all that changes is what is known of it.
    pub fn leg_reported(self, report: &LegReport) -> Self {
        let talk = match report.status {
            LegStatus::Answered => Talk::Began,
            LegStatus::Ended(EndReason::Completed) => Talk::Over,
            LegStatus::Ended(_) if report.parent.is_none() => Talk::None,
            LegStatus::Initiated | LegStatus::Ringing | LegStatus::Ended(_) => return self,
        };
        if report.parent.is_none() {
            return match report.status {
                LegStatus::Ended(_) => self.caller_gone(),
                LegStatus::Initiated | LegStatus::Ringing | LegStatus::Answered => self,
            };
        }
        let Some(step) = report.step.filter(|step| (1..=self.step).contains(step)) else {
            return self;
        };
        let is_current = step == self.step;
        let is_last_resort = is_current && self.last_resort.is_some();
        let mut phase = self.phase;
        if let CallPhase::Dialing { bridged, .. } = &mut phase {
            *bridged |= is_current;
        }
        Self {
            phase,
            reports: self.reports.talked(is_last_resort, talk),
            ..self
        }
    }

    /// The end of the call was not reported, so the carrier was asked. Its answer counts as a report; where it says nothing, all that is sure
    /// is whom the call reached last.
    pub fn reconciled(self, answer: &CarrierAnswer) -> Result<Self, InvalidTransition> {
        match (self.phase, answer) {
            (CallPhase::Ended, _) => Err(self.refuses("an end looked up later")),
            (_, CarrierAnswer::Ended { .. }) => Ok(self.caller_gone()),
            (_, CarrierAnswer::NotFound | CarrierAnswer::Unasked) => Ok(Self {
                phase: CallPhase::Ended,
                ..self
            }),
        }
    }

    /// The caller's own leg has ended.
    fn caller_gone(self) -> Self {
        Self {
            phase: CallPhase::Ended,
            reports: self.reports.caller_gone(),
            ..self
        }
    }

    fn refuses(&self, event: &'static str) -> InvalidTransition {
        InvalidTransition {
            event,
            state: self.status().as_str(),
        }
    }
}

#[cfg(test)]
mod tests;

//! What the next webhook of a call needs to know, and how webhooks move it on.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{DialReport, Disposition, EndReason, Found, LegReport, LegStatus, Stamp, Status};
use crate::routing::DialerId;

/// Identifies a call: Twilio's CallSid of the caller's leg, or an id of ours for the JSON door. Also names a leg.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(Arc<str>);

/// The text cannot name a call: 1 to 64 characters of `[A-Za-z0-9_-]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a call id: 1 to 64 characters of A-Z a-z 0-9 _ -")]
pub struct NotCallId;

impl CallId {
    /// Takes any id that fits a URL; Twilio's are `CA` and 32 hexadecimal digits, but only their safety matters here.
    pub fn parse(text: &str) -> Result<Self, NotCallId> {
        let safe = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if safe && (1..=64).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(NotCallId)
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who is being dialled.
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
    /// The last-resort number.
    LastResort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
enum Phase {
    Routing,
    Held { since: Stamp, round: u32 },
    Dialing { target: Target, bridged: bool },
    Ended { disposition: Disposition },
}

/// A call under way. Transitions consume the state and return the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallState {
    plan: Vec<DialerId>,
    /// How many dials were started; names the current one in callback URLs.
    step: u32,
    phase: Phase,
    /// What the dialer being dialled calls the handoff (a ticket or contact id); its line is rung again with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
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
        /// Which dialer.
        dialer: DialerId,
    },
    /// The rest of the plan is asked, in order.
    NextDialers {
        /// The dialers that are left.
        dialers: Vec<DialerId>,
    },
    /// Nobody of the plan is left; `last` says how the last leg ended.
    PlanExhausted {
        /// How the last leg ended.
        last: EndReason,
    },
    /// The call is over.
    Over,
}

impl CallState {
    /// A call that is being routed, with the dialers of its plan.
    pub fn routing(plan: Vec<DialerId>) -> Self {
        Self {
            plan,
            step: 0,
            phase: Phase::Routing,
            reference: None,
        }
    }

    /// Where the call stands.
    pub fn status(&self) -> Status {
        match self.phase {
            Phase::Routing => Status::Routing,
            Phase::Held { .. } => Status::Held,
            Phase::Dialing { bridged: false, .. } => Status::Dialing,
            Phase::Dialing { bridged: true, .. } => Status::Bridged,
            Phase::Ended { .. } => Status::Ended,
        }
    }

    /// How an ended call counts.
    pub fn disposition(&self) -> Option<Disposition> {
        match self.phase {
            Phase::Ended { disposition } => Some(disposition),
            Phase::Routing | Phase::Held { .. } | Phase::Dialing { .. } => None,
        }
    }

    /// The number of the current dial, from 1; 0 before the first.
    pub fn step(&self) -> u32 {
        self.step
    }

    /// The dialer that is or was dialled last; `None` for the last resort.
    pub fn dialer(&self) -> Option<&DialerId> {
        match self.phase {
            Phase::Dialing {
                target: Target::Dialer { position, .. },
                ..
            } => self.plan.get(position),
            Phase::Dialing {
                target: Target::LastResort,
                ..
            }
            | Phase::Routing
            | Phase::Held { .. }
            | Phase::Ended { .. } => None,
        }
    }

    /// What the dialer being dialled calls the handoff.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    /// True once another dialer than the first of the plan was dialled.
    pub fn failed_over(&self) -> bool {
        match self.phase {
            Phase::Dialing {
                target: Target::Dialer { position, .. },
                ..
            } => position > 0,
            Phase::Dialing {
                target: Target::LastResort,
                ..
            }
            | Phase::Routing
            | Phase::Held { .. }
            | Phase::Ended { .. } => false,
        }
    }

    /// A line of `dialer` starts to ring; `reference` is what the dialer calls the handoff.
    pub fn dialing(self, dialer: &DialerId, reference: Option<String>) -> Self {
        let ring = match self.phase {
            Phase::Dialing {
                target: Target::Dialer { position, ring },
                ..
            } if self.plan.get(position) == Some(dialer) => ring + 1,
            Phase::Dialing { .. } | Phase::Routing | Phase::Held { .. } | Phase::Ended { .. } => 1,
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

    /// The last-resort number starts to ring.
    pub fn dialing_last_resort(self) -> Self {
        self.dial(Target::LastResort)
    }

    fn dial(self, target: Target) -> Self {
        Self {
            step: self.step + 1,
            phase: Phase::Dialing {
                target,
                bridged: false,
            },
            plan: self.plan,
            reference: None,
        }
    }

    /// The caller waits for a dialer; `now` counts only where the wait begins.
    pub fn held(self, now: Stamp) -> Self {
        let (since, round) = match self.phase {
            Phase::Held { since, round } => (since, round + 1),
            Phase::Routing | Phase::Dialing { .. } | Phase::Ended { .. } => (now, 1),
        };
        Self {
            phase: Phase::Held { since, round },
            ..self
        }
    }

    /// Since when the caller waits, and in which round of the hold loop, from 1.
    pub fn waiting(&self) -> Option<(Stamp, u32)> {
        match self.phase {
            Phase::Held { since, round } => Some((since, round)),
            Phase::Routing | Phase::Dialing { .. } | Phase::Ended { .. } => None,
        }
    }

    /// Another plan takes the place of the one that found nobody.
    pub fn replanned(self, plan: Vec<DialerId>) -> Self {
        Self { plan, ..self }
    }

    /// The call is over.
    pub fn ended(self, disposition: Disposition) -> Self {
        Self {
            phase: Phase::Ended { disposition },
            ..self
        }
    }

    /// The current dial has ended.
    pub fn dial_ended(self, report: &DialReport) -> Result<(Self, AfterDial), InvalidTransition> {
        let Phase::Dialing { target, bridged } = self.phase else {
            return Err(self.refuses("the end of a dial"));
        };
        if report.step != self.step {
            return Err(self.refuses("the end of another dial"));
        }
        let disposition = match (target, report.end) {
            (Target::LastResort, EndReason::Busy | EndReason::NoAnswer | EndReason::Failed)
                if !bridged && !report.caller_gone =>
            {
                Some(Disposition::Failed)
            }
            (Target::LastResort, _) => Some(Disposition::LastResort),
            (Target::Dialer { .. }, EndReason::Completed) => Some(Disposition::Answered),
            (Target::Dialer { .. }, EndReason::Canceled) => Some(Disposition::Abandoned),
            (Target::Dialer { .. }, EndReason::Busy | EndReason::NoAnswer | EndReason::Failed)
                if bridged =>
            {
                Some(Disposition::Answered)
            }
            (Target::Dialer { .. }, EndReason::Busy | EndReason::NoAnswer | EndReason::Failed) => {
                report.caller_gone.then_some(Disposition::Abandoned)
            }
        };
        if let Some(disposition) = disposition {
            return Ok((self.ended(disposition), AfterDial::Over));
        }
        let Target::Dialer { position, ring } = target else {
            return Err(self.refuses("the end of a dial"));
        };
        let after = self.after_failed_leg(position, ring, report.end);
        Ok((self, after))
    }

    fn after_failed_leg(&self, position: usize, ring: u8, last: EndReason) -> AfterDial {
        match self.plan.get(position) {
            Some(dialer) if ring < 2 => AfterDial::RingAgain {
                dialer: dialer.clone(),
            },
            Some(_) | None => {
                let dialers = self.plan.get(position + 1..).unwrap_or_default().to_vec();
                if dialers.is_empty() {
                    AfterDial::PlanExhausted { last }
                } else {
                    AfterDial::NextDialers { dialers }
                }
            }
        }
    }

    /// A leg made progress. A child leg that is answered bridges the call, and one that is completed was answered, even where nobody told;
    /// the end of the caller's own leg ends it.
    pub fn leg_reported(self, report: &LegReport) -> Result<Self, InvalidTransition> {
        let own_leg = report.parent.is_none();
        match (self.phase, report.status) {
            (Phase::Ended { .. }, _) => Err(self.refuses("a leg's progress")),
            (_, LegStatus::Ended(_)) if own_leg => self.caller_gone("a leg's progress"),
            (
                Phase::Dialing { target, .. },
                LegStatus::Answered | LegStatus::Ended(EndReason::Completed),
            ) if !own_leg && report.step == Some(self.step) => Ok(Self {
                phase: Phase::Dialing {
                    target,
                    bridged: true,
                },
                ..self
            }),
            (Phase::Dialing { .. } | Phase::Routing | Phase::Held { .. }, _) => Ok(self),
        }
    }

    /// Nobody told how the call ended, so it was looked up. What the carrier's books say counts as if it had been told; where they
    /// say nothing, all that is sure is whom the call reached last.
    pub fn reconciled(self, found: &Found) -> Result<Self, InvalidTransition> {
        const EVENT: &str = "an end looked up later";
        match (self.phase, found) {
            (_, Found::Ended { .. }) => self.caller_gone(EVENT),
            (Phase::Ended { .. }, _) => Err(self.refuses(EVENT)),
            (
                Phase::Dialing {
                    target: Target::LastResort,
                    ..
                },
                Found::NotFound | Found::Unasked,
            ) => Ok(self.ended(Disposition::LastResort)),
            (
                Phase::Routing | Phase::Held { .. } | Phase::Dialing { .. },
                Found::NotFound | Found::Unasked,
            ) => Ok(self.ended(Disposition::Unknown)),
        }
    }

    /// The caller's own leg has ended.
    fn caller_gone(self, event: &'static str) -> Result<Self, InvalidTransition> {
        let disposition = match self.phase {
            Phase::Ended { .. } => return Err(self.refuses(event)),
            Phase::Dialing {
                target: Target::LastResort,
                ..
            } => Disposition::LastResort,
            Phase::Dialing { bridged: true, .. } => Disposition::Answered,
            Phase::Dialing { bridged: false, .. } | Phase::Routing | Phase::Held { .. } => {
                Disposition::Abandoned
            }
        };
        Ok(self.ended(disposition))
    }

    fn refuses(&self, event: &'static str) -> InvalidTransition {
        InvalidTransition {
            event,
            state: self.status().as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn plan() -> Vec<DialerId> {
        vec![DialerId::new("a"), DialerId::new("b")]
    }

    fn report(step: u32, end: EndReason, caller_gone: bool) -> DialReport {
        DialReport {
            step,
            end,
            leg: None,
            duration_s: None,
            sip_code: None,
            caller_gone,
        }
    }

    fn leg(status: LegStatus, child: bool, step: u32) -> LegReport {
        LegReport {
            leg: CallId::parse(if child { "CA2" } else { "CA1" }).unwrap(),
            parent: child.then(|| CallId::parse("CA1").unwrap()),
            step: Some(step),
            dialer: None,
            status,
            sequence: None,
            duration_s: None,
            sip_code: None,
        }
    }

    fn ringing() -> CallState {
        CallState::routing(plan()).dialing(&DialerId::new("a"), None)
    }

    #[test]
    fn every_dialer_is_rung_twice_then_the_plan_is_exhausted() {
        let (state, after) = ringing()
            .dial_ended(&report(1, EndReason::Busy, false))
            .unwrap();
        assert_eq!(
            after,
            AfterDial::RingAgain {
                dialer: DialerId::new("a")
            }
        );
        let state = state.dialing(&DialerId::new("a"), None);
        let (state, after) = state
            .dial_ended(&report(2, EndReason::NoAnswer, false))
            .unwrap();
        assert_eq!(
            after,
            AfterDial::NextDialers {
                dialers: vec![DialerId::new("b")]
            }
        );
        let state = state.dialing(&DialerId::new("b"), None);
        let (state, after) = state
            .dial_ended(&report(3, EndReason::Failed, false))
            .unwrap();
        assert_eq!(
            after,
            AfterDial::RingAgain {
                dialer: DialerId::new("b")
            }
        );
        let state = state.dialing(&DialerId::new("b"), None);
        let (state, after) = state
            .dial_ended(&report(4, EndReason::Busy, false))
            .unwrap();
        assert_eq!(
            after,
            AfterDial::PlanExhausted {
                last: EndReason::Busy
            }
        );
        let state = state.dialing_last_resort();
        let (state, after) = state
            .dial_ended(&report(5, EndReason::Completed, false))
            .unwrap();
        assert_eq!(
            (after, state.disposition()),
            (AfterDial::Over, Some(Disposition::LastResort))
        );
    }

    #[test]
    fn the_end_of_a_dial_decides_how_the_call_counts() {
        let cases = [
            (EndReason::Completed, false, Disposition::Answered),
            (EndReason::Completed, true, Disposition::Answered),
            (EndReason::Canceled, false, Disposition::Abandoned),
            (EndReason::NoAnswer, true, Disposition::Abandoned),
            (EndReason::Busy, true, Disposition::Abandoned),
        ];
        for (end, caller_gone, expected) in cases {
            let (state, after) = ringing().dial_ended(&report(1, end, caller_gone)).unwrap();
            assert_eq!(
                (after, state.disposition()),
                (AfterDial::Over, Some(expected)),
                "{end:?} {caller_gone}"
            );
        }
    }

    #[test]
    fn a_last_resort_that_is_not_reached_is_a_failure() {
        let ends = |end, caller_gone| {
            let ringing = CallState::routing(plan()).dialing_last_resort();
            let (state, _) = ringing.dial_ended(&report(1, end, caller_gone)).unwrap();
            state.disposition()
        };
        for end in [EndReason::Busy, EndReason::NoAnswer, EndReason::Failed] {
            assert_eq!(ends(end, false), Some(Disposition::Failed), "{end:?}");
            assert_eq!(ends(end, true), Some(Disposition::LastResort), "{end:?}");
        }
        let talked = ends(EndReason::Completed, false);
        assert_eq!(talked, Some(Disposition::LastResort));
    }

    #[test]
    fn late_repeated_and_foreign_reports_leave_the_call_as_it_is() {
        assert!(
            ringing()
                .dial_ended(&report(2, EndReason::Busy, false))
                .is_err()
        );
        assert!(
            CallState::routing(plan())
                .dial_ended(&report(0, EndReason::Busy, false))
                .is_err()
        );
        let over = ringing().ended(Disposition::Answered);
        assert!(
            over.clone()
                .dial_ended(&report(1, EndReason::Busy, false))
                .is_err()
        );
        assert!(
            over.leg_reported(&leg(LegStatus::Answered, true, 1))
                .is_err()
        );
        let still_ringing = ringing()
            .leg_reported(&leg(LegStatus::Answered, true, 7))
            .unwrap();
        assert_eq!(still_ringing.status(), Status::Dialing);
    }

    #[test]
    fn a_held_call_keeps_the_time_its_wait_began() {
        let at = |s: u64| Stamp {
            at: Timestamp::UNIX_EPOCH,
            uptime_ms: s * 1_000,
        };
        let held = CallState::routing(Vec::new()).held(at(10)).held(at(15));
        assert_eq!(
            (held.status(), held.waiting()),
            (Status::Held, Some((at(10), 2)))
        );
        let gone =
            held.clone()
                .leg_reported(&leg(LegStatus::Ended(EndReason::Completed), false, 1));
        assert_eq!(gone.unwrap().disposition(), Some(Disposition::Abandoned));
        let ringing = held.replanned(plan()).dialing(&DialerId::new("b"), None);
        assert_eq!(
            (ringing.status(), ringing.failed_over()),
            (Status::Dialing, true)
        );
    }

    #[test]
    fn a_completed_leg_was_answered_even_if_the_answer_was_never_told() {
        let ended = |reason| LegStatus::Ended(reason);
        let own_end = leg(ended(EndReason::Completed), false, 1);
        for (reason, expected) in [
            (EndReason::Completed, Disposition::Answered),
            (EndReason::NoAnswer, Disposition::Abandoned),
            (EndReason::Canceled, Disposition::Abandoned),
        ] {
            let after = ringing()
                .leg_reported(&leg(ended(reason), true, 1))
                .unwrap();
            let over = after.leg_reported(&own_end).unwrap();
            assert_eq!(over.disposition(), Some(expected), "{reason:?}");
        }
    }

    #[test]
    fn an_answered_leg_bridges_and_the_callers_own_leg_ends_the_call() {
        let bridged = ringing()
            .leg_reported(&leg(LegStatus::Answered, true, 1))
            .unwrap();
        assert_eq!(bridged.status(), Status::Bridged);
        let ended = LegStatus::Ended(EndReason::Completed);
        let answered = bridged.leg_reported(&leg(ended, false, 1)).unwrap();
        assert_eq!(answered.disposition(), Some(Disposition::Answered));
        let abandoned = ringing().leg_reported(&leg(ended, false, 1)).unwrap();
        assert_eq!(abandoned.disposition(), Some(Disposition::Abandoned));
        let last_resort = CallState::routing(plan())
            .dialing_last_resort()
            .leg_reported(&leg(ended, false, 1))
            .unwrap();
        assert_eq!(last_resort.disposition(), Some(Disposition::LastResort));
    }

    #[test]
    fn a_call_that_was_looked_up_counts_by_where_it_was_last_seen() {
        let ended = |end| Found::Ended {
            end,
            duration_s: Some(50),
            at: None,
        };
        let completed = ended(EndReason::Completed);
        let (routing, held) = (
            CallState::routing(plan()),
            CallState::routing(plan()).held(Stamp {
                at: Timestamp::UNIX_EPOCH,
                uptime_ms: 0,
            }),
        );
        let bridged = ringing()
            .leg_reported(&leg(LegStatus::Answered, true, 1))
            .unwrap();
        let last_resort = CallState::routing(plan()).dialing_last_resort();
        let cases = [
            (&routing, completed, Disposition::Abandoned),
            (&routing, Found::NotFound, Disposition::Unknown),
            (&held, completed, Disposition::Abandoned),
            (&held, Found::Unasked, Disposition::Unknown),
            (&ringing(), completed, Disposition::Abandoned),
            (
                &ringing(),
                ended(EndReason::Canceled),
                Disposition::Abandoned,
            ),
            (&ringing(), Found::NotFound, Disposition::Unknown),
            (&bridged, completed, Disposition::Answered),
            (&bridged, ended(EndReason::Failed), Disposition::Answered),
            (&bridged, Found::Unasked, Disposition::Unknown),
            (&last_resort, completed, Disposition::LastResort),
            (&last_resort, Found::NotFound, Disposition::LastResort),
            (&last_resort, Found::Unasked, Disposition::LastResort),
        ];
        for (state, found, expected) in cases {
            let over = state.clone().reconciled(&found).unwrap();
            assert_eq!(over.disposition(), Some(expected), "{state:?} {found:?}");
            for later in [completed, Found::NotFound, Found::Unasked] {
                assert!(over.clone().reconciled(&later).is_err(), "over is over");
            }
        }
    }
}

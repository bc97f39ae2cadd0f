//! A status callback: a leg made progress, or the call is over.

use std::time::Duration;

use super::claim::Claims;
use super::record::{Recorder, call_after};
use super::waiting::Waiting;
use crate::audit::{Event, Record};
use crate::call::{LegReport, LegStatus, Status};
use crate::clock::Clock;
use crate::store::StoredLeg;
use crate::twilio::StatusReport;

/// A status callback is not waited for by a caller, but Twilio's patience ends at 15 s.
const PATIENCE: Duration = Duration::from_secs(2);

/// Takes note of status callbacks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StatusReports {
    /// Reads time.
    pub clock: Clock,
    /// Who works on which call.
    pub claims: Claims,
    /// Who waits for a dialer.
    pub waiting: Waiting,
    /// Writes it down.
    pub recorder: Recorder,
}

impl StatusReports {
    /// Moves the call on. A report that is known, late or of an unknown call changes nothing.
    pub async fn take(&self, status: StatusReport) {
        let _in_hand = self.claims.take_in_hand(&status.call_id).await;
        let stored = self.claims.call_within(&status.call_id, PATIENCE).await;
        let Some(stored) = stored else {
            metrics::counter!("switchboard_unknown_calls_total").increment(1);
            return;
        };
        let legs = self.claims.legs(&status.call_id).await;
        if is_known(&legs, &status.report) {
            return;
        }
        let before = stored.state.status();
        let state = match stored.state.clone().leg_reported(&status.report) {
            Ok(state) => state,
            Err(late) => {
                tracing::debug!(event = "call.late_report", error = %late, "the call stays as it was");
                stored.state.clone()
            }
        };
        if before != Status::Ended && state.status() == Status::Ended {
            self.waiting.leave(&status.call_id);
            tracing::info!(event = "call.completed", "the caller's leg has ended");
        }
        let now = self.clock.now();
        let report = status.report;
        let after = call_after(&stored, &state, stored.reason, now, report.duration_s);
        let known = stored.moved_on(&after, now);
        let after = Box::new(after);
        let record = Record::of_call(now, &known.id, Event::LegReported { report, after });
        let recorded = self.recorder.append(vec![record], PATIENCE).await;
        self.claims.note(recorded, known, None);
    }
}

/// A leg never goes back: not from its end, and not behind an event with a higher number.
fn is_known(legs: &[StoredLeg], report: &LegReport) -> bool {
    legs.iter().filter(|leg| leg.leg == report.leg).any(|leg| {
        let over = matches!(leg.status, LegStatus::Ended(_));
        let later =
            matches!((leg.sequence, report.sequence), (Some(seen), Some(new)) if seen >= new);
        let same = leg.status == report.status;
        over || later || same
    })
}

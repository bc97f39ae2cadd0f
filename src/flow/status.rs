//! A status callback: a leg made progress, or the call is over.

use std::time::Duration;

use super::answering::Calls;
use super::record::reported;
use crate::audit::Event;
use crate::call::{LegReport, LegStatus, Status};
use crate::store::StoredLeg;
use crate::twilio::StatusReport;

/// A status callback is not waited for by a caller, but Twilio's patience ends at 15 s.
const PATIENCE: Duration = Duration::from_secs(2);

impl Calls {
    /// Moves the call on. A report that says nothing new changes nothing, and so does one of an unknown call.
    pub async fn leg_reported(&self, status: StatusReport) {
        let _lock = self.locks.lock(&status.call_id).await;
        let stored = self.locks.call_within(&status.call_id, PATIENCE).await;
        let Some(stored) = stored else {
            metrics::counter!("switchboard_unknown_calls_total").increment(1);
            return;
        };
        let report = status.report;
        let state = stored.state.clone().leg_reported(&report);
        let legs = self.locks.legs(&status.call_id).await;
        if state == stored.state && is_known(&legs, &report) {
            return;
        }
        if stored.status != Status::Ended && state.status() == Status::Ended {
            self.waiting.leave(&status.call_id);
            tracing::info!(event = "call.completed", "the caller's leg has ended");
        }
        // The length of the caller's own leg is that of waiting, ringing and talking together.
        let talked_s = report.duration_s.filter(|_| report.parent.is_some());
        let now = self.clock.now();
        let event = Event::LegReported { report };
        let (records, known) = reported(stored, &state, now, talked_s, event);
        let recorded = self.recorder.append(records, PATIENCE).await;
        self.update(recorded, known, None);
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

//! Taking dialers out by hand and putting them back.

use super::record::Recorder;
use crate::audit::{Drained, Record};
use crate::clock::Clock;
use crate::dialer::{DialerStatus, Fleet, HealthChange};
use crate::routing::{DialerId, DialerView};

/// Takes dialers out and puts them back, and writes down who did it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drains {
    pub clock: Clock,
    pub fleet: Fleet,
    pub recorder: Recorder,
}

impl Drains {
    /// Takes a dialer out: calls that it has already are not touched, no other reaches it. `None` where there is no such dialer.
    pub async fn drain(&self, dialer: &DialerId, out: Drained) -> Option<DialerStatus> {
        let change = self.fleet.drain(dialer, out);
        self.changed(change).await;
        self.status(dialer)
    }

    /// Puts back what was taken out until now.
    pub async fn resume_due(&self) {
        let now = self.clock.now();
        for status in self.statuses() {
            let out = status.drained.as_ref();
            if let Some(out) = out.filter(|out| out.until.is_some_and(|until| until <= now)) {
                let by = format!("the end that {} had set", out.by);
                self.resume(status.dialer.id(), &by).await;
            }
        }
    }

    /// Puts a dialer back. `None` where there is no such dialer.
    pub async fn resume(&self, dialer: &DialerId, by: &str) -> Option<DialerStatus> {
        let change = self.fleet.resume(dialer, by);
        self.changed(change).await;
        self.status(dialer)
    }

    /// How every dialer is, as a decision sees it.
    pub fn views(&self) -> Vec<DialerView> {
        self.fleet.views(self.clock.instant())
    }

    pub fn status(&self, dialer: &DialerId) -> Option<DialerStatus> {
        self.statuses()
            .into_iter()
            .find(|status| status.dialer.id() == dialer)
    }

    /// How every dialer is, in the order of the file.
    pub fn statuses(&self) -> Vec<DialerStatus> {
        self.fleet.statuses(self.clock.instant())
    }

    /// Taking out what is out already is no change.
    async fn changed(&self, change: Option<HealthChange>) {
        let Some(change) = change else { return };
        tracing::info!(
            event = "dialer.changed",
            dialer = change.service,
            from = change.from,
            to = change.to,
            cause = change.cause,
            "a dialer was taken out or put back by hand"
        );
        let event = change.into_event();
        let record = Record::of_service(self.clock.now(), event);
        self.recorder.append_one(record).await;
    }
}

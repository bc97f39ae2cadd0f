//! Trying refused credentials again: by themselves when it is time, and at once where somebody asks for it.

use super::record::Recorder;
use crate::alerts::{Evaluation, Incidents, of_credentials};
use crate::audit::Record;
use crate::braze::{self, Braze};
use crate::clock::Clock;
use crate::dialer::{
    Dialer, DialerStatus, Fleet, HealthChange, PROBE_TIMEOUT, Probe, ProbeHealth, ProbeTurn,
    TestReport,
};
use crate::routing::DialerId;
use crate::twilio::Rest;

/// Tries credentials again and writes down what came of it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Retries {
    pub clock: Clock,
    pub fleet: Fleet,
    pub braze: Braze,
    pub rest: Rest,
    /// Learns which dialer is well again.
    pub incidents: Incidents,
    pub recorder: Recorder,
}

impl Retries {
    /// Tries the credentials of a dialer now, if it refuses them and a probe can tell; otherwise the next call is the trial. `None` where there is
    /// no such dialer.
    pub async fn dialer(&self, id: &DialerId, by: &str) -> Option<DialerStatus> {
        let dialer = self.fleet.get(id)?;
        let now = self.clock.instant();
        self.fleet.try_now(id, now);
        if self.fleet.probe_turn(id, now) == ProbeTurn::Try {
            tracing::info!(event = "dialer.retried", dialer = %id, by, "refused credentials are tried again");
            self.try_dialer(dialer, Some(by)).await;
        }
        let statuses = self.fleet.statuses(self.clock.instant());
        statuses.into_iter().find(|status| status.dialer.id() == id)
    }

    /// Tries Braze's key now, if it is refused.
    pub async fn braze(&self, by: &str) -> braze::LookupStatus {
        if self.braze.take_try_now() {
            tracing::info!(
                event = "lookup.retried",
                by,
                "the refused key is tried again"
            );
            self.braze.probe().await;
            self.record_braze(Some(by)).await;
        }
        self.braze.status()
    }

    /// Asks a dialer with the credentials that it refused. [`Fleet::probe_turn`] has to have said so.
    pub async fn try_dialer(&self, dialer: Dialer, by: Option<&str>) {
        let probe = dialer.try_credentials(PROBE_TIMEOUT).await;
        let now = self.clock.instant();
        let change = self.fleet.report_try(&dialer, &probe, by, now);
        self.learned(&dialer, &probe, change).await;
    }

    /// Asks a dialer how it is.
    pub async fn probe_dialer(&self, dialer: Dialer) {
        let probe = dialer.probe(PROBE_TIMEOUT).await;
        let now = self.clock.instant();
        let change = self.fleet.report_probe(dialer.id(), &probe, now);
        self.learned(&dialer, &probe, change).await;
    }

    async fn learned(&self, dialer: &Dialer, probe: &Probe, change: Option<HealthChange>) {
        if let Some(change) = change {
            self.record(change).await;
        }
        if probe.health == ProbeHealth::Healthy {
            self.incidents.probed_well(dialer.id());
        }
    }

    /// Learns from a test that somebody made.
    pub async fn tested(&self, dialer: &Dialer, report: &TestReport, by: &str) {
        if dialer.probes_credentials()
            && report.accepts_credentials()
            && let Some(change) = self.fleet.proven(dialer, by)
        {
            self.record(change).await;
        }
    }

    /// Asks Braze how it is. [`Braze::take_probe`] has to have said so.
    pub async fn probe_braze(&self) {
        let report = self.braze.probe().await;
        self.incidents.probed_braze(report.failure);
    }

    /// What is found of the credentials for Braze and Twilio. What was open before a start stays open until Twilio is asked again.
    pub fn credentials(&self) -> Vec<(String, Evaluation)> {
        let braze = of_credentials("braze", self.braze.status().refused.as_ref());
        let twilio = self.rest.refused().map_or(Evaluation::Unclear, |refused| {
            of_credentials("twilio", refused.as_ref())
        });
        vec![("braze".to_owned(), braze), ("twilio".to_owned(), twilio)]
    }

    /// Writes down how Braze has changed its state. `by`: who had it tried, where somebody did.
    pub async fn record_braze(&self, by: Option<&str>) {
        for change in self.braze.take_changes() {
            self.record(HealthChange {
                service: "braze".to_owned(),
                from: change.from,
                to: change.to,
                cause: match by {
                    Some(by) => format!("tried by {by}: {}", change.cause),
                    None => change.cause,
                },
                standing: self.braze.persisted_state(),
            })
            .await;
        }
    }

    async fn record(&self, change: HealthChange) {
        record_health(&self.recorder, &self.clock, change).await;
    }
}

/// Tells and writes down that a service changed its state.
pub async fn record_health(recorder: &Recorder, clock: &Clock, change: HealthChange) {
    tracing::warn!(
        event = "health.changed",
        service = change.service,
        from = change.from,
        to = change.to,
        cause = change.cause,
        "A service changed its state."
    );
    let record = Record::of_service(clock.now(), change.into_event());
    recorder.append_one(record).await;
}

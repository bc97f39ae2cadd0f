//! Active probes: every dialer is asked whether it is well, at its own pace, and Braze's changes of health are written down.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::audit::Record;
use crate::braze::Braze;
use crate::clock::Clock;
use crate::dialer::{Dialer, Fleet, Health, HealthChange};
use crate::flow::{Incidents, Recorder};
use crate::lifecycle::Lifecycle;
use crate::resilience::state_name;
use crate::routing::DialerId;

/// How often the job looks whose turn it is.
const TICK: Duration = Duration::from_millis(500);
/// The longest a probe may take (Zendesk Talk and Dialfire: "timeout 2 s").
const TIMEOUT: Duration = Duration::from_secs(2);

/// Probes until the process is asked to stop.
pub(super) async fn run(
    lifecycle: Lifecycle,
    fleet: Fleet,
    braze: Braze,
    recorder: Recorder,
    incidents: Incidents,
    clock: Clock,
) {
    let mut probed: HashMap<DialerId, Instant> = HashMap::new();
    loop {
        let now = clock.instant();
        for dialer in fleet.dialers() {
            if is_due(probed.get(dialer.id()), &dialer, now) {
                probed.insert(dialer.id().clone(), now);
                let (fleet, recorder, clock) = (fleet.clone(), recorder.clone(), clock.clone());
                let incidents = incidents.clone();
                lifecycle
                    .spawn_transient("probe", probe(dialer, fleet, recorder, incidents, clock));
            }
        }
        incidents.look_around(now);
        for change in braze.take_transitions() {
            record(
                &recorder,
                &clock,
                HealthChange {
                    service: "braze".to_owned(),
                    from: state_name(change.from),
                    to: state_name(change.to),
                    cause: change.cause.to_string(),
                    standing: braze.standing(),
                },
            )
            .await;
        }
        if !lifecycle.pause(TICK).await {
            return;
        }
    }
}

fn is_due(last: Option<&Instant>, dialer: &Dialer, now: Instant) -> bool {
    last.is_none_or(|last| now.saturating_duration_since(*last) >= dialer.probe_every())
}

async fn probe(
    dialer: Dialer,
    fleet: Fleet,
    recorder: Recorder,
    incidents: Incidents,
    clock: Clock,
) {
    let found = dialer.probe(TIMEOUT).await;
    if let Some(change) = fleet.report_probe(dialer.id(), &found, clock.instant()) {
        record(&recorder, &clock, change).await;
    }
    if found.health == Health::Healthy {
        incidents.probed_well(dialer.id());
    }
}

/// Tells and writes down that a service changed its state.
pub async fn record(recorder: &Recorder, clock: &Clock, change: HealthChange) {
    tracing::warn!(
        event = "health.changed",
        service = change.service,
        from = change.from,
        to = change.to,
        cause = change.cause,
        "A service changed its state."
    );
    recorder
        .note(Record::of_service(clock.now(), change.into_event()))
        .await;
}

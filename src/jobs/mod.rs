//! What runs beside the calls: probes, refreshes, and keeping the warm cache. Each is one supervised task.

pub mod canary;
pub mod checkpoint;
pub mod held;
pub mod interrupted;
pub mod probe;
pub mod profiles;
pub mod reap;
pub mod ruleset;
pub mod systemd;

use crate::braze::Braze;
use crate::clock::Clock;
use crate::dialer::Fleet;
use crate::flow::{Incidents, Recorder};
use crate::lifecycle::Lifecycle;
use crate::store::Store;

/// Starts the jobs that every installation has.
pub fn start(
    lifecycle: &Lifecycle,
    store: &Store,
    braze: &Braze,
    fleet: &Fleet,
    recorder: &Recorder,
    incidents: &Incidents,
    clock: &Clock,
) {
    let draining = lifecycle.draining();
    let worker = braze.clone();
    lifecycle.spawn("braze-refresh", async move {
        draining.run_until_cancelled(worker.refresh_worker()).await;
    });
    lifecycle.spawn(
        "profiles",
        profiles::run(lifecycle.clone(), store.clone(), braze.clone()),
    );
    lifecycle.spawn(
        "health",
        probe::run(
            lifecycle.clone(),
            fleet.clone(),
            braze.clone(),
            recorder.clone(),
            incidents.clone(),
            clock.clone(),
        ),
    );
}

//! What runs beside the calls: probes, refreshes, and keeping the warm cache. Each is one supervised task.

pub mod canary;
pub mod checkpoint;
pub mod held;
pub mod interrupted;
mod probe;
pub mod profiles;
pub mod prune;
pub mod reap;
pub mod reverify;
pub mod ruleset;
pub mod systemd;

use crate::flow::Retries;
use crate::lifecycle::Lifecycle;
use crate::store::Store;

/// Starts the jobs that every installation has.
pub fn start(lifecycle: &Lifecycle, store: &Store, retries: &Retries) {
    let draining = lifecycle.draining();
    let braze = &retries.braze;
    let worker = braze.clone();
    lifecycle.spawn("braze-refresh", async move {
        draining.run_until_cancelled(worker.refresh_worker()).await;
    });
    lifecycle.spawn(
        "profiles",
        profiles::run(lifecycle.clone(), store.clone(), braze.clone()),
    );
    lifecycle.spawn("health", probe::run(lifecycle.clone(), retries.clone()));
}

//! What runs beside the calls: probes, refreshes, and keeping the warm cache. Each is one supervised task.

pub mod canary;
pub mod checkpoint;
pub mod complete;
pub mod held;
pub mod interrupted;
pub mod lists;
pub mod missed;
mod probe;
pub mod profiles;
pub mod prune;
pub mod reconcile;
pub mod reverify;
pub mod ruleset;
pub mod systemd;

use crate::flow::Retries;
use crate::lifecycle::Lifecycle;
use crate::store::Store;

/// Starts the jobs that every installation has.
pub fn start(lifecycle: &Lifecycle, store: &Store, retries: &Retries) {
    let braze = &retries.braze;
    let starts = lifecycle.clone();
    braze.send_in_tasks(Box::new(move |request| {
        starts.spawn_transient("lookup", request);
    }));
    lifecycle.spawn(
        "profiles",
        profiles::run(lifecycle.clone(), store.clone(), braze.clone()),
    );
    lifecycle.spawn("health", probe::run(lifecycle.clone(), retries.clone()));
}

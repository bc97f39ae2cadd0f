//! What runs beside the calls: probes, refreshes, and keeping the warm cache. Each is one supervised task.

mod alert;
pub mod canary;
pub mod checkpoint;
pub mod deliver;
pub mod held;
pub mod interrupted;
mod probe;
pub mod profiles;
pub mod prune;
pub mod reconcile;
pub mod reverify;
pub mod ruleset;
mod summary;
pub mod systemd;

use deliver::Delivery;

use crate::flow::Retries;
use crate::lifecycle::Lifecycle;

/// Starts the jobs that every installation has.
pub fn start(lifecycle: &Lifecycle, delivery: &Delivery, retries: &Retries) {
    let Delivery {
        store,
        incidents,
        clock,
        ..
    } = delivery;
    lifecycle.spawn(
        "alert",
        alert::run(lifecycle.clone(), store.clone(), retries.clone()),
    );
    lifecycle.spawn(
        "summary",
        summary::run(
            lifecycle.clone(),
            store.clone(),
            incidents.clone(),
            clock.clone(),
        ),
    );
    let draining = lifecycle.draining();
    let announcing = incidents.clone();
    lifecycle.spawn("announce", async move {
        announcing.announce_until(draining.cancelled()).await;
    });
    deliver::start(lifecycle, delivery);
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

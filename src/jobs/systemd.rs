//! What the service manager is told: ready, how it goes, still alive, reloading, stopping. Without a service manager nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::flow::Canary;
use crate::lifecycle::{Lifecycle, ProcessPhase};
use crate::store::Store;

/// How often the status is looked at, and the longest time between two signs of life.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How much more time a long start asks for, and how often it does.
const EXTENSION: Duration = Duration::from_secs(30);
const EXTEND_EVERY: Duration = Duration::from_secs(10);
/// A start that takes longer than this hangs; the service manager's own limit then ends it.
const LONGEST_START: Duration = Duration::from_hours(2);

/// Tells the service manager of this process until it is asked to stop.
pub fn start(lifecycle: &Lifecycle, canary: Canary, store: Store) {
    lifecycle.spawn("systemd", run(lifecycle.clone(), canary, store));
}

async fn run(lifecycle: Lifecycle, canary: Canary, store: Store) {
    let watchdog = sd_notify::watchdog_enabled();
    // Four signs of life in the time of the watchdog: one that is late does not count.
    let every = watchdog.map_or(LOOK_EVERY, |limit| (limit / 4).min(LOOK_EVERY));
    let mut phases = lifecycle.phases();
    let mut is_ready = false;
    let mut said = String::new();
    while !lifecycle.is_draining() {
        let status = status(&canary, &store).await;
        if !is_ready && *phases.borrow_and_update() == ProcessPhase::Ready {
            is_ready = true;
            notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
        } else if status != said {
            notify(&[NotifyState::Status(&status)]);
        }
        said = status;
        if watchdog.is_some() && is_ready {
            if canary.is_alive() {
                notify(&[NotifyState::Watchdog]);
            } else {
                tracing::error!(
                    event = "systemd.no_progress",
                    "no progress: the service manager gets no sign of life"
                );
            }
        }
        let draining = lifecycle.draining();
        tokio::select! {
            changed = phases.changed() => if changed.is_err() { break },
            () = draining.cancelled() => {}
            _ = lifecycle.pause(every) => {}
        }
    }
    notify(&[
        NotifyState::Stopping,
        NotifyState::Status("finishing the calls in hand"),
    ]);
}

async fn status(canary: &Canary, store: &Store) -> String {
    let faults: Vec<String> = canary
        .checks()
        .into_iter()
        .filter_map(|check| check.fault)
        .collect();
    if !faults.is_empty() {
        return format!(
            "failing: {}; {} records wait",
            faults.join("; "),
            store.health().backlog
        );
    }
    match store.count_active_calls().await {
        Ok(n) => format!("answering; {n} calls in progress"),
        Err(error) => format!("answering; calls cannot be counted: {error}"),
    }
}

/// Asks for more time to start, again and again, until the answer is dropped.
pub fn extend_start(lifecycle: &Lifecycle, why: &'static str) -> DropGuard {
    let over = CancellationToken::new();
    let done = over.clone();
    lifecycle.spawn_transient("systemd-start", async move {
        let asking = async {
            loop {
                notify(&[
                    NotifyState::ExtendTimeoutUsec(
                        u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX),
                    ),
                    NotifyState::Status(why),
                ]);
                let waited = tokio::time::timeout(EXTEND_EVERY, std::future::pending::<()>());
                drop(waited.await);
            }
        };
        let asking = tokio::time::timeout(LONGEST_START, asking);
        done.run_until_cancelled(asking).await;
    });
    over.drop_guard()
}

/// Says that the configuration is read again; [`reloaded`] has to follow.
pub fn reloading() {
    // Without the time of it, the message would be refused.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => {
            tracing::warn!(event = "systemd.unheard", error = %error, "the clock cannot be read");
        }
    }
}

/// Says that the configuration was read, taken or not.
pub fn reloaded() {
    notify(&[NotifyState::Ready]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(event = "systemd.unheard", error = %error, "the service manager cannot be told");
    }
}

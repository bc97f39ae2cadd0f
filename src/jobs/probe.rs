//! Active probes: every dialer is asked whether it is well, at its own pace, refused credentials are tried again when it is time, and Braze is asked
//! where no caller does it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::dialer::{Dialer, ProbeTurn};
use crate::flow::Retries;
use crate::lifecycle::Lifecycle;
use crate::routing::DialerId;

/// How often the job looks whose turn it is.
const TICK: Duration = Duration::from_millis(500);

/// Probes until the process is asked to stop.
pub(super) async fn run(lifecycle: Lifecycle, retries: Retries) {
    let mut probed: HashMap<DialerId, Instant> = HashMap::new();
    loop {
        let now = retries.clock.instant();
        for dialer in retries.fleet.dialers() {
            let turn = retries.fleet.probe_turn(dialer.id(), now);
            let is_due = match turn {
                // Who limits our requests is not asked how it is, either.
                ProbeTurn::AtItsPace => {
                    is_due(probed.get(dialer.id()), &dialer, now)
                        && !retries.fleet.may_not_be_asked(dialer.id(), now)
                }
                ProbeTurn::Try => true,
                ProbeTurn::Pause => false,
            };
            if !is_due {
                continue;
            }
            probed.insert(dialer.id().clone(), now);
            let retries = retries.clone();
            lifecycle.spawn_transient("probe", async move {
                if turn == ProbeTurn::Try {
                    retries.try_dialer(dialer, None).await;
                } else {
                    retries.probe_dialer(dialer).await;
                }
            });
        }
        if retries.braze.take_probe() {
            let retries = retries.clone();
            lifecycle.spawn_transient("probe", async move { retries.probe_braze().await });
        }
        retries.incidents.look_around(now);
        retries.record_braze(None).await;
        let is_open = u8::from(retries.braze.status().is_open);
        metrics::gauge!("switchboard_braze_breaker_open").set(f64::from(is_open));
        if !lifecycle.pause(TICK).await {
            return;
        }
    }
}

fn is_due(last: Option<&Instant>, dialer: &Dialer, now: Instant) -> bool {
    last.is_none_or(|last| now.saturating_duration_since(*last) >= dialer.probe_every())
}

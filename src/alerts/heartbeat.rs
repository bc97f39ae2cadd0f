//! The heartbeat: a request to a dead man's switch, again and again while calls can be decided and recorded. When it stays out, somebody else
//! raises the alarm.
//!
//! It is a GET: healthchecks.io takes HEAD, GET and POST (<https://healthchecks.io/docs/http_api/>), Uptime Kuma's push monitor of version 1
//! takes GET alone (<https://github.com/louislam/uptime-kuma/wiki/Internal-API>).

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::deliver::Channels;
use super::webhook::submit;
use crate::clock::Clock;
use crate::flow::Canary;
use crate::lifecycle::Lifecycle;

/// How often it is looked whether one is due.
const LOOK: Duration = Duration::from_secs(1);

/// Sends heartbeats until the process is asked to stop. All are counted; one that fails is logged where the one before did not.
pub(super) async fn run(
    lifecycle: Lifecycle,
    channels: Arc<ArcSwap<Channels>>,
    canary: Canary,
    clock: Clock,
) {
    let mut last = None;
    let mut fails = false;
    while lifecycle.pause(LOOK).await {
        let channels = channels.load_full();
        let Some((heartbeat, connections)) = &channels.heartbeat else {
            continue;
        };
        let now = clock.instant();
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= heartbeat.every);
        if !is_due || !canary.is_well() {
            continue;
        }
        last = Some(now);
        let request = |client: &reqwest::Client| client.get(heartbeat.url.expose());
        let asked = submit(connections, request, clock.now(), |_| false);
        let Some(result) = lifecycle.draining().run_until_cancelled(asked).await else {
            return;
        };
        let outcome = if result.is_ok() { "taken" } else { "failed" };
        metrics::counter!("switchboard_heartbeats_total", "outcome" => outcome).increment(1);
        if let Err(why) = &result
            && !fails
        {
            tracing::warn!(event = "heartbeat.failed", error = %why, "a heartbeat was not taken");
        }
        fails = result.is_err();
    }
}

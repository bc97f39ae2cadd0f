//! The recorder behind every counter and histogram, in Prometheus' terms.

use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::alerts::IncidentKind;
use crate::call::Disposition;
use crate::lifecycle::Lifecycle;
use crate::routing::DialerId;
use crate::store::Store;
use crate::telemetry::DroppedLines;

/// Upper bounds in seconds that fit a budget of 2 s: fine where a call should be, and at the shares of the budget.
const SECONDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 0.7, 1.0, 1.5, 2.0, 5.0, 15.0,
];

/// How often dropped log lines are counted.
const LOG_LINES_EVERY: Duration = Duration::from_secs(5);
/// How often a new backup is looked for.
const BACKUPS_EVERY: Duration = Duration::from_mins(1);

/// Installs the recorder for the whole process.
pub fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()
        .context("cannot install the metrics recorder")?;
    describe();
    begin();
    Ok(handle)
}

/// Shows what has not happened yet as zero, so that the first time is a rise, and says which build runs.
fn begin() {
    metrics::gauge!("switchboard_callers_waiting").set(0.0);
    metrics::gauge!("switchboard_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    for name in [
        "switchboard_budget_overruns_total",
        "switchboard_config_reload_failures_total",
        "switchboard_fallback_requests_total",
        "switchboard_log_lines_dropped_total",
        "switchboard_panics_total",
        "switchboard_records_late_total",
    ] {
        metrics::counter!(name).increment(0);
    }
    for &kind in IncidentKind::ALL {
        metrics::counter!("switchboard_incidents_total", "kind" => kind.as_str()).increment(0);
    }
}

/// Shows calls that have not ended yet in any way as zero.
pub(super) fn begin_calls(dialers: &[DialerId]) {
    let names = dialers.iter().map(DialerId::as_str).chain(["none"]);
    for dialer in names {
        for &disposition in Disposition::ALL {
            metrics::counter!("switchboard_calls_total", "disposition" => disposition.as_str(), "dialer" => dialer.to_owned())
                .increment(0);
        }
    }
}

/// Shows when the last backup was complete. It is made by another process, so it is looked for.
pub(super) fn watch_backups(lifecycle: &Lifecycle, store: &Store) {
    let (life, store) = (lifecycle.clone(), store.clone());
    lifecycle.spawn("backups", async move {
        loop {
            if let Some(backup) = store.last_backup().await {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "seconds since 1970 fit for millions of years"
                )]
                metrics::gauge!("switchboard_backup_last_success_timestamp_seconds")
                    .set(backup.created_at.as_second() as f64);
            }
            if !life.pause(BACKUPS_EVERY).await {
                return;
            }
        }
    });
}

/// Keeps the count of dropped log lines up to date.
pub fn watch_log_lines(lifecycle: &Lifecycle, dropped: DroppedLines) {
    let life = lifecycle.clone();
    lifecycle.spawn("log-lines", async move {
        while life.pause(LOG_LINES_EVERY).await {
            dropped.publish();
        }
    });
}

/// Says what a metric is, and in which unit: `kind "name" in Unit: "what";`.
macro_rules! describe {
    ($($kind:ident $name:literal $(in $unit:ident)?: $what:literal;)*) => {
        $(metrics::$kind!($name, $(metrics::Unit::$unit,)? $what);)*
    };
}

fn describe() {
    describe! {
        describe_histogram "switchboard_routing_seconds" in Seconds:
            "From the arrival of a call's webhook to its answer.";
        describe_histogram "switchboard_handoff_seconds" in Seconds:
            "One handoff attempt at a dialer, all its requests together.";
        describe_histogram "switchboard_lookup_seconds" in Seconds:
            "One look-up of a caller, from the cache or at Braze.";
        describe_histogram "switchboard_commit_seconds" in Seconds:
            "One commit of the database, with all that waited for it.";
        describe_counter "switchboard_calls_total":
            "Calls that have ended, by how they count and the dialer that was dialled last.";
        describe_histogram "switchboard_api_request_seconds" in Seconds:
            "Requests of the API, by route, method and status.";
        describe_gauge "switchboard_connections": "Open connections.";
        describe_counter "switchboard_accept_failures_total": "Connections that the system could not hand over.";
        describe_counter "switchboard_connections_refused_total": "Connections beyond a limit, by reason.";
        describe_counter "switchboard_connections_timed_out_total":
            "Connections that were too slow, by what was waited for.";
        describe_counter "switchboard_tls_handshakes_failed_total": "TLS handshakes that failed, by reason.";
        describe_counter "switchboard_tls_certificate_failures_total":
            "Certificates that could not be put into force, by reason.";
        describe_counter "switchboard_task_panics_total": "Panics in tasks; each is a defect.";
        describe_counter "switchboard_unknown_calls_total": "Webhooks of calls that the database does not know.";
        describe_gauge "switchboard_build_info": "1, with the version that runs.";
        describe_gauge "switchboard_incidents_open": "Open incidents, by kind.";
        describe_counter "switchboard_incidents_total": "Incidents that opened, by kind.";
        describe_counter "switchboard_notifications_total":
            "Attempts to send a message, by channel and what became of it.";
        describe_counter "switchboard_heartbeats_total": "Heartbeats that were sent, by what became of them.";
        describe_gauge "switchboard_outbox_messages": "Messages that wait, and those that will never arrive, by state.";
        describe_gauge "switchboard_calls_missing":
            "Calls of the day that was compared last which Twilio lists and the log has not.";
        describe_gauge "switchboard_disk_free_bytes" in Bytes: "What may still be written to the disk of the database.";
        describe_gauge "switchboard_backup_last_success_timestamp_seconds" in Seconds:
            "When the last backup was complete, in seconds since 1970; absent until there is one.";
        describe_gauge "switchboard_wal_bytes" in Bytes: "Size of the database's write-ahead log.";
        describe_gauge "switchboard_cache_entries": "Profiles in the cache.";
        describe_gauge "switchboard_braze_breaker_open": "1 while Braze is not asked, or only on trial.";
        describe_counter "switchboard_lookup_total": "Look-ups, by outcome.";
        describe_counter "switchboard_log_lines_dropped_total":
            "Log lines that nobody took in time, or that could not be written.";
        describe_counter "switchboard_config_reload_failures_total": "Configurations that were refused.";
        describe_counter "switchboard_handoff_total": "Handoff attempts by dialer and outcome.";
        describe_counter "switchboard_webhooks_rejected_total": "Webhooks that were not let in, by reason.";
        describe_counter "switchboard_webhooks_unusable_total":
            "Webhooks without what they need, by reason; a caller got the safe answer.";
        describe_counter "switchboard_webhooks_malformed_total":
            "Signed webhooks that do not fit together, by cause; the caller got the safe answer.";
        describe_counter "switchboard_rule_matches_total": "Calls by the rule that took them; the empty name is the default.";
        describe_counter "switchboard_dialer_skipped_total":
            "Dialers that a rule names and that were left out of a plan, by reason.";
        describe_gauge "switchboard_dialer_active": "Calls in progress that were put through to a dialer.";
        describe_counter "switchboard_webhooks_repeated_total": "Webhooks that came again and got the same answer.";
        describe_counter "switchboard_budget_overruns_total": "Calls whose answer left after the budget had ended.";
        describe_counter "switchboard_records_late_total":
            "Records that were not on disk when their caller was answered.";
        describe_counter "switchboard_fallback_requests_total":
            "Requests to the fallback URL: Twilio could not use our answer.";
        describe_counter "switchboard_calls_shed_total":
            "Calls that got the safe answer at once because there were more than the machine can take, by reason.";
        describe_counter "switchboard_auth_failures_total":
            "Requests of the API without a usable key, or with one that may not do it, by reason.";
        describe_gauge "switchboard_webhooks_in_hand":
            "Twilio's webhooks and calls of the JSON door that are being worked on.";
        describe_counter "switchboard_panics_total": "Panics in handlers; each is a defect.";
        describe_counter "switchboard_calls_reaped_total":
            "Calls whose end was never reported and that were closed, by what was found of them.";
        describe_gauge "switchboard_tls_certificate_expiry_timestamp_seconds" in Seconds:
            "When the certificate in use expires, in seconds since 1970.";
        describe_gauge "switchboard_active_calls": "Calls in progress.";
        describe_gauge "switchboard_records_unwritten":
            "Audit records that are not in the database, by where they are: spool, memory, or the log lines only.";
        describe_gauge "switchboard_routing_paused": "1 while no dialer takes calls and callers are held.";
        describe_gauge "switchboard_callers_waiting": "Callers on hold, waiting for a dialer.";
        describe_gauge "switchboard_dialer_breaker_open": "1 while the dialer's circuit breaker is open.";
    }
}

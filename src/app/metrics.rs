//! The recorder behind every counter and histogram, in Prometheus' terms.

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds in seconds that fit a budget of 2 s: fine where a call should be, and at the shares of the budget.
const SECONDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 0.7, 1.0, 1.5, 2.0, 5.0, 15.0,
];

/// Installs the recorder for the whole process.
pub fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()
        .context("cannot install the metrics recorder")?;
    describe();
    Ok(handle)
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_histogram!(
        "switchboard_routing_seconds",
        Unit::Seconds,
        "From the arrival of a call's webhook to its answer."
    );
    describe_histogram!(
        "switchboard_handoff_seconds",
        Unit::Seconds,
        "One handoff attempt at a dialer, all its requests together."
    );
    describe_counter!(
        "switchboard_handoff_total",
        "Handoff attempts by dialer and outcome."
    );
    describe_counter!(
        "switchboard_webhooks_rejected_total",
        "Webhooks that were not let in, by reason."
    );
    describe_counter!(
        "switchboard_webhooks_unusable_total",
        "Signed webhooks without what they need, by reason; the caller got the safe answer."
    );
    describe_counter!(
        "switchboard_webhooks_repeated_total",
        "Webhooks that came again and got the same answer."
    );
    describe_counter!(
        "switchboard_budget_overruns_total",
        "Calls whose answer left after the budget had ended."
    );
    describe_counter!(
        "switchboard_records_late_total",
        "Records that were not on disk when their caller was answered."
    );
    describe_counter!(
        "switchboard_fallback_requests_total",
        "Requests to the fallback URL: Twilio could not use our answer."
    );
    describe_counter!(
        "switchboard_calls_shed_total",
        "Calls that got the safe answer at once because there were more than the machine can take, by reason."
    );
    describe_counter!(
        "switchboard_auth_failures_total",
        "Requests of the API without a usable key, or with one that may not do it, by reason."
    );
    describe_gauge!(
        "switchboard_webhooks_in_hand",
        "Twilio's webhooks and calls of the JSON door that are being worked on."
    );
    describe_counter!(
        "switchboard_panics_total",
        "Panics in handlers; each is a defect."
    );
    describe_counter!(
        "switchboard_calls_reaped_total",
        "Calls whose end was never reported and that were closed, by what was found of them."
    );
    describe_gauge!(
        "switchboard_tls_certificate_expiry_timestamp_seconds",
        Unit::Seconds,
        "When the certificate in use expires, in seconds since 1970."
    );
    describe_counter!(
        "switchboard_tls_certificate_failures_total",
        "Attempts to replace the certificate that failed; the old one stays."
    );
    describe_counter!(
        "switchboard_config_reload_failures_total",
        "Configurations that were refused; the old one stays."
    );
    describe_gauge!("switchboard_active_calls", "Calls in progress.");
    describe_gauge!(
        "switchboard_records_unwritten",
        "Audit records that are not in the database, by where they are: spool, memory, or the log lines only."
    );
    describe_gauge!(
        "switchboard_routing_paused",
        "1 while no dialer takes calls and callers are held."
    );
    describe_gauge!(
        "switchboard_callers_waiting",
        "Callers on hold, waiting for a dialer."
    );
    describe_gauge!(
        "switchboard_dialer_breaker_open",
        "1 while the dialer's circuit breaker is open."
    );
}

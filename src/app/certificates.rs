//! Certificate files are read again when they change; a broken replacement leaves the old one in force.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::http::tls::Certificates;
use crate::lifecycle::Lifecycle;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(30);

/// Starts watching.
pub(super) fn start(lifecycle: &Lifecycle, certificates: Arc<Certificates>, clock: Clock) {
    let life = lifecycle.clone();
    lifecycle.spawn("certificates", async move {
        while life.pause(EVERY).await {
            match certificates.reload_if_changed(clock.now()) {
                Ok(true) => tracing::info!(event = "tls.reloaded", "another certificate is in force"),
                Ok(false) => {}
                Err(error) => tracing::error!(event = "tls.refused", error = %error, "the new certificate cannot be used; the old one stays"),
            }
        }
    });
}

//! The certificate is looked after: changed files are read again, one that is due is ordered. What fails leaves the old one in force.

use std::sync::Arc;

use anyhow::Context;

use crate::clock::Clock;
use crate::config::{Acme, Config};
use crate::http::tls::{AcmeSettings, Certificates};
use crate::lifecycle::Lifecycle;

/// The certificate of a configuration; `None` where it is served without TLS.
pub(super) fn of(config: &Config) -> anyhow::Result<Option<Certificates>> {
    let server = &config.server;
    if let Some(acme) = &server.acme {
        let certificates = Certificates::from_authority(settings(acme));
        return certificates.map(Some).context("cannot use [server.acme]");
    }
    let from_files = server
        .tls
        .as_ref()
        .map(|tls| Certificates::load(&tls.certificate, &tls.private_key));
    from_files.transpose().context("cannot use [server.tls]")
}

pub(super) fn settings(acme: &Acme) -> AcmeSettings {
    let Acme {
        domains,
        contact,
        directory,
        ca,
        cache,
    } = acme;
    AcmeSettings {
        domains: domains.clone(),
        contact: contact.clone(),
        directory: directory.clone(),
        ca: ca.clone(),
        cache: cache.clone(),
    }
}

/// Starts looking after it.
pub(super) fn start(lifecycle: &Lifecycle, certificates: Arc<Certificates>, clock: Clock) {
    let life = lifecycle.clone();
    let draining = lifecycle.draining();
    lifecycle.spawn("certificates", async move {
        loop {
            show_expiry(&certificates);
            let looked = certificates.look_after(clock.now());
            let Some(rest) = draining.run_until_cancelled(looked).await else {
                return;
            };
            show_expiry(&certificates);
            if !life.pause(rest).await {
                return;
            }
        }
    });
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 fit for millions of years"
)]
fn show_expiry(certificates: &Certificates) {
    if let Some(at) = certificates.expires_at() {
        metrics::gauge!("switchboard_tls_certificate_expiry_timestamp_seconds")
            .set(at.as_second() as f64);
    }
}

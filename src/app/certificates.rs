//! The certificate is looked after: changed files are read again, one that is due is ordered. What fails leaves the old one in force.

use std::sync::Arc;

use anyhow::Context;

use crate::alerts::Incidents;
use crate::clock::Clock;
use crate::config::{Config, Tls};
use crate::http::listener::tls::{CertificateError, CertificateState, Certificates};
use crate::lifecycle::Lifecycle;

/// The certificate of a configuration; `None` where it is served without TLS.
pub(super) fn of(config: &Config) -> anyhow::Result<Option<Certificates>> {
    let server = &config.server;
    if let Some(acme) = &server.acme {
        let certificates = Certificates::from_authority(acme.clone());
        return certificates.map(Some).context("cannot use [server.acme]");
    }
    let from_files = server.tls.as_ref().map(of_files);
    from_files.transpose().context("cannot use [server.tls]")
}

fn of_files(tls: &Tls) -> Result<Certificates, CertificateError> {
    Certificates::load(&tls.certificate, &tls.private_key)
}

/// The certificate that would be served from these files.
pub fn certificate_of_files(tls: &Tls) -> Result<CertificateState, CertificateError> {
    of_files(tls).map(|of_tls| of_tls.state())
}

/// Starts looking after it, where there is one.
pub(super) fn start(
    lifecycle: &Lifecycle,
    certificates: Option<Arc<Certificates>>,
    incidents: &Incidents,
    clock: &Clock,
) {
    let Some(certificates) = certificates else {
        return;
    };
    let (life, incidents, clock) = (lifecycle.clone(), incidents.clone(), clock.clone());
    let draining = lifecycle.draining();
    lifecycle.spawn("certificates", async move {
        loop {
            report(&certificates, &incidents);
            let looked = certificates.look_after(clock.now());
            let Some(rest) = draining.run_until_cancelled(looked).await else {
                return;
            };
            report(&certificates, &incidents);
            if !life.pause(rest).await {
                return;
            }
        }
    });
}

/// Shows how it stands: in the metrics, and to whoever opens incidents.
#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 fit for millions of years"
)]
pub(super) fn report(certificates: &Certificates, incidents: &Incidents) {
    let state = certificates.state();
    if let Some(at) = state.expires_at {
        metrics::gauge!("switchboard_tls_certificate_expiry_timestamp_seconds")
            .set(at.as_second() as f64);
    }
    incidents.certificate(
        state.expires_at,
        state.failure.map(|failure| failure.message),
    );
}

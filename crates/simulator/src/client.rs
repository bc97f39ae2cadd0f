//! The HTTP client of the simulated Twilio.

use std::time::Duration;

/// The answer to a webhook must be here in 15 s, whatever the overrides say.
pub(super) const HARD_LIMIT: Duration = Duration::from_secs(15);

/// How long Twilio tries to connect, where a URL does not say.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection is kept that is not used: shorter than any server keeps it, because a POST that meets its end is lost.
const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// A client for loopback HTTP: no proxy, no redirects, no certificates of the machine, any certificate is good. It gives up a connection that takes longer than this.
pub(super) fn connecting_within(limit: Duration) -> reqwest::Result<reqwest::Client> {
    // The builder wants a TLS provider even where no TLS is spoken. Ignoring the error is right: a provider is there.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        .tls_certs_only([])
        // Whoever listens on this machine may have made their certificate themselves.
        .tls_danger_accept_invalid_certs(true)
        .timeout(HARD_LIMIT)
        .connect_timeout(limit)
        .pool_idle_timeout(IDLE_LIMIT)
        .build()
}

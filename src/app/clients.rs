//! The clients of a configuration: Braze, Twilio's REST API, the dialers and the mail server, and how their connections are made.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use super::settings;
use crate::alerts::{Channels, Email, Mailer, WebhookSender};
use crate::braze::Braze;
use crate::clock::Clock;
use crate::config::Config;
use crate::dialer::Dialer;
use crate::oidc::OidcProvider;
use crate::outbound::{self, Connections, Make};
use crate::twilio::Rest;

/// A connection that takes longer than this will not be worth the wait (Dialfire, Zendesk: "connect 500 ms").
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// As [`CONNECT_TIMEOUT`], where nobody waits.
const REST_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections kept per host: as many as a burst needs.
const IDLE_CONNECTIONS: usize = 256;
/// Shorter than what servers and middleboxes commonly allow, so that a request seldom meets a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Of all connections to services: the system's certificates take 50 ms to read in a debug build.
static TLS: OnceLock<ClientConfig> = OnceLock::new();

/// How connections are made for what a caller waits for.
fn call_path() -> anyhow::Result<Make> {
    make(CONNECT_TIMEOUT)
}

/// How connections are made to Twilio's REST API and the like: nobody waits for them, and they may be an ocean away.
fn beside_the_call() -> anyhow::Result<Make> {
    make(REST_CONNECT_TIMEOUT)
}

fn connections(make: Make, clock: &Clock) -> anyhow::Result<Connections> {
    Connections::new(make, clock.clone()).context("cannot build the HTTP client")
}

/// The client that looks at the certificates of others.
pub fn examining_client() -> anyhow::Result<reqwest::Client> {
    let client = builder(REST_CONNECT_TIMEOUT).tls_info(true);
    client.build().context("cannot build the HTTP client")
}

/// Where people sign in; `None` where with keys only.
pub(super) fn oidc(config: &Config, clock: &Clock) -> anyhow::Result<Option<OidcProvider>> {
    let Some(settings) = &config.auth.oidc else {
        return Ok(None);
    };
    let make = match &settings.ca {
        None => beside_the_call()?,
        Some(path) => {
            let tls = trusting(path).with_context(|| format!("cannot use {}", path.display()))?;
            making(REST_CONNECT_TIMEOUT, tls)
        }
    };
    let connections = connections(make, clock)?;
    Ok(Some(OidcProvider::new(
        settings.clone(),
        connections,
        clock.clone(),
    )))
}

/// Trusts the authorities of a file and no others.
fn trusting(authorities: &Path) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let read = CertificateDer::pem_file_iter(authorities)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)?;
    roots.add_parsable_certificates(read);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(tls.with_root_certificates(roots).with_no_client_auth())
}

fn make(connect_timeout: Duration) -> anyhow::Result<Make> {
    let tls = if let Some(tls) = TLS.get() {
        tls
    } else {
        let tls = prepare_tls().context("cannot prepare TLS")?;
        TLS.get_or_init(|| tls)
    };
    Ok(making(connect_timeout, tls.clone()))
}

fn making(connect_timeout: Duration, tls: ClientConfig) -> Make {
    Arc::new(move || {
        outbound::pinging(builder(connect_timeout))
            .tls_backend_preconfigured(tls.clone())
            .build()
    })
}

fn prepare_tls() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)?
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

/// No redirects, no proxies from the environment.
fn builder(connect_timeout: Duration) -> reqwest::ClientBuilder {
    // A second installation is refused and changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .user_agent(concat!("switchboard/", env!("CARGO_PKG_VERSION")))
}

/// The Braze client of a configuration.
pub fn braze(config: &Config, clock: &Clock) -> anyhow::Result<Braze> {
    let connections = connections(call_path()?, clock)?;
    Braze::new(settings::braze(config), connections, clock.clone()).context("cannot use [braze]")
}

/// The client of Twilio's REST API; [`Rest::can_ask`] says whether the configuration lets it ask.
pub fn rest(config: &Config, clock: &Clock) -> anyhow::Result<Rest> {
    let connections = connections(beside_the_call()?, clock)?;
    Rest::new(settings::rest(config), connections, clock.clone()).context("cannot use [twilio]")
}

/// The dialers of a configuration, in the order of the file. By `reference_key`, callers are known to them, and by `secret` their credentials are
/// known again; both stay empty where they are tested and given no call.
pub fn dialers(
    config: &Config,
    clock: &Clock,
    reference_key: &[u8],
    secret: &[u8],
) -> anyhow::Result<Vec<Dialer>> {
    let make = call_path()?;
    let dialers = config.dialers.iter().map(|dialer| {
        let connections = connections(make.clone(), clock)?;
        Dialer::new(
            dialer.clone(),
            connections,
            clock.clone(),
            reference_key,
            secret,
        )
        .with_context(|| format!("cannot use [dialers.{}]", dialer.id))
    });
    dialers.collect()
}

pub(super) fn say_whether_calls_can_be_looked_up(rest: &Rest) {
    if let Err(reason) = rest.can_ask() {
        tracing::warn!(
            event = "reap.cannot_ask",
            reason = %reason,
            "calls whose end is not reported cannot be looked up; they are closed as unknown after four hours"
        );
    }
}

/// The client of the mail server.
pub fn mailer(email: &Email) -> anyhow::Result<Mailer> {
    // A second installation is refused and changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    let authorities = email
        .ca
        .as_ref()
        .map(|path| fs::read(path).with_context(|| format!("cannot read {}", path.display())))
        .transpose()?;
    Mailer::new(email, authorities.as_deref()).context("cannot use [alerts.email]")
}

/// The channels by which somebody is notified.
pub(super) fn channels(config: &Config, clock: &Clock) -> anyhow::Result<Channels> {
    let webhook = config.alerts.webhook.as_ref().map(|webhook| {
        let connections = connections(beside_the_call()?, clock)?;
        anyhow::Ok(WebhookSender::new(webhook.clone(), connections))
    });
    let beside = || connections(beside_the_call()?, clock);
    let named = config.alerts.channels.iter();
    let named = named.map(|channel| anyhow::Ok((channel.clone(), beside()?)));
    let heartbeat = config.alerts.heartbeat.clone();
    let heartbeat = heartbeat.map(|heartbeat| anyhow::Ok((heartbeat, beside()?)));
    Ok(Channels {
        mailer: config.alerts.email.as_ref().map(mailer).transpose()?,
        webhook: webhook.transpose()?,
        named: named.collect::<anyhow::Result<_>>()?,
        heartbeat: heartbeat.transpose()?,
        public_url: config.server.public_url.as_str().to_owned(),
    })
}

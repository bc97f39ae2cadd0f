//! From configuration sections to what each part wants to know. The parts do not know the configuration.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;

use crate::alerts::{AlertPolicy, Channels, Daily, Email, Mailer, Recipient, WebhookSender};
use crate::call::Ringing;
use crate::clock::Clock;
use crate::config::{CallerId, Config};
use crate::files;
use crate::flow::Policy;
use crate::http::Site;
use crate::http::keys::ApiKey;
use crate::jobs::reconcile::Silence;
use crate::outbound::{self, Connections, Make};
use crate::secret::Secret;
use crate::twilio::{
    Credentials, EdgeSettings, RestSettings, SharedKey, Verifier, VerifierSettings,
};
use crate::twiml::CallbackUrls;
use crate::twiml::answer::CallerIdPolicy;

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
pub(super) fn call_path() -> anyhow::Result<Make> {
    make(CONNECT_TIMEOUT)
}

/// How connections are made to Twilio's REST API and the like: nobody waits for them, and they may be an ocean away.
pub(super) fn beside_the_call() -> anyhow::Result<Make> {
    make(REST_CONNECT_TIMEOUT)
}

pub(super) fn connections(make: Make, clock: &Clock) -> anyhow::Result<Connections> {
    Connections::new(make, clock.clone()).context("cannot build the HTTP client")
}

/// The client that looks at the certificates of others.
pub(super) fn examining_client() -> anyhow::Result<reqwest::Client> {
    let client = builder(REST_CONNECT_TIMEOUT).tls_info(true);
    client.build().context("cannot build the HTTP client")
}

fn make(connect_timeout: Duration) -> anyhow::Result<Make> {
    let tls = if let Some(tls) = TLS.get() {
        tls
    } else {
        let tls = prepare_tls().context("cannot prepare TLS")?;
        TLS.get_or_init(|| tls)
    };
    Ok(Arc::new(move || {
        outbound::pinging(builder(connect_timeout))
            .tls_backend_preconfigured(tls.clone())
            .build()
    }))
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

pub(super) fn policy(config: &Config) -> Policy {
    let routing = &config.routing;
    let default = config.dialer(&config.ruleset.default_dialer);
    Policy {
        ruleset: config.ruleset.clone().into(),
        budget: routing.budget,
        last_resort: routing.last_resort_number.clone(),
        max_hold: routing.max_hold,
        hold_message: routing.hold_message.clone(),
        goodbye_message: routing.goodbye_message.clone(),
        language: routing.language.clone(),
        caller_id: match &config.twilio.caller_id {
            CallerId::Caller => CallerIdPolicy::Caller {
                ours: config.twilio.number.clone(),
            },
            CallerId::Number(number) => CallerIdPolicy::Number(number.clone()),
        },
        ringing: Ringing {
            each: config.twilio.ring_timeout,
            total: config.twilio.ring_total,
            last_resort: routing.last_resort_number.is_some(),
        },
        urls: CallbackUrls::new(config.server.public_url.as_str()),
        default_connect: default.map(|dialer| dialer.connect.clone()),
    }
}

/// For how long calls may be silent.
pub(super) fn silence(config: &Config) -> Silence {
    Silence {
        carrier: config.twilio.reconcile_after,
        api: config.routing.api_calls_end_after,
    }
}

pub(super) fn edge(config: &Config) -> anyhow::Result<EdgeSettings> {
    let twilio = &config.twilio;
    let bytes = |secret: &Secret| secret.expose().as_bytes().into();
    let shared_keys = twilio
        .shared_keys
        .iter()
        .map(|(id, secret)| SharedKey {
            id: id.clone(),
            secret: bytes(secret),
        })
        .collect();
    let verifier = Verifier::new(VerifierSettings {
        public_url: config.server.public_url.as_str().to_owned(),
        auth_tokens: twilio.auth_tokens.iter().map(bytes).collect(),
        shared_keys,
    })
    .context("cannot verify signatures with [twilio]")?;
    Ok(EdgeSettings {
        verifier,
        verify_signature: twilio.verify_signature,
        allowed_networks: twilio.allowed_networks.clone(),
        accounts: std::iter::once(&twilio.account_sid)
            .chain(&twilio.subaccounts)
            .cloned()
            .collect(),
    })
}

pub(super) fn site(config: &Config) -> Site {
    let server = &config.server;
    Site {
        origin: server.public_url.origin(),
        is_secure: server.public_url.is_https() || server.speaks_tls(),
        base: server.public_url.path_prefix().to_owned(),
    }
}

pub(super) fn keys(config: &Config) -> Vec<ApiKey> {
    let keys = config.auth.keys.iter();
    keys.map(|key| ApiKey {
        name: key.name.as_str().into(),
        role: key.role,
        hash: key.hash,
    })
    .collect()
}

/// The API key where there is one, else the account with each of its tokens.
pub(super) fn rest(config: &Config) -> RestSettings {
    let twilio = &config.twilio;
    let key = twilio
        .api_key_sid
        .as_ref()
        .zip(twilio.api_key_secret.as_ref());
    let credentials = if let Some((sid, secret)) = key {
        vec![Credentials::new(sid, secret.expose())]
    } else {
        let tokens = twilio.auth_tokens.iter();
        tokens
            .map(|token| Credentials::new(&twilio.account_sid, token.expose()))
            .collect()
    };
    RestSettings {
        base_url: twilio.api_base.clone(),
        account_sid: twilio.account_sid.clone(),
        credentials,
    }
}

/// When incidents open, and who is notified.
pub(super) fn alert_policy(config: &Config) -> AlertPolicy {
    let alerts = &config.alerts;
    let emails = alerts.email.iter().flat_map(|email| &email.to);
    let webhook = alerts.webhook.iter().map(|_| Recipient::Webhook);
    AlertPolicy {
        rules: alerts.rules.clone(),
        recipients: emails
            .map(|address| Recipient::Email(address.clone()))
            .chain(webhook)
            .collect(),
        daily: alerts.daily_summary.map(|at| Daily {
            at,
            zone: alerts.time_zone.clone(),
        }),
    }
}

/// The channels by which somebody is notified.
pub(super) fn channels(config: &Config, clock: &Clock) -> anyhow::Result<Channels> {
    let webhook = config.alerts.webhook.as_ref().map(|webhook| {
        anyhow::Ok(WebhookSender::new(
            webhook.clone(),
            connections(beside_the_call()?, clock)?,
        ))
    });
    Ok(Channels {
        mailer: config.alerts.email.as_ref().map(mailer).transpose()?,
        webhook: webhook.transpose()?,
        public_url: config.server.public_url.as_str().to_owned(),
    })
}

pub(super) fn mailer(email: &Email) -> anyhow::Result<Mailer> {
    // A second installation is refused and changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    let authorities = email
        .ca
        .as_ref()
        .map(|path| fs::read(path).with_context(|| format!("cannot read {}", path.display())))
        .transpose()?;
    Mailer::new(email, authorities.as_deref()).context("cannot use [alerts.email]")
}

pub(super) fn push_secret(config: &Config) -> Option<String> {
    config
        .braze
        .webhook_secret
        .as_ref()
        .map(|secret| secret.expose().to_owned())
}

/// The secret that the file holds; a new one is drawn where there is no file, readable by its owner only.
pub(super) fn drawn_once(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).context("the system gives no random bytes")?;
    let secret = hex::encode(random);
    let written = files::create(path, files::PRIVATE)
        .and_then(|mut file| writeln!(file, "{secret}").and_then(|()| file.sync_all()));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(secret)
}

//! From configuration sections to what each part wants to know. The parts do not know the configuration.

use anyhow::Context;

use crate::alerts::{AlertPolicy, Daily, Recipient};
use crate::braze::BrazeSettings;
use crate::call::Ringing;
use crate::config::{CallerId, Config, PublicUrl};
use crate::flow::Policy;
use crate::http::Site;
use crate::jobs::reconcile::Silence;
use crate::secret::Secret;
use crate::twilio::{
    Credentials, EdgeSettings, RestSettings, SharedKey, Verifier, VerifierSettings,
};
use crate::twiml::CallbackUrls;
use crate::twiml::answer::CallerIdPolicy;

pub(super) fn policy(config: &Config) -> Policy {
    let routing = &config.routing;
    let default = config.dialer(&config.ruleset.default_dialer);
    Policy {
        ruleset: config.ruleset.clone().into(),
        draft: None,
        rule_tests: config.rule_tests.clone(),
        lint: config.lint.clone(),
        budget: routing.budget,
        last_resort: routing.last_resort_number.clone(),
        max_hold: routing.max_hold,
        hold_message: routing.hold_message.clone(),
        goodbye_message: routing.goodbye_message.clone(),
        language: routing.language.clone(),
        closed_message: routing.closed_message.clone(),
        closed_number: routing.closed_number.clone(),
        missed_to: routing.missed_to.clone(),
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
        urls: CallbackUrls::new(config.server.public_url.as_str()).on(
            config.server.node.as_deref(),
            config.server.also_public.iter().map(PublicUrl::as_str),
        ),
        default_connect: default.map(|dialer| dialer.connect.clone()),
    }
}

/// What Braze is asked: also for the attributes that only the draft asks for.
pub(super) fn braze(config: &Config) -> BrazeSettings {
    let mut settings = config.braze.clone();
    let of_draft = config.draft.iter().flat_map(|draft| &draft.attributes);
    for attribute in of_draft {
        if !settings.attributes.contains(attribute) {
            settings.attributes.push(attribute.clone());
        }
    }
    settings
}

/// The URLs of the appliance under each of its public names.
pub fn public_names(config: &Config) -> Vec<CallbackUrls> {
    let names = std::iter::once(&config.server.public_url).chain(&config.server.also_public);
    names.map(|name| CallbackUrls::new(name.as_str())).collect()
}

/// For how long calls may be silent.
pub(super) fn silence(config: &Config) -> Silence {
    Silence {
        carrier: config.twilio.reconcile_after,
        api: config.routing.api_calls_end_after,
    }
}

/// How webhooks are let in.
pub fn edge(config: &Config) -> anyhow::Result<EdgeSettings> {
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
    .and_then(|verifier| {
        verifier.also_public(config.server.also_public.iter().map(PublicUrl::as_str))
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
        monitor_url: twilio.monitor_base.clone(),
        account_sid: twilio.account_sid.clone(),
        subaccounts: twilio.subaccounts.clone(),
        credentials,
    }
}

/// When incidents open, and who is notified.
pub(super) fn alert_policy(config: &Config) -> AlertPolicy {
    let alerts = &config.alerts;
    let emails = alerts.email.iter().flat_map(|email| &email.to);
    let webhook = alerts.webhook.iter().map(|_| Recipient::Webhook);
    let named = alerts.channels.iter();
    let named = named.map(|channel| Recipient::Named(channel.kind, channel.name.clone()));
    AlertPolicy {
        rules: alerts.rules.clone(),
        recipients: emails
            .map(|address| Recipient::Email(address.clone()))
            .chain(webhook)
            .chain(named)
            .collect(),
        silence_zone: alerts
            .silent_numbers
            .then(|| config.routing.time_zone.clone()),
        daily: alerts.daily_summary.map(|at| Daily {
            at,
            zone: alerts.time_zone.clone(),
        }),
    }
}

pub(super) fn push_secret(config: &Config) -> Option<String> {
    let secret = config.braze.webhook_secret.as_ref();
    secret.map(|secret| secret.expose().to_owned())
}

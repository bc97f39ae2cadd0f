//! A copy of a configuration in which a stand-in takes the place of everything outside. What decides is kept: rules, tiers, dialers, budget, hours,
//! lists, the last resort.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::ensure;
use switchboard_simulator::any_dialer::{AnyDialer, Serving};
use switchboard_simulator::drill::Outside;
use switchboard_simulator::made_up;

use crate::alerts::{Email, Smtp, SmtpSecurity};
use crate::config::{self, Auth, Config, ShownValue, Storage, Twilio};
use crate::dialer::SettingValue;
use crate::secret::Secret;
use crate::twiml::Connect;

/// Where an address may stand that is not this machine's: nothing is asked there.
const NEVER_ASKED: [&str; 4] = [
    "server.public_url",
    "server.also_public",
    "server.cors_origins",
    "routing.",
];

/// Binds a stand-in for each service; the future serves them until it is dropped.
pub(super) fn bind(config: &Config) -> io::Result<(Outside, Serving)> {
    let missed_to = config.routing.missed_to.as_ref();
    let tasks = missed_to.and_then(|to| to.task.clone());
    let dialers = config.dialers.iter().map(|dialer| {
        let entries = dialer.api.entries();
        let setting = |key: &str| {
            let found = entries.iter().find(|(name, _)| name == key);
            match found.map(|(_, value)| value) {
                Some(SettingValue::Plain(text)) => text.clone(),
                _ => String::new(),
            }
        };
        let tasks = tasks.iter().cloned().collect();
        let bound = AnyDialer::bind(dialer.api.kind(), setting, made_up::AUTH_TOKEN, tasks);
        bound.map(|(stand_in, serve)| (stand_in, serve, line(&dialer.connect)))
    });
    Outside::bind(dialers.collect::<io::Result<_>>()?)
}

/// What Twilio dials.
pub(super) fn line(connect: &Connect) -> String {
    match connect {
        Connect::Number(number) => number.as_str().to_owned(),
        Connect::Sip(address) => address.clone(),
    }
}

/// The configuration with its state in `folder`. Fails where something in it would still be asked that is not on this machine.
pub(super) fn copy(config: &Config, outside: &Outside, folder: &Path) -> anyhow::Result<Config> {
    let secret = Secret::new(made_up::AUTH_TOKEN);
    let mut copy = config.clone();
    copy.server.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    copy.server.trusted_proxies.clear();
    (copy.server.tls, copy.server.acme) = (None, None);
    copy.storage = Storage {
        path: folder.join("switchboard.db"),
        spool: None,
        spool_mib: 4,
        ballast_mib: 0,
        secret: None,
        secret_file: None,
        signing_key: None,
        ..copy.storage
    };
    copy.twilio = Twilio {
        auth_tokens: vec![secret.clone()],
        verify_signature: true,
        shared_keys: Vec::new(),
        allowed_networks: Vec::new(),
        api_base: outside.world.twilio.url(),
        api_key_sid: None,
        api_key_secret: None,
        ..copy.twilio
    };
    copy.braze.base_url = outside.world.braze.url();
    copy.braze.api_key = Secret::new(made_up::BRAZE_KEY);
    copy.braze.webhook_secret = None;
    for (dialer, (stand_in, _)) in copy.dialers.iter_mut().zip(&outside.dialers) {
        dialer.api = dialer.api.at(&stand_in.url(), &secret);
    }
    (copy.routing.file, copy.routing.draft, copy.draft) = (None, None, None);
    copy.auth = Auth::default();
    // Whoever is told, and by whatever: here it is a mail.
    let alerts = &mut copy.alerts;
    let channels = std::mem::take(&mut alerts.channels);
    let is_told = alerts.email.is_some() || alerts.webhook.is_some() || !channels.is_empty();
    let address = outside.world.smtp.address();
    alerts.email = is_told.then(|| Email {
        to: vec!["ops@example.com".to_owned()],
        from: "drill@example.com".to_owned(),
        smtp: Smtp {
            security: SmtpSecurity::Loopback,
            host: address.ip().to_string(),
            port: address.port(),
        },
        username: None,
        password: None,
        ca: None,
    });
    (alerts.webhook, alerts.heartbeat, alerts.daily_summary) = (None, None, None);
    refuse_what_leaves(&copy)?;
    Ok(copy)
}

/// Looks through every key that there is, whatever will be added to the configuration.
fn refuse_what_leaves(copy: &Config) -> anyhow::Result<()> {
    for config::Shown { key, value } in config::show(copy) {
        let text = match &value {
            ShownValue::Plain(text) => text,
            ShownValue::Secret(secret) => secret.expose(),
        };
        let (_, host) = text.split_once("://").unwrap_or(("", "127.0.0.1:"));
        let is_asked = !NEVER_ASKED.iter().any(|never| key.starts_with(never));
        ensure!(
            !is_asked || key.contains(".body.") || host.starts_with("127.0.0.1:"),
            "{key} would be asked, and is not on this machine"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_of_the_example_but_the_public_url_leaves_this_machine() {
        let text = include_str!("../../../config.example.toml");
        let context = config::Context::in_directory("/nowhere").without_secrets();
        let config = config::parse(text, &context).unwrap().config;
        let (outside, _serve) = bind(&config).unwrap();
        let mut copy = copy(&config, &outside, Path::new("/tmp/drill")).unwrap();
        assert_eq!(copy.ruleset, config.ruleset);
        copy.braze.base_url = "https://rest.fra-01.braze.eu".to_owned();
        let error = refuse_what_leaves(&copy).unwrap_err();
        assert!(error.to_string().starts_with("braze.base_url"), "{error}");
    }
}

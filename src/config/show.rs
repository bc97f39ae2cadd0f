//! The effective configuration as a list of keys and values, defaults included: for people to read and for a record of what changed.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::{
    Acme, AlertWebhook, Alerts, Auth, Braze, CallerId, Config, Dialer, DialerKind, Dialfire, Email,
    Format, HeaderValue, HttpDialer, Key, Logging, Role, Routing, Secret, Server, SharedKey, Smtp,
    SmtpSecurity, Storage, Tls, Twilio, ZendeskTalk,
};
use crate::phone::E164;
use crate::routing::Ruleset;
use crate::twiml::Connect;

/// One key of the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The dotted key, like `routing.budget` or `dialers.dialfire.token`.
    pub key: String,
    pub value: ShownValue,
}

/// A value, shown as far as it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShownValue {
    /// As text, in the way the file writes it.
    Plain(String),
    /// Not to be shown, recorded or logged.
    Secret(Secret),
}

/// Every key that has a value, in the order of the sections.
pub fn show(config: &Config) -> Vec<Shown> {
    let Config {
        server,
        storage,
        twilio,
        braze,
        routing,
        dialers,
        alerts,
        auth,
        logging,
        ruleset,
        origins: _,
    } = config;
    let mut list = List(Vec::new());
    list.server(server);
    list.storage(storage);
    list.twilio(twilio);
    list.braze(braze);
    list.routing(routing);
    list.ruleset(ruleset);
    for dialer in dialers {
        list.dialer(dialer);
    }
    list.alerts(alerts);
    list.auth(auth);
    list.logging(logging);
    list.0
}

struct List(Vec<Shown>);

impl List {
    fn plain(&mut self, key: impl Into<String>, value: impl Display) {
        self.0.push(Shown {
            key: key.into(),
            value: ShownValue::Plain(value.to_string()),
        });
    }

    fn maybe(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.plain(key, value);
        }
    }

    fn path(&mut self, key: &str, path: &Path) {
        self.plain(key, path.display());
    }

    fn time(&mut self, key: impl Into<String>, value: Duration) {
        self.plain(key, duration(value));
    }

    fn all<T: Display>(&mut self, key: &str, values: impl IntoIterator<Item = T>) {
        let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
        self.plain(key, values.join(", "));
    }

    fn secret(&mut self, key: impl Into<String>, secret: &Secret) {
        self.0.push(Shown {
            key: key.into(),
            value: ShownValue::Secret(secret.clone()),
        });
    }

    fn maybe_secret(&mut self, key: &str, secret: Option<&Secret>) {
        if let Some(secret) = secret {
            self.secret(key, secret);
        }
    }

    fn server(&mut self, server: &Server) {
        let Server {
            listen,
            public_url,
            trusted_proxies,
            tls,
            acme,
            insecure_http,
            docs,
            cors_origins,
            region,
            calls_in_hand,
        } = server;
        self.plain("server.listen", SocketAddr::clone(listen));
        self.plain("server.public_url", public_url.as_str());
        self.all("server.trusted_proxies", trusted_proxies);
        if let Some(Tls {
            certificate,
            private_key,
        }) = tls
        {
            self.path("server.tls.certificate", certificate);
            self.path("server.tls.private_key", private_key);
        }
        if let Some(acme) = acme {
            self.acme(acme);
        }
        self.plain("server.insecure_http", insecure_http);
        self.plain("server.docs", docs);
        self.all("server.cors_origins", cors_origins);
        self.maybe("server.region", region.as_ref());
        self.maybe("server.calls_in_hand", *calls_in_hand);
    }

    fn acme(&mut self, acme: &Acme) {
        let Acme {
            domains,
            contact,
            directory,
            ca,
            cache,
        } = acme;
        self.all("server.acme.domains", domains);
        self.plain("server.acme.contact", contact);
        self.plain("server.acme.directory", directory);
        if let Some(ca) = ca {
            self.path("server.acme.ca", ca);
        }
        self.path("server.acme.cache", cache);
    }

    fn storage(&mut self, storage: &Storage) {
        let Storage {
            path,
            retention,
            spool,
            spool_mib,
            ballast_mib,
            secret,
            signing_key,
        } = storage;
        self.path("storage.path", path);
        self.time("storage.retention", *retention);
        if let Some(spool) = spool {
            self.path("storage.spool", spool);
        }
        self.plain("storage.spool_mib", spool_mib);
        self.plain("storage.ballast_mib", ballast_mib);
        self.maybe_secret("storage.secret", secret.as_ref());
        self.maybe_secret("storage.signing_key", signing_key.as_ref());
    }

    fn twilio(&mut self, twilio: &Twilio) {
        let Twilio {
            account_sid,
            subaccounts,
            auth_tokens,
            verify_signature,
            shared_keys,
            allowed_networks,
            caller_id,
            number,
            ring_timeout,
            ring_total,
            reconcile_after,
            api_base,
            api_key_sid,
            api_key_secret,
        } = twilio;
        self.plain("twilio.account_sid", account_sid);
        self.all("twilio.subaccounts", subaccounts);
        for (idx, token) in auth_tokens.iter().enumerate() {
            self.secret(format!("twilio.auth_token[{idx}]"), token);
        }
        self.plain("twilio.verify_signature", verify_signature);
        for SharedKey { id, secret } in shared_keys {
            self.secret(format!("twilio.shared_keys.{id}"), secret);
        }
        self.all("twilio.allowed_networks", allowed_networks);
        match caller_id {
            CallerId::Caller => self.plain("twilio.caller_id", "caller"),
            CallerId::Number(number) => self.plain("twilio.caller_id", number.as_str()),
        }
        self.maybe("twilio.number", number.as_ref().map(E164::as_str));
        self.time("twilio.ring_timeout", *ring_timeout);
        self.time("twilio.ring_total", *ring_total);
        self.time("twilio.reconcile_after", *reconcile_after);
        self.plain("twilio.api_base", api_base);
        self.maybe("twilio.api_key_sid", api_key_sid.as_ref());
        self.maybe_secret("twilio.api_key_secret", api_key_secret.as_ref());
    }

    fn braze(&mut self, braze: &Braze) {
        let Braze {
            base_url,
            api_key,
            timeout,
            cache_ttl,
            stale_for,
            negative_ttl,
            cache_capacity,
            requests_per_minute,
            open_for,
            score_attribute,
            tier_attribute,
            webhook_secret,
        } = braze;
        self.plain("braze.base_url", base_url);
        self.secret("braze.api_key", api_key);
        self.time("braze.timeout", *timeout);
        self.time("braze.cache_ttl", *cache_ttl);
        self.time("braze.stale_for", *stale_for);
        self.time("braze.negative_ttl", *negative_ttl);
        self.plain("braze.cache_capacity", cache_capacity);
        self.plain("braze.requests_per_minute", requests_per_minute);
        self.time("braze.open_for", *open_for);
        self.plain("braze.score_attribute", score_attribute);
        self.maybe("braze.tier_attribute", tier_attribute.as_ref());
        self.maybe_secret("braze.webhook_secret", webhook_secret.as_ref());
    }

    fn routing(&mut self, routing: &Routing) {
        let Routing {
            budget,
            last_resort_number,
            api_calls_end_after,
            max_hold,
            hold_message,
            goodbye_message,
            language,
        } = routing;
        self.time("routing.budget", *budget);
        self.maybe(
            "routing.last_resort_number",
            last_resort_number.as_ref().map(E164::as_str),
        );
        self.time("routing.api_calls_end_after", *api_calls_end_after);
        self.time("routing.max_hold", *max_hold);
        self.plain("routing.hold_message", hold_message);
        self.plain("routing.goodbye_message", goodbye_message);
        self.plain("routing.language", language);
    }

    fn ruleset(&mut self, ruleset: &Ruleset) {
        let Ruleset {
            tiers,
            rules,
            default_dialer,
            dialers,
        } = ruleset;
        self.plain("routing.default_dialer", default_dialer);
        for tier in tiers {
            let key = format!("routing.tiers.{}.min_score", tier.name);
            self.plain(key, tier.min_score.value());
        }
        for (idx, rule) in rules.iter().enumerate() {
            let at = |name: &str| format!("routing.rules[{idx}].{name}");
            self.plain(at("name"), &rule.name);
            self.all(&at("tier"), &rule.tiers);
            self.all(&at("dialers"), &rule.dialers);
        }
        self.all("dialers", dialers);
    }

    fn dialer(&mut self, dialer: &Dialer) {
        let Dialer {
            name,
            connect,
            timeout,
            probe_every,
            open_for,
            kind,
        } = dialer;
        let at = |key: &str| format!("dialers.{name}.{key}");
        match connect {
            Connect::Number(number) => self.plain(at("connect"), number.as_str()),
            Connect::Sip(address) => self.plain(at("connect"), address),
        }
        self.time(at("timeout"), *timeout);
        self.time(at("probe_every"), *probe_every);
        self.time(at("open_for"), *open_for);
        match kind {
            DialerKind::Dialfire(dialfire) => {
                let Dialfire {
                    base_url,
                    campaign,
                    task,
                    token,
                    tenant,
                    tenant_token,
                } = dialfire;
                self.plain(at("kind"), "dialfire");
                self.plain(at("base_url"), base_url);
                self.plain(at("campaign"), campaign);
                self.plain(at("task"), task);
                self.secret(at("token"), token);
                self.maybe(&at("tenant"), tenant.as_ref());
                self.maybe_secret(&at("tenant_token"), tenant_token.as_ref());
            }
            DialerKind::ZendeskTalk(zendesk) => {
                let ZendeskTalk {
                    base_url,
                    email,
                    token,
                    min_agents,
                    max_waiting,
                } = zendesk;
                self.plain(at("kind"), "zendesk_talk");
                self.plain(at("base_url"), base_url);
                self.plain(at("email"), email);
                self.secret(at("token"), token);
                self.plain(at("min_agents"), min_agents);
                self.plain(at("max_waiting"), max_waiting);
            }
            DialerKind::Http(http) => {
                let HttpDialer {
                    url,
                    health_url,
                    headers,
                    body,
                } = http;
                self.plain(at("kind"), "http");
                // Where a key stands in the address, it is in the query.
                self.url(&at("url"), url);
                if let Some(url) = health_url {
                    self.url(&at("health_url"), url);
                }
                for (header, value) in headers {
                    let key = at(&format!("headers.{header}"));
                    match value {
                        HeaderValue::Plain(text) => self.secret(key, &Secret::new(text)),
                        HeaderValue::Secret(secret) => self.secret(key, secret),
                    }
                }
                for (field, template) in body {
                    self.plain(at(&format!("body.{field}")), template);
                }
            }
        }
    }

    fn url(&mut self, key: &str, url: &str) {
        match url.split_once('?') {
            None => self.plain(key, url),
            Some((address, query)) => {
                self.plain(key, address);
                self.secret(format!("{key}.query"), &Secret::new(query));
            }
        }
    }

    fn alerts(&mut self, alerts: &Alerts) {
        let Alerts {
            failure_rate_percent,
            window,
            min_calls,
            repeat_every,
            braze_failure_percent,
            braze_min_failures,
            dialer_failure_percent,
            min_requests,
            daily_summary,
            time_zone,
            email,
            webhook,
        } = alerts;
        self.plain("alerts.failure_rate_percent", failure_rate_percent);
        self.time("alerts.window", *window);
        self.plain("alerts.min_calls", min_calls);
        self.time("alerts.repeat_every", *repeat_every);
        self.plain("alerts.braze_failure_percent", braze_failure_percent);
        self.plain("alerts.braze_min_failures", braze_min_failures);
        self.plain("alerts.dialer_failure_percent", dialer_failure_percent);
        self.plain("alerts.min_requests", min_requests);
        self.maybe(
            "alerts.daily_summary",
            daily_summary.map(|at| at.strftime("%H:%M")),
        );
        self.plain("alerts.time_zone", time_zone.iana_name().unwrap_or("UTC"));
        if let Some(Email {
            to,
            from,
            smtp,
            username,
            password,
            ca,
        }) = email
        {
            self.all("alerts.email.to", to);
            self.plain("alerts.email.from", from);
            self.plain("alerts.email.smtp", server_of(smtp));
            self.maybe("alerts.email.username", username.as_ref());
            self.maybe_secret("alerts.email.password", password.as_ref());
            self.maybe("alerts.email.ca", ca.as_ref().map(|ca| ca.display()));
        }
        if let Some(AlertWebhook { url, secret }) = webhook {
            // Chat services put their key into the path.
            self.secret("alerts.webhook.url", &Secret::new(url));
            self.secret("alerts.webhook.secret", secret);
        }
    }

    fn auth(&mut self, auth: &Auth) {
        let Auth { keys } = auth;
        for Key { name, role, hash } in keys {
            let role = match role {
                Role::Viewer => "viewer",
                Role::Admin => "admin",
            };
            self.plain(format!("auth.keys.{name}.role"), role);
            self.secret(format!("auth.keys.{name}.hash"), &Secret::new(hash));
        }
    }

    fn logging(&mut self, logging: &Logging) {
        let Logging {
            format,
            level,
            directory,
        } = logging;
        let format = match format {
            Format::Json => "json",
            Format::Text => "text",
        };
        self.plain("logging.format", format);
        self.plain("logging.level", level);
        if let Some(directory) = directory {
            self.path("logging.directory", directory);
        }
    }
}

fn server_of(smtp: &Smtp) -> String {
    let Smtp {
        security,
        host,
        port,
    } = smtp;
    let scheme = match security {
        SmtpSecurity::Tls => "smtps",
        SmtpSecurity::StartTls | SmtpSecurity::Loopback => "smtp",
    };
    format!("{scheme}://{host}:{port}")
}

/// As the file writes it, in the largest unit that is exact.
fn duration(value: Duration) -> String {
    let ms = value.as_millis();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ] {
        if ms > 0 && ms.is_multiple_of(size) {
            return format!("{}{unit}", ms / size);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::super::{Context, parse, parse_duration};
    use super::*;

    const EXAMPLE: &str = include_str!("../../config.example.toml");

    #[test]
    fn durations_read_as_in_the_file() {
        for text in ["1500ms", "2s", "5m", "1h", "90d", "36h"] {
            let parsed = parse_duration(text).unwrap();
            assert_eq!(duration(parsed), text);
        }
    }

    #[test]
    fn the_example_is_shown_without_a_secret_and_with_its_defaults() {
        let context = Context::in_directory("/etc/switchboard").without_secrets();
        let shown = show(&parse(EXAMPLE, &context).unwrap().config);
        let value = |key: &str| {
            let found = shown.iter().find(|shown| shown.key == key);
            found.map(|shown| shown.value.clone())
        };
        let plain = |text: &str| Some(ShownValue::Plain(text.to_owned()));
        assert_eq!(value("routing.budget"), plain("2s"));
        assert_eq!(value("server.docs"), plain("true"));
        assert!(matches!(
            value("braze.api_key"),
            Some(ShownValue::Secret(_))
        ));
        let keys: std::collections::HashSet<&str> =
            shown.iter().map(|shown| shown.key.as_str()).collect();
        assert_eq!(keys.len(), shown.len(), "every key stands once");
    }
}

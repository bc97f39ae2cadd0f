//! The effective configuration as a list of keys and values, defaults included: for people to read and for a record of what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde_json::Value;

use super::reader::join;
use super::{
    Alerts, Auth, CallerId, Config, LogFormat, Logging, PublicUrl, Routing, Server, Storage, Tls,
    Twilio, duration,
};
use crate::alerts::{
    AlertRules, Channel, Email, HeartbeatSettings, PostSettings, Smtp, WebhookSettings,
};
use crate::braze::BrazeSettings as Braze;
use crate::dialer::{Api, DialerSettings as Dialer, SettingValue};
use crate::http::keys::{ApiKey, Role};
use crate::http::listener::tls::AcmeSettings;
use crate::lead::{TierName, Tiers};
use crate::oidc::{OidcRoles, OidcSettings};
use crate::phone::{E164, Region};
use crate::routing::{
    ClosedDays, Condition, DialerId, DialerLimits, Hours, ListDefinition, MissedTo, OpenHours,
    Rule, Ruleset, SpecialHours,
};
use crate::secret::Secret;
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
    let mut list = Vec::new();
    config.show("", &mut list);
    list
}

/// A value that stands in the list under one key, or a section with keys of its own.
trait Show {
    fn show(&self, key: &str, list: &mut Vec<Shown>);
}

fn plain(key: &str, value: impl Display, list: &mut Vec<Shown>) {
    list.push(Shown {
        key: key.to_owned(),
        value: ShownValue::Plain(value.to_string()),
    });
}

fn secret(key: &str, text: &str, list: &mut Vec<Shown>) {
    list.push(Shown {
        key: key.to_owned(),
        value: ShownValue::Secret(Secret::new(text)),
    });
}

/// Where a key stands in an address, it is in the query.
fn address(key: &str, url: &str, list: &mut Vec<Shown>) {
    let (address, query) = url.split_once('?').unzip();
    plain(key, address.unwrap_or(url), list);
    if let Some(query) = query {
        secret(&join(key, "query"), query, list);
    }
}

/// Values that are written by an expression: `Type: |value| text`.
macro_rules! show_values {
    ($($kind:ty: |$value:ident| $text:expr;)*) => {$(
        impl Show for $kind {
            fn show(&self, key: &str, list: &mut Vec<Shown>) {
                let $value = self;
                plain(key, $text, list);
            }
        }
    )*};
}

show_values! {
    bool: |value| value;
    u32: |value| value;
    u64: |value| value;
    f64: |value| value;
    NonZeroUsize: |value| value;
    String: |value| value;
    SocketAddr: |value| value;
    PathBuf: |path| path.display();
    Duration: |time| duration::render(*time);
    Time: |time| time.strftime("%H:%M");
    TimeZone: |zone| zone.iana_name().unwrap_or("UTC");
    PublicUrl: |url| url;
    Region: |region| region;
    E164: |number| number.as_str();
    DialerId: |dialer| dialer;
    Channel: |kind| kind.as_str();
    Role: |role| role.as_str();
    Vec<String>: |values| listed(values);
    Vec<PublicUrl>: |values| listed(values);
    Vec<IpNet>: |values| listed(values);
    Vec<DialerId>: |values| listed(values);
    Vec<OpenHours>: |values| listed(values);
    Vec<ClosedDays>: |values| listed(values);
    Vec<SpecialHours>: |values| listed(values);
    BTreeSet<Date>: |days| match (days.first(), days.last()) {
        (Some(first), Some(last)) => format!("{} days, {first} to {last}", days.len()),
        _ => String::new(),
    };
    CallerId: |caller_id| match caller_id {
        CallerId::Caller => "caller",
        CallerId::Number(number) => number.as_str(),
    };
    Connect: |connect| match connect {
        Connect::Number(number) => number.as_str(),
        Connect::Sip(address) => address,
    };
    LogFormat: |format| match format {
        LogFormat::Json => "json",
        LogFormat::Text => "text",
    };
    // An address of IPv6 stands here without its brackets.
    Smtp: |server| server.to_string().replace(['[', ']'], "");
}

fn listed<T: Display>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(T::to_string).collect();
    values.join(", ")
}

/// Sections whose fields are shown in this order, each under its name or under the one behind `as`; `as ""` is for fields
/// whose own keys belong to the section. A field that is forgotten does not compile; those behind `;` are no keys.
macro_rules! show_sections {
    ($($section:ident { $($field:ident $(as $name:literal)?),* $(; $($hidden:ident),*)? })*) => {$(
        impl Show for $section {
            fn show(&self, key: &str, list: &mut Vec<Shown>) {
                let $section { $($field,)* $($($hidden: _,)*)? } = self;
                $($field.show(&join(key, show_sections!(@ $field $($name)?)), list);)*
            }
        }
    )*};
    (@ $field:ident) => { stringify!($field) };
    (@ $field:ident $name:literal) => { $name };
}

show_sections! {
    Config {
        server, storage, twilio, braze, routing, ruleset as "", lists as "routing.lists", dialers, alerts, auth, logging;
        origins, rule_tests, lint, draft, digest
    }
    Server {
        listen, public_url, also_public, node, trusted_proxies, tls, acme, insecure_http, docs, cors_origins, region, calls_in_hand, edit_rules
    }
    Tls { certificate, private_key }
    AcmeSettings { domains, contact, directory, ca, cache }
    Storage { path, retention, spool, spool_mib, ballast_mib, secret, signing_key; secret_file }
    Twilio {
        account_sid, subaccounts, auth_tokens as "auth_token", verify_signature, shared_keys, allowed_networks,
        caller_id, number, may_dial, ring_timeout, ring_total, reconcile_after, api_base, monitor_base,
        api_key_sid, api_key_secret
    }
    Braze {
        base_url, api_key, timeout, cache_ttl, stale_for, negative_ttl, cache_capacity, requests_per_minute, open_for,
        score_attribute, tier_attribute, webhook_secret; region, attributes
    }
    Routing {
        file, draft, budget, last_resort_number, api_calls_end_after, max_hold, hold_message, goodbye_message, language,
        time_zone, closed_message, closed_number, missed_to
    }
    Ruleset {
        default_dialer as "routing.default_dialer", tiers as "routing.tiers", rules as "routing.rules", hours as "routing.hours",
        dialers, attributes as "routing.attributes", limits as "routing.limits"; lists
    }
    MissedTo { dialer, task }
    Hours { time_zone, open, closed, special, holidays as "calendar" }
    Dialer { connect, timeout, probe_every, open_for, api as ""; id }
    Alerts { rules as "", silent_numbers, daily_summary, time_zone, email, webhook, channels, heartbeat as "" }
    PostSettings { kind, host, url, routing_key, headers, body; name }
    HeartbeatSettings { url as "heartbeat", every as "heartbeat_every" }
    AlertRules {
        failure_percent as "failure_rate_percent", window, min_calls, repeat_every, braze_failure_percent,
        braze_min_failures, dialer_failure_percent, min_requests, waiting_longer_than
    }
    Email { to, from, smtp, username, password, ca }
    Auth { keys, oidc }
    OidcSettings { issuer, client_id, client_secret, scopes, name_claim, role_claim, roles, ca }
    OidcRoles { admin, operator, viewer }
    Logging { format, level, directory }
}

impl Show for Secret {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        secret(key, self.expose(), list);
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        if let Some(value) = self {
            value.show(key, list);
        }
    }
}

impl Show for Vec<Secret> {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        for (idx, value) in self.iter().enumerate() {
            value.show(&format!("{key}[{idx}]"), list);
        }
    }
}

/// Values under names that the file chooses.
impl<T: Show> Show for Vec<(String, T)> {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        for (name, value) in self {
            value.show(&join(key, name), list);
        }
    }
}

impl Show for BTreeMap<Arc<str>, Hours> {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        for (name, value) in self {
            value.show(&join(key, name), list);
        }
    }
}

impl Show for Tiers {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        for tier in self {
            let key = format!("{key}.{}.min_score", tier.name);
            plain(&key, tier.min_score.value(), list);
        }
    }
}

/// That numbers are others is known by a digest, which is as good as the numbers to whoever tries them all.
impl Show for BTreeMap<String, ListDefinition> {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        for (name, definition) in self {
            let key = join(key, name);
            if !definition.numbers.is_empty() {
                secret(&join(&key, "numbers"), &definition.numbers.digest(), list);
            }
            if let Some(file) = &definition.file {
                let content = format!("{} {}", file.path.display(), file.numbers.digest());
                secret(&join(&key, "file"), &content, list);
            }
        }
    }
}

impl Show for Vec<Rule> {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        for (idx, rule) in self.iter().enumerate() {
            let key = format!("{key}[{idx}]");
            let mut shown = serde_json::to_value(rule).unwrap_or_default();
            // A tier alone may stand at the top of its rule, and is shown there.
            if let ([only], Some(fields)) = (rule.when.0.as_slice(), shown.as_object_mut())
                && let Condition::Tier(tiers) = &**only
            {
                fields.remove("when");
                fields.insert(
                    "tier".to_owned(),
                    tiers.iter().map(TierName::as_str).collect(),
                );
            }
            show_json(&key, &shown, list);
        }
    }
}

impl Show for BTreeMap<DialerId, DialerLimits> {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        show_json(key, &serde_json::to_value(self).unwrap_or_default(), list);
    }
}

/// Values under the names that a document has; lists of plain values in one line.
fn show_json(key: &str, value: &Value, list: &mut Vec<Shown>) {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), ToOwned::to_owned)
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                show_json(&join(key, name), value, list);
            }
        }
        Value::Array(values) => {
            plain(
                key,
                listed(&values.iter().map(text).collect::<Vec<_>>()),
                list,
            );
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            plain(key, text(value), list);
        }
    }
}

impl Show for Vec<Dialer> {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        for dialer in self {
            dialer.show(&join(key, dialer.id.as_str()), list);
        }
    }
}

impl Show for Api {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        plain(&join(key, "kind"), self.kind(), list);
        for (name, value) in self.entries() {
            let key = join(key, &name);
            match value {
                SettingValue::Plain(text) => plain(&key, text, list),
                SettingValue::Address(url) => address(&key, &url, list),
                SettingValue::Secret(value) => value.show(&key, list),
            }
        }
    }
}

impl Show for WebhookSettings {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        // Chat services put their key into the path.
        secret(&join(key, "url"), &self.url, list);
        self.secret.show(&join(key, "secret"), list);
    }
}

impl Show for Vec<PostSettings> {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        for channel in self {
            channel.show(&join(key, &channel.name), list);
        }
    }
}

impl Show for Vec<ApiKey> {
    fn show(&self, key: &str, list: &mut Vec<Shown>) {
        for ApiKey { name, role, hash } in self {
            role.show(&format!("{key}.{name}.role"), list);
            secret(&format!("{key}.{name}.hash"), &hash.to_hex(), list);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Context, parse};
    use super::*;

    const EXAMPLE: &str = include_str!("../../config.example.toml");

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

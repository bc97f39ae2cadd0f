//! `[twilio]`: whose webhooks are believed, and how legs are dialed.

use std::time::Duration;

use ipnet::IpNet;

use super::problem::Fault;
use super::section::{Section, TomlValue};
use crate::phone::E164;
use crate::secret::Secret;

/// Whose webhooks are believed, and how legs are dialed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twilio {
    /// The account, `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// Subaccounts whose numbers are answered as well. Default: none.
    pub subaccounts: Vec<String>,
    /// The auth tokens that a signature may be made with, in the order of the file. Empty only with shared keys, or where
    /// signatures are not verified.
    pub auth_tokens: Vec<Secret>,
    /// Whether webhooks must be signed. False only with a loopback listen address. Default: true.
    pub verify_signature: bool,
    /// Keys for HMAC-SHA256 signatures, each behind the id by which the settings header chooses it, like
    /// `webhooks_sharedkey_…`. Default: none.
    pub shared_keys: Vec<(String, Secret)>,
    /// The networks that webhooks may come from. Default: none, which means any.
    pub allowed_networks: Vec<IpNet>,
    /// What dialers see as the number of the caller. Default: the caller's own.
    pub caller_id: CallerId,
    /// A number of this account, shown to phones that ring for callers who have none that Twilio takes. Default: none.
    pub number: Option<E164>,
    /// How the numbers begin that rules may dial. Default: with the country codes of the numbers in the main file.
    pub may_dial: Option<Vec<String>>,
    /// How long a dialer rings; whole seconds, 5 s to 600 s. Default: 20 s.
    pub ring_timeout: Duration,
    /// How long the lines of one call ring, all together; whole seconds, `ring_timeout` to 1 h. Default: 60 s.
    pub ring_total: Duration,
    /// A call without news for so long is looked up by REST and closed; 1 m to 1 d. Default: 5 m.
    pub reconcile_after: Duration,
    /// Twilio's REST API. Default: `https://api.twilio.com`.
    pub api_base: String,
    /// Where Twilio's alerts are. Default: `api_base` with `monitor.` in place of `api.`.
    pub monitor_base: Option<String>,
    /// The API key for REST, `SK` and 32 hexadecimal digits. Default: account and auth token are used.
    pub api_key_sid: Option<String>,
    /// The secret of the API key; set exactly where `api_key_sid` is.
    pub api_key_secret: Option<Secret>,
}

/// What dialers see as the number of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerId {
    Caller,
    Number(E164),
}

impl Twilio {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let account_sid = section.required("account_sid", |value| sid(value, "AC"));
        let verify_signature = section.or("verify_signature", true, TomlValue::boolean);
        let shared_keys = section.tables("shared_keys", shared_key);
        let ring_timeout = section.or("ring_timeout", Duration::from_secs(20), ring_timeout);
        let ring_total = ring_total(section, ring_timeout);
        let api_key_sid = section.optional("api_key_sid", |value| sid(value, "SK"));
        let api_key_secret = section.optional("api_key_secret", TomlValue::token);
        section.refuse_half_a_pair("api_key_sid", "api_key_secret");
        refuse_same_ids(section, &shared_keys);
        judge_tokens(section, verify_signature);
        Some(Self {
            subaccounts: section.list("subaccounts", |value| sid(value, "AC")),
            auth_tokens: section.or("auth_token", Vec::new(), |value| {
                value.one_or_list(TomlValue::token)
            }),
            verify_signature,
            shared_keys,
            allowed_networks: section.list("allowed_networks", TomlValue::network),
            caller_id: section.or("caller_id", CallerId::Caller, caller_id),
            number: section.optional("number", TomlValue::phone_number),
            may_dial: section.optional("may_dial", |value| value.one_or_list(beginning)),
            ring_timeout,
            ring_total,
            reconcile_after: section.or("reconcile_after", Duration::from_mins(5), |value| {
                value.duration(Duration::from_mins(1)..=Duration::from_hours(24))
            }),
            api_base: section.or(
                "api_base",
                "https://api.twilio.com".to_owned(),
                TomlValue::base_url,
            ),
            monitor_base: section.optional("monitor_base", TomlValue::base_url),
            api_key_sid,
            api_key_secret,
            account_sid: account_sid?,
        })
    }
}

fn beginning(value: &TomlValue<'_>) -> Result<String, Fault> {
    value.text_like("the beginning of numbers, like +49 or +4930", |text| {
        text.strip_prefix('+').is_some_and(|digits| {
            (1..=15).contains(&digits.len())
                && !digits.starts_with('0')
                && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

fn shared_key(section: &mut Section<'_>) -> Option<(String, Secret)> {
    let id = section.required("id", |value| {
        value.text_like("the id of the key, without blanks, comma and =", |text| {
            text.chars()
                .all(|c| c.is_ascii_graphic() && c != ',' && c != '=')
        })
    });
    let secret = section.required("secret", TomlValue::token);
    Some((id?, secret?))
}

fn sid(value: &TomlValue<'_>, prefix: &str) -> Result<String, Fault> {
    value.text_like(&format!("{prefix} and 32 hexadecimal digits"), |text| {
        text.strip_prefix(prefix).is_some_and(|digits| {
            digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit())
        })
    })
}

fn caller_id(value: &TomlValue<'_>) -> Result<CallerId, Fault> {
    let text = value.text()?;
    if text == "caller" {
        return Ok(CallerId::Caller);
    }
    E164::parse(&text).map(CallerId::Number).map_err(|_| {
        let hint = || "the number must be one of this Twilio account".to_owned();
        let fault = Fault::new("must be \"caller\" or a phone number like +4930123456");
        fault.nearest(&text, ["caller"], hint)
    })
}

/// A total that the file does not name is fitted to a longer ring.
fn ring_total(section: &mut Section<'_>, ring_timeout: Duration) -> Duration {
    let default = Duration::from_mins(1).max(ring_timeout);
    let total = section.or("ring_total", default, |value| {
        whole_seconds(value.duration(Duration::from_secs(5)..=Duration::from_hours(1))?)
    });
    if total < ring_timeout {
        let fault = Fault::new("is shorter than ring_timeout, so that no line rings in full");
        section.error("ring_total", fault.hint("raise it, or lower ring_timeout"));
    }
    total
}

fn ring_timeout(value: &TomlValue<'_>) -> Result<Duration, Fault> {
    whole_seconds(value.duration(Duration::from_secs(5)..=Duration::from_mins(10))?)
}

fn whole_seconds(timeout: Duration) -> Result<Duration, Fault> {
    if timeout.subsec_nanos() != 0 {
        return Err(Fault::new("must be whole seconds"));
    }
    Ok(timeout)
}

fn refuse_same_ids(section: &Section<'_>, keys: &[(String, Secret)]) {
    for (idx, (id, _)) in keys.iter().enumerate() {
        if keys.iter().take(idx).any(|(earlier, _)| earlier == id) {
            let fault = Fault::new(format!("holds the id {id} twice"));
            let hint = "Twilio gives every key an id of its own";
            section.error("shared_keys", fault.hint(hint));
        }
    }
}

fn judge_tokens(section: &Section<'_>, verify_signature: bool) {
    let has_token = section.has_some("auth_token");
    let has_shared_key = section.has_some("shared_keys");
    if verify_signature && !has_token && !has_shared_key {
        section.error(
            "auth_token",
            Fault::new("is missing, so no webhook could be verified")
                .hint("write auth_token = { file = \"…\" } with the token of the Twilio console"),
        );
    } else if !has_token && !section.has("api_key_sid") {
        section.warn(
            "auth_token",
            Fault::new("is missing, so calls whose last callback was lost cannot be looked up")
                .hint("add auth_token, or api_key_sid and api_key_secret"),
        );
    }
}

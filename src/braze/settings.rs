//! How Braze is asked. The key never shows: not in `Debug`, not in an error.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use crate::audit::Fingerprint;
use crate::phone::Region;
use crate::secret::Secret;

/// `[braze]`: where lead scores come from, and how long they are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrazeSettings {
    /// The REST endpoint of the Braze instance, like `https://rest.fra-01.braze.eu`.
    pub base_url: String,
    /// The REST API key; needs `users.export.ids`.
    pub api_key: Secret,
    /// What one request may take in all, connection, head and body; 50 ms to 1500 ms. Default: 1500 ms, or what
    /// `routing.budget` leaves.
    pub timeout: Duration,
    /// How long an answer counts as fresh. Default: 1 h.
    pub cache_ttl: Duration,
    /// How long a profile is still used while it is refreshed or Braze fails. Default: 24 h.
    pub stale_for: Duration,
    /// How long it is remembered that Braze does not know a caller. Default: 5 m.
    pub negative_ttl: Duration,
    /// How many callers are remembered. Takes effect at the next start. Default: 100,000.
    pub cache_capacity: u64,
    /// How many requests are sent to Braze in a minute, and a quarter of that at once. Default: 200.
    pub requests_per_minute: u32,
    /// How long the circuit breaker stays open before it lets one probe pass. Default: 15 s.
    pub open_for: Duration,
    /// The custom attribute that holds the lead score. Default: `lead_score`.
    pub score_attribute: String,
    /// The custom attribute that names a tier; a name wins over the score. Default: none.
    pub tier_attribute: Option<String>,
    /// `routing.attributes`: further custom attributes, which rules may ask for.
    pub attributes: Vec<String>,
    /// What Braze sends to `POST /webhooks/braze`. Default: none, which turns that route off.
    pub webhook_secret: Option<Secret>,
    /// `server.region`: whose numbers those are that are pushed without a country code.
    pub region: Option<Region>,
}

/// The settings cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Not an address that a request can go to.
    #[error("base_url must be an http or https address with a host")]
    BaseUrl,
    /// The key is empty or cannot be sent in a header.
    #[error("api_key must be one line of visible characters")]
    ApiKey,
}

/// The settings, and what is derived from them once.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) settings: BrazeSettings,
    pub(super) endpoint: Url,
    /// The endpoint as it may be shown: without userinfo and query.
    pub(super) recorded_url: String,
    pub(super) authorization: HeaderValue,
}

impl Active {
    pub(super) fn try_new(settings: BrazeSettings) -> Result<Self, SettingsError> {
        let mut endpoint = Url::parse(&settings.base_url).map_err(|_| SettingsError::BaseUrl)?;
        if !matches!(endpoint.scheme(), "http" | "https") || !endpoint.has_host() {
            return Err(SettingsError::BaseUrl);
        }
        let path = format!("{}/users/export/ids", endpoint.path().trim_end_matches('/'));
        endpoint.set_path(&path);
        endpoint.set_query(None);
        endpoint.set_fragment(None);
        let mut recorded_url = endpoint.clone();
        if recorded_url.set_username("").is_err() || recorded_url.set_password(None).is_err() {
            return Err(SettingsError::BaseUrl);
        }
        let key = settings.api_key.expose().trim();
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SettingsError::ApiKey);
        }
        let bearer = Zeroizing::new(format!("Bearer {key}"));
        let mut authorization =
            HeaderValue::from_str(&bearer).map_err(|_| SettingsError::ApiKey)?;
        authorization.set_sensitive(true);
        Ok(Self {
            endpoint,
            recorded_url: recorded_url.into(),
            authorization,
            settings,
        })
    }

    /// Whether answers got with the other settings are answers to another question.
    pub(super) fn asks_differently(&self, other: &Self) -> bool {
        self.endpoint != other.endpoint
            || self.settings.score_attribute != other.settings.score_attribute
            || self.settings.tier_attribute != other.settings.tier_attribute
            || self.settings.attributes != other.settings.attributes
    }

    /// Tells address and key from others, under the installation's secret.
    pub(super) fn fingerprint(&self, secret: &[u8]) -> Fingerprint {
        Fingerprint::of(
            secret,
            [
                "braze",
                self.endpoint.as_str(),
                self.settings.api_key.expose(),
            ],
        )
    }

    /// Whether refused credentials may be accepted now.
    pub(super) fn authenticates_differently(&self, other: &Self) -> bool {
        self.endpoint != other.endpoint || self.settings.api_key != other.settings.api_key
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::*;

    #[test]
    fn neither_key_nor_userinfo_is_ever_shown() {
        let mut settings = settings("https://user:word@rest.example.com/base/?a=b#c");
        settings.api_key = Secret::new("very-secret\n");
        let active = Active::try_new(settings).unwrap();
        assert_eq!(
            active.recorded_url,
            "https://rest.example.com/base/users/export/ids"
        );
        assert!(!format!("{active:?}").contains("very-secret"));
        assert_eq!(active.authorization.as_bytes(), b"Bearer very-secret");
    }

    #[test]
    fn settings_that_cannot_be_used_are_refused() {
        for url in [
            "",
            "rest.example.com",
            "ftp://rest.example.com",
            "mailto:a@b",
        ] {
            let refused = Active::try_new(settings(url)).unwrap_err();
            assert_eq!(refused, SettingsError::BaseUrl, "{url:?}");
        }
        for key in ["", " \n", "two words", "two\nlines", "schlüssel"] {
            let mut settings = settings("https://rest.example.com");
            settings.api_key = Secret::new(key);
            assert_eq!(
                Active::try_new(settings).unwrap_err(),
                SettingsError::ApiKey,
                "{key:?}"
            );
        }
    }
}

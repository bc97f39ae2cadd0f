//! How Braze is asked. The key never shows: not in `Debug`, not in an error.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use crate::audit::Fingerprint;
use crate::phone::Region;

/// How Braze is asked and how long its answers are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The REST host of the workspace, `https://rest.fra-01.braze.eu`.
    pub base_url: String,
    /// A REST key with the permission `users.export.ids`.
    pub api_key: ApiKey,
    /// What one request may take in all: connection, head and body.
    pub timeout: Duration,
    /// An answer is fresh for so long.
    pub cache_ttl: Duration,
    /// A profile is still used for so long, while it is refreshed or Braze fails.
    pub stale_for: Duration,
    /// "No such profile" is believed for so long.
    pub negative_ttl: Duration,
    /// So many numbers are remembered. Takes effect at the next start.
    pub cache_capacity: u64,
    /// So many requests are sent per minute, and a quarter of that at once.
    pub requests_per_minute: u32,
    /// The circuit breaker stays open for so long before a trial.
    pub open_for: Duration,
    /// The custom attribute that holds the lead score.
    pub score_attribute: String,
    /// The custom attribute that names the tier.
    pub tier_attribute: Option<String>,
    /// Whose numbers those are that are pushed without a country code.
    pub region: Option<Region>,
}

/// A secret: shown nowhere, wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// Takes the key without surrounding blanks: files end in a newline.
    pub fn new(key: &str) -> Self {
        Self(Zeroizing::new(key.trim().to_owned()))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(********)")
    }
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

/// Settings, and what is derived from them once.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) settings: Settings,
    pub(super) endpoint: Url,
    /// The endpoint as it may be shown: without userinfo and query.
    pub(super) shown: String,
    pub(super) authorization: HeaderValue,
}

impl Active {
    pub(super) fn try_new(settings: Settings) -> Result<Self, SettingsError> {
        let mut endpoint = Url::parse(&settings.base_url).map_err(|_| SettingsError::BaseUrl)?;
        if !matches!(endpoint.scheme(), "http" | "https") || !endpoint.has_host() {
            return Err(SettingsError::BaseUrl);
        }
        let path = format!("{}/users/export/ids", endpoint.path().trim_end_matches('/'));
        endpoint.set_path(&path);
        endpoint.set_query(None);
        endpoint.set_fragment(None);
        let mut shown = endpoint.clone();
        if shown.set_username("").is_err() || shown.set_password(None).is_err() {
            return Err(SettingsError::BaseUrl);
        }
        let key = &settings.api_key.0;
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SettingsError::ApiKey);
        }
        let bearer = Zeroizing::new(format!("Bearer {}", key.as_str()));
        let mut authorization =
            HeaderValue::from_str(&bearer).map_err(|_| SettingsError::ApiKey)?;
        authorization.set_sensitive(true);
        Ok(Self {
            endpoint,
            shown: shown.into(),
            authorization,
            settings,
        })
    }

    /// Whether answers got with the other settings are answers to another question.
    pub(super) fn asks_differently(&self, other: &Self) -> bool {
        self.endpoint != other.endpoint
            || self.settings.score_attribute != other.settings.score_attribute
            || self.settings.tier_attribute != other.settings.tier_attribute
    }

    /// Tells address and key from others, under the installation's secret.
    pub(super) fn fingerprint(&self, secret: &[u8]) -> Fingerprint {
        Fingerprint::of(
            secret,
            [
                "braze",
                self.endpoint.as_str(),
                self.settings.api_key.0.as_str(),
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
        settings.api_key = ApiKey::new("very-secret\n");
        let active = Active::try_new(settings).unwrap();
        assert_eq!(
            active.shown,
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
            settings.api_key = ApiKey::new(key);
            assert_eq!(
                Active::try_new(settings).unwrap_err(),
                SettingsError::ApiKey,
                "{key:?}"
            );
        }
    }
}

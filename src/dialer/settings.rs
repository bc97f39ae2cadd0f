//! What an adapter needs to know: `[dialers.*]` of the configuration.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;

use super::adapter::Api;
use crate::routing::DialerId;
use crate::twiml::Connect;

/// `[dialers.*]`: one platform with agents that can take a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialerSettings {
    /// Its key under `[dialers]`, 1 to 32 of `A-Z a-z 0-9 _ -`.
    pub id: DialerId,
    /// Where its inbound line rings.
    pub connect: Connect,
    /// How long one handoff attempt may take; 50 ms to 10 s. Default: 700 ms.
    pub timeout: Duration,
    /// How often its health is probed; 1 s to 1 h. Default: 15 s.
    pub probe_every: Duration,
    /// How long its circuit breaker stays open before it lets one probe pass; 1 s to 1 h. Default: 15 s.
    pub open_for: Duration,
    /// Which API, and how to reach it.
    pub api: Api,
}

/// Settings from which no dialer can be made. Says which key, and never what a secret holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct InvalidSettings {
    /// The key within the dialer's section.
    pub key: &'static str,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl InvalidSettings {
    pub(super) fn new(key: &'static str, problem: impl Into<String>) -> Self {
        Self {
            key,
            problem: problem.into(),
        }
    }
}

/// Reads an address of an HTTP API.
pub(super) fn parse_url(key: &'static str, text: &str) -> Result<Url, InvalidSettings> {
    let wrong = || {
        InvalidSettings::new(
            key,
            "write a whole address, like https://dialer.example/path",
        )
    };
    let url = Url::parse(text).map_err(|_| wrong())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(wrong())
    }
}

/// `base` with path segments added, each percent-encoded.
pub(super) fn endpoint(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails only for addresses without a host, which `parse_url` refuses.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

/// An id that becomes a part of a path.
pub(super) fn path_part(key: &'static str, text: &str) -> Result<String, InvalidSettings> {
    if text.is_empty() || text == "." || text == ".." {
        return Err(InvalidSettings::new(key, "must name something"));
    }
    Ok(text.to_owned())
}

/// A header value that is marked sensitive, so that no debug output shows it.
pub(super) fn secret_header(
    key: &'static str,
    value: &str,
) -> Result<HeaderValue, InvalidSettings> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        InvalidSettings::new(
            key,
            "holds a line break or another character that no HTTP header can carry",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A URL as it may be shown: without userinfo, query and fragment.
pub(super) fn redacted_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for addresses that cannot have userinfo in the first place.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return "…".to_owned();
    }
    url.into()
}

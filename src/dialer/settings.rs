//! Settings as an adapter uses them: addresses and headers, and why some are none.

use reqwest::Url;
use reqwest::header::HeaderValue;

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

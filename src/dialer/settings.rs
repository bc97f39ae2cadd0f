//! What an adapter needs to know: `[dialers.*]` of the configuration.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;

use crate::routing::DialerId;
use crate::secret::Secret;
use crate::twiml::Connect;

/// `[dialers.*]`: one platform with agents that can take a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
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

/// Which adapter a dialer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Kind {
    Dialfire,
    ZendeskTalk,
    /// Any HTTP API that takes one POST.
    Http,
}

impl Kind {
    /// The name, as in the configuration.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// The API of a dialer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Api {
    Dialfire(DialfireApi),
    ZendeskTalk(ZendeskTalkApi),
    Http(HttpApi),
}

impl Api {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Dialfire(_) => Kind::Dialfire,
            Self::ZendeskTalk(_) => Kind::ZendeskTalk,
            Self::Http(_) => Kind::Http,
        }
    }

    /// Where requests go and what they authenticate with, in a fixed order.
    pub(super) fn credentials(&self) -> Vec<&str> {
        match self {
            Self::Dialfire(api) => {
                let mut parts = vec!["dialfire", &api.base_url, &api.campaign, api.token.expose()];
                if let Some(tenant) = &api.tenant {
                    parts.extend([tenant.id.as_str(), tenant.token.expose()]);
                }
                parts
            }
            Self::ZendeskTalk(api) => {
                vec![
                    "zendesk_talk",
                    &api.base_url,
                    &api.email,
                    api.token.expose(),
                ]
            }
            Self::Http(api) => {
                let health_url = api.health_url.as_deref().unwrap_or_default();
                let headers = api.headers.iter();
                ["http", &api.url, health_url]
                    .into_iter()
                    .chain(headers.flat_map(|(name, value)| [name.as_str(), value.expose()]))
                    .collect()
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialfireApi {
    pub base_url: String,
    /// The id of the campaign, 16 letters and digits.
    pub campaign: String,
    /// The task (stage) that new contacts enter.
    pub task: String,
    pub token: Secret,
    /// The tenant, where line statistics are the health probe. Default: none.
    pub tenant: Option<Tenant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub id: String,
    /// The tenant token; another one than the campaign's.
    pub token: Secret,
}

/// How to reach Zendesk Talk.
#[derive(Clone, PartialEq, Eq)]
pub struct ZendeskTalkApi {
    pub base_url: String,
    /// The agent as whom the token acts.
    pub email: String,
    pub token: Secret,
    /// Fewer agents online than this, and it takes no calls. Default: 1.
    pub min_agents: u64,
    /// More callers waiting than this, and it takes no calls. Default: 20.
    pub max_waiting: u64,
}

impl ZendeskTalkApi {
    /// The address of an account.
    pub fn base_url_of(subdomain: &str) -> String {
        format!("https://{subdomain}.zendesk.com")
    }
}

impl fmt::Debug for ZendeskTalkApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZendeskTalkApi")
            .field("base_url", &self.base_url)
            .field("min_agents", &self.min_agents)
            .field("max_waiting", &self.max_waiting)
            .finish_non_exhaustive()
    }
}

/// How to reach any other dialer.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpApi {
    pub url: String,
    /// What answers 2xx to a GET while the dialer is well. Default: none; no probe is made.
    pub health_url: Option<String>,
    /// Extra headers, in the order of the file; they win over those the adapter sets. Default: none.
    pub headers: Vec<(String, Secret)>,
    /// The flat JSON body, in the order of the file: keys, and values that may hold the placeholders of [`super::placeholders`].
    /// Default: caller, score, tier, `CallSid` and request id.
    pub body: Vec<(String, String)>,
}

impl fmt::Debug for HttpApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |url: &str| Url::parse(url).map_or_else(|_| "…".to_owned(), |u| shown_url(&u));
        f.debug_struct("HttpApi")
            .field("url", &shown(&self.url))
            .field("health_url", &self.health_url.as_deref().map(shown))
            .finish_non_exhaustive()
    }
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
pub(super) fn shown_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for addresses that cannot have userinfo in the first place.
    if url.set_username("").is_err() || url.set_password(None).is_err() {
        return "…".to_owned();
    }
    url.into()
}

//! What is wrong with a webhook that failed its signature check, in words for whoever runs the router.
//!
//! A failing check nearly always means that two people typed two different URLs, or that a proxy changes something. Both show when the same
//! signature is tried against what else might have been signed. The search costs up to a thousand times a check, so it belongs behind a rate
//! limit; and it tells only *what* would have matched, never a signature.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::altered::altered;
use super::signature::{
    Algorithm, BodyKind, KeyUsed, SignatureError, SignatureKey, SignedRequest, Verifier,
    sorted_fields,
};
use super::signed_url::{HTTP, HTTPS, SignedBase, split_query};

/// At most so many parameter names are kept, each cut to as many characters.
const MAX_NAMES: usize = 64;

/// Fields that, says one report, Twilio adds after signing.
const LATE_FIELDS: [&str; 2] = ["CallToken", "StirVerstat"];

/// The hosts that the request itself names. Never believed, only tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hosts<'a> {
    pub host: Option<&'a str>,
    /// `X-Forwarded-Host`; of a list, the first counts.
    pub forwarded: Option<&'a str>,
}

/// Why a request was refused, and what would have made it pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    pub error: SignatureError,
    /// How the signed request differs from the one expected; empty where nothing tried explains the signature.
    pub would_match: Vec<Deviation>,
    /// The names of the fields that came, to be held against Twilio's request inspector. Cut, and without their values.
    pub parameters: Vec<String>,
}

/// One way in which the signed request differs from what is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deviation {
    /// Another scheme, `http` or `https`.
    Scheme(&'static str),
    Host(String),
    /// The path prefix of the public URL is not part of it.
    WithoutPrefix,
    /// A slash more at the end of the path.
    SlashAdded,
    /// A slash less at the end of the path.
    SlashRemoved,
    /// The query is not part of it.
    WithoutQuery,
    /// The fields of the body are not part of it.
    WithoutFields,
    /// Fields that stand empty are not part of it.
    WithoutEmptyFields,
    /// `CallToken` and `StirVerstat` are not part of it.
    WithoutLateFields,
    /// Somebody on the way rewrote it; what it had before, in words.
    Rewritten(String),
    /// Another key than the settings header asks for, or another algorithm.
    Key(KeyUsed),
    /// This `AuthToken`, counted from 0, without the white space at its ends.
    TokenWithWhiteSpace(usize),
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(scheme) => write!(f, "signed for {scheme}"),
            Self::Host(host) => write!(f, "signed for the host {host}"),
            Self::WithoutPrefix => f.write_str("signed without the path prefix of public_url"),
            Self::SlashAdded => f.write_str("signed with a slash at the end of the path"),
            Self::SlashRemoved => f.write_str("signed without the slash at the end of the path"),
            Self::WithoutQuery => f.write_str("signed without the query"),
            Self::WithoutFields => f.write_str("signed over the URL alone, without the fields"),
            Self::WithoutEmptyFields => f.write_str("signed without the fields that stand empty"),
            Self::WithoutLateFields => f.write_str("signed without CallToken and StirVerstat"),
            Self::Rewritten(before) => write!(f, "signed with {before}"),
            Self::Key(KeyUsed::AuthToken(place)) => {
                write!(f, "signed with AuthToken {} of the list", place + 1)
            }
            Self::Key(KeyUsed::SharedKey(id)) => write!(f, "signed with the SharedKey {id}"),
            Self::TokenWithWhiteSpace(place) => write!(
                f,
                "AuthToken {} of the list has white space at its ends",
                place + 1
            ),
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        for (i, deviation) in self.would_match.iter().enumerate() {
            let lead = if i == 0 { "; it would match: " } else { ", " };
            write!(f, "{lead}{deviation}")?;
        }
        Ok(())
    }
}

impl Diagnosis {
    /// Which setting to look at: ours, Twilio's, or that of somebody in between.
    pub fn remedy(&self) -> &'static str {
        const PROXY: &str = "a proxy or firewall rewrites what passes: have it pass on method, path, query, headers and body as they come";
        const SETTINGS: &str = "X-Twilio-Webhooks-Signature-Settings does not arrive as it was sent: have proxies pass it on";
        // Whatever signed the URL: the body is not what was signed.
        let is_of_url = self.error != SignatureError::BodyHash;
        match self.would_match.first().filter(|_| is_of_url) {
            Some(Deviation::Scheme(_) | Deviation::Host(_) | Deviation::WithoutPrefix) => {
                "make [server] public_url, or one of also_public, and the URL in Twilio's console the same: scheme, host, port and the beginning of the path"
            }
            Some(Deviation::SlashAdded | Deviation::SlashRemoved) => {
                "in Twilio's console, end the URL as it arrives here, or have a proxy leave the slash alone"
            }
            Some(Deviation::Key(_)) => SETTINGS,
            Some(Deviation::TokenWithWhiteSpace(_)) => {
                "take the white space off [twilio] auth_token"
            }
            Some(_) => PROXY,
            None => match self.error {
                SignatureError::UnknownKey => "add the key to [[twilio.shared_keys]]",
                SignatureError::Algorithm | SignatureError::SettingsMalformed => SETTINGS,
                SignatureError::NoKey => "add [twilio] auth_token",
                SignatureError::Mismatch => {
                    "[twilio] auth_token is of another account, or was replaced in Twilio's console; or more was changed on the way"
                }
                SignatureError::Missing
                | SignatureError::Malformed
                | SignatureError::UncoveredBody
                | SignatureError::BodyHashMissing
                | SignatureError::BodyHash => PROXY,
            },
        }
    }
}

impl Verifier {
    /// Says why `request`, which failed with `error`, may have failed.
    pub fn diagnose(
        &self,
        request: &SignedRequest<'_>,
        hosts: &Hosts<'_>,
        error: SignatureError,
    ) -> Diagnosis {
        let signature = request.signature.and_then(|s| STANDARD.decode(s).ok());
        let would_match = match (signature, BodyKind::of(request.content_type, request.body)) {
            (Some(signature), kind @ (BodyKind::Form | BodyKind::Json)) => Search {
                verifier: self,
                request,
                fields: if kind == BodyKind::Form {
                    sorted_fields(request.form.fields())
                } else {
                    Vec::new()
                },
                signature: &signature,
            }
            .deviations(hosts)
            .unwrap_or_default(),
            (Some(_), BodyKind::Other) | (None, _) => Vec::new(),
        };
        Diagnosis {
            error,
            would_match,
            parameters: parameter_names(request),
        }
    }
}

/// A signature in search of what it was made over.
struct Search<'a> {
    verifier: &'a Verifier,
    request: &'a SignedRequest<'a>,
    fields: Vec<u8>,
    signature: &'a [u8],
}

impl Search<'_> {
    fn deviations(&self, hosts: &Hosts<'_>) -> Option<Vec<Deviation>> {
        let target = self.request.path_and_query;
        // Of several public URLs, those behind the first are named by their host.
        let urls = || {
            let urls = self.verifier.urls.iter().enumerate();
            urls.map(|(idx, url)| (url, (idx > 0).then(|| Deviation::Host(url.host.clone()))))
        };
        self.other_keys()
            .or_else(|| self.other_fields())
            .or_else(|| urls().find_map(|(url, at)| self.other_targets(url, target, at.as_slice())))
            .or_else(|| urls().find_map(|(url, at)| self.other_bases(url, at.as_ref(), hosts)))
            .or_else(|| self.other_requests())
    }

    /// A URL as expected, under a key that was not asked for.
    fn other_keys(&self) -> Option<Vec<Deviation>> {
        let matches = |key: &SignatureKey| {
            let (mut urls, target) = (self.verifier.urls.iter(), self.request.path_and_query);
            urls.any(|url| {
                let mut algorithms = [Algorithm::Sha1, Algorithm::Sha256].into_iter();
                algorithms.any(|of| self.key_matches(key, of, url, target, &self.fields))
            })
        };
        for (place, token) in self.verifier.auth_tokens.iter().enumerate() {
            if matches(token) {
                return Some(vec![Deviation::Key(KeyUsed::AuthToken(place))]);
            }
            if token.trimmed().is_some_and(|token| matches(&token)) {
                return Some(vec![Deviation::TokenWithWhiteSpace(place)]);
            }
        }
        self.verifier
            .shared_keys
            .iter()
            .find(|(_, key)| matches(key))
            .map(|(id, _)| vec![Deviation::Key(KeyUsed::SharedKey(id.clone()))])
    }

    /// A URL as expected, over fewer fields.
    fn other_fields(&self) -> Option<Vec<Deviation>> {
        let form = self.request.form;
        let without_empty = form.fields().filter(|(_, value)| !value.is_empty());
        let without_late = form
            .fields()
            .filter(|(name, _)| !LATE_FIELDS.iter().any(|late| late.as_bytes() == *name));
        [
            (Deviation::WithoutFields, Vec::new()),
            (Deviation::WithoutEmptyFields, sorted_fields(without_empty)),
            (Deviation::WithoutLateFields, sorted_fields(without_late)),
        ]
        .into_iter()
        .find(|(_, fields)| {
            let mut urls = self.verifier.urls.iter();
            urls.any(|url| self.any_key_matches(url, self.request.path_and_query, fields))
        })
        .map(|(deviation, _)| vec![deviation])
    }

    /// The request as it was before somebody on the way rewrote it.
    fn other_requests(&self) -> Option<Vec<Deviation>> {
        let mut guesses = altered(self.request).into_iter();
        let found = guesses.find(|(_, target, fields)| {
            let mut urls = self.verifier.urls.iter();
            urls.any(|url| self.any_key_matches(url, target, fields))
        });
        found.map(|(before, ..)| vec![Deviation::Rewritten(before)])
    }

    /// Another scheme or host, and with them perhaps another path.
    fn other_bases(
        &self,
        url: &SignedBase,
        at: Option<&Deviation>,
        hosts: &Hosts<'_>,
    ) -> Option<Vec<Deviation>> {
        let other_scheme = if url.scheme.eq_ignore_ascii_case(HTTP) {
            HTTPS
        } else {
            HTTP
        };
        let lower = url.host.to_ascii_lowercase();
        let named = [hosts.forwarded, hosts.host, Some(lower.as_str())]
            .into_iter()
            .flatten()
            .map(|host| host.split(',').next().unwrap_or_default().trim())
            .filter(|host| is_plain_host(host) && *host != url.host);
        let bases = std::iter::once(None).chain(named.map(Some));
        for host in bases {
            let at_host = host.map_or_else(|| url.clone(), |host| url.with_authority(host));
            let host = host.map(|host| Deviation::Host(host.to_owned()));
            let host = host.or_else(|| at.cloned());
            for scheme in [None, Some(other_scheme)] {
                let base = scheme.map_or_else(|| at_host.clone(), |s| at_host.with_scheme(s));
                let scheme = scheme.map(Deviation::Scheme);
                let known: Vec<_> = scheme.into_iter().chain(host.clone()).collect();
                let found = self.other_targets(&base, self.request.path_and_query, &known);
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    /// At this base, the path and query as received, then the usual accidents with them.
    fn other_targets(
        &self,
        base: &SignedBase,
        target: &str,
        known: &[Deviation],
    ) -> Option<Vec<Deviation>> {
        let (path, query) = split_query(target);
        let slash = match path.strip_suffix('/') {
            Some(shorter) => (Cow::Borrowed(shorter), Deviation::SlashRemoved),
            None => (Cow::Owned(format!("{path}/")), Deviation::SlashAdded),
        };
        let unprefixed = SignedBase {
            prefix: String::new(),
            ..base.clone()
        };
        let prefixes = std::iter::once((base, None)).chain(
            (!base.prefix.is_empty()).then_some((&unprefixed, Some(Deviation::WithoutPrefix))),
        );
        for (base, prefix) in prefixes {
            for (path, slash) in [(path, None), (&*slash.0, Some(&slash.1))] {
                for (query, cut) in [(query, None), ("", Some(Deviation::WithoutQuery))] {
                    if self.any_key_matches(base, &format!("{path}{query}"), &self.fields) {
                        let own = prefix.clone().into_iter().chain(slash.cloned()).chain(cut);
                        return Some(known.iter().cloned().chain(own).collect());
                    }
                }
            }
        }
        None
    }

    fn any_key_matches(&self, base: &SignedBase, target: &str, fields: &[u8]) -> bool {
        let tokens = self.verifier.auth_tokens.iter();
        let shared = self.verifier.shared_keys.iter();
        let mut keys = tokens
            .map(|token| (token, Algorithm::Sha1))
            .chain(shared.map(|(_, key)| (key, Algorithm::Sha256)));
        keys.any(|(key, algorithm)| self.key_matches(key, algorithm, base, target, fields))
    }

    fn key_matches(
        &self,
        key: &SignatureKey,
        algorithm: Algorithm,
        base: &SignedBase,
        target: &str,
        fields: &[u8],
    ) -> bool {
        let mut urls = base.candidates(target);
        urls.any(|url| key.signed(algorithm, &url, fields, self.signature))
    }
}

/// The host is shown to people if it matches: nothing but a name, an address and a port.
fn is_plain_host(host: &str) -> bool {
    (1..=255).contains(&host.len())
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:[]".contains(&b))
}

fn parameter_names(request: &SignedRequest<'_>) -> Vec<String> {
    let names: BTreeSet<String> = request
        .form
        .names()
        .take(4 * MAX_NAMES)
        .map(|name| {
            name.chars()
                .take(MAX_NAMES)
                .map(|c| if c.is_control() { '?' } else { c })
                .collect()
        })
        .collect();
    names.into_iter().take(MAX_NAMES).collect()
}

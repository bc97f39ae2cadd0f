//! The few rules for URLs. The text is kept as it was typed: signatures are computed over it, byte for byte.

use std::fmt;
use std::net::IpAddr;

use super::problem::Fault;

/// The address under which Twilio reaches this server, exactly as typed in the Twilio console, without a slash at its
/// end. Case is kept, and a port only stands here where it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    text: String,
    path_start: usize,
}

impl PublicUrl {
    /// Takes `https://…` without query; `http://` on a loopback host, or where plain HTTP is allowed.
    pub(super) fn parse(text: &str, allows_http: bool) -> Result<Self, Fault> {
        let parts = Parts::split(text)?;
        parts.refuse_query()?;
        if !allows_http {
            parts.refuse_plain_http()?;
        }
        let text = text.strip_suffix('/').unwrap_or(text);
        Ok(Self {
            text: text.to_owned(),
            path_start: text.len().min(parts.path_start),
        })
    }

    /// The URL, without a slash at its end; a path that starts with a slash follows it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path that all signed URLs start with, like `/calls`; empty where there is none.
    pub fn path_prefix(&self) -> &str {
        self.text.get(self.path_start..).unwrap_or_default()
    }

    /// Whether it begins with `https://`.
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https://")
    }

    /// Scheme, host and port as browsers write them: in lower case, without the port that the scheme has anyway.
    pub fn origin(&self) -> String {
        let origin = self.text.get(..self.path_start).unwrap_or(&self.text);
        let usual = if self.is_https() { ":443" } else { ":80" };
        let origin = origin.strip_suffix(usual).unwrap_or(origin);
        origin.to_ascii_lowercase()
    }

    /// The host as typed, without a port.
    pub fn host(&self) -> &str {
        Parts::split(&self.text).map_or("", |parts| parts.host)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The parts of a URL that the rules look at.
pub(crate) struct Parts<'a> {
    pub(super) scheme: &'a str,
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
    pub(crate) path: &'a str,
    path_start: usize,
    has_query: bool,
}

impl<'a> Parts<'a> {
    /// Splits `http://…` or `https://…`. Messages never repeat the text, which may hold a password.
    pub(crate) fn split(text: &'a str) -> Result<Self, Fault> {
        Self::split_scheme(text, &["https", "http"])
    }

    /// Splits `scheme://host:port/path?query`, with one of the schemes.
    pub(super) fn split_scheme(text: &'a str, schemes: &[&str]) -> Result<Self, Fault> {
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(Fault::new(
                "must be a URL of plain ASCII letters without blanks",
            ));
        }
        let (scheme, rest) = text
            .split_once("://")
            .filter(|(scheme, _)| schemes.contains(scheme))
            .ok_or_else(|| {
                let wanted: Vec<String> = schemes.iter().map(|s| format!("{s}://")).collect();
                Fault::new(format!("must start with {}", wanted.join(" or ")))
            })?;
        if rest.contains('#') {
            return Err(Fault::new("must not hold a fragment (#…)"));
        }
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(authority_end);
        if authority.contains('@') {
            return Err(Fault::new("must not hold a user name or password")
                .hint("credentials have keys of their own"));
        }
        let (host, port) =
            split_authority(authority).ok_or_else(|| Fault::new("has no valid host"))?;
        let path = tail.split('?').next().unwrap_or(tail);
        Ok(Self {
            scheme,
            host,
            port,
            path,
            path_start: text.len() - tail.len(),
            has_query: tail.contains('?'),
        })
    }

    /// Scheme, host and port as they were typed: what of an address may be shown where the rest is a secret.
    pub(super) fn origin(text: &'a str) -> &'a str {
        let end = Self::split(text).map_or(0, |parts| parts.path_start);
        text.get(..end).unwrap_or_default()
    }

    pub(super) fn refuse_query(&self) -> Result<(), Fault> {
        if self.has_query {
            return Err(Fault::new("must not hold a query (?…)"));
        }
        Ok(())
    }

    /// Plain HTTP stays on this machine.
    pub(super) fn refuse_plain_http(&self) -> Result<(), Fault> {
        if self.scheme == "http" && !is_loopback(self.host) {
            return Err(Fault::new("must start with https://")
                .hint("http:// is allowed for localhost, 127.0.0.1 and [::1] only"));
        }
        Ok(())
    }
}

/// Host (without the brackets of an IPv6 address) and port.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, tail) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match tail.strip_prefix(':') {
            Some(port) => Some((host, Some(parse_port(port)?))),
            None => tail.is_empty().then_some((host, None)),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(parse_port(port)?)),
        None => (authority, None),
    };
    is_host(host).then_some((host, port))
}

fn parse_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port != 0)
}

/// Whether the text can be the name of a host or an IPv4 address.
pub(super) fn is_host(text: &str) -> bool {
    text.len() <= 253
        && text
            .strip_suffix('.')
            .unwrap_or(text)
            .split('.')
            .all(|label| {
                (1..=63).contains(&label.len())
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            })
}

/// Whether the host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_kept_as_typed_but_for_one_slash() {
        for (typed, kept, prefix) in [
            ("https://calls.example.com", "https://calls.example.com", ""),
            (
                "https://Calls.Example.com/",
                "https://Calls.Example.com",
                "",
            ),
            (
                "https://calls.example.com:8443/sb/",
                "https://calls.example.com:8443/sb",
                "/sb",
            ),
            (
                "https://calls.example.com/a/b",
                "https://calls.example.com/a/b",
                "/a/b",
            ),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", ""),
            ("http://[::1]:8080/", "http://[::1]:8080", ""),
            ("http://localhost/x", "http://localhost/x", "/x"),
        ] {
            let url = PublicUrl::parse(typed, false).unwrap();
            assert_eq!((url.as_str(), url.path_prefix()), (kept, prefix), "{typed}");
        }
        assert_eq!(
            PublicUrl::parse("https://Calls.example.com:1/x", false)
                .unwrap()
                .host(),
            "Calls.example.com"
        );
    }

    #[test]
    fn urls_that_cannot_be_meant_are_refused_without_repeating_them() {
        for (typed, message) in [
            ("calls.example.com", "must start with https:// or http://"),
            (
                "ftp://calls.example.com",
                "must start with https:// or http://",
            ),
            (
                "HTTPS://calls.example.com",
                "must start with https:// or http://",
            ),
            ("http://calls.example.com", "must start with https://"),
            ("http://127.0.0.1.example.com", "must start with https://"),
            ("https://", "has no valid host"),
            ("https:///path", "has no valid host"),
            ("https://host:0", "has no valid host"),
            ("https://host:99999", "has no valid host"),
            ("https://host:+1", "has no valid host"),
            ("https://a..b", "has no valid host"),
            ("https://[::1", "has no valid host"),
            (
                "https://ops:marker@host",
                "must not hold a user name or password",
            ),
            ("https://host/?a=b", "must not hold a query (?…)"),
            ("https://host/#top", "must not hold a fragment (#…)"),
            (
                "https://ho st",
                "must be a URL of plain ASCII letters without blanks",
            ),
            (
                "https://bücher.example",
                "must be a URL of plain ASCII letters without blanks",
            ),
        ] {
            let fault = PublicUrl::parse(typed, false).unwrap_err();
            assert_eq!(fault.message, message, "{typed}");
            assert!(!format!("{fault:?}").contains("marker"));
        }
        assert!(PublicUrl::parse("http://calls.example.com", true).is_ok());
    }
}

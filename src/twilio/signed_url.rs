//! The URLs that Twilio may have signed for one request.
//!
//! Twilio signs the URL as it is configured, but has over the years dropped, kept and added the port, and escapes a few characters of the
//! query differently from what it sends. So each request has a handful of candidates. They are pieced together from the configured base and
//! the raw request target; no URL library touches them, because every one of them normalises something.

use std::borrow::Cow;

/// The configured public URL, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SignedBase {
    /// As typed, with its `://`.
    pub(super) scheme: String,
    /// As typed, in brackets where it is an IPv6 address; without userinfo, which Twilio never signs.
    pub(super) host: String,
    pub(super) port: Option<String>,
    /// Starts with a slash, or is empty.
    pub(super) prefix: String,
}

impl SignedBase {
    /// Takes `https://host[:port][/prefix]` apart. `None` where there is no scheme or no host.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let url = url.split(['#', '?']).next().unwrap_or(url);
        let scheme_len = url.find("://")? + 3;
        let (scheme, rest) = url.split_at_checked(scheme_len)?;
        let known = [HTTPS, HTTP].iter().any(|k| scheme.eq_ignore_ascii_case(k));
        let (authority, prefix) = match rest.find('/') {
            Some(slash) => rest.split_at_checked(slash)?,
            None => (rest, ""),
        };
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let (host, port) = split_port(authority);
        if !known || host.is_empty() {
            return None;
        }
        Some(Self {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            port: port.map(str::to_owned),
            prefix: prefix.strip_suffix('/').unwrap_or(prefix).to_owned(),
        })
    }

    /// The same place under another scheme.
    pub(super) fn with_scheme(&self, scheme: &str) -> Self {
        Self {
            scheme: scheme.to_owned(),
            ..self.clone()
        }
    }

    /// The same path at another host, given as `host` or `host:port`.
    pub(super) fn with_authority(&self, authority: &str) -> Self {
        let (host, port) = split_port(authority);
        Self {
            host: host.to_owned(),
            port: port.map(str::to_owned),
            ..self.clone()
        }
    }

    /// Host and port as configured, then the other way round: without the port, or with the scheme's own.
    fn authorities(&self) -> [String; 2] {
        let port = match &self.port {
            Some(port) => port,
            None if self.scheme.eq_ignore_ascii_case(HTTP) => "80",
            None => "443",
        };
        let (bare, full) = (self.host.clone(), format!("{}:{port}", self.host));
        match self.port {
            Some(_) => [full, bare],
            None => [bare, full],
        }
    }

    /// Every URL that may have been signed for a request target, most likely first, each once.
    pub(super) fn candidates(&self, target: &str) -> impl Iterator<Item = String> {
        let (path, query) = split_query(target);
        let authorities = self.authorities();
        query_spellings(query).flat_map(move |query| {
            let authorities = authorities.clone();
            self.prefixes(path).flat_map(move |prefix| {
                let (scheme, query) = (&self.scheme, query.clone());
                let url = move |authority| format!("{scheme}{authority}{prefix}{path}{query}");
                authorities.clone().into_iter().map(url)
            })
        })
    }

    /// The prefixes that may stand before the path as received. Behind a proxy that strips the prefix it has to be put back; a path that
    /// still carries it is complete.
    fn prefixes(&self, path: &str) -> impl Iterator<Item = &str> {
        let carries = !self.prefix.is_empty()
            && path
                .strip_prefix(&self.prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        carries.then_some("").into_iter().chain([&*self.prefix])
    }
}

/// The scheme of a URL that needs a certificate.
pub(super) const HTTPS: &str = "https://";
/// The scheme of a URL that does not.
pub(super) const HTTP: &str = "http://";

/// Splits a request target into its path and its query, the query with its `?`. A fragment is never sent; if one is, it is not signed.
pub(super) fn split_query(target: &str) -> (&str, &str) {
    let target = target.split('#').next().unwrap_or(target);
    match target.find('?').and_then(|at| target.split_at_checked(at)) {
        Some(parts) => parts,
        None => (target, ""),
    }
}

/// The query as received; with its apostrophes escaped; with `'`, `@` and `:` unescaped; in another order. All but the first only where they
/// differ.
fn query_spellings(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let escaped = query.contains('\'').then(|| query.replace('\'', "%27"));
    let unescaped = unescape_three(query);
    std::iter::once(Cow::Borrowed(query))
        .chain(escaped.map(Cow::Owned))
        .chain(unescaped.map(Cow::Owned))
        .chain(other_orders(query).into_iter().map(Cow::Owned))
}

/// What we write into the queries of our own URLs, each once, whose order Twilio may change on the way: it has been seen to send them sorted
/// by name and to have signed them as they were written.
const OURS: [&str; 5] = ["dialer", "n", "o", "p", "step"];

/// A query of ours sorted by name, as we write it, and the other way round.
fn other_orders(query: &str) -> Vec<String> {
    let Some(pairs) = query.strip_prefix('?') else {
        return Vec::new();
    };
    let mut pairs: Vec<&str> = pairs.split('&').take(OURS.len() + 1).collect();
    let name = |pair: &str| {
        pair.split('=')
            .next()
            .and_then(|name| OURS.iter().position(|ours| *ours == name))
    };
    let are_ours = pairs.len() > 1 && pairs.iter().all(|pair| name(pair).is_some());
    pairs.sort_unstable();
    let are_unique = !pairs
        .windows(2)
        .any(|two| matches!(two, [one, next] if name(one) == name(next)));
    if !(are_ours && are_unique) {
        return Vec::new();
    }
    let ascending = format!("?{}", pairs.join("&"));
    pairs.reverse();
    let descending = format!("?{}", pairs.join("&"));
    [ascending, descending]
        .into_iter()
        .filter(|other| other != query)
        .collect()
}

fn unescape_three(query: &str) -> Option<String> {
    let mut parts = query.split('%');
    let mut unescaped = parts.next()?.to_owned();
    let mut changed = false;
    for part in parts {
        let known = part.split_at_checked(2).and_then(|(escape, rest)| {
            let raw = match escape {
                "27" => '\'',
                "40" => '@',
                "3A" | "3a" => ':',
                _ => return None,
            };
            Some((raw, rest))
        });
        if let Some((raw, rest)) = known {
            changed = true;
            unescaped.push(raw);
            unescaped.push_str(rest);
        } else {
            unescaped.push('%');
            unescaped.push_str(part);
        }
    }
    changed.then_some(unescaped)
}

/// Splits the port off. The colons of an IPv6 address are inside brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, (!port.is_empty()).then_some(port))
        }
        Some(_) | None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(public_url: &str, target: &str) -> Vec<String> {
        let base = SignedBase::parse(public_url).unwrap();
        base.candidates(target).collect()
    }

    #[test]
    fn the_configured_url_comes_first_and_every_candidate_once() {
        let cases: [(&str, &str, &[&str]); 11] = [
            (
                "https://a.example",
                "/w",
                &["https://a.example/w", "https://a.example:443/w"],
            ),
            (
                "http://a.example",
                "/w",
                &["http://a.example/w", "http://a.example:80/w"],
            ),
            (
                "https://A.Example:8443/",
                "/w?b=1&a=2+3",
                &[
                    "https://A.Example:8443/w?b=1&a=2+3",
                    "https://A.Example/w?b=1&a=2+3",
                ],
            ),
            (
                "https://a.example:443",
                "//w/?x=%2B",
                &[
                    "https://a.example:443//w/?x=%2B",
                    "https://a.example//w/?x=%2B",
                ],
            ),
            (
                "https://user:pass@a.example/#rc=2",
                "/w",
                &["https://a.example/w", "https://a.example:443/w"],
            ),
            (
                "https://[2001:db8::1]",
                "/w",
                &["https://[2001:db8::1]/w", "https://[2001:db8::1]:443/w"],
            ),
            (
                "https://[2001:db8::1]:8443",
                "/w",
                &["https://[2001:db8::1]:8443/w", "https://[2001:db8::1]/w"],
            ),
            (
                "https://a.example/sb",
                "/w?x=1",
                &[
                    "https://a.example/sb/w?x=1",
                    "https://a.example:443/sb/w?x=1",
                ],
            ),
            (
                "https://a.example/sb",
                "/sb/w",
                &[
                    "https://a.example/sb/w",
                    "https://a.example:443/sb/w",
                    "https://a.example/sb/sb/w",
                    "https://a.example:443/sb/sb/w",
                ],
            ),
            (
                "https://a.example/sb",
                "/sbx/w",
                &[
                    "https://a.example/sb/sbx/w",
                    "https://a.example:443/sb/sbx/w",
                ],
            ),
            (
                "https://a.example",
                "/w'?c=It's%27&f=sip%3aa%40b%2B%",
                &[
                    "https://a.example/w'?c=It's%27&f=sip%3aa%40b%2B%",
                    "https://a.example:443/w'?c=It's%27&f=sip%3aa%40b%2B%",
                    "https://a.example/w'?c=It%27s%27&f=sip%3aa%40b%2B%",
                    "https://a.example:443/w'?c=It%27s%27&f=sip%3aa%40b%2B%",
                    "https://a.example/w'?c=It's'&f=sip:a@b%2B%",
                    "https://a.example:443/w'?c=It's'&f=sip:a@b%2B%",
                ],
            ),
        ];
        for (public_url, target, expected) in cases {
            assert_eq!(urls(public_url, target), expected, "{public_url} {target}");
        }
    }

    #[test]
    fn a_query_of_ours_is_tried_in_every_order_in_which_we_write_it_and_no_other() {
        let orders = |query: &str| {
            let target = format!("/w{query}");
            let bare = |url: String| url.strip_prefix("https://a.example/w").map(str::to_owned);
            let urls = urls("https://a.example", &target);
            urls.into_iter().filter_map(bare).collect::<Vec<_>>()
        };
        let (ascending, descending) = ("?dialer=a&step=1", "?step=1&dialer=a");
        assert_eq!(orders(ascending), [ascending, descending]);
        assert_eq!(orders(descending), [descending, ascending]);
        let mixed = "?n=1&step=2&dialer=a";
        assert_eq!(
            orders(mixed),
            [mixed, "?dialer=a&n=1&step=2", "?step=2&n=1&dialer=a"]
        );
        for other in [
            "?step=1",
            "?n=3",
            "?step=1&other=2",
            "?step=1&step=2",
            "?step=1&dialer=a&step=1",
            "?step=1&&dialer=a",
            "?CallSid=1&AccountSid=2",
            "?b=1&a=2",
        ] {
            assert_eq!(orders(other), [other]);
        }
    }

    #[test]
    fn what_is_no_http_url_is_refused() {
        for url in [
            "",
            "a.example",
            "https://",
            "https:///w",
            "https://user@",
            "ftp://a.example",
            "://a",
        ] {
            assert_eq!(SignedBase::parse(url), None, "{url}");
        }
        assert_eq!(
            SignedBase::parse("HTTPS://a.example").unwrap().scheme,
            "HTTPS://"
        );
    }
}

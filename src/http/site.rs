//! How browsers reach us: by the address that the world is told, whatever hop a request came over last.

use axum::http::HeaderMap;

/// The public address, as browsers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Scheme, host and port as a browser sends them in `Origin`: in lower case, without the port of the scheme.
    pub origin: String,
    /// Whether browsers speak TLS, to us or to a proxy in front of us.
    pub is_secure: bool,
    /// What every path of ours begins with outside, like `/calls`, where a proxy takes that away; empty else.
    pub base: String,
}

impl Site {
    /// A path of ours, as a browser has to ask for it.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Whether a request that changes something comes from our own pages: browsers say where from. `None` where nothing is said.
    ///
    /// A proxy may have written its own host into `Host`, so what counts is the public address; and the host that was asked, for who comes to
    /// the listener itself.
    pub(super) fn is_own(&self, headers: &HeaderMap) -> Option<bool> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(site) = text("sec-fetch-site") {
            return Some(site == "same-origin");
        }
        let origin = text("origin")?;
        if origin.eq_ignore_ascii_case(&self.origin) {
            return Some(true);
        }
        let host = text("host")?;
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        Some(authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_address_and_the_listener_are_ours_and_nothing_else_is() {
        let site = Site {
            origin: "https://calls.example.com".to_owned(),
            ..Site::default()
        };
        let own = |given: &[(&'static str, &str)]| {
            let given = given
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            site.is_own(&given.collect())
        };
        let inner = ("host", "127.0.0.1:8080");
        for ours in [
            &[("sec-fetch-site", "same-origin")][..],
            &[("origin", "https://calls.example.com"), inner],
            &[("origin", "https://calls.example.com")],
            &[("origin", "http://127.0.0.1:8080"), inner],
        ] {
            assert_eq!(own(ours), Some(true), "{ours:?}");
        }
        for foreign in [
            &[
                ("sec-fetch-site", "same-site"),
                ("origin", "https://calls.example.com"),
            ][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://calls.example.com"), inner],
            &[("origin", "https://calls.example.com.evil.example"), inner],
            &[("origin", "https://calls.example.com:8443"), inner],
            &[("origin", "null"), inner],
            &[
                ("origin", "https://evil.example"),
                ("host", "calls.example.com"),
            ],
        ] {
            assert_eq!(own(foreign), Some(false), "{foreign:?}");
        }
        assert_eq!(own(&[inner]), None);
    }
}

//! `X-Twilio-Signature`, written from Twilio's description and sharing nothing with the code that verifies it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// The signature of a form POST to `url`: the URL as it is signed, then every field in the order of the names.
pub(super) fn sign(token: &str, url: &str, fields: &[(String, String)]) -> String {
    let mut message = signed_url(url);
    // One name with several values: each distinct value once, in order, each with the name before it.
    let mut sorted: BTreeMap<&[u8], BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in fields {
        sorted.entry(name.as_bytes()).or_default().insert(value);
    }
    for (name, values) in sorted {
        for value in values {
            message.push_str(&String::from_utf8_lossy(name));
            message.push_str(value);
        }
    }
    hmac_sha1_base64(token.as_bytes(), message.as_bytes())
}

/// The URL as voice webhooks sign it: no fragment, no user and password, and over HTTPS no port.
pub(super) fn signed_url(url: &str) -> String {
    let url = without_fragment(url);
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = if scheme.eq_ignore_ascii_case("https") {
        without_port(host)
    } else {
        host
    };
    format!("{scheme}://{host}{path}")
}

pub(super) fn without_fragment(url: &str) -> &str {
    url.split_once('#').map_or(url, |(url, _)| url)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn hmac_sha1_base64(key: &[u8], message: &[u8]) -> String {
    // HMAC takes a key of any length.
    Hmac::<Sha1>::new_from_slice(key).map_or_else(
        |_| String::new(),
        |mut mac| {
            mac.update(message);
            STANDARD.encode(mac.finalize().into_bytes())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn fields(pairs: Pairs<'_>) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// Vectors of Twilio's own libraries, and two of this project's made with the same algorithm.
    #[test]
    fn signatures_equal_the_published_vectors() {
        let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
        let call = [
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+14158675309"),
            ("Digits", "1234"),
            ("From", "+14158675309"),
            ("To", "+18005551212"),
        ];
        let cases: [(&str, Pairs<'_>, &str); 4] = [
            (url, &call, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
            (
                "http://mycompany.com:1234/myapp.php?foo=1&bar=2",
                &call,
                "Zmvh+3yNM1Phv2jhDCwEM3q5ebU=",
            ),
            (
                url,
                &[
                    ("Sid", "CA123"),
                    ("SidAccount", "AC123"),
                    ("Digits", "5678"),
                    ("Digits", "1234"),
                    ("Digits", "1234"),
                ],
                "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
            ),
            (url, &[], "zYQTYrRWXE7LtzbG4PfP7/bkkGo="),
        ];
        for (url, pairs, expected) in cases {
            assert_eq!(sign("12345", url, &fields(pairs)), expected, "{url}");
        }
        let token = "0123456789abcdef0123456789abcdef";
        let body = "CallSid=CA00000000000000000000000000000003&AccountSid=AC00000000000000000000000000000001\
            &From=%2B266696687&To=%2B18005551212&CallStatus=ringing&Direction=inbound&ApiVersion=2010-04-01\
            &Called=%2B18005551212&Caller=%2B266696687";
        assert_eq!(
            sign(
                token,
                "https://router.example.com/twilio/voice",
                &form::decode(body)
            ),
            "sW39Z2xa0J4V283puhX+lE/Sdxk="
        );
        let body = "CallSid=CA00000000000000000000000000000001&AccountSid=AC00000000000000000000000000000001\
            &From=%2B14155550100&To=%2B18005551212&CallStatus=ringing&Direction=inbound&ApiVersion=2010-04-01\
            &ErrorCode=11200&ErrorUrl=https%3A%2F%2Frouter.example.com%2Ftwilio%2Fvoice";
        assert_eq!(
            sign(
                token,
                "https://router-b.example.com/twilio/fallback",
                &form::decode(body)
            ),
            "FJiR2pyMlTMg9bf+LRyRdkNS930="
        );
    }

    #[test]
    fn the_signed_url_loses_fragment_user_and_https_port_and_nothing_else() {
        for (url, signed) in [
            (
                "https://a.example:8443/x?y=1#rc=2",
                "https://a.example/x?y=1",
            ),
            ("http://a.example:8080/x", "http://a.example:8080/x"),
            ("https://u:p@MyHost.example/x", "https://MyHost.example/x"),
            ("https://[2001:db8::1]:443/x", "https://[2001:db8::1]/x"),
            ("https://a.example?q=a@b:1", "https://a.example?q=a@b:1"),
        ] {
            assert_eq!(signed_url(url), signed);
        }
    }
}

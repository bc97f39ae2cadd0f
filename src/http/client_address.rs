//! Who is on the other end: the address of the client, through the proxies we were told to believe.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address a request came from.
///
/// `X-Forwarded-For` is written by anybody; only the entries that a trusted proxy appended mean something. So it is
/// read from the right, and only while the hop that wrote the next entry is trusted: the answer is the rightmost hop
/// that is not one of ours. A hop that cannot be read ends the walk at the last one that could.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> IpAddr {
    let mut hop = peer.to_canonical();
    let lines: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .map(|line| line.to_str().unwrap_or(""))
        .collect();
    let entries = lines.iter().rev().flat_map(|line| line.rsplit(','));
    for entry in entries {
        if !is_in(hop, trusted_proxies) {
            break;
        }
        let Some(address) = parse_hop(entry.trim()) else {
            break;
        };
        hop = address;
    }
    hop
}

/// Whether one of the networks holds the address; an IPv4 address written as IPv6 is the IPv4 address.
pub(crate) fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// An address as proxies write it: bare, with a port, in brackets.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let in_brackets = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<IpAddr>().ok()
    };
    bare()
        .or_else(with_port)
        .or_else(in_brackets)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(peer: &str, forwarded: &[&str], expected: &str) {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"]
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let found = client_address(peer.parse().unwrap(), &headers, &trusted);
        assert_eq!(found, expected.parse::<IpAddr>().unwrap(), "{forwarded:?}");
    }

    #[test]
    fn the_header_is_believed_only_from_a_trusted_peer() {
        check("203.0.113.9", &[], "203.0.113.9");
        check("203.0.113.9", &["198.51.100.1"], "203.0.113.9");
        check("10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("10.0.0.1", &[], "10.0.0.1");
    }

    #[test]
    fn what_the_client_wrote_before_the_proxy_is_not_believed() {
        check("10.0.0.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1");
        check("10.0.0.1", &["10.0.0.7, 198.51.100.1"], "198.51.100.1");
        check("10.0.0.1", &["1.1.1.1", "198.51.100.1"], "198.51.100.1");
    }

    #[test]
    fn a_chain_of_trusted_proxies_is_walked_to_its_end() {
        check(
            "10.0.0.1",
            &["198.51.100.1, 10.2.2.2, fd00::7"],
            "198.51.100.1",
        );
        check(
            "10.0.0.1",
            &["198.51.100.1", "10.2.2.2,10.3.3.3"],
            "198.51.100.1",
        );
        check("10.0.0.1", &["10.3.3.3"], "10.3.3.3");
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_understood() {
        check("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1");
        check("10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1");
        check("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1");
        check("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1");
    }

    #[test]
    fn an_unreadable_hop_ends_the_walk() {
        check("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1");
        check("10.0.0.1", &["unknown, 10.2.2.2"], "10.2.2.2");
        check("10.0.0.1", &["198.51.100.1,"], "10.0.0.1");
        check("10.0.0.1", &["\u{e9}"], "10.0.0.1");
    }
}

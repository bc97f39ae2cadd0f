//! Who is on the other end: the address of the client, through the proxies we were told to believe.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address a request came from.
///
/// `X-Forwarded-For` is written by anybody; only the entries that a trusted proxy appended mean something. So it is
/// read from the right, and only while the hop that wrote the next entry is trusted: the answer is the rightmost hop
/// that is not one of ours. `None` where that hop cannot be read: who is unknown is neither a proxy nor on this machine.
/// Nor is a hop that another machine calls its loopback.
pub fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted_proxies: &[IpNet],
) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    let mut hop = peer;
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    for entry in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
        if !is_in(hop, trusted_proxies) {
            break;
        }
        hop = parse_hop(entry.trim_ascii())?;
        if hop.is_loopback() && !peer.is_loopback() {
            return None;
        }
    }
    Some(hop)
}

/// Whether one of the networks holds the address; an IPv4 address written as IPv6 is the IPv4 address.
pub(crate) fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// An address as proxies write it: bare, with a port, in brackets.
fn parse_hop(bytes: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(bytes).ok()?;
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
    use axum::http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(peer: &str, forwarded: &[&str], expected: &str) {
        let lines: Vec<&[u8]> = forwarded.iter().map(|line| line.as_bytes()).collect();
        let found = found(peer, &lines);
        let expected: Option<IpAddr> = (expected != "unknown").then(|| expected.parse().unwrap());
        assert_eq!(found, expected, "{forwarded:?}");
    }

    fn found(peer: &str, forwarded: &[&[u8]]) -> Option<IpAddr> {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8", "127.0.0.0/8"]
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line).unwrap());
        }
        client_address(peer.parse().unwrap(), &headers, &trusted)
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
    fn an_unreadable_hop_is_unknown() {
        check("10.0.0.1", &["198.51.100.1, unknown"], "unknown");
        check("10.0.0.1", &["unknown, 10.2.2.2"], "unknown");
        check("10.0.0.1", &["198.51.100.1,"], "unknown");
        check("10.0.0.1", &[""], "unknown");
        check("10.0.0.1", &["\u{e9}"], "unknown");
        check("127.0.0.1", &["_hidden"], "unknown");
        check("203.0.113.9", &["\u{e9}"], "203.0.113.9");
        for peer in ["10.0.0.1", "127.0.0.1"] {
            assert_eq!(found(peer, &[b"\xff"]), None);
            assert_eq!(found(peer, &[b"198.51.100.1", b"\xff"]), None);
            assert_eq!(found(peer, &[b"198.51.100.1\xff"]), None);
        }
        // What the client wrote may be unreadable; the proxy has written behind it.
        let behind = found("127.0.0.1", &[b"\xff, 198.51.100.1"]);
        assert_eq!(behind, "198.51.100.1".parse().ok());
        let line_of_its_own = found("127.0.0.1", &[b"\xff", b"198.51.100.1"]);
        assert_eq!(line_of_its_own, "198.51.100.1".parse().ok());
    }

    #[test]
    fn the_loopback_of_another_machine_is_not_this_one() {
        check("10.0.0.1", &["127.0.0.1"], "unknown");
        check("10.0.0.1", &["::1"], "unknown");
        check("10.0.0.1", &["::ffff:127.0.0.1"], "unknown");
        check("10.0.0.1", &["127.0.0.1, 10.2.2.2"], "unknown");
        check("127.0.0.1", &["127.0.0.1"], "127.0.0.1");
    }
}

//! How much, and for how long, the other side may keep us waiting.

use std::time::Duration;

use ipnet::IpNet;

/// The limits of a listener; the time of each wait is bounded.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections in all; one more waits a moment for somebody to leave, and is closed. 10,000 idle ones take about 42 MiB. Lowered to what the limit of
    /// open files allows.
    pub connections: usize,
    /// Connections of one IPv4 address or one IPv6 /64, which is what one customer of a provider has.
    pub connections_per_address: usize,
    /// Networks whose connections are not counted per address: this machine, and the proxies in front of us.
    pub uncapped: Vec<IpNet>,
    /// From this share of `connections` on, waiting clients get the `_when_crowded` times, and those who come are closed unless they ask for
    /// something below `/webhooks/`.
    pub crowded_at_percent: usize,
    /// For a whole TLS handshake; when crowded, it and the head together have `head_when_crowded`.
    pub handshake: Duration,
    /// For a whole request head; on a new connection from its start, later from the first byte.
    pub head: Duration,
    /// The same when crowded or draining: Twilio sends its head in one piece, so a second is plenty.
    pub head_when_crowded: Duration,
    /// For the next request to begin on a connection that has been answered. Twilio keeps connections open.
    pub idle: Duration,
    pub idle_when_crowded: Duration,
    /// For a whole request body, from the end of the head: a webhook has 2 s in all.
    pub body: Duration,
    /// For taking a whole answer, from the first byte that has to wait, beside what its size gives; of an answer without an end, for taking all
    /// that there is to tell.
    pub answer: Duration,
    /// So many bytes of an answer give one second more.
    pub answer_bytes_a_second: u64,
    /// The same when crowded, whatever its size.
    pub answer_when_crowded: Duration,
    /// Size of a request head, and of the connection's buffer; hyper takes no less than 8 KiB.
    pub head_bytes: usize,
    /// Header lines of a request.
    pub headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 256,
            uncapped: vec![
                IpNet::V4(ipnet::Ipv4Net::new_assert([127, 0, 0, 0].into(), 8)),
                IpNet::V6(ipnet::Ipv6Net::new_assert(
                    std::net::Ipv6Addr::LOCALHOST,
                    128,
                )),
            ],
            crowded_at_percent: 80,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(5),
            head_when_crowded: Duration::from_secs(1),
            idle: Duration::from_secs(30),
            idle_when_crowded: Duration::from_secs(1),
            body: Duration::from_secs(2),
            answer: Duration::from_secs(30),
            answer_bytes_a_second: 64 * 1024,
            answer_when_crowded: Duration::from_secs(1),
            head_bytes: 16 * 1024,
            headers: 64,
        }
    }
}

/// Descriptors that connections of strangers must leave for the rest: the store, the log, the calls we make ourselves.
const RESERVE: usize = 32;

/// How many connections fit the descriptors of this process: three quarters of them, less than that if the reserve needs it.
///
/// A cap above the descriptor limit is no cap: the store, the log and the calls to dialers would be the ones to find no
/// descriptor left, and the listener would never think itself crowded.
pub(super) fn fitting(connections: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match open_files(&limits) {
        Some(limit) => connections.min(share_of(limit)),
        None => connections,
    }
}

fn share_of(limit: usize) -> usize {
    (limit / 4 * 3).min(limit.saturating_sub(RESERVE)).max(1)
}

/// The soft limit of open files, if there is one.
fn open_files(limits: &str) -> Option<usize> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read_where_there_is_one() {
        let limits = |soft: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max processes             63432                63432                processes\n\
                 Max open files            {soft}                 524288               files\n"
            )
        };
        assert_eq!(open_files(&limits("1024")), Some(1024));
        assert_eq!(open_files(&limits("unlimited")), None);
        assert_eq!(open_files(""), None);
    }

    #[test]
    fn a_reserve_is_kept_however_low_the_limit_is() {
        assert_eq!(share_of(20_000), 15_000);
        assert_eq!(share_of(1_024), 768);
        assert_eq!(share_of(64), 32);
        assert_eq!(share_of(16), 1);
    }

    #[test]
    fn the_cap_is_never_raised() {
        assert_eq!(fitting(1), 1);
    }
}

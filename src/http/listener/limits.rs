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

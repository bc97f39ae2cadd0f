//! Who may connect: so many in all, so many per address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::limits::Limits;
use crate::http::client_address::is_in;

pub(super) struct ConnectionAdmission {
    connections: usize,
    per_address: usize,
    crowded_from: usize,
    uncapped: Vec<IpNet>,
    open: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    crowded: Notify,
    left: Notify,
    gauge: metrics::Gauge,
    refused_in_all: metrics::Counter,
    refused_per_address: metrics::Counter,
}

/// The place of one connection, given back when dropped.
pub(super) struct Admitted {
    admission: Arc<ConnectionAdmission>,
    counted_as: Option<IpAddr>,
    /// Whether its place is one of those from which on it is crowded.
    came_late: bool,
}

impl ConnectionAdmission {
    pub(super) fn new(limits: &Limits) -> Self {
        let refused =
            |reason| metrics::counter!("switchboard_connections_refused_total", "reason" => reason);
        Self {
            connections: limits.connections,
            per_address: limits.connections_per_address,
            crowded_from: limits.connections * limits.crowded_at_percent / 100,
            uncapped: limits.uncapped.clone(),
            open: AtomicUsize::new(0),
            by_address: Mutex::default(),
            crowded: Notify::new(),
            left: Notify::new(),
            gauge: metrics::gauge!("switchboard_connections"),
            refused_in_all: refused("total"),
            refused_per_address: refused("address"),
        }
    }

    /// Waits until somebody leaves where all places are taken, at most so long: the last ones are taken for a moment only.
    pub(super) async fn room(&self, patience: Duration) {
        let room = async {
            while self.open.load(Relaxed) >= self.connections {
                self.left.notified().await;
            }
        };
        // In vain; then the newcomer is refused.
        drop(tokio::time::timeout(patience, room).await);
    }

    /// A place for one more connection, unless there is none.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Admitted> {
        if self.open.load(Relaxed) >= self.connections {
            self.refused_in_all.increment(1);
            return None;
        }
        let counted_as = if is_in(peer, &self.uncapped) {
            None
        } else {
            let customer = customer(peer);
            let mut by_address = self.by_address();
            let open = by_address.entry(customer).or_default();
            if *open >= self.per_address {
                self.refused_per_address.increment(1);
                return None;
            }
            *open += 1;
            Some(customer)
        };
        let open = self.open.fetch_add(1, Relaxed) + 1;
        self.gauge.increment(1.0);
        if open == self.crowded_from {
            self.crowded.notify_waiters();
        }
        Some(Admitted {
            admission: self.clone(),
            counted_as,
            came_late: open > self.crowded_from,
        })
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admitted {
    /// Whether waiting clients must hurry.
    pub(super) fn is_crowded(&self) -> bool {
        self.admission.open.load(Relaxed) >= self.admission.crowded_from
    }

    /// Whether it has one of the last places, which are kept for calls as long as it is crowded.
    pub(super) fn is_for_webhooks(&self) -> bool {
        self.came_late && self.is_crowded()
    }

    /// Resolves when it becomes crowded.
    pub(super) fn crowded(&self) -> Notified<'_> {
        self.admission.crowded.notified()
    }

    /// Resolves as soon as it is crowded.
    pub(super) async fn until_crowded(&self) {
        loop {
            let crowded = self.crowded();
            if self.is_crowded() {
                return;
            }
            crowded.await;
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Relaxed);
        self.admission.left.notify_one();
        self.admission.gauge.decrement(1.0);
        if let Some(customer) = self.counted_as {
            let mut by_address = self.admission.by_address();
            if let Some(open) = by_address.get_mut(&customer) {
                *open -= 1;
                if *open == 0 {
                    by_address.remove(&customer);
                }
            }
        }
    }
}

/// What counts as one address: one customer of a provider has one IPv4 address, or a /64 of IPv6 at the least.
fn customer(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, per_address: usize) -> Arc<ConnectionAdmission> {
        Arc::new(ConnectionAdmission::new(&Limits {
            connections,
            connections_per_address: per_address,
            ..Limits::default()
        }))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_gets_its_share_and_gets_it_back() {
        let admission = admission(10, 2);
        let first = admission.admit(ip("192.0.2.1")).unwrap();
        let _second = admission.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert!(admission.admit(ip("192.0.2.1")).is_none());
        assert!(admission.admit(ip("192.0.2.2")).is_some());
        drop(first);
        assert!(admission.admit(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn the_table_of_addresses_is_empty_when_all_have_left() {
        let admission = admission(10, 2);
        drop(admission.admit(ip("192.0.2.1")));
        assert!(admission.by_address().is_empty());
        assert_eq!(admission.open.load(Relaxed), 0);
    }

    #[test]
    fn a_whole_ipv6_network_of_one_customer_counts_as_one() {
        let admission = admission(10, 1);
        let _first = admission.admit(ip("2001:db8:0:1::1")).unwrap();
        assert!(admission.admit(ip("2001:db8:0:1:ffff::2")).is_none());
        assert!(admission.admit(ip("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn this_machine_is_bounded_only_by_the_total() {
        let admission = admission(3, 1);
        let places: Vec<_> = (0..3).map(|_| admission.admit(ip("127.0.0.1"))).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(admission.admit(ip("192.0.2.1")).is_none());
    }

    #[test]
    fn it_is_crowded_from_four_fifths_on() {
        let admission = admission(5, 5);
        let places: Vec<_> = (0..3).map(|_| admission.admit(ip("127.0.0.1"))).collect();
        assert!(!places[0].as_ref().unwrap().is_crowded());
        let fourth = admission.admit(ip("127.0.0.1")).unwrap();
        assert!(fourth.is_crowded());
    }

    #[test]
    fn the_last_fifth_is_kept_for_webhooks_as_long_as_it_is_crowded() {
        let admission = admission(5, 5);
        let mut places: Vec<_> = (0..5)
            .filter_map(|_| admission.admit(ip("127.0.0.1")))
            .collect();
        let kept: Vec<bool> = places.iter().map(Admitted::is_for_webhooks).collect();
        assert_eq!(kept, [false, false, false, false, true]);
        places.drain(..2);
        assert!(!places.last().unwrap().is_for_webhooks());
    }
}

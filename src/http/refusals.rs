//! Who was refused: counted at once, and written down so that nobody can fill the log by being refused.
//!
//! A network leaves one record when it is refused, and then one a minute that sums up what came since. Networks beyond [`MOST`] in the same
//! minute are summed up together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::response::Response;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::audit::{Access, Event, Record};
use crate::clock::Clock;
use crate::flow::Recorder;
use crate::lifecycle::Lifecycle;

/// What is summed up in one record.
const SUMMED: Duration = Duration::from_mins(1);
/// How often is looked for what is to be summed up.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Networks that have records of their own in the same minute.
const MOST: usize = 64;
/// Stands for the networks that have no record of their own.
const OTHERS: &str = "other networks";
/// Names of keys that stand in one record.
const MOST_KEYS: usize = 10;

/// What one customer of a provider has at the most, usually: an IPv4 /24 or an IPv6 /48.
pub(super) fn network(source: IpAddr) -> IpNet {
    match source.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), 24))
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> 80 << 80;
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), 48))
        }
    }
}

/// Why somebody was refused; travels with the answer to where the source is known.
#[derive(Clone, Debug)]
pub(super) struct RefusedRequest {
    /// The stable name of the reason.
    pub(super) reason: &'static str,
    /// The key, where one is known and may not do what was asked.
    pub(super) key: Option<Arc<str>>,
}

impl RefusedRequest {
    pub(super) fn because(reason: &'static str) -> Self {
        Self { reason, key: None }
    }

    /// Lets the answer say so.
    pub(super) fn mark(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}

/// Counts who was refused. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RefusalLog(Arc<RefusalsState>);

#[derive(Debug)]
struct RefusalsState {
    clock: Clock,
    recorder: Recorder,
    counts: Mutex<RefusalCounts>,
}

#[derive(Debug, Default)]
struct RefusalCounts {
    networks: HashMap<IpNet, Sum>,
    others: Option<Sum>,
}

/// What a network came to since its last record.
#[derive(Debug)]
struct Sum {
    told_at: Instant,
    /// The only source so far.
    source: Option<IpAddr>,
    times: u64,
    reasons: BTreeMap<String, u64>,
    keys: BTreeSet<String>,
}

impl Sum {
    fn new(told_at: Instant) -> Self {
        Self {
            told_at,
            source: None,
            times: 0,
            reasons: BTreeMap::new(),
            keys: BTreeSet::new(),
        }
    }

    fn add(&mut self, source: IpAddr, refused: &RefusedRequest) {
        let is_only = self.times == 0 || self.source == Some(source);
        self.source = is_only.then_some(source);
        self.times += 1;
        *self.reasons.entry(refused.reason.to_owned()).or_default() += 1;
        if let Some(key) = &refused.key
            && self.keys.len() < MOST_KEYS
        {
            self.keys.insert(key.to_string());
        }
    }

    /// The record of what was summed up; from here on it begins anew.
    fn summed_up(&mut self, whence: &str, now: Instant) -> Access {
        let sum = std::mem::replace(self, Self::new(now));
        let source = sum.source.map(|source| source.to_string());
        Access::Refused {
            source: source.unwrap_or_else(|| whence.to_owned()),
            times: sum.times,
            reasons: sum.reasons,
            keys: sum.keys.into_iter().collect(),
        }
    }
}

impl RefusalCounts {
    /// Counts one; gives the record that is due with it.
    fn add(&mut self, source: IpAddr, refused: &RefusedRequest, now: Instant) -> Option<Access> {
        let source = source.to_canonical();
        let network = network(source);
        let is_known = self.networks.contains_key(&network);
        let is_own = is_known || self.networks.len() < MOST;
        let (sum, whence) = if is_own {
            let sum = self.networks.entry(network);
            (sum.or_insert_with(|| Sum::new(now)), network.to_string())
        } else {
            let sum = self.others.get_or_insert_with(|| Sum::new(now));
            (sum, OTHERS.to_owned())
        };
        sum.add(source, refused);
        let is_new = is_own && !is_known;
        let is_due = is_new || now.saturating_duration_since(sum.told_at) >= SUMMED;
        is_due.then(|| sum.summed_up(&whence, now))
    }

    /// The records that are due by time, or all that are left; forgets networks that have been quiet.
    fn due(&mut self, now: Instant, is_last: bool) -> Vec<Access> {
        let mut due = Vec::new();
        let mut stays = |sum: &mut Sum, whence: &str| {
            if !is_last && now.saturating_duration_since(sum.told_at) < SUMMED {
                return true;
            }
            let has_some = sum.times > 0;
            if has_some {
                due.push(sum.summed_up(whence, now));
            }
            has_some
        };
        self.networks
            .retain(|network, sum| stays(sum, &network.to_string()));
        if self.others.as_mut().is_some_and(|sum| !stays(sum, OTHERS)) {
            self.others = None;
        }
        due
    }
}

impl RefusalLog {
    pub fn new(clock: Clock, recorder: Recorder) -> Self {
        Self(Arc::new(RefusalsState {
            clock,
            recorder,
            counts: Mutex::default(),
        }))
    }

    /// Counts that somebody was refused; the first time in a minute it is written down at once.
    pub(super) async fn count(&self, source: IpAddr, refused: &RefusedRequest) {
        let now = self.0.clock.instant();
        let due = self.counts().add(source, refused, now);
        if let Some(access) = due {
            self.record(access).await;
        }
    }

    /// Sums up every minute what came after, until the process is asked to stop.
    pub async fn run(self, lifecycle: Lifecycle) {
        loop {
            let goes_on = lifecycle.pause(LOOK_EVERY).await;
            let due = self.counts().due(self.0.clock.instant(), !goes_on);
            for access in due {
                self.record(access).await;
            }
            if !goes_on {
                return;
            }
        }
    }

    async fn record(&self, access: Access) {
        if let Access::Refused {
            source,
            times,
            reasons,
            ..
        } = &access
        {
            let reasons: Vec<&str> = reasons.keys().map(String::as_str).collect();
            tracing::warn!(
                event = "auth.refused",
                source,
                times,
                reasons = reasons.join(" "),
                "somebody asked without the right to it"
            );
        }
        let record = Record::of_service(self.0.clock.now(), Event::Accessed(access));
        self.0.recorder.append_one(record).await;
    }

    fn counts(&self) -> MutexGuard<'_, RefusalCounts> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(access: &Access) -> (&str, u64) {
        let Access::Refused { source, times, .. } = access else {
            panic!("{access:?}");
        };
        (source, *times)
    }

    fn add(counts: &mut RefusalCounts, source: &str, now: Instant) -> Option<Access> {
        counts.add(
            source.parse().unwrap(),
            &RefusedRequest::because("unknown"),
            now,
        )
    }

    #[test]
    fn a_network_leaves_a_record_at_once_and_then_one_a_minute() {
        let mut counts = RefusalCounts::default();
        let start = Clock::system().instant();
        let first = add(&mut counts, "2001:db8:1::1", start).unwrap();
        assert_eq!(told(&first), ("2001:db8:1::1", 1));
        for n in 0..5_000 {
            let source = format!("2001:db8:1:{n:x}::1");
            assert_eq!(add(&mut counts, &source, start), None);
        }
        assert!(counts.due(start + SUMMED / 2, false).is_empty());
        let due = counts.due(start + SUMMED, false);
        let due: Vec<_> = due.iter().map(told).collect();
        assert_eq!(due, [("2001:db8:1::/48", 5_000)]);
        assert!(counts.due(start + SUMMED * 2, false).is_empty());
        assert!(counts.networks.is_empty(), "a quiet network is forgotten");
    }

    #[test]
    fn one_address_is_named_and_several_are_their_network() {
        let mut counts = RefusalCounts::default();
        let start = Clock::system().instant();
        add(&mut counts, "192.0.2.1", start);
        add(&mut counts, "192.0.2.1", start);
        add(&mut counts, "::ffff:192.0.2.1", start);
        let later = start + SUMMED;
        let summed = add(&mut counts, "192.0.2.1", later).unwrap();
        assert_eq!(told(&summed), ("192.0.2.1", 3));
        for source in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
            add(&mut counts, source, later);
        }
        let due = counts.due(later, true);
        assert_eq!(told(&due[0]), ("192.0.2.0/24", 3));
    }

    #[test]
    fn many_networks_share_one_record() {
        let mut counts = RefusalCounts::default();
        let start = Clock::system().instant();
        let mut records = 0;
        for n in 0..1_000_u32 {
            let source = format!("10.{}.{}.1", n / 250, n % 250);
            records += usize::from(add(&mut counts, &source, start).is_some());
        }
        assert_eq!(records, MOST);
        let due = counts.due(start + SUMMED, false);
        let due: Vec<_> = due.iter().map(told).collect();
        assert_eq!(due, [(OTHERS, 936)]);
    }

    #[test]
    fn the_record_names_reasons_and_known_keys() {
        let mut counts = RefusalCounts::default();
        let now = Clock::system().instant();
        let source = [192, 0, 2, 1].into();
        for _ in 0..3 {
            let refused = RefusedRequest {
                reason: "role",
                key: Some("desk".into()),
            };
            counts.add(source, &refused, now);
        }
        counts.add(source, &RefusedRequest::because("log_in"), now);
        let due = counts.due(now, true);
        let Some(Access::Refused { reasons, keys, .. }) = due.first() else {
            panic!("{due:?}");
        };
        let reasons: Vec<_> = reasons
            .iter()
            .map(|(name, n)| (name.as_str(), *n))
            .collect();
        assert_eq!(reasons, [("log_in", 1), ("role", 2)]);
        assert_eq!(keys, &["desk"]);
    }
}

//! What the verifying extractor shares: the settings that a reload replaces, and what is known of the requests it refused.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use strum::VariantArray as _;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use jiff::Timestamp;

use super::diagnose::Diagnosis;
use super::signature::Verifier;
use super::structure::Flaw;
use crate::clock::Clock;
use crate::resilience::TokenBucket;

/// So many refused requests are remembered.
const REMEMBERED: usize = 32;

/// Per reason, one refused request in this time is looked into and logged; the others are counted.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Requests with more fields than any webhook has are looked through at this rate; the first quarter of them at once.
const MANY_FIELDS_PER_MINUTE: u32 = 60;

/// What a reload may replace.
#[derive(Debug)]
pub struct EdgeSettings {
    /// Knows the public URL and the keys.
    pub verifier: Verifier,
    /// Off only where the listen address is a loopback one; the configuration sees to that.
    pub verify_signature: bool,
    /// Where webhooks may come from; empty admits every source.
    pub allowed_networks: Vec<IpNet>,
    /// The accounts whose webhooks are ours, `AC` and 32 hexadecimal digits each.
    pub accounts: Vec<String>,
}

impl EdgeSettings {
    /// Whether a request from there is looked at. Where there is a list, an unknown source is not on it.
    pub fn admits(&self, source: Option<IpAddr>) -> bool {
        self.allowed_networks.is_empty()
            || source.is_some_and(|address| {
                let address = address.to_canonical();
                self.allowed_networks.iter().any(|n| n.contains(&address))
            })
    }

    /// Whether webhooks of this account are for us.
    pub(super) fn owns(&self, account_sid: &[u8]) -> bool {
        let mut accounts = self.accounts.iter();
        accounts.any(|ours| ours.as_bytes() == account_sid)
    }
}

/// Why a webhook was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum RefusalReason {
    /// Its source is not on the list.
    Source,
    /// Its body is too large.
    TooLarge,
    /// Its body did not arrive in time.
    TimedOut,
    Broken,
    /// It has more fields than any webhook, and too many of that kind came lately to look for its signature.
    TooManyFields,
    /// Its signature is missing or wrong.
    Signature,
    /// It is signed, and about an account that is not ours.
    Account,
}

impl RefusalReason {
    const ALL: &'static [Self] = Self::VARIANTS;

    /// The stable name, as in metrics and log lines.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// A refused webhook, as far as it was looked into. Holds no value of any field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedWebhook {
    pub at: Timestamp,
    pub reason: RefusalReason,
    pub source: Option<IpAddr>,
    /// The path that was asked for, cut, without its query.
    pub path: String,
    /// For a signature: what is wrong with it.
    pub diagnosis: Option<Diagnosis>,
}

/// The state of the verifying extractor. A clone is the same state.
#[derive(Clone, Debug)]
pub struct Edge(Arc<EdgeState>);

#[derive(Debug)]
struct EdgeState {
    settings: ArcSwap<EdgeSettings>,
    clock: Clock,
    record: Mutex<EdgeRecord>,
}

#[derive(Debug, Default)]
struct EdgeRecord {
    tallies: [RefusalTally; RefusalReason::ALL.len()],
    malformed: RefusalTally,
    many_fields: Option<TokenBucket>,
    rejected: VecDeque<RefusedWebhook>,
    explained: Option<RefusedWebhook>,
}

/// Counts one reason, and says which of its events is worth a line.
#[derive(Debug, Default, Clone, Copy)]
struct RefusalTally {
    total: u64,
    suppressed: u64,
    reported_at: Option<Instant>,
}

impl RefusalTally {
    /// Counts one event. `Some` with the number of events left out since the last line, if this one is to be reported.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.total = self.total.saturating_add(1);
        let quiet = self
            .reported_at
            .is_some_and(|at| now.saturating_duration_since(at) < REPORT_EVERY);
        if quiet {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.reported_at = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

impl Edge {
    pub fn new(settings: EdgeSettings, clock: Clock) -> Self {
        Self(Arc::new(EdgeState {
            settings: ArcSwap::from_pointee(settings),
            clock,
            record: Mutex::default(),
        }))
    }

    /// Replaces the settings. A request that is being checked is checked by the old ones.
    pub fn replace(&self, settings: EdgeSettings) {
        self.0.settings.store(Arc::new(settings));
    }

    /// The settings as they are now.
    pub fn settings(&self) -> Arc<EdgeSettings> {
        self.0.settings.load_full()
    }

    #[cfg(test)]
    pub(super) fn n_refused(&self, reason: RefusalReason) -> u64 {
        let place = RefusalReason::ALL.iter().position(|known| *known == reason);
        self.record().tallies[place.unwrap()].total
    }

    /// The last refused webhooks that were looked into, the oldest first.
    pub fn rejected(&self) -> Vec<RefusedWebhook> {
        self.record().rejected.iter().cloned().collect()
    }

    /// The last one whose signature could be explained. Kept apart, so that a flood of forgeries cannot push it out.
    pub fn explained(&self) -> Option<RefusedWebhook> {
        self.record().explained.clone()
    }

    /// Whether a request with more fields than any webhook has may be looked through: fifteen may, and then one in a second.
    pub(super) fn spares_time_for_many_fields(&self) -> bool {
        let now = self.0.clock.instant();
        let mut record = self.record();
        record
            .many_fields
            .get_or_insert_with(|| TokenBucket::new(now, MANY_FIELDS_PER_MINUTE))
            .try_take(now)
    }

    /// Counts a signed webhook that cannot be used, and logs it if its turn has come.
    pub fn count_malformed(&self, path: &str, flaw: Flaw) {
        metrics::counter!("switchboard_webhooks_malformed_total", "cause" => flaw.as_str())
            .increment(1);
        let due = self.record().malformed.count(self.0.clock.instant());
        let Some(suppressed) = due else { return };
        tracing::warn!(
            event = "webhook.malformed",
            cause = flaw.as_str(),
            path = shown(path),
            suppressed,
            "a signed webhook does not fit together: the caller gets the safe answer"
        );
    }

    /// Counts a refused webhook; if its turn has come, looks into it with `diagnose`, remembers and logs it.
    pub(super) fn refuse(
        &self,
        reason: RefusalReason,
        source: Option<IpAddr>,
        path: &str,
        diagnose: impl FnOnce() -> Option<Diagnosis>,
    ) {
        metrics::counter!("switchboard_webhooks_rejected_total", "reason" => reason.as_str())
            .increment(1);
        let now = self.0.clock.instant();
        let place = RefusalReason::ALL.iter().position(|known| *known == reason);
        let due = place.and_then(|place| self.record().tallies.get_mut(place)?.count(now));
        let Some(suppressed) = due else { return };
        // The lock is free while the diagnosis is made.
        let rejected = RefusedWebhook {
            at: self.0.clock.now(),
            reason,
            source,
            path: shown(path),
            diagnosis: diagnose(),
        };
        log(&rejected, suppressed);
        self.remember(rejected);
    }

    fn remember(&self, rejected: RefusedWebhook) {
        let mut record = self.record();
        let explained = rejected
            .diagnosis
            .as_ref()
            .is_some_and(|diagnosis| !diagnosis.would_match.is_empty());
        if explained {
            record.explained = Some(rejected.clone());
        }
        if record.rejected.len() == REMEMBERED {
            record.rejected.pop_front();
        }
        record.rejected.push_back(rejected);
    }

    /// The counts are whole after every statement, so a panic elsewhere leaves them usable.
    fn record(&self) -> MutexGuard<'_, EdgeRecord> {
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A path of a stranger, cut, for people to read.
fn shown(path: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    path.chars().take(200).map(plain).collect()
}

fn log(rejected: &RefusedWebhook, suppressed: u64) {
    let diagnosis = rejected.diagnosis.as_ref();
    let why = diagnosis.map(ToString::to_string).unwrap_or_default();
    // By name only: a report says that Twilio signs before it adds some of them, and this is how that would show.
    let parameters = diagnosis.map(|diagnosis| diagnosis.parameters.join(" "));
    tracing::warn!(
        event = "webhook.rejected",
        reason = rejected.reason.as_str(),
        source = rejected.source.map(tracing::field::display),
        path = rejected.path,
        suppressed,
        why,
        parameters = parameters.unwrap_or_default(),
        "a webhook was refused"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_second_and_reason_with_a_count_of_the_others() {
        let start = Clock::system().instant();
        let mut tally = RefusalTally::default();
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(tally.count(at(0)), Some(0));
        assert_eq!(tally.count(at(1)), None);
        assert_eq!(tally.count(at(999)), None);
        assert_eq!(tally.count(at(1_000)), Some(2));
        assert_eq!(tally.count(at(5_000)), Some(0));
        assert_eq!(tally.total, 5);
    }
}

//! Rolling counters: how many calls, look-ups and handoffs there were within the window, and which of them failed. In buckets, so that their
//! size does not depend on the traffic. A call counts once: when it arrives, and from the moment it fails as failed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::notification::CALLS_NAMED;
use crate::call::CallId;
use crate::routing::DialerId;

/// Calls whose arrival is remembered one by one. Beyond it, one that fails counts once more among all.
const CALLS_REMEMBERED: usize = 100_000;

/// A window slides by so many steps.
const N_BUCKETS: u32 = 300;
/// The newest failures that are remembered one by one: as many as an incident names.
const FAILURES_REMEMBERED: usize = CALLS_NAMED;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailureRate {
    pub total: u64,
    pub failed: u64,
}

impl FailureRate {
    /// The share of failures in percent; 0 of nothing.
    #[expect(clippy::cast_precision_loss, reason = "counts of a window")]
    pub fn percent(self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        self.failed as f64 * 100.0 / self.total as f64
    }

    /// Whether more than `percent` of them failed.
    #[expect(clippy::cast_precision_loss, reason = "counts of a window")]
    pub fn exceeds(self, percent: f64) -> bool {
        self.failed as f64 * 100.0 > percent * self.total as f64
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedFailure {
    /// Its place among all failures that were ever counted, from 1.
    pub nth: u64,
    pub at: Instant,
    /// Which call; `None` where its webhook did not say.
    pub call_id: Option<CallId>,
    /// Why, as a word that can be counted.
    pub reason: String,
}

#[derive(Clone, Copy, Debug)]
struct CounterBucket {
    started_at: Instant,
    rate: FailureRate,
}

/// Counts over a sliding window.
#[derive(Clone, Debug)]
pub struct RollingCounter {
    window: Duration,
    buckets: VecDeque<CounterBucket>,
    failed_ever: u64,
    failures: VecDeque<CountedFailure>,
}

impl RollingCounter {
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            buckets: VecDeque::new(),
            failed_ever: 0,
            failures: VecDeque::new(),
        }
    }

    /// Another window; what is counted stays.
    pub fn set_window(&mut self, window: Duration) {
        self.window = window;
    }

    /// Counts one that went well, or of which nothing is known yet.
    pub fn well(&mut self, now: Instant) {
        self.bucket(now).total += 1;
    }

    /// Counts one that failed; without an id, nobody knows which call it was.
    pub fn failed(&mut self, call_id: Option<&CallId>, reason: &str, now: Instant) {
        let bucket = self.bucket(now);
        bucket.total += 1;
        bucket.failed += 1;
        self.failed_ever += 1;
        self.failures.push_back(CountedFailure {
            nth: self.failed_ever,
            at: now,
            call_id: call_id.cloned(),
            reason: reason.to_owned(),
        });
        if self.failures.len() > FAILURES_REMEMBERED {
            self.failures.pop_front();
        }
    }

    /// Counts one; `failed` says why it failed, where it did.
    pub fn count(&mut self, call_id: Option<&CallId>, failed: Option<&str>, now: Instant) {
        match failed {
            None => self.well(now),
            Some(reason) => self.failed(call_id, reason, now),
        }
    }

    /// Takes back one that was counted as well at `at`: it failed later, and counts then.
    pub fn take_back(&mut self, at: Instant) {
        if let Some(counted) = self.counted_at(at) {
            counted.total = counted.total.saturating_sub(1);
        }
    }

    /// One that was counted as failed, and is remembered, counts as well. An incident that was opened for it is not undone.
    pub fn pardon(&mut self, call_id: &CallId, now: Instant) {
        let found = self.failures.iter().rposition(|failure| {
            failure.call_id.as_ref() == Some(call_id) && self.holds(failure.at, now)
        });
        let Some(failure) = found.and_then(|idx| self.failures.remove(idx)) else {
            return;
        };
        if let Some(counted) = self.counted_at(failure.at) {
            counted.failed = counted.failed.saturating_sub(1);
        }
    }

    fn counted_at(&mut self, at: Instant) -> Option<&mut FailureRate> {
        let mut newest_first = self.buckets.iter_mut().rev();
        let bucket = newest_first.find(|bucket| bucket.started_at <= at)?;
        Some(&mut bucket.rate)
    }

    pub fn rate(&self, now: Instant) -> FailureRate {
        let held = self
            .buckets
            .iter()
            .filter(|b| self.holds(b.started_at, now));
        held.fold(FailureRate::default(), |sum, bucket| FailureRate {
            total: sum.total + bucket.rate.total,
            failed: sum.failed + bucket.rate.failed,
        })
    }

    /// How many failures were ever counted.
    pub fn failed_ever(&self) -> u64 {
        self.failed_ever
    }

    /// The newest failures, oldest first.
    pub fn failures(&self) -> impl Iterator<Item = &CountedFailure> {
        self.failures.iter()
    }

    /// When it last failed, as far as is remembered.
    pub fn last_failure(&self) -> Option<Instant> {
        self.failures.back().map(|failure| failure.at)
    }

    /// Whether what happened then is in the window.
    pub fn holds(&self, at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) < self.window
    }

    fn bucket(&mut self, now: Instant) -> &mut FailureRate {
        while let Some(oldest) = self.buckets.front()
            && !self.holds(oldest.started_at, now)
        {
            self.buckets.pop_front();
        }
        let width = self.window / N_BUCKETS;
        let fits =
            |bucket: &CounterBucket| now.saturating_duration_since(bucket.started_at) < width;
        if !self.buckets.back().is_some_and(fits) {
            self.buckets.push_back(CounterBucket {
                started_at: now,
                rate: FailureRate::default(),
            });
        }
        let last = self.buckets.len() - 1;
        #[expect(
            clippy::indexing_slicing,
            reason = "one was just pushed where there was none"
        )]
        &mut self.buckets[last].rate
    }
}

/// What calls, look-ups and handoffs came to within the window.
#[derive(Clone, Debug)]
pub struct CallCounters {
    /// Calls; failed are those that reached no dialer in time.
    pub(super) calls: RollingCounter,
    /// Calls; failed are those whose answer was late.
    pub(super) overruns: RollingCounter,
    pub(super) lookups: RollingCounter,
    pub(super) handoffs: HashMap<DialerId, RollingCounter>,
    /// Requests to the fallback URL; all of them count as failed.
    pub(super) fallbacks: RollingCounter,
    /// Signed webhooks that do not fit together; all of them count as failed, and none as a call.
    pub(super) malformed: RollingCounter,
    window: Duration,
    arrivals: HashMap<u64, Instant>,
    order: VecDeque<(Instant, u64)>,
    failed: HashSet<u64>,
    failed_order: VecDeque<u64>,
    last_arrival: Option<Instant>,
}

impl CallCounters {
    pub fn new(window: Duration) -> Self {
        Self {
            calls: RollingCounter::new(window),
            overruns: RollingCounter::new(window),
            lookups: RollingCounter::new(window),
            handoffs: HashMap::new(),
            fallbacks: RollingCounter::new(window),
            malformed: RollingCounter::new(window),
            window,
            arrivals: HashMap::new(),
            order: VecDeque::new(),
            failed: HashSet::new(),
            failed_order: VecDeque::new(),
            last_arrival: None,
        }
    }

    /// Another window; what was seen stays.
    pub fn set_window(&mut self, window: Duration) {
        self.window = window;
        let single = [
            &mut self.calls,
            &mut self.overruns,
            &mut self.lookups,
            &mut self.fallbacks,
            &mut self.malformed,
        ];
        for counter in single.into_iter().chain(self.handoffs.values_mut()) {
            counter.set_window(window);
        }
    }

    pub fn arrived(&mut self, call_id: &CallId, now: Instant) {
        self.forget(now);
        self.last_arrival = Some(now);
        let key = key(call_id);
        if self.arrivals.contains_key(&key) {
            return;
        }
        if self.arrivals.len() < CALLS_REMEMBERED {
            self.arrivals.insert(key, now);
            self.order.push_back((now, key));
        }
        self.calls.well(now);
    }

    /// A call reached no dialer, or not in time. `reason` says why, as a word that can be counted.
    pub fn failed(&mut self, call_id: &CallId, reason: &str, now: Instant) {
        self.forget(now);
        let key = key(call_id);
        if !self.remember_failed(key) {
            return;
        }
        if let Some(arrived) = self.arrivals.remove(&key) {
            self.calls.take_back(arrived);
        }
        self.calls.failed(Some(call_id), reason, now);
    }

    /// A call that was counted as failed counts as well, by what was reported late.
    pub fn well_after_all(&mut self, call_id: &CallId, now: Instant) {
        if self.failed.remove(&key(call_id)) {
            self.calls.pardon(call_id, now);
        }
    }

    /// A call got the safe answer before anything was decided for it: it arrived, and failed. Without an id every webhook is a call of its own.
    pub fn undecided(&mut self, call_id: Option<&CallId>, reason: &str, now: Instant) {
        self.last_arrival = Some(now);
        match call_id {
            // Asked for once more.
            Some(call_id) if self.failed.contains(&key(call_id)) => {}
            Some(call_id) => {
                self.arrived(call_id, now);
                self.failed(call_id, reason, now);
            }
            None => self.calls.failed(None, reason, now),
        }
    }

    /// A call failed before the process began, and is not to be counted again.
    pub fn known_failed(&mut self, call_id: &CallId) {
        self.remember_failed(key(call_id));
    }

    /// The first answer to a call left within the budget, or after it.
    pub fn answered(&mut self, call_id: &CallId, within_budget: bool, now: Instant) {
        if within_budget {
            self.overruns.well(now);
        } else {
            self.overruns.failed(Some(call_id), "over_budget", now);
            self.failed(call_id, "over_budget", now);
        }
    }

    /// Braze was asked for a caller, or for nobody, to learn whether it is well; `failed` says why it did not answer.
    pub fn looked_up(&mut self, call_id: Option<&CallId>, failed: Option<&str>, now: Instant) {
        self.lookups.count(call_id, failed, now);
    }

    /// A dialer was asked to take a call; `failed` says why it did not.
    pub fn handed_off(
        &mut self,
        dialer: &DialerId,
        call_id: &CallId,
        failed: Option<&str>,
        now: Instant,
    ) {
        let window = self.window;
        let handoffs = self.handoffs.entry(dialer.clone());
        let counter = handoffs.or_insert_with(|| RollingCounter::new(window));
        counter.count(Some(call_id), failed, now);
    }

    /// Twilio called the fallback URL.
    pub fn fell_back(&mut self, call_id: Option<&CallId>, reason: &str, now: Instant) {
        self.fallbacks.failed(call_id, reason, now);
    }

    /// A signed webhook did not fit together; `flaw` says why.
    pub fn malformed(&mut self, flaw: &str, now: Instant) {
        self.malformed.failed(None, flaw, now);
    }

    /// Forgets dialers that are not configured any more.
    pub fn keep_dialers(&mut self, keep: impl Fn(&DialerId) -> bool) {
        self.handoffs.retain(|dialer, _| keep(dialer));
    }

    /// Calls of the window, and those that failed.
    #[cfg(test)]
    pub fn calls_rate(&self, now: Instant) -> FailureRate {
        self.calls.rate(now)
    }

    /// When a call last arrived; `None` where none has since the start.
    pub fn last_arrival(&self) -> Option<Instant> {
        self.last_arrival
    }

    fn remember_failed(&mut self, key: u64) -> bool {
        if !self.failed.insert(key) {
            return false;
        }
        self.failed_order.push_back(key);
        if self.failed_order.len() > CALLS_REMEMBERED
            && let Some(oldest) = self.failed_order.pop_front()
        {
            self.failed.remove(&oldest);
        }
        true
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, key)) = self.order.front().copied()
            && now.saturating_duration_since(at) >= self.window
        {
            self.order.pop_front();
            self.arrivals.remove(&key);
        }
    }
}

fn key(call_id: &CallId) -> u64 {
    let mut hasher = DefaultHasher::new();
    call_id.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use super::*;

    const WINDOW: Duration = Duration::from_mins(5);

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    /// A second of the tests' own time.
    pub(in crate::alerts) fn instant(second: u64) -> Instant {
        *START + Duration::from_secs(second)
    }

    /// A call by its number.
    pub(in crate::alerts) fn call(n: u64) -> CallId {
        CallId::parse(&format!("CA{n:032}")).unwrap()
    }

    fn rate(counters: &CallCounters, second: u64) -> (u64, u64) {
        let rate = counters.calls_rate(instant(second));
        (rate.failed, rate.total)
    }

    #[test]
    fn a_call_counts_once_from_its_arrival_and_anew_when_it_fails() {
        let mut counters = CallCounters::new(WINDOW);
        for n in 0..4 {
            counters.arrived(&call(n), instant(0));
        }
        counters.arrived(&call(0), instant(1));
        assert_eq!(rate(&counters, 10), (0, 4));
        counters.failed(&call(0), "goodbye", instant(200));
        counters.failed(&call(0), "last_resort", instant(201));
        assert_eq!(rate(&counters, 201), (1, 4));
        assert_eq!(rate(&counters, 299), (1, 4));
        assert_eq!(rate(&counters, 300), (1, 1));
        assert_eq!(rate(&counters, 499), (1, 1));
        assert_eq!(rate(&counters, 500), (0, 0));
    }

    #[test]
    fn a_call_that_fails_long_after_its_arrival_counts_with_the_calls_of_then() {
        let mut counters = CallCounters::new(WINDOW);
        counters.arrived(&call(0), instant(0));
        counters.arrived(&call(1), instant(390));
        counters.failed(&call(0), "goodbye", instant(400));
        assert_eq!(rate(&counters, 400), (1, 2));
    }

    #[test]
    fn a_late_answer_is_a_failure_and_counts_once() {
        let mut counters = CallCounters::new(WINDOW);
        counters.arrived(&call(0), instant(0));
        counters.answered(&call(0), false, instant(3));
        counters.failed(&call(0), "last_resort", instant(3));
        assert_eq!(rate(&counters, 3), (1, 1));
        assert_eq!(counters.overruns.rate(instant(3)).failed, 1);
    }

    #[test]
    fn a_call_for_which_nothing_was_decided_failed_and_one_without_an_id_does_each_time() {
        let mut counters = CallCounters::new(WINDOW);
        for second in 0..3 {
            counters.undecided(Some(&call(7)), "overload", instant(second));
        }
        assert_eq!(rate(&counters, 3), (1, 1));
        for second in 3..6 {
            counters.undecided(None, "call_sid_missing", instant(second));
        }
        assert_eq!(rate(&counters, 6), (4, 4));
        assert_eq!(counters.last_arrival(), Some(instant(5)));
        let named: Vec<_> = counters
            .calls
            .failures()
            .map(|f| f.call_id.clone())
            .collect();
        assert_eq!(named, [Some(call(7)), None, None, None]);
    }

    #[test]
    fn an_arrival_is_forgotten_with_the_window() {
        let mut counters = CallCounters::new(WINDOW);
        for n in 0..3 {
            counters.arrived(&call(n), instant(n));
        }
        assert_eq!(counters.arrivals.len(), 3);
        // The first two are older than the window now, and the third is not.
        counters.arrived(&call(3), instant(301));
        assert_eq!((counters.arrivals.len(), counters.order.len()), (2, 2));
        // A call of the same name counts as one that arrives.
        counters.arrived(&call(0), instant(302));
        assert_eq!(rate(&counters, 302), (0, 2));
        counters.failed(&call(3), "goodbye", instant(700));
        assert_eq!(counters.arrivals.len(), 0);
        assert_eq!(rate(&counters, 700), (1, 1));
    }

    #[test]
    fn a_call_that_failed_before_the_restart_is_not_counted_again() {
        let mut counters = CallCounters::new(WINDOW);
        counters.known_failed(&call(1));
        assert_eq!(rate(&counters, 0), (0, 0));
        counters.failed(&call(1), "goodbye", instant(1));
        counters.answered(&call(1), false, instant(2));
        counters.undecided(Some(&call(1)), "overload", instant(3));
        assert_eq!(rate(&counters, 3), (0, 0));
        counters.failed(&call(2), "goodbye", instant(4));
        assert_eq!(rate(&counters, 4), (1, 1));
    }

    #[test]
    fn memory_is_bounded() {
        let mut counters = CallCounters::new(WINDOW);
        for n in 0..CALLS_REMEMBERED as u64 + 50 {
            counters.arrived(&call(n), instant(0));
            counters.failed(&call(n), "goodbye", instant(0));
        }
        assert!(
            counters.failed.len() <= CALLS_REMEMBERED
                && counters.arrivals.len() <= CALLS_REMEMBERED
        );
        assert_eq!(counters.calls.failures().count(), 500);
        let n = CALLS_REMEMBERED as u64 + 50;
        assert_eq!(rate(&counters, 1), (n, n));
    }

    #[test]
    fn what_was_reported_late_takes_a_failure_back_while_the_window_holds_it() {
        let mut counters = CallCounters::new(WINDOW);
        for n in 0..3 {
            counters.failed(&call(n), "failed", instant(n));
        }
        counters.well_after_all(&call(1), instant(10));
        assert_eq!(rate(&counters, 10), (2, 3));
        // Once, and not for a call that never failed.
        counters.well_after_all(&call(1), instant(10));
        counters.well_after_all(&call(9), instant(10));
        assert_eq!(rate(&counters, 10), (2, 3));
        // The first has left the window; the third is still in it.
        counters.well_after_all(&call(0), instant(301));
        assert_eq!(rate(&counters, 301), (1, 1));
        let left: Vec<_> = counters
            .calls
            .failures()
            .map(|f| f.call_id.clone())
            .collect();
        assert_eq!(left, [Some(call(0)), Some(call(2))]);
    }

    #[test]
    fn another_window_counts_for_all_that_is_counted() {
        let mut counters = CallCounters::new(WINDOW);
        let dialer = DialerId::new("dialfire");
        counters.arrived(&call(0), instant(0));
        counters.handed_off(&dialer, &call(0), Some("timeout"), instant(0));
        counters.set_window(Duration::from_mins(10));
        let handoffs = |counters: &CallCounters, second| {
            let counter = counters
                .handoffs
                .get(&dialer)
                .map(|counter| counter.rate(instant(second)));
            counter.map(|rate| rate.failed)
        };
        assert_eq!(rate(&counters, 599), (0, 1));
        assert_eq!(handoffs(&counters, 599), Some(1));
        assert_eq!(rate(&counters, 600), (0, 0));
        counters.arrived(&call(1), instant(599));
        assert_eq!(
            counters.arrivals.len(),
            2,
            "arrivals are remembered as long"
        );
        counters.keep_dialers(|kept| *kept == dialer);
        assert_eq!(handoffs(&counters, 599), Some(1));
        counters.keep_dialers(|_| false);
        assert_eq!(handoffs(&counters, 599), None);
    }

    #[test]
    fn no_more_than_the_newest_calls_are_remembered() {
        let mut counters = CallCounters::new(WINDOW);
        let most = CALLS_REMEMBERED as u64;
        for n in 0..=most {
            counters.arrived(&call(n), instant(0));
            counters.known_failed(&call(n));
        }
        assert_eq!(
            (counters.arrivals.len(), counters.order.len()),
            (CALLS_REMEMBERED, CALLS_REMEMBERED)
        );
        assert_eq!(
            (counters.failed.len(), counters.failed_order.len()),
            (CALLS_REMEMBERED, CALLS_REMEMBERED)
        );
        assert!(
            !counters.failed.contains(&key(&call(0))),
            "the oldest is forgotten"
        );
        assert!(counters.failed.contains(&key(&call(1))));
    }
}

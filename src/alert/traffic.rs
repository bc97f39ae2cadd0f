//! What calls came to lately: how many arrived, and which of them failed. A call counts once: when it arrives, and from the moment it
//! fails as failed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::tally::{Share, Tally};
use crate::call::CallId;
use crate::routing::DialerId;

/// Calls whose arrival is remembered one by one. Beyond it, one that fails counts once more among all.
const REMEMBERED: usize = 100_000;

/// What calls, look-ups and handoffs came to within the window.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Calls; failed are those that reached no dialer in time.
    pub(super) calls: Tally,
    /// Calls; failed are those whose answer was late.
    pub(super) overruns: Tally,
    pub(super) lookups: Tally,
    pub(super) handoffs: HashMap<DialerId, Tally>,
    /// Requests to the fallback URL; all of them count as failed.
    pub(super) fallbacks: Tally,
    /// Signed webhooks that do not fit together; all of them count as failed, and none as a call.
    pub(super) malformed: Tally,
    window: Duration,
    arrivals: HashMap<u64, Instant>,
    order: VecDeque<(Instant, u64)>,
    failed: HashSet<u64>,
    failed_order: VecDeque<u64>,
    last_arrival: Option<Instant>,
}

impl Traffic {
    pub fn new(window: Duration) -> Self {
        Self {
            calls: Tally::new(window),
            overruns: Tally::new(window),
            lookups: Tally::new(window),
            handoffs: HashMap::new(),
            fallbacks: Tally::new(window),
            malformed: Tally::new(window),
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
        for tally in single.into_iter().chain(self.handoffs.values_mut()) {
            tally.set_window(window);
        }
    }

    pub fn arrived(&mut self, call_id: &CallId, now: Instant) {
        self.forget(now);
        self.last_arrival = Some(now);
        let key = key(call_id);
        if self.arrivals.contains_key(&key) {
            return;
        }
        if self.arrivals.len() < REMEMBERED {
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
        self.calls.failed(call_id, reason, now);
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
            None => self.calls.failed_unnamed(reason, now),
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
            self.overruns.failed(call_id, "over_budget", now);
            self.failed(call_id, "over_budget", now);
        }
    }

    /// Braze was asked for a caller; `failed` says why it did not answer.
    pub fn looked_up(&mut self, call_id: &CallId, failed: Option<&str>, now: Instant) {
        match failed {
            None => self.lookups.well(now),
            Some(reason) => self.lookups.failed(call_id, reason, now),
        }
    }

    /// Braze was asked for nobody, to learn whether it is well; `failed` says why it did not answer.
    pub fn probed_braze(&mut self, failed: Option<&str>, now: Instant) {
        match failed {
            None => self.lookups.well(now),
            Some(reason) => self.lookups.failed_unnamed(reason, now),
        }
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
        let fresh = || Tally::new(window);
        let tally = self.handoffs.entry(dialer.clone()).or_insert_with(fresh);
        match failed {
            None => tally.well(now),
            Some(reason) => tally.failed(call_id, reason, now),
        }
    }

    /// Twilio called the fallback URL.
    pub fn fell_back(&mut self, call_id: Option<&CallId>, reason: &str, now: Instant) {
        match call_id {
            Some(call_id) => self.fallbacks.failed(call_id, reason, now),
            None => self.fallbacks.failed_unnamed(reason, now),
        }
    }

    /// A signed webhook did not fit together; `flaw` says why.
    pub fn malformed(&mut self, flaw: &str, now: Instant) {
        self.malformed.failed_unnamed(flaw, now);
    }

    /// Forgets dialers that are not configured any more.
    pub fn keep_dialers(&mut self, keep: impl Fn(&DialerId) -> bool) {
        self.handoffs.retain(|dialer, _| keep(dialer));
    }

    /// Calls of the window, and those that failed.
    pub fn share(&self, now: Instant) -> Share {
        self.calls.share(now)
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
        if self.failed_order.len() > REMEMBERED
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
mod tests {
    use super::*;
    use crate::alert::tests::{call, instant};

    const WINDOW: Duration = Duration::from_mins(5);

    fn share(traffic: &Traffic, second: u64) -> (u64, u64) {
        let share = traffic.share(instant(second));
        (share.failed, share.total)
    }

    #[test]
    fn a_call_counts_once_from_its_arrival_and_anew_when_it_fails() {
        let mut traffic = Traffic::new(WINDOW);
        for n in 0..4 {
            traffic.arrived(&call(n), instant(0));
        }
        traffic.arrived(&call(0), instant(1));
        assert_eq!(share(&traffic, 10), (0, 4));
        traffic.failed(&call(0), "goodbye", instant(200));
        traffic.failed(&call(0), "last_resort", instant(201));
        assert_eq!(share(&traffic, 201), (1, 4));
        assert_eq!(share(&traffic, 299), (1, 4));
        assert_eq!(share(&traffic, 300), (1, 1));
        assert_eq!(share(&traffic, 499), (1, 1));
        assert_eq!(share(&traffic, 500), (0, 0));
    }

    #[test]
    fn a_call_that_fails_long_after_its_arrival_counts_with_the_calls_of_then() {
        let mut traffic = Traffic::new(WINDOW);
        traffic.arrived(&call(0), instant(0));
        traffic.arrived(&call(1), instant(390));
        traffic.failed(&call(0), "goodbye", instant(400));
        assert_eq!(share(&traffic, 400), (1, 2));
    }

    #[test]
    fn a_late_answer_is_a_failure_and_counts_once() {
        let mut traffic = Traffic::new(WINDOW);
        traffic.arrived(&call(0), instant(0));
        traffic.answered(&call(0), false, instant(3));
        traffic.failed(&call(0), "last_resort", instant(3));
        assert_eq!(share(&traffic, 3), (1, 1));
        assert_eq!(traffic.overruns.share(instant(3)).failed, 1);
    }

    #[test]
    fn a_call_for_which_nothing_was_decided_failed_and_one_without_an_id_does_each_time() {
        let mut traffic = Traffic::new(WINDOW);
        for second in 0..3 {
            traffic.undecided(Some(&call(7)), "overload", instant(second));
        }
        assert_eq!(share(&traffic, 3), (1, 1));
        for second in 3..6 {
            traffic.undecided(None, "call_sid_missing", instant(second));
        }
        assert_eq!(share(&traffic, 6), (4, 4));
        assert_eq!(traffic.last_arrival(), Some(instant(5)));
        let named: Vec<_> = traffic
            .calls
            .failures()
            .map(|f| f.call_id.clone())
            .collect();
        assert_eq!(named, [Some(call(7)), None, None, None]);
    }

    #[test]
    fn an_arrival_is_forgotten_with_the_window() {
        let mut traffic = Traffic::new(WINDOW);
        for n in 0..3 {
            traffic.arrived(&call(n), instant(n));
        }
        assert_eq!(traffic.arrivals.len(), 3);
        // The first two are older than the window now, and the third is not.
        traffic.arrived(&call(3), instant(301));
        assert_eq!((traffic.arrivals.len(), traffic.order.len()), (2, 2));
        // A call of the same name counts as one that arrives.
        traffic.arrived(&call(0), instant(302));
        assert_eq!(share(&traffic, 302), (0, 2));
        traffic.failed(&call(3), "goodbye", instant(700));
        assert_eq!(traffic.arrivals.len(), 0);
        assert_eq!(share(&traffic, 700), (1, 1));
    }

    #[test]
    fn a_call_that_failed_before_the_restart_is_not_counted_again() {
        let mut traffic = Traffic::new(WINDOW);
        traffic.known_failed(&call(1));
        assert_eq!(share(&traffic, 0), (0, 0));
        traffic.failed(&call(1), "goodbye", instant(1));
        traffic.answered(&call(1), false, instant(2));
        traffic.undecided(Some(&call(1)), "overload", instant(3));
        assert_eq!(share(&traffic, 3), (0, 0));
        traffic.failed(&call(2), "goodbye", instant(4));
        assert_eq!(share(&traffic, 4), (1, 1));
    }

    #[test]
    fn memory_is_bounded() {
        let mut traffic = Traffic::new(WINDOW);
        for n in 0..REMEMBERED as u64 + 50 {
            traffic.arrived(&call(n), instant(0));
            traffic.failed(&call(n), "goodbye", instant(0));
        }
        assert!(traffic.failed.len() <= REMEMBERED && traffic.arrivals.len() <= REMEMBERED);
        assert_eq!(traffic.calls.failures().count(), 500);
        let n = REMEMBERED as u64 + 50;
        assert_eq!(share(&traffic, 1), (n, n));
    }

    #[test]
    fn what_was_reported_late_takes_a_failure_back_while_the_window_holds_it() {
        let mut traffic = Traffic::new(WINDOW);
        for n in 0..3 {
            traffic.failed(&call(n), "failed", instant(n));
        }
        traffic.well_after_all(&call(1), instant(10));
        assert_eq!(share(&traffic, 10), (2, 3));
        // Once, and not for a call that never failed.
        traffic.well_after_all(&call(1), instant(10));
        traffic.well_after_all(&call(9), instant(10));
        assert_eq!(share(&traffic, 10), (2, 3));
        // The first has left the window; the third is still in it.
        traffic.well_after_all(&call(0), instant(301));
        assert_eq!(share(&traffic, 301), (1, 1));
        let left: Vec<_> = traffic
            .calls
            .failures()
            .map(|f| f.call_id.clone())
            .collect();
        assert_eq!(left, [Some(call(0)), Some(call(2))]);
    }

    #[test]
    fn another_window_counts_for_all_that_is_counted() {
        let mut traffic = Traffic::new(WINDOW);
        let dialer = DialerId::new("dialfire");
        traffic.arrived(&call(0), instant(0));
        traffic.handed_off(&dialer, &call(0), Some("timeout"), instant(0));
        traffic.set_window(Duration::from_mins(10));
        let handoffs = |traffic: &Traffic, second| {
            let tally = traffic
                .handoffs
                .get(&dialer)
                .map(|tally| tally.share(instant(second)));
            tally.map(|share| share.failed)
        };
        assert_eq!(share(&traffic, 599), (0, 1));
        assert_eq!(handoffs(&traffic, 599), Some(1));
        assert_eq!(share(&traffic, 600), (0, 0));
        traffic.arrived(&call(1), instant(599));
        assert_eq!(traffic.arrivals.len(), 2, "arrivals are remembered as long");
        traffic.keep_dialers(|kept| *kept == dialer);
        assert_eq!(handoffs(&traffic, 599), Some(1));
        traffic.keep_dialers(|_| false);
        assert_eq!(handoffs(&traffic, 599), None);
    }

    #[test]
    fn no_more_than_the_newest_calls_are_remembered() {
        let mut traffic = Traffic::new(WINDOW);
        let most = REMEMBERED as u64;
        for n in 0..=most {
            traffic.arrived(&call(n), instant(0));
            traffic.known_failed(&call(n));
        }
        assert_eq!(
            (traffic.arrivals.len(), traffic.order.len()),
            (REMEMBERED, REMEMBERED)
        );
        assert_eq!(
            (traffic.failed.len(), traffic.failed_order.len()),
            (REMEMBERED, REMEMBERED)
        );
        assert!(
            !traffic.failed.contains(&key(&call(0))),
            "the oldest is forgotten"
        );
        assert!(traffic.failed.contains(&key(&call(1))));
    }
}

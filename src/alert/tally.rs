//! Counting what went well and what did not over the last window: in buckets, so that its size does not depend on the traffic.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::call::CallId;

/// A window slides by so many steps.
const N_BUCKETS: u32 = 300;
/// The newest failures that are remembered one by one: as many as an incident names.
const REMEMBERED: usize = super::notice::CALLS_NAMED;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub total: u64,
    pub failed: u64,
}

impl Share {
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
pub struct Failure {
    /// Its place among all failures that were ever counted, from 1.
    pub nth: u64,
    pub at: Instant,
    /// Which call; `None` where its webhook did not say.
    pub call_id: Option<CallId>,
    /// Why, as a word that can be counted.
    pub reason: String,
}

#[derive(Clone, Copy, Debug)]
struct TallyBucket {
    started_at: Instant,
    share: Share,
}

/// Counts over a sliding window.
#[derive(Clone, Debug)]
pub struct Tally {
    window: Duration,
    buckets: VecDeque<TallyBucket>,
    failed_ever: u64,
    failures: VecDeque<Failure>,
}

impl Tally {
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

    pub fn failed(&mut self, call_id: &CallId, reason: &str, now: Instant) {
        self.fail(Some(call_id.clone()), reason, now);
    }

    /// Counts one that failed and of which nobody knows which call it was.
    pub fn failed_unnamed(&mut self, reason: &str, now: Instant) {
        self.fail(None, reason, now);
    }

    fn fail(&mut self, call_id: Option<CallId>, reason: &str, now: Instant) {
        let bucket = self.bucket(now);
        bucket.total += 1;
        bucket.failed += 1;
        self.failed_ever += 1;
        self.failures.push_back(Failure {
            nth: self.failed_ever,
            at: now,
            call_id,
            reason: reason.to_owned(),
        });
        if self.failures.len() > REMEMBERED {
            self.failures.pop_front();
        }
    }

    /// Takes back one that was counted as well at `at`: it failed later, and counts then.
    pub fn take_back(&mut self, at: Instant) {
        let counted = self.buckets.iter_mut().rev().find(|b| b.started_at <= at);
        if let Some(bucket) = counted {
            bucket.share.total = bucket.share.total.saturating_sub(1);
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
        let counted = self
            .buckets
            .iter_mut()
            .rev()
            .find(|bucket| bucket.started_at <= failure.at);
        if let Some(bucket) = counted {
            bucket.share.failed = bucket.share.failed.saturating_sub(1);
        }
    }

    pub fn share(&self, now: Instant) -> Share {
        let held = self
            .buckets
            .iter()
            .filter(|b| self.holds(b.started_at, now));
        held.fold(Share::default(), |sum, bucket| Share {
            total: sum.total + bucket.share.total,
            failed: sum.failed + bucket.share.failed,
        })
    }

    /// How many failures were ever counted.
    pub fn failed_ever(&self) -> u64 {
        self.failed_ever
    }

    /// The newest failures, oldest first.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.failures.iter()
    }

    /// Whether what happened then is in the window.
    pub fn holds(&self, at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) < self.window
    }

    fn bucket(&mut self, now: Instant) -> &mut Share {
        while let Some(oldest) = self.buckets.front()
            && !self.holds(oldest.started_at, now)
        {
            self.buckets.pop_front();
        }
        let width = self.window / N_BUCKETS;
        let fits = |bucket: &TallyBucket| now.saturating_duration_since(bucket.started_at) < width;
        if !self.buckets.back().is_some_and(fits) {
            self.buckets.push_back(TallyBucket {
                started_at: now,
                share: Share::default(),
            });
        }
        let last = self.buckets.len() - 1;
        #[expect(
            clippy::indexing_slicing,
            reason = "one was just pushed where there was none"
        )]
        &mut self.buckets[last].share
    }
}

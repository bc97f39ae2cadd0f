//! The success ratio over a sliding window, with a minimum sample: few results prove nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A window is cut into so many buckets; it slides by one of them at a time.
const N_BUCKETS: u32 = 10;

/// Successes and failures of the last `span`, counted in buckets, so that its size does not depend on the traffic.
#[derive(Clone, Debug)]
pub struct SuccessWindow {
    span: Duration,
    min_sample: u32,
    buckets: VecDeque<Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    started_at: Instant,
    tally: WindowCounts,
}

/// How many requests succeeded and how many failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowCounts {
    pub succeeded: u32,
    pub failed: u32,
}

impl WindowCounts {
    pub fn total(self) -> u32 {
        self.succeeded.saturating_add(self.failed)
    }
}

impl SuccessWindow {
    /// An empty window. A ratio needs at least `min_sample` results.
    pub fn new(span: Duration, min_sample: u32) -> Self {
        Self {
            span,
            min_sample: min_sample.max(1),
            buckets: VecDeque::new(),
        }
    }

    pub fn record(&mut self, now: Instant, succeeded: bool) {
        self.forget_before(now);
        let width = self.span / N_BUCKETS;
        let fits = |bucket: &Bucket| now.saturating_duration_since(bucket.started_at) < width;
        if !self.buckets.back().is_some_and(fits) {
            self.buckets.push_back(Bucket {
                started_at: now,
                tally: WindowCounts::default(),
            });
        }
        if let Some(Bucket { tally, .. }) = self.buckets.back_mut() {
            let count = if succeeded {
                &mut tally.succeeded
            } else {
                &mut tally.failed
            };
            *count = count.saturating_add(1);
        }
    }

    pub fn tally(&self, now: Instant) -> WindowCounts {
        let held = self.buckets.iter().filter(|b| self.holds(b, now));
        held.fold(WindowCounts::default(), |sum, bucket| WindowCounts {
            succeeded: sum.succeeded.saturating_add(bucket.tally.succeeded),
            failed: sum.failed.saturating_add(bucket.tally.failed),
        })
    }

    /// Successes per request, 0 to 1; `None` while the sample is too small.
    pub fn success_ratio(&self, now: Instant) -> Option<f64> {
        let tally = self.tally(now);
        (tally.total() >= self.min_sample)
            .then(|| f64::from(tally.succeeded) / f64::from(tally.total()))
    }

    pub fn clear(&mut self) {
        self.buckets.clear();
    }

    fn holds(&self, bucket: &Bucket, now: Instant) -> bool {
        now.saturating_duration_since(bucket.started_at) < self.span
    }

    fn forget_before(&mut self, now: Instant) {
        while let Some(first) = self.buckets.front()
            && !self.holds(first, now)
        {
            self.buckets.pop_front();
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn too_small_a_sample_has_no_ratio() {
        let now = Instant::now();
        let mut window = SuccessWindow::new(secs(10), 3);
        window.record(now, false);
        window.record(now, true);
        assert_eq!(window.success_ratio(now), None);
        window.record(now, true);
        assert_eq!(window.success_ratio(now), Some(2.0 / 3.0));
        window.clear();
        assert_eq!(window.success_ratio(now), None);
    }

    #[test]
    fn old_results_leave_the_window() {
        let start = Instant::now();
        let mut window = SuccessWindow::new(secs(10), 1);
        window.record(start, false);
        window.record(start + secs(5), true);
        assert_eq!(window.success_ratio(start + secs(9)), Some(0.5));
        assert_eq!(window.success_ratio(start + secs(10)), Some(1.0));
        assert_eq!(window.success_ratio(start + secs(15)), None);
    }

    proptest! {
        #![proptest_config(crate::property::seeded())]

        #[test]
        fn no_result_is_counted_twice_and_the_window_stays_small(steps in prop::collection::vec((0_u64..3_000, any::<bool>()), 0..300)) {
            let mut now = Instant::now();
            let mut window = SuccessWindow::new(secs(10), 1);
            let mut results = Vec::new();
            for (step_ms, succeeded) in steps {
                now += Duration::from_millis(step_ms);
                window.record(now, succeeded);
                results.push(now);
                prop_assert!(window.buckets.len() <= N_BUCKETS as usize + 1);
            }
            let within = |span: Duration| results.iter().filter(|at| now.duration_since(**at) < span).count();
            let total = window.tally(now).total() as usize;
            prop_assert!(total >= within(secs(9)) && total <= within(secs(10)), "{total}");
        }
    }
}

//! Failures of the last 30 s, with a minimum sample: few results prove nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const SPAN: Duration = Duration::from_secs(30);
/// The window slides by one of so many buckets at a time, so that its size does not depend on the traffic.
const N_BUCKETS: u32 = 10;
const MIN_SAMPLE: u32 = 20;

#[derive(Clone, Debug, Default)]
pub(super) struct FailureWindow(VecDeque<Bucket>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    started_at: Instant,
    failed: u32,
    total: u32,
}

impl FailureWindow {
    pub(super) fn record(&mut self, now: Instant, has_failed: bool) {
        self.0.retain(|bucket| bucket.is_within(SPAN, now));
        let is_current = |bucket: &Bucket| bucket.is_within(SPAN / N_BUCKETS, now);
        if !self.0.back().is_some_and(is_current) {
            self.0.push_back(Bucket {
                started_at: now,
                failed: 0,
                total: 0,
            });
        }
        if let Some(bucket) = self.0.back_mut() {
            bucket.total += 1;
            bucket.failed += u32::from(has_failed);
        }
    }

    /// How many requests failed of how many, where most of them did.
    pub(super) fn mostly_failed(&self, now: Instant) -> Option<(u32, u32)> {
        let within = self.0.iter().filter(|bucket| bucket.is_within(SPAN, now));
        let (failed, total) = within.fold((0, 0), |(failed, total), bucket| {
            (failed + bucket.failed, total + bucket.total)
        });
        (total >= MIN_SAMPLE && failed > total / 2).then_some((failed, total))
    }
}

impl Bucket {
    fn is_within(&self, span: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.started_at) < span
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn most_of_a_large_enough_sample_has_to_fail() {
        let now = Instant::now();
        let mut window = FailureWindow::default();
        for n in 0..19 {
            window.record(now, n % 2 == 0);
        }
        assert_eq!(window.mostly_failed(now), None, "10 of 19");
        window.record(now, false);
        assert_eq!(window.mostly_failed(now), None, "10 of 20");
        window.record(now, true);
        assert_eq!(window.mostly_failed(now), Some((11, 21)));
    }

    #[test]
    fn old_results_leave_the_window() {
        let start = Instant::now();
        let mut window = FailureWindow::default();
        for _ in 0..20 {
            window.record(start, true);
        }
        let later = start + SPAN / 2;
        window.record(later, false);
        let end = start + SPAN;
        let before_end = end.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(window.mostly_failed(before_end), Some((20, 21)));
        assert_eq!(window.mostly_failed(end), None);
    }

    proptest! {
        #![proptest_config(crate::property::seeded())]

        #[test]
        fn no_result_is_counted_twice_and_the_window_stays_small(steps in prop::collection::vec(0_u64..3_000, 0..300)) {
            let mut now = Instant::now();
            let mut window = FailureWindow::default();
            let mut results = Vec::new();
            for step_ms in steps {
                now += Duration::from_millis(step_ms);
                window.record(now, true);
                results.push(now);
                prop_assert!(window.0.len() <= N_BUCKETS as usize + 1);
            }
            let within = |span: Duration| results.iter().filter(|at| now.duration_since(**at) < span).count();
            let total = window.mostly_failed(now).map_or(0, |(_, total)| total as usize);
            prop_assert!(total <= within(SPAN), "{total}");
            let at_least = within(SPAN / N_BUCKETS * (N_BUCKETS - 1));
            prop_assert!(total >= at_least || at_least < MIN_SAMPLE as usize, "{total}");
        }
    }
}

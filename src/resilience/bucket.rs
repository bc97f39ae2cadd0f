//! A token bucket. Empty means "not now", never "wait": a caller is on the line.

use std::time::{Duration, Instant};

/// So many requests per minute, and a few at once.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    per_minute: f64,
    /// The rate in force where the service has asked for less.
    throttled_to: Option<f64>,
    tokens: f64,
    refilled_at: Instant,
    paused_until: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket. It holds a quarter of a minute's requests, at least one: whoever configures 0.8 of a limit stays
    /// within that limit even in the minute that starts with a full bucket.
    pub fn new(now: Instant, per_minute: u32) -> Self {
        let per_minute = f64::from(per_minute);
        Self {
            per_minute,
            throttled_to: None,
            tokens: burst(per_minute),
            refilled_at: now,
            paused_until: None,
        }
    }

    /// Takes a token if there is one.
    pub fn try_take(&mut self, now: Instant) -> bool {
        self.take_above(now, 0.0)
    }

    /// Takes a token if that leaves at least half of the bucket to more urgent requests.
    pub fn try_take_spare(&mut self, now: Instant) -> bool {
        self.take_above(now, burst(self.rate()) / 2.0)
    }

    /// Gives no token until then. A later end already in force stays.
    pub fn pause_until(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// Goes slower than configured, because the service says that little is left; at least one request per minute.
    pub fn throttle(&mut self, now: Instant, per_minute: u32) {
        self.refill(now);
        let rate = f64::from(per_minute.max(1)).min(self.per_minute);
        self.throttled_to = Some(rate);
        self.tokens = self.tokens.min(burst(rate));
    }

    /// Goes back to the configured rate.
    pub fn unthrottle(&mut self, now: Instant) {
        if self.throttled_to.is_some() {
            self.refill(now);
            self.throttled_to = None;
        }
    }

    /// Changes the configured rate; what is in the bucket stays in it as far as it fits.
    pub fn set_rate(&mut self, now: Instant, per_minute: u32) {
        self.refill(now);
        self.per_minute = f64::from(per_minute);
        self.tokens = self.tokens.min(burst(self.rate()));
    }

    fn rate(&self) -> f64 {
        self.throttled_to
            .map_or(self.per_minute, |rate| rate.min(self.per_minute))
    }

    fn take_above(&mut self, now: Instant, floor: f64) -> bool {
        self.refill(now);
        if self.paused_until.is_some_and(|until| now < until) {
            return false;
        }
        self.paused_until = None;
        let left = self.tokens - 1.0;
        let taken = left >= 0.0 && left >= floor.floor();
        if taken {
            self.tokens = left;
        }
        taken
    }

    fn refill(&mut self, now: Instant) {
        const MINUTE: Duration = Duration::from_mins(1);
        let elapsed = now.saturating_duration_since(self.refilled_at);
        let gained = self.rate() * elapsed.as_secs_f64() / MINUTE.as_secs_f64();
        self.tokens = (self.tokens + gained).min(burst(self.rate()));
        self.refilled_at = self.refilled_at.max(now);
    }
}

fn burst(per_minute: f64) -> f64 {
    if per_minute > 0.0 {
        (per_minute / 4.0).max(1.0)
    } else {
        0.0
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

    fn drain(bucket: &mut TokenBucket, now: Instant) -> usize {
        (0..10_000).take_while(|_| bucket.try_take(now)).count()
    }

    #[test]
    fn an_empty_bucket_refuses_until_it_has_refilled() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 60);
        assert_eq!(drain(&mut bucket, start), 15);
        assert!(!bucket.try_take(start + Duration::from_millis(900)));
        assert!(bucket.try_take(start + secs(1)));
        assert!(!bucket.try_take(start + secs(1)));
        assert_eq!(drain(&mut bucket, start + secs(3_600)), 15);
    }

    #[test]
    fn no_rate_at_all_gives_nothing() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 0);
        assert!(!bucket.try_take(start + secs(3_600)));
    }

    #[test]
    fn a_pause_ends_by_itself_and_the_later_end_counts() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 60);
        bucket.pause_until(start + secs(30));
        bucket.pause_until(start + secs(10));
        assert!(!bucket.try_take(start + secs(29)));
        assert!(bucket.try_take(start + secs(30)));
    }

    #[test]
    fn spare_tokens_are_the_upper_half() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 60);
        let spare = (0..100)
            .take_while(|_| bucket.try_take_spare(start))
            .count();
        assert_eq!(spare, 8);
        assert_eq!(drain(&mut bucket, start), 7);
        let mut smallest = TokenBucket::new(start, 1);
        assert!(smallest.try_take_spare(start));
    }

    #[test]
    fn a_throttled_bucket_slows_down_and_recovers() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 600);
        bucket.throttle(start, 8);
        assert_eq!(drain(&mut bucket, start), 2);
        assert_eq!(drain(&mut bucket, start + secs(60)), 2);
        bucket.unthrottle(start + secs(60));
        assert_eq!(drain(&mut bucket, start + secs(61)), 10);
        bucket.throttle(start + secs(61), 0);
        assert_eq!(drain(&mut bucket, start + secs(121)), 1);
        bucket.set_rate(start + secs(121), 60);
        bucket.unthrottle(start + secs(121));
        assert_eq!(drain(&mut bucket, start + secs(122)), 1);
    }

    proptest! {
        #![proptest_config(crate::property::seeded())]

        #[test]
        fn no_minute_gives_more_than_a_quarter_above_the_rate(per_minute in 4_u32..500, steps in prop::collection::vec(0_u64..500, 1..400)) {
            let mut now = Instant::now();
            let mut bucket = TokenBucket::new(now, per_minute);
            let mut taken = Vec::new();
            for step_ms in steps {
                now += Duration::from_millis(step_ms);
                if bucket.try_take(now) {
                    taken.push(now);
                }
            }
            for (i, at) in taken.iter().enumerate() {
                let in_minute = taken[i..].iter().filter(|t| t.duration_since(*at) < secs(60)).count();
                prop_assert!(in_minute * 4 <= per_minute as usize * 5 + 4);
            }
        }
    }
}

//! How long to wait before trying again: doubling, bounded, and spread by a given random number, so that many waiters
//! do not come back at the same moment.

use std::time::Duration;

/// Delays that double from `base` up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

/// The two delays cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the first delay must be longer than zero and not longer than the last")]
pub struct NotBackoff;

impl Backoff {
    /// Doubles from `base` up to `max`.
    pub fn try_new(base: Duration, max: Duration) -> Result<Self, NotBackoff> {
        if base.is_zero() || base > max {
            return Err(NotBackoff);
        }
        Ok(Self { base, max })
    }

    /// The delay after `n_failures` (the first failure is 1), spread over the upper half of the doubled delay by `random`.
    pub fn delay(self, n_failures: u32, random: u64) -> Duration {
        let doublings = n_failures.saturating_sub(1).min(31);
        let whole = self.base.saturating_mul(1 << doublings).min(self.max);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a fraction needs no more than 53 bits"
        )]
        let fraction = random as f64 / u64::MAX as f64;
        (whole / 2 + whole.div_f64(2.0).mul_f64(fraction)).min(whole)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn delays_double_until_the_longest() {
        let backoff = Backoff::try_new(ms(100), ms(1_000)).unwrap();
        for (n_failures, shortest, longest) in [
            (0, 50, 100),
            (1, 50, 100),
            (2, 100, 200),
            (3, 200, 400),
            (4, 400, 800),
            (5, 500, 1_000),
            (u32::MAX, 500, 1_000),
        ] {
            assert_eq!(backoff.delay(n_failures, 0), ms(shortest), "{n_failures}");
            assert_eq!(
                backoff.delay(n_failures, u64::MAX),
                ms(longest),
                "{n_failures}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Backoff::try_new(ms(0), ms(10)), Err(NotBackoff));
        assert_eq!(Backoff::try_new(ms(11), ms(10)), Err(NotBackoff));
    }

    proptest! {
        #![proptest_config(crate::property::seeded())]

        #[test]
        fn a_delay_stays_in_the_upper_half(n in 0_u32..100, random: u64, base in 1_u64..5_000, more in 0_u64..100_000) {
            let backoff = Backoff::try_new(ms(base), ms(base + more)).unwrap();
            let (least, most) = (backoff.delay(n, 0), backoff.delay(n, u64::MAX));
            let delay = backoff.delay(n, random);
            prop_assert!(least <= delay && delay <= most && most <= ms(base + more));
            prop_assert!(!delay.is_zero());
        }
    }
}

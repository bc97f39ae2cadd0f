//! How long things took, in buckets that grow with what they hold: sixteen to each doubling, so that a value is known to about three percent.
//! Histograms of different minutes add up to that of the hour.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets to each doubling, and the smallest value that is not alone in its bucket, in microseconds.
const PER_DOUBLING: u64 = 16;
/// `PER_DOUBLING` is two to this.
const SHIFT: u32 = 4;

/// How often which duration was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram(BTreeMap<u16, u64>);

impl Histogram {
    /// Adds a duration in milliseconds.
    pub fn add_ms(&mut self, ms: f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` takes what is negative or no number for 0, and what is too large for the largest"
        )]
        let us = (ms * 1_000.0).round() as u64;
        *self.0.entry(bucket(us)).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }

    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// The duration in milliseconds that `percent` of all do not exceed; `None` where there is none.
    pub fn percentile_ms(&self, percent: u64) -> Option<f64> {
        let wanted = (self.count() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in &self.0 {
            seen += count;
            if seen >= wanted {
                return Some(middle_ms(*bucket));
            }
        }
        None
    }
}

/// Values below `PER_DOUBLING` have a bucket each.
fn bucket(us: u64) -> u16 {
    if us < PER_DOUBLING {
        return u16::try_from(us).unwrap_or_default();
    }
    let exponent = us.ilog2();
    let within = (us >> (exponent - SHIFT)) & (PER_DOUBLING - 1);
    let index = u64::from(exponent - SHIFT + 1) * PER_DOUBLING + within;
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// The middle of a bucket.
fn middle_ms(bucket: u16) -> f64 {
    let bucket = u64::from(bucket);
    let (doubling, within) = (bucket / PER_DOUBLING, bucket % PER_DOUBLING);
    if doubling == 0 {
        return as_ms(within);
    }
    let width = 1_u64 << (doubling - 1);
    as_ms((PER_DOUBLING + within) * width + width / 2)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a duration of 2^53 microseconds is 285 years"
)]
fn as_ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_known_to_about_three_percent() {
        let mut us = 1_u64;
        while us < 60_000_000 {
            let mut histogram = Histogram::default();
            histogram.add_ms(as_ms(us));
            let found = histogram.percentile_ms(50).unwrap();
            let off = (found - as_ms(us)).abs() / as_ms(us);
            assert!(off <= 0.032, "{us} us is taken for {found} ms");
            us = us * 21 / 20 + 1;
        }
        assert_eq!(Histogram::default().percentile_ms(50), None);
    }

    #[test]
    fn percentiles_of_a_sum_are_those_of_all_durations() {
        let (mut one, mut other, mut all) = (
            Histogram::default(),
            Histogram::default(),
            Histogram::default(),
        );
        for n in 1..=1_000 {
            let ms = f64::from(n) * 0.37;
            if n % 3 == 0 { &mut one } else { &mut other }.add_ms(ms);
            all.add_ms(ms);
        }
        one.add(&other);
        assert_eq!(one, all);
        let p95 = all.percentile_ms(95).unwrap();
        assert!((p95 - 351.5).abs() < 12.0, "{p95}");
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), all);
    }

    #[test]
    fn nonsense_is_counted_somewhere() {
        let mut histogram = Histogram::default();
        for ms in [f64::NAN, -1.0, f64::INFINITY] {
            histogram.add_ms(ms);
        }
        assert_eq!(histogram.count(), 3);
    }
}

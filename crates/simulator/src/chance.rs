//! Seeded chance: the same seed gives the same run, so that a failure found by chance can be repeated.

use std::time::Duration;

/// A splitmix64 generator. Not for secrets.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A generator that gives the same numbers for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed from the operating system; fixed where it has none to give.
    pub fn fresh_seed() -> u64 {
        let mut bytes = [0_u8; 8];
        match getrandom::fill(&mut bytes) {
            Ok(()) => u64::from_le_bytes(bytes),
            Err(_) => 0x5EED,
        }
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 up to, but not including, `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.bits()) * u128::from(end);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number from 0 up to, but not including, 1.
    pub fn fraction(&mut self) -> f64 {
        let high = u32::try_from(self.bits() >> 32).unwrap_or(0);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }

    /// True with this probability: never for 0, always for 1.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }

    /// One of `all`, or nothing where there is nothing to choose from.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let index = self.below(u64::try_from(all.len()).unwrap_or(0));
        all.get(usize::try_from(index).unwrap_or(0))
    }

    /// A duration between the two, evenly distributed.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.fraction())
    }

    /// Hexadecimal digits, as in Twilio's identifiers.
    pub fn hex(&mut self, digits: usize) -> String {
        let mut text = String::with_capacity(digits + 16);
        while text.len() < digits {
            let bits = self.bits();
            for shift in (0..16).map(|digit| digit * 4) {
                let digit = u32::try_from((bits >> shift) & 15).unwrap_or(0);
                text.extend(char::from_digit(digit, 16));
            }
        }
        text.truncate(digits);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let draw = |seed| {
            let mut chance = Chance::seeded(seed);
            (0..50).map(|_| chance.bits()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn draws_stay_inside_their_bounds_and_reach_all_of_them() {
        let mut chance = Chance::seeded(1);
        let mut seen = [false; 6];
        for _ in 0..1_000 {
            let n = chance.below(6);
            seen[usize::try_from(n).unwrap()] = true;
            let f = chance.fraction();
            assert!((0.0..1.0).contains(&f));
        }
        assert_eq!(seen, [true; 6]);
        assert!((0..1_000).all(|_| !chance.happens(0.0)));
        assert!((0..1_000).all(|_| chance.happens(1.0)));
        assert_eq!(chance.below(0), 0);
        assert_eq!(chance.one_of::<u8>(&[]), None);
        assert_eq!(chance.hex(32).len(), 32);
    }
}

//! How property tests draw: the same inputs on every machine and in every run, unless the environment says otherwise.

use proptest::test_runner::{Config, RngSeed};

/// The seed of a run that names no other.
const SEED: u64 = 20_261_130;

/// Draws from the fixed seed, or from `PROPTEST_RNG_SEED`; `PROPTEST_CASES` is read as the library reads it (256).
#[expect(clippy::print_stdout, reason = "shown beside a test that fails")]
pub(crate) fn seeded() -> Config {
    let mut config = Config::default();
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(SEED);
    }
    println!("PROPTEST_RNG_SEED={}", config.rng_seed);
    config
}

//! Input that nobody sends by accident: whatever arrives, Twilio gets TwiML, a stranger gets a refusal, and nothing panics.

mod answers;
mod cuts;
mod requests;
mod sockets;
mod strangers;
mod table;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use tokio::runtime::Runtime;

use crate::panics::Panics;
use crate::wire::Reply;

/// How many cases the library tries where nobody says.
const LIBRARYS_OWN: u32 = 256;

/// Runs a property over a running appliance; fails too where anything panicked on the way.
fn check<S: Strategy>(
    cases: u32,
    input: &S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let standard = Config::default();
    let seed = standard.rng_seed;
    let mut runner = TestRunner::new(Config {
        // PROPTEST_CASES counts as if each property had the library's own number of them.
        cases: cases * standard.cases / LIBRARYS_OWN,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..standard
    });
    let verdict = runner.run(input, |value| {
        let panics = Panics::watch();
        property(value)?;
        let panicked = panics.of_the_product();
        prop_assert!(panicked.is_empty(), "{panicked:?}");
        Ok(())
    });
    let failure = verdict.err().map(|error| error.to_string());
    assert_eq!(failure, None, "PROPTEST_RNG_SEED={seed}");
}

#[test]
#[expect(clippy::print_stdout, reason = "for who runs it with --nocapture")]
fn property_tests_run_from_a_fixed_seed() {
    let seed = Config::default().rng_seed;
    println!("property tests run from PROPTEST_RNG_SEED={seed}");
    assert!(
        matches!(seed, RngSeed::Fixed(_)),
        "{seed}: run by cargo in the repository, they read .cargo/config.toml"
    );
}

/// One thread for the test, the appliance and everything outside.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn is_good_twiml(reply: &Reply) -> Result<(), TestCaseError> {
    let complaints = reply.complaints();
    prop_assert!(complaints.is_empty(), "{complaints:?}: {}", reply.text());
    Ok(())
}

/// Bytes that a header value may hold on the wire, those outside ASCII included.
fn header_value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        8 => 0x20..=0x7e_u8,
        2 => 0x80..=0xff_u8,
        1 => Just(b'\t'),
    ];
    prop::collection::vec(byte, 0..40)
}

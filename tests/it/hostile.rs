//! Input that nobody sends by accident: whatever arrives, Twilio gets TwiML, a stranger gets a refusal, and nothing panics.

mod answers;
mod cuts;
mod requests;
mod sockets;
mod strangers;
mod table;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::panics::Panics;
use crate::wire::Reply;
use crate::world::World;

/// How many cases the library tries where nobody says.
const LIBRARYS_OWN: u32 = 256;

/// Runs a property, which starts an appliance for each case; fails too where anything panicked on the way.
fn check<S: Strategy>(
    cases: u32,
    input: &S,
    property: impl AsyncFn(S::Value) -> Result<(), TestCaseError>,
) {
    let standard = crate::property::seeded();
    let seed = standard.rng_seed;
    let mut runner = TestRunner::new(Config {
        // PROPTEST_CASES counts as if each property had the library's own number of them.
        cases: cases * standard.cases / LIBRARYS_OWN,
        max_shrink_iters: 200,
        source_file: Some(file!()),
        ..standard
    });
    // One thread for the test, the appliance and everything outside.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let verdict = runner.run(input, |value| {
        let panics = Panics::watch();
        runtime.block_on(property(value))?;
        let panicked = panics.of_the_product();
        prop_assert!(panicked.is_empty(), "{panicked:?}");
        Ok(())
    });
    let failure = verdict.err().map(|error| error.to_string());
    assert_eq!(failure, None, "PROPTEST_RNG_SEED={seed}");
}

/// What has been recorded so far.
async fn records(world: &World) -> i64 {
    world.running().store.counts().await.unwrap().records
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

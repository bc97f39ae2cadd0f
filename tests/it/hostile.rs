//! Input that nobody sends by accident: whatever arrives, Twilio gets TwiML, a stranger gets a refusal, and nothing panics.

mod answers;
mod requests;
mod sockets;
mod table;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::Runtime;

use crate::panics::Panics;
use crate::wire::Reply;

/// Runs a property over a running appliance; fails too where anything panicked on the way.
fn check<S: Strategy>(
    cases: u32,
    input: &S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    });
    let verdict = runner.run(input, |value| {
        let panics = Panics::watch();
        property(value)?;
        let panicked = panics.of_the_product();
        prop_assert!(panicked.is_empty(), "{panicked:?}");
        Ok(())
    });
    let failure = verdict.err().map(|error| error.to_string());
    assert_eq!(failure, None);
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

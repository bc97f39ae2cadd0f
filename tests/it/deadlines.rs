//! Whatever hangs, the caller is answered within the budget.

use std::time::Duration;

use switchboard::audit::Kind;
use switchboard::simulator::faults::Fault;
use switchboard::simulator::twilio::CallResult;

use crate::world::{DIALFIRE_LINE, HOT, World, ZENDESK_LINE, dialled};

const BUDGET: Duration = Duration::from_secs(2);

fn assert_in_time(result: &CallResult) {
    let took = result.first_answer;
    assert!(took < BUDGET, "answered after {took:?}");
}

#[tokio::test]
async fn with_braze_hanging_the_default_dialer_takes_the_call() {
    let world = World::new().await;
    world
        .outside
        .braze
        .faults()
        .standing(Fault::Delay(Duration::from_secs(10)));
    let result = world.call(HOT).await;
    assert_in_time(&result);
    assert_eq!(dialled(&result), [ZENDESK_LINE]);
    let decided = world.details(&result, Kind::CallDecided).await;
    assert_eq!(decided[0]["facts"]["lookup"]["reason"], "timeout");
    assert_eq!(decided[0]["decision"]["reason"], "lookup_unavailable");
}

#[tokio::test]
async fn with_the_first_dialer_hanging_the_next_takes_the_call() {
    let world = World::new().await;
    world.outside.dialfire.faults().standing(Fault::Hang);
    let result = world.call(HOT).await;
    assert_in_time(&result);
    assert_eq!(dialled(&result), [ZENDESK_LINE]);
    assert!(world.stored(&result).await.failed_over);
    let concluded = world.details(&result, Kind::HandoffConcluded).await;
    assert_eq!(concluded[0]["outcome"], "unknown");
    assert_eq!(concluded[0]["kind"], "timeout");
}

#[tokio::test]
async fn with_braze_and_the_first_dialer_hanging_the_next_is_still_asked() {
    let world = World::new().await;
    world.outside.braze.faults().standing(Fault::Hang);
    world.outside.zendesk.faults().standing(Fault::Hang);
    let result = world.call(HOT).await;
    assert_in_time(&result);
    assert_eq!(world.asked_zendesk(), 1);
    assert_eq!(world.asked_dialfire(), 1);
    assert_eq!(dialled(&result), [DIALFIRE_LINE]);
}

#[tokio::test]
async fn with_everything_hanging_the_last_dialer_is_connected_anyway() {
    let world = World::new().await;
    for faults in [
        world.outside.braze.faults(),
        world.outside.dialfire.faults(),
        world.outside.zendesk.faults(),
    ] {
        faults.standing(Fault::Hang);
    }
    let result = world.call(HOT).await;
    assert_in_time(&result);
    assert_eq!(dialled(&result), [DIALFIRE_LINE]);
    let answered = world.details(&result, Kind::CallAnswered).await;
    assert_eq!(answered[0]["answer"]["certainty"], "unconfirmed");
    assert_eq!(answered[0]["within_budget"], true);
}

//! Whatever hangs, the caller is answered within the budget.
//!
//! The budget is a second here, in which the shares of two are the same but for the look-up's; the machine is ten times faster to the
//! appliance, so that what hangs is given up after ten times as long.

#![expect(clippy::indexing_slicing, reason = "helpers of tests")]

use switchboard::audit::Kind;
use switchboard_simulator::faults::Fault;
use switchboard_simulator::twilio::CallResult;

use crate::world::{DIALFIRE_LINE, HOT, Settings, World, ZENDESK_LINE, dialled};

async fn world() -> World {
    let settings = Settings::default();
    World::with(Settings {
        routing: format!("{}\nbudget = \"1s\"", settings.routing),
        machine_is_faster: 10,
        ..settings
    })
    .await
}

async fn assert_in_time(world: &World, result: &CallResult) {
    let answered = world.details(result, Kind::CallAnswered).await;
    assert_ne!(answered[0]["within_budget"], false, "{}", answered[0]);
}

#[tokio::test]
async fn whatever_hangs_the_caller_is_answered_within_the_budget() {
    tokio::join!(
        braze_hangs(),
        the_first_dialer_hangs(),
        braze_and_the_first_dialer_hang(),
        everything_hangs()
    );
}

/// The default dialer takes the call.
async fn braze_hangs() {
    let world = world().await;
    world.outside.braze.faults().standing(Fault::Hang);
    let result = world.call(HOT).await;
    assert_in_time(&world, &result).await;
    assert_eq!(dialled(&result), [ZENDESK_LINE]);
    let decided = world.details(&result, Kind::CallDecided).await;
    assert_eq!(decided[0]["facts"]["lookup"]["reason"], "timeout");
    assert_eq!(decided[0]["decision"]["reason"], "lookup_unavailable");
}

/// The next takes the call.
async fn the_first_dialer_hangs() {
    let world = world().await;
    world.outside.dialfire.faults().standing(Fault::Hang);
    let result = world.call(HOT).await;
    assert_in_time(&world, &result).await;
    assert_eq!(dialled(&result), [ZENDESK_LINE]);
    assert!(world.stored(&result).await.failed_over);
    let concluded = world.details(&result, Kind::HandoffConcluded).await;
    assert_eq!(concluded[0]["outcome"], "unknown");
    assert_eq!(concluded[0]["kind"], "timeout");
}

/// The next is still asked.
async fn braze_and_the_first_dialer_hang() {
    let world = world().await;
    world.outside.braze.faults().standing(Fault::Hang);
    world.outside.zendesk.faults().standing(Fault::Hang);
    let result = world.call(HOT).await;
    assert_in_time(&world, &result).await;
    assert_eq!(world.asked_zendesk(), 1);
    assert_eq!(world.asked_dialfire(), 1);
    assert_eq!(dialled(&result), [DIALFIRE_LINE]);
}

/// The last dialer is connected anyway.
async fn everything_hangs() {
    let world = world().await;
    for faults in [
        world.outside.braze.faults(),
        world.outside.dialfire.faults(),
        world.outside.zendesk.faults(),
    ] {
        faults.standing(Fault::Hang);
    }
    let result = world.call(HOT).await;
    assert_in_time(&world, &result).await;
    assert_eq!(dialled(&result), [DIALFIRE_LINE]);
    let answered = world.details(&result, Kind::CallAnswered).await;
    assert_eq!(answered[0]["answer"]["certainty"], "unconfirmed");
}

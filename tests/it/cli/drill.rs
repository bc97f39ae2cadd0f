//! Drills as an admin runs them.

use switchboard_simulator::requests::Requests;

use super::Place;

#[tokio::test]
async fn a_drill_ends_with_1_where_a_promise_is_broken_and_asks_nobody_whom_the_file_names() {
    let place = Place::new();
    place.reconfigure("last_resort_number = \"+4930999999\"", "");
    let asked = ["drill", "--json", "--only", "all_dialers_down"];
    let ran = place.run(&asked).await.exits(1);
    let document = ran.json();
    assert_eq!(document["ok"], false);
    let all_down = &document["drills"][1];
    assert_eq!(all_down["fault"], "all_dialers_down");
    let broken = all_down["broken"].to_string();
    for promise in [
        "callers heard hold, then goodbye and reached nobody",
        "nobody was told of it",
    ] {
        assert!(broken.contains(promise), "{broken}");
    }
    let outside = &place.outside;
    let asked = [
        outside.twilio.requests(),
        outside.braze.requests(),
        outside.dialfire.requests(),
        outside.zendesk.requests(),
    ];
    assert_eq!(asked.map(Requests::count), [0; 4]);
    assert!(!place.path("switchboard.db").exists());
    let ran = place
        .run(&["drill", "--only", "braze_sulks"])
        .await
        .exits(2);
    assert!(ran.stderr.contains("braze_hangs"), "{ran:?}");
}

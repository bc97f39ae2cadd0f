//! The rule set in force is recorded once a day, so that whoever executes a decision again finds it near the decision, also when
//! the record of its loading was pruned long ago.

use std::time::Duration;

use crate::audit::{Event, Record, RulesetLoaded};
use crate::clock::Clock;
use crate::flow::{Policies, Recorder};
use crate::lifecycle::Lifecycle;
use crate::routing::Ruleset;

const EVERY: Duration = Duration::from_hours(24);

/// Records it until the process is asked to stop.
pub async fn run(lifecycle: Lifecycle, policies: Policies, recorder: Recorder, clock: Clock) {
    while lifecycle.pause(EVERY).await {
        let ruleset = Ruleset::clone(&policies.current().ruleset);
        let loaded = Event::RulesetLoaded(Box::new(RulesetLoaded::new(ruleset, None)));
        let record = Record::of_service(clock.now(), loaded);
        recorder.append_one(record).await;
    }
}

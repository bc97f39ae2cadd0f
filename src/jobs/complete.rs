//! Compares each day with Twilio's list of calls, once it is over. A day that fails is tried again, and a week that was missed is made up for.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::flow::{Completeness, NotCompared, SETTLED};
use crate::lifecycle::Lifecycle;

/// After the start: other things come first then.
const FIRST: Duration = Duration::from_mins(15);
const EVERY: Duration = Duration::from_hours(1);
/// Days back that are made up for.
const DAYS: i64 = 7;

/// Compares until the process is asked to stop.
pub async fn run(lifecycle: Lifecycle, completeness: Completeness) {
    let draining = lifecycle.draining();
    let mut pause = FIRST;
    while lifecycle.pause(pause).await {
        pause = EVERY;
        if completeness.rest.can_ask().is_err() {
            continue;
        }
        // What is read of a list goes on at the next start.
        let compared = draining.run_until_cancelled(compare(&completeness));
        if let Some(Err(error)) = compared.await {
            let error = &error as &(dyn std::error::Error + 'static);
            tracing::warn!(
                event = "audit.not_compared",
                error,
                "a day is compared with Twilio's list later"
            );
        }
    }
}

/// Compares the days that are over and were not compared, the oldest first.
async fn compare(completeness: &Completeness) -> Result<(), NotCompared> {
    let day_of = |at: Timestamp| at.to_zoned(TimeZone::UTC).date();
    let settled = completeness.clock.now().saturating_sub(SETTLED);
    let settled = settled.unwrap_or_default();
    let back = |days: i64| day_of(settled).saturating_sub(days.days());
    let last = completeness.store.last_completeness().await?;
    let first = last.map_or(back(1), |(_, checked)| day_of(checked.to).max(back(DAYS)));
    let days = (first, back(1));
    let compared = completeness.check_days(days, "the daily check");
    compared.await.map(drop)
}

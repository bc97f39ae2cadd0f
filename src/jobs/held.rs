//! What a restart in the middle of the day finds: callers who wait, calls that dialers have, and incidents that are open.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::flow::Calls;
use crate::routing::{DialerId, DialerLimits};
use crate::store::{Store, StoreError};

const MINUTE_MS: i64 = 60_000;

/// Puts the callers who wait back in line, in order of arrival, counts the calls that dialers have, and takes up the open incidents. What
/// cannot be read is done without: whoever waits asks again and is in line then.
pub async fn restore(store: &Store, calls: &Calls) {
    if let Err(error) = restore_line(store, calls).await {
        tracing::error!(event = "call.unreadable", error = %error, "the callers who wait cannot be read");
    }
    if let Err(error) = restore_loads(store, calls).await {
        tracing::error!(event = "call.unreadable", error = %error, "the calls that dialers have cannot be read: their limits count from here");
    }
    if let Err(error) = calls.incidents.restore(store).await {
        tracing::error!(event = "alert.unread", error = %error, "the open incidents cannot be read");
    }
}

async fn restore_line(store: &Store, calls: &Calls) -> Result<(), StoreError> {
    let policy = calls.policies.current();
    let now = calls.clock.instant();
    for call in store.calls_held().await? {
        if let Some((since, _)) = call.state.waiting() {
            let wanted = policy.wanted(&call);
            calls.waiting.restore(&call.id, since, &wanted, now);
        }
    }
    if !calls.waiting.is_empty() {
        tracing::info!(
            event = "call.waiting",
            callers = calls.waiting.len(),
            "callers wait since before the start"
        );
    }
    Ok(())
}

async fn restore_loads(store: &Store, calls: &Calls) -> Result<(), StoreError> {
    for (call, dialer, since) in store.calls_at_dialers().await? {
        calls.loads.restore_active(call, &dialer, since);
    }
    let policy = calls.policies.current();
    if !policy
        .ruleset
        .limits
        .values()
        .any(DialerLimits::counts_periods)
    {
        return Ok(());
    }
    let (periods, now) = (calls.loads.periods(), calls.clock.now());
    let mut counted = BTreeMap::<DialerId, [u32; 3]>::new();
    for (n, since) in [periods.hour, periods.day, periods.month]
        .into_iter()
        .enumerate()
    {
        for (dialer, calls) in count_since(store, since, now).await? {
            if let Some(count) = counted.entry(dialer).or_default().get_mut(n) {
                *count = calls;
            }
        }
    }
    for (dialer, counts) in counted {
        calls.loads.restore_counts(dialer, counts);
    }
    Ok(())
}

/// The calls of each dialer since a time, by the roll-ups.
async fn count_since(
    store: &Store,
    since: Timestamp,
    now: Timestamp,
) -> Result<Vec<(DialerId, u32)>, StoreError> {
    let from = since.as_millisecond() / MINUTE_MS * MINUTE_MS;
    let to = (now.as_millisecond() / MINUTE_MS + 1) * MINUTE_MS;
    let figures = store.figures(from, to, to - from).await?;
    let dialers = figures.into_values().flat_map(|figures| figures.dialers);
    let count = |(name, figures): (String, crate::store::GroupFigures)| {
        let calls = u32::try_from(figures.calls).unwrap_or_default();
        (DialerId::new(&name), calls)
    };
    Ok(dialers.map(count).collect())
}

//! Entries of lists that are over are deleted. They do not count any more already.

use std::time::Duration;

use crate::flow::ListEntries;
use crate::lifecycle::Lifecycle;

const EVERY: Duration = Duration::from_mins(1);

/// Deletes them until the process is asked to stop.
pub async fn run(lifecycle: Lifecycle, lists: ListEntries) {
    while lifecycle.pause(EVERY).await {
        lists.expire().await;
    }
}

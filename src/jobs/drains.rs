//! Dialers that were taken out until a time come back by themselves then, or at the next start where that is later.

use std::time::Duration;

use crate::flow::Drains;
use crate::lifecycle::Lifecycle;

const EVERY: Duration = Duration::from_secs(1);

/// Puts them back until the process is asked to stop.
pub async fn run(lifecycle: Lifecycle, drains: Drains) {
    loop {
        drains.resume_due().await;
        if !lifecycle.pause(EVERY).await {
            return;
        }
    }
}

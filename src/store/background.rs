//! Long work that goes through the writer in slices which no caller feels.

use std::time::Duration;

use super::error::StoreError;
use super::handle::Store;
use super::work::Work;

/// So many times wider are slices where nobody routes calls.
const ALONE: u32 = 20;
/// Between two looks whether the writer has nothing to do.
pub(super) const WAIT: Duration = Duration::from_millis(2);
/// How long a slice waits for a quiet moment before it goes all the same.
const PATIENCE: u32 = 250;

/// Work beside calls, or alone. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Background {
    pub(super) store: Store,
    /// Nobody routes calls, so there is nobody to wait for.
    pub(super) is_alone: bool,
}

impl Background {
    /// How much one slice does, of which it does so much beside calls.
    pub(super) fn width(&self, beside_calls: u32) -> u32 {
        beside_calls * if self.is_alone { ALONE } else { 1 }
    }

    /// Lets the writer do a little in a quiet moment, and leaves it to others for nine times as long.
    pub(super) async fn slice(&self, work: Work) -> Result<(), StoreError> {
        self.quiet().await;
        let started = self.store.clock().instant();
        self.store.submit(work).await?;
        let took = self.store.clock().instant().duration_since(started);
        self.rest(took * 9).await;
        Ok(())
    }

    /// Waits until the writer has nothing to do, for half a second at most.
    async fn quiet(&self) {
        if self.is_alone {
            return;
        }
        for _ in 0..PATIENCE {
            if self.store.is_idle() {
                return;
            }
            self.store.clock().wait(WAIT).await;
        }
    }

    pub(super) async fn rest(&self, pause: Duration) {
        if !self.is_alone {
            self.store.clock().wait(pause.max(WAIT)).await;
        }
    }
}

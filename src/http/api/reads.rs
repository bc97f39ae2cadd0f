//! What the API asks the database: few questions at a time, so that the readers of the call path are never all taken.

use crate::call::CallId;
use crate::http::error::ApiError;
use crate::http::overload::Lane;
use crate::store::{Store, StoreError, StoredCall, StoredLeg};

/// Questions at the same time; the store has four readers.
const PLACES: usize = 2;

/// Reads calls for people. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reads {
    store: Store,
    lane: Lane,
}

impl Reads {
    /// Reads from `store`.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            lane: Lane::new(PLACES),
        }
    }

    /// One call with its legs.
    pub(super) async fn call(
        &self,
        id: &CallId,
    ) -> Result<Option<(StoredCall, Vec<StoredLeg>)>, ApiError> {
        let call = self.ask(self.store.call(id)).await?;
        let Some(call) = call else { return Ok(None) };
        let legs = self.legs(id).await?;
        Ok(Some((call, legs)))
    }

    /// The legs of a call.
    pub(super) async fn legs(&self, id: &CallId) -> Result<Vec<StoredLeg>, ApiError> {
        self.ask(self.store.legs(id)).await
    }

    /// Calls in progress, newest first, and how many there are in all.
    pub(super) async fn active_calls(
        &self,
        limit: u32,
    ) -> Result<(Vec<StoredCall>, i64), ApiError> {
        let calls = self.ask(self.store.active_calls(limit)).await?;
        let counts = self.ask(self.store.counts()).await?;
        Ok((calls, counts.active_calls))
    }

    async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, ApiError> {
        let Some(_place) = self.lane.enter().await else {
            return Err(super::busy());
        };
        question.await.map_err(ApiError::store)
    }
}

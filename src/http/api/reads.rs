//! What the API asks the database: few questions at a time, so that the readers of the call path are never all taken.

use super::call_filters::DigitSearches;
use crate::alerts::Incidents;
use crate::call::CallId;
use crate::clock::Clock;
use crate::flow::Waiting;
use crate::http::error::ApiError;
use crate::http::limit::ConcurrencyLimit;
use crate::routing::DialerId;
use crate::store::{
    Part, RecordsAsked, Rows, Store, StoreError, StoredCall, StoredLeg, StoredRecord,
};

/// Questions at the same time; the store has four readers.
const PERMITS: usize = 2;

/// Reads calls for people. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reads {
    pub(super) store: Store,
    pub(super) clock: Clock,
    waiting: Waiting,
    pub(super) incidents: Incidents,
    limit: ConcurrencyLimit,
    pub(super) searches: DigitSearches,
    /// Walks through the whole log are one at a time.
    pub(super) walks: ConcurrencyLimit,
}

impl Reads {
    /// How many callers wait now, for these dialers or for any with `None`, and how long the first of them has, in milliseconds.
    pub(super) fn who_waits(&self, wanted: Option<&[DialerId]>) -> (Option<u64>, Option<u64>) {
        let (n, longest) = self.waiting.who_waits(wanted, self.clock.uptime());
        (
            u64::try_from(n).ok(),
            u64::try_from(longest.as_millis()).ok(),
        )
    }

    pub fn new(store: Store, clock: Clock, waiting: Waiting, incidents: Incidents) -> Self {
        Self {
            store,
            clock,
            waiting,
            incidents,
            limit: ConcurrencyLimit::new(PERMITS),
            searches: DigitSearches::default(),
            walks: ConcurrencyLimit::new(1),
        }
    }

    /// The call of this id, with its legs. What cannot be the id of a call is the id of none.
    pub(super) async fn known_call(
        &self,
        id: &str,
    ) -> Result<(StoredCall, Vec<StoredLeg>), ApiError> {
        let call = match CallId::parse(id) {
            Ok(id) => self.call(&id).await?,
            Err(_) => None,
        };
        call.ok_or_else(|| ApiError::not_found("There is no such call."))
    }

    /// One call with its legs.
    pub(in super::super) async fn call(
        &self,
        id: &CallId,
    ) -> Result<Option<(StoredCall, Vec<StoredLeg>)>, ApiError> {
        let call = self.ask(self.store.call(id)).await?;
        let Some(call) = call else { return Ok(None) };
        let legs = self.ask(self.store.legs(id)).await?;
        Ok(Some((call, legs)))
    }

    /// A page of audit records.
    pub(super) async fn records(
        &self,
        asked: RecordsAsked,
        part: Part<i64>,
    ) -> Result<Rows<StoredRecord, i64>, ApiError> {
        self.ask(self.store.records_page(asked, part)).await
    }

    /// All records of a call, in order.
    pub(super) async fn records_of_call(&self, id: &CallId) -> Result<Vec<StoredRecord>, ApiError> {
        self.ask(self.store.records_of_call(id)).await
    }

    /// Asks one question, in turn.
    pub(super) async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, ApiError> {
        let Some(_permit) = self.limit.acquire().await else {
            return Err(ApiError::busy());
        };
        question.await.map_err(ApiError::store)
    }
}

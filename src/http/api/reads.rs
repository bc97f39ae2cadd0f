//! What the API asks the database: few questions at a time, so that the readers of the call path are never all taken.

use crate::call::CallId;
use crate::clock::Clock;
use crate::flow::Waiting;
use crate::http::error::ApiError;
use crate::http::limit::ConcurrencyLimit;
use crate::routing::DialerId;
use crate::store::{
    CallPlace, CallsAsked, IncidentWithMessages, Part, RecordsAsked, Rows, Store, StoreError,
    StoredCall, StoredLeg, StoredMessage, StoredRecord,
};

/// Questions at the same time; the store has four readers.
const PERMITS: usize = 2;

/// Reads calls for people. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reads {
    pub(super) store: Store,
    pub(super) clock: Clock,
    waiting: Waiting,
    limit: ConcurrencyLimit,
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

    pub fn new(store: Store, clock: Clock, waiting: Waiting) -> Self {
        Self {
            store,
            clock,
            waiting,
            limit: ConcurrencyLimit::new(PERMITS),
        }
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

    pub(super) async fn calls(
        &self,
        asked: CallsAsked,
        part: Part<CallPlace>,
    ) -> Result<Rows<(StoredCall, Vec<StoredLeg>), CallPlace>, ApiError> {
        self.ask(self.store.calls_page(asked, part)).await
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

    /// A page of incidents with their messages.
    pub(super) async fn incidents(
        &self,
        open: bool,
        part: Part<i64>,
    ) -> Result<Rows<IncidentWithMessages, i64>, ApiError> {
        self.ask(self.store.incidents(open, part)).await
    }

    /// The incident of this name with its messages.
    pub(super) async fn incident(
        &self,
        name: &str,
    ) -> Result<Option<IncidentWithMessages>, ApiError> {
        self.ask(self.store.incident(name)).await
    }

    /// The messages of one notice.
    pub(super) async fn messages_of(&self, notice: &str) -> Result<Vec<StoredMessage>, ApiError> {
        self.ask(self.store.messages_of(notice)).await
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

//! Showing numbers in full: only where they were asked for, and only after it was written down.

use utoipa::IntoParams;

use super::reads::Reads;
use crate::audit::{Access, Event, Record};
use crate::http::error::ApiError;
use crate::http::keys::Holder;
use crate::http::listener::RequestId;
use crate::store::StoreError;

/// `?reveal=true`, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct Reveal {
    /// Shows numbers of people in full. It is written down who asked.
    reveal: Option<bool>,
}

/// How numbers of people are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Numbers {
    /// All but the last two digits hidden.
    Masked,
    Full,
}

impl Reads {
    /// How the numbers of so many calls are shown. In full only once the record of who sees them is on disk.
    pub(super) async fn numbers(
        &self,
        reveal: bool,
        calls: usize,
        route: &'static str,
        holder: &Holder,
        request_id: &RequestId,
    ) -> Result<Numbers, ApiError> {
        if !reveal {
            return Ok(Numbers::Masked);
        }
        self.record_first(Access::NumbersRevealed {
            by: holder.name.to_string(),
            route: route.to_owned(),
            calls: u64::try_from(calls).unwrap_or(u64::MAX),
            request_id: request_id.to_string(),
        })
        .await?;
        Ok(Numbers::Full)
    }

    /// Records what somebody sees; it is in the database before the answer goes out.
    pub(super) async fn record_first(&self, access: Access) -> Result<(), ApiError> {
        self.append(access).await.map_err(ApiError::store)
    }

    /// Records what somebody did. Where the database takes nothing now, the record waits for it and the answer does not.
    pub(super) async fn record(&self, access: Access) -> Result<(), ApiError> {
        match self.append(access).await {
            Ok(()) | Err(StoreError::Deferred) => Ok(()),
            Err(error) => Err(ApiError::store(error)),
        }
    }

    async fn append(&self, access: Access) -> Result<(), StoreError> {
        let record = Record::of_service(self.clock.now(), Event::Accessed(access));
        self.store.append(vec![record]).await.map(|_| ())
    }
}

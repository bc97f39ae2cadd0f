//! Showing numbers in full: only where they were asked for, and only after it was written down.

use serde::Deserialize;
use utoipa::IntoParams;

use super::calls::Numbers;
use super::fields::Fields;
use super::reads::Reads;
use crate::audit::{Access, Event, Record};
use crate::http::auth::Holder;
use crate::http::error::ApiError;
use crate::http::server::RequestId;
use crate::store::StoreError;

/// `?reveal=true`
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Reveal {
    /// Shows numbers of people in full. It is written down who asked.
    #[param(value_type = Option<bool>)]
    reveal: Option<String>,
}

/// Who saw numbers in full, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Revealed<'a> {
    pub(super) holder: &'a Holder,
    pub(super) request_id: &'a RequestId,
    pub(super) route: &'static str,
    pub(super) calls: usize,
}

impl Reveal {
    pub(super) fn read(&self, fields: &mut Fields) -> bool {
        fields.flag("reveal", self.reveal.as_deref())
    }
}

impl Reads {
    /// How numbers are shown. In full only once the record of it is on disk.
    pub(super) async fn numbers(
        &self,
        reveal: bool,
        revealed: Revealed<'_>,
    ) -> Result<Numbers, ApiError> {
        if !reveal {
            return Ok(Numbers::Masked);
        }
        let access = Access::NumbersRevealed {
            by: revealed.holder.name.to_string(),
            route: revealed.route.to_owned(),
            calls: u64::try_from(revealed.calls).unwrap_or(u64::MAX),
            request_id: revealed.request_id.to_string(),
        };
        self.write_down(Event::Accessed(access)).await?;
        Ok(Numbers::Full)
    }

    /// Writes down what somebody saw; the answer waits until it is in the database.
    pub(super) async fn write_down(&self, event: Event) -> Result<(), ApiError> {
        let written = self.append(event).await;
        written.map_err(ApiError::store)
    }

    /// Writes down what somebody did. Where the database takes nothing now, the record waits its turn, and nobody waits for it.
    pub(super) async fn note_down(&self, event: Event) -> Result<(), ApiError> {
        match self.append(event).await {
            Ok(()) | Err(StoreError::Deferred) => Ok(()),
            Err(error) => Err(ApiError::store(error)),
        }
    }

    async fn append(&self, event: Event) -> Result<(), StoreError> {
        let record = Record::of_service(self.clock.now(), event);
        self.store.append(vec![record]).await.map(|_| ())
    }
}

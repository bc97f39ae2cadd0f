//! `/events`: what has changed, as it happens; and the objects that its events carry.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Interval;
use utoipa::{IntoParams, ToSchema};

use super::super::auth::Viewer;
use super::super::error::{ApiError, ErrorKind};
use super::super::event_hub::{Events, Subscription};
use super::super::sessions::Sessions;
use super::alerts::IncidentDocument;
use super::calls::CallDocument;
use super::reads::Reads;
use super::record::RecordDocument;
use super::reveal::Numbers;
use super::settings::{InstallationDocument, ShownSettings};
use crate::call::CallId;
use crate::lifecycle::Lifecycle;

/// How often the right to a stream is checked again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where a stream goes on, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its description is used")]
struct GoesOn {
    /// The id of the last event that was seen.
    #[param(rename = "Last-Event-ID", schema_with = event_id)]
    last_event_id: Option<u64>,
}

/// Digits: a header is a text, and never null.
fn event_id() -> utoipa::openapi::schema::Object {
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .pattern(Some("^[0-9]{1,19}$"))
        .build()
}

/// One event of the stream.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
struct EventDocument {
    /// Rises, over restarts too.
    #[schema(pattern = "^[0-9]+$", example = "1795723764873158")]
    id: String,
    /// What has changed.
    event: EventName,
    /// JSON: the object that the matching GET returns, without its envelope; of `reset`, `{reason}`; of `beat`, `{}`.
    #[schema(content_media_type = "application/json")]
    data: String,
}

/// What an event tells of.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its description is used")]
enum EventName {
    Call,
    Metrics,
    Dialer,
    Alert,
    Settings,
    Reset,
    Beat,
}

/// Server-sent events: `call`, `metrics`, `dialer`, `alert`, `settings` carry the object that the matching GET returns; `reset` says that
/// something was missed and has to be fetched anew. Numbers are masked.
///
/// Ids rise; with `Last-Event-ID` a stream goes on where it ended. A `beat` every two seconds shows that it is there: it carries the id of the
/// event before it.
#[utoipa::path(
    get,
    path = "/events",
    params(GoesOn),
    responses((status = 200, description = "The stream of such events, until the client ends it, reads too slowly, or the process stops.", body = EventDocument, content_type = "text/event-stream"))
)]
pub(super) async fn stream(
    Viewer(holder): Viewer,
    State(events): State<Events>,
    State(sessions): State<Sessions>,
    State(lifecycle): State<Lifecycle>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let last = headers.get("last-event-id").map(|id| {
        let digits = id
            .to_str()
            .ok()
            .filter(|text| text.len() <= 19 && text.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|text| text.parse().ok()).ok_or_else(|| {
            let error = ApiError::new(ErrorKind::Validation, "Last-Event-ID cannot be read.");
            error.with("Last-Event-ID", "must be the id of an event")
        })
    });
    let last = last.transpose()?;
    let Some(subscription) = events.subscribe(last, &holder.name) else {
        return Err(ApiError::new(
            ErrorKind::Unavailable,
            "Too many event streams are open, in all or with this key; close one, or poll.",
        ));
    };
    let stream = EventStream {
        subscription,
        rights: sessions.rights(),
        sessions,
        headers,
        lifecycle,
        looks: tokio::time::interval(LOOK_EVERY),
    };
    let chunks = stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((Ok::<Bytes, Infallible>(bytes), stream))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    // Proxies that gather answers would hold events back.
    let as_they_come = [("x-accel-buffering", "no")];
    Ok((kind, as_they_come, Body::from_stream(chunks)).into_response())
}

/// A subscription, and the right to it.
struct EventStream {
    subscription: Subscription,
    sessions: Sessions,
    headers: HeaderMap,
    lifecycle: Lifecycle,
    /// When the right is checked again: by the clock, and when somebody lost one.
    looks: Interval,
    rights: watch::Receiver<()>,
}

impl EventStream {
    /// `None` at the end of the process, of the subscription, or of the right to it, which is checked by the clock however much happens.
    async fn next(&mut self) -> Option<Bytes> {
        let draining = self.lifecycle.draining();
        loop {
            tokio::select! {
                biased;
                () = draining.cancelled() => return None,
                () = checks(&mut self.looks, &mut self.rights) => {
                    if !self.sessions.may_still_see(&self.headers) {
                        return None;
                    }
                }
                next = self.subscription.next() => return next,
            }
        }
    }
}

/// Waits for the next moment to check a right.
async fn checks(looks: &mut Interval, rights: &mut watch::Receiver<()>) {
    tokio::select! {
        _ = looks.tick() => {}
        Ok(()) = rights.changed() => {}
    }
}

/// What the events carry; `None` where there is no such thing, or the database does not answer.
impl Reads {
    pub(in super::super) async fn call_document(&self, id: &CallId) -> Option<CallDocument> {
        let (call, legs) = self.call(id).await.ok()??;
        Some(CallDocument::new(call, legs, Numbers::Masked))
    }

    pub(in super::super) async fn incident_document(&self, name: &str) -> Option<IncidentDocument> {
        let found = self.ask(self.store.incident(name)).await.ok()??;
        Some(IncidentDocument::new(found, self))
    }

    pub(in super::super) async fn settings_document(
        &self,
        settings: &ShownSettings,
    ) -> Option<InstallationDocument> {
        InstallationDocument::now(settings, self).await.ok()
    }

    pub(in super::super) async fn record_document(&self, id: i64) -> Option<RecordDocument> {
        let found = self.ask(self.store.records(id - 1, 1)).await.ok()?;
        found.into_iter().next().map(RecordDocument::new)
    }
}

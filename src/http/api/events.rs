//! `/events`: what has changed, as it happens; and the objects that its events carry.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;

use super::super::auth::Viewer;
use super::super::error::{ApiError, Kind as Failure};
use super::super::events::{Events, Next, Watch};
use super::super::sessions::Sessions;
use super::Reads;
use super::calls::{Numbers, ShownCall};
use super::dialers::ShownDialer;
use super::logs::ShownRecord;
use super::metrics::{Metrics, Window};
use crate::call::CallId;
use crate::flow::Drains;
use crate::lifecycle::Lifecycle;
use crate::routing::DialerId;

/// Server-sent events: `call`, `metrics`, `dialer`, `alert`, `settings` carry the object that the matching GET returns; `reset` says that
/// something was missed and has to be fetched anew. Numbers are masked.
///
/// Ids rise; with `Last-Event-ID` a stream goes on where it ended. A comment every 15 seconds shows that it is there.
#[utoipa::path(
    get,
    path = "/events",
    tag = "events",
    params(("Last-Event-ID" = Option<u64>, Header, description = "The id of the last event that was seen.")),
    responses((status = 200, description = "The stream, until the client ends it, reads too slowly, or the process stops.", body = String, content_type = "text/event-stream"))
)]
pub(super) async fn stream(
    _: Viewer,
    State(events): State<Events>,
    State(sessions): State<Sessions>,
    State(lifecycle): State<Lifecycle>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let last = match headers.get("last-event-id") {
        None => None,
        Some(id) => Some(
            id.to_str()
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| {
                    let error = ApiError::new(Failure::Validation, "Last-Event-ID cannot be read.");
                    error.with("Last-Event-ID", "must be the id of an event")
                })?,
        ),
    };
    let Some(watch) = events.watch(last) else {
        return Err(ApiError::new(
            Failure::Unavailable,
            "Too many event streams are open; close one, or poll.",
        ));
    };
    let seat = Seat {
        watch,
        sessions,
        headers,
        lifecycle,
    };
    let chunks = stream::unfold(seat, |mut seat| async move {
        let bytes = seat.next().await?;
        Some((Ok::<Bytes, Infallible>(bytes), seat))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    // Proxies that gather answers would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// One who watches, and by what right.
struct Seat {
    watch: Watch,
    sessions: Sessions,
    headers: HeaderMap,
    lifecycle: Lifecycle,
}

impl Seat {
    /// `None` at the end: of the process, of the stream, or of the right to watch.
    async fn next(&mut self) -> Option<Bytes> {
        let draining = self.lifecycle.draining();
        match draining.run_until_cancelled(self.watch.next()).await? {
            Next::Send(bytes) => Some(bytes),
            Next::Heartbeat(bytes) => {
                let may_watch = self.sessions.authenticate(&self.headers).is_ok();
                may_watch.then_some(bytes)
            }
            Next::Over => None,
        }
    }
}

/// A call, as its event carries it.
pub(in super::super) async fn call(reads: &Reads, id: &CallId) -> Option<ShownCall> {
    let (call, legs) = reads.call(id).await.ok()??;
    Some(ShownCall::new(call, legs, Numbers::Masked))
}

/// A dialer, as its event carries it; `None` for Braze.
pub(in super::super) async fn dialer(
    drains: &Drains,
    reads: &Reads,
    name: &str,
) -> Option<ShownDialer> {
    let status = drains.status(&DialerId::new(name))?;
    super::dialers::document(&status, drains, reads).await.ok()
}

/// The figures of the last five minutes, as their event carries them.
pub(in super::super) async fn metrics(reads: &Reads) -> Option<Metrics> {
    reads.metrics(Window::FIVE_MINUTES).await.ok()
}

/// A record, as its event carries it.
pub(in super::super) async fn record(reads: &Reads, id: i64) -> Option<ShownRecord> {
    let found = reads.ask(reads.store.records(id - 1, 1)).await.ok()?;
    found.into_iter().next().map(ShownRecord::new)
}

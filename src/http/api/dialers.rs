//! `/dialers`: how each dialer is, and taking it out, putting it back, testing it by hand.

use axum::extract::{Path, State};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::super::auth::{Admin, Viewer};
use super::super::error::ApiError;
use super::{data, page};
use crate::dialer::{Drained, Status};
use crate::flow::Drains;
use crate::routing::{Availability, BreakerView, DialerId};
use crate::twiml::Connect;

/// A dialer as the API shows it: its settings without secrets, and how it is.
#[derive(Serialize)]
struct Document<'a> {
    name: &'a DialerId,
    kind: &'static str,
    connect: &'a Connect,
    timeout_ms: u128,
    probe_every_ms: u128,
    /// `closed` (well), `unavailable`, `open` (its requests fail) or `drained`.
    state: &'static str,
    breaker: BreakerView,
    availability: &'static str,
    /// Why it is not `closed`.
    reason: Option<String>,
    /// Since when it is not, where that is known.
    since: Option<Timestamp>,
    drained: Option<&'a Drained>,
}

impl<'a> Document<'a> {
    fn new(status: &'a Status, now: Timestamp) -> Self {
        let dialer = &status.dialer;
        let opened = status.open_for.as_ref();
        let drained = status.drained.as_ref();
        let (availability, why) = match &status.view.availability {
            Availability::Available => ("available", None),
            Availability::Unavailable { why } => ("unavailable", Some(why)),
            Availability::Unknown => ("unknown", None),
        };
        let (state, reason, since) = if let Some(drained) = drained {
            let reason = format!("taken out by {}", drained.by);
            ("drained", Some(reason), Some(drained.since))
        } else if let Some((open_for, why)) = opened {
            let open_for = SignedDuration::try_from(*open_for).unwrap_or(SignedDuration::MAX);
            let since = now.checked_sub(open_for).ok();
            ("open", Some(why.clone()), since)
        } else if let Some(why) = why {
            ("unavailable", Some(why.clone()), None)
        } else {
            ("closed", None, None)
        };
        Self {
            name: dialer.id(),
            kind: dialer.kind().as_str(),
            connect: dialer.connect(),
            timeout_ms: dialer.timeout().as_millis(),
            probe_every_ms: dialer.probe_every().as_millis(),
            state,
            breaker: status.view.breaker,
            availability,
            reason,
            since,
            drained,
        }
    }
}

/// Every dialer, in the order of the file.
pub(super) async fn all(_: Viewer, State(drains): State<Drains>) -> Response {
    let (statuses, now) = (drains.statuses(), drains.clock.now());
    let documents: Vec<_> = statuses
        .iter()
        .map(|status| Document::new(status, now))
        .collect();
    page::whole(&documents)
}

/// One dialer.
pub(super) async fn one(
    _: Viewer,
    State(drains): State<Drains>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    shown(&drains, &name, drains.status(&DialerId::new(&name)))
}

/// Takes a dialer out.
pub(super) async fn drain(
    Admin(holder): Admin,
    State(drains): State<Drains>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let status = drains.drain(&DialerId::new(&name), &holder.name).await;
    shown(&drains, &name, status)
}

/// Puts a dialer back.
pub(super) async fn resume(
    Admin(holder): Admin,
    State(drains): State<Drains>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let status = drains.resume(&DialerId::new(&name), &holder.name).await;
    shown(&drains, &name, status)
}

/// Tests the connection to a dialer; no call is placed.
pub(super) async fn test(
    _: Admin,
    State(drains): State<Drains>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let Some(status) = drains.status(&DialerId::new(&name)) else {
        return Err(unknown(&drains, &name));
    };
    Ok(data(status.dialer.test().await))
}

fn shown(drains: &Drains, name: &str, status: Option<Status>) -> Result<Response, ApiError> {
    match status {
        Some(status) => Ok(data(Document::new(&status, drains.clock.now()))),
        None => Err(unknown(drains, name)),
    }
}

fn unknown(drains: &Drains, name: &str) -> ApiError {
    let known: Vec<String> = drains
        .statuses()
        .iter()
        .map(|status| status.dialer.id().to_string())
        .collect();
    ApiError::not_found(format!("There is no dialer named {name:?}.")).with("dialers", known)
}

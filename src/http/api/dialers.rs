//! `/dialers`: how each dialer is, and taking it out, putting it back, testing it by hand.

use axum::extract::{Path, State};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::{Admin, Viewer};
use super::super::error::ApiError;
use super::metrics::{LatencyPercentiles, Window, rate};
use super::page::{Data, List, data, whole};
use super::reads::Reads;
use crate::audit::ServiceState;
use crate::dialer::{DialerStatus, TestReport};
use crate::flow::{Drains, Retries};
use crate::resilience::{CredentialRefusal, TriedBy};
use crate::routing::{Availability, BreakerView, DialerId};
use crate::store::Figures;

/// A dialer as the API shows it: its settings without secrets, and how it is.
#[derive(Serialize, ToSchema)]
#[schema(as = Dialer)]
pub(in super::super) struct DialerDocument {
    /// Its name in the configuration.
    #[schema(value_type = String, example = "dialfire")]
    name: DialerId,
    /// `dialfire`, `zendesk_talk` or `http`.
    kind: &'static str,
    /// Where its line is: `{kind, value}`.
    #[schema(value_type = Object)]
    connect: Value,
    timeout_ms: u64,
    probe_every_ms: u64,
    /// `closed` (well), `unavailable`, `open` (its requests fail) or `drained`.
    state: &'static str,
    breaker: BreakerView,
    /// `available`, `unavailable` or `unknown`, as it says of itself.
    availability: &'static str,
    /// Why it is as it is; null where nothing was ever wrong.
    reason: Option<String>,
    /// Since when it is as it is, where that is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// The credentials, where it refuses them; null where it does not.
    refused: Option<RefusedCredentials>,
    /// Who took it out, and when: `{by, since}`.
    #[schema(value_type = Option<Object>)]
    drained: Option<Value>,
    /// Requests to it in the last hour.
    handoffs: i64,
    /// Those that it accepted, 0 to 1; null where there was none.
    success_rate: Option<f64>,
    /// How long they took.
    latency: LatencyPercentiles,
}

impl DialerDocument {
    pub(in super::super) fn new(
        status: &DialerStatus,
        states: &[ServiceState],
        figures: &Figures,
        now: Timestamp,
    ) -> Self {
        let handoffs = figures.handoffs.get(status.dialer.id().as_str());
        let asked = handoffs.map_or(0, |handoffs| handoffs.asked);
        let accepted = asked - handoffs.map_or(0, |handoffs| handoffs.failed);
        let dialer = &status.dialer;
        let opened = status.open_for.as_ref();
        let drained = status.drained.as_ref();
        let recorded = states
            .iter()
            .find(|state| state.service == dialer.id().as_str());
        let (availability, why) = match &status.view.availability {
            Availability::Available => ("available", None),
            Availability::Unavailable { why } => ("unavailable", Some(why)),
            Availability::Unknown => ("unknown", None),
        };
        let since = |word: &str| {
            let same = recorded.filter(|state| state.state == word);
            same.map(|state| state.changed_at)
        };
        let (state, reason, since) = if let Some(drained) = drained {
            let reason = format!("taken out by {}", drained.by);
            ("drained", Some(reason), Some(drained.since))
        } else if let Some((open_for, why)) = opened {
            let open_for = SignedDuration::try_from(*open_for).unwrap_or(SignedDuration::MAX);
            let since = now.checked_sub(open_for).ok();
            ("open", Some(why.clone()), since)
        } else if let Some(why) = why {
            ("unavailable", Some(why.clone()), since("unavailable"))
        } else {
            let reason = recorded.filter(|state| state.state == "closed");
            let reason = reason.map(|state| state.cause.clone());
            ("closed", reason, since("closed"))
        };
        Self {
            name: dialer.id().clone(),
            kind: dialer.kind(),
            connect: serde_json::to_value(dialer.connect()).unwrap_or_default(),
            timeout_ms: ms(dialer.timeout()),
            probe_every_ms: ms(dialer.probe_every()),
            state,
            breaker: status.view.breaker,
            availability,
            reason,
            since,
            refused: status
                .refused
                .as_ref()
                .map(|refused| RefusedCredentials::new(refused, dialer.time_of(refused.next_try))),
            drained: drained.and_then(|drained| serde_json::to_value(drained).ok()),
            handoffs: asked,
            success_rate: rate(accepted, asked),
            latency: LatencyPercentiles::of(handoffs.map(|handoffs| &handoffs.took)),
        }
    }
}

/// Credentials that a service refuses.
#[derive(Serialize, ToSchema)]
pub(super) struct RefusedCredentials {
    /// Which, and under which keys of the configuration.
    credential: String,
    /// What the service said.
    reason: String,
    /// How often in a row.
    times: u32,
    /// When they are tried again.
    #[schema(value_type = String, format = DateTime)]
    next_try_at: Timestamp,
    /// `probe`, or `call`: the next call after that time, where no probe uses them.
    tried_by: &'static str,
}

impl RefusedCredentials {
    pub(super) fn new(refused: &CredentialRefusal, next_try_at: Timestamp) -> Self {
        Self {
            credential: refused.credential.clone(),
            reason: refused.why.clone(),
            times: refused.count,
            next_try_at,
            tried_by: match refused.tried_by {
                TriedBy::Probe => "probe",
                TriedBy::Request => "call",
            },
        }
    }
}

fn ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Every dialer, in the order of the file.
#[utoipa::path(
    get,
    path = "/dialers",
    tag = "dialers",
    responses((status = 200, description = "All dialers.", body = List<DialerDocument>))
)]
pub(super) async fn all(
    _: Viewer,
    State(drains): State<Drains>,
    State(reads): State<Reads>,
) -> Result<Response, ApiError> {
    Ok(whole(every(&drains, &reads).await?))
}

/// How every dialer is: the same as `/dialers`.
#[utoipa::path(
    get,
    path = "/dialers/status",
    tag = "dialers",
    responses((status = 200, description = "All dialers.", body = List<DialerDocument>))
)]
pub(super) async fn status(
    _: Viewer,
    State(drains): State<Drains>,
    State(reads): State<Reads>,
) -> Result<Response, ApiError> {
    Ok(whole(every(&drains, &reads).await?))
}

async fn every(drains: &Drains, reads: &Reads) -> Result<Vec<DialerDocument>, ApiError> {
    let states = reads.ask(reads.store.dialer_states()).await?;
    let figures = reads.figures(Window::HOUR).await?;
    let (statuses, now) = (drains.statuses(), drains.clock.now());
    let shown = statuses
        .iter()
        .map(|status| DialerDocument::new(status, &states, &figures, now));
    Ok(shown.collect())
}

/// One dialer.
#[utoipa::path(
    get,
    path = "/dialers/{name}",
    tag = "dialers",
    params(("name" = String, Path, description = "The dialer's name in the configuration.", example = "dialfire")),
    responses((status = 200, description = "The dialer.", body = Data<DialerDocument>))
)]
pub(super) async fn one(
    _: Viewer,
    State(drains): State<Drains>,
    State(reads): State<Reads>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    shown(&drains, &reads, &name, drains.status(&DialerId::new(&name))).await
}

/// Takes a dialer out: calls that it has already are not touched, no other reaches it.
#[utoipa::path(
    post,
    path = "/dialers/{name}/drain",
    tag = "dialers",
    params(("name" = String, Path, description = "The dialer's name in the configuration.", example = "dialfire")),
    responses((status = 200, description = "It is out.", body = Data<DialerDocument>))
)]
pub(super) async fn drain(
    Admin(holder): Admin,
    State(drains): State<Drains>,
    State(reads): State<Reads>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let status = drains.drain(&DialerId::new(&name), &holder.name).await;
    shown(&drains, &reads, &name, status).await
}

/// Puts a dialer back.
#[utoipa::path(
    post,
    path = "/dialers/{name}/resume",
    tag = "dialers",
    params(("name" = String, Path, description = "The dialer's name in the configuration.", example = "dialfire")),
    responses((status = 200, description = "It is back.", body = Data<DialerDocument>))
)]
pub(super) async fn resume(
    Admin(holder): Admin,
    State(drains): State<Drains>,
    State(reads): State<Reads>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let status = drains.resume(&DialerId::new(&name), &holder.name).await;
    shown(&drains, &reads, &name, status).await
}

/// Tests the connection to a dialer; no call is placed.
#[utoipa::path(
    post,
    path = "/dialers/{name}/test",
    tag = "dialers",
    params(("name" = String, Path, description = "The dialer's name in the configuration.", example = "dialfire")),
    responses((status = 200, description = "What was found, also where it is not well.", body = Data<TestReport>))
)]
pub(super) async fn test(
    Admin(holder): Admin,
    State(drains): State<Drains>,
    State(retries): State<Retries>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let Some(status) = drains.status(&DialerId::new(&name)) else {
        return Err(unknown(&drains, &name));
    };
    let report = status.dialer.test().await;
    retries.tested(&status.dialer, &report, &holder.name).await;
    Ok(data(report))
}

/// Tries credentials that a dialer refuses at once, by one request. Where no probe uses them, the next call tries them; where they are not refused,
/// nothing is sent.
#[utoipa::path(
    post,
    path = "/dialers/{name}/retry",
    tag = "dialers",
    params(("name" = String, Path, description = "The dialer's name in the configuration.", example = "dialfire")),
    responses((status = 200, description = "How it is afterwards.", body = Data<DialerDocument>))
)]
pub(super) async fn retry(
    Admin(holder): Admin,
    State(drains): State<Drains>,
    State(retries): State<Retries>,
    State(reads): State<Reads>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let status = retries.dialer(&DialerId::new(&name), &holder.name).await;
    shown(&drains, &reads, &name, status).await
}

async fn shown(
    drains: &Drains,
    reads: &Reads,
    name: &str,
    status: Option<DialerStatus>,
) -> Result<Response, ApiError> {
    let Some(status) = status else {
        return Err(unknown(drains, name));
    };
    Ok(data(document(&status, drains, reads).await?))
}

/// A dialer as it is now.
pub(super) async fn document(
    status: &DialerStatus,
    drains: &Drains,
    reads: &Reads,
) -> Result<DialerDocument, ApiError> {
    let states = reads.ask(reads.store.dialer_states()).await?;
    let figures = reads.figures(Window::HOUR).await?;
    let now = drains.clock.now();
    Ok(DialerDocument::new(status, &states, &figures, now))
}

fn unknown(drains: &Drains, name: &str) -> ApiError {
    let known: Vec<String> = drains
        .statuses()
        .iter()
        .map(|status| status.dialer.id().to_string())
        .collect();
    ApiError::not_found(format!("There is no dialer named {name:?}.")).with("dialers", known)
}

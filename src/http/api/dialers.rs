//! `/dialers`: how each dialer is, and taking it out, putting it back, testing it by hand. `/lookup`: how it stands with Braze.

use axum::body::Bytes;
use axum::extract::{FromRef, Path, State};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::{Admin, Operator, Viewer};
use super::super::error::{ApiError, ErrorKind};
use super::super::parts::SharedParts;
use super::fields::JsonObject;
use super::metrics::{LatencyPercentiles, Window, rate};
use super::page::{Data, List, data, whole};
use super::reads::Reads;
use crate::audit::{Drained, ServiceState};
use crate::braze::LookupStatus;
use crate::clock::Clock;
use crate::dialer::{DialerStatus, TestReport};
use crate::flow::{Drains, Retries, TakeOut};
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
    since: Option<Timestamp>,
    /// The credentials, where it refuses them; null where it does not.
    refused: Option<RefusedCredentials>,
    /// Who took it out and why, since when, and when it comes back by itself; null where it is in use.
    drained: Option<Drained>,
    /// Requests to it in the last hour.
    handoffs: i64,
    /// Those that it accepted, 0 to 1; null where there was none.
    success_rate: Option<f64>,
    /// How long they took.
    latency: LatencyPercentiles,
}

impl DialerDocument {
    fn new(
        status: &DialerStatus,
        states: &[ServiceState],
        figures: &Figures,
        now: Timestamp,
    ) -> Self {
        let dialer = &status.dialer;
        let name = dialer.id();
        let handoffs = figures.handoffs.get(name.as_str());
        let asked = handoffs.map_or(0, |handoffs| handoffs.asked);
        let accepted = asked - handoffs.map_or(0, |handoffs| handoffs.failed);
        let recorded = states.iter().find(|state| state.service == name.as_str());
        let (availability, why) = match &status.view.availability {
            Availability::Available => ("available", None),
            Availability::Unavailable { why } => ("unavailable", Some(why)),
            Availability::Unknown => ("unknown", None),
        };
        let recorded_as = |word: &str| recorded.filter(|state| state.state == word);
        let (state, reason, since) = if let Some(drained) = &status.drained {
            ("drained", Some(drained.cause()), Some(drained.since))
        } else if let Some((open_for, why)) = &status.open_for {
            let open_for = SignedDuration::try_from(*open_for).unwrap_or(SignedDuration::MAX);
            ("open", Some(why.clone()), now.checked_sub(open_for).ok())
        } else if let Some(why) = why {
            let since = recorded_as("unavailable").map(|state| state.changed_at);
            ("unavailable", Some(why.clone()), since)
        } else {
            let closed = recorded_as("closed");
            let reason = closed.map(|state| state.cause.clone());
            ("closed", reason, closed.map(|state| state.changed_at))
        };
        let refused = status.refused.as_ref();
        Self {
            name: name.clone(),
            kind: dialer.kind(),
            connect: serde_json::to_value(dialer.connect()).unwrap_or_default(),
            timeout_ms: ms(dialer.timeout()),
            probe_every_ms: ms(dialer.probe_every()),
            state,
            breaker: status.view.breaker,
            availability,
            reason,
            since,
            refused: refused
                .map(|refused| RefusedCredentials::new(refused, dialer.time_of(refused.next_try))),
            drained: status.drained.clone(),
            handoffs: asked,
            success_rate: rate(accepted, asked),
            latency: LatencyPercentiles::of(handoffs.map(|handoffs| &handoffs.took)),
        }
    }
}

/// Credentials that a service refuses.
#[derive(Serialize, ToSchema)]
struct RefusedCredentials {
    /// Which, and under which keys of the configuration.
    credential: String,
    /// What the service said.
    reason: String,
    /// How often in a row.
    times: u32,
    /// When they are tried again.
    next_try_at: Timestamp,
    /// `probe`, or `call`: the next call after that time, where no probe uses them.
    tried_by: &'static str,
}

impl RefusedCredentials {
    fn new(refused: &CredentialRefusal, next_try_at: Timestamp) -> Self {
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

/// Dialers as they are now. Cheap to clone.
#[derive(Clone)]
pub(in super::super) struct Dialers {
    pub(in super::super) drains: Drains,
    pub(in super::super) reads: Reads,
}

impl FromRef<SharedParts> for Dialers {
    fn from_ref(parts: &SharedParts) -> Self {
        Self {
            drains: parts.drains.clone(),
            reads: parts.reads.clone(),
        }
    }
}

impl Dialers {
    async fn documents(&self, statuses: &[DialerStatus]) -> Result<Vec<DialerDocument>, ApiError> {
        let states = self.reads.store.dialer_states();
        let states = self.reads.ask(states).await?;
        let figures = self.reads.figures(Window::HOUR).await?;
        let now = self.drains.clock.now();
        let shown = statuses
            .iter()
            .map(|status| DialerDocument::new(status, &states, &figures, now));
        Ok(shown.collect())
    }

    /// The dialer of this name; `None` where there is none, or the database does not answer.
    pub(in super::super) async fn document(&self, name: &str) -> Option<DialerDocument> {
        let status = self.drains.status(&DialerId::new(name))?;
        self.documents(&[status]).await.ok()?.pop()
    }

    async fn all(&self) -> Result<Response, ApiError> {
        Ok(whole(self.documents(&self.drains.statuses()).await?))
    }

    async fn one(&self, name: &str, status: Option<DialerStatus>) -> Result<Response, ApiError> {
        let status = status.ok_or_else(|| self.unknown(name))?;
        let documents = self.documents(&[status]).await?;
        Ok(data(documents.into_iter().next()))
    }

    fn unknown(&self, name: &str) -> ApiError {
        let known = self.drains.statuses().into_iter();
        let known: Vec<String> = known.map(|status| status.dialer.id().to_string()).collect();
        ApiError::not_found(format!("There is no dialer named {name:?}.")).with("dialers", known)
    }
}

/// Every dialer, in the order of the file.
#[utoipa::path(
    get,
    path = "/dialers",
    responses((status = 200, description = "All dialers.", body = List<DialerDocument>))
)]
pub(super) async fn all(_: Viewer, State(dialers): State<Dialers>) -> Result<Response, ApiError> {
    dialers.all().await
}

/// How every dialer is: the same as `/dialers`.
#[utoipa::path(
    get,
    path = "/dialers/status",
    responses((status = 200, description = "All dialers.", body = List<DialerDocument>))
)]
pub(super) async fn status(
    _: Viewer,
    State(dialers): State<Dialers>,
) -> Result<Response, ApiError> {
    dialers.all().await
}

/// One dialer.
#[utoipa::path(
    get,
    path = "/dialers/{name}",
    params(("name" = String, Path, description = "The dialer's name in the configuration.", example = "dialfire")),
    responses((status = 200, description = "The dialer.", body = Data<DialerDocument>))
)]
pub(super) async fn one(
    _: Viewer,
    State(dialers): State<Dialers>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let status = dialers.drains.status(&DialerId::new(&name));
    dialers.one(&name, status).await
}

/// Takes a dialer out: calls that it has already are not touched, no other reaches it. The body may be left out; with an end, the dialer comes
/// back by itself. One that is out gets the reason and the end of this request.
#[utoipa::path(
    post,
    path = "/dialers/{name}/drain",
    request_body = TakeOut,
    params(("name" = String, Path, description = "The dialer's name in the configuration.", example = "dialfire")),
    responses((status = 200, description = "It is out.", body = Data<DialerDocument>))
)]
pub(super) async fn drain(
    Operator(holder): Operator,
    State(dialers): State<Dialers>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let out = if body.is_empty() {
        TakeOut::default()
    } else {
        JsonObject::parse(&body)?.read()?
    };
    let id = DialerId::new(&name);
    let status = dialers.drains.drain(&id, out, &holder.name).await;
    let status = status
        .map_err(|why| ApiError::new(ErrorKind::Validation, format!("Not taken out: {why}.")))?;
    dialers.one(&name, status).await
}

/// Puts a dialer back.
#[utoipa::path(
    post,
    path = "/dialers/{name}/resume",
    params(("name" = String, Path, description = "The dialer's name in the configuration.", example = "dialfire")),
    responses((status = 200, description = "It is back.", body = Data<DialerDocument>))
)]
pub(super) async fn resume(
    Operator(holder): Operator,
    State(dialers): State<Dialers>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let id = DialerId::new(&name);
    let status = dialers.drains.resume(&id, &holder.name).await;
    dialers.one(&name, status).await
}

/// Tests the connection to a dialer; no call is placed.
#[utoipa::path(
    post,
    path = "/dialers/{name}/test",
    params(("name" = String, Path, description = "The dialer's name in the configuration.", example = "dialfire")),
    responses((status = 200, description = "What was found, also where it is not well.", body = Data<TestReport>))
)]
pub(super) async fn test(
    Admin(holder): Admin,
    State(dialers): State<Dialers>,
    State(retries): State<Retries>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let status = dialers.drains.status(&DialerId::new(&name));
    let dialer = status.ok_or_else(|| dialers.unknown(&name))?.dialer;
    let report = dialer.test().await;
    retries.tested(&dialer, &report, &holder.name).await;
    Ok(data(report))
}

/// Tries credentials that a dialer refuses at once, by one request. Where no probe uses them, the next call tries them; where they are not refused,
/// nothing is sent.
#[utoipa::path(
    post,
    path = "/dialers/{name}/retry",
    params(("name" = String, Path, description = "The dialer's name in the configuration.", example = "dialfire")),
    responses((status = 200, description = "How it is afterwards.", body = Data<DialerDocument>))
)]
pub(super) async fn retry(
    Operator(holder): Operator,
    State(dialers): State<Dialers>,
    State(retries): State<Retries>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let status = retries.dialer(&DialerId::new(&name), &holder.name).await;
    dialers.one(&name, status).await
}

/// How it stands with Braze.
#[derive(Serialize, ToSchema)]
#[schema(as = Lookup)]
pub(super) struct LookupDocument {
    /// `braze`.
    name: &'static str,
    /// `closed` (well), or `open`: it is not asked for callers, but for a trial.
    state: &'static str,
    breaker: BreakerView,
    /// Why it is open; null where it is not.
    reason: Option<String>,
    /// Since when, where that is known.
    since: Option<Timestamp>,
    /// The key, where it refuses it; null where it does not.
    refused: Option<RefusedCredentials>,
}

impl LookupDocument {
    fn new(status: LookupStatus, clock: &Clock) -> Self {
        let refused = status.refused.as_ref();
        Self {
            name: "braze",
            state: if status.is_open { "open" } else { "closed" },
            breaker: status.breaker,
            since: status.since.map(|since| clock.time_of(since)),
            refused: refused
                .map(|refused| RefusedCredentials::new(refused, clock.time_of(refused.next_try))),
            reason: status.why,
        }
    }
}

/// How it stands with Braze.
#[utoipa::path(
    get,
    path = "/lookup",
    operation_id = "current",
    responses((status = 200, description = "How it stands.", body = Data<LookupDocument>))
)]
pub(super) async fn lookup(_: Viewer, State(retries): State<Retries>) -> Response {
    data(LookupDocument::new(retries.braze.status(), &retries.clock))
}

/// Tries a key that Braze refuses at once, by one request. Where it is not refused, nothing is sent.
#[utoipa::path(
    post,
    path = "/lookup/retry",
    operation_id = "retry",
    responses((status = 200, description = "How it stands afterwards.", body = Data<LookupDocument>))
)]
pub(super) async fn retry_lookup(
    Operator(holder): Operator,
    State(retries): State<Retries>,
) -> Response {
    let status = retries.braze(&holder.name).await;
    data(LookupDocument::new(status, &retries.clock))
}

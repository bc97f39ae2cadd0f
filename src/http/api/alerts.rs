//! `/alerts`: what is wrong, what was, and who was told; a test message.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::super::auth::{Admin, Operator, Viewer};
use super::super::error::{ApiError, ErrorDocument, ErrorKind};
use super::fields::CheckedFields;
use super::page::{Data, List, PageParams, PageRequest, data};
use super::reads::Reads;
use crate::alerts::{Acknowledgement, Drained, IncidentKind, Incidents};
use crate::call::CallId;
use crate::routing::DialerId;
use crate::store::{IncidentWithMessages, StoredIncident, StoredMessage};

/// Calls that are named with their incident.
const CALLS_SHOWN: usize = 50;
/// How long a test message is waited for.
const TEST_PATIENCE: Duration = Duration::from_secs(10);
/// How often its fate is looked up.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// An incident as the API shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = Incident)]
pub(in super::super) struct IncidentDocument {
    /// Its name.
    id: String,
    /// What it is about, as a word of a closed list.
    #[schema(example = "routing_failure_rate")]
    kind: &'static str,
    /// `critical`: callers or records are harmed now; `warning`: not yet.
    severity: &'static str,
    /// What it is about, in a few words.
    title: String,
    /// The dialer it is about.
    dialer: Option<String>,
    /// The rule whose callers wait; the default plan's have none.
    rule: Option<String>,
    /// How many callers wait because of it now; `null` where it is about something else, or over.
    waiting: Option<u64>,
    /// How long the first of them has waited, in milliseconds.
    longest_wait_ms: Option<u64>,
    /// `open` or `resolved`.
    status: &'static str,
    /// Why it opened.
    cause: String,
    /// The dialers whose recovery resolves it.
    #[schema(value_type = Vec<String>)]
    dialers: Vec<DialerId>,
    opened_at: Timestamp,
    resolved_at: Option<Timestamp>,
    /// How long it was open, or has been so far.
    duration_ms: u64,
    /// How often somebody was reminded.
    reminders: u32,
    /// How many calls it affects.
    calls: u64,
    /// The first 50 of them; `/calls?incident=` lists up to 500.
    #[schema(value_type = Vec<String>)]
    call_ids: Vec<CallId>,
    /// Why these calls were affected, most frequent first.
    reasons: Vec<IncidentReason>,
    /// Who works on it, and since when; nobody is reminded of it meanwhile.
    acknowledged: Option<Acknowledgement>,
    /// Why nobody is told of it now; of one that is over, why nobody was.
    muted: Option<Drained>,
    /// Since when nothing is wrong any more, of one that is open still.
    recovered_at: Option<Timestamp>,
    /// When it is resolved, where that stays so.
    closes_at: Option<Timestamp>,
    /// What to do about it.
    advice: &'static str,
    /// Who was told, and whether the message arrived.
    messages: Vec<MessageDocument>,
}

/// Why calls were affected.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct IncidentReason {
    reason: String,
    calls: u64,
}

/// A message to one recipient.
#[derive(Serialize, ToSchema)]
#[schema(as = AlertMessage)]
pub(in super::super) struct MessageDocument {
    /// `opened`, `reminded`, `resolved`, `acknowledged` or `tested`.
    occasion: &'static str,
    /// `email`, `webhook`, or the kind of a channel: `slack`, `teams`, `pagerduty`, `ntfy` or `http`.
    channel: &'static str,
    /// `email:` and an address, `webhook`, or the kind of a channel and its name, like `slack:ops`.
    recipient: String,
    /// `waiting`, `sent`, `dead` (refused for good, or tried for too long) or `superseded` (a later message says it all).
    state: &'static str,
    /// How often it was tried.
    attempts: u32,
    /// What went wrong last.
    error: Option<String>,
    created_at: Timestamp,
    sent_at: Option<Timestamp>,
}

impl IncidentDocument {
    pub(in super::super) fn new((incident, messages): IncidentWithMessages, reads: &Reads) -> Self {
        let now = reads.clock.now();
        let StoredIncident {
            status,
            resolved_at,
            lasted_ms,
            ..
        } = incident;
        let (waiting, longest_wait_ms) = match (status.topic.kind, resolved_at) {
            (IncidentKind::AllDialersDown, None) => reads.who_waits(None),
            (IncidentKind::CallersWaiting, None) => reads.who_waits(Some(&status.dialers)),
            _ => (None, None),
        };
        let kind = status.topic.kind;
        let title = status.topic.title();
        let subject = Some(status.topic.subject).filter(|subject| !subject.is_empty());
        let (rule, dialer) = if kind == IncidentKind::CallersWaiting {
            (subject, None)
        } else {
            (None, subject)
        };
        let open_for = Duration::try_from(now.duration_since(status.since)).unwrap_or_default();
        let open_for = u64::try_from(open_for.as_millis()).unwrap_or(u64::MAX);
        let reasons = status.reasons.into_iter();
        let reasons = reasons.map(|(reason, calls)| IncidentReason { reason, calls });
        let mut reasons: Vec<IncidentReason> = reasons.collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.calls));
        let call_ids = status.call_ids.into_iter().take(CALLS_SHOWN);
        // What is newer than the database knows.
        let live = reads.incidents.open_one(&status.id);
        let (muted, acknowledged, recovered) = match live.filter(|_| resolved_at.is_none()) {
            Some((live, recovered)) => (live.muted, live.acknowledged, recovered),
            None => (status.muted, status.acknowledged, None),
        };
        Self {
            id: status.id,
            kind: kind.as_str(),
            severity: kind.severity().as_str(),
            title,
            dialer,
            rule,
            waiting,
            longest_wait_ms,
            status: resolved_at.map_or("open", |_| "resolved"),
            cause: status.cause,
            dialers: status.dialers,
            opened_at: status.since,
            resolved_at,
            duration_ms: lasted_ms.unwrap_or(open_for),
            reminders: status.reminders,
            calls: status.calls,
            call_ids: call_ids.collect(),
            reasons,
            acknowledged,
            muted,
            recovered_at: recovered.map(|(since, _)| reads.clock.time_of(since)),
            closes_at: recovered.map(|(_, closes)| reads.clock.time_of(closes)),
            advice: kind.advice(),
            messages: messages.into_iter().map(MessageDocument::new).collect(),
        }
    }
}

impl MessageDocument {
    fn new(message: StoredMessage) -> Self {
        Self {
            occasion: message.occasion.as_str(),
            channel: message.recipient.channel().as_str(),
            recipient: message.recipient.to_string(),
            state: message.state.as_str(),
            attempts: message.attempts,
            error: message.last_error,
            created_at: message.created_at,
            sent_at: message.sent_at,
        }
    }
}

/// The incidents that are open, newest first.
#[utoipa::path(
    get,
    path = "/alerts/active",
    params(PageParams),
    responses((status = 200, description = "A page of open incidents.", body = List<IncidentDocument>))
)]
pub(super) async fn active(
    _: Viewer,
    State(reads): State<Reads>,
    fields: CheckedFields,
) -> Result<Response, ApiError> {
    list(&reads, fields, true).await
}

/// All incidents, open ones too, newest first: cause, calls affected, and the messages sent with their state.
#[utoipa::path(
    get,
    path = "/alerts/history",
    params(PageParams),
    responses((status = 200, description = "A page of incidents.", body = List<IncidentDocument>))
)]
pub(super) async fn history(
    _: Viewer,
    State(reads): State<Reads>,
    fields: CheckedFields,
) -> Result<Response, ApiError> {
    list(&reads, fields, false).await
}

/// One incident.
#[utoipa::path(
    get,
    path = "/alerts/{id}",
    operation_id = "incident",
    params(("id" = String, Path, description = "The incident's id.", example = "all_dialers_down-1790000000000")),
    responses((status = 200, description = "The incident.", body = Data<IncidentDocument>))
)]
pub(super) async fn one(
    _: Viewer,
    State(reads): State<Reads>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    named(&reads, &id).await
}

async fn named(reads: &Reads, id: &str) -> Result<Response, ApiError> {
    let found = reads.ask(reads.store.incident(id)).await?;
    let found = found.ok_or_else(|| ApiError::not_found("There is no such incident."))?;
    Ok(data(IncidentDocument::new(found, reads)))
}

/// Says that somebody works on an open incident: nobody is reminded of it any more, and its end is told. Who said so first is kept.
#[utoipa::path(
    post,
    path = "/alerts/{id}/acknowledge",
    params(("id" = String, Path, description = "The incident's id.", example = "all_dialers_down-1790000000000")),
    responses(
        (status = 200, description = "It is acknowledged.", body = Data<IncidentDocument>),
        (status = 409, description = "It is over.", body = ErrorDocument),
    )
)]
pub(super) async fn acknowledge(
    Operator(holder): Operator,
    State(reads): State<Reads>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let is_open = reads.incidents.acknowledge(&id, &holder.name).await;
    let incident = named(&reads, &id).await?;
    let message = "The incident is over: there is nothing to work on.";
    let is_over = || ApiError::new(ErrorKind::Conflict, message);
    is_open.then_some(incident).ok_or_else(is_over)
}

async fn list(reads: &Reads, mut fields: CheckedFields, open: bool) -> Result<Response, ApiError> {
    let page = PageRequest::read(&mut fields);
    fields.verdict()?;
    let rows = reads.ask(reads.store.incidents(open, page.part())).await?;
    Ok(page.list(rows, |incident| IncidentDocument::new(incident, reads)))
}

/// What became of a test message.
#[derive(Serialize, ToSchema)]
pub(in super::super) struct AlertTest {
    /// Names the message.
    notice: String,
    /// One for each recipient.
    messages: Vec<MessageDocument>,
}

/// Sends a message to everybody who is told of incidents, and says what became of it. One that waits after ten seconds is sent again
/// later, as any other.
#[utoipa::path(
    post,
    path = "/alerts/test",
    responses(
        (status = 200, description = "What became of the message.", body = Data<AlertTest>),
        (status = 409, description = "Nobody is told of incidents.", body = ErrorDocument),
    )
)]
pub(super) async fn test(
    Admin(holder): Admin,
    State(reads): State<Reads>,
    State(incidents): State<Incidents>,
) -> Result<Response, ApiError> {
    let Some(notice) = incidents.test(&holder.name).await else {
        return Err(ApiError::new(
            ErrorKind::Conflict,
            "Nobody is told of incidents: [alerts] names no mail, no webhook and no channel.",
        ));
    };
    let messages = || reads.ask(reads.store.messages_of(&notice));
    // Every message has been tried.
    let settled = async {
        loop {
            let messages = messages().await?;
            let is_tried = |message: &StoredMessage| message.attempts > 0;
            if !messages.is_empty() && messages.iter().all(is_tried) {
                return Ok(messages);
            }
            incidents.clock().wait(LOOK_EVERY).await;
        }
    };
    let messages = match timeout(TEST_PATIENCE, settled).await {
        Ok(messages) => messages?,
        Err(_) => messages().await?,
    };
    Ok(data(AlertTest {
        messages: messages.into_iter().map(MessageDocument::new).collect(),
        notice,
    }))
}

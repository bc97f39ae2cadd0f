//! What is written in one transaction: prepared outside the writer's thread, written as a whole or not at all.

use jiff::Timestamp;

use super::callers::PlainPersonal;
use super::calls::{CallChange, NewCall};
use super::checkpoints::{NewCheckpoint, Slice};
use super::error::StoreError;
use super::key_ring::{Identity, KeyRing, Purpose};
use super::legs::{self, LegChange};
use super::outbox::{About, Attempted, ToSend};
use super::profiles::StoredProfile;
use super::rollups::Measured;
use super::sessions::SessionChange;
use crate::alerts::{EventType, IncidentStatus};
use crate::audit::{CallAfter, CallAnswered, Event, Kind, Record, ServiceState};
use crate::call::CallId;
use crate::phone::E164;

/// A record with everything serialised.
pub(super) struct PreparedRecord {
    pub(super) created_at: i64,
    pub(super) kind: Kind,
    pub(super) call: Option<CallId>,
    pub(super) personal: Option<PlainPersonal>,
    pub(super) detail: String,
    pub(super) effect: Effect,
    pub(super) measured: Option<Measured>,
}

impl PreparedRecord {
    /// For what its personal data is sealed.
    pub(super) fn purpose(&self) -> Purpose<'_> {
        Purpose {
            kind: self.kind.as_str(),
            call: self.call.as_ref().map(CallId::as_str),
            created_at: self.created_at,
        }
    }
}

/// What a record changes in the projections.
pub(super) enum Effect {
    /// Nothing: it is in the log only.
    None,
    Begin(Box<NewCall>),
    Change(Box<CallChange>),
    /// A dialer or Braze changed its state.
    Health(Box<ServiceState>),
    Started,
    /// Somebody has to be told, of an incident above all.
    Tell(Box<ToSend>),
}

/// What a submission asks for.
pub(super) enum Work {
    /// Records, if the call of the first one is new.
    Open(Vec<PreparedRecord>),
    Append(Vec<PreparedRecord>),
    SaveProfiles {
        profiles: Vec<StoredProfile>,
        now: i64,
    },
    DeleteProfile(E164),
    /// A person to forget, at this time.
    Erase {
        identity: Identity,
        now: i64,
    },
    /// A session that began, was used or ended.
    Session(SessionChange),
    /// Nothing but a commit that reaches the disk.
    Beat,
    Checkpoint(NewCheckpoint),
    /// What changes of incidents and messages between two records.
    ChangeAlerts {
        changes: Vec<AlertChange>,
        now: i64,
    },
    Prune(Slice),
    /// Calls of which no record is left, by their rows.
    ForgetCalls {
        rows: Vec<i64>,
        now: i64,
    },
    /// Callers of whom no record is left, by their rows: they were not seen since then.
    ForgetCallers {
        rows: Vec<i64>,
        before: i64,
    },
    /// So many free pages go back to the file system.
    GiveBack(u32),
}

impl Work {
    /// The records that it is to write.
    pub(super) fn records(&self) -> &[PreparedRecord] {
        if let Self::Open(records) | Self::Append(records) = self {
            records
        } else {
            &[]
        }
    }

    /// Whether it may wait in the spool for a failing disk: records, and nothing else.
    pub(super) fn may_wait(&self) -> bool {
        matches!(self, Self::Open(_) | Self::Append(_))
    }
}

/// Something that changes between two records.
pub(super) enum AlertChange {
    /// The calls of an open incident are so many now.
    Calls(Box<IncidentStatus>),
    Attempted(Attempted),
}

/// Serialises a record and works out what it changes.
pub(super) fn prepare(record: Record, key_ring: &KeyRing) -> Result<PreparedRecord, StoreError> {
    try_prepare(record, key_ring).map_err(|error| StoreError::Rejected(error.into()))
}

fn try_prepare(record: Record, key_ring: &KeyRing) -> serde_json::Result<PreparedRecord> {
    let measured = Measured::of(&record);
    let detail = record.event.detail_json()?;
    let kind = record.event.kind();
    let personal = record.personal.as_ref();
    let unsealed = personal.map(|personal| PlainPersonal::new(personal, key_ring));
    let has_body = personal.is_some_and(|personal| personal.body.is_some());
    Ok(PreparedRecord {
        created_at: record.at.as_millisecond(),
        kind,
        personal: unsealed.transpose()?,
        effect: effect(
            record.event,
            record.at,
            record.call_id.as_ref(),
            has_body,
            &detail,
        )?,
        call: record.call_id,
        detail,
        measured,
    })
}

fn effect(
    event: Event,
    at: Timestamp,
    call: Option<&CallId>,
    has_body: bool,
    detail: &str,
) -> serde_json::Result<Effect> {
    let send = |occasion, about| {
        let detail = detail.to_owned();
        Effect::Tell(Box::new(ToSend {
            occasion,
            about,
            detail,
        }))
    };
    let ms = at.as_millisecond();
    let changed = |after: CallAfter, leg: Option<LegChange>| CallChange::new(after, leg, ms);
    let change = match (event, call) {
        (Event::ServiceStarted { .. }, _) => return Ok(Effect::Started),
        (
            Event::HealthChanged {
                service,
                to,
                cause,
                standing,
                ..
            },
            _,
        ) => {
            return Ok(Effect::Health(Box::new(ServiceState {
                service,
                state: to,
                cause,
                standing,
                changed_at: at,
            })));
        }
        (Event::IncidentOpened(notice), _) => {
            return Ok(send(EventType::Opened, About::Incident(notice)));
        }
        (Event::IncidentReminded(notice), _) => {
            return Ok(send(EventType::Reminded, About::Incident(notice)));
        }
        (Event::IncidentResolved(notice), _) => {
            return Ok(send(EventType::Resolved, About::Incident(notice)));
        }
        (Event::AlertTested(tested), _) => {
            let (id, tell) = (tested.id, tested.tell);
            return Ok(send(EventType::Tested, About::Nothing { id, tell }));
        }
        (Event::DaySummed(summary), _) => {
            let (id, tell) = (summary.id, summary.tell);
            return Ok(send(EventType::Summary, About::Nothing { id, tell }));
        }
        (Event::CallDecided(decided), Some(call)) => {
            let begun = NewCall::new(call.clone(), decided.decision, ms)?;
            return Ok(Effect::Begin(Box::new(begun)));
        }
        (Event::CallAnswered(answered), Some(_)) => {
            let CallAnswered {
                step,
                within_budget,
                after,
                ..
            } = *answered;
            changed(after, None)?.answered(has_body.then_some(step), !within_budget)
        }
        (Event::DialEnded { report, after }, Some(call)) => {
            changed(*after, legs::of_dial(call, report, ms))?
        }
        (Event::LegReported { report, after }, Some(_)) => {
            changed(*after, Some(legs::of_report(report, ms)))?
        }
        (Event::CallReaped { found, after }, Some(call)) => {
            changed(*after, legs::of_found(call, found, ms))?
        }
        (Event::CallEnded { after, .. } | Event::CallCorrected { after, .. }, Some(_)) => {
            changed(*after, None)?
        }
        _ => return Ok(Effect::None),
    };
    Ok(Effect::Change(Box::new(change)))
}

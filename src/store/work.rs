//! What is written in one transaction: prepared outside the writer's thread, written as a whole or not at all.

use jiff::Timestamp;
use serde::Serialize;

use super::callers::PlainPersonal;
use super::calls::{CallChange, NewCall};
use super::checkpoints::{NewCheckpoint, Slice};
use super::error::StoreError;
use super::key_ring::Purpose;
use super::legs::{self, LegChange};
use super::outbox::{About, Attempted, ToSend};
use super::profiles::StoredProfile;
use super::rollups::Measured;
use super::sessions::SessionChange;
use crate::alerts::{EventType, IncidentStatus};
use crate::audit::{CallAfter, Event, KeyChanged, Kind, ListChanged, Record, ServiceState};
use crate::call::{CallId, Disposition, Status};
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
    pub(super) fn called(&self) -> Option<&str> {
        self.personal.as_ref()?.called.as_deref()
    }

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
    List(Box<ListChanged>),
    /// An incident is acknowledged by somebody, and services are told.
    Acknowledge {
        by: String,
        told: Box<ToSend>,
    },
    Key(Box<KeyChanged>),
}

impl Effect {
    /// Where it leaves its call, where it moves one on.
    pub(super) fn after(&self) -> Option<&CallAfter> {
        match self {
            Self::Change(change) => Some(change.after()),
            Self::None
            | Self::Begin(_)
            | Self::Health(_)
            | Self::Started
            | Self::Tell(_)
            | Self::List(_)
            | Self::Key(_)
            | Self::Acknowledge { .. } => None,
        }
    }
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
        /// What is hashed of them.
        who: Vec<u8>,
        /// The lists that block: of their entries a keyed hash stays.
        blocks: Vec<String>,
        now: i64,
    },
    /// Entries of lists that ended by this time are to be deleted.
    ExpireListEntries(i64),
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
    Rotate(RotationStep),
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

/// A step of changing the installation's secret.
pub(super) enum RotationStep {
    /// Two secrets are valid from here on. Who asked for it, and when.
    Begin { by: String, now: i64 },
    /// Rows of a table that are under the former one.
    Rows { table: &'static str, rows: Vec<i64> },
    /// One is valid from here on.
    End,
}

/// Serialises a record and works out what it changes.
pub(super) fn prepare(record: Record) -> Result<PreparedRecord, StoreError> {
    try_prepare(record).map_err(|error| StoreError::Rejected(error.into()))
}

fn try_prepare(record: Record) -> serde_json::Result<PreparedRecord> {
    let measured = Measured::of(&record);
    let mut detail = record.event.detail_json()?;
    if let Some(after) = &record.after {
        let status = CallStatus {
            status: after.status,
            disposition: after.disposition,
            last_resort: after.state.last_resort(),
        };
        detail = with_fields(&detail, &status)?;
    }
    let kind = record.event.kind();
    let personal = record.personal.as_ref();
    let unsealed = personal.map(PlainPersonal::new);
    Ok(PreparedRecord {
        created_at: record.at.as_millisecond(),
        kind,
        personal: unsealed.transpose()?,
        effect: effect(
            record.event,
            record.after,
            record.at,
            record.call_id.as_ref(),
            &detail,
        )?,
        call: record.call_id,
        detail,
        measured,
    })
}

/// How a record leaves its call, as the log has it.
#[derive(Serialize)]
struct CallStatus<'a> {
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    disposition: Option<Disposition>,
    /// The number, where the last resort was rung.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_resort: Option<&'a str>,
}

/// The payload of a record, with the fields of a document behind its own.
pub(super) fn with_fields(detail: &str, fields: &impl Serialize) -> serde_json::Result<String> {
    let fields = serde_json::to_string(fields)?;
    Ok(match (detail.strip_suffix('}'), fields.strip_prefix('{')) {
        (Some("{"), Some(_)) => fields,
        (Some(own), Some(more)) => [own, ",", more].concat(),
        _ => detail.to_owned(),
    })
}

fn effect(
    event: Event,
    after: Option<Box<CallAfter>>,
    at: Timestamp,
    call: Option<&CallId>,
    detail: &str,
) -> serde_json::Result<Effect> {
    let to_send = |occasion, about| {
        Box::new(ToSend {
            occasion,
            about,
            detail: detail.to_owned(),
        })
    };
    let send = |occasion, about| Effect::Tell(to_send(occasion, about));
    let ms = at.as_millisecond();
    let mut overran = false;
    let leg: Option<LegChange> = match (event, call) {
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
        (Event::IncidentAcknowledged { by, notification }, _) => {
            let told = to_send(EventType::Acknowledged, About::Incident(notification));
            return Ok(Effect::Acknowledge { by, told });
        }
        (Event::ListChanged(change), _) => return Ok(Effect::List(Box::new(change))),
        (Event::KeyChanged(change), _) => return Ok(Effect::Key(Box::new(change))),
        (Event::CallDecided(decided), Some(call)) => {
            let begun = NewCall::decided(call.clone(), decided.decision, ms)?;
            return Ok(Effect::Begin(Box::new(begun)));
        }
        (Event::CallAdopted(adopted), Some(call)) => {
            let begun = NewCall::adopted(call.clone(), *adopted, ms)?;
            return Ok(Effect::Begin(Box::new(begun)));
        }
        (Event::CallAnswered(answered), _) => {
            overran = !answered.within_budget;
            None
        }
        (Event::DialEnded { report }, Some(call)) => legs::of_dial(call, report, ms),
        (Event::LegReported { report }, _) => Some(legs::of_report(report, ms)),
        (Event::CallReaped { found }, Some(call)) => legs::of_found(call, found, ms),
        _ => None,
    };
    Ok(match after {
        Some(after) => {
            let change = CallChange::new(after, leg, overran, ms)?;
            Effect::Change(Box::new(change))
        }
        None => Effect::None,
    })
}

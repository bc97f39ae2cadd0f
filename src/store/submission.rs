//! What is handed to the writer: prepared outside its thread, written as a whole or not at all.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::account::Account;
use super::alerting::AlertChange;
use super::callers::Unsealed;
use super::calls::{CallChange, NewCall};
use super::checkpoints::NewCheckpoint;
use super::outbox::{About, ToSend};
use super::profiles::StoredProfile;
use super::prune::Slice;
use super::rollups::Measured;
use super::sessions::SessionChange;
use super::vault::{Identity, Purpose, Vault};
use super::{StoreError, answers, calls, legs};
use crate::alerts::{EventType, Notification};
use crate::audit::{CallerErased, Event, Kind, Record, ServiceState};
use crate::call::CallId;
use crate::phone::E164;

/// A record with everything serialised.
pub(super) struct PreparedRecord {
    pub(super) created_at: i64,
    pub(super) kind: Kind,
    pub(super) call: Option<CallId>,
    pub(super) personal: Option<Unsealed>,
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

/// What became of a submission that was committed.
#[derive(Clone, Copy, Debug)]
pub(super) enum SubmissionOutcome {
    /// It is in the database; the ids of its first and last record.
    Written { first_id: i64, last_id: i64 },
    /// Its call was there already, and nothing was written.
    Repeat,
    /// The person is forgotten; `None` where nothing was known of them, and nothing was written.
    Erased(Option<CallerErased>),
}

/// The answer to a submission.
pub(super) type Verdict = Result<SubmissionOutcome, StoreError>;

/// Work, and who waits for it. Dropped without a place, it puts its records into the log, so that none vanishes silently.
pub(super) struct Submission {
    pub(super) work: Arc<Work>,
    waiting: Option<oneshot::Sender<Verdict>>,
    /// Whoever submitted it was told to go on: its records are written in any case.
    pub(super) deferred: bool,
    is_booked: bool,
    account: Arc<Account>,
}

impl Submission {
    /// Work, and the end on which its verdict arrives.
    pub(super) fn new(work: Work, account: Arc<Account>) -> (Self, oneshot::Receiver<Verdict>) {
        let (waiting, verdict) = oneshot::channel();
        let mut submission = Self::of_nobody(Arc::new(work), account);
        (submission.waiting, submission.deferred) = (Some(waiting), false);
        (submission, verdict)
    }

    /// Work that nobody waits for any more, and that is to be done in any case.
    pub(super) fn of_nobody(work: Arc<Work>, account: Arc<Account>) -> Self {
        let n = work.records().len() as u64;
        account.book(|balance| {
            balance.accepted += n;
            balance.waiting += n;
        });
        Self {
            work,
            waiting: None,
            deferred: true,
            is_booked: false,
            account,
        }
    }

    /// Tells whoever waits to go on; the work stays to be done.
    pub(super) fn defer(&mut self) {
        self.deferred = true;
        acknowledge(self.waiting.take(), Err(StoreError::Deferred));
    }

    /// It is in the spool: whoever waits is told to go on.
    pub(super) fn spooled(mut self) {
        let n = self.n();
        self.account.book(|balance| {
            balance.waiting -= n;
            balance.spooled += n;
        });
        self.is_booked = true;
        self.defer();
    }

    /// It was committed, and its records are booked.
    pub(super) fn committed(mut self, outcome: SubmissionOutcome) {
        self.is_booked = true;
        acknowledge(self.waiting.take(), Ok(outcome));
    }

    /// It cannot be stored, or there is no place for it to wait. Told last, when all is counted.
    pub(super) fn refused(mut self, error: StoreError) {
        let waiting = self.waiting.take();
        drop(self);
        acknowledge(waiting, Err(error));
    }

    fn n(&self) -> u64 {
        self.work.records().len() as u64
    }
}

impl Work {
    /// The records that it is to write.
    pub(super) fn records(&self) -> &[PreparedRecord] {
        match self {
            Self::Open(records) | Self::Append(records) => records,
            Self::SaveProfiles { .. }
            | Self::DeleteProfile(_)
            | Self::Erase { .. }
            | Self::Session(_)
            | Self::Beat
            | Self::ChangeAlerts { .. }
            | Self::Checkpoint(_)
            | Self::Prune(_)
            | Self::ForgetCalls { .. }
            | Self::ForgetCallers { .. }
            | Self::GiveBack(_) => &[],
        }
    }

    /// Whether it may wait in the spool for a failing disk: records, and nothing else.
    pub(super) fn may_wait(&self) -> bool {
        match self {
            Self::Open(_) | Self::Append(_) => true,
            Self::SaveProfiles { .. }
            | Self::DeleteProfile(_)
            | Self::Erase { .. }
            | Self::Session(_)
            | Self::Beat
            | Self::ChangeAlerts { .. }
            | Self::Checkpoint(_)
            | Self::Prune(_)
            | Self::ForgetCalls { .. }
            | Self::ForgetCallers { .. }
            | Self::GiveBack(_) => false,
        }
    }
}

fn acknowledge(waiting: Option<oneshot::Sender<Verdict>>, verdict: Verdict) {
    if let Some(waiting) = waiting {
        // Whoever asked may have stopped waiting; the commit stands all the same.
        drop(waiting.send(verdict));
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        if self.is_booked {
            return;
        }
        let n = self.n();
        self.account.book(|balance| {
            balance.waiting -= n;
            balance.lost += n;
        });
        log_lost(self.work.records());
    }
}

/// The last place of records that are written nowhere else.
pub(super) fn log_lost(records: &[PreparedRecord]) {
    for record in records {
        log(
            record,
            "store.record_lost",
            "an audit record was not written to the database; this line is what remains of it",
        );
    }
}

/// A copy of records that are in memory only, while neither the database nor the spool takes them.
pub(super) fn log_unkept(records: &[PreparedRecord]) {
    for record in records {
        log(
            record,
            "store.record_unkept",
            "an audit record is in memory only; this line remains of it if the process ends now",
        );
    }
}

fn log(record: &PreparedRecord, event: &'static str, words: &'static str) {
    tracing::error!(
        event,
        kind = record.kind.as_str(),
        call_sid = record.call.as_ref().map(CallId::as_str),
        created_at = record.created_at,
        detail = record.detail,
        "{words}"
    );
}

/// Serialises a record and works out what it changes.
pub(super) fn prepare(record: Record, vault: &Vault) -> Result<PreparedRecord, StoreError> {
    let created_at = record.at.as_millisecond();
    let measured = Measured::of(&record);
    let prepared = || -> serde_json::Result<_> {
        let personal = record
            .personal
            .as_ref()
            .map(|personal| Unsealed::new(personal, vault))
            .transpose()?;
        let detail = record.event.detail_json()?;
        Ok((personal, detail, effect(&record, created_at)?))
    };
    let (personal, detail, effect) =
        prepared().map_err(|error| StoreError::Rejected(error.into()))?;
    Ok(PreparedRecord {
        created_at,
        kind: record.event.kind(),
        call: record.call_id,
        personal,
        detail,
        effect,
        measured,
    })
}

fn effect(record: &Record, at: i64) -> serde_json::Result<Effect> {
    if let Some(state) = health(record) {
        return Ok(Effect::Health(Box::new(state)));
    }
    if let Some(effect) = of_service(&record.event)? {
        return Ok(effect);
    }
    let Some(call) = &record.call_id else {
        return Ok(Effect::None);
    };
    let changed = |after, answer, leg| {
        calls::changed(after, answer, leg, at).map(|change| Effect::Change(Box::new(change)))
    };
    Ok(match &record.event {
        Event::CallDecided(decided) => Effect::Begin(Box::new(calls::begun(call, decided, at)?)),
        Event::CallAnswered(answered) => {
            let personal = record.personal.as_ref();
            let body = personal.and_then(|personal| personal.body.as_deref());
            let answer = body.map(|_| answers::given(&answered.step));
            answered_change(
                changed(&answered.after, answer, None)?,
                !answered.within_budget,
            )
        }
        Event::DialEnded { report, after } => {
            changed(after, None, legs::of_dial(call, report, at))?
        }
        Event::LegReported { report, after } => {
            changed(after, None, Some(legs::of_report(report, at)))?
        }
        Event::CallReaped { found, after } => {
            changed(after, None, legs::of_found(call, *found, at))?
        }
        Event::CallEnded { after, .. } | Event::CallCorrected { after, .. } => {
            changed(after, None, None)?
        }
        Event::ServiceStarted { .. }
        | Event::ServiceStopped {}
        | Event::RulesetLoaded(_)
        | Event::HandoffIntended(_)
        | Event::HandoffConcluded(_)
        | Event::WebhookUnusable { .. }
        | Event::ProfilePushed { .. }
        | Event::HealthChanged { .. }
        | Event::ConfigChanged(_)
        | Event::ConfigRefused { .. }
        | Event::IncidentOpened(_)
        | Event::IncidentReminded(_)
        | Event::IncidentResolved(_)
        | Event::AlertTested(_)
        | Event::DaySummed(_)
        | Event::SigningKeyNamed(_)
        | Event::Pruned(_)
        | Event::RollbackAccepted(_)
        | Event::Restored(_)
        | Event::CallerErased(_)
        | Event::Exported(_)
        | Event::ClockStepped { .. }
        | Event::Accessed(_) => Effect::None,
    })
}

/// What an event changes that belongs to no call.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "most events are about a call, or change nothing"
)]
fn of_service(event: &Event) -> serde_json::Result<Option<Effect>> {
    let of_incident = |occasion, notice: &Notification, detail| {
        let about = About::Incident(Box::new(notice.clone()));
        to_tell(occasion, about, detail)
    };
    let detail = || event.detail_json();
    Ok(match event {
        Event::ServiceStarted { .. } => Some(Effect::Started),
        Event::IncidentOpened(notice) => Some(of_incident(EventType::Opened, notice, detail()?)),
        Event::IncidentReminded(notice) => {
            Some(of_incident(EventType::Reminded, notice, detail()?))
        }
        Event::IncidentResolved(notice) => {
            Some(of_incident(EventType::Resolved, notice, detail()?))
        }
        Event::AlertTested(tested) => {
            let about = About::Nothing {
                id: tested.id.clone(),
                tell: tested.tell.clone(),
            };
            Some(to_tell(EventType::Tested, about, detail()?))
        }
        Event::DaySummed(summary) => {
            let about = About::Nothing {
                id: summary.id.clone(),
                tell: summary.tell.clone(),
            };
            Some(to_tell(EventType::Summary, about, detail()?))
        }
        _ => None,
    })
}

fn to_tell(occasion: EventType, about: About, detail: String) -> Effect {
    Effect::Tell(Box::new(ToSend {
        occasion,
        about,
        detail,
    }))
}

/// An answer that came after the budget had ended makes its call one that failed.
fn answered_change(effect: Effect, overran: bool) -> Effect {
    match effect {
        Effect::Change(change) => Effect::Change(Box::new(change.overrunning(overran))),
        Effect::None | Effect::Begin(_) | Effect::Health(_) | Effect::Started | Effect::Tell(_) => {
            effect
        }
    }
}

fn health(record: &Record) -> Option<ServiceState> {
    let Event::HealthChanged {
        service,
        to,
        cause,
        standing,
        ..
    } = &record.event
    else {
        return None;
    };
    Some(ServiceState {
        service: service.clone(),
        state: to.clone(),
        cause: cause.clone(),
        standing: standing.clone(),
        changed_at: record.at,
    })
}

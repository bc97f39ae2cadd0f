//! What is recorded: a closed list of typed events.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::VariantArray as _;

use super::{
    Access, CallerErased, CompletenessChecked, Exchange, Exported, PersistedState, Pruned,
    Restored, Role, RollbackAccepted, SecretRotated, SigningKeyNamed,
};
use crate::alerts::{DailySummary, EventType, Mute, Notification, TestNotification};
use crate::call::{
    CallId, CallState, CarrierAnswer, DialReport, Disposition, LegReport, ReportedOutcome, Status,
};
use crate::handoff::{Certainty, Outcome};
use crate::lead::{LeadScore, TierName};
use crate::phone::{Caller, ERASED};
use crate::routing::{
    CallFacts, Decision, DialerId, Lookup, Reason, RecordedDecision, Rejection, Ruleset,
    RulesetVersion,
};

/// One record, before it has its place in the audit chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub at: Timestamp,
    /// Which call it belongs to.
    pub call_id: Option<CallId>,
    /// What identifies a person, kept apart from everything else.
    pub personal: Option<Personal>,
    pub event: Event,
    /// Where it leaves its call, for the projection. Of that, status and disposition stand in the log.
    pub after: Option<Box<CallAfter>>,
}

impl Record {
    /// A record of a call, without personal data.
    pub fn of_call(at: Timestamp, call_id: &CallId, event: Event) -> Self {
        Self {
            at,
            call_id: Some(call_id.clone()),
            personal: None,
            event,
            after: None,
        }
    }

    /// The same record, which leaves its call so.
    #[must_use]
    pub fn leaving(self, after: CallAfter) -> Self {
        Self {
            after: Some(Box::new(after)),
            ..self
        }
    }

    /// A record that belongs to no call.
    pub fn of_service(at: Timestamp, event: Event) -> Self {
        Self {
            at,
            call_id: None,
            personal: None,
            event,
            after: None,
        }
    }
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personal {
    /// The caller as received: a number, a SIP address, a client name. Empty where withheld.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// The number of ours that was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
    /// The answer as given: it may name the caller, so that `caller` stands beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The step that was answered so: whoever writes to the file cannot make the answer to one step that to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Why the caller is on a list, as somebody wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Personal {
    /// What is left of somebody who was erased: nothing, said so in place of the caller.
    pub fn erased() -> Self {
        Self {
            caller: Some(ERASED.to_owned()),
            ..Self::default()
        }
    }

    /// Who calls; nobody knows any more where that was erased.
    pub fn caller(&self) -> Caller {
        if self.is_erased() {
            return Caller::Withheld;
        }
        Caller::classify(self.caller.as_deref().unwrap_or_default())
    }

    /// Whether this is what is left of somebody who was erased.
    pub fn is_erased(&self) -> bool {
        self.caller.as_deref() == Some(ERASED)
    }
}

impl std::fmt::Debug for Personal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Personal(…)")
    }
}

/// Everything that can be recorded. The kinds are a closed list, and the bytes of a payload are what is hashed: a field may be added with a
/// default, never renamed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, strum::EnumDiscriminants)]
#[serde(rename_all = "snake_case", tag = "kind", content = "detail")]
#[strum_discriminants(
    name(Kind),
    derive(Hash, strum::EnumString, strum::IntoStaticStr, strum::VariantArray),
    strum(serialize_all = "snake_case", const_into_str),
    doc = "The kind of a record: a closed list, stable in exports."
)]
pub enum Event {
    ServiceStarted {
        version: String,
    },
    /// The process went down in good order.
    ServiceStopped {},
    /// A rule set came into force; its content, so that its decisions can be executed again.
    RulesetLoaded(Box<RulesetLoaded>),
    /// A call arrived, was looked up and decided.
    CallDecided(Box<CallDecided>),
    /// A call goes on by its passport.
    CallAdopted(Box<CallAdopted>),
    /// A request to a dialer is about to leave.
    HandoffIntended(HandoffIntended),
    /// A request to a dialer has ended.
    HandoffConcluded(Box<Attempt>),
    /// A webhook of a call was answered.
    CallAnswered(Box<CallAnswered>),
    /// The `<Dial>` of a call has ended.
    DialEnded {
        report: DialReport,
    },
    /// The carrier told the progress of a leg.
    LegReported {
        report: LegReport,
    },
    /// A call whose end nobody reported was looked up and closed.
    CallReaped {
        /// What is known of its end.
        found: CarrierAnswer,
    },
    /// A dialer was told that a caller who reached nobody is to be called back.
    MissedAnnounced(Box<MissedAnnounced>),
    /// Whoever brought a call through the JSON door says how it ended.
    CallEnded {
        outcome: ReportedOutcome,
        /// How long caller and agent talked, in seconds.
        talked_s: u32,
        /// Who says so: the name of a key, or of a person.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        by: String,
    },
    /// What was reported late changes how a call counts that is over.
    CallCorrected {
        from: Disposition,
        /// How it counts by all that is known.
        to: Disposition,
    },
    /// A webhook could not be tied to a call and was answered safely.
    WebhookUnusable {
        path: String,
        reason: String,
    },
    /// Braze pushed a changed profile.
    ProfilePushed {
        /// What was done with it.
        action: ProfileAction,
    },
    /// A dialer or Braze changed its state.
    HealthChanged {
        /// `braze`, or the dialer's name.
        service: String,
        from: String,
        to: String,
        cause: String,
        /// What of the new state has to outlive the process.
        #[serde(default, skip_serializing_if = "PersistedState::is_clean")]
        standing: PersistedState,
    },
    /// Another configuration came into force.
    ConfigChanged(Box<ConfigChanged>),
    /// A configuration was refused; the old one stayed.
    ConfigRefused {
        /// Who had asked for it.
        by: String,
        /// Everything that was wrong, a line each; without secrets.
        problems: Vec<String>,
    },
    /// Something is wrong that somebody has to be told of.
    IncidentOpened(Box<Notification>),
    /// It is still so, and somebody was told again.
    IncidentReminded(Box<Notification>),
    IncidentResolved(Box<Notification>),
    /// Somebody works on it: nobody is reminded of it any more.
    IncidentAcknowledged {
        by: String,
        #[serde(flatten)]
        notification: Box<Notification>,
    },
    /// Nobody is to be told of some incidents for a while, or a mute was ended before its time.
    AlertsMuted(Box<Mute>),
    /// An admin sent a message to see whether it arrives.
    AlertTested(Box<TestNotification>),
    /// A day was summed up for those who are told of incidents.
    DaySummed(Box<DailySummary>),
    /// A key signs the log from here on.
    SigningKeyNamed(SigningKeyNamed),
    /// Records are about to be deleted.
    Pruned(Pruned),
    /// The calls of a day were compared with those that the carrier lists.
    CompletenessChecked(Box<CompletenessChecked>),
    /// The log was rolled back, and somebody said that it is to go on from here.
    RollbackAccepted(RollbackAccepted),
    /// A backup was put in place of the database.
    Restored(Restored),
    CallerErased(CallerErased),
    /// Another secret protects callers' data from here on.
    SecretRotated(SecretRotated),
    /// Records left this machine with numbers in the clear.
    Exported(Exported),
    /// The clock of the machine jumped; times before and after do not compare.
    ClockStepped {
        /// By how many milliseconds; negative where it went back.
        by_ms: i64,
    },
    /// Somebody logged in, tried to, or saw what is hidden otherwise.
    Accessed(Access),
    /// A number was put on a list of callers or taken off it. Number and reason stand beside it, sealed.
    ListChanged(ListChanged),
    /// A key was made or revoked while the program ran.
    KeyChanged(KeyChanged),
    /// A draft of the rules was saved or taken away. Its text stands beside it, sealed: it may name callers on lists and in tests.
    DraftChanged(DraftChanged),
    /// A call would have gone elsewhere by the draft.
    DraftDiffers(Box<DraftDiffers>),
    /// A fresh score came for a call that an old one or none had decided.
    ScoreRefreshed(Box<ScoreRefreshed>),
}

impl Event {
    /// The request to a dialer that is about to leave, in whichever record it stands.
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other holds one")]
    pub fn intended(&self) -> Option<&HandoffIntended> {
        match self {
            Self::CallDecided(decided) => decided.intended.as_ref(),
            Self::HandoffIntended(intended) => Some(intended),
            _ => None,
        }
    }

    /// The request to a dialer that has ended, in whichever record it stands.
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other holds one")]
    pub fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::HandoffConcluded(attempt) => Some(attempt),
            Self::CallAnswered(answered) => answered.attempt.as_ref(),
            _ => None,
        }
    }

    /// The record of a notification.
    pub fn of_notification(event_type: EventType, notification: Notification) -> Self {
        let notification = Box::new(notification);
        match event_type {
            EventType::Reminded => Self::IncidentReminded(notification),
            EventType::Resolved => Self::IncidentResolved(notification),
            EventType::Opened
            | EventType::Acknowledged
            | EventType::Tested
            | EventType::Summary => Self::IncidentOpened(notification),
        }
    }
}

/// A rule set that is in force, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RulesetLoaded {
    /// Names the content that follows.
    pub version: RulesetVersion,
    /// Who brought it into force, as in [`ConfigChanged::by`]; `None` in the record of each day, which says that it still is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(flatten)]
    pub ruleset: Ruleset,
}

impl RulesetLoaded {
    pub fn new(ruleset: Ruleset, by: Option<&str>) -> Self {
        Self {
            version: ruleset.version(),
            by: by.map(ToOwned::to_owned),
            ruleset,
        }
    }
}

/// A draft of the rules was saved or taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftChanged {
    /// Who did it, as in [`ConfigChanged::by`].
    pub by: String,
    /// The version of its rule set; `None` where there is no draft any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<RulesetVersion>,
}

/// A call would have gone elsewhere by the draft.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "RecordedDraft")]
pub struct DraftDiffers {
    /// The version of the draft.
    pub version: RulesetVersion,
    pub rule: Option<String>,
    pub plan: Vec<DialerId>,
    /// Those of the call, with the hours and limits of the draft.
    pub facts: CallFacts,
    #[serde(serialize_with = "Decision::record")]
    pub decision: Decision,
}

/// [`DraftDiffers`] as it is recorded.
#[derive(Deserialize)]
struct RecordedDraft {
    facts: CallFacts,
    decision: RecordedDecision<'static>,
}

impl From<RecordedDraft> for DraftDiffers {
    fn from(recorded: RecordedDraft) -> Self {
        let decision = recorded.decision.restore(&recorded.facts);
        Self::new(recorded.facts, decision)
    }
}

impl DraftDiffers {
    /// What the draft decided of these facts.
    pub fn new(facts: CallFacts, decision: Decision) -> Self {
        Self {
            version: decision.ruleset.clone(),
            rule: decision.rule.clone(),
            plan: decision.plan.dialers.clone(),
            facts,
            decision,
        }
    }
}

/// A fresh score came for a call that an old one or none had decided: what the rules of that call make of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreRefreshed {
    /// When the call was decided.
    pub decided_at: Timestamp,
    /// Why it was decided without a fresh score: `stale`, or why there was none, as in [`LookupUnavailable`](crate::routing::LookupUnavailable).
    pub cause: String,
    /// Whether the call would have gone elsewhere.
    pub elsewhere: bool,
    /// What Braze said.
    pub lookup: Lookup,
    pub rule: Option<String>,
    pub plan: Vec<DialerId>,
}

/// A call arrived, was looked up and decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "RecordedCall")]
pub struct CallDecided {
    /// The request that brought it.
    pub request_id: String,
    pub door: Ingress,
    /// The caller with all but the last digits hidden, or the kind of caller.
    pub caller: String,
    pub facts: CallFacts,
    /// The look-up's API exchange, where one was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup_exchange: Option<Exchange>,
    #[serde(serialize_with = "Decision::record")]
    pub decision: Decision,
    /// The request to the first dialer, which is about to leave; further ones have records of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intended: Option<HandoffIntended>,
}

/// [`CallDecided`] as it is recorded.
#[derive(Deserialize)]
struct RecordedCall {
    request_id: String,
    door: Ingress,
    caller: String,
    facts: CallFacts,
    #[serde(default)]
    lookup_exchange: Option<Exchange>,
    decision: RecordedDecision<'static>,
    #[serde(default)]
    intended: Option<HandoffIntended>,
}

impl From<RecordedCall> for CallDecided {
    fn from(recorded: RecordedCall) -> Self {
        Self {
            request_id: recorded.request_id,
            door: recorded.door,
            caller: recorded.caller,
            decision: recorded.decision.restore(&recorded.facts),
            facts: recorded.facts,
            lookup_exchange: recorded.lookup_exchange,
            intended: recorded.intended,
        }
    }
}

/// A call goes on by its passport: this machine had no record of it, could not read it, or had an older one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallAdopted {
    /// The machine that answered the call last; empty where it has no name.
    pub from: String,
    /// How often the call was adopted, this time included.
    pub epoch: u32,
    pub how: Adoption,
    /// The machine had a record of the call, and it was older.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_known: bool,
    /// When the passport was made, by the clock of that machine.
    pub issued_at: Timestamp,
    pub started_at: Timestamp,
    pub reason: Reason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<TierName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<LeadScore>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The rule set that decided.
    pub ruleset: RulesetVersion,
    /// How the call stood.
    pub state: CallState,
}

/// What brought the passport of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Adoption {
    /// The webhook itself.
    Passport,
    /// `ErrorUrl`, at the fallback URL.
    Fallback,
}

impl Adoption {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// How a call came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ingress {
    Twilio,
    Api,
}

/// A request to a dialer is about to leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoffIntended {
    pub dialer: DialerId,
    /// 1, or 2 for the one retry; left out of the record where it is 1.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u8,
    /// What it may spend, in milliseconds.
    pub timeout_ms: u64,
}

/// A webhook of a call was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallAnswered {
    /// The request that was answered.
    pub request_id: String,
    /// Which webhook of the call: `inbound`, or `dial-1`, `dial-2` …; a repeat of the same step gets the same answer.
    pub step: String,
    pub answer: Answer,
    pub stages: Stages,
    /// False where the answer left after the budget had ended; left out of the record where it is true.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub within_budget: bool,
    /// True where the store failed or was late when the call was opened, so that this may be a second answer to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unclaimed: bool,
    /// The last request to a dialer that was made for this answer; those before it have records of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
}

/// One request to a dialer, as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub dialer: DialerId,
    /// 1 for the first request of this handoff to this dialer, 2 for its one retry; left out of the record where it is 1.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u8,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The API exchanges it consisted of, redacted. More than one where a step follows on an answer (409, then update).
    pub exchanges: Vec<Exchange>,
}

/// A dialer was told that a caller who reached nobody is to be called back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MissedAnnounced {
    /// The task that it is for, where the dialer has tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    #[serde(flatten)]
    pub attempt: Attempt,
}

fn yes() -> bool {
    true
}

fn first() -> u8 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_true(value: &bool) -> bool {
    *value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_first(attempt: &u8) -> bool {
    *attempt == 1
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Answer {
    Connect {
        dialer: DialerId,
        /// Whether the dialer had confirmed.
        certainty: Certainty,
    },
    /// On hold until a dialer can take the call.
    Hold,
    /// The last-resort number is dialled.
    LastResort,
    /// A message is spoken and the call ends.
    Goodbye,
    /// The number of the rule is dialled.
    Number,
    /// The call is refused without being answered.
    Rejected { with: Rejection },
    /// The message of the rule is spoken and the call ends.
    Message,
    /// All dialers are outside their hours: the caller is told so, or put through to the number for that.
    Closed,
    /// Nothing more to do: the call is over.
    Nothing,
}

/// Where the time of an answer went, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    pub lookup_ms: f64,
    /// Recording intents and telling the dialers.
    pub handoff_ms: f64,
    /// From arrival to the moment the answer was recorded.
    pub total_ms: f64,
}

/// A call after something happened to it: what the projection `calls` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallAfter {
    pub status: Status,
    /// How it counts in the end; set when it has ended.
    pub disposition: Option<Disposition>,
    /// Why it went as it went.
    pub reason: Reason,
    /// The dialer that was dialled last; `None` where that was the last resort, which [`CallState::last_resort`] tells.
    pub dialer: Option<DialerId>,
    /// It went to another dialer than the first of its plan.
    pub failed_over: bool,
    pub held: bool,
    pub answered_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Arrival to answer of the first webhook, in milliseconds.
    pub routing_ms: Option<u64>,
    /// What the next webhook needs.
    pub state: CallState,
}

/// Another configuration came into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChanged {
    /// Who asked for it: `SIGHUP`, `key ` and the name of an API key, or `start`.
    pub by: String,
    /// What is different; empty in the first record of a database.
    pub changes: Vec<ConfigChange>,
    /// Keys whose new value takes effect at the next start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<String>,
    /// The whole configuration, for comparison at the next start. Of a secret there is a keyed fingerprint.
    pub in_force: BTreeMap<String, String>,
}

/// One key that has another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    pub key: String,
    /// The value before; `None` where it had none, or where it is a secret.
    pub from: Option<String>,
    /// The value now; `None` where it has none any more, or where it is a secret.
    pub to: Option<String>,
    /// It is a secret: that it changed is all there is to say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// A number was put on a list of callers or taken off it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListChanged {
    pub list: String,
    /// Names the entry; says nothing of its number.
    pub entry: String,
    pub change: ListAction,
    /// Who did it: the name of an API key, or `user ` and the name of a user of this machine.
    pub by: String,
    /// From then on the entry does not count any more; `None`: it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What became of an entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListAction {
    /// It was added, or got another reason or end.
    Added,
    Removed,
}

/// A key was made or revoked while the program ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChanged {
    /// Who holds it.
    pub name: String,
    pub role: Role,
    pub change: KeyAction,
    /// Who did it, as in [`ListChanged::by`].
    pub by: String,
    /// SHA-256 of the key, which has 256 random bits, in hexadecimal digits.
    pub hash: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyAction {
    Made,
    Revoked,
}

/// What was done with a pushed profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileAction {
    /// The cached profile was replaced.
    Replaced,
    /// The cached profile was dropped.
    Dropped,
    /// The push was older than what is cached.
    Outdated,
    /// Its number could not be read, and nothing was cached under its external id.
    Unreadable,
}

impl Kind {
    /// All kinds, in the order of the list.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The stable name, as in the database and in exports.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// The kind of that stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

impl Event {
    /// Which kind of record it makes.
    pub fn kind(&self) -> Kind {
        self.into()
    }
}

//! Mutes: for which incidents nobody is told for a while, why, and by whom. A mute that begins later is a planned window.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::kinds::{IncidentKind, Topic};

/// The longest mute.
pub const LONGEST_MUTE: SignedDuration = SignedDuration::from_hours(24);
/// The earliest that a planned window is made known.
pub const PLANNED_AHEAD: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Mutes that are in force or planned at a time.
pub const MUTES: usize = 100;

/// Some incidents of which nobody is told for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AlertMute)]
pub struct Mute {
    /// Names it.
    #[schema(example = "mute-1790000000000")]
    pub id: String,
    /// Of this kind only; null: of every kind, but those about the audit log.
    #[schema(value_type = Option<String>, example = "dialer_down")]
    pub kind: Option<IncidentKind>,
    /// About this dialer only; null: about any and none.
    pub dialer: Option<String>,
    /// When it begins.
    pub from: Timestamp,
    /// When it ends, at most 24 hours after it began.
    pub until: Timestamp,
    /// Why, as somebody wrote it.
    pub reason: String,
    /// Who made it.
    pub by: String,
    pub created_at: Timestamp,
}

/// What somebody wants to be muted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMute {
    pub kind: Option<IncidentKind>,
    pub dialer: Option<String>,
    /// `None`: now.
    pub from: Option<Timestamp>,
    /// How long, in milliseconds; or `until`.
    pub length_ms: Option<i64>,
    pub until: Option<Timestamp>,
    pub reason: String,
}

/// Why a mute was not made or ended; in words that say what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MuteError {
    #[error("incidents about the audit log cannot be muted")]
    Integrity,
    #[error("say for how long or until when, and not both")]
    NoEnd,
    #[error("a mute begins now or later, within 30 days")]
    Begin,
    #[error("a mute ends after it began, and after 24 hours at most")]
    End,
    #[error("100 mutes are in force or planned; end some first")]
    TooMany,
    #[error("there is no such mute, or it is over")]
    Unknown,
}

/// Why nobody is told of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = MutedBy)]
pub struct MutedBy {
    /// Which mute; null: its dialer was taken out by hand.
    pub mute: Option<String>,
    pub by: String,
    pub reason: Option<String>,
    /// Then somebody is told, where it is still open.
    pub until: Option<Timestamp>,
}

/// Who works on an incident, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Acknowledgement {
    pub by: String,
    pub at: Timestamp,
}

impl Mute {
    /// Whether it is in force for a topic.
    pub fn silences(&self, topic: &Topic, at: Timestamp) -> bool {
        self.from <= at
            && at < self.until
            && topic.kind.may_be_muted()
            && self.kind.is_none_or(|kind| kind == topic.kind)
            && (self.dialer.is_none() || self.dialer.as_deref() == topic.dialer())
    }
}

impl NewMute {
    /// The mute that this asks for, unless it cannot be.
    pub fn made(self, by: &str, now: Timestamp, known: &[Mute]) -> Result<Mute, MuteError> {
        if self.kind.is_some_and(|kind| !kind.may_be_muted()) {
            return Err(MuteError::Integrity);
        }
        let from = self.from.unwrap_or(now);
        let latest = now.checked_add(PLANNED_AHEAD);
        if from < now || latest.is_ok_and(|latest| from > latest) {
            return Err(MuteError::Begin);
        }
        let until = match (self.length_ms, self.until) {
            (Some(ms), None) => from.checked_add(SignedDuration::from_millis(ms)).ok(),
            (None, until) => until,
            (Some(_), Some(_)) => None,
        };
        let until = until.ok_or(MuteError::NoEnd)?;
        if until <= from || until.duration_since(from) > LONGEST_MUTE {
            return Err(MuteError::End);
        }
        if known.len() >= MUTES {
            return Err(MuteError::TooMany);
        }
        let named = |ms: i64| format!("mute-{ms}");
        let mut ms = now.as_millisecond();
        while known.iter().any(|mute| mute.id == named(ms)) {
            ms += 1;
        }
        Ok(Mute {
            id: named(ms),
            kind: self.kind,
            dialer: self.dialer,
            from,
            until,
            reason: self.reason,
            by: by.to_owned(),
            created_at: now,
        })
    }
}

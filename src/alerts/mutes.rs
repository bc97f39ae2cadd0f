//! Mutes: for which incidents nobody is told for a while, why, and by whom. A mute that begins later is a planned window.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::kinds::{IncidentKind, Topic};

/// The longest mute.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);
/// The earliest that a planned window is made known.
pub const PLANNED_AHEAD: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Mutes that are in force or planned at a time.
const MUTES: usize = 100;

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
    /// Who ended it before its time, in the record of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub ended_by: Option<String>,
}

/// What is to be muted, and how long: exactly one of `for` and `until`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMute {
    /// Incidents of this kind only. Those about the audit log cannot be muted.
    #[schema(value_type = String, required = false, example = "dialer_down")]
    pub kind: Option<IncidentKind>,
    /// Incidents about this dialer only.
    #[schema(value_type = String, required = false, example = "dialfire")]
    pub dialer: Option<String>,
    /// When it begins, now or within 30 days: a planned window. Without it, now.
    #[schema(value_type = String, required = false, format = DateTime, min_length = 20)]
    pub from: Option<Timestamp>,
    /// How long: up to 24 hours.
    #[schema(value_type = String, required = false, pattern = "^([1-9]|1[0-9]|2[0-4])h$|^[1-9][0-9]{0,2}m$", example = "1h")]
    pub r#for: Option<String>,
    /// When it ends, at most 24 hours after it began.
    #[schema(value_type = String, required = false, format = DateTime, min_length = 20)]
    pub until: Option<Timestamp>,
    /// Why. Everybody who may see incidents reads it.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = "^[ -~]*[!-~][ -~]*$",
        example = "the carrier works on its lines"
    )]
    pub reason: String,
}

/// Who took a dialer out, or has nobody told of an incident; since when, why, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drained {
    pub by: String,
    pub since: Timestamp,
    /// Why, as somebody wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Then that ends by itself; without it, somebody has to end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Drained {
    /// Without a reason and an end.
    pub fn new(by: &str, since: Timestamp) -> Self {
        Self {
            by: by.to_owned(),
            since,
            reason: None,
            until: None,
        }
    }

    /// Who and why, in words.
    pub fn cause(&self) -> String {
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}"));
        format!("taken out by {}{}", self.by, reason.unwrap_or_default())
    }
}

/// Who works on an incident, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Acknowledgement {
    pub by: String,
    pub at: Timestamp,
}

impl Mute {
    /// Who has nobody told, why and until when.
    pub fn as_drained(&self) -> Drained {
        Drained {
            reason: Some(self.reason.clone()),
            until: Some(self.until),
            ..Drained::new(&self.by, self.from)
        }
    }

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
    /// The mute that this asks for; otherwise what is wrong, in words.
    pub fn made(self, by: &str, now: Timestamp, known: &[Mute]) -> Result<Mute, &'static str> {
        if self.kind.is_some_and(|kind| !kind.may_be_muted()) {
            return Err("incidents about the audit log cannot be muted");
        }
        let from = self.from.unwrap_or(now);
        let until = end(self.r#for.as_deref(), self.until, from)?;
        let until = until.ok_or("say for how long, or until when")?;
        if from < now || from.duration_since(now) > PLANNED_AHEAD {
            return Err("a mute begins now or within 30 days");
        }
        if until.duration_since(from) > LONGEST {
            return Err("a mute ends after 24 hours at most");
        }
        if known.len() >= MUTES {
            return Err("too many mutes are in force or planned; end some first");
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
            reason: checked(self.reason)?,
            by: by.to_owned(),
            ended_by: None,
        })
    }
}

/// A reason as it may stand in the log.
pub fn checked(reason: String) -> Result<String, &'static str> {
    let fits = (1..=200).contains(&reason.chars().count()) && !reason.trim().is_empty();
    let fits = fits && !reason.contains(char::is_control);
    fits.then_some(reason)
        .ok_or("a reason has 1 to 200 characters, in one line")
}

/// The end of what begins at a time, for how long or until when; `None` where it has none.
pub fn end(
    length: Option<&str>,
    until: Option<Timestamp>,
    from: Timestamp,
) -> Result<Option<Timestamp>, &'static str> {
    let end = match (length.map(str::parse::<SignedDuration>), until) {
        (Some(_), Some(_)) => return Err("send `for` or `until`, not both"),
        (None, until) => until,
        (Some(length), None) => Some(length.and_then(|by| from.checked_add(by)).unwrap_or(from)),
    };
    match end {
        Some(end) if end <= from => Err("the end is a time to come, or a length like 30m or 2h"),
        end => Ok(end),
    }
}

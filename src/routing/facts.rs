//! All that is known when a call is decided. Facts are recorded with the decision, so that it can be executed again;
//! they hold nothing that identifies a person.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AskedFacts, DialerId, HoursState, LimitUse};
use crate::lead::LeadScore;
use crate::phone::Caller;

/// Everything a decision may depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallFacts {
    /// When the call is decided.
    pub at: Timestamp,
    /// What Braze says of the caller.
    pub lookup: Lookup,
    /// The state of every configured dialer, in the order of the file.
    pub dialers: Vec<DialerView>,
    /// What the rules ask for by name.
    #[serde(default, skip_serializing_if = "AskedFacts::is_empty")]
    pub asked: AskedFacts,
}

impl CallFacts {
    /// The facts of a call of which no rule asks anything by name.
    pub fn new(at: Timestamp, lookup: Lookup, dialers: Vec<DialerView>) -> Self {
        Self {
            at,
            lookup,
            dialers,
            asked: AskedFacts::default(),
        }
    }

    /// The same where named hours are in these states.
    #[must_use]
    pub fn with_hours(&self, hours: BTreeMap<Arc<str>, HoursState>) -> Self {
        let mut facts = self.clone();
        facts.asked.hours = hours;
        facts
    }
}

/// A bounded question about the caller, and how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Lookup {
    /// Braze has a profile for this number.
    Known {
        profile: Profile,
        /// Where the answer came from.
        source: Source,
        /// Age of the answer in milliseconds; 0 when just fetched.
        age_ms: u64,
        /// Why an older answer was used although a fresh one was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        because: Option<LookupUnavailable>,
    },
    /// Braze has no profile for this number.
    Unknown {
        /// Where the answer came from.
        source: Source,
        /// Age of the answer in milliseconds; 0 when just fetched.
        age_ms: u64,
    },
    /// There is no number to ask for.
    Skipped { reason: LookupSkipped },
    /// Braze did not answer in time, or not usefully.
    Unavailable { reason: LookupUnavailable },
}

/// The routing fields of a Braze profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The lead score, where the profile has a readable one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<LeadScore>,
    /// The named tier, as Braze holds it, where one is configured and set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The custom attributes that rules may ask for, as text, by their names; those that the profile has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// How a look-up ended, as a word.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum LookupOutcome {
    Known,
    Unknown,
    Unavailable,
    Skipped,
}

impl LookupOutcome {
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// Where an answer about the caller came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// From the cache, within its time to live.
    Fresh,
    /// From the cache, beyond its time to live.
    Stale,
    Fetched,
    /// From nobody: whoever asks for an explanation supposes it. No call is decided so.
    Supposed,
}

impl Lookup {
    /// The look-up of an explanation that does not ask: a caller of this score, or one that Braze does not know.
    pub fn supposed(caller: &Caller, score: Option<LeadScore>) -> Self {
        let skipped = |reason| Self::Skipped { reason };
        match (caller, score) {
            (_, Some(score)) => Self::Known {
                profile: Profile {
                    score: Some(score),
                    ..Profile::default()
                },
                source: Source::Supposed,
                age_ms: 0,
                because: None,
            },
            (
                Caller::Number(_)
                | Caller::Sip {
                    number: Some(_), ..
                },
                None,
            ) => Self::Unknown {
                source: Source::Supposed,
                age_ms: 0,
            },
            (Caller::Withheld, None) => skipped(LookupSkipped::Withheld),
            (Caller::National(_), None) => skipped(LookupSkipped::NotE164),
            (Caller::Client(_), None) => skipped(LookupSkipped::Client),
            (Caller::Sip { number: None, .. }, None) => skipped(LookupSkipped::SipUser),
            (Caller::Unreadable(_), None) => skipped(LookupSkipped::Unreadable),
        }
    }

    pub fn outcome(&self) -> LookupOutcome {
        match self {
            Self::Known { .. } => LookupOutcome::Known,
            Self::Unknown { .. } => LookupOutcome::Unknown,
            Self::Skipped { .. } => LookupOutcome::Skipped,
            Self::Unavailable { .. } => LookupOutcome::Unavailable,
        }
    }

    /// Why a decision has an old answer or none, in a word: `stale`, or why there is none. `None` where it is fresh, and where nobody was asked.
    pub fn why_not_fresh(&self) -> Option<&'static str> {
        match self {
            Self::Known { source, .. } | Self::Unknown { source, .. } => {
                (*source == Source::Stale).then_some("stale")
            }
            Self::Unavailable { reason } => Some(reason.into()),
            Self::Skipped { .. } => None,
        }
    }

    /// What Braze says of the caller, where it knows the caller.
    pub fn profile(&self) -> Option<&Profile> {
        match self {
            Self::Known { profile, .. } => Some(profile),
            Self::Unknown { .. } | Self::Skipped { .. } | Self::Unavailable { .. } => None,
        }
    }

    /// Whether it is known what class the caller has, and be it none.
    pub(super) fn settles_class(&self) -> bool {
        let unasked = Self::Skipped {
            reason: LookupSkipped::NotNeeded,
        };
        !matches!(self, Self::Unavailable { .. }) && *self != unasked
    }

    /// Where the answer came from, in a word for log lines: `hit`, `stale`, `fetched`; `skipped` or `unavailable` where there is none.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Known { source, .. } | Self::Unknown { source, .. } => match source {
                Source::Fresh => "hit",
                Source::Stale => "stale",
                Source::Fetched => "fetched",
                Source::Supposed => "supposed",
            },
            Self::Skipped { .. } => "skipped",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

/// Why no look-up was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LookupSkipped {
    /// The caller hides the number.
    Withheld,
    /// Digits without a country code, or a short code.
    NotE164,
    Client,
    /// A SIP user that is no number.
    SipUser,
    /// Nothing that can be read as a caller.
    Unreadable,
    /// The rules decide without it.
    NotNeeded,
}

/// Why a look-up gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LookupUnavailable {
    /// No answer within the look-up's share of the budget.
    Timeout,
    RateLimited,
    /// Our own limiter has no request left for this minute.
    LimiterEmpty,
    /// The circuit breaker is open.
    BreakerOpen,
    /// Braze refused the key (401, 403).
    Unauthorized,
    /// Braze refused the request (other 4xx).
    Rejected,
    /// Braze failed (5xx, 408, 425) or is in maintenance (202).
    ServerError,
    /// No connection: DNS, TCP or TLS failed, or the connection broke.
    Connect,
    /// The answer could not be read.
    Malformed,
    /// Nothing of the budget was left to ask with.
    NoBudget,
}

/// What is known of one dialer when a call is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialerView {
    pub dialer: DialerId,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
    /// Whether requests to it succeed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub breaker: BreakerView,
    /// Whether it says it can take calls.
    #[serde(default, skip_serializing_if = "is_default")]
    pub availability: Availability,
    /// It has just recovered and is not given everybody at once: so many callers who wait for it come before this one. `None` where it is
    /// this caller's turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callers_first: Option<u64>,
    /// Its circuit is open only because it limits our requests (429): it is not asked, and its line can ring without the note.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub line_only: bool,
    /// Its opening hours, where it has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<HoursState>,
    /// How much of each of its limits is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitUse>,
}

impl DialerView {
    /// A dialer that is in service and does not say whether it can take calls.
    pub fn well(dialer: DialerId) -> Self {
        Self {
            dialer,
            drained: false,
            breaker: BreakerView::Closed,
            availability: Availability::Unknown,
            callers_first: None,
            line_only: false,
            hours: None,
            limits: Vec::new(),
        }
    }

    /// How many more calls its limits let it have; `None` where it has none.
    pub fn room(&self) -> Option<u64> {
        let room = |limit: &LimitUse| u64::from(limit.of.saturating_sub(limit.used));
        self.limits.iter().map(room).min()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A circuit breaker as the decision sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerView {
    /// Healthy: calls pass.
    #[default]
    Closed,
    /// Tripped: refused at once.
    Open,
    /// One call may try.
    HalfOpen,
}

/// What a dialer says about taking calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Availability {
    Available,
    Unavailable {
        /// In words, with the figures: `0 agents online, 1 needed`.
        why: String,
    },
    /// It does not say; counted as available.
    #[default]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_up_is_logged_by_where_its_answer_came_from() {
        let from = |source| Lookup::Unknown { source, age_ms: 0 };
        let words = [
            (from(Source::Fresh), "hit"),
            (from(Source::Stale), "stale"),
            (from(Source::Fetched), "fetched"),
            (from(Source::Supposed), "supposed"),
            (
                Lookup::Skipped {
                    reason: LookupSkipped::Withheld,
                },
                "skipped",
            ),
            (
                Lookup::Unavailable {
                    reason: LookupUnavailable::Connect,
                },
                "unavailable",
            ),
        ];
        for (lookup, word) in words {
            assert_eq!(lookup.word(), word);
        }
    }
}

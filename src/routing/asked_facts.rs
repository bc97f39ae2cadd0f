//! The answers to what rules ask by name, beside the look-up and the dialers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{DialerId, HoursState, NumberPattern};
use crate::phone::Caller;

/// The facts that rules ask for by name. They say whether the caller is meant, and not who that is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AskedFacts {
    /// The patterns of the rules that the called number matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub called: Vec<NumberPattern>,
    /// The patterns of the rules that the caller's number matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caller: Vec<NumberPattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller_kind: Option<CallerKind>,
    /// The lists that the caller is on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<Arc<str>>,
    /// The state of each named hours.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hours: BTreeMap<Arc<str>, HoursState>,
    /// `None` where it is not asked for, or not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// For each rule with a share, the place of this caller among a hundred, from 0.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub buckets: BTreeMap<Arc<str>, u8>,
    /// For each rule with weighted steps, a number drawn evenly from all of `u32` for each step.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub draws: BTreeMap<Arc<str>, Vec<u32>>,
}

/// Who calls, by the kind of caller.
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
pub enum CallerKind {
    /// A number with its country code.
    Number,
    Withheld,
    /// Digits without a country code.
    National,
    Sip,
    /// A user of the Voice SDK.
    Client,
    /// Nothing that can be read as a caller.
    Unreadable,
}

impl CallerKind {
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    pub fn of(caller: &Caller) -> Self {
        match caller {
            Caller::Number(_) => Self::Number,
            Caller::Withheld => Self::Withheld,
            Caller::National(_) => Self::National,
            Caller::Client(_) => Self::Client,
            Caller::Sip { .. } => Self::Sip,
            Caller::Unreadable(_) => Self::Unreadable,
        }
    }
}

/// The caller's calls before this one, as far as they are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// So many seconds ago the last one came; `None`: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called_before_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_answered: Option<LastAnswered>,
}

/// Who talked to the caller last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAnswered {
    pub dialer: DialerId,
    /// So many seconds ago that call came.
    pub age_s: u64,
}

impl AskedFacts {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

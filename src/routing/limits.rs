//! How much of a dialer's capacity this installation may use.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// `[routing.limits.NAME]`: what a dialer takes at most. An absent limit does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DialerLimits {
    /// It takes calls while these hours are open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hours: Option<Arc<str>>,
    /// Calls in progress that were put through to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_active: Option<u32>,
    /// Calls put through to it in a calendar hour, day, month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_hour: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_day: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_month: Option<u32>,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitPeriod {
    Active,
    Hour,
    Day,
    Month,
}

/// How much of one limit of a dialer is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitUse {
    pub period: LimitPeriod,
    pub used: u32,
    pub of: u32,
}

/// The calls that a dialer has now, and had in the calendar periods that now lies in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DialerLoad {
    pub active: u32,
    pub hour: u32,
    pub day: u32,
    pub month: u32,
}

impl DialerLimits {
    /// Whether it counts the calls of hours, days or months.
    pub fn counts_periods(&self) -> bool {
        let of_periods = [self.max_per_hour, self.max_per_day, self.max_per_month];
        of_periods.iter().any(Option::is_some)
    }

    /// How much of each limit is used by this load.
    pub fn used(&self, load: DialerLoad) -> Vec<LimitUse> {
        let of = |period, used, of: Option<u32>| {
            Some(LimitUse {
                period,
                used,
                of: of?,
            })
        };
        [
            of(LimitPeriod::Active, load.active, self.max_active),
            of(LimitPeriod::Hour, load.hour, self.max_per_hour),
            of(LimitPeriod::Day, load.day, self.max_per_day),
            of(LimitPeriod::Month, load.month, self.max_per_month),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl LimitUse {
    pub fn is_reached(&self) -> bool {
        self.used >= self.of
    }

    /// `40 of 40 calls in progress`, `400 of 400 calls of this hour`.
    pub(super) fn described(&self) -> String {
        let what = match self.period {
            LimitPeriod::Active => "in progress",
            LimitPeriod::Hour => "of this hour",
            LimitPeriod::Day => "of this day",
            LimitPeriod::Month => "of this month",
        };
        format!("{} of {} calls {what}", self.used, self.of)
    }
}

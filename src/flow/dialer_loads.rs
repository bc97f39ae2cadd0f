//! How many calls each dialer has now, and had in the periods that its limits count.
//!
//! In memory only: it follows what is recorded of the calls, and is made anew from that at each start.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::call::{CallId, Status};
use crate::clock::Clock;
use crate::routing::{DialerId, DialerLoad, DialerView, RulesInForce};
use crate::store::StoredCall;

/// A call whose end is not heard of for so long has ended: Twilio's own limit for a dial.
const LONGEST_CALL: Duration = Duration::from_hours(4);

/// The loads of all dialers. Cheap to clone; every clone sees the same.
#[derive(Clone, Debug)]
pub struct DialerLoads {
    clock: Clock,
    loads: Arc<Mutex<Loads>>,
}

#[derive(Debug)]
struct Loads {
    /// Whose hours, days and months are counted.
    zone: TimeZone,
    active: HashMap<CallId, ActiveCall>,
    counts: BTreeMap<DialerId, PeriodCounts>,
}

#[derive(Debug)]
struct ActiveCall {
    dialer: DialerId,
    since: Instant,
}

/// Calls of a dialer in the hour, day and month that began then.
#[derive(Clone, Copy, Debug, Default)]
struct PeriodCounts {
    hour: (Option<Timestamp>, u32),
    day: (Option<DateTime>, u32),
    month: (Option<DateTime>, u32),
}

/// When the hour, day and month of a moment began.
#[derive(Clone, Copy, Debug)]
pub struct Periods {
    pub hour: Timestamp,
    pub day: Timestamp,
    pub month: Timestamp,
    local_day: DateTime,
    local_month: DateTime,
}

impl Periods {
    /// The periods that this moment lies in.
    fn of(now: &Zoned) -> Self {
        let local_day = now.date().to_datetime(jiff::civil::Time::midnight());
        let local_month = now
            .date()
            .first_of_month()
            .to_datetime(jiff::civil::Time::midnight());
        let start = |at: DateTime| {
            let start = at.to_zoned(now.time_zone().clone());
            start.map_or(now.timestamp(), |start| start.timestamp())
        };
        let into_hour_s = i64::from(now.minute()) * 60 + i64::from(now.second());
        let hour = now.timestamp().as_second() - into_hour_s;
        Self {
            hour: Timestamp::from_second(hour).unwrap_or(now.timestamp()),
            day: start(local_day),
            month: start(local_month),
            local_day,
            local_month,
        }
    }
}

impl PeriodCounts {
    /// Forgets what was counted in periods that are over.
    fn roll(&mut self, now: Periods) {
        if self.hour.0 != Some(now.hour) {
            self.hour = (Some(now.hour), 0);
        }
        if self.day.0 != Some(now.local_day) {
            self.day = (Some(now.local_day), 0);
        }
        if self.month.0 != Some(now.local_month) {
            self.month = (Some(now.local_month), 0);
        }
    }

    fn add(&mut self, [hour, day, month]: [u32; 3]) {
        self.hour.1 = self.hour.1.saturating_add(hour);
        self.day.1 = self.day.1.saturating_add(day);
        self.month.1 = self.month.1.saturating_add(month);
    }
}

impl DialerLoads {
    pub fn new(clock: Clock, zone: TimeZone) -> Self {
        let loads = Loads {
            zone,
            active: HashMap::new(),
            counts: BTreeMap::new(),
        };
        Self {
            clock,
            loads: Arc::new(Mutex::new(loads)),
        }
    }

    /// Counts by the hours, days and months of another zone from now on.
    pub fn set_zone(&self, zone: TimeZone) {
        self.lock().zone = zone;
    }

    /// The periods that now lies in.
    pub fn periods(&self) -> Periods {
        let now = self.clock.now().to_zoned(self.lock().zone.clone());
        Periods::of(&now)
    }

    /// Takes up a call that an earlier run put through at `since`; it counts as active alone.
    pub fn restore_active(&self, call: CallId, dialer: &DialerId, since: Timestamp) {
        let age = Duration::try_from(self.clock.now().duration_since(since)).unwrap_or_default();
        let now = self.clock.instant();
        let since = now.checked_sub(age).unwrap_or(now);
        let mut loads = self.lock();
        loads.active.insert(
            call,
            ActiveCall {
                dialer: dialer.clone(),
                since,
            },
        );
        loads.show(dialer);
    }

    /// Takes up how many calls a dialer had in the hour, day and month that now lies in.
    pub fn restore_counts(&self, dialer: DialerId, counts: [u32; 3]) {
        let now = self.periods();
        let mut loads = self.lock();
        let counted = loads.counts.entry(dialer).or_default();
        counted.roll(now);
        counted.add(counts);
    }

    /// A call has come to this: it holds a place at the dialer that it was put through to, until it ends or goes to another. A line that
    /// rings once more is no further call.
    pub(super) fn follow(&self, call: &StoredCall) {
        let is_put_through = matches!(call.status, Status::Dialing | Status::Bridged);
        let at = call.state.dialer().filter(|_| is_put_through);
        let mut loads = self.lock();
        let before = loads
            .active
            .get(&call.id)
            .map(|active| active.dialer.clone());
        if before.as_ref() == at {
            return;
        }
        match at {
            Some(dialer) => {
                let since = self.clock.instant();
                let active = ActiveCall {
                    dialer: dialer.clone(),
                    since,
                };
                loads.active.insert(call.id.clone(), active);
                let now = Periods::of(&self.clock.now().to_zoned(loads.zone.clone()));
                let counts = loads.counts.entry(dialer.clone()).or_default();
                counts.roll(now);
                counts.add([1; 3]);
                loads.show(dialer);
            }
            None => {
                loads.active.remove(&call.id);
            }
        }
        if let Some(before) = before {
            loads.show(&before);
        }
    }

    /// What a decision sees of dialers that have limits.
    pub(crate) fn seen_with_limits(
        &self,
        mut views: Vec<DialerView>,
        ruleset: &RulesInForce,
        at: Timestamp,
    ) -> Vec<DialerView> {
        if ruleset.limits.is_empty() {
            return views;
        }
        let now = self.clock.instant();
        let mut loads = self.lock();
        loads
            .active
            .retain(|_, call| now.saturating_duration_since(call.since) < LONGEST_CALL);
        let periods = Periods::of(&at.to_zoned(loads.zone.clone()));
        for view in &mut views {
            if let Some(limits) = ruleset.limits.get(&view.dialer) {
                view.hours = ruleset.hours_of(&view.dialer, at);
                view.limits = limits.used(loads.load(&view.dialer, periods));
            }
        }
        views
    }

    /// The calls of dialers that have no room left, the oldest first: whether they go on is to be asked.
    pub fn oldest_of_full(&self, ruleset: &RulesInForce) -> Vec<CallId> {
        let loads = self.lock();
        let is_full = |dialer: &DialerId| {
            let most = ruleset
                .limits
                .get(dialer)
                .and_then(|limits| limits.max_active);
            most.is_some_and(|most| loads.n_active(dialer) >= most)
        };
        let full: Vec<&DialerId> = ruleset
            .limits
            .keys()
            .filter(|dialer| is_full(dialer))
            .collect();
        let mut calls: Vec<_> = loads
            .active
            .iter()
            .filter(|(_, call)| full.contains(&&call.dialer))
            .collect();
        calls.sort_by_key(|(_, call)| call.since);
        calls.into_iter().map(|(id, _)| id.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Loads> {
        // Nothing under this lock leaves the loads half-changed.
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loads {
    fn n_active(&self, dialer: &DialerId) -> u32 {
        let n = self
            .active
            .values()
            .filter(|call| call.dialer == *dialer)
            .count();
        u32::try_from(n).unwrap_or(u32::MAX)
    }

    fn load(&self, dialer: &DialerId, now: Periods) -> DialerLoad {
        let active = self.n_active(dialer);
        let Some(mut counts) = self.counts.get(dialer).copied() else {
            return DialerLoad {
                active,
                ..DialerLoad::default()
            };
        };
        counts.roll(now);
        DialerLoad {
            active,
            hour: counts.hour.1,
            day: counts.day.1,
            month: counts.month.1,
        }
    }

    fn show(&self, dialer: &DialerId) {
        let name = dialer.as_str().to_owned();
        metrics::gauge!("switchboard_dialer_active", "dialer" => name).set(self.n_active(dialer));
    }
}

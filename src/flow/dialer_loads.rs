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

/// How often such calls are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

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
    dialers: BTreeMap<DialerId, DialerCounts>,
    swept: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct DialerCounts {
    active: u32,
    periods: PeriodCounts,
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
            dialers: BTreeMap::new(),
            swept: None,
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

    /// Whose hours and days are counted.
    pub fn zone(&self) -> TimeZone {
        self.lock().zone.clone()
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
        self.lock().enter(call, dialer, since);
    }

    /// Takes up how many calls a dialer had in the hour, day and month that now lies in.
    pub fn restore_counts(&self, dialer: DialerId, counts: [u32; 3]) {
        let now = self.periods();
        let mut loads = self.lock();
        let counted = &mut loads.dialers.entry(dialer).or_default().periods;
        counted.roll(now);
        counted.add(counts);
    }

    /// A call has come to this: it holds a place at the dialer that it was put through to, until it ends or goes to another. A line that
    /// rings once more is no further call.
    pub(super) fn follow(&self, call: &StoredCall) {
        let is_put_through = matches!(call.status, Status::Dialing | Status::Bridged);
        let at = call.state.dialer().filter(|_| is_put_through);
        let mut loads = self.lock();
        if loads.active.get(&call.id).map(|active| &active.dialer) == at {
            return;
        }
        let now = self.clock.instant();
        loads.sweep(now);
        loads.leave(&call.id);
        if let Some(dialer) = at {
            loads.enter(call.id.clone(), dialer, now);
            let now = Periods::of(&self.clock.now().to_zoned(loads.zone.clone()));
            let counted = &mut loads.dialers.entry(dialer.clone()).or_default().periods;
            counted.roll(now);
            counted.add([1; 3]);
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
        loads.sweep(now);
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
        if full.is_empty() {
            return Vec::new();
        }
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
    fn enter(&mut self, call: CallId, dialer: &DialerId, since: Instant) {
        self.leave(&call);
        let dialer = dialer.clone();
        self.dialers.entry(dialer.clone()).or_default().active += 1;
        self.show(&dialer);
        self.active.insert(call, ActiveCall { dialer, since });
    }

    fn leave(&mut self, call: &CallId) {
        let Some(ActiveCall { dialer, .. }) = self.active.remove(call) else {
            return;
        };
        if let Some(counts) = self.dialers.get_mut(&dialer) {
            counts.active = counts.active.saturating_sub(1);
        }
        self.show(&dialer);
    }

    /// Lets go of calls that have ended long ago and of which nobody told.
    fn sweep(&mut self, now: Instant) {
        let is_due = |swept: Instant| now.saturating_duration_since(swept) >= SWEEP_EVERY;
        if !self.swept.is_none_or(is_due) {
            return;
        }
        self.swept = Some(now);
        let over = self
            .active
            .iter()
            .filter(|(_, call)| now.saturating_duration_since(call.since) >= LONGEST_CALL);
        let over: Vec<CallId> = over.map(|(id, _)| id.clone()).collect();
        for call in over {
            self.leave(&call);
        }
    }

    fn n_active(&self, dialer: &DialerId) -> u32 {
        self.dialers.get(dialer).map_or(0, |counts| counts.active)
    }

    fn load(&self, dialer: &DialerId, now: Periods) -> DialerLoad {
        let mut counts = self.dialers.get(dialer).copied().unwrap_or_default();
        counts.periods.roll(now);
        DialerLoad {
            active: counts.active,
            hour: counts.periods.hour.1,
            day: counts.periods.day.1,
            month: counts.periods.month.1,
        }
    }

    fn show(&self, dialer: &DialerId) {
        let name = dialer.as_str().to_owned();
        metrics::gauge!("switchboard_dialer_active", "dialer" => name).set(self.n_active(dialer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(at: &str) -> (DialerLoads, Clock) {
        let clock = Clock::stopped(at.parse().unwrap());
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        (DialerLoads::new(clock.clone(), zone), clock)
    }

    fn load(loads: &DialerLoads) -> [u32; 4] {
        let now = loads.periods();
        let DialerLoad {
            active,
            hour,
            day,
            month,
        } = loads.lock().load(&DialerId::new("a"), now);
        [active, hour, day, month]
    }

    fn call(n: u32, dialer: Option<&str>) -> StoredCall {
        let call = crate::flow::stored_call(n.try_into().unwrap());
        let state = call.state.clone();
        let state = match dialer {
            Some(dialer) => state
                .replanned(vec![DialerId::new(dialer)])
                .dialing(&DialerId::new(dialer), None),
            None => state.ended(crate::call::Disposition::Answered),
        };
        StoredCall {
            status: state.status(),
            state,
            ..call
        }
    }

    #[test]
    fn a_call_counts_once_at_each_dialer_and_holds_its_place_until_it_ends_or_goes_on() {
        let (loads, _) = loads("2026-12-01T12:00:00Z");
        loads.follow(&call(1, Some("a")));
        loads.follow(&call(1, Some("a")));
        assert_eq!(
            load(&loads),
            [1, 1, 1, 1],
            "one more ring is no further call"
        );
        loads.follow(&call(2, Some("a")));
        loads.follow(&call(1, Some("b")));
        assert_eq!(load(&loads), [1, 2, 2, 2]);
        loads.follow(&call(2, None));
        assert_eq!(load(&loads), [0, 2, 2, 2]);
    }

    #[test]
    fn hours_days_and_months_are_those_of_the_zone() {
        let (loads, clock) = loads("2026-11-30T22:30:00Z");
        loads.follow(&call(1, Some("a")));
        for (at, counts) in [
            ("2026-11-30T22:59:59Z", [1, 1, 1, 1]),
            ("2026-11-30T23:00:00Z", [1, 0, 0, 0]),
        ] {
            clock.set(at.parse().unwrap());
            assert_eq!(load(&loads), counts, "{at}");
        }
        clock.set("2026-11-30T22:59:59Z".parse().unwrap());
        loads.restore_counts(DialerId::new("a"), [1, 5, 9]);
        assert_eq!(load(&loads), [1, 2, 6, 10]);
    }

    #[test]
    fn a_call_of_which_nothing_is_heard_gives_its_place_back_after_four_hours() {
        let (loads, clock) = loads("2026-12-01T12:00:00Z");
        loads.follow(&call(1, Some("a")));
        let id = call(2, None).id;
        loads.restore_active(
            id,
            &DialerId::new("a"),
            "2026-12-01T09:00:00Z".parse().unwrap(),
        );
        let n_active = |after: Duration| {
            clock.advance(after);
            let now = clock.instant();
            let mut loads = loads.lock();
            loads.sweep(now);
            loads.n_active(&DialerId::new("a"))
        };
        assert_eq!(n_active(Duration::from_mins(59)), 2);
        assert_eq!(n_active(Duration::from_mins(1)), 1);
        assert_eq!(n_active(Duration::from_hours(3)), 0);
    }
}

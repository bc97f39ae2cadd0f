//! The callers who wait for a dialer, in order of arrival, and whose turn it is.
//!
//! In memory only: who waits stands in the store, and whoever asks again is back in line at their old place.

mod line;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::call::{CallId, CallState, Stamp};
use crate::routing::{DialerId, DialerView};

use line::Line;
pub(super) use line::Turn;

/// The waiting line. Cheap to clone; every clone is the same line.
#[derive(Clone, Debug, Default)]
pub struct Waiting(Arc<Mutex<Line>>);

impl Waiting {
    /// Learns what the dialers can take now, and forgets callers who have not asked for a long time.
    pub fn observe(&self, views: &[DialerView], now: Instant) {
        self.change(|line| line.observe(views, now));
    }

    /// Puts a caller back in line who waits since before the process began. What the dialers make of that is to be found out slowly.
    pub fn restore(&self, call_id: &CallId, since: Stamp, wanted: &[DialerId], now: Instant) {
        self.change(|line| line.restore(call_id, since, wanted, now));
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn contains(&self, call_id: &CallId) -> bool {
        self.lock().contains(call_id)
    }

    /// How many callers wait for exactly these dialers, or for any with `None`, and how long the first of them has waited, by the uptime of
    /// the machine.
    pub fn who_waits(&self, wanted: Option<&[DialerId]>, uptime: Duration) -> (usize, Duration) {
        let (n, since) = self.lock().who_waits(wanted);
        let longest = since.map(|since| uptime.saturating_sub(Duration::from_millis(since)));
        (n, longest.unwrap_or_default())
    }

    /// The dialers as a call sees them that has just arrived: behind everybody who waits.
    pub(super) fn seen_by_arrival(&self, views: Vec<DialerView>, now: Instant) -> Vec<DialerView> {
        self.change(|line| line.seen_by_arrival(views, now))
    }

    /// A call that has just arrived is about to ask these dialers.
    pub(super) fn pass(&self, plan: &[DialerId]) {
        self.lock().pass(plan);
    }

    /// A caller who waits asks again: the dialers whose turn for this caller it is, and when to come back if none takes the call.
    pub(super) fn take_turn(
        &self,
        call_id: &CallId,
        since: Stamp,
        wanted: &[DialerId],
        views: Vec<DialerView>,
        now: Instant,
    ) -> Turn {
        self.change(|line| line.take_turn(call_id, since, wanted, views, now))
    }

    /// A call was answered: it waits in line, or it does not wait any more.
    pub(super) fn follow(
        &self,
        call_id: &CallId,
        state: &CallState,
        wanted: &[DialerId],
        now: Instant,
    ) {
        self.change(|line| match state.waiting() {
            Some((since, _)) => line.enter(call_id, since, wanted, now),
            None => line.leave(call_id),
        });
    }

    /// A call does not wait any more.
    pub(super) fn leave(&self, call_id: &CallId) {
        self.change(|line| line.leave(call_id));
    }

    fn change<T>(&self, act: impl FnOnce(&mut Line) -> T) -> T {
        let mut line = self.lock();
        let before = line.len();
        let result = act(&mut line);
        let after = line.len();
        if after != before {
            let after = u32::try_from(after).unwrap_or(u32::MAX);
            metrics::gauge!("switchboard_callers_waiting").set(after);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        // Nothing under this lock leaves the line half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

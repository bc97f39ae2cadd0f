//! The callers who wait for a dialer, in order of arrival, and whose slot it is.
//!
//! In memory only: who waits stands in the store, and a caller who asks again is back in the queue at the old place.

mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::call::{CallId, CallState, Stamp};
use crate::routing::{DialerId, DialerView};

pub(super) use queue::QueueSlot;
use queue::WaitQueue;

/// The wait queue. Cheap to clone; every clone is the same queue.
#[derive(Clone, Debug, Default)]
pub struct Waiting(Arc<Mutex<WaitQueue>>);

impl Waiting {
    /// Learns what the dialers can take now, and forgets callers who have not asked for a long time.
    pub fn observe(&self, views: &[DialerView], now: Instant) {
        self.change(|queue| queue.observe(views, now));
    }

    /// Puts a caller back in the queue who waits since before the process began. What the dialers make of that is to be found out slowly.
    pub fn restore(&self, call_id: &CallId, since: Stamp, wanted: &[DialerId], now: Instant) {
        self.change(|queue| queue.restore(call_id, since, wanted, now));
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
        self.change(|queue| queue.seen_by_arrival(views, now))
    }

    /// A call that has just arrived is about to ask these dialers.
    pub(super) fn bypass(&self, plan: &[DialerId]) {
        self.lock().bypass(plan);
    }

    /// A caller who waits asks again: the dialers that this caller may ask now, and when to come back if none takes the call.
    pub(super) fn next_slot(
        &self,
        call_id: &CallId,
        since: Stamp,
        wanted: &[DialerId],
        views: Vec<DialerView>,
        now: Instant,
    ) -> QueueSlot {
        self.change(|queue| queue.next_slot(call_id, since, wanted, views, now))
    }

    /// A call was answered: it waits in the queue, or it does not wait any more.
    pub(super) fn follow(
        &self,
        call_id: &CallId,
        state: &CallState,
        wanted: &[DialerId],
        now: Instant,
    ) {
        self.change(|queue| match state.waiting() {
            Some((since, _)) => queue.enter(call_id, since, wanted, now),
            None => queue.leave(call_id),
        });
    }

    /// A call does not wait any more.
    pub(super) fn leave(&self, call_id: &CallId) {
        self.change(|queue| queue.leave(call_id));
    }

    fn change<T>(&self, act: impl FnOnce(&mut WaitQueue) -> T) -> T {
        let mut queue = self.lock();
        let before = queue.len();
        let result = act(&mut queue);
        let after = queue.len();
        if after != before {
            let after = u32::try_from(after).unwrap_or(u32::MAX);
            metrics::gauge!("switchboard_callers_waiting").set(after);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, WaitQueue> {
        // Nothing under this lock leaves the queue half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! More than the machine can take: what is turned away, and how it shows.
//!
//! A call that waits in a queue past its budget helps nobody, so a fresh call that cannot be served in time is answered at once with the safe
//! answer (last resort, or the default dialer's line), which costs no look-up, no handoff and no record. Two things say that it cannot:
//!
//! - **Webhooks in hand.** Each waits most of its life for Braze or a dialer; what it costs is about half a millisecond of processor. When
//!   Braze hangs, all that arrived meanwhile go on in the same instant, at the look-up's timeout, and have 450 ms left for their handoff. 512
//!   per core are through with their turn in half of that.
//! - **The age of waiting work.** A task that wakes every 100 ms measures how late it is. A call takes its turn on the processor about ten
//!   times, so when each turn comes half a second late, no call is answered within two seconds.
//!
//! The store needs no rule of its own: every wait for it is bounded, and a disk that fails costs nobody the look-up.
//!
//! Webhooks of calls that were answered before (`/dial`, `/hold`, `/status`) are never turned away. They count, so that fresh calls make room
//! for them. Pages and exports have [concurrency limits](super::limit) of their own, far below what would be felt on the call path.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::audit::{Event, Record};
use crate::clock::Clock;
use crate::flow::Recorder;
use crate::lifecycle::Lifecycle;

/// Webhooks in hand for each core before fresh calls are turned away.
const PER_CORE: usize = 512;
/// How often the lateness of work is measured.
const BEAT: Duration = Duration::from_millis(100);
/// Work that comes this late cannot keep the budget.
const TOO_LATE: Duration = Duration::from_millis(500);
/// Calls turned away are told of in the log and in the audit trail at most this often.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Decides which fresh calls are turned away. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Overload(Arc<OverloadState>);

#[derive(Debug)]
struct OverloadState {
    clock: Clock,
    /// By which the beat comes.
    timers: Clock,
    limit: usize,
    in_hand: AtomicUsize,
    n_shed: AtomicU64,
    /// When the next beat is due; `None` while nobody measures.
    due: Mutex<Option<Instant>>,
}

/// A webhook is in hand until this is dropped.
#[derive(Debug)]
pub(super) struct WebhookInFlight(Arc<OverloadState>);

impl Drop for WebhookInFlight {
    fn drop(&mut self) {
        self.0.in_hand.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Overload {
    /// Turns fresh calls away beyond `limit` webhooks in hand; without one, beyond 512 per core.
    pub fn new(clock: Clock, limit: Option<NonZeroUsize>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self(Arc::new(OverloadState {
            timers: clock.of_timers(),
            clock,
            limit: limit.map_or(PER_CORE.saturating_mul(cores), NonZeroUsize::get),
            in_hand: AtomicUsize::new(0),
            n_shed: AtomicU64::new(0),
            due: Mutex::default(),
        }))
    }

    /// Calls turned away since the start.
    pub fn n_shed(&self) -> u64 {
        self.0.n_shed.load(Ordering::Relaxed)
    }

    /// Takes a fresh call in hand; `None` where it has to be turned away, which is counted.
    pub(super) fn admit(&self) -> Option<WebhookInFlight> {
        if self.lateness() > TOO_LATE {
            self.shed("late");
            return None;
        }
        let room = |n: usize| (n < self.0.limit).then_some(n + 1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.0.in_hand.fetch_update(set, fetch, room).is_err() {
            self.shed("full");
            return None;
        }
        Some(WebhookInFlight(Arc::clone(&self.0)))
    }

    /// Takes a webhook of a call in hand that was answered before; it is never turned away.
    pub(super) fn carry(&self) -> WebhookInFlight {
        self.0.in_hand.fetch_add(1, Ordering::Relaxed);
        WebhookInFlight(Arc::clone(&self.0))
    }

    fn shed(&self, reason: &'static str) {
        self.0.n_shed.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("switchboard_calls_shed_total", "reason" => reason).increment(1);
    }

    /// How late the beat is: work that was due then has not had its turn yet.
    fn lateness(&self) -> Duration {
        let due = *self.0.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.map_or(Duration::ZERO, |due| {
            self.0.timers.instant().saturating_duration_since(due)
        })
    }

    fn expect_beat(&self, due: Option<Instant>) {
        *self.0.due.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }

    /// Measures lateness and tells of calls that were turned away, until the process is asked to stop.
    pub async fn watch(self, lifecycle: Lifecycle, recorder: Recorder) {
        let mut told = 0;
        let mut told_at = self.0.timers.instant();
        loop {
            let now = self.0.timers.instant();
            self.expect_beat(Some(now + BEAT));
            if !lifecycle.pause(BEAT).await {
                break;
            }
            if now.saturating_duration_since(told_at) >= REPORT_EVERY {
                told = self.report(told, &recorder).await;
                told_at = now;
            }
        }
        // Nobody measures any more: a process that drains does not turn its last calls away.
        self.expect_beat(None);
        self.report(told, &recorder).await;
    }

    /// Reports how many calls were turned away since `told`.
    async fn report(&self, told: u64, recorder: &Recorder) -> u64 {
        let in_hand = self.0.in_hand.load(Ordering::Relaxed);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge; the limit is far below 2^52"
        )]
        metrics::gauge!("switchboard_webhooks_in_hand").set(in_hand as f64);
        let n_shed = self.n_shed();
        let calls = n_shed - told;
        if calls > 0 {
            tracing::error!(
                event = "calls.shed",
                calls,
                in_hand,
                limit = self.0.limit,
                "more calls than this machine can take: these got the safe answer at once"
            );
            let event = Event::WebhookUnusable {
                path: "/webhooks/twilio".to_owned(),
                reason: format!("overload: {calls} calls were answered safely without look-up"),
            };
            recorder
                .append_one(Record::of_service(self.0.clock.now(), event))
                .await;
        }
        n_shed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overload(limit: usize) -> Overload {
        Overload::new(Clock::system(), NonZeroUsize::new(limit))
    }

    #[tokio::test]
    async fn fresh_calls_make_room_for_calls_that_were_answered_before() {
        let overload = overload(2);
        let first = overload.admit().unwrap();
        let carried = overload.carry();
        let _carried_too = overload.carry();
        assert!(overload.admit().is_none());
        drop((first, carried));
        assert!(overload.admit().is_some());
        assert_eq!(overload.n_shed(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn fresh_calls_are_turned_away_while_work_comes_too_late() {
        let overload = overload(10);
        assert!(overload.admit().is_some());
        overload.expect_beat(Some(overload.0.clock.instant()));
        tokio::time::advance(TOO_LATE).await;
        assert!(overload.admit().is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(overload.admit().is_none());
        let _carried = overload.carry();
        overload.expect_beat(None);
        assert!(overload.admit().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_drains_turns_its_last_calls_not_away() {
        let directory = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(&crate::store::Options::new(
            directory.path().join("switchboard.db"),
            Clock::system(),
            crate::store::KeyRing::new(&[7; 32]),
        ))
        .unwrap();
        let overload = overload(10);
        let lifecycle = Lifecycle::new(Duration::from_secs(5));
        let watch = overload
            .clone()
            .watch(lifecycle.clone(), Recorder::new(Clock::system(), store));
        tokio::join!(watch, async {
            tokio::time::advance(BEAT / 2).await;
            lifecycle.stop();
        });
        tokio::time::advance(TOO_LATE * 100).await;
        assert!(overload.admit().is_some());
        assert_eq!(overload.n_shed(), 0);
    }
}

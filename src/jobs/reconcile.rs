//! Calls that nobody will end: looked up after a silence, and once at start, since callbacks were lost while nobody listened.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::call::CallId;
use crate::clock::Clock;
use crate::flow::{Reconciled, Reconciliation};
use crate::lifecycle::Lifecycle;
use crate::resilience::Backoff;
use crate::store::Store;

/// How often the job looks for silent calls; also the age of the gauge of calls in progress.
const TICK: Duration = Duration::from_secs(5);
/// So many calls are asked for in one round, one after another: five requests a second at the most.
const MOST_REQUESTS: usize = 25;
/// A dialer that is full may wait for the end of a call that was never reported: its calls are asked for after so much silence.
const OF_FULL_DIALERS: Duration = Duration::from_secs(30);
/// So many silent calls are looked at in one round.
const MOST_CALLS: u32 = 20_000;
/// A call of which nothing can be learned is over after this: Twilio's own limit for a dial.
const GIVE_UP_AFTER: Duration = Duration::from_hours(4);
/// However long Twilio wants to be left alone, it is asked again after this.
const LONGEST_REST: Duration = Duration::from_mins(15);
/// After one failure; doubles with each that follows.
const SHORTEST_BACKOFF: Duration = Duration::from_secs(5);
const LONGEST_BACKOFF: Duration = Duration::from_mins(5);

/// Looks after calls without news. Cheap to clone; all clones share what is known of the calls.
#[derive(Clone, Debug)]
pub struct Reconciler {
    store: Store,
    reconciliation: Reconciliation,
    clock: Clock,
    /// In milliseconds; a reload may change both.
    reconcile_after: Arc<AtomicU64>,
    api_calls_end_after: Arc<AtomicU64>,
    /// Whatever made Twilio unreachable may be over.
    is_reconfigured: Arc<AtomicBool>,
    memory: Arc<Mutex<Memory>>,
}

/// For how long calls may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Calls of the carrier's: then it is asked for them.
    pub carrier: Duration,
    /// Calls of the Calls API: then they are closed.
    pub api: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Calls that were asked for.
    pub asked: usize,
    pub closed: usize,
    /// Calls on the line afterwards; `None` where the store does not say.
    pub active: Option<i64>,
}

impl Reconciler {
    /// A reconciler that begins now: calls older than this are looked up at once.
    pub fn new(
        store: Store,
        reconciliation: Reconciliation,
        clock: Clock,
        silence: Silence,
    ) -> Self {
        let memory = Memory::starting(clock.instant(), clock.now());
        let reconciler = Self {
            store,
            reconciliation,
            clock,
            reconcile_after: Arc::default(),
            api_calls_end_after: Arc::default(),
            is_reconfigured: Arc::default(),
            memory: Arc::new(Mutex::new(memory)),
        };
        reconciler.set_silence(silence);
        reconciler
    }

    /// Takes another configuration, from the next round on.
    pub fn reconfigure(&self, silence: Silence) {
        self.set_silence(silence);
        self.is_reconfigured.store(true, Ordering::Relaxed);
    }

    fn set_silence(&self, silence: Silence) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let Silence { carrier, api } = silence;
        self.reconcile_after.store(ms(carrier), Ordering::Relaxed);
        self.api_calls_end_after.store(ms(api), Ordering::Relaxed);
    }

    /// Looks at the calls that are due, longest silence first, and counts those in progress. Rounds do not overlap.
    pub async fn round(&self) -> Round {
        let mut memory = self.memory.lock().await;
        if self.is_reconfigured.swap(false, Ordering::Relaxed) {
            memory.pace = Pace::default();
        }
        let patience = Duration::from_millis(self.reconcile_after.load(Ordering::Relaxed));
        let of_api = Duration::from_millis(self.api_calls_end_after.load(Ordering::Relaxed));
        let mut round = Round::default();
        match self.store.silent_calls(Timestamp::MAX, MOST_CALLS).await {
            Ok(in_progress) => {
                let now = self.clock.instant();
                let heard = |call: &CallId| self.reconciliation.calls.locks.heard(call);
                let (brought, in_progress): (Vec<_>, Vec<_>) = in_progress
                    .into_iter()
                    .partition(|(call, _)| call.is_of_calls_api());
                for (call, last_news) in brought {
                    let silence = heard(&call).map_or_else(
                        || memory.silence(&call, last_news, now),
                        |heard| now.saturating_duration_since(heard),
                    );
                    // Nobody but whoever brought it knows of its end, and they have not said.
                    if silence >= of_api {
                        let reconciled = self.reconciliation.give_up(&call, last_news).await;
                        round.closed += usize::from(matches!(reconciled, Reconciled::Closed(_)));
                    }
                }
                let calls = &self.reconciliation.calls;
                let pressing = calls
                    .loads
                    .oldest_of_full(&calls.policies.current().ruleset);
                let patience_for = |call: &CallId| {
                    if pressing.contains(call) {
                        patience.min(OF_FULL_DIALERS)
                    } else {
                        patience
                    }
                };
                for (call, last_news) in memory.due(in_progress, heard, now, patience_for) {
                    let patience = patience_for(&call);
                    self.visit(&mut memory, &mut round, &call, last_news, patience)
                        .await;
                }
            }
            Err(error) => {
                tracing::error!(event = "reap.unread", error = %error, "calls without news cannot be read");
            }
        }
        round.active = self.count_active().await;
        round
    }

    async fn visit(
        &self,
        memory: &mut Memory,
        round: &mut Round,
        call: &CallId,
        last_news: Timestamp,
        patience: Duration,
    ) {
        let now = self.clock.instant();
        let may_ask = round.asked < MOST_REQUESTS && !memory.pace.is_resting(now);
        let mut reconciled = if may_ask {
            memory.tried(call, now);
            // Only what this process has waited for counts: the wall clock may have been set.
            let is_silent = memory.waited_for(call, now) >= patience;
            self.reconciliation
                .reconcile(call, last_news, is_silent)
                .await
        } else {
            Reconciled::AskLater { retry_after: None }
        };
        let now = self.clock.instant();
        if may_ask && reconciled != Reconciled::CannotAsk {
            round.asked += 1;
            memory
                .pace
                .learn(&reconciled, now, getrandom::u64().unwrap_or(0));
        }
        let is_hopeless =
            reconciled == Reconciled::CannotAsk || memory.pace.is_failing(now, patience);
        if is_hopeless && memory.silence(call, last_news, now) >= GIVE_UP_AFTER {
            reconciled = self.reconciliation.give_up(call, last_news).await;
        }
        match reconciled {
            Reconciled::Closed(_) => {
                round.closed += 1;
                memory.answered(call, now);
            }
            Reconciled::StillGoing => memory.answered(call, now),
            Reconciled::Unclear => memory.unclear(call, now),
            Reconciled::Left | Reconciled::CannotAsk | Reconciled::AskLater { .. } => {}
        }
    }

    async fn count_active(&self) -> Option<i64> {
        let active = self.store.count_active_calls().await.ok()?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge of fewer than 2^52 calls"
        )]
        metrics::gauge!("switchboard_active_calls").set(active as f64);
        Some(active)
    }
}

/// Runs rounds until the process is asked to stop.
pub async fn run(lifecycle: Lifecycle, reconciler: Reconciler) {
    let draining = lifecycle.draining();
    loop {
        // What a round that is cut off has asked to be written is written all the same.
        draining.run_until_cancelled(reconciler.round()).await;
        if !lifecycle.pause(TICK).await {
            return;
        }
    }
}

/// What is known of the calls in progress beside what the store says, and how Twilio has answered lately. By the monotonic clock; the wall
/// clock counts only for what was before the start.
#[derive(Debug)]
struct Memory {
    started: Instant,
    started_at: Timestamp,
    looks: HashMap<CallId, CallInquiry>,
    pace: Pace,
}

/// The looks at one call.
#[derive(Clone, Copy, Debug, Default)]
struct CallInquiry {
    /// The last news that this process had of it; `None` where it had none.
    heard: Option<Instant>,
    tried: Option<Instant>,
    /// The last look that needs no other for a while.
    settled: Option<Instant>,
    /// The last time Twilio said that the call goes on.
    going: Option<Instant>,
}

impl Memory {
    fn starting(started: Instant, started_at: Timestamp) -> Self {
        Self {
            started,
            started_at,
            looks: HashMap::new(),
            pace: Pace::default(),
        }
    }

    /// The calls whose turn it is, of those in progress: all of which this process has heard nothing, and those that are silent; those that
    /// were not tried for the longest time first, so that none of them stands in the way.
    fn due(
        &mut self,
        in_progress: Vec<(CallId, Timestamp)>,
        heard: impl Fn(&CallId) -> Option<Instant>,
        now: Instant,
        patience_for: impl Fn(&CallId) -> Duration,
    ) -> Vec<(CallId, Timestamp)> {
        let mut former = std::mem::take(&mut self.looks);
        let mut due = in_progress;
        due.retain(|(call, last_news)| {
            let former = former.remove(call).unwrap_or_default();
            // A call in its first moments: its arrival is in hand.
            let has_just_come = (*last_news >= self.started_at).then_some(now);
            let look = CallInquiry {
                heard: heard(call).or(former.heard).or(has_just_come),
                ..former
            };
            self.looks.insert(call.clone(), look);
            let since = look.settled.max(look.heard);
            since.is_none_or(|since| now.saturating_duration_since(since) >= patience_for(call))
        });
        due.sort_by_key(|(call, last_news)| {
            let tried = self.looks.get(call).and_then(|look| look.tried);
            (tried, *last_news)
        });
        due
    }

    fn look(&mut self, call: &CallId) -> &mut CallInquiry {
        self.looks.entry(call.clone()).or_default()
    }

    fn tried(&mut self, call: &CallId, now: Instant) {
        self.look(call).tried = Some(now);
    }

    fn answered(&mut self, call: &CallId, now: Instant) {
        let look = self.look(call);
        look.settled = Some(now);
        look.going = Some(now);
    }

    fn unclear(&mut self, call: &CallId, now: Instant) {
        self.look(call).settled = Some(now);
    }

    /// For how long this process has waited for news of the call.
    fn waited_for(&self, call: &CallId, now: Instant) -> Duration {
        let heard = self.looks.get(call).and_then(|look| look.heard);
        now.saturating_duration_since(heard.unwrap_or(self.started))
    }

    /// For how long nobody has said anything of the call; of the time before the start, the wall clock tells.
    fn silence(&self, call: &CallId, last_news: Timestamp, now: Instant) -> Duration {
        let look = self.looks.get(call).copied().unwrap_or_default();
        if let Some(since) = look.going.max(look.heard) {
            return now.saturating_duration_since(since);
        }
        let before = self.started_at.duration_since(last_news);
        now.saturating_duration_since(self.started) + Duration::try_from(before).unwrap_or_default()
    }
}

/// When Twilio may be asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pace {
    n_failures: u32,
    failing_since: Option<Instant>,
    resume_at: Option<Instant>,
}

impl Pace {
    fn learn(&mut self, reconciled: &Reconciled, now: Instant, random: u64) {
        let Reconciled::AskLater { retry_after } = reconciled else {
            *self = Self::default();
            return;
        };
        self.n_failures = self.n_failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        let backoff = Backoff::try_new(SHORTEST_BACKOFF, LONGEST_BACKOFF)
            .map_or(LONGEST_BACKOFF, |b| b.delay(self.n_failures, random));
        let rest = backoff.max(retry_after.unwrap_or_default().min(LONGEST_REST));
        self.resume_at = Some(now + rest);
    }

    fn is_resting(&self, now: Instant) -> bool {
        self.resume_at.is_some_and(|at| now < at)
    }

    /// Twilio has not answered for so long that waiting for it is no use.
    fn is_failing(&self, now: Instant, patience: Duration) -> bool {
        self.failing_since
            .is_some_and(|since| now.saturating_duration_since(since) >= patience)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(5);

    static START: LazyLock<Instant> = LazyLock::new(|| Clock::system().instant());

    fn at(seconds: u64) -> Instant {
        *START + Duration::from_secs(seconds)
    }

    fn wall(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    fn starting() -> Memory {
        Memory::starting(at(0), wall(0))
    }

    fn id(n: u32) -> CallId {
        CallId::parse(&format!("CA{n:032x}")).unwrap()
    }

    /// Of these calls, with the second at which each was last heard of, where it was, those that are due.
    fn due(memory: &mut Memory, calls: &[(u32, Option<u64>)], now: u64) -> Vec<CallId> {
        let in_progress = calls.iter().map(|(n, _)| (id(*n), wall(-1))).collect();
        let heard = |call: &CallId| {
            let known = calls.iter().find(|(n, _)| id(*n) == *call);
            known.and_then(|(_, heard)| heard.map(at))
        };
        let due = memory.due(in_progress, heard, at(now), |_| PATIENCE);
        due.into_iter().map(|(call, _)| call).collect()
    }

    #[test]
    fn at_start_every_call_of_before_is_due_and_later_the_silent_ones() {
        let mut memory = starting();
        let calls = [(1, None), (2, Some(0)), (3, Some(1))];
        assert_eq!(due(&mut memory, &calls, 1), [id(1)]);
        assert_eq!(due(&mut memory, &calls, 300), [id(1), id(2)]);
        assert_eq!(due(&mut memory, &calls, 301), [id(1), id(2), id(3)]);
    }

    #[test]
    fn a_call_whose_arrival_is_in_hand_is_silent_from_when_it_is_seen() {
        let mut memory = starting();
        let mut is_due = |now| {
            let fresh = vec![(id(1), wall(7))];
            !memory
                .due(fresh, |_| None, at(now), |_| PATIENCE)
                .is_empty()
        };
        assert_eq!([is_due(7), is_due(306), is_due(307)], [false, false, true]);
    }

    #[test]
    fn a_call_that_goes_on_is_due_again_after_the_same_time_and_news_count() {
        let mut memory = starting();
        memory.answered(&id(1), at(400));
        assert!(due(&mut memory, &[(1, Some(50))], 699).is_empty());
        assert_eq!(due(&mut memory, &[(1, Some(50))], 700), [id(1)]);
        assert_eq!(memory.silence(&id(1), wall(50), at(700)).as_secs(), 300);
        assert!(due(&mut memory, &[(1, Some(600))], 700).is_empty());
        assert_eq!(memory.silence(&id(1), wall(600), at(700)).as_secs(), 100);
    }

    #[test]
    fn the_silence_of_a_call_of_before_is_told_by_the_wall_clock_up_to_the_start_and_never_negative()
     {
        let mut memory = starting();
        assert_eq!(due(&mut memory, &[(1, None)], 10), [id(1)]);
        let silence = |news| memory.silence(&id(1), wall(news), at(10)).as_secs();
        assert_eq!((silence(-90), silence(3_600)), (100, 10));
        let waited = memory.waited_for(&id(1), at(10));
        assert_eq!(waited.as_secs(), 10, "what this process has waited");
    }

    #[test]
    fn a_call_that_was_tried_in_vain_stands_in_nobodys_way() {
        let mut memory = starting();
        memory.tried(&id(1), at(400));
        let silent = [(1, Some(10)), (2, Some(20)), (3, Some(30))];
        assert_eq!(due(&mut memory, &silent, 401), [id(2), id(3), id(1)]);
        assert_eq!(memory.silence(&id(1), wall(10), at(401)).as_secs(), 391);
    }

    #[test]
    fn a_call_that_is_over_is_forgotten() {
        let mut memory = starting();
        memory.answered(&id(1), at(400));
        assert!(due(&mut memory, &[], 401).is_empty());
        assert!(memory.looks.is_empty());
    }

    #[test]
    fn rests_double_unless_twilio_asks_for_more_and_end_with_an_answer() {
        let later = |seconds: Option<u64>| Reconciled::AskLater {
            retry_after: seconds.map(Duration::from_secs),
        };
        // (what Twilio asks for, the rest in seconds)
        let cases = [
            (None, 5),
            (None, 10),
            (Some(60), 60),
            (Some(1), 40),
            (Some(86_400), 900),
        ];
        let mut pace = Pace::default();
        for (wish, rest) in cases {
            pace.learn(&later(wish), at(0), u64::MAX);
            assert!(pace.is_resting(at(rest - 1)), "{wish:?}");
            assert!(!pace.is_resting(at(rest)), "{wish:?}");
        }
        assert!(!pace.is_failing(at(299), PATIENCE));
        assert!(pace.is_failing(at(300), PATIENCE));
        pace.learn(&Reconciled::StillGoing, at(300), 0);
        assert_eq!(pace, Pace::default());
    }
}

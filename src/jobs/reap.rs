//! Calls that nobody will end: looked up after a silence, and once at start, since callbacks were lost while nobody listened.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use crate::call::CallId;
use crate::clock::Clock;
use crate::flow::{Looked, Reaps};
use crate::lifecycle::Lifecycle;
use crate::resilience::Backoff;
use crate::store::Store;

/// How often the job looks for silent calls; also the age of the gauge of calls in progress.
const TICK: Duration = Duration::from_secs(5);
/// So many calls are asked for in one round, one after another: five requests a second at the most.
const MOST_REQUESTS: usize = 25;
/// So many silent calls are looked at in one round.
const MOST_CALLS: u32 = 20_000;
/// A call of which nothing can be learned is over after this: Twilio's own limit for a dial.
const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_hours(4);
/// However long Twilio wants to be left alone, it is asked again after this.
const LONGEST_REST: Duration = Duration::from_mins(15);
/// After one failure; doubles with each that follows.
const SHORTEST_BACKOFF: Duration = Duration::from_secs(5);
/// After many failures.
const LONGEST_BACKOFF: Duration = Duration::from_mins(5);

/// Looks after calls without news. Cheap to clone; all clones share what is known of the calls.
#[derive(Clone, Debug)]
pub struct Reaper {
    store: Store,
    reaps: Reaps,
    clock: Clock,
    /// In milliseconds; a reload may change it.
    reconcile_after: Arc<AtomicI64>,
    /// Whatever made Twilio unreachable may be over.
    is_reconfigured: Arc<AtomicBool>,
    memory: Arc<Mutex<Memory>>,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Calls that were asked for.
    pub asked: usize,
    /// Calls that were closed.
    pub closed: usize,
    /// Calls in progress afterwards; `None` where the store does not say.
    pub active: Option<i64>,
}

impl Reaper {
    /// A reaper that begins now: calls older than this are looked up at once.
    pub fn new(store: Store, reaps: Reaps, clock: Clock, reconcile_after: Duration) -> Self {
        let memory = Memory::starting(clock.now());
        let reaper = Self {
            store,
            reaps,
            clock,
            reconcile_after: Arc::default(),
            is_reconfigured: Arc::default(),
            memory: Arc::new(Mutex::new(memory)),
        };
        reaper.keep_reconcile_after(reconcile_after);
        reaper
    }

    /// Takes another configuration, from the next round on.
    pub fn reconfigure(&self, reconcile_after: Duration) {
        self.keep_reconcile_after(reconcile_after);
        self.is_reconfigured.store(true, Ordering::Relaxed);
    }

    fn keep_reconcile_after(&self, duration: Duration) {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.reconcile_after.store(ms, Ordering::Relaxed);
    }

    /// Looks at the calls that are due, longest silence first, and counts those in progress. Rounds do not overlap.
    pub async fn round(&self) -> Round {
        let mut memory = self.memory.lock().await;
        if self.is_reconfigured.swap(false, Ordering::Relaxed) {
            memory.pace = Pace::default();
        }
        let patience = SignedDuration::from_millis(self.reconcile_after.load(Ordering::Relaxed));
        let now = self.clock.now();
        let mut round = Round::default();
        let before = memory.silent_before(now, patience);
        match self.store.silent_calls(before, MOST_CALLS).await {
            Ok(silent) => {
                for (call, last_news) in memory.due(silent, now, patience) {
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
        patience: SignedDuration,
    ) {
        let now = self.clock.now();
        let may_ask = round.asked < MOST_REQUESTS && !memory.pace.is_resting(now);
        let mut looked = if may_ask {
            memory.tried(call, now);
            let is_silent = now.duration_since(last_news) >= patience;
            self.reaps.look(call, last_news, is_silent).await
        } else {
            Looked::AskLater { retry_after: None }
        };
        let now = self.clock.now();
        if may_ask && looked != Looked::CannotAsk {
            round.asked += 1;
            memory
                .pace
                .learn(&looked, now, getrandom::u64().unwrap_or(0));
        }
        let is_hopeless = looked == Looked::CannotAsk || memory.pace.is_failing(now, patience);
        if is_hopeless && memory.silence(call, last_news, now) >= GIVE_UP_AFTER {
            looked = self.reaps.give_up(call, last_news).await;
        }
        match looked {
            Looked::Closed(_) => {
                round.closed += 1;
                memory.answered(call, now);
            }
            Looked::StillGoing => memory.answered(call, now),
            Looked::Unclear => memory.unclear(call, now),
            Looked::Left | Looked::CannotAsk | Looked::AskLater { .. } => {}
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
pub async fn run(lifecycle: Lifecycle, reaper: Reaper) {
    let draining = lifecycle.draining();
    loop {
        // What a round that is cut off has asked to be written is written all the same.
        draining.run_until_cancelled(reaper.round()).await;
        if !lifecycle.pause(TICK).await {
            return;
        }
    }
}

/// What is known of the silent calls beside what the store says, and how Twilio has answered lately.
#[derive(Debug)]
struct Memory {
    started_at: Timestamp,
    looks: HashMap<CallId, Look>,
    pace: Pace,
}

/// The looks at one call.
#[derive(Clone, Copy, Debug)]
struct Look {
    tried: Timestamp,
    /// The last look that needs no other for a while.
    settled: Option<Timestamp>,
    /// The last time Twilio said that the call goes on.
    going: Option<Timestamp>,
}

impl Memory {
    fn starting(now: Timestamp) -> Self {
        Self {
            started_at: now,
            looks: HashMap::new(),
            pace: Pace::default(),
        }
    }

    /// Calls without news since then may be due.
    fn silent_before(&self, now: Timestamp, patience: SignedDuration) -> Timestamp {
        let silent = now.checked_sub(patience).unwrap_or(Timestamp::MIN);
        // A millisecond, so that a silence of exactly that long is one.
        let silent = silent
            .checked_add(SignedDuration::from_millis(1))
            .unwrap_or(silent);
        silent.max(self.started_at)
    }

    /// The calls whose turn it is: those that were not tried for the longest time first, so that none of them stands in the way.
    fn due(
        &mut self,
        silent: Vec<(CallId, Timestamp)>,
        now: Timestamp,
        patience: SignedDuration,
    ) -> Vec<(CallId, Timestamp)> {
        let known: HashMap<&CallId, Timestamp> = silent.iter().map(|(id, at)| (id, *at)).collect();
        self.looks.retain(|call, _| known.contains_key(call));
        let mut due = silent;
        due.retain(|(call, last_news)| {
            let settled = self.looks.get(call).and_then(|look| look.settled);
            match settled {
                None => *last_news < self.started_at || now.duration_since(*last_news) >= patience,
                Some(at) => now.duration_since(at.max(*last_news)) >= patience,
            }
        });
        due.sort_by_key(|(call, last_news)| {
            let tried = self.looks.get(call).map(|look| look.tried);
            (tried, *last_news)
        });
        due
    }

    fn look(&mut self, call: &CallId, now: Timestamp) -> &mut Look {
        self.looks.entry(call.clone()).or_insert(Look {
            tried: now,
            settled: None,
            going: None,
        })
    }

    fn tried(&mut self, call: &CallId, now: Timestamp) {
        self.look(call, now).tried = now;
    }

    fn answered(&mut self, call: &CallId, now: Timestamp) {
        let look = self.look(call, now);
        look.settled = Some(now);
        look.going = Some(now);
    }

    fn unclear(&mut self, call: &CallId, now: Timestamp) {
        self.look(call, now).settled = Some(now);
    }

    /// For how long nobody has said anything of the call.
    fn silence(&self, call: &CallId, last_news: Timestamp, now: Timestamp) -> SignedDuration {
        let going = self.looks.get(call).and_then(|look| look.going);
        now.duration_since(going.map_or(last_news, |at| at.max(last_news)))
    }
}

/// When Twilio may be asked again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pace {
    n_failures: u32,
    failing_since: Option<Timestamp>,
    resume_at: Option<Timestamp>,
}

impl Pace {
    fn learn(&mut self, looked: &Looked, now: Timestamp, random: u64) {
        let Looked::AskLater { retry_after } = looked else {
            *self = Self::default();
            return;
        };
        self.n_failures = self.n_failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        let backoff = Backoff::try_new(SHORTEST_BACKOFF, LONGEST_BACKOFF)
            .map_or(LONGEST_BACKOFF, |b| b.delay(self.n_failures, random));
        let rest = backoff.max(retry_after.unwrap_or_default().min(LONGEST_REST));
        self.resume_at = Some(now.checked_add(rest).unwrap_or(now));
    }

    /// A clock that was set back does not prolong a rest.
    fn is_resting(&self, now: Timestamp) -> bool {
        self.resume_at.is_some_and(|at| {
            let left = at.duration_since(now);
            left.is_positive() && left <= SignedDuration::try_from(LONGEST_REST).unwrap_or_default()
        })
    }

    /// Twilio has not answered for so long that waiting for it is no use.
    fn is_failing(&self, now: Timestamp, patience: SignedDuration) -> bool {
        self.failing_since
            .is_some_and(|since| now.duration_since(since) >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    fn id(n: u32) -> CallId {
        CallId::parse(&format!("CA{n}")).unwrap()
    }

    fn due(memory: &mut Memory, silent: &[(u32, i64)], now: i64) -> Vec<CallId> {
        let silent = silent.iter().map(|(n, s)| (id(*n), at(*s))).collect();
        let due = memory.due(silent, at(now), PATIENCE);
        due.into_iter().map(|(call, _)| call).collect()
    }

    #[test]
    fn at_start_every_call_of_before_is_due_and_later_the_silent_ones() {
        let mut memory = Memory::starting(at(0));
        assert_eq!(memory.silent_before(at(1), PATIENCE), at(0));
        assert!(memory.silent_before(at(400), PATIENCE) > at(100));
        let silent = [(1, -1), (2, 0), (3, 1)];
        assert_eq!(due(&mut memory, &silent, 1), [id(1)]);
        assert_eq!(due(&mut memory, &silent, 300), [id(1), id(2)]);
        assert_eq!(due(&mut memory, &silent, 301), [id(1), id(2), id(3)]);
    }

    #[test]
    fn a_call_that_goes_on_is_due_again_after_the_same_time_and_news_count() {
        let mut memory = Memory::starting(at(0));
        memory.answered(&id(1), at(400));
        assert!(due(&mut memory, &[(1, 50)], 699).is_empty());
        assert_eq!(due(&mut memory, &[(1, 50)], 700), [id(1)]);
        assert!(due(&mut memory, &[(1, 600)], 700).is_empty());
        assert_eq!(memory.silence(&id(1), at(50), at(700)).as_secs(), 300);
        assert_eq!(memory.silence(&id(1), at(600), at(700)).as_secs(), 100);
    }

    #[test]
    fn a_call_that_was_tried_in_vain_stands_in_nobodys_way() {
        let mut memory = Memory::starting(at(0));
        memory.tried(&id(1), at(400));
        let silent = [(1, 10), (2, 20), (3, 30)];
        assert_eq!(due(&mut memory, &silent, 401), [id(2), id(3), id(1)]);
        assert_eq!(memory.silence(&id(1), at(10), at(401)).as_secs(), 391);
    }

    #[test]
    fn a_call_that_is_not_silent_any_more_is_forgotten() {
        let mut memory = Memory::starting(at(0));
        memory.answered(&id(1), at(400));
        assert!(due(&mut memory, &[], 401).is_empty());
        assert!(memory.looks.is_empty());
    }

    #[test]
    fn rests_double_unless_twilio_asks_for_more_and_end_with_an_answer() {
        let later = |seconds: Option<u64>| Looked::AskLater {
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
        // The clock was set back by a day.
        assert!(!pace.is_resting(at(-86_400)));
        pace.learn(&Looked::StillGoing, at(300), 0);
        assert_eq!(pace, Pace::default());
    }
}

//! What a fresh score would have made of the calls that an old one or none decided: decided once, by the rules of the call, when the fresh score
//! has come, by the refresh behind the call, with another call or by a push. Braze is asked nothing for it, and nothing comes of it but a record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};

use super::drafts::destination;
use super::policy::Policy;
use super::record::Recorder;
use crate::audit::{Event, Record, ScoreRefreshed};
use crate::braze::Braze;
use crate::call::CallId;
use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::phone::Caller;
use crate::routing::{CallFacts, Decision, decide};

/// Calls that may wait; one that finds no place is left out.
const WAITING: usize = 1_024;
/// So long after the call its score is looked for: what was refreshed for the call is there by then.
const FIRST: Duration = Duration::from_secs(10);
/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// It is looked for once more after such a pause, so often. What comes later is of another time.
const AGAIN: Duration = Duration::from_mins(1);
const ATTEMPTS: u32 = 10;

/// A call that an old score or none decided.
#[derive(Debug)]
pub(super) struct OldDecision {
    pub(super) call_id: CallId,
    pub(super) caller: Caller,
    pub(super) facts: CallFacts,
    pub(super) policy: Arc<Policy>,
    pub(super) decision: Decision,
}

/// When it is to be looked for, and how often it was.
type Due = (Instant, u32, OldDecision);

/// Looks for fresh scores. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FreshScores {
    clock: Clock,
    braze: Braze,
    recorder: Recorder,
    queue: mpsc::Sender<Due>,
    waiting: Arc<Mutex<mpsc::Receiver<Due>>>,
}

impl FreshScores {
    pub fn new(clock: Clock, braze: Braze, recorder: Recorder) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        Self {
            clock,
            braze,
            recorder,
            queue,
            waiting: Arc::new(Mutex::new(waiting)),
        }
    }

    pub(super) fn look_for(&self, old: OldDecision) {
        self.look_after(FIRST, 0, old);
    }

    fn look_after(&self, pause: Duration, looked: u32, old: OldDecision) {
        let due = self.clock.instant() + pause;
        if self.queue.try_send((due, looked, old)).is_err() {
            metrics::counter!("switchboard_fresh_scores_left_out_total").increment(1);
        }
    }

    /// Looks for what waits, in turn, until it is dropped.
    pub async fn run(&self) {
        let mut waiting = self.waiting.lock().await;
        while let Some((due, looked, old)) = waiting.recv().await {
            while self.clock.instant() < due {
                Clock::system().wait(LOOK).await;
            }
            if let Some(record) = self.record(&old).await {
                self.recorder.append_one(record).await;
            } else if looked < ATTEMPTS {
                self.look_after(AGAIN, looked + 1, old);
            }
        }
    }

    /// Decides by the score, where a fresh one is known by now.
    async fn record(&self, old: &OldDecision) -> Option<Record> {
        let is_to_come = self.braze.would_ask(&old.caller).await;
        if is_to_come || self.recorder.is_erased(&old.call_id).await {
            return None;
        }
        let deadline = Deadline::starting(self.clock.instant(), old.policy.budget);
        let looked_up = self.braze.look_up_for_person(&old.caller, deadline).await;
        let lookup = looked_up.lookup;
        if lookup.why_not_fresh().is_some() {
            return None;
        }
        let mut facts = old.facts.clone();
        let cause = facts.lookup.why_not_fresh()?.to_owned();
        facts.lookup = lookup;
        let rules = &old.policy.ruleset;
        let decision = decide(rules, &facts);
        let elsewhere = destination(&decision, rules) != destination(&old.decision, rules);
        let fresh = ScoreRefreshed {
            decided_at: facts.at,
            cause,
            elsewhere,
            lookup: facts.lookup,
            rule: decision.rule,
            plan: decision.plan.dialers,
        };
        let event = Event::ScoreRefreshed(Box::new(fresh));
        Some(Record::of_call(self.clock.now(), &old.call_id, event))
    }
}

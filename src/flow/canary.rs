//! The canary: a made-up decision by the rules in force and one commit of the store, again and again, so that somebody notices before a
//! caller does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::timeout;

use super::Policies;
use crate::clock::Clock;
use crate::phone::Caller;
use crate::routing::{CallFacts, Course, Decision, DialerView, Lookup, Ruleset, decide};
use crate::store::Store;

/// From the start of one beat to the next. Longer than the quiet time after which the store empties its write-ahead log.
pub const BEAT_EVERY: Duration = Duration::from_secs(3);
/// What was good for the last time longer ago than this does not count any more.
const FRESH: Duration = Duration::from_secs(10);
/// How long a commit, or the writer's answer, is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Beats, and tells how it went. Cheap to clone; all clones are the same canary.
#[derive(Clone, Debug)]
pub struct Canary(Arc<CanaryState>);

#[derive(Debug)]
struct CanaryState {
    clock: Clock,
    policies: Policies,
    store: Store,
    seen: Mutex<CanaryHistory>,
}

/// What the beats have shown.
#[derive(Clone, Debug, Default)]
struct CanaryHistory {
    decision: LastSuccess,
    commit: LastSuccess,
    writer: LastSuccess,
}

/// When something worked last, and what was wrong since.
#[derive(Clone, Debug, Default)]
struct LastSuccess {
    good: Option<(Timestamp, Instant)>,
    fault: Option<String>,
}

/// One thing that has to work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SelfCheck {
    pub name: &'static str,
    /// It worked within the last ten seconds, and nothing says otherwise since.
    pub ok: bool,
    pub last_good: Option<Timestamp>,
    /// What is wrong; `None` while all is well.
    pub fault: Option<String>,
}

impl Canary {
    /// A canary that has not yet beaten: it is not well.
    pub fn new(clock: Clock, policies: Policies, store: Store) -> Self {
        Self(Arc::new(CanaryState {
            clock,
            policies,
            store,
            seen: Mutex::default(),
        }))
    }

    /// One beat. Returns within seconds, whatever fails.
    pub async fn beat(&self) {
        let store = &self.0.store;
        let decided = self.decide();
        self.set(|seen| &mut seen.decision, decided);
        let answered = match timeout(PATIENCE, store.writer_answers()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the writer does not answer".to_owned()),
        };
        let is_at_work = answered.is_ok();
        self.set(|seen| &mut seen.writer, answered.clone());
        // While the disk fails, the writer tries again by itself; one more submission would only lie in its memory.
        let committed = match store.health().failing_since {
            Some(since) => Err(format!("the disk has failed since {since}")),
            None if !is_at_work => answered,
            None => match timeout(PATIENCE, store.beat()).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no commit within {} s", PATIENCE.as_secs())),
            },
        };
        self.set(|seen| &mut seen.commit, committed);
    }

    /// A decision by the rules in force, for a caller without a tier and for one of every tier, all dialers being well.
    fn decide(&self) -> Result<(), String> {
        let policy = self.0.policies.current();
        let at = self.0.clock.now();
        let tiers = policy.ruleset.tiers.iter();
        let scores = tiers.map(|tier| Some(tier.min_score));
        for score in std::iter::once(None).chain(scores) {
            let lookup = Lookup::supposed(&Caller::Withheld, score);
            let facts = facts(&policy.ruleset, at, lookup);
            judge(&decide(&policy.ruleset, &facts))?;
        }
        Ok(())
    }

    fn set(
        &self,
        which: impl FnOnce(&mut CanaryHistory) -> &mut LastSuccess,
        outcome: Result<(), String>,
    ) {
        let now = (self.0.clock.now(), self.0.clock.instant());
        let mut seen = self.seen();
        let proof = which(&mut seen);
        match outcome {
            Ok(()) => {
                *proof = LastSuccess {
                    good: Some(now),
                    fault: None,
                }
            }
            Err(fault) => proof.fault = Some(fault),
        }
    }

    fn seen(&self) -> MutexGuard<'_, CanaryHistory> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn checks(&self) -> Vec<SelfCheck> {
        let now = self.0.clock.instant();
        let mut seen = self.seen().clone();
        if let Some(since) = self.0.store.health().failing_since {
            seen.commit.fault = Some(format!("the disk has failed since {since}"));
        }
        vec![
            seen.decision.check("decision", now),
            seen.commit.check("store", now),
        ]
    }

    /// Whether calls can be decided and recorded.
    pub fn is_well(&self) -> bool {
        self.checks().iter().all(|check| check.ok)
    }

    /// Whether the process makes progress: decisions are made and the writer is at work, be the disk as it may. A process of which this is
    /// not true helps nobody by going on; one whose disk fails still answers callers.
    pub fn is_alive(&self) -> bool {
        let now = self.0.clock.instant();
        let seen = self.seen().clone();
        seen.decision.is_fresh(now) && seen.writer.is_fresh(now)
    }
}

impl LastSuccess {
    fn is_fresh(&self, now: Instant) -> bool {
        self.good
            .is_some_and(|(_, at)| now.saturating_duration_since(at) <= FRESH)
    }

    fn check(self, name: &'static str, now: Instant) -> SelfCheck {
        let is_fresh = self.is_fresh(now);
        let stale = || format!("nothing good for more than {} s", FRESH.as_secs());
        let fault = self.fault.or_else(|| (!is_fresh).then(stale));
        SelfCheck {
            name,
            ok: fault.is_none(),
            last_good: self.good.map(|(at, _)| at),
            fault,
        }
    }
}

fn facts(ruleset: &Ruleset, at: Timestamp, lookup: Lookup) -> CallFacts {
    let dialers = ruleset.dialers.iter().cloned();
    CallFacts::new(at, lookup, dialers.map(DialerView::well).collect())
}

fn judge(decision: &Decision) -> Result<(), String> {
    if decision.plan.dialers.is_empty() && decision.course == Course::Dialers {
        return Err(format!(
            "the rules leave a caller without a dialer although all are well (rule set {})",
            decision.ruleset
        ));
    }
    Ok(())
}

//! What a draft of the rules decides of the calls that arrive: nothing comes of it but a record of what would have been different. It decides
//! once the answer is given, in a task of its own.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::draft::Draft;
use super::policy::Policy;
use super::record::Recorder;
use crate::audit::{DraftDiffers, Event, Record};
use crate::call::CallId;
use crate::routing::{CallFacts, Course, Decision, DialerId, RuleAction, RulesInForce, decide};

/// Comparisons that may wait; a call that finds no place is not compared, and not counted.
const WAITING: usize = 1_024;
/// Comparisons that are made and recorded together.
const TOGETHER: usize = 64;

/// A call that is decided, to be decided by the draft as well.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) call_id: CallId,
    pub(super) draft: Arc<Draft>,
    /// As the draft sees them.
    pub(super) facts: CallFacts,
    pub(super) policy: Arc<Policy>,
    /// By the rules in force.
    pub(super) decision: Decision,
}

/// Compares calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drafts {
    recorder: Recorder,
    queue: mpsc::Sender<Comparison>,
    waiting: Arc<Mutex<Option<mpsc::Receiver<Comparison>>>>,
}

impl Drafts {
    pub fn new(recorder: Recorder) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        Self {
            recorder,
            queue,
            waiting: Arc::new(Mutex::new(Some(waiting))),
        }
    }

    pub(super) fn compare(&self, comparison: Comparison) {
        if self.queue.try_send(comparison).is_err() {
            tracing::debug!(
                event = "draft.call_left_out",
                "a call is not compared with the draft"
            );
        }
    }

    /// Compares what waits, until it is dropped. Only the first who runs it does so.
    pub async fn run(&self) {
        let waiting = self.waiting.lock();
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut waiting) = waiting else { return };
        let mut comparisons = Vec::new();
        while waiting.recv_many(&mut comparisons, TOGETHER).await > 0 {
            // Handed over one beside the other, they share a commit, and none fails with another.
            let records = comparisons.drain(..).filter_map(Comparison::record);
            join_all(records.map(|record| self.recorder.append_one(record))).await;
        }
    }
}

impl Comparison {
    /// Decides by the draft; the record of it where the call would have gone elsewhere.
    fn record(self) -> Option<Record> {
        let decision = decide(&self.draft.rules, &self.facts);
        let live = destination(&self.decision, &self.policy.ruleset);
        let is_different = destination(&decision, &self.draft.rules) != live;
        self.draft.count(is_different);
        if !is_different {
            return None;
        }
        let at = self.facts.at;
        let differs = DraftDiffers::new(self.facts, decision);
        let event = Event::DraftDiffers(Box::new(differs));
        Some(Record::of_call(at, &self.call_id, event))
    }
}

/// Where a call goes: the dialers in order, or what its rule does instead.
pub(super) fn destination<'a>(
    decision: &'a Decision,
    rules: &'a RulesInForce,
) -> (Course, &'a [DialerId], Option<&'a RuleAction>) {
    let action = match decision.course {
        Course::Dialers | Course::Closed => None,
        Course::Number | Course::Reject { .. } | Course::Message => {
            let rule = rules.rule(decision.rule.as_deref());
            rule.map(|rule| &rule.action)
        }
    };
    (decision.course, &decision.plan.dialers, action)
}

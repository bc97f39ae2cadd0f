//! First sight of a webhook by exactly one worker, or the answer given before.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::live_calls::LiveCalls;
use super::record::Recorded;
use crate::call::CallId;
use crate::clock::Clock;
use crate::phone::Caller;
use crate::store::{Past, Store, StoredCall, StoredLeg};

/// How long the store may take to say what it knows of a later webhook's call. Such a webhook has its whole budget for it: nobody is looked
/// up, and taking a repeat for a first sight would hand the call off twice.
const PATIENCE: Duration = Duration::from_millis(400);

/// How long after the end of its call a webhook is answered as before: Twilio gives a webhook up after 15 s. What comes later is no repeat of
/// Twilio's.
const REPEATS: SignedDuration = SignedDuration::from_secs(60);

/// How long the store may take to say whether a call that arrives has been here before.
const ARRIVAL_PATIENCE: Duration = Duration::from_millis(50);

/// Answers kept in memory: those of the last moments, when Twilio may repeat a webhook.
const RECENT: usize = 4_096;

/// Who may work on which call. Webhooks of one call are handled one after another, so that a repeat finds the answer of the first and no
/// update is lost. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Claims {
    clock: Clock,
    store: Store,
    in_hand: Arc<Mutex<HashMap<CallId, Arc<AsyncMutex<()>>>>>,
    recent: Arc<Mutex<Recent>>,
    live: Arc<Mutex<LiveCalls>>,
}

/// The answers of calls that arrived a moment ago, oldest first.
#[derive(Debug, Default)]
struct Recent {
    order: VecDeque<CallId>,
    answers: HashMap<CallId, String>,
}

/// What a claim came to.
#[derive(Debug)]
pub(super) enum Claim {
    /// It was answered before, with these bytes.
    Answered(String),
    /// Its call is past: nobody is on the line who could hear an answer, and nothing is done.
    Past,
    /// It is ours to answer, as far as is known: the commit that opens the call decides.
    Ours(InHand),
}

/// The call is in hand until this is dropped.
#[derive(Debug)]
pub(super) struct InHand {
    claims: Claims,
    call_id: CallId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Claims {
    /// Claims against the answers in `store`.
    pub fn new(clock: Clock, store: Store) -> Self {
        Self {
            clock,
            store,
            in_hand: Arc::default(),
            recent: Arc::default(),
            live: Arc::default(),
        }
    }

    /// Claims the arrival of a call: waits until no other webhook of it is in hand, then says whether it is past, or was answered a moment
    /// ago. The ledger is asked before anybody is looked up: what is replayed long after is to leave no trace of its caller. An older answer
    /// of a call that goes on is found when the call is opened.
    pub(super) async fn claim_arrival(&self, call_id: &CallId) -> Claim {
        let in_hand = self.take_in_hand(call_id).await;
        match self.past(call_id, ARRIVAL_PATIENCE).await {
            Past::No => {}
            // Whoever brought the call is told the same for as long as it is known.
            Past::Over if call_id.is_of_json_door() => {}
            past @ (Past::Over | Past::Erased | Past::Forgotten) => return replayed(past),
        }
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        match recent.answers.get(call_id) {
            Some(body) => Claim::Answered(body.clone()),
            None => Claim::Ours(in_hand),
        }
    }

    /// Remembers the answer to an arrival for as long as Twilio may repeat it.
    pub(super) fn remember(&self, call_id: &CallId, body: &str) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent
            .answers
            .insert(call_id.clone(), body.to_owned())
            .is_none()
        {
            recent.order.push_back(call_id.clone());
        }
        if recent.order.len() > RECENT
            && let Some(oldest) = recent.order.pop_front()
        {
            recent.answers.remove(&oldest);
        }
    }

    /// Claims a later webhook of a call: waits until no other is in hand, then asks whether `step` was answered before: the memory where
    /// the answer is not on disk yet, else the ledger. A ledger that cannot say counts as "no"; the log line says so.
    pub(super) async fn claim(&self, call_id: &CallId, step: &str) -> Claim {
        let in_hand = self.take_in_hand(call_id).await;
        if let Some(body) = self.live().unwritten(call_id, step) {
            return Claim::Answered(body);
        }
        match self
            .clock
            .timeout(PATIENCE, self.store.answer(call_id, step))
            .await
        {
            Ok(Ok(Some(body))) => {
                return match self.past(call_id, PATIENCE).await {
                    Past::No => Claim::Answered(body),
                    past @ (Past::Over | Past::Erased | Past::Forgotten) => replayed(past),
                };
            }
            Ok(Ok(None)) => {
                let past = self.past(call_id, PATIENCE).await;
                if past == Past::Forgotten {
                    return replayed(past);
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(event = "call.unclaimed", error = %error, "the store cannot say whether this webhook was answered before");
            }
            Err(_) => {
                tracing::warn!(
                    event = "call.unclaimed",
                    "the store takes too long to say whether this webhook was answered before"
                );
            }
        }
        Claim::Ours(in_hand)
    }

    /// What is left of the call, and what that means for a webhook of it. A store that cannot say in time counts as "it is new".
    async fn past(&self, call_id: &CallId, patience: Duration) -> Past {
        match self
            .clock
            .timeout(patience, self.store.past(call_id, REPEATS))
            .await
        {
            Ok(Ok(past)) => past,
            Ok(Err(_)) | Err(_) => Past::No,
        }
    }

    /// The answer that the store holds for a step, if it says so in time.
    pub(super) async fn answer(&self, call_id: &CallId, step: &str) -> Option<String> {
        self.clock
            .timeout(PATIENCE, self.store.answer(call_id, step))
            .await
            .ok()?
            .ok()?
    }

    /// The call as it stands: from memory where its last record is not on disk yet, or where the store cannot give it back; else as the
    /// store holds it. `None` where neither knows it.
    pub(super) async fn call(&self, call_id: &CallId) -> Option<StoredCall> {
        self.call_within(call_id, PATIENCE).await
    }

    /// As [`Claims::call`], for those whom no caller waits for: what they report would be lost.
    pub(super) async fn call_within(
        &self,
        call_id: &CallId,
        patience: Duration,
    ) -> Option<StoredCall> {
        if let Some(call) = self.live().ahead(call_id) {
            tracing::info!(
                event = "call.from_memory",
                "the last record of this call is not on disk yet; the call goes on from memory"
            );
            return Some(call);
        }
        let why = match self.clock.timeout(patience, self.store.call(call_id)).await {
            Ok(Ok(Some(call))) => return Some(call),
            Ok(Ok(None)) => {
                self.live().forget(call_id);
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it takes too long".to_owned(),
        };
        tracing::error!(
            event = "call.unreadable",
            error = why,
            "the store cannot give the call back; what is in memory counts"
        );
        self.live().call(call_id)
    }

    /// The legs of a call as far as they were reported; none where the store does not say so in time.
    pub(super) async fn legs(&self, call_id: &CallId) -> Vec<StoredLeg> {
        match self.clock.timeout(PATIENCE, self.store.legs(call_id)).await {
            Ok(Ok(legs)) => legs,
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }

    /// Notes to what the call has come, what became of the record that says so, and what its webhook was answered, by its step. While the
    /// record is late, what the store holds of the call is not the whole truth.
    pub(super) fn update(
        &self,
        recorded: Recorded,
        call: StoredCall,
        answer: Option<(&str, &str)>,
    ) {
        let now = self.clock.instant();
        self.live().learn(recorded, call, answer, now);
    }

    /// When this process last had news of a call that goes on.
    pub fn heard(&self, call_id: &CallId) -> Option<Instant> {
        self.live().heard(call_id)
    }

    /// Keeps nothing of this caller in memory: what is on disk counts.
    pub fn forget_caller(&self, caller: &Caller) {
        self.live().forget_caller(caller);
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Recent::default();
    }

    fn live(&self) -> MutexGuard<'_, LiveCalls> {
        // Nothing under this lock leaves the calls half-changed.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other webhook of this call is in hand.
    pub(super) async fn take_in_hand(&self, call_id: &CallId) -> InHand {
        let lock = {
            let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(in_hand.entry(call_id.clone()).or_default())
        };
        let guard = lock.lock_owned().await;
        InHand {
            claims: self.clone(),
            call_id: call_id.clone(),
            guard: Some(guard),
        }
    }
}

fn replayed(past: Past) -> Claim {
    metrics::counter!("switchboard_webhooks_replayed_total").increment(1);
    tracing::warn!(
        event = "call.replayed",
        past = ?past,
        "a webhook of a call that is past: nothing is done"
    );
    Claim::Past
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut in_hand = self
            .claims
            .in_hand
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(self.guard.take());
        // The map's own reference is the only one left: nobody waits for this call.
        if in_hand
            .get(&self.call_id)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            in_hand.remove(&self.call_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{KeyRing, Options};

    fn id(n: usize) -> CallId {
        CallId::parse(&format!("CA{n:032x}")).unwrap()
    }

    fn claims() -> (Claims, tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        let key_ring = KeyRing::new(b"a secret of thirty-two bytes or so");
        let path = home.path().join("switchboard.db");
        let store = Store::open(&Options::new(path, Clock::system(), key_ring)).unwrap();
        (Claims::new(Clock::system(), store), home)
    }

    fn answered(claim: Claim) -> Option<String> {
        match claim {
            Claim::Answered(body) => Some(body),
            Claim::Past | Claim::Ours(_) => None,
        }
    }

    #[tokio::test]
    async fn an_arrival_gets_the_answer_of_a_moment_ago_and_no_more_than_4096_are_remembered() {
        let (claims, _home) = claims();
        for n in 0..=RECENT {
            claims.remember(&id(n), &format!("<{n}/>"));
        }
        assert_eq!(answered(claims.claim_arrival(&id(0)).await), None);
        let first_left = answered(claims.claim_arrival(&id(1)).await);
        assert_eq!(first_left.as_deref(), Some("<1/>"));
        let last = answered(claims.claim_arrival(&id(RECENT)).await);
        assert_eq!(last, Some(format!("<{RECENT}/>")));
        let recent = claims.recent.lock().unwrap();
        assert_eq!((recent.answers.len(), recent.order.len()), (RECENT, RECENT));
    }

    #[tokio::test]
    async fn webhooks_of_one_call_are_in_hand_one_after_another_and_leave_no_lock_behind() {
        let (claims, _home) = claims();
        let call = id(1);
        let first = claims.take_in_hand(&call).await;
        let mut second = Box::pin(claims.take_in_hand(&call));
        assert!(futures_util::poll!(&mut second).is_pending());
        let other = claims.take_in_hand(&id(2)).await;
        assert_eq!(claims.in_hand.lock().unwrap().len(), 2);
        drop(first);
        let second = second.await;
        assert_eq!(claims.in_hand.lock().unwrap().len(), 2, "still in hand");
        drop((second, other));
        assert!(claims.in_hand.lock().unwrap().is_empty());
    }
}

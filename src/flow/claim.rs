//! First sight of a webhook by exactly one worker, or the answer given before.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::record::Recorded;
use crate::call::CallId;
use crate::store::{Store, StoredCall, StoredLeg};

/// How long the store may take to say what it knows of a later webhook's call. Such a webhook has its whole budget for it: nobody is looked
/// up, and taking a repeat for a first sight would hand the call off twice.
const PATIENCE: Duration = Duration::from_millis(400);

/// Answers kept in memory: those of the last moments, when Twilio may repeat a webhook.
const RECENT: usize = 4_096;

/// Who may work on which call. Webhooks of one call are handled one after another, so that a repeat finds the answer of the first and no
/// update is lost. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Claims {
    store: Store,
    in_hand: Arc<Mutex<HashMap<CallId, Arc<AsyncMutex<()>>>>>,
    recent: Arc<Mutex<Recent>>,
    /// Calls whose last record was not on disk when they were answered.
    owing: Arc<Mutex<HashSet<CallId>>>,
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
    pub fn new(store: Store) -> Self {
        Self {
            store,
            in_hand: Arc::default(),
            recent: Arc::default(),
            owing: Arc::default(),
        }
    }

    /// Claims the arrival of a call: waits until no other webhook of it is in hand, then says whether it was answered a moment ago. An older
    /// answer is found when the call is opened; asking the ledger first would cost every call a read.
    pub(super) async fn claim_arrival(&self, call_id: &CallId) -> Claim {
        let in_hand = self.take_in_hand(call_id).await;
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

    /// Claims a later webhook of a call: waits until no other is in hand, then asks the ledger whether `step` was answered before. A
    /// ledger that cannot say counts as "no"; the log line says so.
    pub(super) async fn claim(&self, call_id: &CallId, step: &str) -> Claim {
        let in_hand = self.take_in_hand(call_id).await;
        match timeout(PATIENCE, self.store.answer(call_id, step)).await {
            Ok(Ok(Some(body))) => return Claim::Answered(body),
            Ok(Ok(None)) => {}
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

    /// The answer that the store holds for a step, if it says so in time.
    pub(super) async fn answer(&self, call_id: &CallId, step: &str) -> Option<String> {
        timeout(PATIENCE, self.store.answer(call_id, step))
            .await
            .ok()?
            .ok()?
    }

    /// The call as the store holds it. `None` where it holds none, or does not say so in time.
    pub(super) async fn call(&self, call_id: &CallId) -> Option<StoredCall> {
        self.call_within(call_id, PATIENCE).await
    }

    /// As [`Claims::call`], for those whom no caller waits for: what they report would be lost.
    pub(super) async fn call_within(
        &self,
        call_id: &CallId,
        patience: Duration,
    ) -> Option<StoredCall> {
        match timeout(patience, self.store.call(call_id)).await {
            Ok(Ok(call)) => call,
            Ok(Err(error)) => {
                tracing::error!(event = "call.unreadable", error = %error, "the store cannot give the call back");
                None
            }
            Err(_) => {
                tracing::error!(
                    event = "call.unreadable",
                    "the store takes too long to give the call back"
                );
                None
            }
        }
    }

    /// The legs of a call as far as they were reported; none where the store does not say so in time.
    pub(super) async fn legs(&self, call_id: &CallId) -> Vec<StoredLeg> {
        match timeout(PATIENCE, self.store.legs(call_id)).await {
            Ok(Ok(legs)) => legs,
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }

    /// Notes what became of a call's last record: while it is late, what the store holds of the call is not the whole truth.
    pub(super) fn note(&self, call_id: &CallId, recorded: Recorded) {
        if recorded == Recorded::Late {
            let mut owing = self.owing.lock().unwrap_or_else(PoisonError::into_inner);
            if owing.len() >= RECENT {
                // A disk that is late for so many is late for all; the log lines say so.
                owing.clear();
            }
            owing.insert(call_id.clone());
        }
    }

    /// Waits for a late record of this call: the store writes in order, so that an empty submission behind it tells when it is on disk.
    async fn settle(&self, call_id: &CallId) {
        let owes = {
            let mut owing = self.owing.lock().unwrap_or_else(PoisonError::into_inner);
            owing.remove(call_id)
        };
        if owes
            && !matches!(
                timeout(PATIENCE, self.store.append(Vec::new())).await,
                Ok(Ok(_))
            )
        {
            tracing::warn!(
                event = "call.late_record",
                "the last record of this call is still not on disk; the call goes on by the one before"
            );
        }
    }

    /// Waits until no other webhook of this call is in hand.
    pub(super) async fn take_in_hand(&self, call_id: &CallId) -> InHand {
        let lock = {
            let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(in_hand.entry(call_id.clone()).or_default())
        };
        let guard = lock.lock_owned().await;
        self.settle(call_id).await;
        InHand {
            claims: self.clone(),
            call_id: call_id.clone(),
            guard: Some(guard),
        }
    }
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

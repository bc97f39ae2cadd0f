//! First sight of a webhook by exactly one worker, or the answer given before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::hand_off::Opening;
use crate::call::CallId;
use crate::store::{Sighting, Store, StoredCall, StoredLeg};

/// How long the store may take to say whether a webhook was answered before.
const PATIENCE: Duration = Duration::from_millis(100);

/// Who may work on which call. Webhooks of one call are handled one after another, so that a repeat finds the answer of the first and no
/// update is lost. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Claims {
    store: Store,
    in_hand: Arc<Mutex<HashMap<CallId, Arc<AsyncMutex<()>>>>>,
}

/// What a claim came to.
#[derive(Debug)]
pub(super) enum Claim {
    /// It was answered before, with these bytes.
    Answered(String),
    /// It is ours to answer.
    Ours {
        in_hand: InHand,
        /// Whether the ledger knows the call: the process may have ended before it could answer.
        opening: Opening,
        /// The store could not say whether this was answered before; the work goes on, and the record says so.
        unclaimed: bool,
    },
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
        }
    }

    /// Waits until no other webhook of this call is in hand, then says whether `step` was answered before.
    pub(super) async fn claim(&self, call_id: &CallId, step: &str) -> Claim {
        let in_hand = self.take_in_hand(call_id).await;
        let (opening, unclaimed) = match timeout(PATIENCE, self.store.sighting(call_id, step)).await
        {
            Ok(Ok(Sighting {
                answer: Some(body), ..
            })) => return Claim::Answered(body),
            Ok(Ok(Sighting { known: true, .. })) => (Opening::KnownCall, false),
            Ok(Ok(Sighting { known: false, .. })) => (Opening::NewCall, false),
            Ok(Err(error)) => {
                tracing::warn!(event = "call.unclaimed", error = %error, "the store cannot say whether this webhook was answered before");
                (Opening::NewCall, true)
            }
            Err(_) => {
                tracing::warn!(
                    event = "call.unclaimed",
                    "the store takes too long to say whether this webhook was answered before"
                );
                (Opening::NewCall, true)
            }
        };
        Claim::Ours {
            in_hand,
            opening,
            unclaimed,
        }
    }

    /// The answer that the store holds for a step, if it says so in time.
    pub(super) async fn answer(&self, call_id: &CallId, step: &str) -> Option<String> {
        timeout(PATIENCE, self.store.sighting(call_id, step))
            .await
            .ok()?
            .ok()?
            .answer
    }

    /// The call as the store holds it. `None` where it holds none, or does not say so in time.
    pub(super) async fn call(&self, call_id: &CallId) -> Option<StoredCall> {
        match timeout(PATIENCE, self.store.call(call_id)).await {
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

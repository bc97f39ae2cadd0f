//! One webhook of a call at a time, and the same answer to a webhook that comes again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::live_calls::LiveCalls;
use super::record::{Recorded, Repeated, past, refuse_replay, replayed};
use crate::audit::Kind;
use crate::call::{CallId, InboundCall, PassportKeys};
use crate::clock::Clock;
use crate::phone::Caller;
use crate::routing::History;
use crate::store::{Past, Store, StoreError, StoredCall, StoredLeg};

/// How long the store may take to say what it knows of a later webhook's call. Such a webhook has its whole budget for it: nobody is looked
/// up, and taking a repeat for a first sight would hand the call off twice.
pub(super) const PATIENCE: Duration = Duration::from_millis(400);

/// How long the store may take to say whether a call that arrives has been here before.
const ARRIVAL_PATIENCE: Duration = Duration::from_millis(50);

/// Answers kept in memory: those of the last moments, when Twilio may repeat a webhook.
const RECENT: usize = 4_096;

/// The locks of calls: webhooks of one call are handled one after another, so that a repeat finds the answer of the first and no update is
/// lost. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IdempotencyLocks {
    clock: Clock,
    store: Store,
    locked: Arc<Mutex<HashMap<CallId, Arc<AsyncMutex<()>>>>>,
    recent: Arc<Mutex<Recent>>,
    live: Arc<Mutex<LiveCalls>>,
}

/// The answers of calls that arrived a moment ago, oldest first.
#[derive(Debug, Default)]
struct Recent {
    order: VecDeque<CallId>,
    answers: HashMap<CallId, String>,
}

/// The call is locked until this is dropped.
#[derive(Debug)]
pub(super) struct CallLock {
    locks: IdempotencyLocks,
    call_id: CallId,
    guard: Option<OwnedMutexGuard<()>>,
    /// The store did not say whether the webhook was answered before.
    is_unclaimed: bool,
}

impl IdempotencyLocks {
    pub fn new(clock: Clock, store: Store) -> Self {
        Self {
            clock,
            store,
            locked: Arc::default(),
            recent: Arc::default(),
            live: Arc::default(),
        }
    }

    /// Locks a call that arrives, unless it is past or was answered a moment ago. Where Braze would be asked about the caller (`asks_braze`), the
    /// store is asked before: what is replayed long after is to leave no trace of its caller, and cost no request. All else is found when
    /// the call is opened, before any dialer is asked: that it is past, and an older answer of a call that goes on.
    pub(super) async fn lock_arrival(
        &self,
        call_id: &CallId,
        asks_braze: bool,
    ) -> Result<CallLock, Repeated> {
        let lock = self.lock(call_id).await;
        let answered = self.recent().answers.get(call_id).cloned();
        if asks_braze || answered.is_some() {
            let past = self.past(call_id, ARRIVAL_PATIENCE).await;
            refuse_replay(call_id, past)?;
        }
        match answered {
            Some(body) => Err(Repeated::Answered(body)),
            None => Ok(lock),
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the answer to an arrival for as long as Twilio may repeat it.
    pub(super) fn remember(&self, call_id: &CallId, body: &str) {
        let mut recent = self.recent();
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

    /// Locks a call, unless this step of it was answered before: in memory where the answer is not on disk yet, else in the store. A store
    /// that cannot say counts as "no"; the log line says so.
    pub(super) async fn lock_step(
        &self,
        call_id: &CallId,
        step: &str,
    ) -> Result<CallLock, Repeated> {
        let mut lock = self.lock(call_id).await;
        if let Some(body) = self.live().unwritten(call_id, step) {
            return Err(Repeated::Answered(body));
        }
        let asked = async {
            let answer = self.store.answer(call_id, step).await?;
            Ok::<_, StoreError>((self.past(call_id, PATIENCE).await, answer))
        };
        let why = match self.clock.timeout(PATIENCE, asked).await {
            Ok(Ok((Past::No, Some(body)))) => return Err(Repeated::Answered(body)),
            Ok(Ok((past @ Past::Forgotten, _) | (past @ (Past::Over | Past::Erased), Some(_)))) => {
                return Err(replayed(past));
            }
            Ok(Ok((Past::No | Past::Over | Past::Erased, None))) => return Ok(lock),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it takes too long".to_owned(),
        };
        tracing::warn!(
            event = "call.unclaimed",
            error = why,
            "the store cannot say whether this webhook was answered before"
        );
        lock.is_unclaimed = true;
        Ok(lock)
    }

    /// What is left of the call, and what that means for a webhook of it. A store that cannot say in time counts as "it is new".
    async fn past(&self, call_id: &CallId, patience: Duration) -> Past {
        past(&self.clock, &self.store, call_id, patience).await
    }

    /// The call as it stands: from memory where its last record is not on disk yet, or where the store cannot give it back; else as the
    /// store holds it. `None` where neither knows it.
    pub(super) async fn call(&self, call_id: &CallId) -> Option<StoredCall> {
        self.call_within(call_id, PATIENCE).await
    }

    /// The call as it was last seen by this process.
    pub(super) fn call_in_memory(&self, call_id: &CallId) -> Option<StoredCall> {
        self.live().call(call_id)
    }

    /// As [`IdempotencyLocks::call`], for those whom no caller waits for: what they report would be lost.
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

    /// The caller's calls before this one, as far as the store keeps them and can say so in time.
    pub(super) async fn history(&self, call: &InboundCall, patience: Duration) -> Option<History> {
        let history = self.store.history(call);
        if let Ok(Ok(history)) = self.clock.timeout(patience, history).await {
            return history;
        }
        tracing::warn!(
            event = "call.history_unknown",
            "the store does not say whether the caller has called before: rules that ask do not match"
        );
        None
    }

    /// Whether a record of this kind is known of a call; a store that cannot say so in time counts as "yes".
    pub(super) async fn has_record(&self, call_id: &CallId, kind: Kind) -> bool {
        let records = self.store.records_of_call(call_id);
        match self.clock.timeout(PATIENCE, records).await {
            Ok(Ok(records)) => records.iter().any(|record| record.kind == kind),
            Ok(Err(_)) | Err(_) => true,
        }
    }

    /// Under which passports are sealed and opened.
    pub(super) fn passport_keys(&self) -> PassportKeys {
        self.store.passport_keys()
    }

    /// A number that follows from who calls and from `name`, the same one each time; `None` for a caller who hides that.
    pub(super) fn hash_of(&self, caller: &Caller, name: &str) -> Option<u32> {
        self.store.hash_of(caller, name)
    }

    /// Remembers the call after a record, what became of that record, and what the webhook was answered, by its step. While the record is
    /// late, what the store holds of the call is not the whole truth.
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

    /// Waits until no other webhook of this call is handled.
    pub(super) async fn lock(&self, call_id: &CallId) -> CallLock {
        let lock = {
            let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locked.entry(call_id.clone()).or_default())
        };
        let guard = lock.lock_owned().await;
        CallLock {
            locks: self.clone(),
            call_id: call_id.clone(),
            guard: Some(guard),
            is_unclaimed: false,
        }
    }
}

impl CallLock {
    /// Whether the store did not say if this webhook was answered before.
    pub(super) fn is_unclaimed(&self) -> bool {
        self.is_unclaimed
    }
}

impl Drop for CallLock {
    fn drop(&mut self) {
        let mut locked = self
            .locks
            .locked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(self.guard.take());
        // The map's own reference is the only one left: nobody waits for this call.
        if locked
            .get(&self.call_id)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locked.remove(&self.call_id);
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

    fn locks() -> (IdempotencyLocks, tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        let key_ring = KeyRing::new(b"a secret of thirty-two bytes or so");
        let path = home.path().join("switchboard.db");
        let store = Store::open(&Options::new(path, Clock::system(), key_ring)).unwrap();
        (IdempotencyLocks::new(Clock::system(), store), home)
    }

    fn answered(locked: Result<CallLock, Repeated>) -> Option<String> {
        match locked {
            Err(Repeated::Answered(body)) => Some(body),
            Err(Repeated::Past) | Ok(_) => None,
        }
    }

    #[tokio::test]
    async fn an_arrival_gets_the_answer_of_a_moment_ago_and_no_more_than_4096_are_remembered() {
        let (locks, _home) = locks();
        for n in 0..=RECENT {
            locks.remember(&id(n), &format!("<{n}/>"));
        }
        assert_eq!(answered(locks.lock_arrival(&id(0), true).await), None);
        let first_left = answered(locks.lock_arrival(&id(1), true).await);
        assert_eq!(first_left.as_deref(), Some("<1/>"));
        let last = answered(locks.lock_arrival(&id(RECENT), true).await);
        assert_eq!(last, Some(format!("<{RECENT}/>")));
        let recent = locks.recent.lock().unwrap();
        assert_eq!((recent.answers.len(), recent.order.len()), (RECENT, RECENT));
    }

    #[tokio::test]
    async fn webhooks_of_one_call_are_handled_one_after_another_and_leave_no_lock_behind() {
        let (locks, _home) = locks();
        let call = id(1);
        let first = locks.lock(&call).await;
        let mut second = Box::pin(locks.lock(&call));
        assert!(futures_util::poll!(&mut second).is_pending());
        let other = locks.lock(&id(2)).await;
        assert_eq!(locks.locked.lock().unwrap().len(), 2);
        drop(first);
        let second = second.await;
        assert_eq!(locks.locked.lock().unwrap().len(), 2, "still locked");
        drop((second, other));
        assert!(locks.locked.lock().unwrap().is_empty());
    }
}

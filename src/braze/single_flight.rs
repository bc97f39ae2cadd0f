//! Requests under way, at most one per number: whoever asks first leads, the others follow and wait for the result.
//!
//! A leader that is dropped without a result (its task was aborted, its caller hung up) says so to all who follow, gives a breaker's trial back and makes
//! room for the next.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::admission::{Admission, LookupPurpose};
use crate::audit::Exchange;
use crate::phone::E164;
use crate::routing::{LookupUnavailable, Profile};

#[derive(Clone, Debug)]
pub(super) struct LookupResult {
    pub(super) outcome: Result<ProfileAnswer, LookupUnavailable>,
    pub(super) exchange: Exchange,
}

/// What Braze knows of the number.
#[derive(Clone, Debug, Default)]
pub(super) struct ProfileAnswer {
    /// `None` where it has no profile.
    pub(super) profile: Option<Profile>,
    pub(super) external_id: Option<String>,
}

/// A request under way, for those who wait for its result.
#[derive(Debug)]
pub(super) struct Follower {
    result: watch::Receiver<Option<Arc<LookupResult>>>,
    superseded: AtomicBool,
}

impl Follower {
    /// Waits for the result; `None` where the request was given up.
    pub(super) async fn result(&self) -> Option<Arc<LookupResult>> {
        let mut result = self.result.clone();
        result.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// The profile changed after the request was sent: its answer must not be kept.
    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::SeqCst)
    }
}

/// The admission and all requests under way, behind one lock, so that no request is admitted for a number that is asked already.
#[derive(Debug)]
pub(super) struct SingleFlight(Mutex<AdmittedRequests>);

#[derive(Debug)]
pub(super) struct AdmittedRequests {
    pub(super) admission: Admission,
    under_way: HashMap<E164, Arc<Follower>>,
}

/// How the result comes to somebody who asks.
pub(super) enum FlightRole {
    Follows(Arc<Follower>),
    Leads(Leader),
}

impl SingleFlight {
    pub(super) fn new(admission: Admission) -> Self {
        Self(Mutex::new(AdmittedRequests {
            admission,
            under_way: HashMap::new(),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, AdmittedRequests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(
        self: &Arc<Self>,
        phone: &E164,
        now: Instant,
        purpose: LookupPurpose,
    ) -> Result<FlightRole, LookupUnavailable> {
        let mut requests = self.lock();
        if let Some(follower) = requests.under_way.get(phone) {
            return Ok(FlightRole::Follows(Arc::clone(follower)));
        }
        requests.admission.admit(now, purpose)?;
        let (sender, result) = watch::channel(None);
        let follower = Arc::new(Follower {
            result,
            superseded: AtomicBool::new(false),
        });
        requests
            .under_way
            .insert(phone.clone(), Arc::clone(&follower));
        Ok(FlightRole::Leads(Leader {
            phone: phone.clone(),
            follower,
            result: sender,
            requests: Arc::clone(self),
        }))
    }

    /// The profile has changed: what is under way for it is out of date.
    pub(super) fn supersede(&self, phone: &E164) {
        if let Some(follower) = self.lock().under_way.get(phone) {
            follower.superseded.store(true, Ordering::SeqCst);
        }
    }

    /// Everything under way is out of date.
    pub(super) fn supersede_all(&self) {
        for follower in self.lock().under_way.values() {
            follower.superseded.store(true, Ordering::SeqCst);
        }
    }
}

/// The right, and the duty, to send one request.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) phone: E164,
    pub(super) follower: Arc<Follower>,
    result: watch::Sender<Option<Arc<LookupResult>>>,
    requests: Arc<SingleFlight>,
}

impl Leader {
    /// Gives the result to all who follow. Those who ask from now on find the cache filled.
    pub(super) fn finish(self, result: LookupResult) {
        self.requests.lock().under_way.remove(&self.phone);
        self.result.send_replace(Some(Arc::new(result)));
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if self.result.borrow().is_none() {
            let mut requests = self.requests.lock();
            requests.admission.abandoned();
            requests.under_way.remove(&self.phone);
        }
    }
}

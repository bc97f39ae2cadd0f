//! How many requests are served at the same time where no caller waits for them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request waits for its permit.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// So many requests at a time; others wait a moment for a permit. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ConcurrencyLimit(Arc<Permits>);

#[derive(Debug)]
struct Permits {
    all: Arc<Semaphore>,
    shares: Shares<IpNet>,
}

impl ConcurrencyLimit {
    pub(super) fn new(permits: usize) -> Self {
        Self::shared(permits, permits)
    }

    /// A limit of which one network gets `share` permits.
    pub(super) fn shared(permits: usize, share: usize) -> Self {
        Self(Arc::new(Permits {
            all: Arc::new(Semaphore::new(permits)),
            shares: Shares::new(share),
        }))
    }

    /// A permit, given back when dropped; `None` where the wait would be too long.
    pub(super) async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        wait(Arc::clone(&self.0.all)).await
    }

    /// The same, of what one network gets.
    pub(super) async fn acquire_from(&self, network: IpNet) -> Option<[OwnedSemaphorePermit; 2]> {
        let of_share = wait(self.0.shares.of(&network)).await?;
        Some([of_share, self.acquire().await?])
    }
}

async fn wait(permits: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let permit = tokio::time::timeout(LONGEST_WAIT, permits.acquire_owned()).await;
    permit.ok()?.ok()
}

/// A middleware that answers 503 where a permit would take too long.
pub(super) async fn limited(
    State(limit): State<ConcurrencyLimit>,
    request: Request,
    next: Next,
) -> Response {
    match limit.acquire().await {
        Some(_permit) => next.run(request).await,
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// The same number of permits for each who has some or waits for one.
#[derive(Debug)]
pub(super) struct Shares<K> {
    permits: usize,
    by_holder: Mutex<HashMap<K, Weak<Semaphore>>>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    pub(super) fn new(permits: usize) -> Self {
        Self {
            permits,
            by_holder: Mutex::default(),
        }
    }

    pub(super) fn of(&self, holder: &K) -> Arc<Semaphore> {
        let mut by_holder = self
            .by_holder
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = by_holder.get(holder).and_then(Weak::upgrade) {
            return known;
        }
        by_holder.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.permits));
        by_holder.insert(holder.clone(), Arc::downgrade(&share));
        share
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_holder.lock().unwrap().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_limit_lets_wait_and_then_refuses() {
        let limit = ConcurrencyLimit::new(1);
        let permit = limit.acquire().await.unwrap();
        assert!(limit.acquire().await.is_none());
        drop(permit);
        assert!(limit.acquire().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_gets_its_share_of_a_limit_and_leaves_the_rest_to_others() {
        let limit = ConcurrencyLimit::shared(3, 2);
        let (one, other) = ("192.0.2.0/24", "198.51.100.0/24");
        let acquire = |network: &str| limit.acquire_from(network.parse().unwrap());
        let first = acquire(one).await.unwrap();
        let _second = acquire(one).await.unwrap();
        assert!(acquire(one).await.is_none());
        let _third = acquire(other).await.unwrap();
        assert!(acquire(other).await.is_none(), "all permits are taken");
        drop(first);
        assert!(acquire(one).await.is_some());
        assert_eq!(limit.0.shares.len(), 2);
    }
}

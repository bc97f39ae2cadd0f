//! What look-ups and pushes share, and where requests are sent: in tasks of their own, which the app supervises, or by the leader, where nothing starts tasks.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use zeroize::Zeroizing;

use super::cache::{Entry, Known, Profiles};
use super::client;
use super::settings::Active;
use super::single_flight::{Follower, Leader, LookupResult, ProfileAnswer, SingleFlight};
use crate::clock::Clock;
use crate::outbound::Connections;

/// A request ends so much before the longest wait for it, so that those who wait get its result and not merely silence.
const RESULT_TIME: Duration = Duration::from_millis(5);

/// Starts a task that no caller can end.
pub type Spawn = Box<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

/// What look-ups, pushes and requests share.
pub(super) struct BrazeInner {
    pub(super) http: Connections,
    pub(super) clock: Clock,
    pub(super) active: Arc<ArcSwap<Active>>,
    pub(super) profiles: Profiles,
    pub(super) requests: Arc<SingleFlight>,
    /// Set where the app supervises tasks.
    pub(super) spawn: OnceLock<Spawn>,
    /// Keys the fingerprint of the credentials; set where states are kept.
    pub(super) secret: OnceLock<Zeroizing<Vec<u8>>>,
}

impl BrazeInner {
    /// Sends the request in a task of its own, or here where nothing starts tasks.
    pub(super) async fn send(self: &Arc<Self>, leader: Leader, left: Duration) -> Arc<Follower> {
        let follower = Arc::clone(&leader.follower);
        match self.spawn.get() {
            Some(spawn) => self.send_by(spawn, leader),
            None => self.request(leader, result_within(left)).await,
        }
        follower
    }

    /// There are no more tasks than numbers, and no more of those than the limiter lets pass within the timeout.
    pub(super) fn send_by(self: &Arc<Self>, spawn: &Spawn, leader: Leader) {
        let inner = Arc::clone(self);
        spawn(Box::pin(async move {
            let timeout = inner.active.load().settings.timeout;
            inner.request(leader, result_within(timeout)).await;
        }));
    }

    /// Sends one request, learns from it, and gives the result to all who wait.
    async fn request(&self, leader: Leader, timeout: Duration) {
        let active = self.active.load_full();
        let reply = client::export(&self.http, &active, &self.clock, &leader.phone, timeout).await;
        let now = self.clock.instant();
        self.requests.lock().admission.report(now, &reply);
        let outcome = reply.outcome.map(|exported| match exported.best {
            Some(user) => ProfileAnswer {
                profile: Some(user.profile),
                external_id: user.external_id,
            },
            None => ProfileAnswer::default(),
        });
        match &outcome {
            Ok(answer) => self.store(&leader, answer, now).await,
            Err(reason) => tracing::debug!(
                event = "lookup.failed",
                phone = %leader.phone.masked(),
                ?reason,
                status = reply.exchange.status,
                duration_ms = reply.exchange.elapsed_ms,
                "Braze was asked and did not answer"
            ),
        }
        leader.finish(LookupResult {
            outcome,
            exchange: reply.exchange,
        });
    }

    async fn store(&self, leader: &Leader, answer: &ProfileAnswer, now: Instant) {
        let fetched_at = self.clock.now();
        let known = match &answer.profile {
            Some(profile) => Known::Profile(profile.clone()),
            None => Known::Nobody,
        };
        self.profiles
            .put(&leader.phone, |present| {
                (!leader.follower.is_superseded()).then(|| Entry {
                    known,
                    external_id: answer.external_id.clone(),
                    fetched_at,
                    changed_at: present.and_then(|entry| entry.changed_at),
                    entered_at: now,
                    age_before: Duration::ZERO,
                })
            })
            .await;
    }
}

fn result_within(wait: Duration) -> Duration {
    wait.saturating_sub(RESULT_TIME.min(wait / 10))
}

//! Where requests are sent: in a worker that the app supervises, or by the first who asks, where no worker takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard, mpsc};
use tokio::task::JoinSet;

use super::cache::{Entry, Known};
use super::client;
use super::lookup::BrazeInner;
use super::single_flight::{Follower, Leader, LookupResult, ProfileAnswer};

/// So many requests wait for the worker.
const QUEUE: usize = 256;
/// So many requests are under way in the worker.
const MAX_UNDER_WAY: usize = 512;
/// A request ends so much before the longest wait for it, so that those who wait get its result and not merely silence.
const RESULT_TIME: Duration = Duration::from_millis(5);

/// The way to the worker.
pub(super) struct WorkerQueue {
    sender: mpsc::Sender<Leader>,
    receiver: Mutex<mpsc::Receiver<Leader>>,
    is_working: AtomicBool,
}

impl WorkerQueue {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self {
            sender,
            receiver: Mutex::new(receiver),
            is_working: AtomicBool::new(false),
        }
    }

    pub(super) fn is_working(&self) -> bool {
        self.is_working.load(Ordering::Acquire)
    }

    /// Gives a request to the worker, or back where it does not take it.
    pub(super) fn push(&self, leader: Leader) -> Result<(), Leader> {
        if !self.is_working() {
            return Err(leader);
        }
        self.sender
            .try_send(leader)
            .map_err(mpsc::error::TrySendError::into_inner)
    }
}

impl BrazeInner {
    /// Gives the request to the worker, or sends it here where none takes it.
    pub(super) async fn send(&self, leader: Leader, left: Duration) -> Arc<Follower> {
        let follower = Arc::clone(&leader.follower);
        if let Err(leader) = self.queue.push(leader) {
            self.request(leader, result_within(left)).await;
        }
        follower
    }

    pub(super) async fn work(self: Arc<Self>) {
        let mut shift = Shift::begin(&self.queue).await;
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                Some(leader) = shift.receiver.recv(), if under_way.len() < MAX_UNDER_WAY => {
                    let inner = Arc::clone(&self);
                    under_way.spawn(async move {
                        let timeout = result_within(inner.active.load().settings.timeout);
                        let left = timeout.saturating_sub(inner.since(leader.asked_at));
                        inner.request(leader, left).await;
                    });
                }
                Some(ended) = under_way.join_next() => {
                    if ended.is_err_and(|error| error.is_panic()) {
                        tracing::error!(event = "lookup.panicked", "a look-up ended by a panic; those who waited for it asked again");
                    }
                }
            }
        }
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

/// The worker at work. When it stops, what still waits in the queue is given up, so that those who wait can help themselves.
struct Shift<'a> {
    receiver: MutexGuard<'a, mpsc::Receiver<Leader>>,
    is_working: &'a AtomicBool,
}

impl<'a> Shift<'a> {
    async fn begin(queue: &'a WorkerQueue) -> Self {
        let receiver = queue.receiver.lock().await;
        queue.is_working.store(true, Ordering::Release);
        Self {
            receiver,
            is_working: &queue.is_working,
        }
    }
}

impl Drop for Shift<'_> {
    fn drop(&mut self) {
        self.is_working.store(false, Ordering::Release);
        while self.receiver.try_recv().is_ok() {}
    }
}

fn result_within(wait: Duration) -> Duration {
    wait.saturating_sub(RESULT_TIME.min(wait / 10))
}

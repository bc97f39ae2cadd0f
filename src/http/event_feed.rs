//! What has changed, as it happens: every commit is heard of, and what it changed is published at the hub.
//!
//! Nothing here is waited for by a caller: the writer tells of a commit and goes on, and a commit that is missed becomes a `reset`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::timeout;

use super::api::{Dialers, Reads, ShownSettings, Window};
use super::event_hub::Events;
use crate::audit::Kind;
use crate::call::CallId;
use crate::clock::Clock;
use crate::flow::Drains;
use crate::lifecycle::Lifecycle;
use crate::store::{Committed, Store};

/// Changes are gathered for so long, so that a call that moves on twice is told once.
const GATHER: Duration = Duration::from_millis(150);
/// Calls that are told of in one turn; with more, whoever watches has to look for themselves.
const CALLS_A_TURN: usize = 100;
/// Figures are told at most this often.
const METRICS_EVERY: Duration = Duration::from_secs(1);
/// Whoever could not be told everything is told so at most this often.
const RESET_EVERY: Duration = Duration::from_secs(3);
/// Without anybody watching for so long, nothing is prepared any more.
const UNWATCHED: Duration = Duration::from_mins(1);

/// What the events are made from.
#[derive(Clone, Debug)]
pub struct EventSources {
    pub store: Store,
    pub reads: Reads,
    pub drains: Drains,
    pub settings: ShownSettings,
    pub clock: Clock,
}

impl Events {
    /// Hears of commits and tells of what they changed, until the process is to stop.
    pub async fn run(self, lifecycle: Lifecycle, sources: EventSources) {
        let mut commits = sources.store.watch_commits();
        let draining = lifecycle.draining();
        let start = sources.clock.instant();
        let mut publisher = Publisher {
            events: self,
            sources,
            changes: Changes::default(),
            metrics_due: false,
            metrics_at: start,
            reset_at: None,
            watched_at: None,
        };
        loop {
            let wait = async {
                if publisher.metrics_due {
                    timeout(METRICS_EVERY, commits.recv()).await.ok()
                } else {
                    Some(commits.recv().await)
                }
            };
            match draining.run_until_cancelled(wait).await {
                None | Some(Some(Err(RecvError::Closed))) => return,
                Some(Some(Err(RecvError::Lagged(_)))) => publisher.changes.missed = true,
                Some(Some(Ok(committed))) => publisher.changes.add(&committed),
                Some(None) => {}
            }
            if !lifecycle.pause(GATHER).await {
                return;
            }
            loop {
                match commits.try_recv() {
                    Ok(committed) => publisher.changes.add(&committed),
                    Err(TryRecvError::Lagged(_)) => publisher.changes.missed = true,
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            publisher.publish().await;
        }
    }
}

/// What changed since the last publisher.
#[derive(Debug, Default)]
struct Changes {
    calls: BTreeSet<CallId>,
    records: BTreeMap<i64, Kind>,
    missed: bool,
}

impl Changes {
    fn add(&mut self, committed: &[Committed]) {
        for one in committed {
            if let Some(call) = &one.call {
                if self.calls.len() < CALLS_A_TURN {
                    self.calls.insert(call.clone());
                } else if !self.calls.contains(call) {
                    self.missed = true;
                }
            }
            if matches!(
                one.kind,
                Kind::HealthChanged
                    | Kind::IncidentOpened
                    | Kind::IncidentReminded
                    | Kind::IncidentResolved
                    | Kind::IncidentAcknowledged
                    | Kind::ConfigChanged
            ) {
                self.records.insert(one.id, one.kind);
            }
        }
    }
}

struct Publisher {
    events: Events,
    sources: EventSources,
    changes: Changes,
    metrics_due: bool,
    metrics_at: Instant,
    reset_at: Option<Instant>,
    watched_at: Option<Instant>,
}

impl Publisher {
    async fn publish(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        let now = self.sources.clock.instant();
        if self.events.is_watched() {
            self.watched_at = Some(now);
        } else if self
            .watched_at
            .is_none_or(|at| now.saturating_duration_since(at) > UNWATCHED)
        {
            self.events.skip();
            self.metrics_due = false;
            return;
        }
        self.metrics_due |= !changes.calls.is_empty();
        for call in &changes.calls {
            let call = self.sources.reads.call_document(call).await;
            self.events.publish_some("call", call);
        }
        for (id, kind) in &changes.records {
            self.publish_record(*id, *kind).await;
        }
        if changes.missed {
            self.reset(now);
        }
        if self.metrics_due && now.saturating_duration_since(self.metrics_at) >= METRICS_EVERY {
            if let Ok(metrics) = self.sources.reads.metrics(Window::FIVE_MINUTES).await {
                self.events.publish("metrics", &metrics);
            }
            self.metrics_due = false;
            self.metrics_at = now;
        }
    }

    async fn publish_record(&self, id: i64, kind: Kind) {
        let (events, sources) = (&self.events, &self.sources);
        let reads = &sources.reads;
        let Some(record) = reads.record_document(id).await else {
            return;
        };
        if kind == Kind::HealthChanged {
            // There is none for Braze.
            let dialers = Dialers {
                drains: sources.drains.clone(),
                reads: reads.clone(),
            };
            let dialer = dialers.document(&record.field("service")).await;
            events.publish_some("dialer", dialer);
        } else if kind == Kind::ConfigChanged {
            let settings = reads.settings_document(&sources.settings).await;
            events.publish_some("settings", settings);
        } else {
            let incident = reads.incident_document(&record.field("incident")).await;
            events.publish_some("alert", incident);
        }
    }

    fn reset(&mut self, now: Instant) {
        let is_due = self
            .reset_at
            .is_none_or(|at| now.saturating_duration_since(at) >= RESET_EVERY);
        if is_due {
            self.reset_at = Some(now);
            let why = serde_json::json!({ "reason": "more changed than can be told one by one" });
            self.events.publish("reset", &why);
        }
    }
}

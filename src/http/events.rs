//! What has changed, as it happens: one hub that hears of every commit, and a stream of server-sent events for each who watches.
//!
//! Nothing here is waited for by a caller: the writer tells of a commit and goes on, and a commit that is missed becomes a `reset`. A message is
//! kept once, whoever reads it; who reads too slowly is told to begin anew and cut off, and is never waited for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior, timeout};

use super::api::{Reads, ShownSettings, Window};
use super::limit::Shares;
use crate::audit::Kind;
use crate::call::CallId;
use crate::clock::Clock;
use crate::flow::Drains;
use crate::lifecycle::Lifecycle;
use crate::store::{Committed, Store};

/// Streams at the same time.
const STREAMS: usize = 200;
/// Streams of one key among them.
const STREAMS_OF_KEY: usize = 50;
/// Messages that are kept for who comes back.
const RING: usize = 1_024;
/// Messages that a stream may lie behind.
const BEHIND: usize = 256;
/// Changes are gathered for so long, so that a call that moves on twice is told once.
const GATHER: Duration = Duration::from_millis(150);
/// Calls that are told of in one turn; with more, whoever watches has to look for themselves.
const CALLS_A_TURN: usize = 100;
/// Figures are told at most this often.
const METRICS_EVERY: Duration = Duration::from_secs(1);
/// Whoever could not be told everything is told so at most this often.
const RESET_EVERY: Duration = Duration::from_secs(3);
/// A stream says so often that it is there: whoever watches knows within five seconds that it is not.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// Without anybody watching for so long, nothing is prepared any more.
const UNWATCHED: Duration = Duration::from_mins(1);

/// The hub. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events(Arc<Hub>);

#[derive(Debug)]
struct Hub {
    sender: broadcast::Sender<Arc<EventMessage>>,
    ring: Mutex<VecDeque<Arc<EventMessage>>>,
    next: AtomicU64,
    streams: Arc<Semaphore>,
    by_key: Shares<Arc<str>>,
}

/// One event, as it is sent.
#[derive(Debug)]
struct EventMessage {
    id: u64,
    text: Bytes,
}

/// What the hub tells about.
#[derive(Clone, Debug)]
pub struct Sources {
    pub store: Store,
    pub reads: Reads,
    pub drains: Drains,
    pub settings: ShownSettings,
    pub clock: Clock,
}

impl Events {
    /// A hub whose events are numbered from the time of its start on, so that numbers rise over restarts.
    pub fn new(clock: &Clock) -> Self {
        let started = u64::try_from(clock.now().as_millisecond()).unwrap_or_default();
        let (sender, _) = broadcast::channel(BEHIND);
        Self(Arc::new(Hub {
            sender,
            ring: Mutex::default(),
            next: AtomicU64::new(started.saturating_mul(1_000)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            by_key: Shares::new(STREAMS_OF_KEY),
        }))
    }

    fn publish_some(&self, name: &str, data: Option<impl Serialize>) {
        if let Some(data) = data {
            self.publish(name, &data);
        }
    }

    fn publish(&self, name: &str, data: &impl Serialize) {
        let Ok(data) = serde_json::to_string(data) else {
            return;
        };
        let mut ring = self.ring();
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let text = format!("id: {id}\nevent: {name}\ndata: {data}\n\n");
        let message = Arc::new(EventMessage {
            id,
            text: text.into(),
        });
        if ring.len() >= RING {
            ring.pop_front();
        }
        ring.push_back(Arc::clone(&message));
        // Nobody may be watching.
        drop(self.0.sender.send(message));
    }

    /// Something was not told: who comes back later has to begin anew.
    fn skip(&self) {
        let mut ring = self.ring();
        if !ring.is_empty() {
            ring.clear();
        }
        self.0.next.fetch_add(1, Ordering::Relaxed);
    }

    fn is_watched(&self) -> bool {
        self.0.sender.receiver_count() > 0
    }

    fn ring(&self) -> MutexGuard<'_, VecDeque<Arc<EventMessage>>> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream for the holder of `key` that goes on after the event `last`; `None` where too many are open, in all or with this key.
    pub(super) fn subscribe(&self, last: Option<u64>, key: &Arc<str>) -> Option<Subscription> {
        let of_key = self.0.by_key.of(key).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.0.streams).try_acquire_owned().ok()?;
        let receiver = self.0.sender.subscribe();
        let ring = self.ring();
        let next = self.0.next.load(Ordering::Relaxed);
        let missed: VecDeque<Arc<EventMessage>> = match last {
            None => VecDeque::new(),
            Some(last) => ring
                .iter()
                .filter(|message| message.id > last)
                .cloned()
                .collect(),
        };
        let first_kept = ring.front().map_or(next, |message| message.id);
        // What was told after `last` is all there, or it is not.
        let is_whole = last.is_none_or(|last| last < next && last.saturating_add(1) >= first_kept);
        drop(ring);
        let sent = next.saturating_sub(1);
        let mut opening = "retry: 2000\n\n".to_owned();
        if !is_whole {
            opening.push_str(&reset(sent, "what was missed is not kept any more"));
        }
        Some(Subscription {
            receiver,
            seen: sent,
            opening: Some(opening),
            missed: if is_whole { missed } else { VecDeque::new() },
            sent,
            beat: beat(),
            is_over: false,
            _permits: [of_key, of_all],
        })
    }

    /// Hears of commits and tells of what they changed, until the process is to stop.
    pub async fn run(self, lifecycle: Lifecycle, sources: Sources) {
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
                None => return,
                Some(Some(received)) => publisher.changes.receive(received),
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
            if publisher.changes.is_closed {
                return;
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
    is_closed: bool,
}

impl Changes {
    fn receive(&mut self, received: Result<Arc<[Committed]>, RecvError>) {
        match received {
            Ok(committed) => self.add(&committed),
            Err(RecvError::Lagged(_)) => self.missed = true,
            Err(RecvError::Closed) => self.is_closed = true,
        }
    }

    fn add(&mut self, committed: &[Committed]) {
        for one in committed {
            if let Some(call) = &one.call {
                if self.calls.len() < CALLS_A_TURN {
                    self.calls.insert(call.clone());
                } else if !self.calls.contains(call) {
                    self.missed = true;
                }
            }
            let is_told = [
                Kind::HealthChanged,
                Kind::IncidentOpened,
                Kind::IncidentReminded,
                Kind::IncidentResolved,
                Kind::ConfigChanged,
            ];
            if is_told.contains(&one.kind) {
                self.records.insert(one.id, one.kind);
            }
        }
    }
}

struct Publisher {
    events: Events,
    sources: Sources,
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
        let Some(record) = sources.reads.record_document(id).await else {
            return;
        };
        if kind == Kind::HealthChanged {
            let service = record.field("service");
            let dialer = sources.reads.dialer_document(&sources.drains, &service);
            events.publish_some("dialer", dialer.await);
        } else if kind == Kind::ConfigChanged {
            let settings = sources.reads.settings_document(&sources.settings);
            events.publish_some("settings", settings.await);
        } else {
            let incident = record.field("incident");
            let incident = sources.reads.incident_document(&incident);
            events.publish_some("alert", incident.await);
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

#[derive(Debug)]
pub(super) struct Subscription {
    receiver: broadcast::Receiver<Arc<EventMessage>>,
    missed: VecDeque<Arc<EventMessage>>,
    /// The last event that was there when the stream began.
    seen: u64,
    /// The last event that was sent, or that was there when the stream began.
    sent: u64,
    beat: Interval,
    /// What a stream begins with.
    opening: Option<String>,
    is_over: bool,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Subscription {
    /// What comes next; `None` at the end. Loses nothing where it is not awaited to the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        if let Some(opening) = self.opening.take() {
            return Some(opening.into());
        }
        if let Some(message) = self.missed.pop_front() {
            return Some(self.send(&message));
        }
        loop {
            let heard = tokio::select! {
                biased;
                // However much happens, a beat is due in between.
                _ = self.beat.tick() => {
                    let text = format!("id: {}\nevent: beat\ndata: {{}}\n\n", self.sent);
                    return Some(text.into());
                }
                heard = self.receiver.recv() => heard,
            };
            match heard {
                Ok(message) if message.id <= self.seen => {}
                Ok(message) => return Some(self.send(&message)),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(_)) => {
                    metrics::counter!("switchboard_event_streams_cut_off_total").increment(1);
                    self.is_over = true;
                    return Some(reset(self.sent, "this stream was read too slowly").into());
                }
            }
        }
    }

    fn send(&mut self, message: &EventMessage) -> Bytes {
        self.sent = message.id;
        message.text.clone()
    }
}

fn beat() -> Interval {
    let mut beat = tokio::time::interval(BEAT_EVERY);
    // The first is due after that time, and not at once.
    beat.reset();
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

fn reset(id: u64, reason: &str) -> String {
    format!("id: {id}\nevent: reset\ndata: {{\"reason\":\"{reason}\"}}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(next: Option<Bytes>) -> String {
        next.map_or("over".to_owned(), |bytes| {
            String::from_utf8(bytes.to_vec()).unwrap()
        })
    }

    fn id_of(text: &str) -> u64 {
        let line = text.lines().find(|line| line.starts_with("id: ")).unwrap();
        line["id: ".len()..].parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_goes_on_where_it_ended_or_begins_anew() {
        let events = Events::new(&Clock::system());
        let mut watch = events.subscribe(None, &"ops".into()).unwrap();
        assert_eq!(text(watch.next().await), "retry: 2000\n\n");
        for n in 0..5 {
            events.publish("call", &n);
        }
        let first = text(watch.next().await);
        assert!(first.contains("event: call\ndata: 0\n\n"), "{first}");
        drop(watch);

        let mut again = events
            .subscribe(Some(id_of(&first)), &"ops".into())
            .unwrap();
        again.next().await;
        for n in 1..5 {
            assert!(text(again.next().await).contains(&format!("data: {n}\n")));
        }
        events.publish("call", &5);
        assert!(text(again.next().await).contains("data: 5\n"));
        let last = again.sent;
        for _ in 0..3 {
            let early = timeout(
                BEAT_EVERY.saturating_sub(Duration::from_millis(10)),
                again.next(),
            )
            .await;
            assert!(early.is_err(), "{early:?}");
            let beat = text(again.next().await);
            assert_eq!(beat, format!("id: {last}\nevent: beat\ndata: {{}}\n\n"));
        }

        for n in 0..RING {
            events.publish("call", &n);
        }
        for last in [id_of(&first), u64::MAX, 0] {
            let mut late = events.subscribe(Some(last), &"ops".into()).unwrap();
            assert!(text(late.next().await).contains("event: reset"), "{last}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_told_to_begin_anew_and_cut_off() {
        let events = Events::new(&Clock::system());
        let mut slow = events.subscribe(None, &"ops".into()).unwrap();
        slow.next().await;
        for n in 0..=BEHIND {
            events.publish("call", &n);
        }
        assert!(text(slow.next().await).contains("event: reset"));
        assert_eq!(slow.next().await, None);
    }

    #[tokio::test]
    async fn there_are_so_many_streams_and_no_more() {
        let events = Events::new(&Clock::system());
        let fill = |key: &Arc<str>| -> Vec<Subscription> {
            let streams = std::iter::repeat_with(|| events.subscribe(None, key));
            streams.map_while(|stream| stream).take(STREAMS).collect()
        };
        let key = |n: usize| Arc::from(n.to_string());
        let mut open: Vec<Vec<Subscription>> = (0..5).map(|n| fill(&key(n))).collect();
        let counts: Vec<usize> = open.iter().map(Vec::len).collect();
        let all = STREAMS / STREAMS_OF_KEY;
        assert_eq!(
            counts[..all],
            [STREAMS_OF_KEY; 4],
            "one key leaves the rest to others"
        );
        assert_eq!(counts[all..], [0]);
        open.swap_remove(0);
        assert_eq!(fill(&key(9)).len(), STREAMS_OF_KEY);
        assert_eq!(events.0.by_key.len(), 4);
    }
}

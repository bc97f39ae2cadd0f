//! The hub of server-sent events: each is kept once, numbered, and sent to everybody who watches.
//!
//! Who reads too slowly is told to begin anew and cut off, and is never waited for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Interval, MissedTickBehavior};

use super::limit::Shares;
use crate::clock::Clock;

/// Streams at the same time.
const STREAMS: usize = 200;
/// Streams of one key among them.
const STREAMS_OF_KEY: usize = 50;
/// Messages that are kept for who comes back.
const RING: usize = 1_024;
/// Messages that a stream may lie behind.
const BEHIND: usize = 256;
/// A stream says so often that it is there: whoever watches knows within five seconds that it is not.
const BEAT_EVERY: Duration = Duration::from_secs(2);

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

    pub(super) fn publish_some(&self, name: &str, data: Option<impl Serialize>) {
        if let Some(data) = data {
            self.publish(name, &data);
        }
    }

    pub(super) fn publish(&self, name: &str, data: &impl Serialize) {
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
    pub(super) fn skip(&self) {
        let mut ring = self.ring();
        ring.clear();
        self.0.next.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_watched(&self) -> bool {
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
        let sent = next.saturating_sub(1);
        let first_kept = ring.front().map_or(next, |message| message.id);
        let mut opening = "retry: 2000\n\n".to_owned();
        let mut missed = VecDeque::new();
        match last {
            None => {}
            // What was told after `last` is all there, or it is not.
            Some(last) if last < next && last.saturating_add(1) >= first_kept => {
                missed.extend(ring.iter().filter(|message| message.id > last).cloned());
            }
            Some(_) => opening.push_str(&reset(sent, "what was missed is not kept any more")),
        }
        drop(ring);
        Some(Subscription {
            receiver,
            seen: sent,
            opening: Some(opening),
            missed,
            sent,
            beat: beat(),
            is_over: false,
            _permits: [of_key, of_all],
        })
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
    use tokio::time::timeout;

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

//! Writing notifications down. The record is the announcement: its messages are written in the same transaction, and sent from there. Where the
//! database takes no records, the messages wait in memory as well, and are sent all the same.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::notification::EventType;
use super::policy::{Channel, Recipient};
use crate::audit::{Event, Record};
use crate::clock::Clock;
use crate::flow::{Recorded, Recorder};
use crate::store::{MessageState, StoredMessage};

/// How long a notification's record is waited for before its messages are sent from memory.
const PATIENCE: Duration = Duration::from_millis(500);
/// Messages that wait in memory while the database takes no records.
const IN_MEMORY: usize = 1_000;

/// Cheap to clone; all clones see the same.
#[derive(Clone, Debug)]
pub struct Outbox {
    clock: Clock,
    recorder: Recorder,
    unwritten: Arc<Mutex<VecDeque<StoredMessage>>>,
    /// Incidents of which nothing is to be said: they are over, muted, or nothing is wrong any more though they are open.
    untold: Arc<Mutex<HashSet<String>>>,
    /// Counts notifications that were written: delivery looks again.
    news: Arc<watch::Sender<u64>>,
}

impl Outbox {
    pub(super) fn new(clock: Clock, recorder: Recorder) -> Self {
        Self {
            clock,
            recorder,
            unwritten: Arc::default(),
            untold: Arc::default(),
            news: Arc::new(watch::Sender::new(0)),
        }
    }

    /// A change means that there is something to send.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// The messages of one channel that wait in memory because their record is not on disk.
    pub(super) fn take_unwritten(&self, channel: Channel) -> Vec<StoredMessage> {
        let mut unwritten = self.unwritten();
        let of_channel = |message: &StoredMessage| message.recipient.channel() == channel;
        let (taken, left): (VecDeque<_>, VecDeque<_>) = unwritten.drain(..).partition(of_channel);
        *unwritten = left;
        taken.into()
    }

    /// Whether nothing is to be said of an incident from now on.
    pub(super) fn hold(&self, incident: &str, is_untold: bool) {
        let mut untold = self.untold();
        if is_untold {
            untold.insert(incident.to_owned());
        } else {
            untold.remove(incident);
        }
    }

    /// Whether a message says of a failure what is over, or what nobody is told now.
    pub(super) fn is_untold(&self, message: &StoredMessage) -> bool {
        if !matches!(message.occasion, EventType::Opened | EventType::Reminded) {
            return false;
        }
        let what = format!("-{}", message.occasion.as_str());
        let incident = message.notice.rsplit_once(what.as_str());
        incident.is_some_and(|(name, _)| self.untold().contains(name))
    }

    /// Records what makes no message.
    pub(super) async fn record(&self, event: Event) {
        let record = Record::of_service(self.clock.now(), event);
        self.recorder.append_one(record).await;
    }

    /// Records `event`, and with it a message for everybody in `tell`.
    pub(super) async fn write(
        &self,
        event_type: EventType,
        id: &str,
        tell: Vec<Recipient>,
        event: Event,
    ) {
        if let Some(incident) = id.strip_suffix("-resolved") {
            self.hold(incident, true);
        }
        let now = self.clock.now();
        let detail = event.detail_json();
        let record = Record::of_service(now, event);
        let recorded = self.recorder.append(vec![record], PATIENCE).await;
        if recorded == Recorded::Late
            && let Ok(detail) = detail
        {
            let mut unwritten = self.unwritten();
            unwritten.extend(tell.into_iter().map(|recipient| StoredMessage {
                notice: id.to_owned(),
                occasion: event_type,
                recipient,
                detail: detail.clone(),
                state: MessageState::Waiting,
                attempts: 0,
                last_error: None,
                sent_at: None,
                created_at: now,
                incident: None,
            }));
            let surplus = unwritten.len().saturating_sub(IN_MEMORY);
            unwritten.drain(..surplus);
        }
        self.news.send_modify(|n| *n += 1);
    }

    fn untold(&self) -> MutexGuard<'_, HashSet<String>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unwritten(&self) -> MutexGuard<'_, VecDeque<StoredMessage>> {
        // Nothing under this lock leaves the messages half-changed.
        self.unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

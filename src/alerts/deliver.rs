//! Delivery: what waits in the outbox is sent, again and again, until it is taken or refused for good. One task for each channel, so that a mail
//! server that hangs does not hold up the webhook.
//!
//! A message is taken at least once, and marked then. Between the two lies a moment in which the process may die: the message is then sent
//! again under the same Message-ID, by which mail systems know it. Nothing marked as sent is sent again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::time::timeout;

use super::mail::Mailer;
use super::message::{AffectedCall, MessageContext, NotTaken, RenderedMessage};
use super::notification::{EventType, Notification};
use super::outbox::Outbox;
use super::policy::{Channel, Recipient};
use super::post::{self, HeartbeatSettings, PostSettings};
use super::webhook::WebhookSender;
use crate::audit::SignedTreeHead;
use crate::call::CallId;
use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::outbound::Connections;
use crate::phone::Caller;
use crate::store::{Attempted, MessageState, Store, StoredMessage};

/// Before the second attempt; doubled before each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A receiver that asks to be left alone gets no more than this.
const LONGEST_WISH: Duration = Duration::from_mins(15);
/// After so many attempts a message is dead: about a day.
const ATTEMPTS: u32 = 1_500;
/// How often the outbox is looked into while messages wait.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked into otherwise: what a database wrote that had been failing is not announced.
const IDLE_LOOK_EVERY: Duration = Duration::from_secs(15);
/// Messages that are worked on at a time.
const TAKEN: u32 = 200;
/// Messages whose fate is remembered, so that nothing is sent twice while it cannot be marked.
const REMEMBERED: usize = 10_000;
/// How long a call may be looked up for.
const CALL_PATIENCE: Duration = Duration::from_millis(500);
/// Calls that a message describes.
const CALLS_DESCRIBED: usize = 10;

/// The channels that are configured, and what messages link to.
#[derive(Clone, Debug, Default)]
pub struct Channels {
    pub mailer: Option<Mailer>,
    pub webhook: Option<WebhookSender>,
    /// The channels that have a name.
    pub named: Vec<(PostSettings, Connections)>,
    pub heartbeat: Option<(HeartbeatSettings, Connections)>,
    pub public_url: String,
}

#[derive(Clone, Debug)]
pub struct Delivery {
    pub store: Store,
    pub outbox: Outbox,
    pub channels: Arc<ArcSwap<Channels>>,
    pub clock: Clock,
}

/// Starts one task for each channel.
pub(super) fn start(lifecycle: &Lifecycle, delivery: &Delivery) {
    for (name, channel) in [
        ("deliver-mail", Channel::Email),
        ("deliver-webhook", Channel::Webhook),
        ("deliver-slack", Channel::Slack),
        ("deliver-teams", Channel::Teams),
        ("deliver-pagerduty", Channel::Pagerduty),
        ("deliver-ntfy", Channel::Ntfy),
        ("deliver-http", Channel::Http),
    ] {
        let round = DeliveryRound::new(delivery.clone(), channel);
        lifecycle.spawn(name, round.run(lifecycle.clone()));
    }
}

type Key = (String, Recipient);

struct DeliveryRound {
    delivery: Delivery,
    channel: Channel,
    /// Names this installation in the ids of messages.
    log_id: Option<String>,
    /// Messages that were tried, and when they are tried again.
    tried: HashMap<Key, (u32, Instant)>,
    /// Messages whose fate is decided, marked or not.
    settled: HashSet<Key>,
    unmarked: Vec<Attempted>,
    in_memory: Vec<StoredMessage>,
}

impl DeliveryRound {
    fn new(delivery: Delivery, channel: Channel) -> Self {
        Self {
            delivery,
            channel,
            log_id: None,
            tried: HashMap::new(),
            settled: HashSet::new(),
            unmarked: Vec::new(),
            in_memory: Vec::new(),
        }
    }

    async fn run(mut self, lifecycle: Lifecycle) {
        let mut news = self.delivery.outbox.news();
        let draining = lifecycle.draining();
        loop {
            news.borrow_and_update();
            let attempt = draining.run_until_cancelled(self.deliver());
            let Some(waiting) = attempt.await else { return };
            let pause = if waiting { LOOK_EVERY } else { IDLE_LOOK_EVERY };
            let changed = draining.run_until_cancelled(timeout(pause, news.changed()));
            if changed.await.is_none() {
                return;
            }
        }
    }

    /// Sends what is due; whether something still waits.
    async fn deliver(&mut self) -> bool {
        self.mark().await;
        let (due, mut waiting) = self.due().await;
        for batch in by_notification(due) {
            waiting |= self.send(batch).await;
            self.mark().await;
        }
        waiting || !self.unmarked.is_empty()
    }

    /// The messages whose time has come, and whether others wait for theirs.
    async fn due(&mut self) -> (Vec<StoredMessage>, bool) {
        let Delivery {
            store,
            outbox,
            clock,
            ..
        } = &self.delivery;
        self.in_memory.extend(outbox.take_unwritten(self.channel));
        let stored = store.waiting_messages(self.channel, TAKEN).await;
        let mut messages = stored.unwrap_or_else(|error| {
            tracing::error!(event = "alert.outbox_unread", error = %error, "the outbox cannot be read");
            Vec::new()
        });
        let known: HashSet<Key> = messages.iter().map(key).collect();
        // What has reached the database is taken from there.
        self.in_memory.retain(|message| {
            !known.contains(&key(message)) && !self.settled.contains(&key(message))
        });
        self.in_memory.retain(|message| !outbox.is_untold(message));
        messages.extend(self.in_memory.iter().cloned());
        messages.retain(|message| !self.settled.contains(&key(message)));
        let now = clock.instant();
        let n = messages.len();
        // What is told of an incident arrives in order: a service that is told of the end first leaves it open for good.
        let mut begun = HashSet::new();
        let in_order = self.channel != Channel::Email;
        messages.retain(|message| {
            if outbox.is_untold(message) {
                return false;
            }
            let is_next = !in_order || begun.insert((message.recipient.clone(), message.incident));
            let tried = self.tried.get(&key(message));
            is_next && tried.is_none_or(|(_, again)| now >= *again)
        });
        let others_wait = messages.len() < n;
        (messages, others_wait)
    }

    /// Sends one notification to all who wait for it; whether somebody still does.
    async fn send(&mut self, messages: Vec<StoredMessage>) -> bool {
        let Some(first) = messages.first() else {
            return false;
        };
        let channels = self.delivery.channels.load_full();
        let context = self.context(&channels, first).await;
        let (event_type, detail, at) = (first.occasion, &first.detail, first.created_at);
        let Some(rendered) = RenderedMessage::compose(event_type, detail, at, &context) else {
            let unreadable = NotTaken::for_good("the message cannot be read");
            return self.settle(&messages, &Err(unreadable));
        };
        // Only a mail has several recipients.
        if self.channel == Channel::Email {
            let together = self.attempt(&channels, &rendered, &messages).await;
            let is_answered = matches!(&together, Err(not_taken) if not_taken.answered);
            if !is_answered || messages.len() == 1 {
                return self.settle(&messages, &together);
            }
        }
        // One of them is refused, and the server does not say which: each gets a message of their own.
        let mut waiting = false;
        for message in messages.chunks(1) {
            let result = self.attempt(&channels, &rendered, message).await;
            waiting |= self.settle(message, &result);
            self.mark().await;
        }
        waiting
    }

    async fn attempt(
        &mut self,
        channels: &Channels,
        rendered: &RenderedMessage,
        messages: &[StoredMessage],
    ) -> Result<(), NotTaken> {
        let not_configured = || NotTaken::for_good("this way is not configured any more");
        let now = self.delivery.clock.now();
        match self.channel {
            Channel::Email => {
                let mailer = channels.mailer.as_ref().ok_or_else(not_configured)?;
                let to: Vec<String> = messages
                    .iter()
                    .filter_map(|message| match &message.recipient {
                        Recipient::Email(address) => Some(address.clone()),
                        Recipient::Webhook | Recipient::Named(..) => None,
                    })
                    .collect();
                let at = messages.first().map_or(now, |message| message.created_at);
                mailer.send(rendered, &to, self.log_id().await, at).await
            }
            Channel::Webhook => {
                let webhook = channels.webhook.as_ref().ok_or_else(not_configured)?;
                webhook.send(rendered, now).await
            }
            channel @ (Channel::Slack
            | Channel::Teams
            | Channel::Pagerduty
            | Channel::Ntfy
            | Channel::Http) => {
                let wanted = messages.first().map(|message| &message.recipient);
                let mut named = channels.named.iter();
                let named = named.find(|(settings, _)| {
                    let name = settings.name.clone();
                    settings.kind == channel && wanted == Some(&Recipient::Named(channel, name))
                });
                let named = named.ok_or_else(not_configured)?;
                post::send(named, rendered, &channels.public_url, now).await
            }
        }
    }

    /// Decides what becomes of messages that were tried; whether they still wait.
    fn settle(&mut self, messages: &[StoredMessage], result: &Result<(), NotTaken>) -> bool {
        let channel = self.channel.as_str();
        let now = self.delivery.clock.instant();
        let wish = result.as_ref().err().and_then(|why| why.retry_after);
        let wish = wish.unwrap_or_default();
        let mut waits = false;
        for message in messages {
            let key = key(message);
            let before = self.tried.get(&key).map_or(message.attempts, |(n, _)| *n);
            let attempts = before + 1;
            let (state, error) = match result {
                Ok(()) => (MessageState::Sent, None),
                Err(why) if why.for_good || attempts >= ATTEMPTS => {
                    (MessageState::Dead, Some(why.message.clone()))
                }
                Err(why) => (MessageState::Waiting, Some(why.message.clone())),
            };
            metrics::counter!("switchboard_notifications_total", "channel" => channel, "state" => state.as_str())
                .increment(1);
            log_attempt(message, state, attempts, error.as_deref());
            if state == MessageState::Waiting {
                waits = true;
                let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1).min(16));
                let pause = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE);
                let pause = pause.max(wish.min(LONGEST_WISH));
                self.tried.insert(key, (attempts, now + pause));
            } else {
                self.tried.remove(&key);
                if self.settled.len() >= REMEMBERED {
                    self.settled.clear();
                }
                self.settled.insert(key);
            }
            self.unmarked.push(Attempted {
                notice: message.notice.clone(),
                recipient: message.recipient.clone(),
                state,
                attempts,
                error,
            });
        }
        waits
    }

    /// Writes what became of messages; what cannot be written is written later.
    async fn mark(&mut self) {
        if self.unmarked.is_empty() {
            return;
        }
        let store = &self.delivery.store;
        if store.health().failing_since.is_some() {
            // A message in memory has no row yet; marking it comes after its record.
            if self.unmarked.len() > REMEMBERED {
                self.unmarked.drain(..REMEMBERED / 2);
            }
            return;
        }
        let unmarked = std::mem::take(&mut self.unmarked);
        if store.attempted(unmarked.clone()).await.is_err() {
            self.unmarked = unmarked;
        }
    }

    async fn log_id(&mut self) -> &str {
        if self.log_id.is_none() {
            self.log_id = self.delivery.store.log_id().await.ok();
        }
        self.log_id.as_deref().unwrap_or("unknown")
    }

    async fn context(&self, channels: &Channels, message: &StoredMessage) -> MessageContext {
        let mut calls = Vec::new();
        if matches!(message.occasion, EventType::Opened | EventType::Reminded)
            && let Ok(notification) = serde_json::from_str::<Notification>(&message.detail)
        {
            for id in notification.call_ids.iter().take(CALLS_DESCRIBED) {
                calls.extend(self.describe(id).await);
            }
        }
        MessageContext {
            public_url: channels.public_url.clone(),
            calls,
            audit_head: self.delivery.store.signing_status().head.map(|head| {
                let SignedTreeHead {
                    log_id,
                    records,
                    head,
                    ..
                } = head;
                format!("{log_id} {records} {head}")
            }),
        }
    }

    async fn describe(&self, id: &CallId) -> Option<AffectedCall> {
        let found = timeout(CALL_PATIENCE, self.delivery.store.call(id)).await;
        let call = found.ok()?.ok()??;
        let caller = Caller::classify(call.personal.caller.as_deref().unwrap_or_default());
        let fate = call
            .disposition
            .map_or_else(|| call.status.as_str(), |disposition| disposition.as_str());
        Some(AffectedCall {
            id: id.as_str().to_owned(),
            caller: caller.masked(),
            fate: fate.replace('_', " "),
        })
    }
}

fn key(message: &StoredMessage) -> Key {
    (message.notice.clone(), message.recipient.clone())
}

/// The messages of each notification together, in order of their first.
fn by_notification(messages: Vec<StoredMessage>) -> Vec<Vec<StoredMessage>> {
    let mut batches: Vec<Vec<StoredMessage>> = Vec::new();
    for message in messages {
        let same = batches.iter_mut().find(|batch| {
            let first = batch.first();
            first.is_some_and(|first| first.notice == message.notice)
        });
        match same {
            Some(batch) => batch.push(message),
            None => batches.push(vec![message]),
        }
    }
    batches
}

fn log_attempt(message: &StoredMessage, state: MessageState, attempts: u32, error: Option<&str>) {
    let channel = message.recipient.channel().as_str();
    let notice = message.notice.as_str();
    match state {
        MessageState::Sent => tracing::info!(
            event = "alert.sent",
            notice,
            channel,
            attempts,
            "a message was taken"
        ),
        MessageState::Dead => tracing::error!(
            event = "alert.undeliverable",
            notice,
            channel,
            attempts,
            error,
            "a message will not be delivered; look at its address and at who refused it"
        ),
        MessageState::Waiting | MessageState::Superseded => tracing::warn!(
            event = "alert.delayed",
            notice,
            channel,
            attempts,
            error,
            "a message was not taken; it is sent again"
        ),
    }
}

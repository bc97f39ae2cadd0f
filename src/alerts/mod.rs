//! Alerts: what is wrong, who is notified of it, and by which message.
//!
//! The first half is pure. `counters` counts what calls come to, `signals` evaluates these counters and everything else that is looked at, and the
//! `tracker` decides which incidents open, are reminded of and are resolved; `policy` says by which limits, and for whom. What comes out is a
//! `notification`.
//!
//! The second half is the shell around it: the `observer` counts what is recorded, `watch` gathers the signals every half second, `incidents`
//! holds the tracker, and the `outbox` writes notifications down. `deliver` sends them as `message`s by `mail`, `webhook` and `post`; `summary` makes one of each day.

pub mod counters;
pub mod kinds;
pub mod mutes;
pub mod notification;
pub mod policy;
pub mod signals;
pub mod tracker;

mod day;
mod deliver;
mod heartbeat;
mod incidents;
mod mail;
mod message;
mod observer;
mod outbox;
mod post;
mod quiet;
mod silence;
mod summary;
mod templates;
mod watch;
mod webhook;

pub use kinds::{IncidentKind, IncidentSeverity, Topic};
pub use notification::{
    ChangeLine, DailySummary, DayShare, EventType, IncidentLine, Notification, Percentiles,
    TestNotification,
};
pub use policy::{AlertPolicy, AlertRules, Channel, Daily, Recipient};
pub use signals::DiskRoom;
pub(crate) use signals::of_credentials;
pub use tracker::{Evaluation, IncidentStatus};

pub use deliver::{Channels, Delivery};
pub use incidents::Incidents;
pub use mail::{Email, Mailer, Smtp, SmtpSecurity};
pub use message::{AffectedCall, MessageContext, NotTaken, RenderedMessage};
pub use mutes::{Acknowledgement, Drained, Mute, NewMute};
pub use observer::{CallObservation, CallObserver};
pub use post::{HeartbeatSettings, PLACEHOLDERS, PostSettings};
pub use webhook::{WebhookSender, WebhookSettings};

use crate::flow::{Canary, Retries};
use crate::lifecycle::Lifecycle;

/// Starts what watches, writes down, sums up and delivers.
pub fn start(lifecycle: &Lifecycle, delivery: &Delivery, retries: &Retries, canary: Canary) {
    let (store, incidents) = (&delivery.store, &retries.incidents);
    let watched = watch::run(lifecycle.clone(), store.clone(), retries.clone());
    lifecycle.spawn("alert", watched);
    let summed = summary::run(lifecycle.clone(), store.clone(), incidents.clone());
    lifecycle.spawn("summary", summed);
    let announced = incidents.clone().announce(lifecycle.clone());
    lifecycle.spawn("announce", announced);
    let (channels, clock) = (delivery.channels.clone(), delivery.clock.clone());
    let beating = heartbeat::run(lifecycle.clone(), channels, canary, clock);
    lifecycle.spawn("heartbeat", beating);
    deliver::start(lifecycle, delivery);
}

//! Incidents of the running process: calls and signals open and resolve them, and each change is written down.
//!
//! What opens or resolves is decided at once, in memory; the notification goes through a bounded channel to one task that writes it to the outbox. So
//! no caller waits for the record of an incident.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::counters::CallCounters;
use super::kinds::{IncidentKind, Topic};
use super::mutes::Drained;
use super::notification::{DailySummary, EventType, Notification, TestNotification};
use super::observer::CallObserver;
use super::outbox::Outbox;
use super::policy::{AlertPolicy, Channel, Daily, Recipient};
use super::signals::{self, HealthSignals};
use super::tracker::{IncidentStatus, IncidentTracker, Moment};
use crate::audit::Event;
use crate::call::CallId;
use crate::clock::Clock;
use crate::dialer::{DialerStatus, Fleet};
use crate::flow::{Ails, HandoffResult, HandoffTarget, Recorder, Waiting, ails};
use crate::handoff::{Certainty, Failure};
use crate::lifecycle::Lifecycle;
use crate::resilience::CredentialRefusal;
use crate::routing::{
    self, BreakerView, DialerId, DialerView, Intake, LookupUnavailable, SkipReason,
};
use crate::store::{Store, StoreError};

/// How long the store may take to count the calls of open incidents.
const PATIENCE: Duration = Duration::from_millis(500);
/// Notifications that may wait to be written down: many more than there are incidents.
const QUEUE: usize = 1_024;
/// Calls that a restart looks back on.
const CALLS_RESTORED: u32 = 5_000;
/// All circuits have to be open for so long before an incident opens without a call.
const ALL_DOWN_AFTER: Duration = Duration::from_secs(3);

/// Opens and resolves incidents. Cheap to clone; all clones see the same.
#[derive(Clone, Debug)]
pub struct Incidents {
    clock: Clock,
    pub(super) fleet: Fleet,
    waiting: Waiting,
    observer: CallObserver,
    outbox: Outbox,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<IncidentState>,
    policy: ArcSwap<AlertPolicy>,
    /// Notifications on their way to the outbox, in the order in which the tracker gave them.
    queue: mpsc::Sender<(EventType, Notification)>,
    queued: AsyncMutex<mpsc::Receiver<(EventType, Notification)>>,
}

#[derive(Debug)]
pub(super) struct IncidentState {
    pub(super) tracker: IncidentTracker,
    /// What others have reported of certificate and configuration.
    reported: HealthSignals,
    all_down_since: Option<Instant>,
}

impl Incidents {
    pub fn new(
        clock: Clock,
        fleet: Fleet,
        waiting: Waiting,
        recorder: Recorder,
        observer: CallObserver,
        policy: AlertPolicy,
    ) -> Self {
        show_paused(false);
        let (queue, queued) = mpsc::channel(QUEUE);
        observer.counters().set_window(policy.rules.window);
        let state = IncidentState {
            tracker: IncidentTracker::new(policy.rules.repeat_every),
            reported: HealthSignals::default(),
            all_down_since: None,
        };
        let shared = Shared {
            state: Mutex::new(state),
            policy: ArcSwap::from_pointee(policy),
            queue,
            queued: AsyncMutex::new(queued),
        };
        Self {
            outbox: Outbox::new(clock.clone(), recorder),
            clock,
            fleet,
            waiting,
            observer,
            shared: Arc::new(shared),
        }
    }

    /// Other rules and recipients, from now on.
    pub fn reconfigure(&self, policy: AlertPolicy) {
        self.observer.counters().set_window(policy.rules.window);
        let repeat_every = policy.rules.repeat_every;
        self.state().tracker.set_repeat_every(repeat_every);
        self.shared.policy.store(Arc::new(policy));
    }

    /// Takes up what was open when the process ended, and the calls of the last minutes.
    pub async fn restore(&self, store: &Store) -> Result<(), StoreError> {
        let now = self.moment();
        let open = store.open_incidents().await?;
        {
            let tracker = &mut self.state().tracker;
            for status in open {
                tracing::warn!(
                    event = "alert.still_open",
                    kind = status.topic.kind.as_str(),
                    subject = status.topic.subject,
                    incident = status.id,
                    "an incident was open when the process ended"
                );
                tracker.restore(status, now);
            }
            show_paused(tracker.is_open(&all_dialers_down()));
        }
        self.restore_mutes(store).await?;
        let window = self.shared.policy.load().rules.window;
        let hour = SignedDuration::from_hours(1);
        let back = SignedDuration::try_from(window).unwrap_or(hour).max(hour);
        let since = now.at.checked_sub(back).unwrap_or(now.at);
        let calls = store.calls_since(since, CALLS_RESTORED).await?;
        self.observer.restore(&calls, window);
        Ok(())
    }

    /// Whether no dialer takes calls, as far as is known.
    pub fn is_routing_paused(&self) -> bool {
        self.state().tracker.is_open(&all_dialers_down())
    }

    /// When a call last arrived; `None` where none has since the start.
    pub fn last_arrival(&self) -> Option<Instant> {
        self.observer.counters().last_arrival()
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Where notifications are written down, and wait for delivery.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// A changed configuration was refused, and why; `None`: it was taken.
    pub fn reload_refused(&self, why: Option<String>) {
        self.state().reported.reload_refused = why;
    }

    /// The certificate that is served ends then, and why there is no new one, where there should be.
    pub fn certificate(&self, ends: Option<Timestamp>, refused: Option<String>) {
        let reported = &mut self.state().reported;
        reported.certificate_ends = ends;
        reported.certificate_refused = refused;
    }

    /// A call got the safe answer and nothing was decided for it: there were too many, or its webhook could not be used. It counts as one that
    /// failed, for a reason that is a word.
    pub fn undecided(&self, call_id: Option<&CallId>, reason: &str) {
        self.count(|counters, now| counters.undecided(call_id, reason, now));
    }

    /// Twilio called the fallback URL, for a reason that it gives as a number.
    pub fn fell_back(&self, call_id: Option<&CallId>, reason: &str) {
        self.count(|counters, now| counters.fell_back(call_id, reason, now));
    }

    /// A signed webhook did not fit together, for a reason that is a word. It is no call, and so none that failed.
    pub fn malformed(&self, flaw: &str) {
        self.count(|counters, now| counters.malformed(flaw, now));
    }

    /// Braze was probed; why it did not answer, where it did not. A refused key is an incident of its own.
    pub(crate) fn probed_braze(&self, failed: Option<LookupUnavailable>) {
        if failed != Some(LookupUnavailable::Unauthorized) {
            let failed = failed.map(Into::into);
            self.count(|counters, now| counters.looked_up(None, failed, now));
        }
    }

    fn count(&self, change: impl FnOnce(&mut CallCounters, Instant)) {
        change(&mut self.observer.counters(), self.clock.instant());
    }

    /// Evaluates everything: opens, reminds and resolves. `signals` are what the caller has found out; dialers and what others have reported are
    /// added.
    pub(super) async fn evaluate(&self, mut signals: HealthSignals, store: &Store) {
        let now = self.moment();
        let taken_out = self.add_dialers(&mut signals, now.instant);
        signals.waiting = self.waiting.who_waits(None, self.clock.uptime());
        let policy = self.shared.policy.load_full();
        let changed = {
            let mut counters = self.observer.counters();
            counters
                .keep_dialers(|dialer| signals.dialers.iter().any(|(known, _)| known == dialer));
            let mut state = self.state();
            let IncidentState {
                tracker, reported, ..
            } = &mut *state;
            signals.reload_refused.clone_from(&reported.reload_refused);
            signals.certificate_ends = reported.certificate_ends;
            let refused = &reported.certificate_refused;
            signals.certificate_refused.clone_from(refused);
            let found = signals::evaluate(&signals, &counters, &policy.rules, now);
            tracker.set_taken_out(taken_out);
            self.enqueue(tracker.evaluate(found, now));
            for (one, recovered) in tracker.open_ones() {
                let is_untold = one.muted.is_some() || recovered.is_some();
                self.outbox.hold(&one.id, is_untold);
            }
            tracker.take_changed()
        };
        store_changed(changed, store).await;
        self.show_open();
    }

    /// Stores how many calls the open incidents affect, before the process ends.
    pub async fn persist(&self, store: &Store) {
        let changed = self.state().tracker.take_changed();
        store_changed(changed, store).await;
    }

    /// Sends a message to everybody who is notified of incidents; gives the name of its notification. `None` where nobody is.
    pub async fn test(&self, by: &str) -> Option<String> {
        let tell = self.shared.policy.load().recipients.clone();
        if tell.is_empty() {
            return None;
        }
        let id = format!("test-{}", self.clock.now().as_millisecond());
        let test = TestNotification {
            id: id.clone(),
            by: by.to_owned(),
            tell: tell.clone(),
        };
        let event = Event::AlertTested(Box::new(test));
        tracing::info!(event = "alert.tested", by, "a test message is sent");
        self.outbox.write(EventType::Tested, &id, tell, event).await;
        Some(id)
    }

    /// When the summary of a day is made; `None` where nobody wants one.
    pub(super) fn daily(&self) -> Option<Daily> {
        let policy = self.shared.policy.load();
        policy
            .daily
            .clone()
            .filter(|_| policy.recipients.iter().any(Recipient::takes_summaries))
    }

    /// By whose hours numbers are looked for that nobody calls; `None` where nobody wants that.
    pub(super) fn silence_zone(&self) -> Option<TimeZone> {
        self.shared.policy.load().silence_zone.clone()
    }

    /// Sends the summary of a day to everybody who is notified of incidents.
    pub(super) async fn summarize(&self, mut summary: DailySummary) {
        let mut tell = self.shared.policy.load().recipients.clone();
        tell.retain(Recipient::takes_summaries);
        summary.tell.clone_from(&tell);
        let id = summary.id.clone();
        tracing::info!(
            event = "alert.day_summed",
            notice = id,
            calls = summary.calls,
            failed = summary.failed,
            incidents = summary.n_incidents,
            "the summary of a day is sent"
        );
        let event = Event::DaySummed(Box::new(summary));
        self.outbox
            .write(EventType::Summary, &id, tell, event)
            .await;
    }

    /// Opens or resolves by how the handoff of a call ended, whose rule has these dialers and saw them so.
    pub(crate) fn learn(
        &self,
        call_id: &CallId,
        (rule, wanted): (Option<&str>, &[DialerId]),
        views: &[DialerView],
        handed: &HandoffResult,
    ) {
        match &handed.target {
            Some(HandoffTarget {
                dialer,
                certainty: Certainty::Confirmed,
                ..
            }) => self.recovered(dialer),
            None => self.nobody_took(call_id, (rule, wanted), views, handed),
            // An unconfirmed dialer proves nothing.
            Some(_) => {}
        }
    }

    /// Opens and resolves by what time has brought: circuits that let a trial through again, callers who are gone, dialers that are all down
    /// before anybody has called.
    pub fn look_around(&self, now: Instant) {
        let statuses = self.fleet.statuses(now);
        let views: Vec<DialerView> = statuses.iter().map(|status| status.view.clone()).collect();
        self.waiting.observe(&views, now);
        // Credentials that were refused once may be accepted in a moment; the first caller whom nobody takes opens the incident all the same.
        let is_down = |status: &DialerStatus| {
            let is_tried_first = |refused: &CredentialRefusal| !refused.is_confirmed();
            status.view.breaker != BreakerView::Closed
                && !status.view.line_only
                && !status.refused.as_ref().is_some_and(is_tried_first)
        };
        let mut in_service = statuses
            .iter()
            .filter(|status| !status.view.drained)
            .peekable();
        let all_down = in_service.peek().is_some() && in_service.all(is_down);
        let uptime = self.clock.uptime();
        let is_deserted = |wanted: &[DialerId]| self.waiting.who_waits(Some(wanted), uptime).0 == 0;
        let mut state = self.state();
        let IncidentState {
            tracker,
            all_down_since,
            ..
        } = &mut *state;
        self.enqueue(tracker.deserted(is_deserted, self.moment()));
        if !all_down {
            *all_down_since = None;
            return;
        }
        let since = *all_down_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= ALL_DOWN_AFTER
            && !tracker.is_open(&all_dialers_down())
        {
            let dialers = names(&views);
            let cause = self.cause(&dialers, &views, &[]);
            let nobody = (0, Vec::new());
            let topic = all_dialers_down();
            self.enqueue(tracker.open(topic, cause, &dialers, nobody, self.moment()));
        }
    }

    /// A probe found this dialer well. Where callers wait, they prove it within seconds; where nobody does, the probe's word is taken.
    pub(crate) fn probed_well(&self, dialer: &DialerId) {
        if !self.waiting.is_empty() {
            return;
        }
        let views = self.fleet.views(self.clock.instant());
        let takes_calls =
            |view: &DialerView| view.dialer == *dialer && routing::intake(view) == Intake::Calls;
        if views.iter().any(takes_calls) {
            self.recovered(dialer);
        }
    }

    /// A call whose plan takes nobody: all dialers are down, or those of its rule are while others take calls, or somebody has taken all
    /// of them out.
    fn nobody_took(
        &self,
        call_id: &CallId,
        (rule, wanted): (Option<&str>, &[DialerId]),
        views: &[DialerView],
        handed: &HandoffResult,
    ) {
        // Whoever has as many calls as it may have works as it should: its callers wait in order, and that is no incident.
        let is_full = matches!(
            routing::why_nobody(wanted, views),
            Some(SkipReason::Full | SkipReason::CapReached | SkipReason::CallersFirst)
        );
        if handed.refusals.is_empty() && is_full && views.iter().any(|view| view.room().is_some()) {
            return;
        }
        let others = views
            .iter()
            .filter(|view| !wanted.contains(&view.dialer) && routing::intake(view) == Intake::Calls)
            .count();
        let fails = |view: &DialerView| !view.drained && wanted.contains(&view.dialer);
        let (topic, dialers) = if others == 0 && views.iter().any(fails) {
            (all_dialers_down(), names(views))
        } else {
            (
                Topic::about(IncidentKind::CallersWaiting, rule.unwrap_or_default()),
                wanted.to_vec(),
            )
        };
        let is_new = !self.waiting.contains(call_id);
        let of_whom = (topic.kind == IncidentKind::CallersWaiting).then_some(wanted);
        let (waiting, _) = self.waiting.who_waits(of_whom, Duration::ZERO);
        let affected = u64::try_from(waiting).unwrap_or(u64::MAX);
        let affected = affected.saturating_add(u64::from(is_new));
        let tracker = &mut self.state().tracker;
        let topic = if tracker.is_open(&all_dialers_down()) {
            all_dialers_down()
        } else {
            topic
        };
        if tracker.is_open(&topic) || is_their_turn_to_come(wanted, views) {
            if is_new {
                tracker.affect(&topic, call_id);
            }
            return;
        }
        let calls = (affected, vec![call_id.clone()]);
        let of_others = match others {
            0 => "",
            _ => ". Everybody else is connected",
        };
        let cause = self.cause(&dialers, views, &handed.refusals) + of_others;
        self.enqueue(tracker.open(topic, cause, &dialers, calls, self.moment()));
    }

    fn recovered(&self, dialer: &DialerId) {
        let now = self.moment();
        self.enqueue(self.state().tracker.recovered(dialer, now));
    }

    /// Why these dialers take no calls, in words: each of them once, those with the same reason together.
    fn cause(
        &self,
        dialers: &[DialerId],
        views: &[DialerView],
        refusals: &[(DialerId, Failure)],
    ) -> String {
        let statuses = self.fleet.statuses(self.clock.instant());
        let mut reasons: Vec<(Ails, Vec<&str>)> = Vec::new();
        for dialer in dialers {
            let status = statuses.iter().find(|status| status.dialer.id() == dialer);
            let view = views.iter().find(|view| view.dialer == *dialer);
            let refusal = refusals.iter().find(|(who, _)| who == dialer);
            let ails = ails(status, view, refusal.map(|(_, failure)| *failure));
            match reasons.iter_mut().find(|(known, _)| *known == ails) {
                Some((_, names)) => names.push(dialer.as_str()),
                None => reasons.push((ails, vec![dialer.as_str()])),
            }
        }
        let sentences = reasons.iter().map(|(ails, names)| ails.of(names));
        sentences.collect::<Vec<_>>().join("; ")
    }

    /// Has notifications written down, in this order. Whoever calls this holds the state, so that no other notification comes in between.
    fn enqueue(&self, notifications: impl IntoIterator<Item = (EventType, Notification)>) {
        for queued in notifications {
            if let Err(refused) = self.shared.queue.try_send(queued) {
                let (event_type, notification) = refused.into_inner();
                metrics::counter!("switchboard_notices_lost_total").increment(1);
                tracing::error!(
                    event = "alert.lost",
                    occasion = event_type.as_str(),
                    incident = notification.incident,
                    cause = notification.cause,
                    calls = notification.calls,
                    "too many notices wait to be written down; this line is what remains of one"
                );
            }
        }
    }

    /// Writes down what is queued, until the process is asked to stop.
    pub(super) async fn announce(self, lifecycle: Lifecycle) {
        let mut queued = self.shared.queued.lock().await;
        let draining = lifecycle.draining();
        while let Some(Some(next)) = draining.run_until_cancelled(queued.recv()).await {
            self.announce_one(next).await;
        }
    }

    /// Writes down what is still queued when the process ends.
    pub async fn announce_rest(&self) {
        let mut queued = self.shared.queued.lock().await;
        while let Ok(next) = queued.try_recv() {
            self.announce_one(next).await;
        }
    }

    async fn announce_one(&self, (event_type, mut notification): (EventType, Notification)) {
        if notification.kind == IncidentKind::AllDialersDown && event_type != EventType::Reminded {
            show_paused(event_type == EventType::Opened);
        }
        log(event_type, &notification);
        if !notification.quiet && notification.muted.is_none() {
            let policy = self.shared.policy.load();
            notification.tell.clone_from(&policy.recipients);
        }
        let (id, tell) = (notification.id.clone(), notification.tell.clone());
        let event = Event::of_notification(event_type, notification);
        self.outbox.write(event_type, &id, tell, event).await;
        self.show_open();
    }

    /// Adds every dialer, why its circuit is open, where it is, and what is found of its credentials. One that limits our requests is well: its line
    /// rings. Of one that is out by hand, nothing is found.
    fn add_dialers(&self, signals: &mut HealthSignals, now: Instant) -> HashMap<String, Drained> {
        let mut taken_out = HashMap::new();
        for status in self.fleet.statuses(now) {
            if let Some(out) = &status.drained {
                taken_out.insert(status.dialer.id().to_string(), out.clone());
            }
            let is_in_service = status.drained.is_none();
            let is_down = is_in_service && !status.view.line_only;
            let down = status.open_for.filter(|_| is_down).map(|(_, why)| why);
            let refused = status.refused.filter(|_| is_in_service);
            let dialer = status.dialer.id();
            let evaluation = signals::of_credentials(dialer.as_str(), refused.as_ref());
            signals.credentials.push((dialer.to_string(), evaluation));
            signals.dialers.push((dialer.clone(), down));
        }
        taken_out
    }

    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    fn show_open(&self) {
        let tracker = &self.state().tracker;
        for &kind in IncidentKind::ALL {
            metrics::gauge!("switchboard_incidents_open", "kind" => kind.as_str())
                .set(tracker.count_open(kind) as f64);
        }
    }

    /// The services that page somebody until the alert is acknowledged.
    pub(super) fn pagers(&self) -> Vec<Recipient> {
        let policy = self.shared.policy.load();
        let recipients = policy.recipients.iter();
        let pagers = recipients.filter(|who| who.channel() == Channel::Pagerduty);
        pagers.cloned().collect()
    }

    pub(super) fn moment(&self) -> Moment {
        Moment {
            instant: self.clock.instant(),
            at: self.clock.now(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, IncidentState> {
        // Nothing under this lock leaves a value half-changed.
        let state = &self.shared.state;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is not written now is written with the next change, or when the incident is resolved.
async fn store_changed(changed: Vec<IncidentStatus>, store: &Store) {
    if !changed.is_empty() {
        drop(tokio::time::timeout(PATIENCE, store.count_incident_calls(changed)).await);
    }
}

fn all_dialers_down() -> Topic {
    Topic::of(IncidentKind::AllDialersDown)
}

fn show_paused(paused: bool) {
    metrics::gauge!("switchboard_routing_paused").set(f64::from(u8::from(paused)));
}

fn log(event_type: EventType, notification: &Notification) {
    let Notification {
        incident,
        subject,
        cause,
        calls,
        lasted_ms,
        ..
    } = notification;
    let kind = notification.kind.as_str();
    match event_type {
        EventType::Opened if notification.quiet => {
            metrics::counter!("switchboard_incidents_total", "kind" => kind).increment(1);
            tracing::warn!(
                event = "alert.opened",
                kind,
                subject,
                incident,
                cause,
                "an incident opened; nobody is told unless it lasts"
            );
        }
        EventType::Opened => {
            // One that opened without a word is counted already.
            if lasted_ms.is_none() {
                metrics::counter!("switchboard_incidents_total", "kind" => kind).increment(1);
            }
            tracing::error!(
                event = "alert.opened",
                kind,
                subject,
                incident,
                cause,
                calls,
                "an incident opened"
            );
        }
        EventType::Resolved => tracing::info!(
            event = "alert.resolved",
            kind,
            subject,
            incident,
            lasted_ms,
            calls,
            "an incident is over"
        ),
        EventType::Reminded | EventType::Acknowledged | EventType::Tested | EventType::Summary => {
            tracing::warn!(
                event = "alert.reminded",
                kind,
                subject,
                incident,
                cause,
                lasted_ms,
                calls,
                "an incident is still open"
            );
        }
    }
}

/// A dialer takes calls, and others who wait for it come first: nothing is wrong.
fn is_their_turn_to_come(wanted: &[DialerId], views: &[DialerView]) -> bool {
    views
        .iter()
        .any(|view| view.callers_first.is_some() && wanted.contains(&view.dialer))
}

fn names(views: &[DialerView]) -> Vec<DialerId> {
    views.iter().map(|view| view.dialer.clone()).collect()
}

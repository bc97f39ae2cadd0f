//! Incidents of the running appliance: what is found wrong is recorded, and somebody is told.
//!
//! The record is the announcement: the messages that it makes are written in the same transaction, and sent from there. Where the database
//! takes no records, the messages wait in memory as well, and are sent all the same.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};

use super::handoff_result::{HandoffResult, HandoffTarget};
use super::record::{Recorded, Recorder};
use super::waiting::Waiting;
use super::why_not::{Ails, ails};
use super::witness::{Witness, why};
use crate::alert::{
    Board, Channel, Daily, Finding, IncidentKind, IncidentStatus, Moment, Notice, Occasion,
    Recipient, Rules, Signs, Summary, Tested, Topic, findings,
};
use crate::audit::{Event, Record};
use crate::call::CallId;
use crate::clock::Clock;
use crate::dialer::{DialerStatus, Fleet};
use crate::handoff::{Certainty, Failure};
use crate::resilience::CredentialRefusal;
use crate::routing::{self, BreakerView, DialerId, DialerView, Intake, LookupUnavailable};
use crate::store::{MessageState, Store, StoreError, StoredMessage};

/// How long a notice's record is waited for before its messages are sent from memory.
const PATIENCE: Duration = Duration::from_millis(500);
/// Messages that wait in memory while the database takes no records.
const IN_MEMORY: usize = 1_000;
/// Notices that may wait to be written down: many more than there are incidents.
const QUEUE: usize = 1_024;
/// Calls that a restart looks back on.
const CALLS_RESTORED: u32 = 5_000;
/// All circuits have to be open for so long before it is said without a call.
const ALL_DOWN_AFTER: Duration = Duration::from_secs(3);

/// Opens and resolves incidents. Cheap to clone; all clones see the same.
#[derive(Clone, Debug)]
pub struct Incidents {
    clock: Clock,
    fleet: Fleet,
    waiting: Waiting,
    recorder: Recorder,
    witness: Witness,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    board: Mutex<Board>,
    /// Notices on their way from the board to the record, in the order in which the board gave them: nobody who learns something waits for
    /// the disk.
    queue: mpsc::Sender<(Occasion, Notice)>,
    queued: AsyncMutex<mpsc::Receiver<(Occasion, Notice)>>,
    telling: ArcSwap<Telling>,
    said: Mutex<Said>,
    unwritten: Mutex<VecDeque<StoredMessage>>,
    /// Counts messages that were made: whoever delivers looks again.
    news: watch::Sender<u64>,
    all_down_since: Mutex<Option<Instant>>,
}

/// When incidents open, and who is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telling {
    pub rules: Rules,
    pub recipients: Vec<Recipient>,
    /// When the summary of a day is made, where it is.
    pub daily: Option<Daily>,
}

/// What others have said of their state.
#[derive(Clone, Debug, Default)]
struct Said {
    reload_refused: Option<String>,
    certificate_ends: Option<Timestamp>,
    certificate_refused: Option<String>,
}

impl Incidents {
    pub fn new(
        clock: Clock,
        fleet: Fleet,
        waiting: Waiting,
        recorder: Recorder,
        witness: Witness,
        telling: Telling,
    ) -> Self {
        show(false);
        let (queue, queued) = mpsc::channel(QUEUE);
        witness.traffic().set_window(telling.rules.window);
        let shared = Shared {
            board: Mutex::new(Board::new(telling.rules.repeat_every)),
            queue,
            queued: AsyncMutex::new(queued),
            telling: ArcSwap::from_pointee(telling),
            said: Mutex::default(),
            unwritten: Mutex::default(),
            news: watch::Sender::new(0),
            all_down_since: Mutex::default(),
        };
        Self {
            clock,
            fleet,
            waiting,
            recorder,
            witness,
            shared: Arc::new(shared),
        }
    }

    /// Other rules and recipients, from now on.
    pub fn reconfigure(&self, telling: Telling) {
        self.witness.traffic().set_window(telling.rules.window);
        self.board().set_repeat_every(telling.rules.repeat_every);
        self.shared.telling.store(Arc::new(telling));
    }

    /// Takes up what was open when the process ended, and the calls of the last minutes.
    pub async fn restore(&self, store: &Store) -> Result<(), StoreError> {
        let now = self.moment();
        let standing = store.open_incidents().await?;
        {
            let mut board = self.board();
            for standing in standing {
                tracing::warn!(
                    event = "alert.still_open",
                    kind = standing.topic.kind.as_str(),
                    subject = standing.topic.subject,
                    incident = standing.id,
                    "an incident was open when the process ended"
                );
                board.restore(standing, now);
            }
            show(board.is_open(&all_dialers_down()));
        }
        let window = self.shared.telling.load().rules.window;
        let hour = SignedDuration::from_hours(1);
        let back = SignedDuration::try_from(window).unwrap_or(hour).max(hour);
        let since = now.at.checked_sub(back).unwrap_or(now.at);
        let calls = store.calls_since(since, CALLS_RESTORED).await?;
        self.witness.restore(&calls, window);
        Ok(())
    }

    /// Whether no dialer takes calls, as far as is known.
    pub fn is_routing_paused(&self) -> bool {
        self.board().is_open(&all_dialers_down())
    }

    /// When a call last arrived; `None` where none has since the start.
    pub fn last_arrival(&self) -> Option<Instant> {
        self.witness.traffic().last_arrival()
    }

    /// What tells them the time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Counts messages that were made. A change means that there is something to send.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.shared.news.subscribe()
    }

    /// A changed configuration was refused, and why; `None`: it was taken.
    pub fn reload_refused(&self, why: Option<String>) {
        self.said().reload_refused = why;
    }

    /// The certificate that is served ends then, and why there is no new one, where there should be.
    pub fn certificate(&self, ends: Option<Timestamp>, refused: Option<String>) {
        let mut said = self.said();
        said.certificate_ends = ends;
        said.certificate_refused = refused;
    }

    /// A call got the safe answer and nothing was decided for it: there were too many, or its webhook could not be used. It counts as one that
    /// failed, for a reason that is a word. Waits for nothing.
    pub fn undecided(&self, call_id: Option<&CallId>, reason: &str) {
        let now = self.clock.instant();
        self.witness.traffic().undecided(call_id, reason, now);
    }

    /// Twilio called the fallback URL, for a reason that it gives as a number. Waits for nothing.
    pub fn fell_back(&self, call_id: Option<&CallId>, reason: &str) {
        let now = self.clock.instant();
        self.witness.traffic().fell_back(call_id, reason, now);
    }

    /// A signed webhook did not fit together, for a reason that is a word. It is no call, and so none that failed. Waits for nothing.
    pub fn malformed(&self, flaw: &str) {
        let now = self.clock.instant();
        self.witness.traffic().malformed(flaw, now);
    }

    /// Braze was probed; why it did not answer, where it did not. A refused key is told of as such.
    pub(super) fn probed_braze(&self, failed: Option<LookupUnavailable>) {
        if failed != Some(LookupUnavailable::Unauthorized) {
            let now = self.clock.instant();
            self.witness.traffic().probed_braze(failed.map(why), now);
        }
    }

    /// Looks at everything: opens, reminds and resolves. `signs` are what the caller has found out; dialers and what others have said are
    /// added.
    pub async fn look(&self, mut signs: Signs, store: &Store) {
        let now = self.moment();
        signs.dialers = self.dialers(now.instant);
        signs.credentials.extend(self.credentials(now.instant));
        {
            let said = self.said();
            signs.reload_refused.clone_from(&said.reload_refused);
            signs.certificate_ends = said.certificate_ends;
            signs
                .certificate_refused
                .clone_from(&said.certificate_refused);
        }
        let telling = self.shared.telling.load_full();
        let changed = {
            let mut traffic = self.witness.traffic();
            traffic.keep_dialers(|dialer| signs.dialers.iter().any(|(known, _)| known == dialer));
            let mut board = self.board();
            let found = findings(&signs, &traffic, &telling.rules, now.instant, now.at);
            self.enqueue(board.judge(found, now));
            board.take_changed()
        };
        self.store_changed(changed, store).await;
        self.count();
    }

    /// Keeps how many calls the open incidents affect, before the process ends.
    pub async fn persist(&self, store: &Store) {
        let changed = self.board().take_changed();
        self.store_changed(changed, store).await;
    }

    /// What is not written now is written with the next change, or when the incident is resolved.
    async fn store_changed(&self, changed: Vec<IncidentStatus>, store: &Store) {
        if !changed.is_empty() {
            drop(tokio::time::timeout(PATIENCE, store.count_incident_calls(changed)).await);
        }
    }

    /// Sends a message to everybody who is told of incidents; gives the name of its notice. `None` where nobody is told.
    pub async fn test(&self, by: &str) -> Option<String> {
        let tell = self.shared.telling.load().recipients.clone();
        if tell.is_empty() {
            return None;
        }
        let now = self.clock.now();
        let id = format!("test-{}", now.as_millisecond());
        let tested = Tested {
            id: id.clone(),
            by: by.to_owned(),
            tell: tell.clone(),
        };
        let event = Event::AlertTested(Box::new(tested));
        tracing::info!(event = "alert.tested", by, "a test message is sent");
        self.deliver(Occasion::Tested, &id, tell, event).await;
        Some(id)
    }

    /// When the summary of a day is made; `None` where nobody wants one.
    pub fn daily(&self) -> Option<Daily> {
        let telling = self.shared.telling.load();
        telling
            .daily
            .clone()
            .filter(|_| !telling.recipients.is_empty())
    }

    /// Sends the summary of a day to everybody who is told of incidents.
    pub async fn summarize(&self, mut summary: Summary) {
        summary
            .tell
            .clone_from(&self.shared.telling.load().recipients);
        let (id, tell) = (summary.id.clone(), summary.tell.clone());
        tracing::info!(
            event = "alert.day_summed",
            notice = id,
            calls = summary.calls,
            failed = summary.failed,
            incidents = summary.n_incidents,
            "the summary of a day is sent"
        );
        let event = Event::DaySummed(Box::new(summary));
        self.deliver(Occasion::Summary, &id, tell, event).await;
    }

    /// The messages of one way that wait in memory because their record is not on disk.
    pub fn take_unwritten(&self, channel: Channel) -> Vec<StoredMessage> {
        let mut unwritten = self.lock(&self.shared.unwritten);
        let of_channel = |message: &StoredMessage| message.recipient.channel() == channel;
        let (taken, left): (VecDeque<_>, VecDeque<_>) = unwritten.drain(..).partition(of_channel);
        *unwritten = left;
        taken.into()
    }

    /// Learns from what a call came to that wanted one of these dialers and saw them so.
    pub(super) fn learn(
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

    /// Learns what time has brought: circuits that let a trial through again, callers who are gone, dialers that are all down before
    /// anybody has called.
    pub fn look_around(&self, now: Instant) {
        let statuses = self.fleet.statuses(now);
        let views: Vec<DialerView> = statuses.iter().map(|status| status.view.clone()).collect();
        self.waiting.observe(&views, now);
        // Credentials that were refused once may be accepted in a moment; the first caller whom nobody takes makes it news all the same.
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
        let is_news = {
            let mut since = self.lock(&self.shared.all_down_since);
            if all_down {
                let since = *since.get_or_insert(now);
                now.saturating_duration_since(since) >= ALL_DOWN_AFTER
            } else {
                *since = None;
                false
            }
        };
        let uptime = self.clock.uptime();
        let is_deserted = |wanted: &[DialerId]| self.waiting.who_waits(Some(wanted), uptime).0 == 0;
        let mut board = self.board();
        self.enqueue(board.deserted(is_deserted, self.moment()));
        if is_news && !board.is_open(&all_dialers_down()) {
            let dialers = names(&views);
            let cause = self.cause(&dialers, &views, &[]);
            let nobody = (0, Vec::new());
            self.enqueue(board.strike(all_dialers_down(), cause, &dialers, nobody, self.moment()));
        }
    }

    /// A probe found this dialer well. Where callers wait, they prove it within seconds; where nobody does, the probe's word is taken.
    pub fn probed_well(&self, dialer: &DialerId) {
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
        let others = views
            .iter()
            .filter(|view| !wanted.contains(&view.dialer) && routing::intake(view) == Intake::Calls)
            .count();
        let fails = |view: &DialerView| !view.drained && wanted.contains(&view.dialer);
        let (topic, dialers) = if others == 0 && views.iter().any(fails) {
            (all_dialers_down(), names(views))
        } else {
            (Topic::of_waiting(rule), wanted.to_vec())
        };
        let is_new = !self.waiting.contains(call_id);
        let of_whom = (topic.kind == IncidentKind::CallersWaiting).then_some(wanted);
        let (waiting, _) = self.waiting.who_waits(of_whom, Duration::ZERO);
        let affected = u64::try_from(waiting).unwrap_or(u64::MAX);
        let affected = affected.saturating_add(u64::from(is_new));
        let mut board = self.board();
        let is_all_down = board.is_open(&all_dialers_down());
        let told = if is_all_down {
            all_dialers_down()
        } else {
            topic
        };
        if board.is_open(&told) || is_their_turn_to_come(wanted, views) {
            if is_new {
                board.affect(&told, call_id);
            }
            return;
        }
        let calls = (affected, vec![call_id.clone()]);
        let who_works = match others {
            0 => String::new(),
            1 => "; 1 other dialer takes calls".to_owned(),
            n => format!("; {n} other dialers take calls"),
        };
        let cause = self.cause(&dialers, views, &handed.refusals) + &who_works;
        self.enqueue(board.strike(told, cause, &dialers, calls, self.moment()));
    }

    fn recovered(&self, dialer: &DialerId) {
        let now = self.moment();
        let mut board = self.board();
        self.enqueue(board.recovered(dialer, now));
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
        let told = reasons.iter().map(|(ails, names)| ails.of(names));
        told.collect::<Vec<_>>().join("; ")
    }

    /// Has notices written down, in this order. Whoever calls this holds the board, so that no other notice comes in between.
    fn enqueue(&self, told: impl IntoIterator<Item = (Occasion, Notice)>) {
        for told in told {
            if let Err(refused) = self.shared.queue.try_send(told) {
                let (occasion, notice) = refused.into_inner();
                metrics::counter!("switchboard_notices_lost_total").increment(1);
                tracing::error!(
                    event = "alert.lost",
                    occasion = occasion.as_str(),
                    incident = notice.incident,
                    cause = notice.cause,
                    calls = notice.calls,
                    "too many notices wait to be written down; this line is what remains of one"
                );
            }
        }
    }

    /// Announces what is found, until the time is over.
    pub async fn announce_until(&self, over: impl Future<Output = ()>) {
        let mut queued = self.shared.queued.lock().await;
        let mut over = pin!(over);
        loop {
            let next = tokio::select! {
                biased;
                () = &mut over => return,
                next = queued.recv() => next,
            };
            let Some((occasion, notice)) = next else {
                return;
            };
            self.announce(occasion, notice).await;
        }
    }

    /// Announces what was found and not announced yet.
    pub async fn announce_rest(&self) {
        let mut queued = self.shared.queued.lock().await;
        while let Ok((occasion, notice)) = queued.try_recv() {
            self.announce(occasion, notice).await;
        }
    }

    /// Says it, writes it down, and has it sent.
    async fn announce(&self, occasion: Occasion, mut notice: Notice) {
        if notice.kind == IncidentKind::AllDialersDown && occasion != Occasion::Reminded {
            show(occasion == Occasion::Opened);
        }
        log(occasion, &notice);
        if !notice.quiet {
            notice
                .tell
                .clone_from(&self.shared.telling.load().recipients);
        }
        let (id, tell) = (notice.id.clone(), notice.tell.clone());
        self.deliver(occasion, &id, tell, Event::told(occasion, notice))
            .await;
        self.count();
    }

    async fn deliver(&self, occasion: Occasion, id: &str, tell: Vec<Recipient>, event: Event) {
        let now = self.clock.now();
        let detail = event.detail_json();
        let record = Record::of_service(now, event);
        let recorded = self.recorder.append(vec![record], PATIENCE).await;
        if recorded == Recorded::Late
            && let Ok(detail) = detail
        {
            let mut unwritten = self.lock(&self.shared.unwritten);
            unwritten.extend(tell.into_iter().map(|recipient| StoredMessage {
                notice: id.to_owned(),
                occasion,
                recipient,
                detail: detail.clone(),
                state: MessageState::Waiting,
                attempts: 0,
                last_error: None,
                sent_at: None,
                created_at: now,
                incident: None,
            }));
            while unwritten.len() > IN_MEMORY {
                unwritten.pop_front();
            }
        }
        self.shared.news.send_modify(|n| *n += 1);
    }

    /// Every dialer, and why its circuit is open, where it is. One that limits our requests is well: its line rings.
    fn dialers(&self, now: Instant) -> Vec<(DialerId, Option<String>)> {
        let statuses = self.fleet.statuses(now).into_iter();
        statuses
            .map(|status| {
                let is_down = status.drained.is_none() && !status.view.line_only;
                let down = is_down.then_some(status.open_for).flatten();
                (status.dialer.id().clone(), down.map(|(_, why)| why))
            })
            .collect()
    }

    /// What is found of every dialer's credentials. Of one that is out by hand, nothing is to be told.
    fn credentials(&self, now: Instant) -> Vec<(String, Finding)> {
        let statuses = self.fleet.statuses(now).into_iter();
        let found = statuses.map(|status| {
            let refused = status.refused.filter(|_| status.drained.is_none());
            let service = status.dialer.id().to_string();
            let finding = of_credentials(&service, refused.as_ref());
            (service, finding)
        });
        found.collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    fn count(&self) {
        let board = self.board();
        for &kind in IncidentKind::ALL {
            metrics::gauge!("switchboard_incidents_open", "kind" => kind.as_str())
                .set(board.count_open(kind) as f64);
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            instant: self.clock.instant(),
            at: self.clock.now(),
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.lock(&self.shared.board)
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.lock(&self.shared.said)
    }

    #[expect(clippy::unused_self, reason = "reads as what it does")]
    fn lock<'m, T>(&self, mutex: &'m Mutex<T>) -> MutexGuard<'m, T> {
        // Nothing under these locks leaves a value half-changed.
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is found of credentials: refused once may be over in a moment, so nobody is told before a further try was refused as well.
pub(super) fn of_credentials(service: &str, refused: Option<&CredentialRefusal>) -> Finding {
    let Some(refused) = refused else {
        return Finding::Well;
    };
    let CredentialRefusal {
        credential, why, ..
    } = refused;
    let cause = format!("{service} refuses {credential}: {why}");
    if refused.is_confirmed() {
        Finding::Bad(cause)
    } else {
        Finding::Quiet(cause)
    }
}

fn all_dialers_down() -> Topic {
    Topic::of(IncidentKind::AllDialersDown)
}

fn show(paused: bool) {
    metrics::gauge!("switchboard_routing_paused").set(f64::from(u8::from(paused)));
}

fn log(occasion: Occasion, notice: &Notice) {
    let Notice {
        incident,
        subject,
        cause,
        calls,
        lasted_ms,
        ..
    } = notice;
    let kind = notice.kind.as_str();
    match occasion {
        Occasion::Opened if notice.quiet => {
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
        Occasion::Opened => {
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
        Occasion::Resolved => tracing::info!(
            event = "alert.resolved",
            kind,
            subject,
            incident,
            lasted_ms,
            calls,
            "an incident is over"
        ),
        Occasion::Reminded | Occasion::Tested | Occasion::Summary => tracing::warn!(
            event = "alert.reminded",
            kind,
            subject,
            incident,
            cause,
            lasted_ms,
            calls,
            "an incident is still open"
        ),
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

//! The incident tracker: which incidents are open, when one opens, when it is reminded of, when it is resolved.
//!
//! Lengths of time are measured on the monotonic clock, so that setting the wall clock changes none of them; the wall clock is for people.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::counters::RollingCounter;
use super::kinds::{IncidentKind, Topic};
use super::mutes::{Acknowledgement, Drained, Mute};
use super::notification::{CALLS_NAMED, EventType, Notification};
use crate::call::CallId;
use crate::routing::DialerId;

/// Reasons that are counted apart in one incident.
const REASONS: usize = 20;
/// An incident of failures opens while there are some: what failed longer ago is over.
const LATELY: Duration = Duration::from_secs(30);
/// Once dialers take calls again, the others have so long before somebody is told of them: their circuits need a trial to close.
const AFTER_ALL_DOWN: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub instant: Instant,
    pub at: Timestamp,
}

/// What is found of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluation {
    Well,
    /// Neither opens an incident nor resolves one: a small sample, the gap between two limits, or nothing is known.
    Unclear,
    /// Something is wrong that may be over in a moment: an incident opens, and nobody is notified of it yet.
    Quiet(String),
    /// Something is wrong, and what, in words.
    Bad(String),
}

/// What is found of a topic, and the counter of the calls it affects, where it affects any.
#[derive(Debug)]
pub struct TopicEvaluation<'t> {
    pub topic: Topic,
    pub evaluation: Evaluation,
    pub counter: Option<&'t RollingCounter>,
}

impl TopicEvaluation<'_> {
    /// An evaluation that is not about calls.
    pub fn plain(topic: Topic, evaluation: Evaluation) -> Self {
        Self {
            topic,
            evaluation,
            counter: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct IncidentStatus {
    pub id: String,
    pub topic: Topic,
    pub cause: String,
    /// The dialers whose recovery resolves it.
    pub dialers: Vec<DialerId>,
    pub since: Timestamp,
    /// How many calls it affects.
    pub calls: u64,
    pub call_ids: Vec<CallId>,
    /// Why, each with their number.
    pub reasons: BTreeMap<String, u64>,
    /// How often somebody was reminded.
    pub reminders: u32,
    /// When somebody was last notified; `None` where nobody was.
    pub notified_at: Option<Timestamp>,
    /// Who works on it.
    pub acknowledged: Option<Acknowledgement>,
    /// Why nobody is notified now; of one that is over, why nobody was.
    pub muted: Option<Drained>,
}

#[derive(Clone, Debug)]
struct Incident {
    status: IncidentStatus,
    /// How long it had been open at `seen_from`.
    lasted: Duration,
    seen_from: Instant,
    remind_at: Instant,
    well_since: Option<Instant>,
    /// Somebody would be notified of it, unless it is muted.
    is_bad: bool,
    /// Failures up to this one are counted. `None` after a restart: those of before are, whatever their number is now.
    counted: Option<u64>,
    is_changed: bool,
}

#[derive(Clone, Debug)]
pub struct IncidentTracker {
    repeat_every: Duration,
    open: BTreeMap<Topic, Incident>,
    bad_since: HashMap<Topic, Instant>,
    mutes: Vec<Mute>,
    /// The dialers that are out by hand, and what that means for their incidents.
    taken_out: HashMap<String, Drained>,
}

impl IncidentTracker {
    pub fn new(repeat_every: Duration) -> Self {
        Self {
            repeat_every,
            open: BTreeMap::new(),
            bad_since: HashMap::new(),
            mutes: Vec::new(),
            taken_out: HashMap::new(),
        }
    }

    /// How often somebody is reminded, from now on.
    pub fn set_repeat_every(&mut self, repeat_every: Duration) {
        self.repeat_every = repeat_every;
    }

    /// Takes up an incident that was open when the process ended.
    pub fn restore(&mut self, status: IncidentStatus, now: Moment) {
        // The wall clock may have been set back meanwhile.
        let past =
            |at: Timestamp| Duration::try_from(now.at.duration_since(at)).unwrap_or_default();
        let until_reminded = status.notified_at.map_or(self.repeat_every, |notified_at| {
            self.repeat_every.saturating_sub(past(notified_at))
        });
        let incident = Incident {
            lasted: past(status.since),
            seen_from: now.instant,
            remind_at: now.instant + until_reminded,
            well_since: None,
            is_bad: status.topic.kind.is_opened_by_calls() || status.notified_at.is_some(),
            counted: None,
            is_changed: false,
            status,
        };
        self.open.insert(incident.status.topic.clone(), incident);
    }

    /// Whether an incident of this topic is open.
    pub fn is_open(&self, topic: &Topic) -> bool {
        self.open.contains_key(topic)
    }

    /// The mutes that are in force or planned.
    pub fn mutes(&mut self, at: Timestamp) -> &mut Vec<Mute> {
        self.mutes.retain(|mute| mute.until > at);
        &mut self.mutes
    }

    /// Which dialers are out by hand, from now on.
    pub fn set_taken_out(&mut self, taken_out: HashMap<String, Drained>) {
        self.taken_out = taken_out;
    }

    /// Nobody is reminded of it any more; who said so first is kept. Whether that is new; `None` where it is not open.
    pub fn acknowledge(
        &mut self,
        id: &str,
        by: Acknowledgement,
        now: Moment,
    ) -> Option<Option<Notification>> {
        let mut open = self.open.values_mut();
        let incident = open.find(|incident| incident.status.id == id)?;
        if incident.status.acknowledged.is_some() {
            return Some(None);
        }
        incident.status.acknowledged = Some(by);
        Some(Some(incident.notification(EventType::Acknowledged, now).1))
    }

    /// The open incidents; of one of which nothing is wrong any more, since when, and when it is resolved if that stays so.
    pub fn open_ones(&self) -> impl Iterator<Item = (&IncidentStatus, Option<(Instant, Instant)>)> {
        self.open.values().map(|incident| {
            let calm = incident.status.topic.kind.calm();
            let recovered = incident.well_since.map(|since| (since, since + calm));
            (&incident.status, recovered)
        })
    }

    /// How many are open of each kind that has any.
    pub fn count_open(&self, kind: IncidentKind) -> usize {
        self.open.keys().filter(|topic| topic.kind == kind).count()
    }

    /// Those whose calls have changed since this was last asked.
    pub fn take_changed(&mut self) -> Vec<IncidentStatus> {
        let changed = self
            .open
            .values_mut()
            .filter(|incident| incident.is_changed);
        changed
            .map(|incident| {
                incident.is_changed = false;
                incident.status.clone()
            })
            .collect()
    }

    /// Opens, reminds of and resolves incidents by what is found now. A topic that is not evaluated any more is well, unless it is of those
    /// that [`IncidentTracker::open`] opens.
    pub fn evaluate(
        &mut self,
        found: Vec<TopicEvaluation<'_>>,
        now: Moment,
    ) -> Vec<(EventType, Notification)> {
        let mut notifications = Vec::new();
        for incident in self.open.values_mut() {
            let silence = silence(&self.mutes, &self.taken_out, &incident.status.topic, now.at);
            incident.status.muted = silence;
        }
        let gone: Vec<Topic> = self
            .open
            .keys()
            .filter(|topic| !topic.kind.is_opened_by_calls())
            .filter(|topic| !found.iter().any(|one| one.topic == **topic))
            .cloned()
            .collect();
        self.bad_since
            .retain(|topic, _| found.iter().any(|one| one.topic == *topic));
        let gone = gone
            .into_iter()
            .map(|topic| TopicEvaluation::plain(topic, Evaluation::Well));
        for one in found.into_iter().chain(gone) {
            notifications.extend(self.evaluate_one(one, now));
        }
        let is_all_down = self.is_open(&Topic::of(IncidentKind::AllDialersDown));
        let repeat_every = self.repeat_every;
        let due = self.open.values_mut().filter(|incident| {
            let status = &incident.status;
            let is_due = match status.notified_at {
                Some(_) => now.instant >= incident.remind_at && status.acknowledged.is_none(),
                None => incident.is_bad,
            };
            is_due
                && incident.well_since.is_none()
                && status.muted.is_none()
                && !(is_all_down && status.topic.kind.is_part_of_all_down())
        });
        notifications.extend(due.map(|incident| {
            incident.remind_at = now.instant + repeat_every;
            if incident.status.notified_at.replace(now.at).is_none() {
                return incident.notification(EventType::Opened, now);
            }
            incident.status.reminders += 1;
            incident.notification(EventType::Reminded, now)
        }));
        notifications
    }

    fn evaluate_one(
        &mut self,
        found: TopicEvaluation<'_>,
        now: Moment,
    ) -> Option<(EventType, Notification)> {
        let TopicEvaluation {
            topic,
            evaluation,
            counter,
        } = found;
        if let Some(incident) = self.open.get_mut(&topic) {
            if let Some(counter) = counter {
                incident.count(counter);
            }
            return match evaluation {
                Evaluation::Bad(cause) if incident.status.notified_at.is_none() => {
                    incident.well_since = None;
                    incident.status.cause = cause;
                    incident.is_bad = true;
                    None
                }
                Evaluation::Bad(_) | Evaluation::Quiet(_) | Evaluation::Unclear => {
                    incident.well_since = None;
                    None
                }
                Evaluation::Well => {
                    let since = *incident.well_since.get_or_insert(now.instant);
                    let calm = now.instant.saturating_duration_since(since);
                    if incident.is_bad && calm < topic.kind.calm() {
                        return None;
                    }
                    let mut incident = self.open.remove(&topic)?;
                    Some(incident.resolved(now))
                }
            };
        }
        let (cause, is_quiet) = match evaluation {
            Evaluation::Bad(cause) => (cause, false),
            Evaluation::Quiet(cause) => (cause, true),
            Evaluation::Well | Evaluation::Unclear => {
                self.bad_since.remove(&topic);
                return None;
            }
        };
        let lately = |at: Instant| now.instant.saturating_duration_since(at) < LATELY;
        let last_failure = counter.and_then(RollingCounter::last_failure);
        let is_over =
            topic.kind.is_part_of_all_down() && last_failure.is_some_and(|at| !lately(at));
        if topic.kind.is_part_of_all_down()
            && self.is_open(&Topic::of(IncidentKind::AllDialersDown))
        {
            // Of what was down with all the others, nothing is said that is over in a moment.
            self.bad_since.insert(topic, now.instant + AFTER_ALL_DOWN);
            return None;
        }
        let since = *self.bad_since.entry(topic.clone()).or_insert(now.instant);
        let bad_for = now.instant.saturating_duration_since(since);
        if bad_for < topic.kind.patience() || is_over {
            return None;
        }
        self.bad_since.remove(&topic);
        let mut incident = Incident::new(topic, cause, self.repeat_every, now);
        incident.is_bad = !is_quiet;
        if let Some(counter) = counter {
            let failed = counter.rate(now.instant).failed;
            incident.counted = Some(counter.failed_ever().saturating_sub(failed));
            incident.count(counter);
        }
        Some(self.opened(incident, now))
    }

    /// Something is wrong at once, with these calls affected already. `None` where it was open before.
    pub fn open(
        &mut self,
        topic: Topic,
        cause: String,
        dialers: &[DialerId],
        (calls, call_ids): (u64, Vec<CallId>),
        now: Moment,
    ) -> Option<(EventType, Notification)> {
        if self.is_open(&topic) {
            return None;
        }
        let mut incident = Incident::new(topic, cause, self.repeat_every, now);
        incident.status.dialers = dialers.to_vec();
        incident.status.calls = calls;
        incident.status.call_ids = call_ids;
        incident.status.call_ids.truncate(CALLS_NAMED);
        Some(self.opened(incident, now))
    }

    /// One more call is affected.
    pub fn affect(&mut self, topic: &Topic, call_id: &CallId) {
        if let Some(incident) = self.open.get_mut(topic) {
            incident.affect(call_id);
        }
    }

    /// A dialer takes calls again. What is about other dialers stays open: they are still down.
    pub fn recovered(&mut self, dialer: &DialerId, now: Moment) -> Vec<(EventType, Notification)> {
        let is_over = |topic: &Topic, incident: &mut Incident| {
            topic.kind.is_opened_by_calls() && incident.status.dialers.contains(dialer)
        };
        self.resolve(is_over, now)
    }

    /// Resolves `callers_waiting` where nobody has waited for the dialers for a while: callers who have gone are no incident for long.
    pub fn deserted(
        &mut self,
        is_deserted: impl Fn(&[DialerId]) -> bool,
        now: Moment,
    ) -> Vec<(EventType, Notification)> {
        let is_over = |topic: &Topic, incident: &mut Incident| {
            if topic.kind != IncidentKind::CallersWaiting {
                return false;
            }
            if !is_deserted(&incident.status.dialers) {
                incident.well_since = None;
                return false;
            }
            let since = *incident.well_since.get_or_insert(now.instant);
            now.instant.saturating_duration_since(since) >= topic.kind.calm()
        };
        self.resolve(is_over, now)
    }

    fn resolve(
        &mut self,
        is_over: impl FnMut(&Topic, &mut Incident) -> bool,
        now: Moment,
    ) -> Vec<(EventType, Notification)> {
        let over = self.open.extract_if(.., is_over);
        over.map(|(_, mut incident)| incident.resolved(now))
            .collect()
    }

    fn opened(&mut self, mut incident: Incident, now: Moment) -> (EventType, Notification) {
        incident.is_changed = false;
        let topic = &incident.status.topic;
        incident.status.muted = silence(&self.mutes, &self.taken_out, topic, now.at);
        let is_told = incident.is_bad && incident.status.muted.is_none();
        incident.status.notified_at = is_told.then_some(now.at);
        let opened = incident.notification(EventType::Opened, now);
        self.open.insert(incident.status.topic.clone(), incident);
        opened
    }
}

/// Why nobody is told of this topic now.
fn silence(
    mutes: &[Mute],
    taken_out: &HashMap<String, Drained>,
    topic: &Topic,
    at: Timestamp,
) -> Option<Drained> {
    let mute = mutes.iter().find(|mute| mute.silences(topic, at));
    let out = || taken_out.get(topic.dialer()?).cloned();
    mute.map(Mute::as_drained).or_else(out)
}

impl Incident {
    fn new(topic: Topic, cause: String, repeat_every: Duration, now: Moment) -> Self {
        let dash = if topic.subject.is_empty() { "" } else { "-" };
        let id = format!(
            "{}{dash}{}-{}",
            topic.kind,
            topic.subject,
            now.at.as_millisecond()
        );
        Self {
            status: IncidentStatus {
                id,
                topic,
                cause,
                dialers: Vec::new(),
                since: now.at,
                calls: 0,
                call_ids: Vec::new(),
                reasons: BTreeMap::new(),
                reminders: 0,
                notified_at: None,
                acknowledged: None,
                muted: None,
            },
            lasted: Duration::ZERO,
            seen_from: now.instant,
            remind_at: now.instant + repeat_every,
            well_since: None,
            is_bad: true,
            counted: Some(0),
            is_changed: false,
        }
    }

    fn affect(&mut self, call_id: &CallId) {
        self.status.calls = self.status.calls.saturating_add(1);
        if self.status.call_ids.len() < CALLS_NAMED {
            self.status.call_ids.push(call_id.clone());
        }
        self.is_changed = true;
    }

    /// Counts the failures that are new.
    fn count(&mut self, counter: &RollingCounter) {
        let counted = self.counted.replace(counter.failed_ever());
        let Some(counted) = counted.filter(|counted| *counted < counter.failed_ever()) else {
            return;
        };
        let new = counter.failed_ever() - counted;
        self.is_changed = true;
        self.status.calls = self.status.calls.saturating_add(new);
        for failure in counter.failures().filter(|f| f.nth > counted) {
            if self.status.call_ids.len() < CALLS_NAMED {
                self.status.call_ids.extend(failure.call_id.clone());
            }
            let reasons = &mut self.status.reasons;
            if reasons.len() < REASONS || reasons.contains_key(&failure.reason) {
                *reasons.entry(failure.reason.clone()).or_default() += 1;
            }
        }
    }

    /// Who was told of it is told of its end, whatever is muted by then: their alert would stay open for ever.
    fn resolved(&mut self, now: Moment) -> (EventType, Notification) {
        if self.status.notified_at.is_some() {
            self.status.muted = None;
        }
        self.notification(EventType::Resolved, now)
    }

    fn notification(&self, event_type: EventType, now: Moment) -> (EventType, Notification) {
        let IncidentStatus {
            id,
            topic,
            cause,
            dialers,
            since,
            calls,
            call_ids,
            reasons,
            reminders,
            notified_at,
            acknowledged: _,
            muted,
        } = self.status.clone();
        let lasted = self.lasted + now.instant.saturating_duration_since(self.seen_from);
        let lasted_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        let number = if event_type == EventType::Reminded {
            format!("-{reminders}")
        } else {
            String::new()
        };
        let notification = Notification {
            id: format!("{id}-{}{number}", event_type.as_str()),
            incident: id,
            kind: topic.kind,
            subject: topic.subject,
            cause,
            dialers,
            since: Some(since),
            lasted_ms: (event_type != EventType::Opened || lasted_ms > 0).then_some(lasted_ms),
            calls,
            call_ids,
            reasons,
            quiet: notified_at.is_none(),
            muted,
            tell: Vec::new(),
        };
        (event_type, notification)
    }
}

#[cfg(test)]
mod tests;

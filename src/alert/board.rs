//! All incidents: which are open, when one opens, when somebody is reminded, when it is over. A value that is told what is found and when.
//!
//! Lengths of time are measured on the monotonic clock, so that setting the wall clock changes none of them; the wall clock is for telling.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::notice::CALLS_NAMED;
use super::tally::Tally;
use super::{IncidentKind, Notice, Occasion};
use crate::call::CallId;
use crate::routing::DialerId;

/// Reasons that are counted apart in one incident.
const REASONS: usize = 20;

#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub instant: Instant,
    pub at: Timestamp,
}

/// What an incident is about: its kind, and the dialer or the rule where it is about one. Of each, one is open at most.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic {
    pub kind: IncidentKind,
    /// The name of the dialer, of another service or of the rule, or nothing; of waiting callers, nothing is the default plan.
    pub subject: String,
}

impl Topic {
    /// A kind that there is one of.
    pub fn of(kind: IncidentKind) -> Self {
        Self {
            kind,
            subject: String::new(),
        }
    }

    /// A kind of which each service has its own.
    pub fn of_service(kind: IncidentKind, service: &str) -> Self {
        Self {
            kind,
            subject: service.to_owned(),
        }
    }

    /// A kind of which each dialer has its own.
    pub fn of_dialer(kind: IncidentKind, dialer: &DialerId) -> Self {
        Self::of_service(kind, dialer.as_str())
    }

    /// Callers of a rule who wait; of the default plan without one.
    pub fn of_waiting(rule: Option<&str>) -> Self {
        Self {
            kind: IncidentKind::CallersWaiting,
            subject: rule.unwrap_or_default().to_owned(),
        }
    }

    /// What it is about, in a few words.
    pub fn title(&self) -> String {
        match (self.kind, self.subject.as_str()) {
            (IncidentKind::CallersWaiting, "") => "callers of the default plan wait".to_owned(),
            (IncidentKind::CallersWaiting, rule) => format!("callers of \"{rule}\" wait"),
            (kind, "") => kind.title().to_owned(),
            (IncidentKind::DialerDown, dialer) => format!("{dialer} is down"),
            (IncidentKind::DialerFailureRate, dialer) => format!("handoffs to {dialer} fail"),
            (IncidentKind::CredentialsRefused, service) => {
                format!("{service} refuses our credentials")
            }
            (kind, _) => kind.title().to_owned(),
        }
    }
}

/// What is found of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Well,
    /// Neither opens an incident nor resolves one: a small sample, the gap between two limits, or nothing is known.
    Unclear,
    /// Something is wrong that may be over in a moment: an incident opens, and nobody is told of it yet.
    Quiet(String),
    /// Something is wrong, and what, in words.
    Bad(String),
}

/// What is found of a topic, and the calls it affects.
#[derive(Debug)]
pub struct Symptom<'t> {
    topic: Topic,
    finding: Finding,
    counted: Option<(&'t Tally, u64)>,
}

impl<'t> Symptom<'t> {
    /// A finding that is not about calls.
    pub fn plain(topic: Topic, finding: Finding) -> Self {
        Self {
            topic,
            finding,
            counted: None,
        }
    }

    /// A finding about the calls of a tally.
    pub fn counted(topic: Topic, finding: Finding, tally: &'t Tally, now: Instant) -> Self {
        let failed = tally.share(now).failed;
        Self {
            topic,
            finding,
            counted: Some((tally, failed)),
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
    /// When somebody was last told; `None` where nobody was.
    pub told_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Incident {
    standing: IncidentStatus,
    /// How long it had been open at `seen_from`.
    lasted: Duration,
    seen_from: Instant,
    remind_at: Instant,
    well_since: Option<Instant>,
    /// Failures up to this one are counted. `None` after a restart: those of before are, whatever their number is now.
    counted: Option<u64>,
    is_changed: bool,
}

#[derive(Clone, Debug)]
pub struct Board {
    repeat_every: Duration,
    open: BTreeMap<Topic, Incident>,
    bad_since: HashMap<Topic, Instant>,
}

impl Board {
    pub fn new(repeat_every: Duration) -> Self {
        Self {
            repeat_every,
            open: BTreeMap::new(),
            bad_since: HashMap::new(),
        }
    }

    /// How often somebody is reminded, from now on.
    pub fn set_repeat_every(&mut self, repeat_every: Duration) {
        self.repeat_every = repeat_every;
    }

    /// Takes up an incident that was open when the process ended.
    pub fn restore(&mut self, standing: IncidentStatus, now: Moment) {
        // The wall clock may have been set back meanwhile.
        let past =
            |at: Timestamp| Duration::try_from(now.at.duration_since(at)).unwrap_or_default();
        let until_reminded = standing.told_at.map_or(self.repeat_every, |told_at| {
            self.repeat_every.saturating_sub(past(told_at))
        });
        let incident = Incident {
            lasted: past(standing.since),
            seen_from: now.instant,
            remind_at: now.instant + until_reminded,
            well_since: None,
            counted: None,
            is_changed: false,
            standing,
        };
        self.open.insert(incident.standing.topic.clone(), incident);
    }

    /// Whether an incident of this topic is open.
    pub fn is_open(&self, topic: &Topic) -> bool {
        self.open.contains_key(topic)
    }

    /// How many are open of each kind that has any.
    pub fn count_open(&self, kind: IncidentKind) -> usize {
        self.open.keys().filter(|topic| topic.kind == kind).count()
    }

    pub fn standing(&self) -> impl Iterator<Item = &IncidentStatus> {
        self.open.values().map(|incident| &incident.standing)
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
                incident.standing.clone()
            })
            .collect()
    }

    /// Learns what is found now; gives what somebody has to be told of. A topic that is not among the findings any more is well, unless
    /// it is told of by [`Board::strike`].
    pub fn judge(&mut self, found: Vec<Symptom<'_>>, now: Moment) -> Vec<(Occasion, Notice)> {
        let mut told = Vec::new();
        let gone: Vec<Topic> = self
            .open
            .keys()
            .filter(|topic| !topic.kind.is_told_by_calls())
            .filter(|topic| !found.iter().any(|symptom| symptom.topic == **topic))
            .cloned()
            .collect();
        self.bad_since
            .retain(|topic, _| found.iter().any(|symptom| symptom.topic == *topic));
        for symptom in found {
            told.extend(self.judge_one(symptom, now));
        }
        for topic in gone {
            told.extend(self.judge_one(Symptom::plain(topic, Finding::Well), now));
        }
        let quiet = self.is_open(&Topic::of(IncidentKind::AllDialersDown));
        let repeat_every = self.repeat_every;
        let due = self.open.values_mut().filter(|incident| {
            let is_quiet = quiet && incident.standing.topic.kind.is_part_of_all_down();
            let is_told = incident.standing.told_at.is_some();
            now.instant >= incident.remind_at
                && incident.well_since.is_none()
                && is_told
                && !is_quiet
        });
        told.extend(due.map(|incident| {
            incident.remind_at = now.instant + repeat_every;
            incident.standing.reminders += 1;
            incident.standing.told_at = Some(now.at);
            (Occasion::Reminded, incident.notice(Occasion::Reminded, now))
        }));
        told
    }

    fn judge_one(&mut self, symptom: Symptom<'_>, now: Moment) -> Option<(Occasion, Notice)> {
        let Symptom {
            topic,
            finding,
            counted,
        } = symptom;
        if let Some(incident) = self.open.get_mut(&topic) {
            if let Some((tally, _)) = counted {
                incident.count(tally);
            }
            return match finding {
                Finding::Bad(cause) if incident.standing.told_at.is_none() => {
                    incident.well_since = None;
                    incident.standing.cause = cause;
                    incident.standing.told_at = Some(now.at);
                    incident.remind_at = now.instant + self.repeat_every;
                    Some((Occasion::Opened, incident.notice(Occasion::Opened, now)))
                }
                Finding::Bad(_) | Finding::Quiet(_) | Finding::Unclear => {
                    incident.well_since = None;
                    None
                }
                Finding::Well => {
                    let since = *incident.well_since.get_or_insert(now.instant);
                    let calm = now.instant.saturating_duration_since(since);
                    let is_told = incident.standing.told_at.is_some();
                    if is_told && calm < topic.kind.calm() {
                        return None;
                    }
                    let incident = self.open.remove(&topic)?;
                    Some((Occasion::Resolved, incident.notice(Occasion::Resolved, now)))
                }
            };
        }
        let (cause, is_quiet) = match finding {
            Finding::Bad(cause) => (cause, false),
            Finding::Quiet(cause) => (cause, true),
            Finding::Well | Finding::Unclear => {
                self.bad_since.remove(&topic);
                return None;
            }
        };
        let since = *self.bad_since.entry(topic.clone()).or_insert(now.instant);
        let bad_for = now.instant.saturating_duration_since(since);
        let is_told_already = topic.kind.is_part_of_all_down()
            && self.is_open(&Topic::of(IncidentKind::AllDialersDown));
        if bad_for < topic.kind.patience() || is_told_already {
            return None;
        }
        self.bad_since.remove(&topic);
        let mut incident = Incident::new(topic, cause, self.repeat_every, now);
        incident.standing.told_at = (!is_quiet).then_some(now.at);
        if let Some((tally, failed)) = counted {
            incident.counted = Some(tally.failed_ever().saturating_sub(failed));
            incident.count(tally);
        }
        Some(self.opened(incident, now))
    }

    /// Something is wrong at once, with these calls affected already. `None` where it was open before.
    pub fn strike(
        &mut self,
        topic: Topic,
        cause: String,
        dialers: &[DialerId],
        (calls, call_ids): (u64, Vec<CallId>),
        now: Moment,
    ) -> Option<(Occasion, Notice)> {
        if self.is_open(&topic) {
            return None;
        }
        let mut incident = Incident::new(topic, cause, self.repeat_every, now);
        incident.standing.dialers = dialers.to_vec();
        incident.standing.calls = calls;
        incident.standing.call_ids = call_ids;
        incident.standing.call_ids.truncate(CALLS_NAMED);
        Some(self.opened(incident, now))
    }

    /// One more call is affected.
    pub fn affect(&mut self, topic: &Topic, call_id: &CallId) {
        if let Some(incident) = self.open.get_mut(topic) {
            incident.affect(call_id);
        }
    }

    /// A dialer takes calls again. Nothing is told where all that is open is about other dialers: they are still down.
    pub fn recovered(&mut self, dialer: &DialerId, now: Moment) -> Vec<(Occasion, Notice)> {
        let is_over = |topic: &Topic, incident: &mut Incident| {
            topic.kind.is_told_by_calls() && incident.standing.dialers.contains(dialer)
        };
        let over = self.open.extract_if(.., is_over);
        over.map(|(_, incident)| (Occasion::Resolved, incident.notice(Occasion::Resolved, now)))
            .collect()
    }

    /// Learns for which dialers nobody waits any more: callers who wait and have gone are no incident for long.
    pub fn deserted(
        &mut self,
        is_deserted: impl Fn(&[DialerId]) -> bool,
        now: Moment,
    ) -> Vec<(Occasion, Notice)> {
        let is_over = |topic: &Topic, incident: &mut Incident| {
            if topic.kind != IncidentKind::CallersWaiting {
                return false;
            }
            if !is_deserted(&incident.standing.dialers) {
                incident.well_since = None;
                return false;
            }
            let since = *incident.well_since.get_or_insert(now.instant);
            now.instant.saturating_duration_since(since) >= topic.kind.calm()
        };
        let over = self.open.extract_if(.., is_over);
        over.map(|(_, incident)| (Occasion::Resolved, incident.notice(Occasion::Resolved, now)))
            .collect()
    }

    fn opened(&mut self, mut incident: Incident, now: Moment) -> (Occasion, Notice) {
        incident.is_changed = false;
        let notice = incident.notice(Occasion::Opened, now);
        self.open.insert(incident.standing.topic.clone(), incident);
        (Occasion::Opened, notice)
    }
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
            standing: IncidentStatus {
                id,
                topic,
                cause,
                dialers: Vec::new(),
                since: now.at,
                calls: 0,
                call_ids: Vec::new(),
                reasons: BTreeMap::new(),
                reminders: 0,
                told_at: Some(now.at),
            },
            lasted: Duration::ZERO,
            seen_from: now.instant,
            remind_at: now.instant + repeat_every,
            well_since: None,
            counted: Some(0),
            is_changed: false,
        }
    }

    fn affect(&mut self, call_id: &CallId) {
        self.standing.calls = self.standing.calls.saturating_add(1);
        if self.standing.call_ids.len() < CALLS_NAMED {
            self.standing.call_ids.push(call_id.clone());
        }
        self.is_changed = true;
    }

    /// Counts the failures that are new.
    fn count(&mut self, tally: &Tally) {
        let counted = self.counted.replace(tally.failed_ever());
        let Some(counted) = counted.filter(|counted| *counted < tally.failed_ever()) else {
            return;
        };
        let new = tally.failed_ever() - counted;
        self.is_changed = true;
        self.standing.calls = self.standing.calls.saturating_add(new);
        for failure in tally.failures().filter(|f| f.nth > counted) {
            if self.standing.call_ids.len() < CALLS_NAMED {
                self.standing.call_ids.extend(failure.call_id.clone());
            }
            let reasons = &mut self.standing.reasons;
            if reasons.len() < REASONS || reasons.contains_key(&failure.reason) {
                *reasons.entry(failure.reason.clone()).or_default() += 1;
            }
        }
    }

    fn notice(&self, occasion: Occasion, now: Moment) -> Notice {
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
            told_at,
        } = self.standing.clone();
        let lasted = self.lasted + now.instant.saturating_duration_since(self.seen_from);
        let lasted_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        let notice = match occasion {
            Occasion::Reminded => format!("{id}-reminded-{reminders}"),
            Occasion::Opened | Occasion::Resolved | Occasion::Tested | Occasion::Summary => {
                format!("{id}-{}", occasion.as_str())
            }
        };
        Notice {
            id: notice,
            incident: id,
            kind: topic.kind,
            subject: topic.subject,
            cause,
            dialers,
            since: Some(since),
            lasted_ms: (occasion != Occasion::Opened || lasted_ms > 0).then_some(lasted_ms),
            calls,
            call_ids,
            reasons,
            quiet: told_at.is_none(),
            tell: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;

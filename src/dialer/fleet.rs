//! All dialers in the order of the file, and the state of each.
//!
//! A change of state that somebody may want to hear of comes back as a [`HealthChange`]. The trial of a half-open circuit is not one: to the outside
//! a circuit is open until it has closed, so that a dialer that stays down is announced once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Dialer, Probe, ProbeHealth};
use crate::audit::{Drained, Event, OpenCircuit, PersistedState, ServiceState};
use crate::handoff::{FailureKind, Outcome};
use crate::resilience::{Breaker, BreakerPolicy, CredentialRefusal, HealthSignal, TriedBy};
use crate::routing::{Availability, BreakerView, DialerId, DialerView};

/// The longest a probe may take (Zendesk Talk and Dialfire: "timeout 2 s").
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// A trial that is not heard of for so long after its timeout is lost.
const TRIAL_GRACE: Duration = Duration::from_secs(1);
/// What a dialer says of its availability is forgotten after so many probes that never came.
const PROBES_UNTIL_FORGOTTEN: u32 = 4;

/// All configured dialers. Cheap to clone; every clone sees the same state.
#[derive(Clone, Debug, Default)]
pub struct Fleet(Arc<Mutex<Vec<Member>>>);

#[derive(Debug)]
struct Member {
    dialer: Dialer,
    drained: Option<Drained>,
    stated: Option<StatedAvailability>,
    breaker: Breaker,
}

#[derive(Clone, Debug)]
struct StatedAvailability {
    availability: Availability,
    at: Instant,
}

/// A dialer changed its state: `closed` (well), `unavailable`, `open` (its requests fail) or `drained`. The word may stay
/// the same where something changed behind it that a restart has to know: an open circuit whose credentials are now refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChange {
    pub service: String,
    pub from: &'static str,
    pub to: &'static str,
    pub cause: String,
    /// What of the new state has to outlive the process.
    pub standing: PersistedState,
}

impl HealthChange {
    pub fn into_event(self) -> Event {
        Event::HealthChanged {
            service: self.service,
            from: self.from.to_owned(),
            to: self.to.to_owned(),
            cause: self.cause,
            standing: self.standing,
        }
    }
}

/// The state of one dialer, for people.
#[derive(Clone, Debug)]
pub struct DialerStatus {
    pub dialer: Dialer,
    /// What a decision sees of it.
    pub view: DialerView,
    /// Who took it out, where somebody did.
    pub drained: Option<Drained>,
    /// For how long its circuit has been open, and why.
    pub open_for: Option<(Duration, String)>,
    /// The credentials, where it refuses them.
    pub refused: Option<CredentialRefusal>,
}

/// What a dialer is to be asked now by whoever probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeTurn {
    /// How it is, at its own pace.
    AtItsPace,
    /// Whether it accepts the credentials that it refused: [`Fleet::report_try`] has to follow.
    Try,
    /// Nothing: refused credentials have to wait.
    Pause,
}

impl Fleet {
    /// All `dialers` in good health, in this order.
    pub fn new(dialers: Vec<Dialer>) -> Self {
        let members: Vec<Member> = dialers.into_iter().map(Member::new).collect();
        members.iter().for_each(Member::show);
        Self(Arc::new(Mutex::new(members)))
    }

    /// What a decision sees of every dialer.
    pub fn views(&self, now: Instant) -> Vec<DialerView> {
        self.lock().iter().map(|member| member.view(now)).collect()
    }

    /// The state of every dialer, for people.
    pub fn statuses(&self, now: Instant) -> Vec<DialerStatus> {
        self.lock()
            .iter()
            .map(|member| member.status(now))
            .collect()
    }

    /// A dialer by its name.
    pub fn get(&self, id: &DialerId) -> Option<Dialer> {
        self.with(id, |member| member.dialer.clone())
    }

    pub fn dialers(&self) -> Vec<Dialer> {
        self.lock()
            .iter()
            .map(|member| member.dialer.clone())
            .collect()
    }

    /// Whether a request may be sent to it now. Takes the one trial of a half-open circuit: [`Fleet::report`] has to follow.
    pub fn admit(&self, id: &DialerId, now: Instant) -> bool {
        self.with(id, |member| {
            member.drained.is_none() && member.breaker.admit(now)
        })
        .unwrap_or(false)
    }

    /// Whether it limits our requests and is otherwise well: its line can ring without the handoff.
    pub fn limits_requests(&self, id: &DialerId) -> bool {
        self.with(id, |member| member.breaker.limits_requests())
            .unwrap_or(false)
    }

    /// Whether it limits our requests and none may be sent now, not even on trial.
    pub fn may_not_be_asked(&self, id: &DialerId, now: Instant) -> bool {
        self.with(id, |member| {
            let breaker = &member.breaker;
            breaker.limits_requests() && breaker.view(now) == BreakerView::Open
        })
        .unwrap_or(false)
    }

    /// Learns from the outcome of a request.
    pub fn report(&self, id: &DialerId, outcome: &Outcome, now: Instant) -> Option<HealthChange> {
        let cause = cause_of(outcome);
        self.change(id, &cause, |member| {
            let signal = signal_of(outcome, member.dialer.settings().open_for);
            member.breaker.request_ended(signal, now);
        })
    }

    pub fn report_probe(&self, id: &DialerId, probe: &Probe, now: Instant) -> Option<HealthChange> {
        self.change(id, &cause_of_probe(probe), |member| {
            let signal = signal_of_probe(probe, &member.dialer);
            member.breaker.probe_ended(signal, now);
            member.keep_availability(probe, now);
        })
    }

    /// What to ask a dialer now. Takes the try of refused credentials where there is one to take.
    pub fn probe_turn(&self, id: &DialerId, now: Instant) -> ProbeTurn {
        self.with(id, |member| {
            if member.breaker.refused().is_none() {
                return ProbeTurn::AtItsPace;
            }
            if member.breaker.take_try(now) {
                ProbeTurn::Try
            } else {
                ProbeTurn::Pause
            }
        })
        .unwrap_or(ProbeTurn::Pause)
    }

    /// Learns from a probe that tried refused credentials. `by`: who asked for it, where somebody did.
    pub fn report_try(
        &self,
        dialer: &Dialer,
        probe: &Probe,
        by: Option<&str>,
        now: Instant,
    ) -> Option<HealthChange> {
        let found = cause_of_probe(probe);
        let cause = by.map_or_else(|| found.clone(), |by| format!("tried by {by}: {found}"));
        self.change(dialer.id(), &cause, |member| {
            if member.dialer.fingerprint() == dialer.fingerprint() {
                member.breaker.tried(signal_of_probe(probe, dialer), now);
                member.keep_availability(probe, now);
            }
        })
    }

    /// Lets refused credentials be tried now.
    pub fn try_now(&self, id: &DialerId, now: Instant) {
        self.with(id, |member| member.breaker.try_now(now));
    }

    /// A test, made by somebody, has found the credentials of this dialer accepted.
    pub fn proven(&self, dialer: &Dialer, by: &str) -> Option<HealthChange> {
        self.change(dialer.id(), &format!("tested by {by}"), |member| {
            if member.dialer.fingerprint() == dialer.fingerprint() {
                member.breaker.proven();
            }
        })
    }

    /// Takes a dialer out by hand. Calls that it has already are not touched. One that is out gets the reason and the end that are given now,
    /// where any is.
    pub fn drain(&self, id: &DialerId, out: &Drained) -> Option<HealthChange> {
        self.change(id, &out.cause(), |member| {
            let says_more = out.reason.is_some() || out.until.is_some();
            member.drained = Some(match member.drained.take() {
                Some(known) if says_more => Drained {
                    since: known.since,
                    ..out.clone()
                },
                known => known.unwrap_or_else(|| out.clone()),
            });
        })
    }

    /// Puts a dialer back. Credentials that it refuses are tried at once.
    pub fn resume(&self, id: &DialerId, by: &str) -> Option<HealthChange> {
        self.change(id, &format!("put back by {by}"), |member| {
            member.drained = None;
            let now = member.dialer.clock().instant();
            member.breaker.try_now(now);
        })
    }

    /// Puts other dialers in place, as after a reload. One that keeps its name keeps its state, unless its settings disprove it: changed
    /// credentials close a circuit that refused ones had opened, and another kind of dialer starts afresh. Credentials that are refused and the
    /// same as before are tried at once.
    pub fn replace(&self, dialers: Vec<Dialer>) -> Vec<HealthChange> {
        let mut members = self.lock();
        let mut before = std::mem::take(&mut *members);
        let mut changes = Vec::new();
        for dialer in dialers {
            let place = before.iter().position(|m| m.dialer.id() == dialer.id());
            let member = match place.map(|i| before.swap_remove(i)) {
                None => Member::new(dialer),
                Some(known) => {
                    let from = known.announced();
                    let member = known.with_settings_of(dialer);
                    changes.extend(member.changed_from(&from, "its settings changed"));
                    member
                }
            };
            member.show();
            members.push(member);
        }
        changes
    }

    /// Takes up what an earlier run left. A drained dialer stays drained; an open circuit stays open for the rest of its time and
    /// then lets one trial through; refused credentials are tried when that run would have tried them. What a dialer says of its availability
    /// is old by now. The changes that come of this are those in which the state differs from the one that was recorded.
    pub fn restore(
        &self,
        left: &[ServiceState],
        now: Instant,
        wall: Timestamp,
    ) -> Vec<HealthChange> {
        let mut members = self.lock();
        let mut changes = Vec::new();
        for member in members.iter_mut() {
            let mut of_this = left
                .iter()
                .filter(|l| l.service == member.dialer.id().as_str());
            if let Some(left) = of_this.next() {
                changes.extend(member.restore(left, now, wall));
                member.show();
            }
        }
        changes
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Member>> {
        // Nothing under this lock leaves a member half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, id: &DialerId, act: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let mut members = self.lock();
        members.iter_mut().find(|m| m.dialer.id() == id).map(act)
    }

    fn change(
        &self,
        id: &DialerId,
        cause: &str,
        act: impl FnOnce(&mut Member),
    ) -> Option<HealthChange> {
        self.with(id, |member| {
            let from = member.announced();
            act(member);
            let change = member.changed_from(&from, cause);
            if change.is_some() {
                member.show();
            }
            change
        })
        .flatten()
    }
}

impl Member {
    fn new(dialer: Dialer) -> Self {
        let breaker = Breaker::new(policy(&dialer));
        Self {
            dialer,
            drained: None,
            stated: None,
            breaker,
        }
    }

    fn with_settings_of(mut self, dialer: Dialer) -> Self {
        if self.dialer.kind() != dialer.kind() {
            return Self {
                drained: self.drained,
                ..Self::new(dialer)
            };
        }
        if self.dialer.settings().api == dialer.settings().api {
            self.breaker.try_now(dialer.clock().instant());
        } else {
            self.breaker.credentials_changed();
        }
        self.breaker.set_policy(policy(&dialer));
        self.dialer = dialer;
        self
    }

    fn view(&self, now: Instant) -> DialerView {
        DialerView {
            drained: self.drained.is_some(),
            breaker: self.breaker.view(now),
            availability: self.availability(now),
            line_only: self.breaker.limits_requests(),
            ..DialerView::well(self.dialer.id().clone())
        }
    }

    fn availability(&self, now: Instant) -> Availability {
        let lasts = self.dialer.probe_every() * PROBES_UNTIL_FORGOTTEN;
        self.stated
            .as_ref()
            .filter(|stated| now.saturating_duration_since(stated.at) <= lasts)
            .map_or(Availability::Unknown, |stated| stated.availability.clone())
    }

    fn status(&self, now: Instant) -> DialerStatus {
        DialerStatus {
            dialer: self.dialer.clone(),
            view: self.view(now),
            drained: self.drained.clone(),
            open_for: self.breaker.opened().map(|opened| {
                let open_for = now.saturating_duration_since(opened.since);
                (open_for, opened.why.clone())
            }),
            refused: self
                .breaker
                .refused()
                .map(|(opened, count)| CredentialRefusal {
                    credential: self.dialer.credential(),
                    why: opened.why.clone(),
                    count,
                    next_try: opened.until,
                    tried_by: opened.tried_by,
                }),
        }
    }

    fn keep_availability(&mut self, probe: &Probe, now: Instant) {
        self.stated = Some(StatedAvailability {
            availability: probe.availability.clone(),
            at: now,
        });
    }

    /// The state to announce, in one word.
    fn state(&self) -> &'static str {
        let unavailable = self
            .stated
            .as_ref()
            .is_some_and(|stated| matches!(stated.availability, Availability::Unavailable { .. }));
        if self.drained.is_some() {
            "drained"
        } else if self.breaker.opened().is_some() {
            "open"
        } else if unavailable {
            "unavailable"
        } else {
            "closed"
        }
    }

    /// What is worth a record when it changes.
    fn announced(&self) -> AnnouncedState {
        AnnouncedState {
            word: self.state(),
            drained: self.drained.clone(),
            refusals: self.breaker.refused().map(|(_, count)| count),
        }
    }

    fn changed_from(&self, from: &AnnouncedState, cause: &str) -> Option<HealthChange> {
        let to = self.announced();
        (*from != to).then(|| self.change(from.word, cause))
    }

    fn change(&self, from: &'static str, cause: &str) -> HealthChange {
        HealthChange {
            service: self.dialer.id().to_string(),
            from,
            to: self.state(),
            cause: cause.to_owned(),
            standing: self.persisted_state(),
        }
    }

    fn persisted_state(&self) -> PersistedState {
        let at = |instant| self.dialer.clock().time_of(instant);
        PersistedState {
            drained: self.drained.clone(),
            open: self.breaker.opened().map(|opened| OpenCircuit {
                cause: opened.cause,
                why: opened.why.clone(),
                since: at(opened.since),
                until: Some(at(opened.until)),
                refusals: self.breaker.refused().map_or(0, |(_, count)| count),
                credentials: self.dialer.fingerprint().clone(),
            }),
        }
    }

    fn restore(
        &mut self,
        left: &ServiceState,
        now: Instant,
        wall: Timestamp,
    ) -> Option<HealthChange> {
        let PersistedState { drained, open } = &left.standing;
        self.drained.clone_from(drained);
        let mut cause = "the process was started again";
        if let Some(open) = open {
            if open.cause.is_refused() && open.credentials != *self.dialer.fingerprint() {
                cause = "its credentials changed";
            } else {
                let times = open.elapsed_and_rest(wall);
                let cause = (open.cause, open.why.clone());
                self.breaker.restore(cause, times, open.refusals, now);
            }
        }
        let from = word(&left.state);
        (from != self.state()).then(|| self.change(from, cause))
    }

    fn show(&self) {
        let open = f64::from(u8::from(self.breaker.opened().is_some()));
        metrics::gauge!("switchboard_dialer_breaker_open", "dialer" => self.dialer.id().to_string())
            .set(open);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AnnouncedState {
    word: &'static str,
    drained: Option<Drained>,
    refusals: Option<u32>,
}

fn policy(dialer: &Dialer) -> BreakerPolicy {
    BreakerPolicy {
        open_for: dialer.settings().open_for,
        trial_lease: dialer.timeout() + TRIAL_GRACE,
        try_lease: PROBE_TIMEOUT + TRIAL_GRACE,
        tried_by: if dialer.probes_credentials() {
            TriedBy::Probe
        } else {
            TriedBy::Request
        },
        opens_by_share: false,
        probes_apart: true,
    }
}

fn word(state: &str) -> &'static str {
    ["drained", "open", "unavailable"]
        .into_iter()
        .find(|word| *word == state)
        .unwrap_or("closed")
}

fn cause_of_probe(probe: &Probe) -> String {
    match (&probe.health, &probe.availability) {
        (ProbeHealth::Failing { why, .. } | ProbeHealth::Unknown { why }, _)
        | (ProbeHealth::Healthy, Availability::Unavailable { why }) => why.clone(),
        (ProbeHealth::Healthy, _) => "the probe succeeded".to_owned(),
    }
}

fn cause_of(outcome: &Outcome) -> String {
    outcome
        .failure()
        .map_or_else(|| "a handoff succeeded".to_owned(), |f| f.to_string())
}

/// A dialer that answers is healthy, even where it refuses this request. The Retry-After of a failing one counts where it is longer than a circuit stays
/// open anyway: a single 503 with a second must not take it out.
fn signal_of(outcome: &Outcome, open_for: Duration) -> HealthSignal {
    let Some(failure) = outcome.failure() else {
        return HealthSignal::Healthy;
    };
    let why = failure.to_string();
    let after = outcome.retry_after().unwrap_or_default();
    match failure.kind {
        FailureKind::Unauthorized => HealthSignal::Unauthorized(why),
        FailureKind::RateLimited if !after.is_zero() => HealthSignal::RateLimited(after, why),
        FailureKind::ServerError if failure.is_of_one_request() => HealthSignal::Healthy,
        FailureKind::ServerError if after > open_for => HealthSignal::BackOff(after, why),
        FailureKind::Connect
        | FailureKind::Timeout
        | FailureKind::Reset
        | FailureKind::ServerError => HealthSignal::Failing(why),
        FailureKind::Rejected => HealthSignal::Healthy,
        FailureKind::RateLimited
        | FailureKind::Malformed
        | FailureKind::BreakerOpen
        | FailureKind::NoTime
        | FailureKind::Interrupted => HealthSignal::Unknown,
    }
}

/// An address that is not sent the credentials of requests cannot refuse them.
fn signal_of_probe(probe: &Probe, dialer: &Dialer) -> HealthSignal {
    let ProbeHealth::Failing { failure, why } = &probe.health else {
        return match probe.health {
            ProbeHealth::Healthy => HealthSignal::Healthy,
            ProbeHealth::Unknown { .. } | ProbeHealth::Failing { .. } => HealthSignal::Unknown,
        };
    };
    match failure.kind {
        FailureKind::Unauthorized if dialer.probes_credentials() => {
            HealthSignal::Unauthorized(why.clone())
        }
        FailureKind::Unauthorized
        | FailureKind::Connect
        | FailureKind::Timeout
        | FailureKind::Reset
        | FailureKind::ServerError => HealthSignal::Failing(why.clone()),
        FailureKind::Rejected if dialer.fails_where_rejected() => {
            HealthSignal::Failing(why.clone())
        }
        FailureKind::Rejected
        | FailureKind::Malformed
        | FailureKind::RateLimited
        | FailureKind::BreakerOpen
        | FailureKind::NoTime
        | FailureKind::Interrupted => HealthSignal::Unknown,
    }
}

//! Whether routing is paused: no dialer takes calls. Somebody is told at once, and told when it is over.
//!
//! The record is the announcement: it is on disk before anything else is made of it, and whoever sends mail reads it there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::hand_off::{Handed, HandoffResult};
use super::record::Recorder;
use super::waiting::Waiting;
use crate::alert::{Incident, IncidentKind, Opened, Resolved};
use crate::audit::Record;
use crate::call::CallId;
use crate::clock::Clock;
use crate::dialer::Fleet;
use crate::handoff::Certainty;
use crate::routing::{self, DialerId, DialerView, Intake};

/// Opens and resolves incidents of the call path. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Incidents {
    clock: Clock,
    fleet: Fleet,
    waiting: Waiting,
    recorder: Recorder,
    all_dialers_down: Arc<Mutex<Incident>>,
}

impl Incidents {
    /// No incident is open.
    pub fn new(clock: Clock, fleet: Fleet, waiting: Waiting, recorder: Recorder) -> Self {
        show(false);
        let incident = Incident::none(IncidentKind::AllDialersDown);
        Self {
            clock,
            fleet,
            waiting,
            recorder,
            all_dialers_down: Arc::new(Mutex::new(incident)),
        }
    }

    /// An incident was open when the process ended, and still is.
    pub fn restore(&self, incident: Incident) {
        show(incident.is_open());
        *self.lock() = incident;
    }

    /// Whether no dialer takes calls, as far as is known.
    pub fn is_routing_paused(&self) -> bool {
        self.lock().is_open()
    }

    /// Learns from what a call came to that wanted one of these dialers and saw them so.
    pub(super) async fn learn(
        &self,
        call_id: &CallId,
        wanted: &[DialerId],
        views: &[DialerView],
        handed: &Handed,
    ) {
        match &handed.result {
            HandoffResult::Connect {
                dialer,
                certainty: Certainty::Confirmed,
                ..
            } => self.recovered(dialer).await,
            HandoffResult::GiveUp => self.nobody_took(call_id, wanted, views, handed).await,
            // An unconfirmed dialer proves nothing; a repeat was learned from before.
            HandoffResult::Connect { .. } | HandoffResult::Repeat => {}
        }
    }

    /// Learns what time has brought: circuits that let a trial through again, callers who are gone.
    pub fn look_around(&self, now: Instant) {
        self.waiting.observe(&self.fleet.views(now), now);
    }

    /// A probe found this dialer well. Where callers wait, they prove it within seconds; where nobody does, the probe's word is taken.
    pub async fn probed_well(&self, dialer: &DialerId) {
        if !self.is_routing_paused() || !self.waiting.is_empty() {
            return;
        }
        let views = self.fleet.views(self.clock.instant());
        let takes_calls =
            |view: &DialerView| view.dialer == *dialer && routing::intake(view) == Intake::Calls;
        if views.iter().any(takes_calls) {
            self.recovered(dialer).await;
        }
    }

    async fn nobody_took(
        &self,
        call_id: &CallId,
        wanted: &[DialerId],
        views: &[DialerView],
        handed: &Handed,
    ) {
        let is_new = !self.waiting.contains(call_id);
        let waiting = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        let affected = waiting.saturating_add(u64::from(is_new));
        let cause = || cause(wanted, views, handed);
        let opened = {
            let mut incident = self.lock();
            if incident.is_open() || is_their_turn_to_come(wanted, views) {
                if is_new {
                    incident.affect_another();
                }
                return;
            }
            incident.strike(wanted, cause, affected, self.clock.now())
        };
        if let Some(opened) = opened {
            self.announce_opened(opened).await;
        }
    }

    async fn recovered(&self, dialer: &DialerId) {
        let resolved = self.lock().recovered(dialer, self.clock.now());
        if let Some(resolved) = resolved {
            self.announce_resolved(resolved, dialer).await;
        }
    }

    async fn announce_opened(&self, opened: Opened) {
        show(true);
        tracing::error!(
            event = "alert.opened",
            kind = opened.kind.as_str(),
            cause = opened.cause,
            "no dialer takes calls: routing is paused, callers are held"
        );
        let record = Record::of_service(self.clock.now(), opened.into());
        self.recorder.note(record).await;
    }

    async fn announce_resolved(&self, resolved: Resolved, dialer: &DialerId) {
        show(false);
        tracing::info!(
            event = "alert.resolved",
            kind = resolved.kind.as_str(),
            dialer = dialer.as_str(),
            lasted_ms = u64::try_from(resolved.lasted.as_millis()).unwrap_or(u64::MAX),
            calls = resolved.calls,
            "a dialer takes calls again: routing goes on"
        );
        let record = Record::of_service(self.clock.now(), resolved.into());
        self.recorder.note(record).await;
    }

    fn lock(&self) -> MutexGuard<'_, Incident> {
        self.all_dialers_down
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn show(paused: bool) {
    metrics::gauge!("switchboard_routing_paused").set(f64::from(u8::from(paused)));
}

/// A dialer takes calls, and others who wait for it come first: nothing is wrong.
fn is_their_turn_to_come(wanted: &[DialerId], views: &[DialerView]) -> bool {
    views
        .iter()
        .any(|view| view.callers_first.is_some() && wanted.contains(&view.dialer))
}

/// Why each of the dialers did not take the call, in words.
fn cause(wanted: &[DialerId], views: &[DialerView], handed: &Handed) -> String {
    let why = |dialer: &DialerId| {
        let refusal = handed.refusals.iter().find(|(who, _)| who == dialer);
        let view = views.iter().find(|view| view.dialer == *dialer);
        let why = match (refusal, view.and_then(routing::why_not)) {
            (Some((_, failure)), _) => failure.to_string(),
            (None, Some(why)) => why,
            (None, None) => "not configured".to_owned(),
        };
        format!("{dialer}: {why}")
    };
    let causes: Vec<_> = wanted.iter().map(why).collect();
    causes.join("; ")
}

//! Requests under way, at most one per number.
//!
//! Whoever asks first gets a ticket; the others join and wait. A ticket that is dropped unused (its worker stopped, its
//! caller hung up) says so to all who wait, gives a breaker's trial back and makes room for the next.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::admission::{Admission, LookupPurpose};
use crate::audit::Exchange;
use crate::phone::E164;
use crate::routing::{LookupUnavailable, Profile};

#[derive(Clone, Debug)]
pub(super) struct Landing {
    pub(super) outcome: Result<ProfileAnswer, LookupUnavailable>,
    pub(super) exchange: Exchange,
}

/// What Braze knows of the number.
#[derive(Clone, Debug, Default)]
pub(super) struct ProfileAnswer {
    /// `None` where it has no profile.
    pub(super) profile: Option<Profile>,
    pub(super) external_id: Option<String>,
}

#[derive(Clone, Debug)]
enum FlightStage {
    UnderWay,
    Landed(Arc<Landing>),
    Abandoned,
}

#[derive(Debug)]
pub(super) struct Flight {
    stage: watch::Sender<FlightStage>,
    superseded: AtomicBool,
}

impl Flight {
    /// Waits for what the request brings; `None` where it was given up.
    pub(super) async fn landed(&self) -> Option<Arc<Landing>> {
        let mut stage = self.stage.subscribe();
        let ended = stage
            .wait_for(|stage| !matches!(stage, FlightStage::UnderWay))
            .await
            .ok()?;
        match &*ended {
            FlightStage::Landed(landing) => Some(Arc::clone(landing)),
            FlightStage::UnderWay | FlightStage::Abandoned => None,
        }
    }

    /// The profile changed after the request was sent: its answer must not be kept.
    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::SeqCst)
    }
}

/// The admission and all requests under way, behind one lock, so that no request is admitted for a number that is asked already.
#[derive(Debug)]
pub(super) struct Desk(Mutex<Open>);

#[derive(Debug)]
pub(super) struct Open {
    pub(super) admission: Admission,
    flights: HashMap<E164, Arc<Flight>>,
}

/// How somebody who asks gets the answer.
pub(super) enum Boarding {
    /// By waiting for a request that is under way.
    Joined(Arc<Flight>),
    /// By a request of their own.
    Leads(Ticket),
}

impl Desk {
    pub(super) fn new(admission: Admission) -> Self {
        Self(Mutex::new(Open {
            admission,
            flights: HashMap::new(),
        }))
    }

    pub(super) fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn board(
        self: &Arc<Self>,
        phone: &E164,
        now: Instant,
        purpose: LookupPurpose,
    ) -> Result<Boarding, LookupUnavailable> {
        let mut open = self.open();
        if let Some(flight) = open.flights.get(phone) {
            return Ok(Boarding::Joined(Arc::clone(flight)));
        }
        open.admission.admit(now, purpose)?;
        let flight = Arc::new(Flight {
            stage: watch::Sender::new(FlightStage::UnderWay),
            superseded: AtomicBool::new(false),
        });
        open.flights.insert(phone.clone(), Arc::clone(&flight));
        Ok(Boarding::Leads(Ticket {
            phone: phone.clone(),
            asked_at: now,
            flight,
            desk: Arc::clone(self),
            is_used: false,
        }))
    }

    /// The profile has changed: what is under way for it is out of date.
    pub(super) fn supersede(&self, phone: &E164) {
        if let Some(flight) = self.open().flights.get(phone) {
            flight.superseded.store(true, Ordering::SeqCst);
        }
    }

    /// Everything under way is out of date.
    pub(super) fn supersede_all(&self) {
        for flight in self.open().flights.values() {
            flight.superseded.store(true, Ordering::SeqCst);
        }
    }
}

/// The right, and the duty, to send one request.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) phone: E164,
    pub(super) asked_at: Instant,
    pub(super) flight: Arc<Flight>,
    desk: Arc<Desk>,
    is_used: bool,
}

impl Ticket {
    pub(super) fn land(mut self, landing: Landing) {
        self.is_used = true;
        self.leave();
        self.flight
            .stage
            .send_replace(FlightStage::Landed(Arc::new(landing)));
    }

    fn leave(&self) {
        self.desk.open().flights.remove(&self.phone);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_used {
            self.desk.open().admission.abandoned();
            self.leave();
            self.flight.stage.send_replace(FlightStage::Abandoned);
        }
    }
}

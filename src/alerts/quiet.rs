//! What people do about incidents: acknowledging one, muting some, ending a mute. Each is recorded with who did it.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::SignedDuration;

use super::incidents::Incidents;
use super::mutes::{Acknowledgement, Mute, NewMute, PLANNED_AHEAD};
use super::notification::EventType;
use super::tracker::IncidentStatus;
use crate::audit::{Event, Kind};
use crate::routing::DialerId;
use crate::store::{Part, RecordsAsked, Store, StoreError};

/// Records of mutes that a start reads: more than can be in force.
const RECORDS: u32 = 5_000;

impl Incidents {
    /// How an open incident is; since when nothing is wrong any more, and when it is resolved if that stays so. `None` where it is over, or there is
    /// none of this name.
    pub fn open_one(&self, id: &str) -> Option<(IncidentStatus, Option<(Instant, Instant)>)> {
        let tracker = &self.state().tracker;
        let found = tracker.open_ones().find(|(one, _)| one.id == id);
        found.map(|(one, recovered)| (one.clone(), recovered))
    }

    /// Somebody works on an open incident: nobody is reminded of it any more. Who said so first is kept. False where it is not open.
    pub async fn acknowledge(&self, id: &str, by: &str) -> bool {
        let now = self.moment();
        let acknowledged = Acknowledgement {
            by: by.to_owned(),
            at: now.at,
        };
        let found = self.state().tracker.acknowledge(id, acknowledged, now);
        if let Some(Some(mut notification)) = found.clone() {
            tracing::info!(
                event = "alert.acknowledged",
                incident = id,
                by,
                "somebody works on it"
            );
            if !notification.quiet {
                notification.tell = self.pagers();
            }
            let (name, tell) = (notification.id.clone(), notification.tell.clone());
            let event = Event::IncidentAcknowledged {
                by: by.to_owned(),
                notification: Box::new(notification),
            };
            let occasion = EventType::Acknowledged;
            self.outbox().write(occasion, &name, tell, event).await;
        }
        found.is_some()
    }

    /// The mutes that are in force or planned, by when they begin.
    pub fn mutes(&self) -> Vec<Mute> {
        let mut mutes = self.state().tracker.mutes(self.clock().now()).clone();
        mutes.sort_by_key(|mute| mute.from);
        mutes
    }

    /// Makes a mute; otherwise says what is wrong.
    pub async fn mute(&self, new: NewMute, by: &str) -> Result<Mute, &'static str> {
        let dialer = new.dialer.as_deref().map(DialerId::new);
        if dialer.is_some_and(|dialer| self.fleet.get(&dialer).is_none()) {
            return Err("there is no dialer of this name");
        }
        let made = {
            let now = self.clock().now();
            let mut state = self.state();
            let mutes = state.tracker.mutes(now);
            let made = new.made(by, now, mutes)?;
            mutes.push(made.clone());
            made
        };
        tracing::warn!(event = "alert.muted", mute = made.id, by, until = %made.until, "alerts are muted");
        let event = Event::AlertsMuted(Box::new(made.clone()));
        self.outbox().record(event).await;
        Ok(made)
    }

    /// Ends a mute before its time. False where there is none of this name, or it is over.
    pub async fn unmute(&self, id: &str, by: &str) -> bool {
        let now = self.clock().now();
        let ended = {
            let mut state = self.state();
            let mutes = state.tracker.mutes(now);
            let place = mutes.iter().position(|mute| mute.id == id);
            place.map(|place| mutes.remove(place))
        };
        let Some(mut ended) = ended.map(Box::new) else {
            return false;
        };
        tracing::warn!(event = "alert.unmuted", mute = id, by, "a mute was ended");
        (ended.until, ended.ended_by) = (now, Some(by.to_owned()));
        self.outbox().record(Event::AlertsMuted(ended)).await;
        true
    }

    /// Takes up the mutes of before the start, which stand in the log.
    pub(super) async fn restore_mutes(&self, store: &Store) -> Result<(), StoreError> {
        let now = self.clock().now();
        let asked = RecordsAsked {
            kind: Some(Kind::AlertsMuted),
            from: now
                .checked_sub(PLANNED_AHEAD + SignedDuration::from_hours(24))
                .ok(),
            ..RecordsAsked::default()
        };
        let all = Part {
            after: None,
            skip: 0,
            size: RECORDS,
        };
        let mut known = BTreeMap::<String, Mute>::new();
        // The newest first: what was said last of a mute is what holds.
        for record in store.records_page(asked, all).await?.rows {
            if let Ok(mute) = serde_json::from_str::<Mute>(&record.detail) {
                known.entry(mute.id.clone()).or_insert(mute);
            }
        }
        *self.state().tracker.mutes(now) = known.into_values().collect();
        Ok(())
    }
}

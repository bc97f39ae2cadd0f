//! What people do about incidents: acknowledging one, muting some, ending a mute. Each is recorded with who did it.

use jiff::{SignedDuration, Timestamp};

use super::incidents::Incidents;
use super::mutes::{Acknowledgement, Mute, MuteError, NewMute, PLANNED_AHEAD};
use super::tracker::LiveIncident;
use crate::audit::{Event, Kind};
use crate::store::{Part, RecordsAsked, Store, StoreError};

/// Records of mutes that a start reads: more than can be in force.
const RECORDS: u32 = 5_000;

impl Incidents {
    /// How an open incident is now; `None` where it is over, or there is none of this name.
    pub fn live(&self, id: &str) -> Option<LiveIncident> {
        let state = self.state();
        let mut live = state.tracker.live();
        live.find(|(known, _)| *known == id).map(|(_, live)| live)
    }

    /// Somebody works on an open incident: nobody is reminded of it any more. Who said so first is kept. False where it is not open.
    pub async fn acknowledge(&self, id: &str, by: &str) -> bool {
        let acknowledgement = Acknowledgement {
            by: by.to_owned(),
            at: self.clock().now(),
        };
        let is_first = {
            let tracker = &mut self.state().tracker;
            let kept = tracker.acknowledge(id, acknowledgement.clone());
            kept.map(|kept| *kept == acknowledgement)
        };
        if is_first == Some(true) {
            tracing::info!(
                event = "alert.acknowledged",
                incident = id,
                by,
                "somebody works on an incident"
            );
            let (incident, by) = (id.to_owned(), acknowledgement.by);
            let event = Event::IncidentAcknowledged { incident, by };
            self.outbox().record(event).await;
        }
        is_first.is_some()
    }

    /// The mutes that are in force or planned, by when they begin.
    pub fn mutes(&self) -> Vec<Mute> {
        let now = self.clock().now();
        let mut mutes = self.state().tracker.mutes().to_vec();
        mutes.retain(|mute| mute.until > now);
        mutes.sort_by_key(|mute| mute.from);
        mutes
    }

    /// Makes a mute.
    pub async fn mute(&self, new: NewMute, by: &str) -> Result<Mute, MuteError> {
        let made = {
            let now = self.clock().now();
            let tracker = &mut self.state().tracker;
            let mut mutes = tracker.mutes().to_vec();
            mutes.retain(|mute| mute.until > now);
            let made = new.made(by, now, &mutes)?;
            mutes.push(made.clone());
            tracker.set_mutes(mutes);
            made
        };
        tracing::warn!(event = "alert.muted", mute = made.id, by, until = %made.until, "alerts are muted");
        self.outbox()
            .record(Event::AlertsMuted(Box::new(made.clone())))
            .await;
        Ok(made)
    }

    /// Ends a mute before its time.
    pub async fn unmute(&self, id: &str, by: &str) -> Result<(), MuteError> {
        {
            let now = self.clock().now();
            let tracker = &mut self.state().tracker;
            let mut mutes = tracker.mutes().to_vec();
            mutes.retain(|mute| mute.until > now);
            let known = mutes.len();
            mutes.retain(|mute| mute.id != id);
            if mutes.len() == known {
                return Err(MuteError::Unknown);
            }
            tracker.set_mutes(mutes);
        }
        tracing::warn!(event = "alert.unmuted", mute = id, by, "a mute was ended");
        let (mute, by) = (id.to_owned(), by.to_owned());
        self.outbox().record(Event::MuteEnded { mute, by }).await;
        Ok(())
    }

    /// Takes up the mutes of before the start, which stand in the log.
    pub(super) async fn restore_mutes(&self, store: &Store) -> Result<(), StoreError> {
        let now = self.clock().now();
        let back = PLANNED_AHEAD + SignedDuration::from_hours(24);
        let since = now.checked_sub(back).ok();
        let made: Vec<Mute> = recorded(store, Kind::AlertsMuted, since).await?;
        let ended: Vec<EndedMute> = recorded(store, Kind::MuteEnded, since).await?;
        let is_ended = |mute: &Mute| ended.iter().any(|one| one.mute == mute.id);
        let in_force = made
            .into_iter()
            .filter(|mute| mute.until > now && !is_ended(mute));
        self.state().tracker.set_mutes(in_force.collect());
        Ok(())
    }
}

/// The payload of [`Event::MuteEnded`], as far as it is needed.
#[derive(serde::Deserialize)]
struct EndedMute {
    mute: String,
}

async fn recorded<T: serde::de::DeserializeOwned>(
    store: &Store,
    kind: Kind,
    from: Option<Timestamp>,
) -> Result<Vec<T>, StoreError> {
    let asked = RecordsAsked {
        kind: Some(kind),
        from,
        ..RecordsAsked::default()
    };
    let part = Part {
        after: None,
        skip: 0,
        size: RECORDS,
    };
    let found = store.records_page(asked, part).await?.rows.into_iter();
    let read = |detail: String| serde_json::from_str(&detail).ok();
    Ok(found.filter_map(|record| read(record.detail)).collect())
}

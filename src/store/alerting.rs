//! What the alerts ask the store and have it keep.

use std::collections::BTreeMap;
use std::fs;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

use super::calls::{self, StoredCall};
use super::error::StoreError;
use super::handle::Store;
use super::incidents::{self, StoredIncident};
use super::outbox::{self, Attempted, StoredMessage};
use super::pages::{Part, Rows};
use super::service_starts;
use super::work::{AlertChange, Work};
use crate::alerts::{Channel, DiskRoom, IncidentStatus};

/// Calls of a time that are counted by number, at most.
const CALLS_COUNTED: u32 = 50_000;

/// An incident with the messages that were sent about it.
pub type IncidentWithMessages = (StoredIncident, Vec<StoredMessage>);

impl Store {
    /// The incidents that are open, oldest first.
    pub async fn open_incidents(&self) -> Result<Vec<IncidentStatus>, StoreError> {
        self.ask(|reader| {
            let open = incidents::list(reader, true, None, 1_000, 0)?;
            Ok(open.into_iter().rev().map(|one| one.status).collect())
        })
        .await
    }

    /// A page of incidents, newest first, each with its messages. With `open`, only those that are open.
    pub async fn incidents(
        &self,
        open: bool,
        part: Part<i64>,
    ) -> Result<Rows<IncidentWithMessages, i64>, StoreError> {
        self.ask(move |reader| {
            let mut listed = incidents::list(reader, open, part.after, part.size + 1, part.skip)?;
            let size = usize::try_from(part.size).unwrap_or(usize::MAX);
            let is_more = listed.len() > size;
            listed.truncate(size);
            let next = listed.last().map(|incident| incident.row);
            let with_messages = listed.into_iter().map(|incident| {
                let messages = outbox::of_incident(reader, incident.row)?;
                Ok((incident, messages))
            });
            Ok(Rows {
                rows: with_messages.collect::<Result<_, StoreError>>()?,
                total: incidents::count_all(reader, open)?,
                total_is_exact: true,
                next: next.filter(|_| is_more),
            })
        })
        .await
    }

    /// The incident of this name with its messages; `None` where there is none.
    pub async fn incident(&self, name: &str) -> Result<Option<IncidentWithMessages>, StoreError> {
        let name = name.to_owned();
        self.ask(move |reader| {
            let Some(incident) = incidents::named(reader, &name)? else {
                return Ok(None);
            };
            let messages = outbox::of_incident(reader, incident.row)?;
            Ok(Some((incident, messages)))
        })
        .await
    }

    /// The messages of one way that wait, oldest first.
    pub async fn waiting_messages(
        &self,
        channel: Channel,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.ask(move |reader| outbox::waiting(reader, channel, limit))
            .await
    }

    /// The messages of one notice.
    pub async fn messages_of(&self, notice: &str) -> Result<Vec<StoredMessage>, StoreError> {
        let notice = notice.to_owned();
        self.ask(move |reader| outbox::of_notice(reader, &notice))
            .await
    }

    /// How many messages wait, and how many are dead.
    pub async fn count_messages(&self) -> Result<(i64, i64), StoreError> {
        self.ask(|reader| Ok(outbox::counts(reader)?)).await
    }

    /// Keeps what became of attempts to send.
    pub async fn attempted(&self, attempted: Vec<Attempted>) -> Result<(), StoreError> {
        let changes = attempted.into_iter().map(AlertChange::Attempted);
        self.change_alerts(changes.collect()).await
    }

    /// Keeps how many calls the open incidents affect.
    pub async fn count_incident_calls(
        &self,
        status: Vec<IncidentStatus>,
    ) -> Result<(), StoreError> {
        let changes = status.into_iter().map(|s| AlertChange::Calls(Box::new(s)));
        self.change_alerts(changes.collect()).await
    }

    async fn change_alerts(&self, changes: Vec<AlertChange>) -> Result<(), StoreError> {
        let now = self.clock().now().as_millisecond();
        self.submit(Work::ChangeAlerts { changes, now })
            .await
            .map(drop)
    }

    /// How often the process started from one time to another, both included. Starts of a time that is yet to come, because the clock was set
    /// back, do not count.
    pub async fn starts_between(&self, from: Timestamp, to: Timestamp) -> Result<u32, StoreError> {
        let bounds = [from, to].map(Timestamp::as_millisecond);
        self.ask(move |reader| Ok(service_starts::between(reader, bounds)?))
            .await
    }

    /// The calls that arrived or moved on since then, oldest first: what a restart has to know of the last minutes.
    pub async fn calls_since(
        &self,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<StoredCall>, StoreError> {
        self.ask(move |reader| calls::since(reader, since, limit))
            .await
    }

    /// On how many of the last seven days somebody called within the hour before this time of day, and whether one of them lies a week
    /// back; the inner `None`: the log does not reach back a week.
    pub async fn same_hour_of_other_days(
        &self,
        now: Timestamp,
    ) -> Result<(u32, Option<bool>), StoreError> {
        self.ask(move |reader| Ok(same_hour(reader, now)?)).await
    }

    /// How many calls came from one time to another, its end left out, for each number that was called; of very many, the first are counted.
    pub async fn calls_by_number(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<BTreeMap<String, u32>, StoreError> {
        let bounds = [from, to].map(Timestamp::as_millisecond);
        self.ask(move |reader| {
            let mut counts = BTreeMap::new();
            for number in calls::called_between(reader, bounds, CALLS_COUNTED)? {
                *counts.entry(number).or_default() += 1;
            }
            Ok(counts)
        })
        .await
    }

    /// The size of the write-ahead log, in bytes; `None` where the system does not say.
    pub fn wal_bytes(&self) -> Option<u64> {
        match fs::metadata(&self.0.wal) {
            Ok(metadata) => Some(metadata.len()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(0),
            Err(_) => None,
        }
    }

    /// The room on the disk of the database. Asks the file system, which may hang.
    pub async fn disk_room(&self) -> Option<DiskRoom> {
        let path = self.path().to_owned();
        let asked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&path).ok());
        let found = asked.await.ok().flatten()?;
        Some(DiskRoom {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }
}

fn same_hour(connection: &Connection, now: Timestamp) -> rusqlite::Result<(u32, Option<bool>)> {
    let hour = SignedDuration::from_hours(1).as_millis();
    let now = i128::from(now.as_millisecond());
    let mut called = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM calls INDEXED BY idx_calls_started_at
         WHERE started_at > ?1 AND started_at <= ?2)",
    )?;
    let mut days = 0;
    let mut a_week_back = false;
    for day in 1..=7 {
        let end = now - day * 24 * hour;
        let bounds = [end - hour, end].map(|ms| i64::try_from(ms).unwrap_or_default());
        let had_some: bool = called.query_row(params![bounds[0], bounds[1]], |row| row.get(0))?;
        days += u32::from(had_some);
        a_week_back = had_some;
    }
    let week = i64::try_from(now - 7 * 24 * hour).unwrap_or_default();
    let reaches_back: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM calls INDEXED BY idx_calls_started_at WHERE started_at <= ?1)",
        )?
        .query_row([week], |row| row.get(0))?;
    Ok((days, reaches_back.then_some(a_week_back)))
}

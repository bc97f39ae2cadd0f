//! The summary of a day, made when the day is over: once, however often the process starts.
//!
//! That the summary of a day was sent is known by the messages in the outbox, which are written with the record and name the day. So a process that was down at
//! the time sends that of the day that ended last as soon as it runs, and a clock that is set back sends none twice.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;

use super::incidents::Incidents;
use super::notification::{ChangeLine, DailySummary, DayShare, IncidentLine, LINES, Percentiles};
use super::policy::{Daily, Day};
use crate::audit::{Event, Kind};
use crate::call::Disposition;
use crate::lifecycle::Lifecycle;
use crate::store::{Figures, Histogram, Part, RecordsAsked, Store, StoreError};

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Before the next attempt, where the database could not be read.
const AGAIN: Duration = Duration::from_mins(1);
/// Incidents that are looked through for those of the day, the newest.
const INCIDENTS: u32 = 500;
const HOUR_MS: i64 = 3_600_000;

/// Makes summaries until the process is asked to stop.
pub(super) async fn run(lifecycle: Lifecycle, store: Store, incidents: Incidents) {
    let mut last: Option<Date> = None;
    let mut pause = LOOK;
    while lifecycle.pause(pause).await {
        pause = LOOK;
        let Some(daily) = incidents.daily() else {
            continue;
        };
        let Some(day) = daily
            .last_day(incidents.clock().now())
            .filter(|day| last != Some(day.date))
        else {
            continue;
        };
        match send(&store, &incidents, &daily, day).await {
            Ok(()) => last = Some(day.date),
            Err(error) => {
                pause = AGAIN;
                tracing::warn!(
                    event = "alert.day_not_summed",
                    error = &error as &(dyn std::error::Error + 'static),
                    "the summary of a day is made later: the database cannot be read"
                );
            }
        }
    }
}

/// Sends the summary of a day, unless that was done, or the log begins after it.
async fn send(
    store: &Store,
    incidents: &Incidents,
    daily: &Daily,
    day: Day,
) -> Result<(), StoreError> {
    let id = format!("summary-{}", day.date);
    let was_sent = !store.messages_of(&id).await?.is_empty();
    let first = store.records(0, 1).await?;
    if was_sent || first.first().is_none_or(|first| first.at >= day.to) {
        return Ok(());
    }
    let summary = sum_up(store, id, daily, day).await?;
    incidents.summarize(summary).await;
    Ok(())
}

async fn sum_up(
    store: &Store,
    id: String,
    daily: &Daily,
    day: Day,
) -> Result<DailySummary, StoreError> {
    let [from, to] = [day.from, day.to].map(Timestamp::as_millisecond);
    let mut figures = Figures::default();
    for step in store.figures(from, to, HOUR_MS).await?.values() {
        figures.add(step);
    }
    let (incidents, n_incidents) = incidents_of(store, day).await?;
    let (changes, n_changes) = changes_of(store, day).await?;
    let counts = |of: &BTreeMap<String, i64>| {
        let counts = of.iter().map(|(name, n)| (name.clone(), count(*n)));
        counts.collect::<BTreeMap<_, _>>()
    };
    Ok(DailySummary {
        id,
        from: day.from,
        to: day.to,
        zone: daily.zone.iana_name().unwrap_or("UTC").to_owned(),
        calls: count(figures.calls),
        answered: count(figures.ended_as(Disposition::Answered)),
        failed: count(figures.failed),
        abandoned: count(figures.ended_as(Disposition::Abandoned)),
        succeeded: count(figures.succeeded()),
        by_reason: counts(&figures.failures),
        failed_over: count(figures.failed_over),
        held: count(figures.held),
        by_tier: shares(&figures.tiers),
        by_outcome: counts(&figures.dispositions),
        by_dialer: shares(&figures.dialers),
        times: figures
            .stages
            .iter()
            .filter_map(|(stage, times)| Some((stage.clone(), percentiles(times)?)))
            .collect(),
        incidents,
        n_incidents,
        changes,
        n_changes,
        completeness: completeness(store, day).await?,
        tell: Vec::new(),
    })
}

/// The incidents that were open on this day, the newest first, and how many there were.
async fn incidents_of(store: &Store, day: Day) -> Result<(Vec<IncidentLine>, u64), StoreError> {
    let newest = Part {
        after: None,
        skip: 0,
        size: INCIDENTS,
    };
    let found = store.incidents(false, newest).await?.rows;
    let of_day = found.into_iter().filter(|(incident, _)| {
        incident.status.since < day.to && incident.resolved_at.is_none_or(|at| at >= day.from)
    });
    let mut lines: Vec<IncidentLine> = of_day
        .map(|(incident, _)| IncidentLine {
            incident: incident.status.id,
            kind: incident.status.topic.kind,
            subject: incident.status.topic.subject,
            cause: incident.status.cause,
            opened_at: incident.status.since,
            lasted_ms: incident.lasted_ms,
            calls: incident.status.calls,
        })
        .collect();
    let n = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    lines.truncate(LINES);
    Ok((lines, n))
}

/// The changes of the configuration on this day, the newest first, and how many there were. What a start found as it was is none.
async fn changes_of(store: &Store, day: Day) -> Result<(Vec<ChangeLine>, u64), StoreError> {
    let asked = RecordsAsked {
        kind: Some(Kind::ConfigChanged),
        from: Some(day.from),
        to: Some(day.to),
        ..RecordsAsked::default()
    };
    let newest = Part {
        after: None,
        skip: 0,
        size: INCIDENTS,
    };
    let found = store.records_page(asked, newest).await?.rows;
    let mut lines = Vec::new();
    for record in found {
        // What cannot be read any more is left to the verifier, which names it.
        let Ok(Event::ConfigChanged(changed)) = record.event() else {
            continue;
        };
        if !changed.changes.is_empty() {
            lines.push(ChangeLine {
                at: record.at,
                by: changed.by,
                keys: changed
                    .changes
                    .into_iter()
                    .map(|change| change.key)
                    .collect(),
            });
        }
    }
    let n = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    lines.truncate(LINES);
    Ok((lines, n))
}

/// What the last comparison with Twilio's list came to, where it was made on this day.
async fn completeness(store: &Store, day: Day) -> Result<Option<String>, StoreError> {
    let last = store.last_completeness().await?;
    let last = last.filter(|(at, _)| *at >= day.from && *at < day.to);
    Ok(last.map(|(_, checked)| {
        let compared = checked.from.strftime("%Y-%m-%d");
        format!("Of {compared}, {}.", checked.in_words())
    }))
}

fn shares(of: &BTreeMap<String, crate::store::GroupFigures>) -> BTreeMap<String, DayShare> {
    of.iter()
        .map(|(name, share)| {
            let share = DayShare {
                calls: count(share.calls),
                answered: count(share.answered),
                failed: count(share.failed),
            };
            (name.clone(), share)
        })
        .collect()
}

fn percentiles(times: &Histogram) -> Option<Percentiles> {
    Some(Percentiles {
        p50_ms: times.percentile_ms(50)?,
        p95_ms: times.percentile_ms(95)?,
        p99_ms: times.percentile_ms(99)?,
    })
}

fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or_default()
}

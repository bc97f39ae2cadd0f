//! Whether every call that Twilio had stands in the log: its list of a day, UTC, joined with ours.
//!
//! A call that stands on two pages counts once; one that comes while the list is read begins later than the day.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::audit::{
    CompletenessChecked, CompletenessFinding, Discrepancy, Event, FINDINGS_NAMED, ListedCall,
    Record, list_hash,
};
use crate::call::{CallId, CarrierAnswer};
use crate::clock::Clock;
use crate::resilience::Backoff;
use crate::store::{CallPresence, CarrierList, Store, StoreError};
use crate::twilio::{NoAnswer, Rest};
use crate::twiml::CallbackUrls;

/// A day is compared once it has been over for so long: its last calls are listed by then.
pub const SETTLED: SignedDuration = SignedDuration::from_hours(1);
/// Between two pages.
const PAUSE: Duration = Duration::from_millis(100);
/// So often in a row Twilio may fail to answer a question.
const ATTEMPTS: u32 = 8;
const SHORTEST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);
/// However long Twilio wants to be left alone.
const LONGEST_REST: Duration = Duration::from_mins(15);
/// Calls that are looked up at a time.
const BATCH: usize = 500;
/// Ends that are no further apart are the same: one is Twilio's, the other that of the webhook.
const SAME_END: SignedDuration = SignedDuration::from_secs(30);

/// Compares, a day at a time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Completeness {
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) rest: Rest,
    urls: Vec<CallbackUrls>,
    database: PathBuf,
    turn: Arc<Mutex<()>>,
}

/// What some days came to: the document that `audit complete --json` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletenessReport {
    pub checks: Vec<CompletenessChecked>,
    /// Days that were not compared, each with why.
    pub left_out: BTreeMap<Date, String>,
}

/// Why a day is not compared.
#[derive(Debug, thiserror::Error)]
pub enum NotCompared {
    #[error("it is not over, or has not been for an hour")]
    NotOver,
    #[error("the log holds nothing of it: it begins later, or was pruned")]
    NotInLog,
    #[error("Twilio does not give its list of calls: {0}")]
    Carrier(#[from] NoAnswer),
    #[error("the log cannot be read or written")]
    Store(#[from] StoreError),
    #[error("the list cannot be kept beside the database")]
    List(#[from] io::Error),
}

impl Completeness {
    /// Numbers are ours that lead to `urls`; the list is kept beside `database`.
    pub fn new(clock: Clock, store: Store, rest: Rest, urls: Vec<CallbackUrls>, at: &Path) -> Self {
        Self {
            clock,
            store,
            rest,
            urls,
            database: at.to_owned(),
            turn: Arc::default(),
        }
    }

    /// Compares days, the first and the last included, and ends at the first that fails.
    pub async fn check_days(
        &self,
        (first, last): (Date, Date),
        by: &str,
    ) -> Result<CompletenessReport, NotCompared> {
        let mut report = CompletenessReport::default();
        for day in first.series(1.day()).take_while(|day| *day <= last) {
            match self.check(day, by).await {
                Ok(checked) => report.checks.push(checked),
                Err(error @ (NotCompared::NotInLog | NotCompared::NotOver)) => {
                    report.left_out.insert(day, error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(report)
    }

    /// Compares a day and records what came of it.
    async fn check(&self, day: Date, by: &str) -> Result<CompletenessChecked, NotCompared> {
        let _turn = self.turn.lock().await;
        let [from, to] = self.period(day).await?;
        let mut list = CarrierList::of(&self.database, day)?;
        self.walk(&mut list, day).await?;
        let numbers = self.patiently(|| self.rest.numbers()).await?;
        let mut elsewhere = BTreeSet::new();
        for number in numbers {
            if number.leads_to(&self.urls) {
                list.numbers.insert(number.phone_number);
            } else {
                elsewhere.insert(number.phone_number);
            }
        }
        let ids: Vec<CallId> = list.calls.keys().cloned().collect();
        let mut present = Vec::with_capacity(ids.len());
        for batch in ids.chunks(BATCH) {
            present.extend(self.store.presence_of(batch.to_vec()).await?);
        }
        let known = list.calls.values().zip(&present);
        let known = known.filter(|(_, how)| **how != CallPresence::Absent);
        list.numbers.extend(known.map(|(call, _)| call.to.clone()));
        let listed: Vec<(&ListedCall, CallPresence)> = list
            .calls
            .values()
            .zip(present)
            .filter(|(call, _)| call.started_at >= from && call.started_at < to)
            .filter(|(call, _)| list.numbers.contains(&call.to))
            .collect();
        let fallbacks = self.store.fallbacks([from, to]).await?;
        let judged = listed.iter().filter_map(|(call, how)| {
            let is_on_fallback = fallbacks.contains(&call.id);
            judge(call, *how, is_on_fallback, elsewhere.contains(&call.to))
        });
        let mut findings: Vec<_> = judged.collect();
        let with_alerts = self.add_causes(&mut findings, [from, to]).await?;
        for (call_id, at) in self.store.calls_not_in([from, to], ids).await? {
            // One that began at midnight may be in the list of another day.
            let fate = self.patiently(|| self.rest.call(&call_id)).await;
            if let Ok(Some(CarrierAnswer::NotFound)) | Err(_) = fate {
                findings.push(CompletenessFinding {
                    call_id,
                    at,
                    found: Discrepancy::Unlisted,
                    code: None,
                    ended_at: None,
                    log_ended_at: None,
                });
            }
        }
        findings.sort_by(|one, other| one.call_id.cmp(&other.call_id));
        let count = |is_counted: fn(Discrepancy) -> bool| {
            let counted = findings.iter().filter(|one| is_counted(one.found));
            counted.count() as u64
        };
        let checked = CompletenessChecked {
            from,
            to,
            by: by.to_owned(),
            listed: listed.len() as u64,
            missing: count(Discrepancy::is_missing),
            fallback: count(|found| found == Discrepancy::Fallback),
            unlisted: count(|found| found == Discrepancy::Unlisted),
            differing: count(|found| found == Discrepancy::EndDiffers),
            with_alerts,
            list_hash: list_hash(listed.iter().map(|(call, _)| &call.id)),
            findings: findings.into_iter().take(FINDINGS_NAMED).collect(),
        };
        let event = Event::CompletenessChecked(Box::new(checked.clone()));
        let record = Record::of_service(self.clock.now(), event);
        self.store.append(vec![record]).await?;
        list.clear(&self.database)?;
        Ok(checked)
    }

    /// What of the day the log holds, in whole seconds, as Twilio writes times.
    async fn period(&self, day: Date) -> Result<[Timestamp; 2], NotCompared> {
        let midnight = |day: Date| day.to_zoned(TimeZone::UTC).map(|at| at.timestamp());
        let end = day.tomorrow().and_then(midnight);
        let (Ok(from), Ok(to)) = (midnight(day), end) else {
            return Err(NotCompared::NotInLog);
        };
        if self.clock.now().duration_since(to) < SETTLED {
            return Err(NotCompared::NotOver);
        }
        let oldest = self.store.records(0, 1).await?;
        let begins = oldest.first().ok_or(NotCompared::NotInLog)?.at;
        let second = Timestamp::from_second(begins.as_second() + 1);
        let from = second.map_or(to, |second| from.max(second));
        if from < to {
            Ok([from, to])
        } else {
            Err(NotCompared::NotInLog)
        }
    }

    /// Reads the list from where it was left.
    async fn walk(&self, list: &mut CarrierList, day: Date) -> Result<(), NotCompared> {
        let accounts = self.rest.accounts();
        let mut is_resumed = list.next != (0, None);
        while let Some(account) = accounts.get(list.next.0) {
            let (of, place) = list.next.clone();
            let ask = || self.rest.calls_of_day(account, day, place.as_deref());
            match self.patiently(ask).await {
                Ok((calls, next)) => {
                    list.next = (of + usize::from(next.is_none()), next);
                    list.extend(calls, &self.database)?;
                    self.clock.wait(PAUSE).await;
                }
                // The place of a walk of long ago need not be known any more.
                Err(NoAnswer::Unclear { .. }) if is_resumed => list.clear(&self.database)?,
                Err(error) => return Err(error.into()),
            }
            is_resumed = false;
        }
        Ok(())
    }

    /// Asks until there is an answer, as slowly as Twilio wants to be asked.
    async fn patiently<T, F>(&self, ask: impl Fn() -> F) -> Result<T, NoAnswer>
    where
        F: Future<Output = Result<T, NoAnswer>>,
    {
        let mut n_failures = 0;
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            n_failures += 1;
            let NoAnswer::Later { retry_after, why } = &error else {
                return Err(error);
            };
            if n_failures == ATTEMPTS {
                return Err(error);
            }
            tracing::warn!(
                event = "audit.list_waits",
                why,
                "Twilio is asked again later"
            );
            let random = getrandom::u64().unwrap_or(0);
            let backoff = Backoff::try_new(SHORTEST_BACKOFF, LONGEST_BACKOFF);
            let backoff = backoff.map_or(LONGEST_BACKOFF, |b| b.delay(n_failures, random));
            let rest = retry_after.unwrap_or_default().min(LONGEST_REST);
            self.clock.wait(backoff.max(rest)).await;
        }
    }

    /// Says why calls are missing, by Twilio's alerts and by when nothing ran; whether the alerts could be read.
    async fn add_causes(
        &self,
        findings: &mut [CompletenessFinding],
        [from, to]: [Timestamp; 2],
    ) -> Result<bool, NotCompared> {
        let absent = findings
            .iter()
            .filter(|one| one.found != Discrepancy::EndDiffers);
        let absent: BTreeSet<CallId> = absent.map(|one| one.call_id.clone()).collect();
        if absent.is_empty() {
            return Ok(true);
        }
        let time = [from, to.saturating_add(SETTLED).unwrap_or(to)];
        let errors = self.patiently(|| self.rest.errors_of(&absent, time)).await;
        let errors = errors.ok().flatten();
        let outages = self.store.outages().await?;
        for one in findings {
            one.code = errors.as_ref().and_then(|of| of.get(&one.call_id).copied());
            let is_down = |[since, until]: &[Timestamp; 2]| one.at >= *since && one.at < *until;
            if one.found == Discrepancy::Unexplained {
                one.found = if outages.iter().any(is_down) {
                    Discrepancy::Down
                } else {
                    Discrepancy::of_code(one.code)
                };
            }
        }
        Ok(errors.is_some())
    }
}

/// What is not as it should be of a call that Twilio lists.
fn judge(
    call: &ListedCall,
    how: CallPresence,
    is_on_fallback: bool,
    leads_elsewhere: bool,
) -> Option<CompletenessFinding> {
    let (found, log_ended_at) = match how {
        _ if is_on_fallback => (Discrepancy::Fallback, None),
        CallPresence::Forgotten => return None,
        CallPresence::Recorded(ours) => {
            let is_same = match (call.ended_at, ours) {
                (Some(theirs), Some(ours)) => theirs.duration_since(ours).abs() <= SAME_END,
                (theirs, ours) => theirs == ours,
            };
            if is_same {
                return None;
            }
            (Discrepancy::EndDiffers, ours)
        }
        CallPresence::WithoutRecords => (Discrepancy::RecordsGone, None),
        CallPresence::Absent if leads_elsewhere => (Discrepancy::Elsewhere, None),
        CallPresence::Absent => (Discrepancy::Unexplained, None),
    };
    Some(CompletenessFinding {
        call_id: call.id.clone(),
        at: call.started_at,
        found,
        code: None,
        ended_at: call.ended_at,
        log_ended_at,
    })
}

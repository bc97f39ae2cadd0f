//! Gathers the health signals every half second, and has incidents evaluated by them.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use super::incidents::Incidents;
use super::signals::{DiskRoom, HealthSignals, length};
use super::silence::SilentNumbers;
use crate::audit::{CompletenessChecked, SigningState, SigningStatus};
use crate::clock::Clock;
use crate::flow::Retries;
use crate::lifecycle::Lifecycle;
use crate::store::{RecordCounts, Store};

/// How often everything is looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often disk and files are asked for their sizes.
const SIZES_EVERY: Duration = Duration::from_secs(5);
/// How often past starts and calls are counted.
const COUNTS_EVERY: Duration = Duration::from_mins(1);
/// A file system that does not answer by then is not waited for.
const SIZES_PATIENCE: Duration = Duration::from_secs(2);
/// No call for so long is looked into.
const QUIET: Duration = Duration::from_hours(1);
/// On so many of the last seven days somebody has to have called in this hour.
const DAYS_WITH_CALLS: u32 = 2;

/// Watches until the process is asked to stop.
pub(super) async fn run(lifecycle: Lifecycle, store: Store, retries: Retries) {
    let mut watch = HealthWatch {
        quiet_since: retries.clock.instant(),
        store,
        incidents: retries.incidents.clone(),
        clock: retries.clock.clone(),
        silent: SilentNumbers::new(retries.clock.now()),
        retries,
        signals: HealthSignals::default(),
        sizes_at: None,
        counts_at: None,
    };
    loop {
        watch.evaluate().await;
        if !lifecycle.pause(TICK).await {
            return;
        }
    }
}

struct HealthWatch {
    store: Store,
    incidents: Incidents,
    clock: Clock,
    retries: Retries,
    signals: HealthSignals,
    silent: SilentNumbers,
    sizes_at: Option<Instant>,
    counts_at: Option<Instant>,
    /// The start, or the last call.
    quiet_since: Instant,
}

impl HealthWatch {
    async fn evaluate(&mut self) {
        let now = self.clock.instant();
        self.signals.store = Some(self.store.health().problem());
        if let Some(damage) = damage(&self.store.signing_status()) {
            self.signals.audit = Some(damage);
        }
        if let altered @ Some(_) = self.store.altered_rows() {
            self.signals.audit = Some(altered);
        }
        if is_due(&mut self.sizes_at, SIZES_EVERY, now) {
            self.measure().await;
        }
        if is_due(&mut self.counts_at, COUNTS_EVERY, now) {
            self.count(now, self.clock.now()).await;
        }
        if let Some(arrived) = self.incidents.last_arrival()
            && arrived > self.quiet_since
        {
            self.quiet_since = arrived;
            self.signals.quiet = Some(None);
        }
        self.signals.credentials = self.retries.credentials();
        let signals = self.signals.clone();
        self.incidents.evaluate(signals, &self.store).await;
    }

    #[expect(clippy::cast_precision_loss, reason = "bytes and counts as gauges")]
    async fn measure(&mut self) {
        let room = timeout(SIZES_PATIENCE, self.store.disk_room()).await;
        self.signals.disk = room.ok().flatten();
        self.signals.wal_bytes = self.store.wal_bytes();
        if let Some(DiskRoom { free, .. }) = self.signals.disk {
            metrics::gauge!("switchboard_disk_free_bytes").set(free as f64);
        }
        if let Some(bytes) = self.signals.wal_bytes {
            metrics::gauge!("switchboard_wal_bytes").set(bytes as f64);
        }
        let RecordCounts {
            spooled,
            waiting,
            lost,
            ..
        } = self.store.health().counts;
        for (place, records) in [("spool", spooled), ("memory", waiting), ("log", lost)] {
            metrics::gauge!("switchboard_records_unwritten", "place" => place).set(records as f64);
        }
        if let Ok((waiting, dead)) = self.store.count_messages().await {
            metrics::gauge!("switchboard_outbox_messages", "state" => "waiting")
                .set(waiting as f64);
            metrics::gauge!("switchboard_outbox_messages", "state" => "dead").set(dead as f64);
        }
    }

    async fn count(&mut self, now: Instant, at: Timestamp) {
        let an_hour_ago = at.checked_sub(SignedDuration::from_hours(1)).unwrap_or(at);
        self.signals.starts = self.store.starts_between(an_hour_ago, at).await.ok();
        let backup = timeout(SIZES_PATIENCE, self.store.last_backup()).await;
        self.signals.backup = backup.ok().flatten().map(|backup| backup.created_at);
        let zone = self.incidents.silence_zone();
        if let Ok(found) = self.silent.look(&self.store, zone.as_ref(), at).await {
            self.signals.silent = found;
        }
        if let Ok(last) = self.store.last_completeness().await {
            self.signals.missing = last.map(|(_, checked)| missing(&checked));
        }
        let quiet_for = now.saturating_duration_since(self.quiet_since);
        if quiet_for < QUIET {
            self.signals.quiet = Some(None);
            return;
        }
        self.signals.quiet = match self.store.same_hour_of_other_days(at).await {
            Ok((days, a_week_back)) => {
                let is_odd = days >= DAYS_WITH_CALLS && a_week_back != Some(false);
                Some(is_odd.then(|| {
                    format!(
                        "no call for {}; at this hour somebody called on {days} of the last 7 days",
                        length(quiet_for)
                    )
                }))
            }
            Err(_) => None,
        };
    }
}

/// Which calls are missing by the last comparison with Twilio's list; `None`: none of them.
#[expect(clippy::cast_precision_loss, reason = "the calls of a day as a gauge")]
fn missing(checked: &CompletenessChecked) -> Option<String> {
    metrics::gauge!("switchboard_calls_missing").set(checked.missing as f64);
    let day = checked.from.strftime("%Y-%m-%d");
    (checked.missing > 0).then(|| format!("of {day}, {}", checked.in_words()))
}

fn is_due(last: &mut Option<Instant>, every: Duration, now: Instant) -> bool {
    let due = last.is_none_or(|last| now.saturating_duration_since(last) >= every);
    if due {
        *last = Some(now);
    }
    due
}

/// Why the audit log cannot be signed: the outer `None` where nobody has looked yet.
#[expect(clippy::option_option, reason = "the inner one: it is sound")]
fn damage(signing_status: &SigningStatus) -> Option<Option<String>> {
    match &signing_status.state {
        SigningState::Unknown => None,
        SigningState::Sound => Some(None),
        SigningState::RolledBack { known, found } => Some(Some(format!(
            "the database holds {found} records, and the head beside it says {}: it was rolled back",
            known.records
        ))),
        SigningState::HeadMissing { records } => Some(Some(format!(
            "the head beside the database is gone, and {records} records are signed: it may be an older database"
        ))),
        SigningState::Broken { record, .. } => Some(Some(match record {
            Some(record) => format!("record {record} is not what was written"),
            None => "what was read back is not what was written".to_owned(),
        })),
    }
}

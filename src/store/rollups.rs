//! Table `rollups`: the figures of each minute, and of each hour that is over. Written in the transaction of the records they count, so that they
//! agree with them, and small enough that a week of them is read at once.
//!
//! A call counts in the minute in which it arrived, whatever becomes of it later: the figures of a minute are those of its row in `calls`, summed.
//! Times of stages, answers of the cache and handoffs count in the minute in which they were recorded.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::counted::{Counted, HOUR_MS, MINUTE_MS};
use super::error::StoreError;
use super::histogram::Histogram;
use super::quality::{AddedQuality, OldScore};
use crate::audit::{Attempt, CallAnswered, CallDecided, Event, Record};
use crate::call::Disposition;
use crate::handoff::Outcome;
use crate::routing::{Lookup, Source};

/// The first answer of a call: its webhook `inbound`.
const FIRST_STEP: &str = "inbound";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    #[serde(skip_serializing_if = "is_zero")]
    pub calls: i64,
    /// Routing failures: calls that reached no dialer, or whose answer overran the budget.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: i64,
    /// Calls whose answer overran the budget.
    #[serde(skip_serializing_if = "is_zero")]
    pub overran: i64,
    /// Calls that went to another dialer than the first of their plan.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed_over: i64,
    /// Calls that were on hold.
    #[serde(skip_serializing_if = "is_zero")]
    pub held: i64,
    /// Calls that have ended, by how they count.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dispositions: BTreeMap<String, i64>,
    /// Answered calls whose first answer overran the budget: an agent talked, and they failed all the same.
    #[serde(skip_serializing_if = "is_zero")]
    pub answered_late: i64,
    /// Routing failures by why; they add up to `failed`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, i64>,
    /// Calls by tier; the empty name is none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, GroupFigures>,
    /// Calls by the rule that took them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, i64>,
    /// Calls by the dialer that was dialled last.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dialers: BTreeMap<String, GroupFigures>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub handoffs: BTreeMap<String, Handoffs>,
    /// How look-ups were answered: `hit`, `stale`, `miss`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cache: BTreeMap<String, i64>,
    /// How long the stages of a first answer took: `routing`, `lookup`, `handoff`; and of `commit` to the disk.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, Histogram>,
}

/// Calls of one dialer or tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupFigures {
    pub calls: i64,
    /// Those that an agent answered.
    #[serde(skip_serializing_if = "is_zero")]
    pub answered: i64,
    /// Those that are routing failures.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Handoffs {
    pub asked: i64,
    /// Those that were not accepted.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: i64,
    pub took: Histogram,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Figures {
    /// Adds (`1`) or takes away (`-1`) a call.
    pub(super) fn count(&mut self, call: &Counted, times: i64) {
        let flag = |flag: bool| if flag { times } else { 0 };
        let failure = call.failure();
        let failed = flag(failure.is_some());
        self.calls += times;
        self.failed += failed;
        self.overran += flag(call.overran);
        self.failed_over += flag(call.failed_over);
        self.held += flag(call.held);
        self.answered_late += flag(call.is_answered() && call.overran);
        if let Some(failure) = failure {
            *self.failures.entry(failure.to_owned()).or_default() += times;
        }
        if let Some(disposition) = &call.disposition {
            *self.dispositions.entry(disposition.clone()).or_default() += times;
        }
        let answered = flag(call.is_answered());
        let share = |share: &mut GroupFigures| {
            share.calls += times;
            share.answered += answered;
            share.failed += failed;
        };
        *self.rules.entry(call.rule_name()).or_default() += times;
        share(
            self.tiers
                .entry(call.tier.clone().unwrap_or_default())
                .or_default(),
        );
        if let Some(dialer) = &call.dialer {
            share(self.dialers.entry(dialer.clone()).or_default());
        }
    }

    pub(super) fn measure(&mut self, measured: &Measured) {
        if let Some(outcome) = measured.cache {
            *self.cache.entry(outcome.to_owned()).or_default() += 1;
        }
        for (stage, ms) in &measured.stages {
            self.time(stage, *ms);
        }
        if let Some((dialer, accepted, ms)) = &measured.handoff {
            let handoffs = self.handoffs.entry(dialer.clone()).or_default();
            handoffs.asked += 1;
            handoffs.failed += i64::from(!accepted);
            handoffs.took.add_ms(*ms);
        }
    }

    /// Adds how long a stage took.
    pub(super) fn time(&mut self, stage: &str, ms: f64) {
        self.stages.entry(stage.to_owned()).or_default().add_ms(ms);
    }

    /// Adds the figures of another time.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.overran += other.overran;
        self.failed_over += other.failed_over;
        self.held += other.held;
        self.answered_late += other.answered_late;
        add_all(&mut self.dispositions, &other.dispositions);
        add_all(&mut self.failures, &other.failures);
        add_all(&mut self.cache, &other.cache);
        add_all(&mut self.rules, &other.rules);
        for (mine, theirs) in [
            (&mut self.tiers, &other.tiers),
            (&mut self.dialers, &other.dialers),
        ] {
            for (name, share) in theirs {
                let sum = mine.entry(name.clone()).or_default();
                sum.calls += share.calls;
                sum.answered += share.answered;
                sum.failed += share.failed;
            }
        }
        for (name, handoffs) in &other.handoffs {
            let sum = self.handoffs.entry(name.clone()).or_default();
            sum.asked += handoffs.asked;
            sum.failed += handoffs.failed;
            sum.took.add(&handoffs.took);
        }
        for (stage, times) in &other.stages {
            self.stages.entry(stage.clone()).or_default().add(times);
        }
    }

    /// How many calls have ended so.
    pub fn ended_as(&self, disposition: Disposition) -> i64 {
        let ended = self.dispositions.get(disposition.as_str());
        ended.copied().unwrap_or_default()
    }

    /// Calls that count as a success: an agent talked, and the first answer kept to the budget. With `failed` they are what rates are
    /// taken of: a caller who hung up is neither, nor is a call that goes on or whose end is unknown.
    pub fn succeeded(&self) -> i64 {
        self.ended_as(Disposition::Answered) - self.answered_late
    }

    /// Leaves out what has come to nothing.
    fn tidy(&mut self) {
        self.dispositions.retain(|_, count| *count != 0);
        self.failures.retain(|_, count| *count != 0);
        self.rules.retain(|_, count| *count != 0);
        self.tiers
            .retain(|_, share| *share != GroupFigures::default());
        self.dialers
            .retain(|_, share| *share != GroupFigures::default());
    }
}

fn add_all(mine: &mut BTreeMap<String, i64>, theirs: &BTreeMap<String, i64>) {
    for (name, count) in theirs {
        *mine.entry(name.clone()).or_default() += count;
    }
}

/// What one record measures, worked out before the writer takes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Measured {
    cache: Option<&'static str>,
    stages: Vec<(&'static str, f64)>,
    handoff: Option<(String, bool, f64)>,
    pub(super) old_score: Option<OldScore>,
}

impl Measured {
    /// What a record measures; `None` where it measures nothing.
    pub(super) fn of(record: &Record) -> Option<Self> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "nothing else measures anything"
        )]
        match &record.event {
            Event::CallDecided(decided) => Self::of_decision(decided),
            Event::CallAnswered(answered) => Self::of_answer(answered),
            Event::ScoreRefreshed(fresh) => Some(Self {
                old_score: Some(OldScore::of_fresh(fresh)),
                ..Self::default()
            }),
            Event::HandoffConcluded(attempt) => Some(Self {
                handoff: Some(measure_handoff(attempt)),
                ..Self::default()
            }),
            _ => None,
        }
    }

    fn of_decision(decided: &CallDecided) -> Option<Self> {
        let source = |source| match source {
            Source::Fresh => "hit",
            Source::Stale => "stale",
            Source::Fetched | Source::Supposed => "miss",
        };
        let cache = match &decided.facts.lookup {
            Lookup::Known { source: from, .. } | Lookup::Unknown { source: from, .. } => {
                source(*from)
            }
            Lookup::Unavailable { .. } => "miss",
            Lookup::Skipped { .. } => return None,
        };
        Some(Self {
            cache: Some(cache),
            old_score: OldScore::of_decision(decided),
            ..Self::default()
        })
    }

    fn of_answer(answered: &CallAnswered) -> Option<Self> {
        let stages = answered.stages;
        let is_first = answered.step == FIRST_STEP;
        let stages = is_first.then(|| {
            vec![
                ("routing", stages.total_ms),
                ("lookup", stages.lookup_ms),
                ("handoff", stages.handoff_ms),
            ]
        });
        let handoff = answered.attempt.as_ref().map(measure_handoff);
        (is_first || handoff.is_some()).then(|| Self {
            stages: stages.unwrap_or_default(),
            handoff,
            ..Self::default()
        })
    }
}

/// The dialer that was asked, whether it took the call, and how long that took, in milliseconds.
fn measure_handoff(attempt: &Attempt) -> (String, bool, f64) {
    (
        attempt.dialer.to_string(),
        matches!(attempt.outcome, Outcome::Accepted { .. }),
        attempt.exchanges.iter().map(|made| made.elapsed_ms).sum(),
    )
}

/// What a batch adds.
#[derive(Debug, Default)]
pub(super) struct Added {
    minutes: BTreeMap<i64, Figures>,
    pub(super) quality: AddedQuality,
}

impl Added {
    /// The figures of the minute in which something happened.
    pub(super) fn at(&mut self, ms: i64) -> &mut Figures {
        self.minutes.entry(ms.div_euclid(MINUTE_MS)).or_default()
    }

    /// Adds (`1`) or takes away (`-1`) a call that arrived then.
    pub(super) fn count(&mut self, call: &Counted, started_at: i64, times: i64) {
        self.at(started_at).count(call, times);
        self.quality.count(call, started_at, times);
    }

    /// Adds what a record of this time measures.
    pub(super) fn measure(&mut self, measured: &Measured, ms: i64) {
        self.at(ms).measure(measured);
        if let Some(old_score) = &measured.old_score {
            self.quality.score(old_score);
        }
    }

    /// Writes it. An hour that is over gets a row of its own with the first record after it.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        for (minute, added) in &self.minutes {
            let is_new = put(connection, MINUTE_MS, minute * MINUTE_MS, added)?;
            let hour = (minute * MINUTE_MS).div_euclid(HOUR_MS) * HOUR_MS;
            if exists(connection, HOUR_MS, hour)? {
                put(connection, HOUR_MS, hour, added)?;
            } else if is_new {
                sum_up(connection, hour - HOUR_MS)?;
            }
        }
        self.quality.write(connection)
    }
}

/// Adds figures to a row; true where it was not there before.
fn put(
    connection: &Connection,
    span_ms: i64,
    starts_at: i64,
    added: &Figures,
) -> rusqlite::Result<bool> {
    let found: Option<(i64, String)> = connection
        .prepare_cached("SELECT id, figures FROM rollups WHERE span_ms = ?1 AND starts_at = ?2")?
        .query_row(params![span_ms, starts_at], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((row, text)) = found else {
        let mut figures = added.clone();
        figures.tidy();
        connection
            .prepare_cached(
                "INSERT INTO rollups (span_ms, starts_at, figures) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![span_ms, starts_at, text_of(&figures)])?;
        return Ok(true);
    };
    // What cannot be read was not written by us; its figures begin anew.
    let mut figures: Figures = serde_json::from_str(&text).unwrap_or_default();
    figures.add(added);
    figures.tidy();
    connection
        .prepare_cached("UPDATE rollups SET figures = ?2 WHERE id = ?1")?
        .execute(params![row, text_of(&figures)])?;
    Ok(false)
}

fn text_of(figures: &Figures) -> String {
    serde_json::to_string(figures).unwrap_or_else(|_| "{}".to_owned())
}

fn exists(connection: &Connection, span_ms: i64, starts_at: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM rollups WHERE span_ms = ?1 AND starts_at = ?2")?
        .exists(params![span_ms, starts_at])
}

/// Writes the row of an hour from its minutes, unless it is there or has none.
fn sum_up(connection: &Connection, hour: i64) -> rusqlite::Result<()> {
    if exists(connection, HOUR_MS, hour)? {
        return Ok(());
    }
    let mut sum = Figures::default();
    let mut n = 0;
    for text in texts(connection, MINUTE_MS, hour, hour + HOUR_MS)? {
        n += 1;
        if let Ok(figures) = serde_json::from_str(&text.1) {
            sum.add(&figures);
        }
    }
    if n > 0 {
        put(connection, HOUR_MS, hour, &sum)?;
    }
    Ok(())
}

fn texts(
    connection: &Connection,
    span_ms: i64,
    from: i64,
    to: i64,
) -> rusqlite::Result<Vec<(i64, String)>> {
    connection
        .prepare_cached(
            "SELECT starts_at, figures FROM rollups
             WHERE span_ms = ?1 AND starts_at >= ?2 AND starts_at < ?3 ORDER BY starts_at",
        )?
        .query_map(params![span_ms, from, to], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect()
}

/// The figures from one time to another, both whole minutes, in steps of `step_ms`. Hours that are over are read as such where the steps are no
/// finer.
pub(super) fn between(
    connection: &Connection,
    from: i64,
    to: i64,
    step_ms: i64,
) -> Result<BTreeMap<i64, Figures>, StoreError> {
    let mut steps: BTreeMap<i64, Figures> = BTreeMap::new();
    let mut take = |rows: Vec<(i64, String)>| -> Result<(), StoreError> {
        for (starts_at, text) in rows {
            let figures: Figures =
                serde_json::from_str(&text).map_err(|_| StoreError::Inconsistent {
                    table: "rollups",
                    row: starts_at,
                })?;
            let step = starts_at.div_euclid(step_ms) * step_ms;
            steps.entry(step).or_default().add(&figures);
        }
        Ok(())
    };
    if step_ms < HOUR_MS {
        take(texts(connection, MINUTE_MS, from, to)?)?;
        return Ok(steps);
    }
    let mut minutes_from = from;
    let whole = from.div_euclid(HOUR_MS) * HOUR_MS + if from % HOUR_MS == 0 { 0 } else { HOUR_MS };
    let hours = texts(connection, HOUR_MS, whole, to - HOUR_MS + 1)?;
    for (hour, text) in hours {
        take(texts(connection, MINUTE_MS, minutes_from, hour)?)?;
        take(vec![(hour, text)])?;
        minutes_from = hour + HOUR_MS;
    }
    take(texts(connection, MINUTE_MS, minutes_from, to)?)?;
    Ok(steps)
}

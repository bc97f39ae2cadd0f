//! Table `quality`: how the calls of an hour went, by what they have in common. Written in the transaction of the records that it counts.
//!
//! A call counts in the hour in which it arrived, whatever becomes of it later: what changes of it is taken from the sums and added anew.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::counted::{Counted, HOUR_MS};
use super::key_ring::KeyRing;
use crate::audit::{CallDecided, ScoreRefreshed};
use crate::call::Disposition;
use crate::phone::Caller;

const DAY_MS: i64 = 24 * HOUR_MS;
/// So long an hour is kept.
const KEPT_MS: i64 = 400 * DAY_MS;
/// Numbers that are told apart; calls of further ones count as those of none. A client of the API may name any.
const MOST_NUMBERS: i64 = 1_000;
const UPSERT: &str = "INSERT INTO quality VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
     calls = calls + excluded.calls, ended = ended + excluded.ended, answered = answered + excluded.answered,
     timed = timed + excluded.timed, answer_ms = answer_ms + excluded.answer_ms, talk_ms = talk_ms + excluded.talk_ms,
     abandoned = abandoned + excluded.abandoned, abandon_ms = abandon_ms + excluded.abandon_ms,
     fresh = fresh + excluded.fresh, elsewhere = elsewhere + excluded.elsewhere";
const PRUNE: &str = "DELETE FROM quality WHERE span = ?1 AND starts_at = (
     SELECT min(starts_at) FROM quality WHERE span = ?1 AND starts_at < ?2)";

/// Calls; those that are over (the seizures of ITU-T E.425); that an agent answered; those of them of which both times are known, and these in
/// milliseconds: from arrival to the agent's answer, and from that to the end; calls whose caller left first, and from arrival until they did.
/// By score: calls for which a fresh one came later, and those that would have gone elsewhere with it.
pub type QualitySums = [i64; 10];

/// What calls are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Dimension {
    /// Nothing: there is one row an hour, and hours are told apart.
    All,
    Rule,
    /// The dialer that was dialled last; the empty name is none.
    Dialer,
    Tier,
    /// The number that was called, by its row in `called_numbers`.
    Number,
    /// Why an old score or none decided. Other calls are not counted.
    Score,
}

/// The sums of calls that have something in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QualityGroup {
    /// What it is, or when the hour begins, in milliseconds.
    pub name: String,
    /// The called number, masked.
    pub number: Option<String>,
    pub sums: QualitySums,
}

/// What a row of `calls` adds to each sum.
fn sums_of(call: &Counted, started_at: i64) -> QualitySums {
    let ended_as = |how: Disposition| call.disposition.as_deref() == Some(how.as_str());
    let lasted = |from: i64, to: i64| to.saturating_sub(from).max(0);
    let answered = ended_as(Disposition::Answered);
    let left = ended_as(Disposition::Abandoned);
    let talk = call.answered_at.zip(call.ended_at).filter(|_| answered);
    let left_at = call.ended_at.filter(|_| left);
    [
        1,
        call.disposition.is_some().into(),
        answered.into(),
        talk.is_some().into(),
        talk.map_or(0, |(from, _)| lasted(started_at, from)),
        talk.map_or(0, |(from, to)| lasted(from, to)),
        left.into(),
        left_at.map_or(0, |to| lasted(started_at, to)),
        0,
        0,
    ]
}

/// An old score or none decided a call, or the fresh one came: when the call was decided, why so, and what that adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OldScore(i64, String, QualitySums);

impl OldScore {
    pub(super) fn of_decision(decided: &CallDecided) -> Option<Self> {
        let cause = decided.facts.lookup.why_not_fresh()?.to_owned();
        let sums = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Some(Self(decided.facts.at.as_millisecond(), cause, sums))
    }

    pub(super) fn of_fresh(fresh: &ScoreRefreshed) -> Self {
        let sums = [0, 0, 0, 0, 0, 0, 0, 0, 1, fresh.elsewhere.into()];
        Self(fresh.decided_at.as_millisecond(), fresh.cause.clone(), sums)
    }
}

/// What a batch adds, by span, its beginning, and group.
#[derive(Debug, Default)]
pub(super) struct AddedQuality(BTreeMap<(&'static str, i64, Dimension, String), QualitySums>);

impl AddedQuality {
    /// Adds (`1`) or takes away (`-1`) a call that arrived then.
    pub(super) fn count(&mut self, call: &Counted, started_at: i64, times: i64) {
        let sums = sums_of(call, started_at).map(|sum| sum.saturating_mul(times));
        for (dimension, name) in [
            (Dimension::All, None),
            (Dimension::Rule, Some(call.rule_name())),
            (Dimension::Dialer, call.dialer.clone()),
            (Dimension::Tier, call.tier.clone()),
            (Dimension::Number, call.called_id.map(|row| row.to_string())),
        ] {
            self.add(started_at, dimension, &name.unwrap_or_default(), sums);
        }
    }

    pub(super) fn score(&mut self, OldScore(at, cause, sums): &OldScore) {
        self.add(*at, Dimension::Score, cause, *sums);
    }

    fn add(&mut self, at: i64, dimension: Dimension, name: &str, more: QualitySums) {
        let groups = [("hour", HOUR_MS), ("day", DAY_MS)];
        let is_all = dimension == Dimension::All;
        let spans = if is_all {
            &[("all", HOUR_MS)]
        } else {
            &groups[..]
        };
        for &(span, ms) in spans {
            let start = at.div_euclid(ms) * ms;
            let sums = self.0.entry((span, start, dimension, name.to_owned()));
            add_sums(sums.or_default(), more);
        }
    }

    /// Writes it. With every batch the oldest hour goes that is too old.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut upsert = connection.prepare_cached(UPSERT)?;
        for ((span, start, dimension, name), sums) in &self.0 {
            let by = dimension.into_str();
            let [
                calls,
                ended,
                answered,
                timed,
                wait,
                talk,
                left,
                after,
                fresh,
                more,
            ] = *sums;
            upsert.execute(params![
                span, start, by, name, calls, ended, answered, timed, wait, talk, left, after,
                fresh, more
            ])?;
        }
        let newest = self.0.keys().next_back().map(|(_, start, ..)| *start);
        for span in ["all", "hour", "day"].iter().filter(|_| newest.is_some()) {
            let before = newest.unwrap_or_default().saturating_sub(KEPT_MS);
            connection
                .prepare_cached(PRUNE)?
                .execute(params![span, before])?;
        }
        Ok(())
    }
}

/// Adds sums to sums.
pub fn add_sums(sums: &mut QualitySums, more: QualitySums) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.saturating_add(more);
    }
}

/// The row of the number that was called, made where it is new; `None` where nothing that can be told apart was called, or there are too many.
pub(super) fn number_row(
    connection: &Connection,
    key_ring: &KeyRing,
    called: Option<&str>,
    now: i64,
) -> rusqlite::Result<Option<i64>> {
    let Some(called) = called else {
        return Ok(None);
    };
    let caller = Caller::classify(called);
    let text = caller.number().map_or(called, |number| number.as_str());
    let hash = key_ring.call_hash(&format!("called {text}"));
    let known = connection
        .prepare_cached("SELECT id FROM called_numbers WHERE number_hash = ?1")?
        .query_row([hash], |row| row.get(0))
        .optional()?;
    if known.is_some() {
        return Ok(known);
    }
    let new = params![hash, caller.masked(), now, MOST_NUMBERS];
    connection
        .prepare_cached(
            "INSERT INTO called_numbers (number_hash, masked, created_at)
             SELECT ?1, ?2, ?3 WHERE (SELECT count(*) FROM called_numbers) < ?4 RETURNING id",
        )?
        .query_row(new, |row| row.get(0))
        .optional()
}

/// The sums of the hours from one to another, in milliseconds.
pub(super) fn between(
    connection: &Connection,
    dimension: Dimension,
    [from, to]: [i64; 2],
) -> rusqlite::Result<Vec<QualityGroup>> {
    let is_all = dimension == Dimension::All;
    let name = if is_all { "starts_at" } else { "name" };
    // Whole days of UTC are read as such, unless hours are told apart.
    let first_day = if is_all {
        to
    } else {
        from + (-from).rem_euclid(DAY_MS)
    }
    .min(to);
    let days_end = (to - to.rem_euclid(DAY_MS)).max(first_day);
    let part = |span, from, to| {
        format!(
            "SELECT * FROM quality WHERE span = '{span}' AND starts_at >= {from} AND starts_at < {to}"
        )
    };
    let hours = if is_all { "all" } else { "hour" };
    let (before, after) = (part(hours, "?1", "?4"), part(hours, "?5", "?2"));
    let days = part("day", "?4", "?5");
    let sql = format!(
        "SELECT CAST({name} AS TEXT), (SELECT masked FROM called_numbers WHERE ?3 = 'number' AND id = name),
             sum(calls), sum(ended), sum(answered), sum(timed), sum(answer_ms), sum(talk_ms), sum(abandoned), sum(abandon_ms), sum(fresh), sum(elsewhere)
         FROM ({before} UNION ALL {days} UNION ALL {after}) WHERE dimension = ?3
         GROUP BY {name} HAVING sum(calls) <> 0 OR sum(fresh) <> 0"
    );
    connection
        .prepare_cached(&sql)?
        .query_map(
            params![from, to, dimension.into_str(), first_day, days_end],
            |row| {
                let mut sums = QualitySums::default();
                for (place, sum) in sums.iter_mut().enumerate() {
                    *sum = row.get(place + 2)?;
                }
                Ok(QualityGroup {
                    name: row.get(0)?,
                    number: row.get(1)?,
                    sums,
                })
            },
        )?
        .collect()
}
